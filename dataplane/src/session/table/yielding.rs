//! Sessions that give way to new ones, in the order they began to: half open, heard from one end only, over, claims.
//!
//! ```text
//! eldest                                    youngest
//! | slot | slot | (left) | slot | (left) | slot |      room for a quarter more than may give way
//! ```
//!
//! A ring of slots, four bytes for each. A session that is established or ends leaves its slot's entry behind; such
//! entries are dropped when they come to the front. A slot that got another session meanwhile may be named twice: then
//! that one goes a little early.

use crate::limits::EVICTION_PROBES;
use crate::memory::HugeArray;
use crate::session::record::State;
use crate::session::table::line::Line;

/// Entries at the front looked at with each new one, so that those left behind never pile up there.
const SWEPT: usize = 2;

/// Which sessions of a table give way, and how many may.
#[derive(Debug)]
pub(super) struct Yielding {
    ring: HugeArray<u32>,
    front: usize,
    len: usize,
    /// Sessions in the table that give way.
    count: usize,
    most: usize,
}

impl Yielding {
    /// For a table of which at most `most` sessions may give way.
    pub(super) fn new(most: usize) -> Self {
        // Room for those left behind: without any the order would be lost at once.
        let room = most + most / 4 + EVICTION_PROBES;
        Self { ring: HugeArray::new(room, 0), front: 0, len: 0, count: 0, most }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// There are as many as there may be.
    pub(super) fn is_full(&self) -> bool {
        self.count >= self.most
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.ring)
    }

    /// The session in `slot` came, went or changed: `was` and `is` are its states before and after.
    #[inline]
    pub(super) fn changed(
        &mut self,
        lines: &HugeArray<Line>,
        slot: u32,
        was: Option<State>,
        is: Option<State>,
    ) {
        let gives_way = |state: Option<State>| state.is_some_and(State::gives_way);
        match (gives_way(was), gives_way(is)) {
            (false, true) => {
                self.count += 1;
                self.push(lines, slot);
            }
            (true, false) => self.count -= 1,
            _ => {}
        }
    }

    /// The eldest; `None` if it is not among the first [`EVICTION_PROBES`] entries.
    pub(super) fn eldest(&mut self, lines: &HugeArray<Line>) -> Option<u32> {
        (0..EVICTION_PROBES).find_map(|_| self.pop().filter(|&slot| stands(lines, slot)))
    }

    fn push(&mut self, lines: &HugeArray<Line>, slot: u32) {
        for _ in 0..SWEPT {
            if self.len > 0 && !stands(lines, self.ring[self.front]) {
                self.pop();
            }
        }
        if self.len == self.ring.len() {
            self.make_room(lines);
        }
        let at = (self.front + self.len) % self.ring.len();
        self.ring[at] = slot;
        self.len += 1;
    }

    /// Those left behind are somewhere in the middle: what is in front of them begins anew at the end. If none is near,
    /// one session is no longer found by its age.
    fn make_room(&mut self, lines: &HugeArray<Line>) {
        for _ in 0..EVICTION_PROBES {
            let Some(slot) = self.pop().filter(|&slot| stands(lines, slot)) else { return };
            let at = (self.front + self.len) % self.ring.len();
            self.ring[at] = slot;
            self.len += 1;
        }
        self.pop();
    }

    fn pop(&mut self) -> Option<u32> {
        self.len = self.len.checked_sub(1)?;
        let slot = self.ring[self.front];
        self.front = (self.front + 1) % self.ring.len();
        Some(slot)
    }
}

fn stands(lines: &HugeArray<Line>, slot: u32) -> bool {
    lines[slot as usize].state.is_some_and(State::gives_way)
}
