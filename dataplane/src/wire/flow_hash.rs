//! The hash that spreads flows over the cores of one node: symmetric, seeded per boot, the same
//! function in the XDP program (`bpf/src/hash.h`).
//!
//! ```text
//! end(address, port):  x = seed ^ le64(address[0..8]);   x *= K1; x ^= x >> 32
//!                      x ^= le64(address[8..16]);        x *= K2; x ^= x >> 29
//!                      x += port;                        x *= K1; x ^= x >> 32
//! flow:                e = end(src) + end(dst)
//!                      e ^= proto_vlans * K2;            e *= K1; e ^= e >> 32
//! hash = low 32 bits of e;   core = hash * workers >> 32
//! ```
//!
//! All arithmetic is modulo 2^64. It is not the hash nodes agree on (that is
//! [`crate::cluster::director`]) and not the one inside the session table.

use crate::flow::FlowKey;

const K1: u64 = 0x9e37_79b9_7f4a_7c15;
const K2: u64 = 0xff51_afd7_ed55_8ccd;

/// The hash with this boot's seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowHasher {
    seed: u64,
}

impl FlowHasher {
    /// A hasher with a seed, the same as the XDP program's.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The hash of a flow.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u32 {
        let lo = (&key.lo, key.lo_port);
        let hi = (&key.hi, key.hi_port);
        self.hash_parts(lo, hi, key.proto_vlans)
    }

    /// The hash fragments of this flow have: ports count as 0.
    #[inline]
    pub fn hash_without_ports(&self, key: &FlowKey) -> u32 {
        self.hash_parts((&key.lo, 0), (&key.hi, 0), key.proto_vlans)
    }

    /// The hash of two ends in any order; `proto_vlans` as in [`FlowKey`].
    #[inline]
    pub fn hash_parts(
        &self,
        source: (&[u8; 16], u16),
        destination: (&[u8; 16], u16),
        proto_vlans: u32,
    ) -> u32 {
        let mut e = self.end(source).wrapping_add(self.end(destination));
        e ^= u64::from(proto_vlans).wrapping_mul(K2);
        e = e.wrapping_mul(K1);
        (e ^ e >> 32) as u32
    }

    #[inline]
    fn end(&self, (address, port): (&[u8; 16], u16)) -> u64 {
        let address = u128::from_le_bytes(*address);
        let mut x = self.seed ^ address as u64;
        x = x.wrapping_mul(K1);
        x ^= x >> 32;
        x ^= (address >> 64) as u64;
        x = x.wrapping_mul(K2);
        x ^= x >> 29;
        x = x.wrapping_add(u64::from(port)).wrapping_mul(K1);
        x ^ x >> 32
    }
}

/// The core, `0..workers`, that owns flows with this hash.
#[inline]
pub fn core_of(hash: u32, workers: usize) -> usize {
    ((u64::from(hash) * workers as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{FlowKey, key_bytes};

    /// Seed of the literal vectors.
    const SEED: u64 = 0x0123_4567_89ab_cdef;

    fn key(source: (&str, u16), destination: (&str, u16), proto: u8, vlans: (u16, u16)) -> FlowKey {
        let end = |(address, port): (&str, u16)| (key_bytes(address.parse().unwrap()), port);
        FlowKey::new(end(source), end(destination), proto, vlans).0
    }

    /// Computed by another implementation; columns: with ports, without, with VLANs 100 and 101.
    #[test]
    fn vectors() {
        let hasher = FlowHasher::new(SEED);
        let vectors = [
            (("10.0.0.1", 4000), ("192.0.2.9", 80), 6, [0x9cad_cf5f, 0xc640_0565, 0xb2a4_dae0]),
            (("203.0.113.7", 53), ("198.51.100.200", 5353), 17, [0xa36e_137b, 0x281e_4e7d, 0xb7d2_10fe]),
            (("10.0.0.1", 0x1234), ("10.0.0.2", 0x1234), 1, [0xe460_d913, 0xeaea_3a4e, 0xa995_9a6c]),
            (("2001:db8::1", 4000), ("2001:db8:ffff::2", 443), 6, [0x4856_414c, 0x7651_329e, 0x4ebe_9ac1]),
            (("fd00::2", 500), ("fd00::1", 500), 17, [0xdd82_8dc4, 0xa043_3898, 0xc18d_cc98]),
        ];
        for (source, destination, proto, expected) in vectors {
            let plain = key(source, destination, proto, (0, 0));
            let tagged = key(source, destination, proto, (100, 101));
            let hashes = [hasher.hash(&plain), hasher.hash_without_ports(&plain), hasher.hash(&tagged)];
            assert_eq!(hashes, expected, "{source:?} {destination:?}");
        }
    }

    #[test]
    fn symmetric_and_portless() {
        let hasher = FlowHasher::new(SEED);
        let there = key(("10.0.0.1", 4000), ("192.0.2.9", 80), 6, (7, 0));
        let back = key(("192.0.2.9", 80), ("10.0.0.1", 4000), 6, (7, 0));
        assert_eq!(hasher.hash(&there), hasher.hash(&back));
        let portless = key(("10.0.0.1", 0), ("192.0.2.9", 0), 6, (7, 0));
        assert_eq!(hasher.hash_without_ports(&there), hasher.hash(&portless));
        assert_ne!(hasher.hash(&there), hasher.hash(&portless));
    }

    #[test]
    fn every_field_counts() {
        let hasher = FlowHasher::new(SEED);
        let base = hasher.hash(&key(("10.0.0.1", 4000), ("192.0.2.9", 80), 6, (7, 0)));
        let others = [
            key(("10.0.0.2", 4000), ("192.0.2.9", 80), 6, (7, 0)),
            key(("10.0.0.1", 4001), ("192.0.2.9", 80), 6, (7, 0)),
            key(("10.0.0.1", 4000), ("192.0.2.9", 81), 6, (7, 0)),
            key(("10.0.0.1", 80), ("192.0.2.9", 4000), 6, (7, 0)),
            key(("10.0.0.1", 4000), ("192.0.2.9", 80), 17, (7, 0)),
            key(("10.0.0.1", 4000), ("192.0.2.9", 80), 6, (8, 0)),
            key(("10.0.0.1", 4000), ("192.0.2.9", 80), 6, (0, 7)),
        ];
        for other in others {
            assert_ne!(hasher.hash(&other), base, "{other:?}");
        }
        assert_ne!(FlowHasher::new(SEED + 1).hash(&others[0]), hasher.hash(&others[0]));
    }

    #[test]
    fn cores_share_evenly() {
        let hasher = FlowHasher::new(SEED);
        for workers in [1, 2, 3, 8] {
            let mut flows = vec![0_u32; workers];
            for port in 0..8_000 {
                let key = key(("10.0.0.1", port), ("192.0.2.9", 443), 6, (0, 0));
                flows[core_of(hasher.hash(&key), workers)] += 1;
            }
            let fair = 8_000 / workers as u32;
            for count in flows {
                assert!(count.abs_diff(fair) < fair / 5 + 1, "{workers} workers: {count} of {fair}");
            }
        }
        assert_eq!(core_of(u32::MAX, 3), 2);
        assert_eq!(core_of(0, 3), 0);
    }
}
