//! Keys by which peers' tunnel packets are opened, and which of their numbers have been seen: a packet counts once.
//!
//! A node makes the keys under which its peers speak to it, one for each peer, and tells each its own over the
//! control channel. A key holds for one process of either side, so nothing recorded before a restart is valid
//! after it. While a key is being replaced both the old and the new one open.
//!
//! ```text
//! counters of one stream          ◄──────────── REPLAY_WINDOW ───────────►top
//!  … too old: refused             | seen or not, one bit each             | newer: accepted, the window moves up
//! ```
//!
//! The window (RFC 4303 section 3.4.3, in the blocks of RFC 6479) moves only for a packet whose tag is right. A packet
//! sent again reaches the same core again, because what chooses the core is under the tag; so cores share nothing.

use std::fmt;

use crate::flow::NodeId;
use crate::limits::{MAX_NODES, REPLAY_WINDOW};
use crate::verdict::DropReason;
use crate::wire::tunnel::{Seal, TunnelKey};

/// Streams a sender may have.
const STREAMS: usize = 256;

/// Words of one stream's window. One of them is being filled, so the window is a word less.
const WORDS: usize = REPLAY_WINDOW / 64;

/// A key with which this node speaks to one peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerKey {
    /// Its number among the keys of this pair.
    pub id: u8,
    /// The key.
    pub key: TunnelKey,
}

/// A key with which one peer speaks to this node, and what one core has seen under it.
pub struct OpenKey {
    peer: NodeId,
    id: u8,
    key: TunnelKey,
    /// Highest counter of each stream.
    tops: [u64; STREAMS],
    /// [`WORDS`] words for each stream. Memory that no packet has touched is not there.
    seen: Vec<u64>,
}

impl OpenKey {
    /// A key under which nothing has been seen. Takes its memory here, so not to be called by a worker.
    pub fn new(peer: NodeId, key: PeerKey) -> Box<Self> {
        let PeerKey { id, key } = key;
        Box::new(Self { peer, id, key, tops: [0; STREAMS], seen: vec![0; STREAMS * WORDS] })
    }

    /// Notes a packet; false if it has been seen, or is so old that this is not known.
    #[inline]
    fn admit(&mut self, stream: u8, counter: u64) -> bool {
        let stream = usize::from(stream);
        let top = &mut self.tops[stream];
        let Some(words) = self.seen.get_mut(stream * WORDS..(stream + 1) * WORDS) else { return false };
        let block = counter / 64;
        if counter > *top {
            // Blocks between the old top and the new one, at most all of them, have seen nothing.
            let fresh = (block - *top / 64).min(WORDS as u64);
            for step in 0..fresh {
                words[((block - step) % WORDS as u64) as usize] = 0;
            }
            *top = counter;
        } else if *top / 64 - block >= WORDS as u64 {
            return false;
        }
        let (word, bit) = (&mut words[(block % WORDS as u64) as usize], 1 << (counter % 64));
        let is_new = *word & bit == 0 && counter != 0;
        *word |= bit;
        is_new
    }
}

impl fmt::Debug for OpenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenKey({}, {})", self.peer, self.id)
    }
}

/// All keys one core opens tunnel packets with.
#[derive(Debug)]
pub struct Keyring {
    keys: Vec<(NodeId, u8, Box<OpenKey>)>,
}

impl Default for Keyring {
    fn default() -> Self {
        Self { keys: Vec::with_capacity(MAX_NODES * 2) }
    }
}

impl Keyring {
    /// Opens a packet: the one place where it is decided that a peer has sent it, and that it has not been seen. To
    /// be called once for each packet. `verify`: whether its tag is right under this key.
    #[inline]
    pub fn open(
        &mut self,
        sender: NodeId,
        seal: &Seal,
        verify: impl FnOnce(&TunnelKey) -> bool,
    ) -> Result<(), DropReason> {
        let known = self.keys.iter_mut().find(|(peer, id, _)| (*peer, *id) == (sender, seal.key));
        let Some((_, _, key)) = known else { return Err(DropReason::TunnelKey) };
        if !verify(&key.key) {
            return Err(DropReason::TunnelTag);
        }
        if key.admit(seal.stream, seal.counter) { Ok(()) } else { Err(DropReason::TunnelReplay) }
    }

    /// Takes a key into use; gives back the one of the same number that it replaces.
    pub fn take(&mut self, key: Box<OpenKey>) -> Option<Box<OpenKey>> {
        let old = self.forget(key.peer, key.id);
        self.keys.push((key.peer, key.id, key));
        old
    }

