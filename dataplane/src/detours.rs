//! Which pairs of prefixes make a detour: their packets arrive at another node than their Owner and cross the cluster
//! link. Counted by the Owner, so it does not matter who tunnelled them, worker or XDP program.
//!
//! ```text
//! bucket = hash of (source prefix, destination prefix, ingress), four rows; a new pair takes the place of the row that
//! weighs least and inherits its weight, so that a heavy pair stays whatever passes by (space-saving, Metwally 2005)
//! ```

use crate::flow::{Direction, FlowKey, MAPPED_PREFIX, NodeId};
use crate::limits::{DETOUR_BUCKETS, DETOUR_WAYS};

/// Prefix lengths by which pairs are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrefixLengths {
    /// Of IPv4.
    pub v4: u8,
    /// Of IPv6.
    pub v6: u8,
}

impl Default for PrefixLengths {
    /// What is routed between networks at least.
    fn default() -> Self {
        Self { v4: 24, v6: 48 }
    }
}

/// Packets and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum {
    /// Packets.
    pub packets: u64,
    /// Their bytes, Ethernet header included.
    pub bytes: u64,
    /// Their bytes on the cluster link, outer headers included, as often as they crossed it.
    pub link_bytes: u64,
}

impl Sum {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.link_bytes += other.link_bytes;
    }
}

/// One direction of a pair that makes a detour, as it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Detour {
    /// Source and destination prefix, in the form of keys.
    pub prefixes: [[u8; 16]; 2],
    /// Node at which the packets arrive.
    pub ingress: NodeId,
    /// What was counted.
    pub sum: Sum,
    /// Bytes on the cluster link that may have been missed before the pair was noticed.
    pub missed: u64,
}

/// What is known of a packet that came through the tunnel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossed {
    /// Where it arrived.
    pub(crate) ingress: NodeId,
    /// How often it crossed the cluster link.
    pub(crate) times: u8,
    /// Bytes of the inner frame.
    pub(crate) length: u32,
    /// Bytes in front of it.
    pub(crate) outer: u16,
}

/// The flow's addresses in canonical order and the way a packet goes, as [`crate::wire::plain::Plain`] has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// IPv4: both addresses in the first word; IPv6: two words each.
    pub(crate) words: [u64; 4],
    pub(crate) ipv6: bool,
    pub(crate) direction: Direction,
}

impl Ends {
    /// Of a flow.
    pub(crate) fn of(key: &FlowKey, direction: Direction) -> Self {
        let word = |address: &[u8; 16], half: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&address[half * 8..half * 8 + 8]);
            u64::from_ne_bytes(bytes)
        };
        let (lo, hi) = (&key.lo, &key.hi);
        if key.is_ipv4() {
            let number = |address: &[u8; 16]| u64::from_be(word(address, 1)) & 0xffff_ffff;
            return Self { words: [number(lo) << 32 | number(hi), 0, 0, 0], ipv6: false, direction };
        }
        Self { words: [word(lo, 0), word(lo, 1), word(hi, 0), word(hi, 1)], ipv6: true, direction }
    }
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Row {
    /// Masked, source first.
    words: [u64; 4],
    /// Ingress, direction of the words, IP version; 0: empty.
    tag: u32,
    packets: u32,
    bytes: u64,
    link_bytes: u64,
    /// Weight of the row whose place it took.
    missed: u64,
}

/// The table of one worker.
#[derive(Debug)]
pub(crate) struct Detours {
    rows: Box<[[Row; DETOUR_WAYS]]>,
    /// Of both addresses.
    mask_v4: u64,
    /// Of one address.
    mask_v6: [u64; 2],
    /// Of pairs that lost their place.
    forgotten: Sum,
}

const OCCUPIED: u32 = 1 << 31;
const IPV6: u32 = 1 << 30;
const FROM_HIGHER: u32 = 1 << 29;

impl Detours {
    pub(crate) fn new(lengths: PrefixLengths) -> Self {
        let v4 = u64::from(u32::MAX.checked_shl(32 - u32::from(lengths.v4.min(32))).unwrap_or(0));
        let v6 = u128::MAX.checked_shl(128 - u32::from(lengths.v6.min(128))).unwrap_or(0);
        let half = |number: u128| u64::from_ne_bytes(((number >> 64) as u64).to_be_bytes());
        Self {
            rows: vec![[Row::default(); DETOUR_WAYS]; DETOUR_BUCKETS].into_boxed_slice(),
            mask_v4: v4 << 32 | v4,
            mask_v6: [half(v6), half(v6 << 64)],
            forgotten: Sum::default(),
        }
    }

