//! What the tests need to know of a frame, read without samepath's parsers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const VLAN: [[u8; 2]; 3] = [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]];

/// Link addresses of a frame.
pub const MACS: usize = 12;

/// An IP packet in a frame, whole by its own length.
#[derive(Clone, Copy)]
pub struct Packet<'a> {
    frame: &'a [u8],
    /// Where the IP header begins.
    l3: usize,
    v6: bool,
}

impl Flow {
    /// The same for both directions.
    pub fn both_ways(self) -> Self {
        if self.source <= self.destination {
            return self;
        }
        let ends = if self.is_fragment { self.ends } else { self.ends.rotate_left(16) };
        Self { source: self.destination, destination: self.source, ends, ..self }
    }
}

impl<'a> Packet<'a> {
    /// `None` if the frame holds no IP packet, or not all of it, or behind more than two VLAN tags.
    pub fn of(frame: &'a [u8]) -> Option<Self> {
        let is_tag = |at: &usize| VLAN.iter().any(|tag| frame.get(*at..at + 2) == Some(tag));
        let at = MACS + 4 * [MACS, MACS + 4].iter().take_while(|at| is_tag(at)).count();
        let l3 = at + 2;
        let v6 = match frame.get(at..l3)? {
            [0x08, 0x00] => false,
            [0x86, 0xdd] => true,
            _ => return None,
        };
        let header = if v6 { 40 } else { 20 };
        let version = frame.get(l3)? >> 4;
        let rest = &frame[l3..];
        if rest.len() < header || version != if v6 { 6 } else { 4 } {
            return None;
        }
        let packet = Self { frame, l3, v6 };
        (frame.len() >= packet.end()).then_some(packet)
    }

    fn word(&self, at: usize) -> usize {
        usize::from(u16::from_be_bytes([self.frame[self.l3 + at], self.frame[self.l3 + at + 1]]))
    }

    /// Where the packet ends; what follows is padding.
    fn end(&self) -> usize {
        self.l3 + if self.v6 { 40 + self.word(4) } else { self.word(2).max(20) }
    }

    /// Source and destination.
    pub fn addresses(&self) -> (IpAddr, IpAddr) {
        let ip = &self.frame[self.l3..];
        if self.v6 {
            let of = |at: usize| {
                let octets: [u8; 16] = std::array::from_fn(|byte| ip[at + byte]);
                Ipv6Addr::from(octets).into()
            };
            return (of(8), of(24));
        }
        let of = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]).into();
        (of(12), of(16))
    }

    /// True if it carries VLAN tags.
    pub fn is_tagged(&self) -> bool {
        self.l3 > MACS + 2
    }

    /// The frame without VLAN tags.
    pub fn untagged(&self) -> Vec<u8> {
        [&self.frame[..MACS], &self.frame[self.l3 - 2..]].concat()
    }

    /// `other`, an untagged packet, from this one's VLAN tags on.
    pub fn with_tags_of_this(&self, other: &Packet<'_>) -> Vec<u8> {
        [&self.frame[MACS..self.l3 - 2], other.whole()].concat()
    }

    /// Everything from the VLAN tags to the packet's end, without what a router must change: TTL and IPv4 checksum
    /// are zero. Frames that have this in common are the same packet before and behind a router.
    pub fn unchanging(&self) -> Vec<u8> {
        let mut bytes = self.frame[MACS..self.end()].to_vec();
        let ip = self.l3 - MACS;
        if self.v6 {
            bytes[ip + 7] = 0;
        } else {
            bytes[ip + 8] = 0;
            bytes[ip + 10..ip + 12].fill(0);
        }
        bytes
    }

    /// From the VLAN tags to the packet's end, as it must come out of a router that lowers TTL by one.
    pub fn forwarded(&self) -> Vec<u8> {
        let mut bytes = self.frame[MACS..self.end()].to_vec();
        let ip = self.l3 - MACS;
        if self.v6 {
            bytes[ip + 7] = bytes[ip + 7].wrapping_sub(1);
            return bytes;
        }
        bytes[ip + 8] = bytes[ip + 8].wrapping_sub(1);
        bytes[ip + 10..ip + 12].fill(0);
        let header = usize::from(bytes[ip] & 0xf) * 4;
        let sum = checksum(&bytes[ip..(ip + header).min(bytes.len())]);
        bytes[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// From the VLAN tags to the packet's end, as it is.
    pub fn whole(&self) -> &'a [u8] {
        &self.frame[MACS..self.end()]
    }

    /// What follows the packet in its frame.
    pub fn padding(&self) -> &'a [u8] {
        &self.frame[self.end()..]
    }

    /// Names the flow and its direction: tags, addresses, protocol and ports; of fragments the identification in
    /// place of the ports.
    pub fn flow(&self) -> Flow {
        let (source, destination) = self.addresses();
        let ip = &self.frame[self.l3..self.end()];
        let (proto, upper, fragment) = if self.v6 {
            walk(ip)
        } else {
            let header = usize::from(ip[0] & 0xf) * 4;
            let fragment = (self.word(6) & 0x3fff != 0).then(|| self.word(4) as u32);
            (ip[9], header, fragment)
        };
        let ports = ip.get(upper..upper + 4).filter(|_| matches!(proto, 6 | 17 | 132));
        let ends = ports.map_or(0, |ports| u32::from_be_bytes([ports[0], ports[1], ports[2], ports[3]]));
        let tags = self.frame[MACS..self.l3 - 2].to_vec();
        Flow {
            tags,
            source,
            destination,
            proto,
            is_fragment: fragment.is_some(),
            ends: fragment.unwrap_or(ends),
        }
    }
}

/// One direction of a flow, or the fragments of one packet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Flow {
    tags: Vec<u8>,
    source: IpAddr,
    destination: IpAddr,
    proto: u8,
    /// True for fragments, which may overtake each other.
    pub is_fragment: bool,
    ends: u32,
}

/// Protocol behind IPv6's extension headers, where it begins, and the identification of a fragment.
fn walk(ip: &[u8]) -> (u8, usize, Option<u32>) {
    let (mut proto, mut at, mut fragment) = (ip[6], 40, None);
    loop {
        let Some(header) = ip.get(at..at + 8) else { return (proto, at, fragment) };
        match proto {
            0 | 43 | 60 => at += usize::from(header[1]) * 8 + 8,
            51 => at += usize::from(header[1]) * 4 + 8,
            44 => {
                at += 8;
                if header[2..4] != [0, 0] {
                    fragment = Some(u32::from_be_bytes([header[4], header[5], header[6], header[7]]));
                }
                if u16::from_be_bytes([header[2], header[3]]) >= 8 {
                    return (header[0], ip.len(), fragment);
                }
            }
            _ => return (proto, at, fragment),
        }
        proto = header[0];
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
