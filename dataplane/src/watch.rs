//! What `samepath trace` and `samepath capture` see: packets that match a filter are written down as they pass, into slots
//! that were made beforehand.
//!
//! ```text
//!            ┌──────────── free slots ◄───────────┐
//!   worker ──┤ takes one, fills it in              ├── control reads it, gives it back
//!            └──────────► filled slots ────────────┘
//! ```
//!
//! A worker that finds no free slot counts the packet as missed and goes on.

use crossbeam::queue::ArrayQueue;

use crate::counters::Counter;
use crate::decide::Arrival;
use crate::flow::{Direction, FlowKey, Generation, NodeId};
use crate::session::{Role, Session, State};
use crate::verdict::{DropReason, Verdict};
use crate::wire::packet::{Fragment, L4, Packet};
use crate::wire::plain::Plain;

/// Filters a worker asks about each packet at most: that many operators may look on at once.
pub const FILTERS_MAX: usize = 8;

/// One end of a flow: addresses that begin like this one, a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct End {
    /// In the form of keys.
    pub prefix: [u8; 16],
    /// Bits of it that count, 0 to 128; of an IPv4 prefix 96 more than it is written with.
    pub length: u8,
    /// `None`: any.
    pub port: Option<u16>,
}

/// What packets are wanted; absent parts always hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// IANA protocol number.
    pub proto: Option<u8>,
    /// Where they come from.
    pub from: End,
    /// Where they go.
    pub to: End,
    /// Those the other way too.
    pub both_ways: bool,
    /// Outer VLAN id, 0 for untagged.
    pub vlan: Option<u16>,
    /// Number of the zone they arrived in, here or at their ingress.
    pub zone: Option<u8>,
}

/// [`End`], ready to be compared.
#[derive(Clone, Copy, Debug)]
struct Half {
    mask: u128,
    value: u128,
    port_mask: u16,
    port: u16,
}

impl Half {
    fn new(end: &End) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(end.length.min(128))).unwrap_or(0);
        let value = u128::from_be_bytes(end.prefix) & mask;
        let port_mask = if end.port.is_some() { u16::MAX } else { 0 };
        Self { mask, value, port_mask, port: end.port.unwrap_or(0) }
    }

    #[inline(always)]
    fn holds(&self, address: u128, port: u16) -> bool {
        address & self.mask == self.value && port & self.port_mask == self.port
    }
}

/// [`Filter`], ready to be compared.
#[derive(Clone, Copy, Debug)]
pub struct Sieve {
    /// Of protocol and VLANs as keys have them.
    mask: u32,
    value: u32,
    from: Half,
    to: Half,
    /// The same by the way a plain packet goes: [`Direction::LoToHi`], the other.
    turns: [Turn; 2],
    both_ways: bool,
    zone: Option<u8>,
}

/// What filters ask of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    lo: (u128, u16),
    hi: (u128, u16),
    proto_vlans: u32,
    direction: Direction,
    zone: u8,
    /// A fragment: its ports are not known here.
    portless: bool,
}

impl Asked {
    /// Of a packet that arrived in zone `zone`.
    pub(crate) fn of(packet: &Packet, zone: u8) -> Self {
        let FlowKey { lo, hi, lo_port, hi_port, proto_vlans } = packet.key;
        let portless = packet.fragment.is_some() && (lo_port, hi_port) == (0, 0);
        let (lo, hi) = ((u128::from_be_bytes(lo), lo_port), (u128::from_be_bytes(hi), hi_port));
        Self { lo, hi, proto_vlans, direction: packet.direction, zone, portless }
    }
}

/// A filter as the words of a [`Plain`] are compared with it, for one order of the ends.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Mask and value of [`Plain::rest`].
    rest: (u64, u64),
    /// Of [`Plain::ends`]: of IPv4 the first word, of IPv6 all.
    ipv4: (u64, u64),
    ipv6: [(u64, u64); 4],
}

