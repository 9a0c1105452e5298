//! Entries by which the XDP program redirects packets by itself, in memory shared with it.
//!
//! ```text
//! element 0: the gate   | open epoch | 0 | published epoch | …                                        |
//! element 1: unused, so that the two entries of a bucket lie in neighbouring cache lines
//! elements 2 to 4097: hints, the flow hashes of the two entries of every bucket, 8 bytes each
//! element 4098 + 2 b + w: entry w of bucket b = flow hash >> 17, the flow's home, or b = home ^ (1 + flow hash & 3)
//!
//!  0               4               8               12  13  14  15
//! +---------------+---------------+---------------+---+---+---+---+
//! | epoch         | flow hash     | generation    |pee|zon|por|wri|   word 0, word 1
//! +---------------+---------------+-------+-------+---+---+---+---+
//! | half of the tags' key         | sport | dport | proto, VLANs  |   words 2 and 3
//! +-------------------------------+-------+-------+---------------+
//! | source address                | destination address           |   words 4 to 7
//! +-------------------------------+-------------------------------+   native byte order but for addresses
//! ```
//!
//! The C twin is `struct sp_forward` in `bpf/src/layout.h`. An entry speaks of one direction of a flow on one
//! port. Its only writer is the worker that has the flow's session, so making and withdrawing entries are plain
//! stores in the order in which that worker decides: an entry is gone before the worker acts as Owner, and
//! nobody can bring it back. Readers copy it and believe the copy only if its first two words, which `writes`
//! (`wri`) makes differ from write to write, are the same afterwards. See `docs/decisions/0009-forwarder-in-xdp.md`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release, fence};

use crate::cluster::view::{Peer, View};
use crate::flow::{Direction, FlowKey, Generation, NodeId, key_bytes};
use crate::keyring::PeerKey;
use crate::limits::FORWARD_BUCKETS;
use crate::wire::flow_hash::{FlowHasher, core_of};
use crate::wire::tunnel::{self, Seal, TunnelKind, TunnelOption};

/// Memory shared with the XDP program: [`WORDS`] words, all zeros at first.
#[derive(Clone)]
pub struct SharedWords(Arc<dyn AsRef<[AtomicU64]> + Send + Sync>);

impl SharedWords {
    /// Takes memory into use, be it a mapped BPF map or plain.
    ///
    /// # Panics
    /// If it has another size than [`WORDS`].
    pub fn new(memory: Arc<dyn AsRef<[AtomicU64]> + Send + Sync>) -> Self {
        assert!((*memory).as_ref().len() == WORDS, "the map and this file agree on the number of entries");
        Self(memory)
    }

    fn words(&self) -> &[AtomicU64] {
        (*self.0).as_ref()
    }
}

impl fmt::Debug for SharedWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedWords(..)")
    }
}

/// Words of [`SharedWords`].
pub const WORDS: usize = (FIRST + FORWARD_BUCKETS * WAYS) * WORDS_PER_ELEMENT;

/// Elements in front of the first bucket.
const FIRST: usize = 2 + FORWARD_BUCKETS / WORDS_PER_ELEMENT;

/// Where the first bucket's hint is, in words.
const HINTS: usize = 2 * WORDS_PER_ELEMENT;

/// Entries of one bucket.
const WAYS: usize = 2;

/// Places that an entry may be in.
const PLACES: usize = 2 * WAYS;

/// A bucket is the high bits of a flow hash.
const BUCKET_SHIFT: u32 = 32 - FORWARD_BUCKETS.trailing_zeros();

const WORDS_PER_ELEMENT: usize = 8;

/// Where the published epoch stands, the second half of the gate's word 1.
const PUBLISHED: usize = 1;

/// What the XDP program needs to know to redirect one direction of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forward {
    /// Epoch of the view it was decided in; never 0.
    pub epoch: u32,
    /// Position of the Owner among the view's peers.
    pub peer: u8,
    /// Zone of the ingress interface, for the tunnel option.
    pub zone: u8,
    /// Index of the ingress interface.
    pub port: u8,
    /// Generation of the ownership.
    pub generation: Generation,
    /// The flow.
    pub key: FlowKey,
    /// The direction.
    pub direction: Direction,
    /// Half of the key of its packets' tags ([`tunnel::forwarder_secret`]).
    pub secret: u64,
}

/// The option of a Redirect of a packet that arrived here.
pub fn redirect_option(view: &View, owner: NodeId, generation: Generation, zone: u8) -> TunnelOption {
    TunnelOption {
        kind: TunnelKind::Redirect,
        hops: 1,
        zone,
        ingress: view.me,
        owner,
        generation,
        epoch: view.epoch,
        sender: view.me,
    }
}

