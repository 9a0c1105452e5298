//! What became of the frames: one counter per outcome, summed over the cores.

use libbpf_rs::{MapCore, MapFlags};

use crate::error::SteeringError;
use crate::layout::OUTCOMES;
use crate::steering::Steering;

impl Steering {
    /// Frames by outcome since load, in the order of [`OUTCOMES`]; every frame is in exactly one.
    pub fn counters(&self) -> Result<Vec<(&'static str, u64)>, SteeringError> {
        let failed = |source| SteeringError::Map { map: "outcomes", source };
        let mut counters = Vec::with_capacity(OUTCOMES.len());
        for (index, name) in (0u32..).zip(OUTCOMES) {
            let per_core = self
                .skeleton
                .maps
                .outcomes
                .lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY)
                .map_err(failed)?
                .unwrap_or_default();
            let sum = per_core
                .iter()
                .filter_map(|bytes| bytes.first_chunk())
                .map(|bytes| u64::from_ne_bytes(*bytes))
                .sum();
            counters.push((name, sum));
        }
        Ok(counters)
    }
}
