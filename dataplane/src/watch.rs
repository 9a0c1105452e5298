//! What `samepath trace` and `samepath capture` see: packets that match a filter are written down as they pass, into slots
//! that were made beforehand.
//!
//! ```text
//!            ┌──────────── free slots ◄───────────┐
//!   worker ──┤ takes one, fills it in              ├── control reads it, gives it back
//!            └──────────► filled slots ────────────┘
//! ```
//!
//! A worker that finds no free slot counts the packet as missed and goes on.

mod plain;
mod sieve;

pub(crate) use plain::{CHUNK, Marks, Packet, ones};
pub(crate) use sieve::Asked;
pub use sieve::{End, Filter, Sieve};

use crossbeam::queue::ArrayQueue;

use crate::counters::Counter;
use crate::decide::Arrival;
use crate::flow::{Direction, FlowKey, Generation, NodeId};
use crate::session::{Role, Session, State};
use crate::verdict::{DropReason, Verdict};
use crate::wire::packet::{Fragment, L4};

/// Filters a worker asks about each packet at most: that many operators may look on at once.
pub const FILTERS_MAX: usize = 8;

/// What a node knows of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// What the node is to it.
    pub role: Role,
    /// Who owns it.
    pub owner: NodeId,
    /// How often it was granted.
    pub generation: Generation,
    /// State of its protocol.
    pub state: State,
}

impl From<&Session> for Known {
    fn from(session: &Session) -> Self {
        let Session { role, owner, generation, state, .. } = *session;
        Self { role, owner, generation, state }
    }
}

/// What became of a packet on this core.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Outcome {
    /// It stays here for now: the verdict says what it waits for; without one it is a fragment that waits for the first.
    #[default]
    Waits,
    /// It left; if it was cut, in `pieces`.
    Left {
        /// The interface's index.
        port: u8,
        /// Its queue.
        queue: u16,
        /// Frames.
        pieces: u16,
        /// Bytes of the first one.
        length: u32,
    },
    /// It was dropped.
    Dropped(DropReason),
    /// Another core of this node has it.
    HandedTo(u16),
}

/// One packet at one core, from arrival to departure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Visit {
    /// The filters it matched, by bit.
    pub filters: u8,
    /// When, ns since 1970.
    pub at_ns: u64,
    /// Index of the interface it arrived on.
    pub port: u8,
    /// Its queue; `None`: not known, or it waited here.
    pub queue: Option<u16>,
    /// How it came; `None`: its tunnel header cannot be read.
    pub arrival: Option<Arrival>,
    /// It had been here before, and waited.
    pub waited: bool,
    /// Another core of this node received it.
    pub handed_over: bool,
    /// Bytes of the frame, outer headers included.
    pub length: u32,
    /// Bytes of the outer headers.
    pub inner_off: u16,
    /// Offset of the IP header in the inner frame.
    pub l3_off: u16,
    /// Its flow.
    pub key: FlowKey,
    /// The way it goes.
    pub direction: Direction,
    /// What layer 4 says; `None`: it cannot be read.
    pub l4: Option<L4>,
    /// Set if it is a fragment.
    pub fragment: Option<Fragment>,
    /// Director of its flow.
    pub director: NodeId,
    /// What this node knew of its flow.
    pub before: Option<Known>,
    /// What it knew afterwards.
    pub after: Option<Known>,
    /// What was decided; `None`: that was not come to.
    pub verdict: Option<Verdict>,
    /// Its sender was told why it cannot go on.
    pub answered: bool,
    /// What became of it.
    pub outcome: Outcome,
}

/// A slot: a visit, and the beginning of the frame as it came and as it left.
#[derive(Debug)]
pub struct Sighting {
    /// The visit.
    pub visit: Visit,
    /// The frame as it arrived, cut to the snap length.
    pub arrived: Vec<u8>,
    /// The frame as it left, the first one if there were several; empty if none did.
    pub left: Vec<u8>,
}

/// What filters missed.
#[derive(Debug, Default)]
pub struct Missed {
    /// Packets for which no slot was free.
    pub full: Counter,
    /// Packets beyond [`crate::limits::WATCHED_PER_S`].
    pub over_rate: Counter,
}

