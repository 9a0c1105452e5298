//! What a packet is to samepath: its flow, the way it goes, what its layer 4 says.
//!
//! ```text
//! frame     | Ethernet, VLAN tags | IP, extension headers | TCP, UDP, …  | payload | padding |
//! Layout      0                     l3_off                  l4_off                  l3_end
//! ICMP error                                               | 8 bytes | IP | 8 bytes or more |
//!                                                          l4_off   quoted_l3_off   quoted_l4_off
//! ```
//!
//! [`Packet::read`] trusts the [`Layout`] to point at headers but checks every access: metadata that
//! does not fit the frame is a drop, not a panic.

use crate::flow::{Direction, FlowKey, MAPPED_PREFIX, proto};
use crate::verdict::DropReason;
use crate::wire::ethernet;
use crate::wire::flow_hash::FlowHasher;
use crate::wire::icmp;
use crate::wire::ip::IpHeader;
use crate::wire::ipv4;
use crate::wire::layout::{FLAG_FRAGMENT_LATER, FLAG_ICMP_ERROR, Layout, NotSteered};
use crate::wire::octets::{be16, byte};
use crate::wire::sctp::SctpPacket;
use crate::wire::transport;

pub use crate::wire::tcp::TcpSegment;

/// A packet as the decision sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Its flow. Fragments, first and later, have ports 0 here; see [`Packet::key_with`]. An ICMP
    /// error has the key of the flow it quotes.
    pub key: FlowKey,
    /// The way it goes. An ICMP error goes against the packet it quotes.
    pub direction: Direction,
    /// Where everything is.
    pub layout: Layout,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Bytes of the (inner) frame, Ethernet header and padding included.
    pub length: u32,
    /// What layer 4 says.
    pub l4: L4,
    /// Set if the packet is a fragment.
    pub fragment: Option<Fragment>,
    /// First fragment: source and destination port as its own header has them (identifier of an ICMP
    /// query in both). `None` for all other packets.
    pub ports: Option<(u16, u16)>,
    /// ICMP error: what it says that can be checked.
    pub told: icmp::Told,
}

/// Which train of fragments a packet belongs to: (addresses, protocol, id).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fragment {
    /// Identification: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// True for the one that carries the layer-4 header.
    pub first: bool,
    /// More of the train follow this one in the packet.
    pub more: bool,
    /// Where its data belongs among the packet's, bytes.
    pub offset: u16,
    /// Bytes of its data.
    pub length: u16,
}

/// What layer 4 says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum L4 {
    /// A TCP segment.
    Tcp(TcpSegment),
    /// A UDP datagram.
    Udp,
    /// An ICMP query (echo and the like).
    IcmpQuery {
        /// True for the request, false for the reply.
        request: bool,
    },
    /// An ICMP error; key and direction speak of the quoted packet's flow.
    IcmpError,
    /// An SCTP packet.
    Sctp {
        /// ABORT, or the first chunk that moves the association's state, or the first chunk.
        chunk: u8,
        /// Verification tag.
        tag: u32,
    },
    /// A protocol (or ICMP message) that samepath does not read, or IPv6 with no next header (RFC 8200 section 4.7).
    Other,
    /// No layer-4 header here: a later fragment.
    None,
}

/// Why a frame did not become a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// The XDP program does not give such a frame to a worker.
    NotSteered(NotSteered),
    /// A worker drops it.
    Drop(DropReason),
}

impl Packet {
    /// Reads a frame that starts at the (inner) Ethernet header and whose `layout` is known.
    ///
    /// [`DropReason::BadMetadata`] if the layout does not fit the frame (a Hello has no packet: the
    /// worker takes it before), [`DropReason::IpChecksum`] if the IPv4 header was changed on its way,
    /// [`DropReason::Martian`] for addresses that may not be forwarded,
    /// [`DropReason::Malformed`] if layer 4 contradicts itself.
    #[inline]
    pub fn read(frame: &[u8], layout: Layout) -> Result<Self, DropReason> {
        let (l3_off, l3_end) = (usize::from(layout.l3_off), usize::from(layout.l3_end));
        let packet = frame.get(l3_off..l3_end).ok_or(DropReason::BadMetadata)?;
        let ip = IpHeader::read(packet, layout.is_ipv6())
            .filter(|_| l3_off >= ethernet::HEADER)
            .ok_or(DropReason::BadMetadata)?;
        if ip.is_martian() {
            return Err(DropReason::Martian);
        }
        let (key, direction) = layout.flow(frame, &ip).ok_or(DropReason::BadMetadata)?;
        // A quoted packet may name addresses that its own header would not get past the check above.
        if layout.is_ipv6() && has_mapped_end(&key) {
            return Err(DropReason::Martian);
        }
        if !ip.ipv6 && !packet.get(..ip.header).is_some_and(ipv4::is_sound) {
            return Err(DropReason::IpChecksum);
        }
        let mut packet_read = Self {
            key,
            direction,
            layout,
            ttl: ip.hops,
            length: frame.len() as u32,
            l4: if layout.flags & FLAG_FRAGMENT_LATER == 0 { L4::Other } else { L4::None },
            fragment: None,
            ports: None,
            told: icmp::Told::default(),
        };
        if layout.is_fragment() {
            packet_read.fragment = Some(fragment(&ip, packet, &layout)?);
        }
        if layout.l4_off != 0 {
            let layer4 = frame
                .get(usize::from(layout.l4_off)..l3_end)
                .filter(|_| layout.l4_off > layout.l3_off)
                .ok_or(DropReason::BadMetadata)?;
            packet_read.l4 = read_layer4(layer4, &layout)?;
            if packet_read.l4 == L4::IcmpError {
                let quotes_tcp = layout.quoted_proto == proto::TCP && layout.quoted_l4_off != 0;
                let quoted = frame.get(usize::from(layout.quoted_l4_off)..l3_end).filter(|_| quotes_tcp);
                packet_read.told = icmp::Told::read(layout.is_ipv6(), layer4, quoted);
            }
            if layout.is_fragment() {
                packet_read.ports = transport::ports(layout.proto, layout.is_ipv6(), layer4);
            }
        }
        Ok(packet_read)
    }

