//! Names of nodes and flows: what every other file speaks of.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A node's number in its cluster, 1..=65535; 0 means "no node".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NodeId(pub u16);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of times ownership of a flow was granted; a higher one always wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Generation(pub u32);

impl Generation {
    /// The generation a takeover gets.
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1).max(1))
    }
}

/// Which way a packet goes, seen from the canonical order of a [`FlowKey`]'s ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Direction {
    /// From the lower end to the higher one.
    #[default]
    LoToHi = 0,
    /// From the higher end to the lower one.
    HiToLo = 1,
}

impl Direction {
    /// The other way.
    pub fn reversed(self) -> Self {
        match self {
            Self::LoToHi => Self::HiToLo,
            Self::HiToLo => Self::LoToHi,
        }
    }
}

/// Both directions of one conversation: VLANs, protocol and two address:port ends in canonical order.
///
/// 40 bytes. IPv4 addresses are kept IPv4-mapped (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2); the
/// parser refuses IPv6 packets that carry mapped addresses, so the two never collide.
/// ICMP echo has its identifier in both ports; protocols without ports have zero there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct FlowKey {
    /// The lower end's address, network byte order.
    pub lo: [u8; 16],
    /// The higher end's address, network byte order.
    pub hi: [u8; 16],
    /// The lower end's port.
    pub lo_port: u16,
    /// The higher end's port.
    pub hi_port: u16,
    /// `protocol << 24 | inner VLAN id << 12 | outer VLAN id`; VLAN id 0 means untagged.
    pub proto_vlans: u32,
}

impl FlowKey {
    /// Puts two ends in canonical order and says which way the packet `src → dst` goes.
    pub fn new(
        src: ([u8; 16], u16),
        dst: ([u8; 16], u16),
        proto: u8,
        vlans: (u16, u16),
    ) -> (Self, Direction) {
        let proto_vlans =
            u32::from(proto) << 24 | u32::from(vlans.1 & 0xfff) << 12 | u32::from(vlans.0 & 0xfff);
        let (lo, hi, direction) =
            if src <= dst { (src, dst, Direction::LoToHi) } else { (dst, src, Direction::HiToLo) };
        let key = Self { lo: lo.0, hi: hi.0, lo_port: lo.1, hi_port: hi.1, proto_vlans };
        (key, direction)
    }

    /// The final protocol number (IANA "Assigned Internet Protocol Numbers").
    pub fn proto(&self) -> u8 {
        (self.proto_vlans >> 24) as u8
    }

    /// Outer and inner VLAN id, 0 for none.
    pub fn vlans(&self) -> (u16, u16) {
        ((self.proto_vlans & 0xfff) as u16, (self.proto_vlans >> 12 & 0xfff) as u16)
    }

    /// The key that fragments of this flow have: no ports.
    pub fn without_ports(self) -> Self {
        Self { lo_port: 0, hi_port: 0, ..self }
    }

    /// True for IPv4 (mapped) addresses.
    pub fn is_ipv4(&self) -> bool {
        self.lo[..12] == MAPPED_PREFIX && self.hi[..12] == MAPPED_PREFIX
    }

    /// The ends (address in the form of keys, port) a packet in `direction` comes from and goes to.
    pub fn ends(&self, direction: Direction) -> (([u8; 16], u16), ([u8; 16], u16)) {
        let (lower, higher) = ((self.lo, self.lo_port), (self.hi, self.hi_port));
        match direction {
            Direction::LoToHi => (lower, higher),
            Direction::HiToLo => (higher, lower),
        }
    }

    /// The end a packet in `direction` comes from.
    pub fn source(&self, direction: Direction) -> (IpAddr, u16) {
        let ((address, port), _) = self.ends(direction);
        (address_of(&address), port)
    }

    /// The end a packet in `direction` goes to.
    pub fn destination(&self, direction: Direction) -> (IpAddr, u16) {
        self.source(direction.reversed())
    }
}

/// First 12 bytes of an IPv4-mapped IPv6 address.
pub const MAPPED_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// The 16-byte form of an address used in keys.
pub fn key_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address a 16-byte key form stands for.
pub fn address_of(bytes: &[u8; 16]) -> IpAddr {
    if bytes[..12] == MAPPED_PREFIX {
        IpAddr::V4(Ipv4Addr::new(bytes[12], bytes[13], bytes[14], bytes[15]))
    } else {
        IpAddr::V6(Ipv6Addr::from(*bytes))
    }
}

/// Protocol numbers samepath tracks by name.
pub mod proto {
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: u8 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// SCTP (RFC 9260).
    pub const SCTP: u8 = 132;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_give_one_key() {
        let a = (key_bytes("10.0.0.1".parse().unwrap()), 4000);
        let b = (key_bytes("10.0.0.2".parse().unwrap()), 80);
        let (forward, there) = FlowKey::new(a, b, proto::TCP, (7, 0));
        let (back, here) = FlowKey::new(b, a, proto::TCP, (7, 0));
        assert_eq!(forward, back);
        assert_eq!(there, here.reversed());
        assert_eq!(forward.proto(), proto::TCP);
        assert_eq!(forward.vlans(), (7, 0));
        assert_eq!(forward.source(there), ("10.0.0.1".parse().unwrap(), 4000));
        assert!(forward.is_ipv4());
    }

    #[test]
    fn key_is_forty_bytes() {
        assert_eq!(size_of::<FlowKey>(), 40);
    }
}