    /// Opens nothing with this key any longer.
    pub fn forget(&mut self, peer: NodeId, id: u8) -> Option<Box<OpenKey>> {
        let at = self.keys.iter().position(|known| (known.0, known.1) == (peer, id))?;
        Some(self.keys.swap_remove(at).2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(2);

    fn ring() -> Keyring {
        let mut ring = Keyring::default();
        assert!(ring.take(OpenKey::new(PEER, PeerKey { id: 7, key: TunnelKey::new([1; 16]) })).is_none());
        ring
    }

    fn open(ring: &mut Keyring, stream: u8, counter: u64) -> Result<(), DropReason> {
        ring.open(PEER, &Seal { key: 7, stream, counter }, |_| true)
    }

    #[test]
    fn a_number_counts_once() {
        let mut ring = ring();
        for counter in [1, 3, 2, 64, 63, 65, 4_000, 3_999] {
            assert_eq!(open(&mut ring, 0, counter), Ok(()), "{counter}");
        }
        for counter in [1, 2, 3, 63, 64, 65, 3_999, 4_000] {
            assert_eq!(open(&mut ring, 0, counter), Err(DropReason::TunnelReplay), "{counter}");
            assert_eq!(open(&mut ring, 1, counter), Ok(()), "another stream counts for itself");
        }
        assert_eq!(open(&mut ring, 0, 0), Err(DropReason::TunnelReplay), "nobody counts from 0");
    }

    #[test]
    fn late_packets_count_within_the_window() {
        let (mut ring, window) = (ring(), REPLAY_WINDOW as u64);
        let top = 10 * window + 5;
        assert_eq!(open(&mut ring, 0, top), Ok(()));
        let oldest = (top / 64 - (WORDS as u64 - 1)) * 64;
        for counter in [oldest, oldest + 1, top - 1] {
            assert_eq!(open(&mut ring, 0, counter), Ok(()), "{counter}");
            assert_eq!(open(&mut ring, 0, counter), Err(DropReason::TunnelReplay), "{counter}");
        }
        assert_eq!(open(&mut ring, 0, oldest - 1), Err(DropReason::TunnelReplay));
        assert!(top - oldest >= window - 64);
    }

    #[test]
    fn the_window_agrees_with_a_set_whatever_the_order() {
        let (mut ring, mut seen, mut top) = (ring(), std::collections::BTreeSet::new(), 0);
        let mut random = 1_u64;
        for _ in 0..200_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Mostly a little further, now and then far ahead or far behind.
            let counter = match random >> 60 {
                0 => top + (random >> 40 & 0x1_ffff),
                1..4 => top.saturating_sub(random >> 40 & 0xffff).max(1),
                _ => top.saturating_sub(random >> 40 & 0x7f).max(1) + (random >> 32 & 0x3f),
            };
            let oldest = ((top / 64).saturating_sub(WORDS as u64 - 1)) * 64;
            let expected = counter >= oldest && seen.insert(counter);
            assert_eq!(open(&mut ring, 3, counter).is_ok(), expected, "{counter} after {top}");
            top = top.max(counter);
        }
    }

    #[test]
    fn only_a_right_tag_moves_the_window() {
        let mut ring = ring();
        let seal = Seal { key: 7, stream: 0, counter: u64::MAX };
        assert_eq!(ring.open(PEER, &seal, |_| false), Err(DropReason::TunnelTag));
        assert_eq!(open(&mut ring, 0, 1), Ok(()));
        assert_eq!(ring.open(PEER, &Seal { key: 8, ..seal }, |_| true), Err(DropReason::TunnelKey));
        assert_eq!(ring.open(NodeId(3), &seal, |_| true), Err(DropReason::TunnelKey));
        assert_eq!(open(&mut ring, 0, u64::MAX), Ok(()));
        assert_eq!(open(&mut ring, 0, 2), Err(DropReason::TunnelReplay));
    }

    #[test]
    fn keys_come_and_go() {
        let mut ring = ring();
        assert_eq!(open(&mut ring, 0, 1), Ok(()));
        let again = OpenKey::new(PEER, PeerKey { id: 7, key: TunnelKey::new([2; 16]) });
        assert!(ring.take(again).is_some());
        assert_eq!(open(&mut ring, 0, 1), Ok(()), "a new key has seen nothing");
        assert!(ring.forget(PEER, 7).is_some());
        assert_eq!(open(&mut ring, 0, 2), Err(DropReason::TunnelKey));
    }
}
