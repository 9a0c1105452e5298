//! From a flow's hash to its slot: linear probing over one array, without tombstones.
//!
//! ```text
//! place: | tag: high half of the hash (32) | slot (32) |     slot 2^32-1: empty
//! home of an entry: the top bits of its tag; it stands there or in the run that follows
//! ```
//!
//! Removing an entry moves later ones of its run back, so nothing is left behind: no tombstones, hence no
//! rehashing and no growth, ever. (A table with tombstones, hashbrown too, loses places under churn at a
//! fixed load until it must rehash all at once.) At most half of the places are used: a search looks at
//! 1.5 places on average if the flow is there, at 2.5 if not; runs longer than 100 are not to be
//! expected in any table that fits a machine, because the hash is keyed and random.

use crate::session::table::Slot;

const EMPTY: u64 = u64::MAX;

/// The index of one table.
#[derive(Debug)]
pub(super) struct Index {
    places: Box<[u64]>,
    /// Bits by which a tag is shifted down to its home.
    shift: u32,
}

impl Index {
    /// Room for `capacity` slots, at most 2^30.
    pub(super) fn new(capacity: usize) -> Self {
        let places = (2 * capacity).next_power_of_two().max(2);
        Self { places: vec![EMPTY; places].into_boxed_slice(), shift: u32::BITS - places.trailing_zeros() }
    }

    /// The slot under `hash` that `is_it` accepts.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(Slot) -> bool) -> Option<Slot> {
        let tag = tag_of(hash);
        let mut at = self.home(tag);
        loop {
            let place = self.places[at];
            if place == EMPTY {
                return None;
            }
            if tag_of(place) == tag && is_it(slot_of(place)) {
                return Some(slot_of(place));
            }
            at = self.after(at);
        }
    }

    /// Adds a slot that is not in the index. There must be room.
    pub(super) fn insert(&mut self, hash: u64, slot: Slot) {
        let mut at = self.home(tag_of(hash));
        while self.places[at] != EMPTY {
            at = self.after(at);
        }
        self.places[at] = u64::from(tag_of(hash)) << 32 | u64::from(slot.0);
    }

    /// Takes out a slot that was added under this hash.
    pub(super) fn remove(&mut self, hash: u64, slot: Slot) {
        let wanted = u64::from(tag_of(hash)) << 32 | u64::from(slot.0);
        let mut hole = self.home(tag_of(hash));
        while self.places[hole] != wanted {
            assert!(self.places[hole] != EMPTY, "a slot is removed under the hash it was added with");
            hole = self.after(hole);
        }
        let mut at = hole;
        loop {
            at = self.after(at);
            let place = self.places[at];
            if place == EMPTY {
                break;
            }
            // It may move to the hole unless its home lies behind the hole.
            if self.distance(self.home(tag_of(place)), at) >= self.distance(hole, at) {
                self.places[hole] = place;
                hole = at;
            }
        }
        self.places[hole] = EMPTY;
    }

    fn home(&self, tag: u32) -> usize {
        (tag >> self.shift) as usize
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.places.len() - 1)
    }

    /// Steps from `from` to `to`.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.places.len() - 1)
    }

    /// The longest run of used places.
    #[cfg(test)]
    pub(super) fn longest_run(&self) -> usize {
        let runs = self.places.split(|&place| place == EMPTY);
        runs.map(<[u64]>::len).max().unwrap_or(0)
    }
}

fn tag_of(number: u64) -> u32 {
    (number >> 32) as u32
}

fn slot_of(place: u64) -> Slot {
    Slot(place as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Hashes with few different homes, at both ends of the array, so that runs collide and wrap.
        #[test]
        fn crowded_runs_agree_with_a_map(
            capacity in 1..40_usize,
            deeds in proptest::collection::vec((any::<bool>(), 0..40_u32, 0..6_u64), 0..200),
        ) {
            let mut index = Index::new(capacity);
            let mut model = BTreeMap::new();
            for (insert, slot, home) in deeds {
                let hash = (home * 3).wrapping_sub(6) << 58 | u64::from(slot % 3) << 32;
                match model.get(&slot).copied() {
                    None if insert && model.len() < capacity => {
                        index.insert(hash, Slot(slot));
                        model.insert(slot, hash);
                    }
                    Some(hash) if !insert => {
                        index.remove(hash, Slot(slot));
                        model.remove(&slot);
                    }
                    _ => {}
                }
                for slot in 0..40 {
                    let expected = model.get(&slot).map(|_| Slot(slot));
                    let hash = model.get(&slot).copied().unwrap_or(hash);
                    prop_assert_eq!(index.find(hash, |found| found.0 == slot), expected);
                }
            }
            let used = index.places.iter().filter(|&&place| place != EMPTY).count();
            prop_assert_eq!(used, model.len());
        }
    }
}
