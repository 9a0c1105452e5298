//! What the XDP program found in a packet: 24 bytes it leaves directly in front of the frame.
//!
//! ```text
//!  0               4       6       8       10      12
//! +---------------+-------+-------+-------+-------+
//! | flow_hash     | inner | l3    | l4    | l3    |   offsets in bytes; inner_off from the start of
//! |               | _off  | _off  | _off  | _end  |   the frame, all others from the (inner)
//! +-------+-------+-------+-------+-------+-------+   Ethernet header
//! | quoted| quoted| vlan  | vlan  |pro|quo|fla|por|
//! | _l3   | _l4   | _outer| _inner|to |ted|gs |t  |
//! +-------+-------+-------+-------+---+---+---+---+
//!  12      14      16      18      20  21  22  23    native byte order (one machine writes and reads)
//! ```
//!
//! [`Layout::parse`] is the twin of the program in `bpf/src/`: the same packets through both must give
//! the same bytes. The rules, in their order:
//!
//! 1. Fewer than 14 bytes: malformed. Group destination address: the kernel's.
//! 2. Up to two VLAN tags; neither IPv4 nor IPv6 behind them: the kernel's.
//! 3. Version, header and length fields must agree with the bytes that are there.
//! 4. Multicast and limited broadcast destinations: the kernel's.
//! 5. IPv6 extension headers, at most eight.
//! 6. Neighbour discovery: the kernel's.
//! 7. (Only the program: own addresses, pass list, cluster link.)
//! 8. The layer-4 header must be there.
//! 9. In ICMP errors, the quoted packet's headers.
//!
//! Where the specification is silent both twins read it so: rule 8 asks by protocol number alone,
//! everything else about ICMP means ICMP over IPv4 and ICMPv6 over IPv6; rule 6 needs only the type
//! byte; rule 9 does not look at a quoted packet's length fields and holds for a first fragment too; a
//! tag whose control field is 0xffff (reserved VLAN 4095) reads as no tag.

use crate::flow::{Direction, FlowKey};
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::flow_hash::FlowHasher;
use crate::wire::icmp;
use crate::wire::ip::{IpHeader, Upper};
use crate::wire::octets::byte;
use crate::wire::transport;
use crate::wire::tunnel::HELLO_ETHERTYPE;

/// Value of the VLAN fields where there is no tag.
pub const NO_VLAN: u16 = 0xffff;

/// The packet is IPv6.
pub const FLAG_IPV6: u8 = 1;
/// It is the first of several fragments.
pub const FLAG_FRAGMENT_FIRST: u8 = 2;
/// It is a later fragment.
pub const FLAG_FRAGMENT_LATER: u8 = 4;
/// It is an ICMP error: it quotes another packet.
pub const FLAG_ICMP_ERROR: u8 = 8;
/// It came through the tunnel.
pub const FLAG_TUNNEL: u8 = 16;
/// It is a peer's Hello; there is no IP packet inside.
pub const FLAG_HELLO: u8 = 32;

/// Where everything is in a packet. See the module's picture; the C twin is `struct sp_layout`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Layout {
    /// [`FlowHasher`]'s hash of the flow; ports count as 0 in fragments. 0 in a Hello.
    pub flow_hash: u32,
    /// Bytes of outer headers in front of the inner Ethernet header; 0 outside the tunnel.
    pub inner_off: u16,
    /// The IP header.
    pub l3_off: u16,
    /// The layer-4 header; 0 = none here.
    pub l4_off: u16,
    /// End of the IP packet by its own length field (Ethernet padding excluded).
    pub l3_end: u16,
    /// ICMP error: the quoted IP header; 0 = none that can be used.
    pub quoted_l3_off: u16,
    /// ICMP error: the quoted layer-4 header; 0 = none that can be used.
    pub quoted_l4_off: u16,
    /// Control field of the first VLAN tag or [`NO_VLAN`].
    pub vlan_outer: u16,
    /// Control field of the second VLAN tag or [`NO_VLAN`].
    pub vlan_inner: u16,
    /// Final protocol.
    pub proto: u8,
    /// ICMP error: final protocol of the quoted packet.
    pub quoted_proto: u8,
    /// `FLAG_*`.
    pub flags: u8,
    /// Index of the interface the packet arrived on.
    pub port: u8,
}

/// Why a frame is not steered to a worker. The XDP program has a counter for each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NotSteered {
    /// Dropped: a header is cut short or contradicts itself.
    Malformed,
    /// Dropped: more IPv6 extension headers than are walked.
    ExtensionHeaders,
    /// The kernel's: neither IPv4 nor IPv6, or more than two VLAN tags.
    NotIp,
    /// The kernel's: multicast or broadcast.
    Multicast,
    /// The kernel's: IPv6 neighbour discovery.
    Neighbour,
}

impl NotSteered {
    /// True if the frame is dropped, false if the kernel gets it.
    pub fn is_dropped(self) -> bool {
        matches!(self, Self::Malformed | Self::ExtensionHeaders)
    }
}