impl Turn {
    /// `lo` and `hi`: what is asked of the lower and the higher end; `vlans`: mask and value of what keys have of protocol and
    /// VLANs.
    fn new(lo: &Half, hi: &Half, vlans: (u32, u32)) -> Self {
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

    #[inline(always)]
    fn holds(&self, plain: &Plain) -> bool {
        let holds = |word: u64, (mask, value): (u64, u64)| word & mask == value;
        let ends = match plain.ipv6 {
            true => plain.ends.iter().zip(self.ipv6).all(|(&word, asked)| holds(word, asked)),
            false => holds(plain.ends[0], self.ipv4),
        };
        ends && holds(plain.rest, self.rest)
    }
}

/// How keys have IPv4 addresses (RFC 4291 section 2.5.5.2), and the bits an address has of its own.
const MAPPED: u128 = 0xffff << 32;
const LOW: u128 = 0xffff_ffff;

impl Asked {
    /// Of a session, from its originator to its responder.
    pub(crate) fn of_session(session: &Session) -> Self {
        let FlowKey { lo, hi, lo_port, hi_port, proto_vlans } = session.key;
        let (lo, hi) = ((u128::from_be_bytes(lo), lo_port), (u128::from_be_bytes(hi), hi_port));
        Self { lo, hi, proto_vlans, direction: session.origin, zone: 0, portless: false }
    }
}

impl Sieve {
    /// Of a filter.
    pub fn new(filter: &Filter) -> Self {
        let protocol = filter.proto.map_or((0, 0), |proto| (0xff << 24, u32::from(proto) << 24));
        let vlan = filter.vlan.map_or((0, 0), |vlan| (0xfff, u32::from(vlan & 0xfff)));
        let (mask, value) = (protocol.0 | vlan.0, protocol.1 | vlan.1);
        let (from, to) = (Half::new(&filter.from), Half::new(&filter.to));
        Self {
            mask,
            value,
            from,
            to,
            turns: [Turn::new(&from, &to, (mask, value)), Turn::new(&to, &from, (mask, value))],
            both_ways: filter.both_ways,
            zone: filter.zone,
        }
    }

    #[inline(always)]
    pub(crate) fn lets_through(&self, asked: &Asked) -> bool {
        if asked.proto_vlans & self.mask != self.value || self.zone.is_some_and(|zone| zone != asked.zone) {
            return false;
        }
        let (from, to) = match asked.direction {
            Direction::LoToHi => (asked.lo, asked.hi),
            Direction::HiToLo => (asked.hi, asked.lo),
        };
        let holds = |half: &Half, (address, port): (u128, u16)| {
            half.holds(address, if asked.portless { half.port } else { port })
        };
        let this_way = holds(&self.from, from) && holds(&self.to, to);
        this_way || self.both_ways && holds(&self.from, to) && holds(&self.to, from)
    }
}

impl Sieve {
    /// As [`Sieve::lets_through`], of a plain packet; `zone` is asked for if it matters.
    #[inline(always)]
    fn lets_plain_through(&self, plain: &Plain, zone: impl Fn() -> u8) -> bool {
        let [this_way, back] = match plain.direction {
            Direction::LoToHi => [&self.turns[0], &self.turns[1]],
            Direction::HiToLo => [&self.turns[1], &self.turns[0]],
        };
        (this_way.holds(plain) || self.both_ways && back.holds(plain))
            && self.zone.is_none_or(|asked| asked == zone())
    }
}

/// What a node knows of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// What the node is to it.
    pub role: Role,
    /// Who owns it.
    pub owner: NodeId,
    /// How often it was granted.
    pub generation: Generation,
    /// State of its protocol.
    pub state: State,
}

impl From<&Session> for Known {
    fn from(session: &Session) -> Self {
        let Session { role, owner, generation, state, .. } = *session;
        Self { role, owner, generation, state }
    }
}

/// What became of a packet on this core.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Outcome {
    /// It stays here for now: the verdict says what it waits for; without one it is a fragment that waits for the first.
    #[default]
    Waits,
    /// It left; if it was cut, in `pieces`.
    Left {
        /// The interface's index.
        port: u8,
        /// Its queue.
        queue: u16,
        /// Frames.
        pieces: u16,
        /// Bytes of the first one.
        length: u32,
    },
    /// It was dropped.
    Dropped(DropReason),
    /// Another core of this node has it.
    HandedTo(u16),
}

/// One packet at one core, from arrival to departure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Visit {
    /// The filters it matched, by bit.
    pub filters: u8,
    /// When, ns since 1970.
    pub at_ns: u64,
    /// Index of the interface it arrived on.
    pub port: u8,
    /// Its queue; `None`: not known, or it waited here.
    pub queue: Option<u16>,
    /// How it came; `None`: its tunnel header cannot be read.
    pub arrival: Option<Arrival>,
    /// It had been here before, and waited.
    pub waited: bool,
    /// Another core of this node received it.
    pub handed_over: bool,
    /// Bytes of the frame, outer headers included.
    pub length: u32,
    /// Bytes of the outer headers.
    pub inner_off: u16,
    /// Offset of the IP header in the inner frame.
    pub l3_off: u16,
    /// Its flow.
    pub key: FlowKey,
    /// The way it goes.
    pub direction: Direction,
    /// What layer 4 says; `None`: it cannot be read.
    pub l4: Option<L4>,
    /// Set if it is a fragment.
    pub fragment: Option<Fragment>,
    /// Director of its flow.
    pub director: NodeId,
    /// What this node knew of its flow.
    pub before: Option<Known>,
    /// What it knew afterwards.
    pub after: Option<Known>,
    /// What was decided; `None`: that was not come to.
    pub verdict: Option<Verdict>,
    /// Its sender was told why it cannot go on.
    pub answered: bool,
    /// What became of it.
    pub outcome: Outcome,
}

