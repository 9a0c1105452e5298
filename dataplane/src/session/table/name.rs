//! A flow's short name and its hash: 16 bytes that stand for the 40 of a [`FlowKey`].
//!
//! ```text
//!                 | addresses (8)                             | rest (8)                               |
//! IPv4            | lower (4)             | higher (4)        | protocol and VLANs (4), ports (2 + 2)  |
//! IPv6            | 1, digest (31 bits)   | 0, digest (31)    | the same                               |
//!
//! hash (64 bits)  | home bucket (32)      | tag (15)          | not used (17)                          |
//! ```
//!
//! An IPv4 name is the whole key; since its lower address comes first, it never looks like a digest. An
//! IPv6 name is almost always the only one of its kind; the full addresses decide, of anything that looks
//! like a digest.
//!
//! Digest and hash are keyed, private to one table and random per boot. Two keyed words are multiplied to
//! 128 bits and the halves folded together, twice: about as cheap as a checksum, but not linear, so flows
//! that collide under one key (which anybody could compute for a checksum) do not under another.

use ahash::RandomState;

use crate::flow::FlowKey;
use crate::wire::plain::Plain;

/// What a table calls a flow: see [`crate::session::table::SessionTable::name`]. Means nothing to another table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Name {
    pub(super) addresses: u64,
    pub(super) rest: u64,
}

impl Name {
    /// An IPv4 flow's name: its addresses as numbers, and `ports` with protocol and VLANs as a
    /// [`Plain::rest`] has them.
    #[inline(always)]
    pub fn ipv4(lower: u32, higher: u32, rest: u64) -> Self {
        Self { addresses: u64::from(lower) << 32 | u64::from(higher), rest }
    }

    /// True if the name is a digest and the full addresses must be compared.
    #[inline(always)]
    pub(super) fn is_long(self) -> bool {
        self.addresses & MARKS == FIRST
    }
}

/// Where digests have a 1, and a 0.
const FIRST: u64 = 1 << 63;
const MARKS: u64 = FIRST | 1 << 31;

/// A flow's hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Hash(pub(super) u64);

impl Hash {
    /// The half that picks the home bucket.
    #[inline(always)]
    pub(super) fn home(self) -> u64 {
        self.0 >> 32
    }

    /// The tag in a bucket; 0 marks an empty place.
    #[inline(always)]
    pub(super) fn tag(self) -> u16 {
        (self.0 >> 16) as u16 | 0x8000
    }
}

/// Makes names and hashes: the random key of one table.
#[derive(Debug)]
pub(super) struct Namer {
    keys: [u64; 8],
}

/// Bytes 8 to 11 of an IPv4-mapped address, read as little endian; those before are 0.
const MAPPED: u64 = 0xffff_0000;

impl Namer {
    /// A key drawn at random.
    pub(super) fn random() -> Self {
        // Its seed comes from the kernel's random numbers.
        let random = RandomState::new();
        Self { keys: std::array::from_fn(|index| random.hash_one(index)) }
    }

    /// The name of a flow.
    #[inline(always)]
    pub(super) fn name(&self, key: &FlowKey) -> Name {
        let rest = u64::from(key.lo_port) | u64::from(key.hi_port) << 16 | u64::from(key.proto_vlans) << 32;
        let (lo, hi) = (u128::from_le_bytes(key.lo), u128::from_le_bytes(key.hi));
        let (lower, higher) = (((lo >> 96) as u32).swap_bytes(), ((hi >> 96) as u32).swap_bytes());
        let prefix = ((lo >> 64) as u64 ^ MAPPED) | ((hi >> 64) as u64 ^ MAPPED);
        let not_mapped = (lo | hi) as u64 | prefix & 0xffff_ffff;
        let addresses =
            if not_mapped == 0 { u64::from(lower) << 32 | u64::from(higher) } else { self.digest(lo, hi) };
        Name { addresses, rest }
    }

    /// The name of a plain packet's flow.
    #[inline(always)]
    pub(super) fn name_plain(&self, plain: &Plain) -> Name {
        let addresses = if plain.ipv6 {
            let [a, b, c, d] = plain.ends.map(|word| u128::from(u64::from_le(word)));
            self.digest(a | b << 64, c | d << 64)
        } else {
            plain.ends[0]
        };
        Name { addresses, rest: plain.rest }
    }

    /// The hash of a name.
    #[inline(always)]
    pub(super) fn hash(&self, name: &Name) -> Hash {
        let [k0, k1, k2, k3, ..] = self.keys;
        Hash(fold(fold(name.addresses ^ k0, name.rest ^ k1) ^ k2, k3))
    }

    /// Stands for two IPv6 addresses.
    fn digest(&self, lo: u128, hi: u128) -> u64 {
        let [.., k4, k5, k6, k7] = self.keys;
        let part = |address: u128, a, b| fold((address >> 64) as u64 ^ a, address as u64 ^ b);
        let digest = part(lo, k4, k5).wrapping_add(part(hi, k6, k7).rotate_left(32));
        digest & !MARKS | FIRST
    }
}

