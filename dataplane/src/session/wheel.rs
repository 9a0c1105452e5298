//! When sessions end: a hierarchical timer wheel, one timer per slot, nothing allocated after it is made.
//!
//! ```text
//! level 0: 64 buckets of 64 ms    ticks  0 …  63 from now         4 s
//! level 1: 64 buckets of  4 s     ticks 64 … 4095                 4 min
//! level 2: 64 buckets of  4 min                                   4.7 h
//! level 3: 64 buckets of  4.7 h   farther: queued again           12 days
//! ```
//!
//! A bucket is a doubly linked list through timers, whose index is the slot. When the present reaches a
//! bucket of a higher level, its timers move to lower ones; at level 0 they are due. A timer is never due
//! early, and at most one tick late if [`Wheel::advance`] keeps up. (G. Varghese, T. Lauck, "Hashed and
//! hierarchical timing wheels", 1987.)
//!
//! Timers are meant to be lazy: a packet moves `Session::expires`, not the timer; when the timer is due and
//! the session is not, the timer is set again. [`Wheel::schedule_no_later`] covers times that come closer.

use crate::clock::NowMs;
use crate::memory::HugeArray;
use crate::session::table::Slot;

/// Length of a tick, ms: the granularity. 64 ms is far below the shortest idle time (1 s), and four levels
/// of it reach beyond the longest default (5 days).
pub const TICK_MS: u64 = 64;

/// Buckets of a level, as a power of two: one occupancy word.
const LEVEL_BITS: u32 = 6;
const BUCKETS: u32 = 1 << LEVEL_BITS;
const LEVELS: u32 = 4;
/// Ticks within reach of the highest level.
const HORIZON: u64 = 1 << (LEVEL_BITS * LEVELS);

/// No slot, no bucket.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Timer {
    previous: u32,
    next: u32,
    /// Level * 64 + bucket; [`NONE`] if not set.
    bucket: u32,
    /// When it is due, the low half of the tick; the wheel knows the rest. Ticks wrap after 8.7 years.
    tick: u32,
}

/// Memory a slot's timer takes.
pub const BYTES_PER_SLOT: usize = size_of::<Timer>();

const UNSET: Timer = Timer { previous: NONE, next: NONE, bucket: NONE, tick: 0 };

/// The timers of one core's sessions.
#[derive(Debug)]
pub struct Wheel {
    timers: HugeArray<Timer>,
    /// First timer of each bucket.
    heads: [u32; (LEVELS * BUCKETS) as usize],
    /// Which buckets are not empty, a bit each.
    occupied: [u64; LEVELS as usize],
    /// The tick that was worked on last; everything before it was given out.
    current: u64,
    set: usize,
}

impl Wheel {
    /// A wheel for slots `0..capacity` that starts at `now`.
    pub fn new(capacity: usize, now: NowMs) -> Self {
        Self {
            timers: HugeArray::new(capacity, UNSET),
            heads: [NONE; (LEVELS * BUCKETS) as usize],
            occupied: [0; LEVELS as usize],
            current: now.0 / TICK_MS,
            set: 0,
        }
    }

    /// Sets the timer of a slot, also if it was set before. A time in the past is due at the next advance.
    pub fn schedule(&mut self, slot: Slot, at: NowMs) {
        self.cancel(slot);
        self.set += 1;
        self.link(slot.0, at.0.div_ceil(TICK_MS));
    }

    /// Sets the timer of a slot unless it is already set to `at` or before.
    pub fn schedule_no_later(&mut self, slot: Slot, at: NowMs) {
        if self.tick_of(slot).is_none_or(|tick| tick > at.0.div_ceil(TICK_MS)) {
            self.schedule(slot, at);
        }
    }

    /// Unsets the timer of a slot, if it is set.
    pub fn cancel(&mut self, slot: Slot) {
        if self.timers[slot.index()].bucket != NONE {
            self.unlink(slot.0);
            self.set -= 1;
        }
    }