/// A slot: a visit, and the beginning of the frame as it came and as it left.
#[derive(Debug)]
pub struct Sighting {
    /// The visit.
    pub visit: Visit,
    /// The frame as it arrived, cut to the snap length.
    pub arrived: Vec<u8>,
    /// The frame as it left, the first one if there were several; empty if none did.
    pub left: Vec<u8>,
}

/// What filters missed.
#[derive(Debug, Default)]
pub struct Missed {
    /// Packets for which no slot was free.
    pub full: Counter,
    /// Packets beyond [`crate::limits::WATCHED_PER_S`].
    pub over_rate: Counter,
}

/// The filters of one worker and the slots between it and control.
#[derive(Debug)]
pub struct Watch {
    sieves: Vec<Sieve>,
    snap: usize,
    free: ArrayQueue<Box<Sighting>>,
    filled: ArrayQueue<Box<Sighting>>,
    /// By filter.
    pub missed: [Missed; FILTERS_MAX],
    /// Turns 1 when the worker looks.
    pub adopted: Counter,
}

impl Watch {
    /// `slots` slots for at most [`FILTERS_MAX`] filters and the first `snap` bytes of frames: this is where memory is
    /// allocated.
    pub fn new(filters: &[Filter], snap: usize, slots: usize) -> Self {
        let free = ArrayQueue::new(slots.max(1));
        for _ in 0..free.capacity() {
            let (arrived, left) = (Vec::with_capacity(snap), Vec::with_capacity(snap));
            // There is room for exactly these.
            let _ = free.push(Box::new(Sighting { visit: Visit::default(), arrived, left }));
        }
        Self {
            sieves: filters.iter().take(FILTERS_MAX).map(Sieve::new).collect(),
            snap,
            filled: ArrayQueue::new(free.capacity()),
            free,
            missed: Default::default(),
            adopted: Counter::default(),
        }
    }

    /// The filters that let a packet through, by bit.
    #[inline(always)]
    pub(crate) fn wanted(&self, asked: &Asked) -> u8 {
        let mut bits = 0;
        for (at, sieve) in self.sieves.iter().enumerate() {
            bits |= u8::from(sieve.lets_through(asked)) << at;
        }
        bits
    }

    /// The same of the plain packets of a burst: one filter after the other, so that what it asks for is at hand. `plain`:
    /// the packet in this place, if it is plain; `zone`: the zone it arrived in.
    #[inline(always)]
    pub(crate) fn mark_plain<'a>(
        &self,
        wanted: &mut [u8],
        plain: impl Fn(usize) -> Option<&'a Plain>,
        zone: impl Fn(usize) -> u8,
    ) {
        for (bit, sieve) in self.sieves.iter().copied().enumerate() {
            for (at, wanted) in wanted.iter_mut().enumerate() {
                let fits = plain(at).is_some_and(|plain| sieve.lets_plain_through(plain, || zone(at)));
                *wanted |= u8::from(fits) << bit;
            }
        }
    }

    /// Slots that are free.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Filters that ask for nothing: they see what cannot be read too.
    pub(crate) fn wanted_unread(&self) -> u8 {
        let open = |sieve: &Sieve| {
            (sieve.mask, sieve.zone, sieve.from.mask, sieve.to.mask) == (0, None, 0, 0)
                && sieve.from.port_mask | sieve.to.port_mask == 0
        };
        self.sieves.iter().enumerate().fold(0, |bits, (at, sieve)| bits | u8::from(open(sieve)) << at)
    }

    /// A free slot.
    pub(crate) fn slot(&self) -> Option<Box<Sighting>> {
        self.free.pop()
    }

    /// A slot that is filled in. There is room: no more slots exist.
    pub(crate) fn tell(&self, sighting: Box<Sighting>) {
        let _ = self.filled.push(sighting);
    }

    /// Copies what there is room for.
    pub(crate) fn keep(&self, kept: &mut Vec<u8>, bytes: &[u8]) {
        kept.clear();
        kept.extend_from_slice(&bytes[..bytes.len().min(self.snap)]);
    }

    /// The oldest that was seen, for control.
    pub fn take(&self) -> Option<Box<Sighting>> {
        self.filled.pop()
    }

    /// Gives the slot back, from control.
    pub fn give_back(&self, sighting: Box<Sighting>) {
        let _ = self.free.push(sighting);
    }
}

impl Default for Visit {
    fn default() -> Self {
        Self {
            filters: 0,
            at_ns: 0,
            port: 0,
            queue: None,
            arrival: None,
            waited: false,
            handed_over: false,
            length: 0,
            inner_off: 0,
            l3_off: 0,
            key: FlowKey::default(),
            direction: Direction::default(),
            l4: None,
            fragment: None,
            director: NodeId(0),
            before: None,
            after: None,
            verdict: None,
            answered: false,
            outcome: Outcome::Waits,
        }
    }
}

#[cfg(test)]
mod tests;