/// Outer headers of every Redirect to `peer` in this view, zeros where packets differ; `None` while the peer's
/// link address is not known, or it has given no key.
pub fn headers_to(peer: &Peer, view: &View, cluster: u32) -> Option<Vec<u8>> {
    let ends = peer.ends?;
    let mut headers = vec![0; tunnel::overhead(&ends.destination)];
    let option = redirect_option(view, peer.node, Generation(0), 0);
    let PeerKey { id, key } = peer.key.as_ref()?;
    let (seal, flow) = (Seal { key: *id, stream: 0, counter: 0 }, FlowKey::default());
    tunnel::emit(&mut headers, 0, &ends, cluster, &option, &seal, key, &flow, Direction::LoToHi, 0);
    tunnel::clear_per_packet(&mut headers);
    Some(headers)
}

/// What became of an entry that was offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offered {
    /// It is there now.
    Published,
    /// It was there already.
    Known,
    /// Its buckets are full of others, or shared with another worker.
    Refused,
}

/// One worker's part of the entries.
#[derive(Debug)]
pub struct Forwards {
    words: Option<SharedWords>,
    hasher: FlowHasher,
    worker: usize,
    workers: usize,
    writes: u8,
    /// Some entry may be there.
    any: bool,
    /// Entries withdrawn so far.
    pub(crate) withdrawn: u64,
}

impl Default for Forwards {
    /// No memory: nothing is ever published.
    fn default() -> Self {
        Self {
            words: None,
            hasher: FlowHasher::new(0),
            worker: 0,
            workers: 1,
            writes: 0,
            any: false,
            withdrawn: 0,
        }
    }
}

impl Forwards {
    /// The part of worker `worker` of `workers`, which place flows by `hasher`.
    pub fn new(words: SharedWords, hasher: FlowHasher, worker: usize, workers: usize) -> Self {
        Self { words: Some(words), hasher, worker, workers, ..Self::default() }
    }

    /// True if there is memory for entries.
    pub fn is_on(&self) -> bool {
        self.words.is_some()
    }

    /// Publishes an entry. `displace` chooses the entry that makes room when all places of the flow are taken by
    /// other flows of the same epoch; `None`: it is refused then.
    pub fn offer(&mut self, forward: &Forward, displace: Option<usize>) -> Offered {
        let flow_hash = self.hasher.hash(&forward.key);
        let Some(words) = &self.words else { return Offered::Refused };
        let words = words.words();
        let mut wanted = forward.words(flow_hash);
        let mut room = None;
        for place in self.places(flow_hash) {
            let known = Words::read(words, place.entry());
            if known.is_of(&wanted) {
                // The same direction on the same port: it is that entry, or it is to be replaced by it.
                if known.says_the_same(&wanted) {
                    return Offered::Known;
                }
                room = Some(place);
                break;
            }
            if known.epoch() != forward.epoch {
                room = room.or(Some(place));
            }
        }
        let displaced = || self.places(flow_hash).cycle().nth(displace? % PLACES);
        let Some(place) = room.or_else(displaced) else { return Offered::Refused };
        self.writes = self.writes.wrapping_add(1);
        wanted.count(self.writes);
        wanted.write(words, place.entry());
        hint(&words[HINTS + place.bucket], place.way, flow_hash);
        self.any = true;
        announce(words, forward.epoch);
        Offered::Published
    }

    /// From now on no packet of this flow is redirected without a worker. Cheap while nothing is published.
    pub fn withdraw(&mut self, key: &FlowKey) {
        if !self.any {
            return;
        }
        let flow_hash = self.hasher.hash(key);
        let Some(words) = &self.words else { return };
        let words = words.words();
        let mut withdrawn = 0;
        for place in self.places(flow_hash) {
            let word = &words[place.entry()];
            let known = word.load(Relaxed);
            if known != 0 && known == first_word(known_epoch(known), flow_hash) {
                word.store(0, Release);
                withdrawn += 1;
            }
        }
        self.withdrawn += withdrawn;
    }

    /// Where entries of a flow may be, its home first: in two buckets, for of 10,000 flows 1.3 % found one of two places full.
    /// Without a bucket that has flows of another worker as well, because an entry has one writer: of 32,768 that is at
    /// most one per worker. Nowhere if the flow itself is another worker's.
    fn places(&self, flow_hash: u32) -> impl Iterator<Item = Place> + Clone + use<> {
        let (worker, workers) = (self.worker, self.workers);
        let home = flow_hash >> BUCKET_SHIFT;
        let buckets = [home, home ^ (1 + (flow_hash & 3))];
        let is_own = move |bucket: &u32| {
            let (first, last) = (bucket << BUCKET_SHIFT, bucket << BUCKET_SHIFT | ((1 << BUCKET_SHIFT) - 1));
            [flow_hash, first, last].iter().all(|&hash| core_of(hash, workers) == worker)
        };
        let ways = |bucket: u32| (0..WAYS).map(move |way| Place { bucket: bucket as usize, way });
        buckets.into_iter().filter(is_own).flat_map(ways)
    }
}

