//! The same of the plain packets of a burst, before the fast path has them: one filter after the other, so that what it asks
//! for stays in registers, and a bit for each packet.

use super::FILTERS_MAX;
use super::sieve::{Half, Sieve};
use crate::flow::Direction;
use crate::wire::plain::Plain;

/// Packets that are marked together: a bit each.
pub(crate) const CHUNK: usize = u64::BITS as usize;

/// Whether a packet of a burst is plain, and what was read of it.
pub(crate) type Packet<'a> = (bool, &'a Plain);

/// How keys have IPv4 addresses (RFC 4291 section 2.5.5.2), and the bits an address has of its own.
const MAPPED: u128 = 0xffff << 32;
const LOW: u128 = 0xffff_ffff;

/// A filter as the words of a [`Plain`] are compared with it, for one order of the ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// Mask and value of [`Plain::rest`].
    rest: (u64, u64),
    /// Of [`Plain::ends`]: of IPv4 the first word, of IPv6 all.
    ipv4: (u64, u64),
    ipv6: [(u64, u64); 4],
}

impl Turn {
    /// `lo` and `hi`: what is asked of the lower and the higher end; `vlans`: mask and value of what keys have of protocol and
    /// VLANs.
    pub(super) fn new(lo: &Half, hi: &Half, vlans: (u32, u32)) -> Self {
        let rest =
            |lo: u16, hi: u16, vlans: u32| u64::from(lo) | u64::from(hi) << 16 | u64::from(vlans) << 32;
        let words = |number: u128| [((number >> 64) as u64).to_be(), (number as u64).to_be()];
        let [[lo0, lo1], [hi0, hi1]] = [lo, hi].map(|half| {
            let (mask, value) = (words(half.mask), words(half.value));
            [(mask[0], value[0]), (mask[1], value[1])]
        });
        let low_bits = |lo: u128, hi: u128| u64::from(lo as u32) << 32 | u64::from(hi as u32);
        let of_ipv4 = [lo, hi].iter().all(|half| MAPPED & half.mask & !LOW == half.value & !LOW);
        Self {
            rest: (rest(lo.port_mask, hi.port_mask, vlans.0), rest(lo.port, hi.port, vlans.1)),
            // Where no IPv4 address can be meant nothing fits.
            ipv4: if of_ipv4 { (low_bits(lo.mask, hi.mask), low_bits(lo.value, hi.value)) } else { (0, 1) },
            ipv6: [lo0, lo1, hi0, hi1],
        }
    }
}

/// Packets of a chunk that fit a filter if they go from the lower end to the higher, and if they go the other way.
type BothWays = [u64; 2];

/// The packets whose word has these values under these masks. No branch, and from the last to the first, so that a bit is one
/// instruction.
#[inline(always)]
fn compare<'a>(
    packets: impl DoubleEndedIterator<Item = Packet<'a>>,
    word: impl Fn(&Plain) -> u64,
    [up, down]: [(u64, u64); 2],
) -> BothWays {
    packets.rev().fold([0, 0], |[ups, downs], (_, plain)| {
        let word = word(plain);
        let (fits_up, fits_down) = (word & up.0 == up.1, word & down.0 == down.1);
        [ups << 1 | u64::from(fits_up), downs << 1 | u64::from(fits_down)]
    })
}

/// Those packets for which `holds`.
#[inline(always)]
fn bits<'a>(packets: impl DoubleEndedIterator<Item = Packet<'a>>, holds: impl Fn(Packet<'a>) -> bool) -> u64 {
    packets.rev().fold(0, |bits, packet| bits << 1 | u64::from(holds(packet)))
}

/// Leaves those that [`compare`] finds, if anything is asked of this word.
#[inline(always)]
fn narrow<'a>(
    fits: &mut BothWays,
    packets: &(impl DoubleEndedIterator<Item = Packet<'a>> + Clone),
    word: impl Fn(&Plain) -> u64,
    asked: [(u64, u64); 2],
) {
    if *fits != [0, 0] && asked != [(0, 0); 2] {
        let [ups, downs] = compare(packets.clone(), word, asked);
        *fits = [fits[0] & ups, fits[1] & downs];
    }
}

impl Sieve {
    /// Those of the packets that fit, whatever their zone; `ipv4`, `ipv6`: the plain ones by IP version. Only what is asked for
    /// is looked at.
    #[inline(always)]
    fn mark<'a>(
        &self,
        packets: &(impl DoubleEndedIterator<Item = Packet<'a>> + Clone),
        [ipv4, ipv6]: [u64; 2],
    ) -> u64 {
        let [up, down] = &self.turns;
        let mut fits = [ipv4, ipv4];
        narrow(&mut fits, packets, |plain| plain.ends[0], [up.ipv4, down.ipv4]);
        if ipv6 != 0 {
            let mut of_ipv6 = [ipv6, ipv6];
            for at in 0..4 {
                narrow(&mut of_ipv6, packets, |plain| plain.ends[at], [up.ipv6[at], down.ipv6[at]]);
            }
            fits = [fits[0] | of_ipv6[0], fits[1] | of_ipv6[1]];
        }
        narrow(&mut fits, packets, |plain| plain.rest, [up.rest, down.rest]);
        let [ups, downs] = fits;
        if self.both_ways || ups | downs == 0 {
            return ups | downs;
        }
        let goes_up = bits(packets.clone(), |(_, plain)| plain.direction == Direction::LoToHi);
        ups & goes_up | downs & !goes_up
    }
}

/// Which filters want which packets of a chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    /// By filter, a bit for each packet.
    pub(super) wanted: [u64; FILTERS_MAX],
}

impl Marks {
    /// Of plain packets, at most [`CHUNK`]; `zone`: where the packet in this place arrived.
    #[inline(always)]
    pub(super) fn of<'a>(
        sieves: &[Sieve],
        packets: impl DoubleEndedIterator<Item = Packet<'a>> + Clone,
        zone: impl Fn(usize) -> u8,
    ) -> Self {
        let versions = [false, true]
            .map(|ipv6| bits(packets.clone(), |(is_plain, plain)| is_plain & (plain.ipv6 == ipv6)));
        let mut marks = Self::default();
        for (wanted, sieve) in marks.wanted.iter_mut().zip(sieves) {
            *wanted = sieve.mark(&packets, versions);
            if let Some(asked) = sieve.zone {
                *wanted = ones(*wanted).filter(|at| zone(*at) == asked).fold(0, |bits, at| bits | 1 << at);
            }
        }
        marks
    }

    /// The packets that any filter wants.
    pub(crate) fn any(&self) -> u64 {
        self.wanted.iter().fold(0, |all, wanted| all | wanted)
    }
}

/// The places of the bits that are set, from the lowest.
pub(crate) fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = (bits != 0).then(|| bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        at
    })
}