    /// Counts a packet that this node processes and another one received.
    #[inline(always)]
    pub(crate) fn count(&mut self, ends: &Ends, crossed: &Crossed) {
        let turned = (ends.direction as u32) << FROM_HIGHER.trailing_zeros();
        let tag = OCCUPIED | turned | u32::from(crossed.ingress.0);
        let row = if ends.ipv6 {
            let words = std::array::from_fn(|at| ends.words[at] & self.mask_v6[at % 2]);
            self.row_v6(words, tag | IPV6)
        } else {
            self.row_v4(ends.words[0] & self.mask_v4, tag)
        };
        let length = u64::from(crossed.length);
        row.packets = row.packets.wrapping_add(1);
        row.bytes += length;
        row.link_bytes += (length + u64::from(crossed.outer)) * u64::from(crossed.times);
    }

    /// Of IPv4 one word tells the pair.
    #[inline(always)]
    fn row_v4(&mut self, word: u64, tag: u32) -> &mut Row {
        let bucket = &mut self.rows[bucket_of(word, tag)];
        match bucket.iter().position(|row| row.tag == tag && row.words[0] == word) {
            Some(at) => &mut bucket[at],
            None => newcomer(bucket, &mut self.forgotten, [word, 0, 0, 0], tag),
        }
    }

    #[inline(never)]
    fn row_v6(&mut self, words: [u64; 4], tag: u32) -> &mut Row {
        let [a, b, c, d] = words;
        let mixed = a ^ b.rotate_left(17) ^ c.rotate_left(31) ^ d.rotate_left(47);
        let bucket = &mut self.rows[bucket_of(mixed, tag)];
        match bucket.iter().position(|row| row.tag == tag && row.words == words) {
            Some(at) => &mut bucket[at],
            None => newcomer(bucket, &mut self.forgotten, words, tag),
        }
    }

    /// All pairs that are known, and the sum of those that were.
    pub(crate) fn tell(&self) -> (Vec<Detour>, Sum) {
        let occupied = self.rows.iter().flatten().filter(|row| row.tag != 0);
        (occupied.map(Row::detour).collect(), self.forgotten)
    }
}

#[inline(always)]
fn bucket_of(word: u64, tag: u32) -> usize {
    let mixed = (word ^ u64::from(tag)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as usize % DETOUR_BUCKETS
}

/// The row that weighs least makes room.
#[cold]
fn newcomer<'a>(
    bucket: &'a mut [Row; DETOUR_WAYS],
    forgotten: &mut Sum,
    words: [u64; 4],
    tag: u32,
) -> &'a mut Row {
    let lightest = (1..DETOUR_WAYS)
        .fold(0, |least, at| if bucket[at].weight() < bucket[least].weight() { at } else { least });
    let row = &mut bucket[lightest];
    forgotten.add(&row.sum());
    *row = Row { words, tag, missed: row.weight(), ..Row::default() };
    row
}

impl Row {
    fn weight(&self) -> u64 {
        self.link_bytes + self.missed
    }

    fn sum(&self) -> Sum {
        Sum { packets: self.packets.into(), bytes: self.bytes, link_bytes: self.link_bytes }
    }

    fn detour(&self) -> Detour {
        let address = |at: usize| -> [u8; 16] {
            let mut bytes = [0; 16];
            if self.tag & IPV6 == 0 {
                let number = (self.words[0] >> (32 - 32 * at)) as u32;
                bytes[..12].copy_from_slice(&MAPPED_PREFIX);
                bytes[12..].copy_from_slice(&number.to_be_bytes());
            } else {
                bytes[..8].copy_from_slice(&self.words[2 * at].to_ne_bytes());
                bytes[8..].copy_from_slice(&self.words[2 * at + 1].to_ne_bytes());
            }
            bytes
        };
        let (lower, higher) = (address(0), address(1));
        let prefixes = if self.tag & FROM_HIGHER == 0 { [lower, higher] } else { [higher, lower] };
        Detour { prefixes, ingress: NodeId(self.tag as u16), sum: self.sum(), missed: self.missed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{address_of, key_bytes};

    fn ends(source: &str, destination: &str) -> Ends {
        let end = |text: &str| (key_bytes(text.parse().unwrap()), 0);
        let (key, direction) = FlowKey::new(end(source), end(destination), 17, (0, 0));
        Ends::of(&key, direction)
    }

    fn crossed(ingress: u16, length: u32) -> Crossed {
        Crossed { ingress: NodeId(ingress), times: 1, length, outer: 90 }
    }

    fn told(detours: &Detours) -> Vec<(String, String, u16, Sum)> {
        let text = |bytes: &[u8; 16]| address_of(bytes).to_string();
        let row = |one: &Detour| (text(&one.prefixes[0]), text(&one.prefixes[1]), one.ingress.0, one.sum);
        let mut rows: Vec<_> = detours.tell().0.iter().map(row).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.3.link_bytes));
        rows
    }