    /// Parses a frame from a data interface without the XDP program: [`Layout::parse`], then
    /// [`Packet::read`].
    pub fn parse(frame: &[u8], port: u8, hasher: &FlowHasher) -> Result<Self, ParseError> {
        let layout = Layout::parse(frame, port, hasher).map_err(ParseError::NotSteered)?;
        Self::read(frame, layout).map_err(ParseError::Drop)
    }

    /// The flow and direction with a first fragment's ports filled in; those of any other packet as
    /// they are.
    pub fn key_with_ports(&self) -> (FlowKey, Direction) {
        self.ports.map_or((self.key, self.direction), |ports| self.key_with(ports))
    }

    /// The flow and direction of a fragment whose train has these source and destination ports.
    pub fn key_with(&self, (source, destination): (u16, u16)) -> (FlowKey, Direction) {
        let (lo, hi) = ((self.key.lo, self.key.hi), (self.key.hi, self.key.lo));
        let ends = if self.direction == Direction::LoToHi { lo } else { hi };
        FlowKey::new((ends.0, source), (ends.1, destination), self.key.proto(), self.key.vlans())
    }
}

/// IPv6 with an IPv4-mapped address would be taken for a flow of IPv4.
fn has_mapped_end(key: &FlowKey) -> bool {
    key.lo[..12] == MAPPED_PREFIX || key.hi[..12] == MAPPED_PREFIX
}

fn fragment(ip: &IpHeader, packet: &[u8], layout: &Layout) -> Result<Fragment, DropReason> {
    let upper = ip.upper(packet).map_err(|_| DropReason::BadMetadata)?;
    let fragmentation = upper.fragmentation.ok_or(DropReason::BadMetadata)?;
    let first = layout.flags & FLAG_FRAGMENT_LATER == 0;
    let length = packet.len().checked_sub(usize::from(fragmentation.start)).ok_or(DropReason::BadMetadata)?;
    Ok(Fragment {
        id: fragmentation.id,
        first,
        more: fragmentation.more,
        offset: fragmentation.offset,
        length: length as u16,
    })
}

/// `layer4` reaches from the layer-4 header to the packet's end.
#[inline]
fn read_layer4(layer4: &[u8], layout: &Layout) -> Result<L4, DropReason> {
    let ipv6 = layout.is_ipv6();
    match layout.proto {
        proto::TCP => TcpSegment::read(layer4).map(L4::Tcp).ok_or_else(|| cut_short(layout)),
        proto::UDP => {
            let length = usize::from(be16(layer4, 4).ok_or(DropReason::BadMetadata)?);
            let fits = length <= layer4.len() || layout.is_fragment();
            if length >= 8 && fits { Ok(L4::Udp) } else { Err(DropReason::Malformed) }
        }
        proto::SCTP => {
            let sctp = SctpPacket::read(layer4).ok_or_else(|| cut_short(layout))?;
            Ok(L4::Sctp { chunk: sctp.chunk, tag: sctp.tag })
        }
        _ if transport::is_icmp(layout.proto, ipv6) => {
            if layout.flags & FLAG_ICMP_ERROR != 0 {
                return Ok(L4::IcmpError);
            }
            let kind = byte(layer4, 0).ok_or(DropReason::BadMetadata)?;
            Ok(icmp::query(ipv6, kind).map_or(L4::Other, |request| L4::IcmpQuery { request }))
        }
        _ => Ok(L4::Other),
    }
}

/// Why a packet without its whole layer-4 header is dropped.
fn cut_short(layout: &Layout) -> DropReason {
    if layout.is_fragment() { DropReason::FragmentTiny } else { DropReason::Malformed }
}

#[cfg(test)]
mod tests;
