//! What a node says in a rejected packet's place: RST (RFC 9293 section 3.10.7.1), or ICMP "communication
//! administratively prohibited" (RFC 1812 section 5.2.7.1: type 3 code 13; RFC 4443 section 3.1: type 1 code 1).
//!
//! ```text
//! RST   | Ethernet, tags of the packet | IP, addresses turned round | TCP header, 20 bytes |
//! ICMP  | Ethernet, tags of the packet | IP, from the node          | 8 bytes | the packet's IP header and more |
//!         l3_off                                                     at most 576 bytes of IPv4, 1280 of IPv6
//! ```

use std::net::IpAddr;

use crate::flow::{Direction, FlowKey, MAPPED_PREFIX, key_bytes, proto};
use crate::wire::layout::{FLAG_FRAGMENT_LATER, FLAG_ICMP_ERROR, FLAG_IPV6, Layout};
use crate::wire::packet::{L4, Packet};
use crate::wire::tcp::{ACK, FIN, RST, SYN};
use crate::wire::{ipv4, ipv6};

/// Bytes of an ICMP header, and of a TCP header without options.
const ICMP: usize = 8;
const TCP: usize = 20;
/// Longest ICMP error: what every host takes (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4).
const V4_MAX: usize = 576;
const V6_MAX: usize = 1280;
/// One more than the hop count it leaves with: it is sent as a forwarded packet.
const HOPS: u8 = 65;

/// What its sender is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Complaint {
    /// It may not pass: RST for TCP, else "administratively prohibited".
    Prohibited,
    /// Its TTL or hop limit is used up (RFC 792, RFC 1812 section 5.3.1, RFC 4443 section 3.3).
    TimeExceeded,
    /// No route leads to its destination.
    NoRoute,
    /// The next hop does not answer (RFC 4443 section 3.1: code 3, as for addresses).
    HostUnreachable,
    /// It is larger than this many bytes, IP header included (RFC 1191 section 4, RFC 4443 section 3.2).
    TooBig(u32),
}

impl Complaint {
    /// Type, code and second word of the ICMP message.
    fn message(self, is_ipv6: bool) -> (u8, u8, u32) {
        match (self, is_ipv6) {
            (Self::Prohibited, false) => (3, 13, 0),
            (Self::Prohibited, true) => (1, 1, 0),
            (Self::TimeExceeded, false) => (11, 0, 0),
            (Self::TimeExceeded, true) => (3, 0, 0),
            (Self::NoRoute, false) => (3, 0, 0),
            (Self::NoRoute, true) => (1, 0, 0),
            (Self::HostUnreachable, false) => (3, 1, 0),
            (Self::HostUnreachable, true) => (1, 3, 0),
            (Self::TooBig(mtu), false) => (3, 4, mtu.min(0xffff)),
            // No link of IPv6 is smaller (RFC 8200 section 5).
            (Self::TooBig(mtu), true) => (2, 0, mtu.max(V6_MAX as u32)),
        }
    }
}

/// A packet that does not pass.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// Why.
    pub complaint: Complaint,
    /// The packet.
    pub packet: &'a Packet,
    /// Its (inner) frame.
    pub frame: &'a [u8],
    /// The node's own address towards its sender. Without one, a prohibited packet is answered from where it
    /// went, any other one not at all.
    pub own: Option<IpAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Body {
    /// Source and destination port, sequence and acknowledgement number, flags.
    Segment { ports: (u16, u16), seq: u32, ack: u32, flags: u8, data: usize },
    /// Type, code and second word; bytes of the quoted packet.
    Icmp { message: (u8, u8, u32), quoted: usize },
}

/// What is sent to the packet's sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Who gets it, in the form of keys.
    pub destination: [u8; 16],
    source: [u8; 16],
    is_ipv6: bool,
    /// Bytes of Ethernet header and tags, the same as the packet's.
    l3_off: usize,
    body: Body,
}

impl Answer {
    /// The most of a packet an answer repeats, Ethernet header and tags included.
    pub const QUOTE_MAX: usize = V6_MAX;

