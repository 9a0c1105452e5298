//! Flows in an order that no prefetcher guesses, the same for all contestants.
//!
//! The order is computed, not read: an array of it would be a third stream from memory, in everybody's time.

use samepath_dataplane::clock::cpu_time;

/// Look-ups per measurement.
pub const PASS: usize = 1 << 21;
/// Flows looked up at once, as a worker does with what it received.
pub const BURST: usize = 64;

/// The flows: sessions have the numbers `0..sessions` and are inserted in that order.
pub struct Workload {
    /// Sessions.
    pub sessions: u32,
    at: u32,
}

impl Workload {
    /// `sessions`: a power of two, at least [`BURST`].
    pub fn new(sessions: u32) -> Self {
        assert!(sessions.is_power_of_two() && sessions as usize >= BURST);
        Self { sessions, at: 0 }
    }

    /// The next measurement looks at other flows, as far as there are others.
    pub fn go_on(&mut self) {
        self.at = self.at.wrapping_add(PASS as u32);
    }

    /// The number of the flow with a session that is looked up at this place of the order.
    #[inline(always)]
    pub fn known(&self, at: u32) -> u32 {
        shuffled(at, self.sessions)
    }

    /// The number of the flow without a session that is looked up at this place of the order.
    #[inline(always)]
    pub fn unknown(&self, at: u32) -> u32 {
        self.sessions + shuffled(at, self.sessions)
    }

    /// The first place of each burst, [`PASS`] places in all.
    pub fn bursts(&self) -> impl Iterator<Item = u32> + use<> {
        let from = self.at;
        (0..PASS as u32).step_by(BURST).map(move |burst| from.wrapping_add(burst))
    }

    /// The same places one by one.
    pub fn places(&self) -> impl Iterator<Item = u32> + use<> {
        let from = self.at;
        (0..PASS as u32).map(move |at| from.wrapping_add(at))
    }

    /// All places, once.
    pub fn all(&self) -> std::ops::Range<u32> {
        0..self.sessions
    }
}

/// A permutation of `0..count` (a power of two): odd factors and shifts, each of which can be undone. The same
/// as in `rte_hash.c`.
#[inline(always)]
pub fn shuffled(at: u32, count: u32) -> u32 {
    let (mask, half) = (count - 1, count.trailing_zeros() / 2);
    let mut number = at.wrapping_mul(0x9e37_79b1) & mask;
    number ^= number >> half;
    number = number.wrapping_mul(0x85eb_ca6b) & mask;
    number ^= number >> half;
    number.wrapping_mul(0xc2b2_ae35) & mask
}

/// Nanoseconds of CPU time per operation.
pub fn timed(operations: usize, mut work: impl FnMut()) -> Option<f64> {
    let begin = cpu_time();
    work();
    Some((cpu_time() - begin).as_nanos() as f64 / operations as f64)
}
