//! A flow's short name and its hash: 16 bytes that stand for the 40 of a [`FlowKey`].
//!
//! ```text
//!                 | addresses (8)               | rest (8)                                     |
//! IPv4            | lower (4), higher (4)       | ports (4), protocol and VLANs (4)            |
//! IPv6            | keyed digest of both        | the same                                     |
//!
//! hash (64 bits)  | home bucket (32)            | tag (16) | not used (15) | 1: IPv6           |
//! ```
//!
//! An IPv4 name is the whole key. An IPv6 name is almost always the only one of its kind; the full
//! addresses decide.
//!
//! The hash is keyed, private to one table and random per boot. It multiplies two keyed words to 128 bits
//! and folds the halves together, twice; seven instructions more than a checksum, and unlike one it is not
//! linear: flows that collide under one key (which a sender could compute) do not collide under another.

use ahash::RandomState;

use crate::flow::FlowKey;

/// The short name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Name {
    pub(super) addresses: u64,
    pub(super) rest: u64,
}

/// A short name with its hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Named {
    pub(super) name: Name,
    pub(super) hash: Hash,
}

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
        ((self.0 >> 16) as u16).max(1)
    }

    /// True if the name is a digest and the full addresses must be compared.
    #[inline(always)]
    pub(super) fn is_long(self) -> bool {
        self.0 & 1 != 0
    }
}

/// Makes names: the random key of one table.
#[derive(Debug)]
pub(super) struct Namer {
    keys: [u64; 8],
}

/// The second word of an IPv4-mapped address without its IPv4 part, read as little endian.
const MAPPED: u64 = 0xffff_0000;
const LOW_HALF: u64 = 0xffff_ffff;

impl Namer {
    /// A key drawn at random.
    pub(super) fn random() -> Self {
        // Its seed comes from the kernel's random numbers.
        let random = RandomState::new();
        Self { keys: std::array::from_fn(|index| random.hash_one(index)) }
    }

    /// The name of a flow.
    #[inline(always)]
    pub(super) fn name(&self, key: &FlowKey) -> Named {
        let [lo, hi] = addresses(key);
        let rest = u64::from(key.lo_port) | u64::from(key.hi_port) << 16 | u64::from(key.proto_vlans) << 32;
        let not_mapped = lo[0] | hi[0] | (lo[1] ^ MAPPED | hi[1] ^ MAPPED) & LOW_HALF;
        let (addresses, long) =
            if not_mapped == 0 { (lo[1] & !LOW_HALF | hi[1] >> 32, 0) } else { (self.digest(lo, hi), 1) };
        self.named(addresses, rest, long)
    }

    /// The name of an IPv4 flow: lower address (high half) and higher address, read as little endian.
    #[inline(always)]
    pub(super) fn short(&self, addresses: u64, rest: u64) -> Named {
        self.named(addresses, rest, 0)
    }

    /// The name of an IPv6 flow with these two addresses of two words each.
    #[inline(always)]
    pub(super) fn long(&self, [a, b, c, d]: &[u64; 4], rest: u64) -> Named {
        self.named(self.digest([*a, *b], [*c, *d]), rest, 1)
    }

    #[inline(always)]
    fn named(&self, addresses: u64, rest: u64, long: u64) -> Named {
        let [k0, k1, k2, k3, ..] = self.keys;
        let once = fold(addresses ^ k0, rest ^ k1);
        let hash = fold(once ^ k2, k3) & !1 | long;
        Named { name: Name { addresses, rest }, hash: Hash(hash) }
    }

    /// Stands for two IPv6 addresses.
    #[inline(always)]
    fn digest(&self, lo: [u64; 2], hi: [u64; 2]) -> u64 {
        let [.., k4, k5, k6, k7] = self.keys;
        fold(lo[0] ^ k4, lo[1] ^ k5).wrapping_add(fold(hi[0] ^ k6, hi[1] ^ k7).rotate_left(32))
    }
}

/// Both addresses as words, lower first.
#[inline(always)]
pub(super) fn addresses(key: &FlowKey) -> [[u64; 2]; 2] {
    [words(&key.lo), words(&key.hi)]
}

/// The addresses as they were before [`addresses`].
pub(super) fn bytes_of(words: [u64; 2]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&words[0].to_le_bytes());
    bytes[8..].copy_from_slice(&words[1].to_le_bytes());
    bytes
}

/// The key of an IPv4 flow with this name.
pub(super) fn short_key(name: Name) -> FlowKey {
    let lo = [0, name.addresses & !LOW_HALF | MAPPED];
    let hi = [0, name.addresses << 32 | MAPPED];
    key_of(name, [lo, hi])
}

/// The key of a flow with this name and these addresses.
pub(super) fn key_of(name: Name, [lo, hi]: [[u64; 2]; 2]) -> FlowKey {
    FlowKey {
        lo: bytes_of(lo),
        hi: bytes_of(hi),
        lo_port: name.rest as u16,
        hi_port: (name.rest >> 16) as u16,
        proto_vlans: (name.rest >> 32) as u32,
    }
}

#[inline(always)]
fn words(address: &[u8; 16]) -> [u64; 2] {
    let number = u128::from_le_bytes(*address);
    [number as u64, (number >> 64) as u64]
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

    proptest! {
        #[test]
        fn keys_come_back_from_names(
            a in any::<IpAddr>(), b in any::<IpAddr>(), ports in any::<(u16, u16)>(),
        ) {
            let key = flow(a, b, ports);
            let named = Namer::random().name(&key);
            prop_assert_eq!(named.hash.is_long(), !key.is_ipv4());
            let back =
                if key.is_ipv4() { short_key(named.name) } else { key_of(named.name, addresses(&key)) };
            prop_assert_eq!(back, key);
            prop_assert!(named.hash.tag() != 0);
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
                    let difference = namer.name(&key).hash.0 ^ namer.name(&other).hash.0;
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
        let bucket = |namer: &Namer, key: &FlowKey| namer.name(key).hash.home() >> 24;
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
