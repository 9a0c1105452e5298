//! What is measured, and measuring it.

use samepath_dataplane::bench::{Case, Crew, Lap, Rate, Span};
use serde::Serialize;

use super::doubt::Watched;
use super::plan::Plan;
use crate::doctor::Trouble;
use crate::host::{Place, clock_rates};

/// All that was measured: the JSON document.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Bench {
    /// Version of these names.
    pub schema: u32,
    /// `bench`.
    pub kind: &'static str,
    /// Of samepath.
    pub version: &'static str,
    /// What the figures are not.
    pub scope: &'static str,
    /// The workers' cores; the first one is measured alone.
    pub cores: Vec<usize>,
    /// Sessions of each worker.
    pub sessions: u32,
    /// Packets of a turn.
    pub burst: usize,
    /// Measurements of each case.
    pub repetitions: u32,
    /// Longest CPU time of a measurement, s.
    pub seconds: f64,
    /// Each case.
    pub figures: Vec<Figure>,
    /// What makes the figures doubtful.
    pub doubts: Vec<Trouble>,
}

/// What was measured of a role and an IP version.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Figure {
    /// What the node is to the packets.
    pub role: &'static str,
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// Packets that went through the worker while it was measured alone.
    pub packets: u64,
    /// Million packets per second of CPU time.
    pub mpps: Spread,
    /// CPU time of a packet, ns.
    pub ns_per_packet: Spread,
    /// The same in cycles of the core; null: its clock rate is not known.
    pub cycles_per_packet: Option<Spread>,
    /// All workers at once; null: there is one.
    pub together: Option<Together>,
}

/// What all workers do at once.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Together {
    /// How many.
    pub workers: usize,
    /// Million packets per second of CPU time, all together.
    pub mpps: Spread,
    /// Times what one does alone.
    pub over_one: Spread,
}

/// Of several measurements.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
}

impl From<Rate> for Spread {
    fn from(Rate { median, lowest, highest }: Rate) -> Self {
        Self { median, lowest, highest }
    }
}

impl Spread {
    /// With each value `f` of what it was; `f` falls.
    pub(super) fn falling(self, f: impl Fn(f64) -> f64) -> Self {
        Self { median: f(self.median), lowest: f(self.highest), highest: f(self.lowest) }
    }

    pub(super) fn times(self, factor: f64) -> Self {
        Self { median: self.median * factor, lowest: self.lowest * factor, highest: self.highest * factor }
    }
}

/// Measures one case: in turns one worker alone and all together.
pub(super) fn measure(plan: &Plan, case: Case, place: &Place, watched: &mut Watched) -> Figure {
    let pin = |worker: usize| {
        core_affinity::set_for_current(core_affinity::CoreId { id: plan.cores[worker] });
    };
    let mut crew = Crew::set(case, plan.cores.len(), &pin);
    let span = Span { turns: u32::MAX, spent: plan.time };
    let mut rounds = Rounds::default();
    for _ in 0..plan.repetitions {
        let one = crew.alone(span);
        rounds.mhz.extend(clock_rates(place).get(&plan.cores[0]));
        watched.add(&plan.cores, &[one]);
        rounds.packets += one.packets;
        rounds.alone.push(one.mpps());
        if plan.cores.len() > 1 {
            let all = crew.together(span);
            watched.add(&plan.cores, &all);
            rounds.together.push(all.iter().map(Lap::mpps).sum());
        }
    }
    rounds.figure(case, plan.cores.len())
}

/// What was measured of a case so far.
#[derive(Debug, Default)]
struct Rounds {
    packets: u64,
    /// Mpps of the worker alone, of all together.
    alone: Vec<f64>,
    together: Vec<f64>,
    /// Clock rates of its core.
    mhz: Vec<f64>,
}

impl Rounds {
    fn figure(self, case: Case, workers: usize) -> Figure {
        let together = (workers > 1).then(|| Together {
            workers,
            over_one: Rate::of(self.together.iter().zip(&self.alone).map(|(all, one)| all / one).collect())
                .into(),
            mpps: Rate::of(self.together).into(),
        });
        let mpps = Spread::from(Rate::of(self.alone));
        let ns_per_packet = mpps.falling(|mpps| 1000.0 / mpps);
        // As `samepath top` has it.
        let mhz = (!self.mhz.is_empty()).then(|| Rate::of(self.mhz).median);
        Figure {
            role: case.role.name(),
            family: case.family.name(),
            packets: self.packets,
            mpps,
            ns_per_packet,
            cycles_per_packet: mhz.map(|mhz| ns_per_packet.times(mhz / 1000.0)),
            together,
        }
    }
}
