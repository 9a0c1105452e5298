//! What became of the frames: one counter per outcome, summed over the cores.

use libbpf_rs::{MapCore, MapFlags, MapMut};

use crate::error::SteeringError;
use crate::layout::OUTCOMES;
use crate::steering::Steering;

impl Steering {
    /// Frames by outcome since load, in the order of [`OUTCOMES`]; every frame is in exactly one.
    pub fn counters(&self) -> Result<Vec<(&'static str, u64)>, SteeringError> {
        let failed = |source| SteeringError::Map { map: "outcomes", source };
        let mut counters = Vec::with_capacity(OUTCOMES.len());
        for (index, name) in (0u32..).zip(OUTCOMES) {
            counters.push((name, sum(&self.skeleton.maps.outcomes, index).map_err(failed)?));
        }
        Ok(counters)
    }

    /// Bytes of frames with the outcome `redirected` since load, outer headers included.
    pub fn redirected_bytes(&self) -> Result<u64, SteeringError> {
        let failed = |source| SteeringError::Map { map: "redirected_bytes", source };
        sum(&self.skeleton.maps.redirected_bytes, 0).map_err(failed)
    }
}

/// Element `index` of a per-CPU array, summed over the cores.
fn sum(map: &MapMut<'_>, index: u32) -> libbpf_rs::Result<u64> {
    let per_core = map.lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY)?.unwrap_or_default();
    Ok(per_core.iter().filter_map(|bytes| bytes.first_chunk()).map(|bytes| u64::from_ne_bytes(*bytes)).sum())
}