/// Where an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    bucket: usize,
    way: usize,
}

impl Place {
    /// In words.
    fn entry(self) -> usize {
        (FIRST + self.bucket * WAYS + self.way) * WORDS_PER_ELEMENT
    }
}

/// Tells readers that entry `way` of a bucket is worth a look for flows of this hash. It may stay when the entry
/// goes: only the entry counts.
fn hint(pair: &AtomicU64, way: usize, flow_hash: u32) {
    let mut bytes = pair.load(Relaxed).to_ne_bytes();
    bytes[way * 4..][..4].copy_from_slice(&flow_hash.to_ne_bytes());
    pair.store(u64::from_ne_bytes(bytes), Release);
}

/// Tells readers that there is something to look for in this epoch; a later one stays.
fn announce(words: &[AtomicU64], epoch: u32) {
    let [a, b, c, d] = epoch.to_ne_bytes();
    let value = u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]);
    if words[PUBLISHED].load(Relaxed) < value {
        words[PUBLISHED].fetch_max(value, Release);
    }
}

fn first_word(epoch: u32, flow_hash: u32) -> u64 {
    let (e, h) = (epoch.to_ne_bytes(), flow_hash.to_ne_bytes());
    u64::from_ne_bytes([e[0], e[1], e[2], e[3], h[0], h[1], h[2], h[3]])
}

fn known_epoch(first_word: u64) -> u32 {
    let [a, b, c, d, ..] = first_word.to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

/// An entry as words.
#[derive(Clone, Copy)]
struct Words([u64; WORDS_PER_ELEMENT]);

/// The byte of word 1 that counts writes.
const WRITES: usize = 7;

impl Words {
    fn read(words: &[AtomicU64], entry: usize) -> Self {
        Self(std::array::from_fn(|at| words[entry + at].load(Relaxed)))
    }

    fn epoch(&self) -> u32 {
        known_epoch(self.0[0])
    }

    fn place(&self) -> ([u8; 8], [u64; 5]) {
        let mut place = self.0[1].to_ne_bytes();
        place[..6].fill(0);
        place[WRITES] = 0;
        (place, [self.0[3], self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    /// The same direction of the same flow on the same port, whatever epoch, Owner and generation.
    fn is_of(&self, other: &Self) -> bool {
        self.0[0] != 0 && self.place() == other.place()
    }

    fn says_the_same(&self, other: &Self) -> bool {
        let mut known = *self;
        known.count(0);
        known.0 == other.0
    }

    fn count(&mut self, writes: u8) {
        let mut word = self.0[1].to_ne_bytes();
        word[WRITES] = writes;
        self.0[1] = u64::from_ne_bytes(word);
    }

    /// Empty, then all but the first word, then the first word: a reader never takes half of it for an entry.
    fn write(&self, words: &[AtomicU64], entry: usize) {
        words[entry].store(0, Relaxed);
        fence(Release);
        for (at, word) in self.0.iter().enumerate().skip(1) {
            words[entry + at].store(*word, Relaxed);
        }
        words[entry].store(self.0[0], Release);
    }
}

impl Forward {
    fn words(&self, flow_hash: u32) -> Words {
        let [source, destination] = [self.key.source(self.direction), self.key.destination(self.direction)];
        let mut bytes = [0; WORDS_PER_ELEMENT * 8];
        bytes[..4].copy_from_slice(&self.epoch.to_ne_bytes());
        bytes[4..8].copy_from_slice(&flow_hash.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.generation.0.to_ne_bytes());
        bytes[12..15].copy_from_slice(&[self.peer, self.zone, self.port]);
        bytes[16..24].copy_from_slice(&self.secret.to_ne_bytes());
        bytes[24..26].copy_from_slice(&source.1.to_ne_bytes());
        bytes[26..28].copy_from_slice(&destination.1.to_ne_bytes());
        bytes[28..32].copy_from_slice(&self.key.proto_vlans.to_ne_bytes());
        bytes[32..48].copy_from_slice(&key_bytes(source.0));
        bytes[48..].copy_from_slice(&key_bytes(destination.0));
        let mut words = [0; WORDS_PER_ELEMENT];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(chunk.try_into().expect("chunks of eight bytes"));
        }
        Words(words)
    }
}

#[cfg(test)]
mod tests;