impl Missed {
    /// Counts packets that are not written down: for want of a slot (`full`), or because there are too many.
    pub(crate) fn count(&self, packets: u64, full: bool) {
        let counter = if full { &self.full } else { &self.over_rate };
        counter.add(packets);
    }
}

/// The filters of one worker and the slots between it and control.
#[derive(Debug)]
pub struct Watch {
    sieves: Vec<Sieve>,
    snap: usize,
    free: ArrayQueue<Box<Sighting>>,
    filled: ArrayQueue<Box<Sighting>>,
    /// By filter.
    pub missed: [Missed; FILTERS_MAX],
    /// Turns 1 when the worker looks.
    pub adopted: Counter,
}

impl Watch {
    /// `slots` slots for at most [`FILTERS_MAX`] filters and the first `snap` bytes of frames: this is where memory is
    /// allocated.
    pub fn new(filters: &[Filter], snap: usize, slots: usize) -> Self {
        let free = ArrayQueue::new(slots.max(1));
        for _ in 0..free.capacity() {
            let (arrived, left) = (Vec::with_capacity(snap), Vec::with_capacity(snap));
            // There is room for exactly these.
            let _ = free.push(Box::new(Sighting { visit: Visit::default(), arrived, left }));
        }
        Self {
            sieves: filters.iter().take(FILTERS_MAX).map(Sieve::new).collect(),
            snap,
            filled: ArrayQueue::new(free.capacity()),
            free,
            missed: Default::default(),
            adopted: Counter::default(),
        }
    }

    /// The filters that let a packet through, by bit.
    #[inline(always)]
    pub(crate) fn wanted(&self, asked: &Asked) -> u8 {
        let mut bits = 0;
        for (at, sieve) in self.sieves.iter().enumerate() {
            bits |= u8::from(sieve.lets_through(asked)) << at;
        }
        bits
    }

    /// The same of the plain packets of a burst, at most [`CHUNK`]: whether each is plain, and what it is; `zone`: where the
    /// packet in this place arrived.
    #[inline(always)]
    pub(crate) fn mark_plain<'a>(
        &self,
        packets: impl DoubleEndedIterator<Item = Packet<'a>> + Clone,
        zone: impl Fn(usize) -> u8,
    ) -> Marks {
        Marks::of(&self.sieves, packets, zone)
    }

    /// Those of a chunk's packets that `left` says are not written down: for want of a slot (`full`), or because there are
    /// too many.
    pub(crate) fn miss(&self, marks: &Marks, left: u64, full: bool) {
        for (missed, wanted) in self.missed.iter().zip(&marks.wanted) {
            missed.count(u64::from((wanted & left).count_ones()), full);
        }
    }

    /// Slots that are free.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Filters that ask for nothing: they see what cannot be read too.
    pub(crate) fn wanted_unread(&self) -> u8 {
        self.sieves.iter().enumerate().fold(0, |bits, (at, sieve)| bits | u8::from(sieve.is_open()) << at)
    }

    /// A free slot.
    pub(crate) fn slot(&self) -> Option<Box<Sighting>> {
        self.free.pop()
    }

    /// A slot that is filled in. There is room: no more slots exist.
    pub(crate) fn tell(&self, sighting: Box<Sighting>) {
        let _ = self.filled.push(sighting);
    }

    /// Copies what there is room for.
    pub(crate) fn keep(&self, kept: &mut Vec<u8>, bytes: &[u8]) {
        kept.clear();
        kept.extend_from_slice(&bytes[..bytes.len().min(self.snap)]);
    }

    /// The oldest that was seen, for control.
    pub fn take(&self) -> Option<Box<Sighting>> {
        self.filled.pop()
    }

    /// Gives the slot back, from control.
    pub fn give_back(&self, sighting: Box<Sighting>) {
        let _ = self.free.push(sighting);
    }
}

impl Default for Visit {
    fn default() -> Self {
        Self {
            filters: 0,
            at_ns: 0,
            port: 0,
            queue: None,
            arrival: None,
            waited: false,
            handed_over: false,
            length: 0,
            inner_off: 0,
            l3_off: 0,
            key: FlowKey::default(),
            direction: Direction::default(),
            l4: None,
            fragment: None,
            director: NodeId(0),
            before: None,
            after: None,
            verdict: None,
            answered: false,
            outcome: Outcome::Waits,
        }
    }
}

#[cfg(test)]
mod tests;
