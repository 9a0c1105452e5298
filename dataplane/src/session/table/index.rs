//! From a flow's hash to its slot: buckets of one cache line, two possible buckets per flow.
//!
//! ```text
//! bucket (64 bytes): | 8 tags (2 each) | 8 slots (4 each) | guests of others (1) | own away (2) | their tags (8) |
//!
//! home of a flow: from its hash; its other bucket: from home and tag alone, and back again
//! ```
//!
//! A flow stands in its home unless that was full; then in its other bucket. A bucket notes the
//! tags of its flows that are away (a bit of 64 each), so nearly every search for a flow that is not here ends
//! after one line. If both buckets are
//! full, flows of one of them move to their other buckets, along the shortest chain of moves that ends at
//! an empty place (cuckoo hashing: R. Pagh, F. Rodler 2004; buckets: M. Dietzfelbinger, C. Weidling 2007;
//! the other bucket from the tag: B. Fan et al., "MemC3", 2013). A search never looks at more than two
//! buckets, and removal leaves nothing behind: no tombstones, no rehashing, no growth, ever.

use crate::memory::{HugeArray, LANES, Pages, matches, prefetch_in};
use crate::session::table::name::Hash;

/// Most of the places that are used, per cent. Two choices of eight places take 98 % and more. Lower: more
/// memory; higher: more flows away from home (1 % at 55, 7 % at 70) and longer chains of moves.
const LOAD_PERCENT: usize = 55;

/// Buckets looked at for an empty place before an insertion is refused. At 80 % load one in a thousand
/// insertions looks at more than ten.
const SEARCH: usize = 128;

/// No such place.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Bucket {
    /// 0: the place is empty.
    tags: [u16; LANES],
    slots: [u32; LANES],
    /// Bit n: the flow in place n is away from its home.
    guests: u8,
    /// Flows whose home this is and that are in their other bucket.
    away: u16,
    /// A bit for each tag, of 64, that one of them has or that one of them had.
    sought: u64,
}

const EMPTY: Bucket = Bucket { tags: [0; LANES], slots: [NONE; LANES], guests: 0, away: 0, sought: 0 };

impl Bucket {
    fn empty_place(&self) -> Option<usize> {
        let empty = matches(&self.tags, 0);
        (empty != 0).then(|| empty.trailing_zeros() as usize)
    }

    /// True if a flow of this home with this tag may be away.
    #[inline(always)]
    fn seeks(&self, tag: u16) -> bool {
        self.sought >> (tag % 64) & 1 != 0
    }

    fn goes_away(&mut self, tag: u16) {
        self.away += 1;
        self.sought |= 1 << (tag % 64);
    }

    fn comes_back(&mut self) {
        self.away -= 1;
        if self.away == 0 {
            self.sought = 0;
        }
    }
}

/// There is no place for a flow, in the reach of [`SEARCH`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NoPlace;

/// What one look at a flow's home bucket says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Glance {
    /// This slot is the first candidate.
    Perhaps(u32),
    /// The flow is in its other bucket, this one, if anywhere.
    Away(u32),
    /// The flow is not in the table.
    Nowhere,
}

/// A bucket in the search for an empty place, and how it was reached.
#[derive(Clone, Copy)]
struct Step {
    bucket: u32,
    /// Index of the step before, and the place there whose flow would move here.
    from: u8,
    place: u8,
}

/// The index of one table.
#[derive(Debug)]
pub(super) struct Index {
    buckets: HugeArray<Bucket>,
}

impl Index {
    /// Room for `capacity` flows at [`LOAD_PERCENT`].
    pub(super) fn new(capacity: usize) -> Self {
        let places = (capacity * 100).div_ceil(LOAD_PERCENT);
        // Even, so that the two buckets of a flow are never one.
        let buckets = (places.div_ceil(LANES) + 1).next_multiple_of(2);
        Self { buckets: HugeArray::new(buckets, EMPTY) }
    }

