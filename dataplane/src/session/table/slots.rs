//! Which slots are free: lists through the free lines themselves, so they cost nothing.
//!
//! ```text
//! 0 │ IPv4 … → │  never used  │ ← … IPv6 │ capacity
//! ```
//!
//! IPv4 flows take slots from the bottom, IPv6 flows from the top, and each kind takes back first what it
//! gave back: so the array of long addresses has pages only where IPv6 flows are.

use crate::memory::HugeArray;
use crate::session::table::line::{FREE, Line};

const NONE: u32 = u32::MAX;

/// The free slots of one table.
#[derive(Debug)]
pub(super) struct Slots {
    /// First free slot that was an IPv4 flow's, an IPv6 flow's.
    heads: [u32; 2],
    /// Slots never used: from, to.
    fresh: (u32, u32),
    free: usize,
}

impl Slots {
    pub(super) fn new(capacity: usize) -> Self {
        Self { heads: [NONE; 2], fresh: (0, capacity as u32), free: capacity }
    }

    /// Free slots.
    pub(super) fn len(&self) -> usize {
        self.free
    }

    /// A free slot for an IPv4 flow, or an IPv6 flow.
    pub(super) fn take(&mut self, lines: &HugeArray<Line>, long: bool) -> Option<u32> {
        let slot = self
            .take_back(lines, long)
            .or_else(|| self.take_fresh(long))
            .or_else(|| self.take_back(lines, !long))?;
        self.free -= 1;
        Some(slot)
    }

    /// Gives a slot back and empties its line.
    pub(super) fn give(&mut self, lines: &mut HugeArray<Line>, slot: u32, long: bool) {
        let line = &mut lines[slot as usize];
        *line = FREE;
        line.name.addresses = u64::from(std::mem::replace(&mut self.heads[usize::from(long)], slot));
        self.free += 1;
    }

    fn take_back(&mut self, lines: &HugeArray<Line>, long: bool) -> Option<u32> {
        let head = &mut self.heads[usize::from(long)];
        if *head == NONE {
            return None;
        }
        Some(std::mem::replace(head, lines[*head as usize].name.addresses as u32))
    }

    fn take_fresh(&mut self, long: bool) -> Option<u32> {
        let (from, to) = &mut self.fresh;
        if from == to {
            return None;
        }
        if long {
            *to -= 1;
            Some(*to)
        } else {
            *from += 1;
            Some(*from - 1)
        }
    }
}