    /// Timers that are set.
    pub fn len(&self) -> usize {
        self.set
    }

    /// True if none is set.
    pub fn is_empty(&self) -> bool {
        self.set == 0
    }

    /// Appends the slots whose time has come by `now` to `due` and unsets their timers. At most `budget`
    /// timers are touched (given out or moved to a lower level); false if that was not enough and the
    /// next call has to go on.
    pub fn advance(&mut self, now: NowMs, budget: usize, due: &mut Vec<Slot>) -> bool {
        let last = now.0 / TICK_MS;
        let mut budget = budget;
        while self.current <= last {
            for level in (1..LEVELS).rev() {
                if self.current.trailing_zeros() >= level * LEVEL_BITS && !self.drain(level, &mut budget, due)
                {
                    return false;
                }
            }
            if !self.drain(0, &mut budget, due) {
                return false;
            }
            if self.current == last {
                break;
            }
            self.current = self.next_tick().min(last);
        }
        true
    }

    /// Empties the bucket of `level` that the present has reached; false if the budget ends before.
    fn drain(&mut self, level: u32, budget: &mut usize, due: &mut Vec<Slot>) -> bool {
        let bucket = bucket_of(level, self.current);
        loop {
            let head = self.heads[bucket as usize];
            if head == NONE {
                return true;
            }
            let Some(left) = budget.checked_sub(1) else { return false };
            *budget = left;
            let tick = self.full_tick(self.timers[head as usize].tick);
            self.unlink(head);
            if tick > self.current {
                self.link(head, tick);
            } else {
                self.set -= 1;
                due.push(Slot(head));
            }
        }
    }

    /// The next tick at which there may be something to do: the next one if its level is in use, otherwise
    /// the next bucket of the lowest level in use.
    fn next_tick(&self) -> u64 {
        let lowest = self.occupied.iter().position(|&buckets| buckets != 0);
        let bits = lowest.map_or(LEVELS, |level| level as u32) * LEVEL_BITS;
        ((self.current >> bits) + 1) << bits
    }

    fn tick_of(&self, slot: Slot) -> Option<u64> {
        let timer = &self.timers[slot.index()];
        (timer.bucket != NONE).then(|| self.full_tick(timer.tick))
    }

    /// The tick nearest the present with this low half.
    fn full_tick(&self, low: u32) -> u64 {
        let distance = low.wrapping_sub(self.current as u32) as i32;
        self.current.saturating_add_signed(i64::from(distance))
    }

    fn link(&mut self, index: u32, tick: u64) {
        let tick = tick.clamp(self.current, self.current + i32::MAX as u64);
        // Beyond the horizon: as far as possible, and again from there.
        let reached = tick.min(self.current + HORIZON - 1);
        let level = (reached - self.current).max(1).ilog2() / LEVEL_BITS;
        let bucket = bucket_of(level, reached);
        let next = std::mem::replace(&mut self.heads[bucket as usize], index);
        if next != NONE {
            self.timers[next as usize].previous = index;
        }
        self.timers[index as usize] = Timer { previous: NONE, next, bucket, tick: tick as u32 };
        self.occupied[level as usize] |= 1 << (bucket % BUCKETS);
    }

    fn unlink(&mut self, index: u32) {
        let Timer { previous, next, bucket, .. } = std::mem::replace(&mut self.timers[index as usize], UNSET);
        if previous == NONE {
            self.heads[bucket as usize] = next;
        } else {
            self.timers[previous as usize].next = next;
        }
        if next != NONE {
            self.timers[next as usize].previous = previous;
        }
        if self.heads[bucket as usize] == NONE {
            self.occupied[(bucket / BUCKETS) as usize] &= !(1 << (bucket % BUCKETS));
        }
    }
}

fn bucket_of(level: u32, tick: u64) -> u32 {
    level * BUCKETS + (tick >> (level * LEVEL_BITS)) as u32 % BUCKETS
}

#[cfg(test)]
mod tests;
