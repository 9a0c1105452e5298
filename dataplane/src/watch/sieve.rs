//! What packets are wanted, as it is asked for and ready to be compared.

use super::plain::Turn;
use crate::flow::{Direction, FlowKey};
use crate::session::Session;
use crate::wire::packet::Packet;

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
pub(super) struct Half {
    pub(super) mask: u128,
    pub(super) value: u128,
    pub(super) port_mask: u16,
    pub(super) port: u16,
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
    pub(super) turns: [Turn; 2],
    pub(super) both_ways: bool,
    pub(super) zone: Option<u8>,
}

/// What filters ask of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(super) lo: (u128, u16),
    pub(super) hi: (u128, u16),
    pub(super) proto_vlans: u32,
    pub(super) direction: Direction,
    pub(super) zone: u8,
    /// A fragment: its ports are not known here.
    pub(super) portless: bool,
}

impl Asked {
    /// Of a packet that arrived in zone `zone`.
    pub(crate) fn of(packet: &Packet, zone: u8) -> Self {
        let FlowKey { lo, hi, lo_port, hi_port, proto_vlans } = packet.key;
        let portless = packet.fragment.is_some() && (lo_port, hi_port) == (0, 0);
        let (lo, hi) = ((u128::from_be_bytes(lo), lo_port), (u128::from_be_bytes(hi), hi_port));
        Self { lo, hi, proto_vlans, direction: packet.direction, zone, portless }
    }

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

    /// True if it asks for nothing: it sees what cannot be read too.
    pub(super) fn is_open(&self) -> bool {
        (self.mask, self.zone, self.from.mask, self.to.mask) == (0, None, 0, 0)
            && self.from.port_mask | self.to.port_mask == 0
    }
}