/// Which rules apply: those of a data interface or those of the tunnel's inner frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Data,
    Inner,
}

impl Layout {
    /// Bytes of metadata.
    pub const SIZE: usize = 24;

    /// Reads what the XDP program left.
    #[inline]
    pub fn from_metadata(bytes: &[u8; Self::SIZE]) -> Self {
        let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flow_hash: u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            inner_off: half(4),
            l3_off: half(6),
            l4_off: half(8),
            l3_end: half(10),
            quoted_l3_off: half(12),
            quoted_l4_off: half(14),
            vlan_outer: half(16),
            vlan_inner: half(18),
            proto: bytes[20],
            quoted_proto: bytes[21],
            flags: bytes[22],
            port: bytes[23],
        }
    }

    /// The bytes the XDP program would leave.
    pub fn to_metadata(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..4].copy_from_slice(&self.flow_hash.to_ne_bytes());
        let halves = [
            self.inner_off,
            self.l3_off,
            self.l4_off,
            self.l3_end,
            self.quoted_l3_off,
            self.quoted_l4_off,
            self.vlan_outer,
            self.vlan_inner,
        ];
        for (half, value) in bytes[4..20].chunks_exact_mut(2).zip(halves) {
            half.copy_from_slice(&value.to_ne_bytes());
        }
        bytes[20..].copy_from_slice(&[self.proto, self.quoted_proto, self.flags, self.port]);
        bytes
    }

    /// Parses a frame from a data interface (rules 1–6, 8, 9).
    pub fn parse(frame: &[u8], port: u8, hasher: &FlowHasher) -> Result<Self, NotSteered> {
        if frame.len() < ethernet::HEADER {
            return Err(NotSteered::Malformed);
        }
        if ethernet::is_group(frame) {
            return Err(NotSteered::Multicast);
        }
        let ethernet = Ethernet::parse(frame)?;
        Self::empty(&ethernet, port).locate(frame, &ethernet, Side::Data, hasher)
    }

    /// Parses the tunnel's inner frame, which starts at `frame` and lies `inner_off` bytes behind the
    /// outer frame's start (rules 2, 3, 5, 8, 9; the tunnel carries what its ingress steered). Every
    /// error means a malformed tunnel packet.
    pub fn parse_inner(
        frame: &[u8],
        inner_off: u16,
        port: u8,
        hasher: &FlowHasher,
    ) -> Result<Self, NotSteered> {
        let ethernet = Ethernet::parse(frame)?;
        let layout = Self { inner_off, flags: FLAG_TUNNEL, ..Self::empty(&ethernet, port) };
        if ethernet.ethertype == HELLO_ETHERTYPE {
            return Ok(Self { flags: FLAG_TUNNEL | FLAG_HELLO, ..layout });
        }
        layout.locate(frame, &ethernet, Side::Inner, hasher)
    }

    fn empty(ethernet: &Ethernet, port: u8) -> Self {
        Self {
            flow_hash: 0,
            inner_off: 0,
            l3_off: 0,
            l4_off: 0,
            l3_end: 0,
            quoted_l3_off: 0,
            quoted_l4_off: 0,
            vlan_outer: ethernet.vlan_outer,
            vlan_inner: ethernet.vlan_inner,
            proto: 0,
            quoted_proto: 0,
            flags: 0,
            port,
        }
    }

    /// Rules 3–9, and rule 2's EtherType.
    fn locate(
        mut self,
        frame: &[u8],
        ethernet: &Ethernet,
        side: Side,
        hasher: &FlowHasher,
    ) -> Result<Self, NotSteered> {
        let ipv6 = match ethernet.ethertype {
            ethernet::IPV4 => false,
            ethernet::IPV6 => true,
            _ => return Err(NotSteered::NotIp),
        };
        let l3_off = ethernet.payload;
        let bytes = frame.get(l3_off..).ok_or(NotSteered::Malformed)?;
        let ip = IpHeader::read(bytes, ipv6)
            .filter(|ip| ip.length_fits(bytes.len()))
            .ok_or(NotSteered::Malformed)?;
        if side == Side::Data && ip.is_to_many() {
            return Err(NotSteered::Multicast);
        }
        let packet = bytes.get(..ip.length).ok_or(NotSteered::Malformed)?;
        let upper = ip.upper(packet)?;
        self.l3_off = offset(l3_off)?;
        self.l3_end = offset(l3_off + ip.length)?;
        self.note_upper(ipv6, l3_off, &upper)?;
        if upper.offset > 0 {
            let layer4 = packet.get(upper.offset..).ok_or(NotSteered::Malformed)?;
            self.inspect_layer4(ipv6, layer4, side)?;
        }
        let (key, _) = self.flow(frame, &ip).ok_or(NotSteered::Malformed)?;
        self.flow_hash = hasher.hash(&key);
        Ok(self)
    }

    fn note_upper(&mut self, ipv6: bool, l3_off: usize, upper: &Upper) -> Result<(), NotSteered> {
        self.proto = upper.proto;
        if upper.offset > 0 {
            self.l4_off = offset(l3_off + upper.offset)?;
        }
        if ipv6 {
            self.flags |= FLAG_IPV6;
        }
        self.flags |= upper.flags;
        Ok(())
    }

    /// Rules 6, 8 and 9; `layer4` reaches to the packet's end.
    fn inspect_layer4(&mut self, ipv6: bool, layer4: &[u8], side: Side) -> Result<(), NotSteered> {
        let icmp = transport::is_icmp(self.proto, ipv6);
        let kind = byte(layer4, 0).filter(|_| icmp);
        if side == Side::Data && ipv6 && kind.is_some_and(icmp::is_neighbour_discovery) {
            return Err(NotSteered::Neighbour);
        }
        if layer4.len() < transport::least_header(self.proto) {
            return Err(NotSteered::Malformed);
        }
        if kind.is_some_and(|kind| icmp::is_error(ipv6, kind)) {
            self.flags |= FLAG_ICMP_ERROR;
            self.inspect_quote(ipv6, layer4.get(icmp::HEADER..).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Rule 9: `quote` starts with the quoted IP header and may be cut short anywhere. If its headers
    /// cannot be used the fields stay 0.
    fn inspect_quote(&mut self, ipv6: bool, quote: &[u8]) -> Result<(), NotSteered> {
        let upper = IpHeader::read(quote, ipv6).and_then(|ip| ip.upper(quote).ok());
        let Some(upper) = upper else { return Ok(()) };
        let quote_off = usize::from(self.l4_off) + icmp::HEADER;
        self.quoted_l3_off = offset(quote_off)?;
        self.quoted_proto = upper.proto;
        let there = quote.len().saturating_sub(upper.offset);
        if upper.offset > 0 && there >= transport::least_quoted_header(upper.proto, ipv6) {
            self.quoted_l4_off = offset(quote_off + upper.offset)?;
        }
        Ok(())
    }

    /// The flow this packet belongs to and the way it goes there. `frame` starts at the (inner)
    /// Ethernet header, `ip` is its IP header. Fragments have ports 0. An ICMP error belongs to the
    /// flow it quotes and goes against the quoted packet. `None` if the offsets do not fit the frame.
    #[inline]
    pub(crate) fn flow(&self, frame: &[u8], ip: &IpHeader) -> Option<(FlowKey, Direction)> {
        if self.flags & FLAG_ICMP_ERROR != 0 && self.quoted_l3_off != 0 {
            return self.quoted_flow(frame);
        }
        let ports = if self.is_fragment() || self.l4_off == 0 {
            (0, 0)
        } else {
            transport::ports(self.proto, ip.ipv6, frame.get(usize::from(self.l4_off)..)?)?
        };
        let (source, destination) = ((ip.source, ports.0), (ip.destination, ports.1));
        Some(FlowKey::new(source, destination, self.proto, self.vlans()))
    }

    fn quoted_flow(&self, frame: &[u8]) -> Option<(FlowKey, Direction)> {
        let ip = IpHeader::read(frame.get(usize::from(self.quoted_l3_off)..)?, self.is_ipv6())?;
        let ports = if self.quoted_l4_off == 0 {
            (0, 0)
        } else {
            let layer4 = frame.get(usize::from(self.quoted_l4_off)..)?;
            transport::ports(self.quoted_proto, ip.ipv6, layer4)?
        };
        let (source, destination) = ((ip.source, ports.0), (ip.destination, ports.1));
        let (key, direction) = FlowKey::new(source, destination, self.quoted_proto, self.vlans());
        Some((key, direction.reversed()))
    }

    /// True for IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.flags & FLAG_IPV6 != 0
    }

    /// True for first and later fragments.
    pub fn is_fragment(&self) -> bool {
        self.flags & (FLAG_FRAGMENT_FIRST | FLAG_FRAGMENT_LATER) != 0
    }

    /// True if the packet came through the tunnel.
    pub fn is_tunnel(&self) -> bool {
        self.flags & FLAG_TUNNEL != 0
    }

    /// True for a peer's Hello.
    pub fn is_hello(&self) -> bool {
        self.flags & FLAG_HELLO != 0
    }

    /// Outer and inner VLAN id, 0 where there is no tag.
    pub fn vlans(&self) -> (u16, u16) {
        let id = |tci: u16| if tci == NO_VLAN { 0 } else { tci & 0xfff };
        (id(self.vlan_outer), id(self.vlan_inner))
    }
}

/// An offset as the metadata holds it; no frame an interface can receive is longer.
fn offset(bytes: usize) -> Result<u16, NotSteered> {
    u16::try_from(bytes).map_err(|_| NotSteered::Malformed)
}

#[cfg(test)]
mod tests;