    #[test]
    fn packets_are_counted_by_prefixes_direction_and_ingress() {
        let mut detours = Detours::new(PrefixLengths { v4: 24, v6: 64 });
        detours.count(&ends("10.2.0.9", "10.1.5.3"), &Crossed { times: 2, ..crossed(3, 100) });
        detours.count(&ends("10.2.0.77", "10.1.5.200"), &crossed(3, 60));
        detours.count(&ends("10.1.5.200", "10.2.0.77"), &crossed(3, 10));
        detours.count(&ends("10.2.0.77", "10.1.5.200"), &crossed(2, 5));
        detours.count(&ends("2001:db8:0:1::7", "2001:db8:0:2:ffff::1"), &crossed(2, 1));
        let sum = |packets, bytes, link_bytes| Sum { packets, bytes, link_bytes };
        let row = |from: &str, to: &str, ingress, sum| (from.to_string(), to.to_string(), ingress, sum);
        assert_eq!(
            told(&detours),
            [
                row("10.2.0.0", "10.1.5.0", 3, sum(2, 160, 2 * 190 + 150)),
                row("10.1.5.0", "10.2.0.0", 3, sum(1, 10, 100)),
                row("10.2.0.0", "10.1.5.0", 2, sum(1, 5, 95)),
                row("2001:db8:0:1::", "2001:db8:0:2::", 2, sum(1, 1, 91)),
            ]
        );
    }

    #[test]
    fn whole_addresses_and_none_of_them_are_prefixes_too() {
        let mut whole = Detours::new(PrefixLengths { v4: 32, v6: 128 });
        whole.count(&ends("10.2.0.9", "10.1.5.3"), &crossed(3, 100));
        assert_eq!((&*told(&whole)[0].0, &*told(&whole)[0].1), ("10.2.0.9", "10.1.5.3"));
        let mut none = Detours::new(PrefixLengths { v4: 0, v6: 0 });
        none.count(&ends("10.2.0.9", "10.1.5.3"), &crossed(3, 100));
        none.count(&ends("2001:db8::9", "2001:db8::1"), &crossed(3, 50));
        let rows = told(&none);
        assert_eq!((&*rows[0].0, &*rows[1].0, rows.len()), ("0.0.0.0", "::", 2));
    }

    #[test]
    fn three_heavy_pairs_stay_among_many_that_pass_by_and_nothing_is_lost() {
        let mut detours = Detours::new(PrefixLengths { v4: 24, v6: 48 });
        let mut all = Sum::default();
        for round in 0..40_000_u32 {
            let [_, a, b, c] = round.to_be_bytes();
            for (source, bytes) in [(format!("172.{a}.{b}.{c}"), 60), (format!("10.9.{}.1", round % 3), 900)]
            {
                // Each round another prefix of the first kind.
                let source = source.replace("172.0", &format!("172.{}", round % 200));
                detours.count(&ends(&source, "10.1.5.3"), &crossed(3, bytes));
                all.add(&Sum { packets: 1, bytes: bytes.into(), link_bytes: u64::from(bytes) + 90 });
            }
        }
        let heavy: Vec<_> = told(&detours).into_iter().take(3).collect();
        for (source, _, _, sum) in &heavy {
            assert!(source.starts_with("10.9."), "{heavy:?}");
            assert!(sum.packets > 13_300, "{heavy:?}");
        }
        let (rows, forgotten) = detours.tell();
        let mut counted = forgotten;
        rows.iter().for_each(|row| counted.add(&row.sum));
        assert_eq!(counted, all);
    }
}
