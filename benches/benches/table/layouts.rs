//! Layouts that were tried and not taken, as far as it needs to compare their look-ups: 16-byte keys,
//! records of a cache line, the same pipeline of prefetches.

use ahash::RandomState;
use samepath_dataplane::memory::{HugeArray, LANES, matches, prefetch_in};

use crate::Contestant;
use crate::hashbrown::{BLANK, Record};
use crate::workload::{BURST, PASS, Workload, timed};

const AHEAD: usize = 12;
const NONE: u32 = u32::MAX;

/// An IPv4 flow.
type Key = [u64; 2];

/// One layout. A look-up is three steps, so that others' can go on meanwhile.
pub trait Layout {
    const NAME: &'static str;
    /// Adds a flow that is not there.
    fn insert(&mut self, hash: u64, key: Key);
    /// Asks for what is needed first.
    fn ask(&self, hash: u64);
    /// Gives the first candidate, or [`NONE`], and asks for its record.
    fn candidate(&self, hash: u64) -> u32;
    /// The record of the flow.
    fn find(&self, hash: u64, key: &Key, candidate: u32) -> u32;
    fn records(&mut self) -> &mut [Record];
}

/// A layout with the workload's flows.
pub struct Tried<L> {
    layout: L,
    secrets: [u64; 4],
    filled: bool,
}

impl<L: Layout> Tried<L> {
    pub fn new(layout: L) -> Self {
        let random = RandomState::new();
        Self { layout, secrets: std::array::from_fn(|index| random.hash_one(index)), filled: false }
    }

    #[inline(always)]
    fn look_up(&mut self, workload: &Workload, number: impl Fn(u32) -> u32) -> (Option<f64>, usize) {
        let Self { layout, secrets, .. } = self;
        let mut hits = 0;
        let ns = timed(PASS, || {
            let mut hashes = [0_u64; BURST];
            let mut found = [NONE; BURST];
            let mut keys = [[0; 2]; BURST];
            for burst in workload.bursts() {
                for (at, key) in keys.iter_mut().enumerate() {
                    *key = short(number(burst.wrapping_add(at as u32)));
                }
                for at in 0..BURST + 2 * AHEAD {
                    if at < BURST {
                        hashes[at] = hash(&keys[at], secrets);
                        layout.ask(hashes[at]);
                    }
                    if (AHEAD..BURST + AHEAD).contains(&at) {
                        found[at - AHEAD] = layout.candidate(hashes[at - AHEAD]);
                    }
                    if let Some(at) = at.checked_sub(2 * AHEAD) {
                        found[at] = layout.find(hashes[at], &keys[at], found[at]);
                    }
                }
                for &record in found.iter().filter(|&&record| record != NONE) {
                    layout.records()[record as usize].0[2] += 1;
                    hits += 1;
                }
            }
        });
        (ns, hits)
    }
}

/// The key of flow number `number`.
#[inline(always)]
fn short(number: u32) -> Key {
    let ports = (1024 + u64::from(number & 0xff)) | 443 << 16;
    [u64::from(0x0a00_0000 | number >> 8) << 32 | 0xc000_0209, ports | 6 << 56]
}

fn hash(key: &Key, secrets: &[u64; 4]) -> u64 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    fold(fold(key[0] ^ secrets[0], key[1] ^ secrets[1]) ^ secrets[2], secrets[3])
}

impl<L: Layout> Contestant for Tried<L> {
    fn name(&self) -> String {
        format!("tried: {}", L::NAME)
    }

    fn insert(&mut self, workload: &Workload) -> Option<f64> {
        if !std::mem::replace(&mut self.filled, true) {
            for key in workload.all().map(short) {
                self.layout.insert(hash(&key, &self.secrets), key);
            }
        }
        None
    }

    fn hit(&mut self, workload: &Workload) -> Option<f64> {
        let (ns, hits) = self.look_up(workload, |at| workload.known(at));
        assert_eq!(hits, PASS, "all flows are known");
        ns
    }

    fn miss(&mut self, workload: &Workload) -> Option<f64> {
        let (ns, hits) = self.look_up(workload, |at| workload.unknown(at));
        assert_eq!(hits, 0, "no flow is known");
        ns
    }

    fn delete(&mut self, _: &Workload) -> Option<f64> {
        None
    }

    fn expire(&mut self, _: &Workload) -> Option<f64> {
        None
    }
}

/// The first layout: linear probing over places of 8 bytes (half a hash, record), at most half of them used.
pub struct Linear {
    places: HugeArray<u64>,
    records: HugeArray<Record>,
    used: u32,
}

impl Linear {
    pub fn new(sessions: u32) -> Self {
        let places = (2 * sessions as usize).next_power_of_two();
        Self {
            places: HugeArray::new(places, u64::MAX),
            records: HugeArray::new(sessions as usize, BLANK),
            used: 0,
        }
    }

    fn home(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.places.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.places.len() - 1)
    }
}

impl Layout for Linear {
    const NAME: &'static str = "linear probing, 50 %";

    fn insert(&mut self, hash: u64, key: Key) {
        let mut at = self.home(hash);
        while self.places[at] != u64::MAX {
            at = self.after(at);
        }
        self.places[at] = hash << 32 | u64::from(self.used);
        self.records[self.used as usize].0[..2].copy_from_slice(&key);
        self.used += 1;
    }

