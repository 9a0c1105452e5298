//! TCP segments of many established connections, IPv4 and IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::ipv4;
use crate::wire::tcp::{ACK, SYN};

/// IP version of measured flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Self::V4, Self::V6];

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name)
    }

    /// As it is written in names of figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

/// Connection `number`: clients with 32,768 ports each, one server.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    client: (IpAddr, u16),
    server: (IpAddr, u16),
}

impl Connection {
    /// Its ends.
    pub fn new(family: Family, number: u32) -> Self {
        let (host, port) = (number >> 15, 1024 + (number & 0x7fff) as u16);
        match family {
            Family::V4 => Self {
                client: (Ipv4Addr::from(0x0a00_0001 + host).into(), port),
                server: (Ipv4Addr::new(192, 0, 2, 9).into(), 443),
            },
            Family::V6 => Self {
                client: (Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1 + host as u16).into(), port),
                server: (Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 9).into(), 443),
            },
        }
    }

    /// The three segments of its handshake, with the side each arrives from (true: the client's).
    pub fn handshake(&self) -> [(bool, Vec<u8>); 3] {
        [
            (true, self.segment(true, SYN, 100, 0)),
            (false, self.segment(false, SYN | ACK, 500, 101)),
            (true, self.segment(true, ACK, 101, 501)),
        ]
    }

    /// An ACK of the established connection, as small as one can be.
    pub fn ack(&self, from_client: bool) -> Vec<u8> {
        if from_client { self.segment(true, ACK, 101, 501) } else { self.segment(false, ACK, 501, 101) }
    }

    /// A segment without payload and options, 54 (IPv4) or 74 bytes long.
    fn segment(&self, from_client: bool, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
        let (source, destination) =
            if from_client { (self.client, self.server) } else { (self.server, self.client) };
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        match (source.0, destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => push_ipv4(&mut frame, source, destination),
            (IpAddr::V6(source), IpAddr::V6(destination)) => push_ipv6(&mut frame, source, destination),
            _ => unreachable!("both ends of a connection are of one IP version"),
        }
        frame.extend(source.1.to_be_bytes());
        frame.extend(destination.1.to_be_bytes());
        frame.extend(seq.to_be_bytes());
        frame.extend(ack.to_be_bytes());
        frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame
    }
}

fn push_ipv4(frame: &mut Vec<u8>, source: Ipv4Addr, destination: Ipv4Addr) {
    let mut header = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let checksum = ipv4::checksum(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend([0x08, 0x00]);
    frame.extend(header);
}

fn push_ipv6(frame: &mut Vec<u8>, source: Ipv6Addr, destination: Ipv6Addr) {
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
}