    /// Asks for a flow's home, and gives its number.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: Hash) -> u32 {
        let home = self.home(hash);
        prefetch_in(&self.buckets, home);
        home as u32
    }

    /// Looks at a flow's home only, and asks for its other bucket if that is next.
    #[inline(always)]
    pub(super) fn glance(&self, home: u32, hash: Hash) -> Glance {
        let bucket = &self.buckets[home as usize];
        if let Some(slot) = first_candidate(bucket, hash.tag()) {
            Glance::Perhaps(slot)
        } else if bucket.seeks(hash.tag()) {
            let other = self.other(home as usize, hash.tag());
            prefetch_in(&self.buckets, other);
            Glance::Away(other as u32)
        } else {
            Glance::Nowhere
        }
    }

    /// The first candidate in a flow's other bucket.
    #[inline(always)]
    pub(super) fn glance_away(&self, other: u32, hash: Hash) -> Option<u32> {
        first_candidate(&self.buckets[other as usize], hash.tag())
    }

    /// The slot under `hash` that `is_it` accepts.
    #[inline(always)]
    pub(super) fn find(&self, hash: Hash, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let home = self.home(hash);
        let bucket = &self.buckets[home];
        let found = find_in(bucket, hash.tag(), &is_it);
        if found.is_some() || !bucket.seeks(hash.tag()) {
            return found;
        }
        find_in(&self.buckets[self.other(home, hash.tag())], hash.tag(), &is_it)
    }

    /// Adds a slot that is not in the index; true if others had to move for it.
    pub(super) fn insert(&mut self, hash: Hash, slot: u32) -> Result<bool, NoPlace> {
        let home = self.home(hash);
        if let Some(place) = self.buckets[home].empty_place() {
            self.put(home, place, hash.tag(), slot, false);
            return Ok(false);
        }
        let other = self.other(home, hash.tag());
        if let Some(place) = self.buckets[other].empty_place() {
            self.put(other, place, hash.tag(), slot, true);
            self.buckets[home].goes_away(hash.tag());
            return Ok(false);
        }
        let (bucket, place) = self.make_room(home, other)?;
        self.put(bucket, place, hash.tag(), slot, bucket != home);
        if bucket != home {
            self.buckets[home].goes_away(hash.tag());
        }
        Ok(true)
    }

    /// Takes out a slot that was added under this hash.
    pub(super) fn remove(&mut self, hash: Hash, slot: u32) {
        let home = self.home(hash);
        if !self.clear(home, hash.tag(), slot) {
            let other = self.other(home, hash.tag());
            let was_there = self.clear(other, hash.tag(), slot);
            assert!(was_there, "a slot is removed under the hash it was added with");
        }
    }

    /// What kind of pages it is on.
    pub(super) fn pages(&self) -> Pages {
        self.buckets.pages()
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    fn put(&mut self, bucket: usize, place: usize, tag: u16, slot: u32, guest: bool) {
        let bucket = &mut self.buckets[bucket];
        bucket.tags[place] = tag;
        bucket.slots[place] = slot;
        bucket.guests = bucket.guests & !(1 << place) | u8::from(guest) << place;
    }

    /// Empties the place of a slot if it is in this bucket.
    fn clear(&mut self, at: usize, tag: u16, slot: u32) -> bool {
        let bucket = &mut self.buckets[at];
        let mut candidates = matches(&bucket.tags, tag);
        while candidates != 0 && bucket.slots[candidates.trailing_zeros() as usize % LANES] != slot {
            candidates &= candidates - 1;
        }
        if candidates == 0 {
            return false;
        }
        let place = candidates.trailing_zeros() as usize % LANES;
        let guest = bucket.guests >> place & 1 != 0;
        bucket.tags[place] = 0;
        bucket.slots[place] = NONE;
        bucket.guests &= !(1 << place);
        if guest {
            let home = self.other(at, tag);
            self.buckets[home].comes_back();
        }
        true
    }

    /// Empties a place in one of two full buckets, by the shortest chain of moves there is.
    fn make_room(&mut self, home: usize, other: usize) -> Result<(usize, usize), NoPlace> {
        let mut steps = [Step { bucket: 0, from: 0, place: 0 }; SEARCH];
        steps[0].bucket = home as u32;
        steps[1].bucket = other as u32;
        let mut known = 2;
        for at in 0..SEARCH {
            if at == known {
                break;
            }
            let bucket = steps[at].bucket as usize;
            for place in 0..LANES {
                let next = self.other(bucket, self.buckets[bucket].tags[place]);
                if let Some(empty) = self.buckets[next].empty_place() {
                    self.shift(bucket, place, next, empty);
                    return Ok(self.shift_back(&steps, at, place));
                }
                if known < SEARCH {
                    steps[known] = Step { bucket: next as u32, from: at as u8, place: place as u8 };
                    known += 1;
                }
            }
        }
        Err(NoPlace)
    }

    /// Moves the flows of a chain, last first: a place of its last step is empty. Gives the place that
    /// comes free at its beginning.
    fn shift_back(&mut self, steps: &[Step; SEARCH], last: usize, empty: usize) -> (usize, usize) {
        let (mut at, mut empty) = (last, empty);
        while at > 1 {
            let step = steps[at];
            let from = steps[usize::from(step.from)].bucket as usize;
            self.shift(from, usize::from(step.place), step.bucket as usize, empty);
            (at, empty) = (usize::from(step.from), usize::from(step.place));
        }
        (steps[at].bucket as usize, empty)
    }

    /// Moves one flow from one of its buckets to an empty place of the other one.
    fn shift(&mut self, from: usize, place: usize, to: usize, empty: usize) {
        debug_assert_ne!(from, to, "the bucket moved from is full, the other one has an empty place");
        let Bucket { tags, slots, guests, .. } = self.buckets[from];
        let was_guest = guests >> place & 1 != 0;
        self.put(to, empty, tags[place], slots[place], !was_guest);
        if was_guest {
            self.buckets[to].comes_back();
        } else {
            self.buckets[from].goes_away(tags[place]);
        }
        let bucket = &mut self.buckets[from];
        bucket.tags[place] = 0;
        bucket.slots[place] = NONE;
        bucket.guests &= !(1 << place);
    }

    #[inline(always)]
    fn home(&self, hash: Hash) -> usize {
        self.scale(hash.home())
    }

    /// The other bucket of a flow with `tag` that stands in `bucket`: both numbers together make an odd
    /// one that the tag determines, modulo the number of buckets. So one of them is even and one is odd.
    #[inline(always)]
    fn other(&self, bucket: usize, tag: u16) -> usize {
        // An odd constant of the golden ratio spreads the tags over all buckets.
        let sum = self.scale(u64::from(u32::from(tag).wrapping_mul(0x9e37_79b1))) | 1;
        if sum >= bucket { sum - bucket } else { sum + self.buckets.len() - bucket }
    }

    /// From 32 random bits to a bucket, of any number of buckets.
    #[inline(always)]
    fn scale(&self, bits: u64) -> usize {
        ((bits * self.buckets.len() as u64) >> 32) as usize
    }
}

#[inline(always)]
fn first_candidate(bucket: &Bucket, tag: u16) -> Option<u32> {
    let candidates = matches(&bucket.tags, tag);
    (candidates != 0).then(|| bucket.slots[candidates.trailing_zeros() as usize % LANES])
}

#[inline(always)]
fn find_in(bucket: &Bucket, tag: u16, is_it: &impl Fn(u32) -> bool) -> Option<u32> {
    let mut candidates = matches(&bucket.tags, tag);
    while candidates != 0 {
        let slot = bucket.slots[candidates.trailing_zeros() as usize % LANES];
        if is_it(slot) {
            return Some(slot);
        }
        candidates &= candidates - 1;
    }
    None
}

#[cfg(test)]
mod tests;
