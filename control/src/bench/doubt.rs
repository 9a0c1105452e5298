//! What makes figures doubtful: seen beforehand, or by measuring.

use std::collections::BTreeMap;
use std::time::Duration;

use samepath_dataplane::bench::Lap;

use crate::doctor::{Trouble, saving_governor, shared_core, trouble};
use crate::host::{Place, Ticks, cores, daemons, ticks};

/// Least share of a core, percent, that a measurement should have had: less, and others' data is in its caches.
const SHARE_LEAST: f64 = 90.0;

/// Most of a core's time, percent, that the hypervisor may give to others: it counts as this program's.
const STOLEN_MOST: f64 = 2.0;

/// What can be seen before anything is measured on `measured`.
pub(super) fn beforehand(place: &Place, measured: &[usize]) -> Vec<Trouble> {
    let known = cores(place);
    let used: Vec<_> = known.iter().filter(|core| measured.contains(&core.id)).collect();
    let mut doubts = Vec::new();
    if cfg!(debug_assertions) {
        doubts.push(trouble(
            "this program is a debug build: a release needs less for each packet",
            "measure the program that runs on the node, or one of `make build`",
        ));
    }
    doubts.extend(daemons(place).into_iter().map(|pid| {
        trouble(
            format!("a samepath node runs here (process {pid}): its packets and this measurement take time and caches from each other"),
            "drain and stop it before, or name cores it does not use with --cores",
        )
    }));
    doubts.extend(saving_governor(&used));
    doubts.extend(shared_core(&used));
    doubts
}

/// What others did meanwhile.
pub(super) struct Watched {
    before: BTreeMap<usize, Ticks>,
    /// CPU time and time by the clock of measurements, by core.
    laps: BTreeMap<usize, (Duration, Duration)>,
}

impl Watched {
    pub(super) fn begin(place: &Place) -> Self {
        Self { before: ticks(place), laps: BTreeMap::new() }
    }

    /// Notes measurements on the first of `cores`, one each.
    pub(super) fn add(&mut self, cores: &[usize], laps: &[Lap]) {
        for (core, lap) in cores.iter().zip(laps) {
            let (cpu, elapsed) = self.laps.entry(*core).or_default();
            *cpu += lap.cpu;
            *elapsed += lap.elapsed;
        }
    }

    pub(super) fn doubts(&self, place: &Place, measured: &[usize]) -> Vec<Trouble> {
        let mut doubts: Vec<Trouble> = self.laps.iter().filter_map(taken).collect();
        let after = ticks(place);
        doubts.extend(measured.iter().filter_map(|core| {
            let (before, after) = (self.before.get(core)?, after.get(core)?);
            stolen(*core, before, after)
        }));
        doubts
    }
}

/// Whether others took much of a core.
fn taken((core, (cpu, elapsed)): (&usize, &(Duration, Duration))) -> Option<Trouble> {
    let share = cpu.as_secs_f64() / elapsed.as_secs_f64().max(f64::MIN_POSITIVE) * 100.0;
    (share < SHARE_LEAST).then(|| {
        trouble(
            format!(
                "others had core {core} for {:.0} % of the time: their data was in its caches",
                100.0 - share
            ),
            "measure while nothing else runs there, or on other cores (--cores)",
        )
    })
}

/// Whether the hypervisor gave much of a core to others.
fn stolen(core: usize, before: &Ticks, after: &Ticks) -> Option<Trouble> {
    let all = after.all.saturating_sub(before.all).max(1);
    let share = after.stolen.saturating_sub(before.stolen) as f64 / all as f64 * 100.0;
    (share > STOLEN_MOST).then(|| {
        trouble(
            format!("the hypervisor took {share:.0} % of core {core}, which counts as this program's time"),
            "measure while the machine's other guests rest, or give this one cores of its own",
        )
    })
}
