//! Flows in an order that no prefetcher guesses, the same for all contestants.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use samepath_benches::packets::flow;
use samepath_dataplane::flow::FlowKey;

/// Look-ups per measurement.
pub const PASS: usize = 1 << 21;
/// Flows looked up at once, as a worker does with what it received.
pub const BURST: usize = 64;

/// The flows.
pub struct Workload {
    /// Sessions.
    pub sessions: u32,
    /// Flows that get one, in another order than they are looked up in: records do not lie in order.
    pub arriving: Vec<FlowKey>,
    /// The same flows, to be looked up.
    pub known: Vec<FlowKey>,
    /// Flows that have none.
    pub unknown: Vec<FlowKey>,
    at: usize,
}

impl Workload {
    /// `sessions`: a power of two, at least [`BURST`].
    pub fn new(sessions: u32) -> Self {
        let shuffled = |first: u32| {
            let mut flows: Vec<FlowKey> = (first..first + sessions).map(flow).collect();
            let mut random = 88_172_645_463_325_252_u64;
            for at in (1..flows.len()).rev() {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                flows.swap(at, (random % (at as u64 + 1)) as usize);
            }
            flows
        };
        let arriving = (0..sessions).map(flow).collect();
        Self { sessions, arriving, known: shuffled(0), unknown: shuffled(sessions), at: 0 }
    }

    /// The next measurement looks at other flows, as far as there are others.
    pub fn go_on(&mut self) {
        self.at = (self.at + PASS) % self.known.len();
    }

    /// Bursts of known flows, [`PASS`] in all.
    pub fn known(&self) -> impl Iterator<Item = &[FlowKey]> {
        self.bursts(&self.known)
    }

    /// Bursts of unknown flows, [`PASS`] in all.
    pub fn unknown(&self) -> impl Iterator<Item = &[FlowKey]> {
        self.bursts(&self.unknown)
    }

    /// Bursts of something that stands in the order of the flows.
    pub fn bursts<'a, T>(&self, all: &'a [T]) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
        let endless = std::iter::once(&all[self.at..]).chain(std::iter::repeat(all));
        endless.flat_map(|part| part.chunks_exact(BURST)).take(PASS / BURST)
    }
}

/// Nanoseconds of CPU time per operation.
pub fn timed(operations: usize, mut work: impl FnMut()) -> Option<f64> {
    let begin = cpu_time();
    work();
    Some((cpu_time() - begin).as_nanos() as f64 / operations as f64)
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}