    /// The answer to a packet; `None` if it may have none: a reset, an ICMP error, a later fragment (RFC 1122
    /// section 3.2.2), a sender that is no single host.
    pub fn new(refused: &Refused<'_>) -> Option<Self> {
        let Refused { complaint, packet, frame, own } = *refused;
        let layout = &packet.layout;
        if layout.flags & (FLAG_ICMP_ERROR | FLAG_FRAGMENT_LATER) != 0 {
            return None;
        }
        let (from, to) = packet.key.ends(packet.direction);
        is_host(&from.0).then_some(())?;
        let l3_off = usize::from(layout.l3_off);
        let is_ipv6 = layout.is_ipv6();
        if complaint != Complaint::Prohibited {
            (is_host(&to.0) && own.is_some_and(|own| own.is_ipv4() != is_ipv6)).then_some(())?;
        }
        let message = complaint.message(is_ipv6);
        let body = Body::Icmp { message, quoted: 0 };
        let mut answer = Self { destination: from.0, source: to.0, is_ipv6, l3_off, body };
        if matches!(packet.l4, L4::Tcp(segment) if segment.flags & RST != 0) {
            return None;
        }
        if let (L4::Tcp(segment), Complaint::Prohibited) = (packet.l4, complaint) {
            let counted = u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & FIN != 0);
            let (seq, ack, flags) = match segment.flags & ACK {
                0 => (0, segment.seq.wrapping_add(segment.payload).wrapping_add(counted), RST | ACK),
                _ => (segment.ack, 0, RST),
            };
            answer.body = Body::Segment { ports: (to.1, from.1), seq, ack, flags, data: 0 };
            return Some(answer);
        }
        let room = if is_ipv6 { V6_MAX - ipv6::HEADER } else { V4_MAX - ipv4::HEADER } - ICMP;
        let quoted = frame.get(l3_off..usize::from(layout.l3_end))?.len().min(room);
        answer.body = Body::Icmp { message, quoted };
        if let Some(own) = own.filter(|own| own.is_ipv4() != is_ipv6) {
            answer.source = key_bytes(own);
        }
        Some(answer)
    }

    /// What makes one end of a TCP connection say where it is: an ACK from the other end that fits nothing. An end that
    /// has the connection acknowledges what it really expects (RFC 9293 section 3.10.7.4, "if an incoming segment is
    /// not acceptable"; RFC 5961 section 5.2), whether it had anything to say or not. With a byte of data, which nobody
    /// takes, as Linux answers ACKs without only twice a second (`tcp_invalid_ratelimit`). `l3_off`: bytes of Ethernet header
    /// and tags.
    pub fn prompt(key: &FlowKey, from: Direction, l3_off: usize) -> Self {
        let (from, to) = key.ends(from);
        Self {
            destination: to.0,
            source: from.0,
            is_ipv6: !key.is_ipv4(),
            l3_off,
            body: Body::Segment { ports: (from.1, to.1), seq: 0, ack: 0, flags: ACK, data: 1 },
        }
    }

    fn header(&self) -> usize {
        if self.is_ipv6 { ipv6::HEADER } else { ipv4::HEADER }
    }

    /// Bytes of its frame.
    pub fn length(&self) -> usize {
        let body = match self.body {
            Body::Segment { data, .. } => TCP + data,
            Body::Icmp { quoted, .. } => ICMP + quoted,
        };
        self.l3_off + self.header() + body
    }

    /// Its layout, given the packet's.
    pub fn layout(&self, packet: &Layout) -> Layout {
        let is_icmp = matches!(self.body, Body::Icmp { .. });
        let family = if self.is_ipv6 { FLAG_IPV6 } else { 0 };
        Layout {
            inner_off: 0,
            l4_off: (self.l3_off + self.header()) as u16,
            l3_end: self.length() as u16,
            // An error of the node's own is never answered, whatever becomes of it.
            flags: family | if is_icmp { FLAG_ICMP_ERROR } else { 0 },
            proto: if is_icmp { self.icmp() } else { proto::TCP },
            ..*packet
        }
    }

    fn icmp(&self) -> u8 {
        if self.is_ipv6 { proto::ICMPV6 } else { proto::ICMP }
    }

    /// Copies what [`Answer::write`] needs of the packet, whose frame begins `inner_off` bytes into `bytes`.
    pub fn quote<'a>(&self, bytes: &[u8], inner_off: usize, room: &'a mut [u8; Self::QUOTE_MAX]) -> &'a [u8] {
        let quoted = if let Body::Icmp { quoted, .. } = self.body { quoted } else { 0 };
        let needed = bytes.get(inner_off..).unwrap_or_default();
        let length = (self.l3_off + quoted).min(needed.len()).min(room.len());
        room[..length].copy_from_slice(&needed[..length]);
        &room[..length]
    }

    /// Writes the frame, [`Answer::length`] bytes of zeros. `quote` is [`Answer::quote`]. The link addresses are
    /// set by whoever sends it.
    pub fn write(&self, quote: &[u8], frame: &mut [u8]) {
        let l3_off = self.l3_off;
        frame[..l3_off].copy_from_slice(&quote[..l3_off]);
        let (header, body) = frame[l3_off..].split_at_mut(self.header());
        match self.body {
            Body::Segment { ports, seq, ack, flags, .. } => {
                body[..2].copy_from_slice(&ports.0.to_be_bytes());
                body[2..4].copy_from_slice(&ports.1.to_be_bytes());
                body[4..8].copy_from_slice(&seq.to_be_bytes());
                body[8..12].copy_from_slice(&ack.to_be_bytes());
                body[12..14].copy_from_slice(&[(TCP as u8 / 4) << 4, flags]);
                self.seal(proto::TCP, header, body, 16);
            }
            Body::Icmp { message: (kind, code, word), quoted } => {
                body[..2].copy_from_slice(&[kind, code]);
                body[4..ICMP].copy_from_slice(&word.to_be_bytes());
                body[ICMP..].copy_from_slice(&quote[l3_off..l3_off + quoted]);
                self.seal(self.icmp(), header, body, 2);
            }
        }
    }

    /// Writes the IP header and the checksum at `at` of the body.
    fn seal(&self, protocol: u8, header: &mut [u8], body: &mut [u8], at: usize) {
        let (source, destination) = (&self.source, &self.destination);
        if self.is_ipv6 {
            header[0] = 0x60;
            header[4..6].copy_from_slice(&(body.len() as u16).to_be_bytes());
            header[6..8].copy_from_slice(&[protocol, HOPS]);
            header[8..24].copy_from_slice(source);
            header[24..40].copy_from_slice(destination);
        } else {
            header[0] = 0x45;
            header[2..4].copy_from_slice(&((ipv4::HEADER + body.len()) as u16).to_be_bytes());
            header[6] = 0x40;
            header[8..10].copy_from_slice(&[HOPS, protocol]);
            header[12..16].copy_from_slice(&source[12..]);
            header[16..20].copy_from_slice(&destination[12..]);
            let checksum = ipv4::checksum(header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        // ICMP for IPv4 has no pseudo-header.
        let pseudo = match protocol {
            proto::ICMP => 0,
            _ => {
                ipv4::sum(source) + ipv4::sum(destination) + u32::from(protocol) + body.len() as u32
                    - self.mapped_part()
            }
        };
        let checksum = ipv4::folded(pseudo + ipv4::sum(body));
        body[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    /// What the form of keys adds to the sum of two IPv4 addresses.
    fn mapped_part(&self) -> u32 {
        if self.is_ipv6 { 0 } else { 2 * 0xffff }
    }
}

/// An Ethernet header with a flow's tags and type, for frames that no packet gave rise to; link addresses are zero.
#[derive(Clone, Copy, Debug)]
pub struct TaggedHeader {
    bytes: [u8; 22],
    length: usize,
}

impl TaggedHeader {
    /// The header of a flow's frames: two tags are 802.1ad and 802.1Q, one is 802.1Q.
    pub fn of(key: &FlowKey) -> Self {
        let (outer, inner) = key.vlans();
        let mut header = Self { bytes: [0; 22], length: 12 };
        if outer != 0 {
            let kind = if inner == 0 { 0x8100 } else { 0x88a8 };
            header.append(kind);
            header.append(outer);
        }
        if inner != 0 {
            header.append(0x8100);
            header.append(inner);
        }
        header.append(if key.is_ipv4() { 0x0800 } else { 0x86dd });
        header
    }

    fn append(&mut self, word: u16) {
        self.bytes[self.length..self.length + 2].copy_from_slice(&word.to_be_bytes());
        self.length += 2;
    }

    /// Its 14, 18 or 22 bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Neither unspecified nor many.
fn is_host(address: &[u8; 16]) -> bool {
    let is_ipv4 = address[..12] == MAPPED_PREFIX;
    match is_ipv4 {
        true => address[12] < 224 && address[12] != 0,
        false => address[0] != 0xff && *address != [0; 16],
    }
}

#[cfg(test)]
mod tests;
