//! CPU time per packet, and what two workers do at once.

use std::sync::Barrier;
use std::time::Duration;

use samepath_benches::of_thread;
use samepath_benches::roles::{BURST, Stage};

use crate::Case;

/// Bursts of one measurement.
const TURNS: u32 = 1500;

/// Measurements; their median counts.
pub(crate) const REPETITIONS: usize = 7;

/// Million packets per second of CPU time: median, lowest and highest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Rate {
    fn of(mut rates: Vec<f64>) -> Self {
        rates.sort_by(f64::total_cmp);
        let (lowest, highest) = (rates[0], rates[rates.len() - 1]);
        Self { median: rates[rates.len() / 2], lowest, highest }
    }
}

/// CPU time inside the turns of `TURNS` bursts.
fn spent(stage: &mut Stage) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..TURNS {
        stage.arrive();
        let start = of_thread();
        stage.node.turn();
        spent += of_thread() - start;
        stage.clear();
    }
    spent
}

fn mpps(spent: Duration) -> f64 {
    f64::from(TURNS) * BURST as f64 / spent.as_secs_f64() / 1e6
}

/// One worker.
pub(crate) fn one(case: Case) -> Rate {
    of_stage(&mut Stage::set(case.role, case.family, case.sessions))
}

/// One worker in a stage that is set up.
pub(crate) fn of_stage(stage: &mut Stage) -> Rate {
    Rate::of((0..REPETITIONS).map(|_| mpps(spent(stage))).collect())
}

/// Two workers at once on two cores, packets per second of both together over those of one alone, measured
/// in turns: each a shard of its own, as two queues with symmetric RSS fill them.
pub(crate) fn scaling(case: Case) -> Rate {
    let mut stages = [0; 2].map(|_| Stage::set(case.role, case.family, case.sessions));
    let ratios = (0..REPETITIONS).map(|_| {
        let alone = mpps(spent(&mut stages[0]));
        let barrier = Barrier::new(2);
        let both: f64 = std::thread::scope(|scope| {
            let threads = stages.each_mut().map(|stage| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    mpps(spent(stage))
                })
            });
            threads.into_iter().map(|thread| thread.join().expect("a worker does not panic")).sum()
        });
        both / alone
    });
    Rate::of(ratios.collect())
}
