//! Several workers, each on a core of its own.

use std::sync::Barrier;
use std::thread;

use super::measure::{Lap, Span, lap};
use super::roles::{BURST, Case, Role, Stage};

/// Puts the calling thread on the core of the worker with this number.
pub type Pin<'a> = &'a (dyn Fn(usize) + Sync);

/// Workers that share nothing, each a shard of its own, as queues with symmetric RSS fill them.
pub struct Crew<'a> {
    case: Case,
    stages: Vec<Option<Stage>>,
    pin: Pin<'a>,
}

impl<'a> Crew<'a> {
    /// Sets `workers` stages up, each by the core that uses it.
    pub fn set(case: Case, workers: usize, pin: Pin<'a>) -> Self {
        let mut crew = Self { case, stages: (0..workers).map(|_| None).collect(), pin };
        crew.renew(workers);
        crew
    }

    /// Measures the first one while the others rest.
    pub fn alone(&mut self, span: Span) -> Lap {
        self.measure(1, span)[0]
    }

    /// Measures all of them at once.
    pub fn together(&mut self, span: Span) -> Vec<Lap> {
        self.measure(self.stages.len(), span)
    }

    /// Measures the first `count`.
    fn measure(&mut self, count: usize, span: Span) -> Vec<Lap> {
        let mut span = span;
        if self.case.role == Role::First {
            // Each of these packets comes once.
            self.renew(count);
            span.turns = span.turns.min((self.case.sessions / BURST as u32).max(1));
        }
        at_once(&mut self.stages[..count], self.pin, |stage| lap(stage.as_mut().expect("it is set"), span))
    }

    fn renew(&mut self, count: usize) {
        let Case { role, family, sessions } = self.case;
        at_once(&mut self.stages[..count], self.pin, |stage| {
            // What was there gives its memory back first.
            *stage = None;
            *stage = Some(Stage::set(role, family, sessions));
        });
    }
}

/// Does `work` on all stages, each in a thread on its core, begun together.
fn at_once<T: Send>(
    stages: &mut [Option<Stage>],
    pin: Pin,
    work: impl Fn(&mut Option<Stage>) -> T + Sync,
) -> Vec<T> {
    let (barrier, work) = (&Barrier::new(stages.len()), &work);
    thread::scope(|scope| {
        let threads: Vec<_> = stages
            .iter_mut()
            .enumerate()
            .map(|(worker, stage)| {
                scope.spawn(move || {
                    pin(worker);
                    barrier.wait();
                    work(stage)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker does not panic")).collect()
    })
}