    fn ask(&self, hash: u64) {
        prefetch_in(&self.places, self.home(hash));
    }

    fn candidate(&self, hash: u64) -> u32 {
        let mut at = self.home(hash);
        loop {
            let place = self.places[at];
            if place == u64::MAX {
                return NONE;
            }
            if place >> 32 == hash & 0xffff_ffff {
                prefetch_in(&self.records, place as u32 as usize);
                return place as u32;
            }
            at = self.after(at);
        }
    }

    fn find(&self, hash: u64, key: &Key, candidate: u32) -> u32 {
        if candidate == NONE || self.records[candidate as usize].0[..2] == *key {
            return candidate;
        }
        let mut at = self.home(hash);
        while self.places[at] != u64::MAX {
            let record = self.places[at] as u32;
            if self.records[record as usize].0[..2] == *key {
                return record;
            }
            at = self.after(at);
        }
        NONE
    }

    fn records(&mut self) -> &mut [Record] {
        &mut self.records
    }
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Chunk {
    tags: [u16; LANES],
    records: [u32; LANES],
    next: u32,
}

/// Buckets of tags and records as in the layout taken, but a full one goes on in an overflow bucket.
pub struct Chained {
    chunks: HugeArray<Chunk>,
    homes: usize,
    overflown: usize,
    records: HugeArray<Record>,
    used: u32,
}

impl Chained {
    pub fn new(sessions: u32) -> Self {
        let homes = sessions as usize * 10 / 7 / LANES;
        let chunk = Chunk { tags: [0; LANES], records: [NONE; LANES], next: NONE };
        let records = HugeArray::new(sessions as usize, BLANK);
        Self { chunks: HugeArray::new(homes * 5 / 4, chunk), homes, overflown: homes, records, used: 0 }
    }

    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.homes as u64) >> 32) as usize
    }

    fn tag(hash: u64) -> u16 {
        (hash >> 16) as u16 | 0x8000
    }
}

impl Layout for Chained {
    const NAME: &'static str = "buckets with overflow chains, 70 %";

    fn insert(&mut self, hash: u64, key: Key) {
        let mut at = self.home(hash);
        let place = loop {
            let empty = matches(&self.chunks[at].tags, 0);
            if empty != 0 {
                break empty.trailing_zeros() as usize;
            }
            if self.chunks[at].next == NONE {
                self.chunks[at].next = self.overflown as u32;
                self.overflown += 1;
            }
            at = self.chunks[at].next as usize;
        };
        self.chunks[at].tags[place] = Self::tag(hash);
        self.chunks[at].records[place] = self.used;
        self.records[self.used as usize].0[..2].copy_from_slice(&key);
        self.used += 1;
    }

    fn ask(&self, hash: u64) {
        prefetch_in(&self.chunks, self.home(hash));
    }

    fn candidate(&self, hash: u64) -> u32 {
        let chunk = &self.chunks[self.home(hash)];
        let equal = matches(&chunk.tags, Self::tag(hash));
        if equal != 0 {
            let record = chunk.records[equal.trailing_zeros() as usize % LANES];
            prefetch_in(&self.records, record as usize);
            return record;
        }
        if chunk.next == NONE {
            return NONE;
        }
        prefetch_in(&self.chunks, chunk.next as usize);
        NONE - 1
    }

    fn find(&self, hash: u64, key: &Key, candidate: u32) -> u32 {
        let fits = |record: u32| self.records.get(record as usize).is_some_and(|one| one.0[..2] == *key);
        if candidate == NONE || fits(candidate) {
            return candidate;
        }
        let mut at = self.home(hash);
        loop {
            let chunk = &self.chunks[at];
            let mut equal = matches(&chunk.tags, Self::tag(hash));
            while equal != 0 {
                let record = chunk.records[equal.trailing_zeros() as usize % LANES];
                if fits(record) {
                    return record;
                }
                equal &= equal - 1;
            }
            if chunk.next == NONE {
                return NONE;
            }
            at = chunk.next as usize;
        }
    }

    fn records(&mut self) -> &mut [Record] {
        &mut self.records
    }
}

/// No index at all: linear probing over the records themselves. Record 0 of a flow means empty.
pub struct Inline {
    records: HugeArray<Record>,
}

impl Inline {
    pub fn new(sessions: u32) -> Self {
        Self { records: HugeArray::new(sessions as usize * 10 / 7, BLANK) }
    }

    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.records.len() as u64) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.records.len() { 0 } else { at + 1 }
    }
}

impl Layout for Inline {
    const NAME: &'static str = "records without index, 70 %";

    fn insert(&mut self, hash: u64, key: Key) {
        let mut at = self.home(hash);
        while self.records[at].0[0] != 0 {
            at = self.after(at);
        }
        self.records[at].0[..2].copy_from_slice(&key);
    }

    fn ask(&self, hash: u64) {
        prefetch_in(&self.records, self.home(hash));
    }

    fn candidate(&self, hash: u64) -> u32 {
        self.home(hash) as u32
    }

    fn find(&self, _: u64, key: &Key, candidate: u32) -> u32 {
        let mut at = candidate as usize;
        loop {
            let record = &self.records[at].0;
            if record[..2] == *key {
                return at as u32;
            }
            if record[0] == 0 {
                return NONE;
            }
            at = self.after(at);
        }
    }

    fn records(&mut self) -> &mut [Record] {
        &mut self.records
    }
}
