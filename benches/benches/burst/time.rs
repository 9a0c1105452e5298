//! CPU time per packet, and what two workers do at once.

use std::time::Duration;

use samepath_dataplane::bench::{Case, Crew, Lap, Rate, Span, Stage, lap};

/// One measurement.
const SPAN: Span = Span { turns: 1500, spent: Duration::MAX };

/// Measurements; their median counts.
pub(crate) const REPETITIONS: usize = 7;

/// One worker, million packets per second of CPU time.
pub(crate) fn one(case: Case) -> Rate {
    of_stage(&mut Stage::set(case.role, case.family, case.sessions))
}

/// One worker in a stage that is set up.
pub(crate) fn of_stage(stage: &mut Stage) -> Rate {
    Rate::of((0..REPETITIONS).map(|_| lap(stage, SPAN).mpps()).collect())
}

/// Two workers at once on two cores, packets per second of both together over those of one alone, measured
/// in turns.
pub(crate) fn scaling(case: Case) -> Rate {
    // Where there are two cores, the scheduler gives each its own.
    let mut crew = Crew::set(case, 2, &|_| ());
    let ratios = (0..REPETITIONS).map(|_| {
        let alone = crew.alone(SPAN).mpps();
        crew.together(SPAN).iter().map(Lap::mpps).sum::<f64>() / alone
    });
    Rate::of(ratios.collect())
}