/// Both addresses as words.
#[inline(always)]
pub(super) fn addresses(key: &FlowKey) -> [u64; 4] {
    let (lo, hi) = (u128::from_ne_bytes(key.lo), u128::from_ne_bytes(key.hi));
    [lo as u64, (lo >> 64) as u64, hi as u64, (hi >> 64) as u64]
}

/// The key of the flow with this name; `addresses`: those kept if the name is a digest.
pub(super) fn key_of(name: Name, addresses: impl FnOnce() -> [u64; 4]) -> FlowKey {
    let (lo, hi) = if name.is_long() {
        let words = addresses().map(u128::from);
        ((words[0] | words[1] << 64).to_ne_bytes(), (words[2] | words[3] << 64).to_ne_bytes())
    } else {
        let mapped = |address: u64| {
            let last = u64::from((address as u32).swap_bytes());
            (u128::from(last << 32 | MAPPED) << 64).to_le_bytes()
        };
        (mapped(name.addresses >> 32), mapped(name.addresses))
    };
    FlowKey {
        lo,
        hi,
        lo_port: name.rest as u16,
        hi_port: (name.rest >> 16) as u16,
        proto_vlans: (name.rest >> 32) as u32,
    }
}

/// The two halves of the 128-bit product, one upon the other.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::flow::{key_bytes, proto};

    fn flow(a: IpAddr, b: IpAddr, ports: (u16, u16)) -> FlowKey {
        FlowKey::new((key_bytes(a), ports.0), (key_bytes(b), ports.1), proto::TCP, (5, 0xfff)).0
    }

    /// A session is found by a packet however the packet was read.
    #[test]
    fn plain_packets_have_the_names_of_their_keys() {
        let namer = Namer::random();
        for (a, b) in [("10.0.0.1", "192.0.2.9"), ("2001:db8::1", "fd00::2"), ("fd00:1::1", "fd00:2::9")] {
            let key = flow(a.parse().unwrap(), b.parse().unwrap(), (4000, 80));
            let ends = match key.is_ipv4() {
                true => [namer.name(&key).addresses, 0, 0, 0],
                false => addresses(&key),
            };
            let rest = u64::from(key.lo_port) | u64::from(key.hi_port) << 16;
            let rest = rest | u64::from(key.proto_vlans) << 32;
            let plain = Plain { ends, ipv6: !key.is_ipv4(), rest, ..Plain::default() };
            assert_eq!(namer.name_plain(&plain), namer.name(&key), "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn keys_come_back_from_names(
            a in any::<IpAddr>(), b in any::<IpAddr>(), ports in any::<(u16, u16)>(),
        ) {
            let key = flow(a, b, ports);
            let namer = Namer::random();
            let name = namer.name(&key);
            prop_assert_eq!(name.is_long(), !key.is_ipv4());
            prop_assert_eq!(key_of(name, || addresses(&key)), key);
            prop_assert!(namer.hash(&name).tag() != 0);
            // A key that is not in canonical order is a flow of its own, even if it looks like a digest.
            let odd = FlowKey { lo: key.hi, hi: key.lo, ..key };
            let name = namer.name(&odd);
            prop_assert_eq!(key_of(name, || addresses(&odd)), odd);
            prop_assert!(name != namer.name(&key) || odd == key);
        }
    }

    /// Every bit of the key moves every bit of the hash about half of the time, under random keys.
    #[test]
    fn every_bit_counts() {
        const TRIES: u32 = 2000;
        for key in [
            flow([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), (4000, 80)),
            flow("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap(), (4000, 80)),
        ] {
            let flips: Vec<(usize, u8)> = (12..16).map(|byte| (byte, 1)).chain([(13, 128)]).collect();
            for (byte, bit) in flips {
                let mut other = key;
                other.lo[byte] ^= bit;
                other.hi_port ^= u16::from(byte == 13);
                let mut moved = [0_u32; 64];
                for _ in 0..TRIES {
                    let namer = Namer::random();
                    let difference = namer.hash(&namer.name(&key)).0 ^ namer.hash(&namer.name(&other)).0;
                    for (bit, moved) in moved.iter_mut().enumerate() {
                        *moved += (difference >> bit & 1) as u32;
                    }
                }
                let used = moved.iter().enumerate().filter(|(bit, _)| *bit >= 16);
                for (bit, &moved) in used {
                    let share = f64::from(moved) / f64::from(TRIES);
                    assert!((0.4..0.6).contains(&share), "bit {bit} moves in {share} of the cases");
                }
            }
        }
    }

    /// What a checksum would do: collide for all keys alike.
    #[test]
    fn collisions_do_not_outlive_the_key() {
        let keys: Vec<FlowKey> =
            (0..4096_u16).map(|n| flow([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), (1024 + n, 80))).collect();
        let bucket = |namer: &Namer, key: &FlowKey| namer.hash(&namer.name(key)).home() >> 24;
        let first = Namer::random();
        let crowd: Vec<&FlowKey> = keys.iter().filter(|key| bucket(&first, key) == 0).collect();
        assert!(crowd.len() > 4, "{}", crowd.len());
        let second = Namer::random();
        let mut places: Vec<u64> = crowd.iter().map(|key| bucket(&second, key)).collect();
        places.sort_unstable();
        places.dedup();
        assert!(places.len() > crowd.len() / 2, "{} of {} still collide", places.len(), crowd.len());
    }
}
