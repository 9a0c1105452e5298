//! The hosts' packets: made and read here without the dataplane's own code. Each has its own number in
//! the IPv4 identification, so that it can be followed wherever it goes.

use std::net::Ipv4Addr;

/// TCP flags.
pub const FIN: u8 = 1;
/// See [`FIN`].
pub const SYN: u8 = 2;
/// See [`FIN`].
pub const RST: u8 = 4;
/// See [`FIN`].
pub const ACK: u8 = 16;

/// First port of the clients; a flow's number is its client's port less this.
const CLIENT_PORT: u16 = 1000;
const SERVER_PORT: u16 = 80;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A segment's part beside its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// TCP flags.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledged.
    pub ack: u32,
    /// Bytes of payload.
    pub length: u32,
}

/// What an end puts on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// A TCP segment.
    Tcp(Segment),
    /// A UDP datagram.
    Udp,
}

/// A packet as its ends see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Its number.
    pub id: u16,
    /// The flow's number.
    pub flow: usize,
    /// Which end it comes from.
    pub from_client: bool,
    /// What it says.
    pub body: Body,
}

/// The two addresses of a flow; several flows share a server.
pub fn addresses(flow: usize) -> (Ipv4Addr, Ipv4Addr) {
    (Ipv4Addr::new(10, 1, (flow >> 8) as u8, flow as u8), Ipv4Addr::new(10, 2, 0, (flow % 3) as u8))
}

/// The flow's client port.
pub fn client_port(flow: usize) -> u16 {
    CLIENT_PORT + flow as u16
}

impl Sent {
    /// An Ethernet frame.
    pub fn to_frame(self) -> Vec<u8> {
        let (client, server) = addresses(self.flow);
        let ports = [client_port(self.flow), SERVER_PORT];
        let (source, destination, ports) =
            if self.from_client { (client, server, ports) } else { (server, client, [ports[1], ports[0]]) };
        let mut payload: Vec<u8> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
        let protocol = match self.body {
            Body::Udp => {
                payload.extend_from_slice(&[0, 12, 0, 0, b'p', b'i', b'n', b'g']);
                UDP
            }
            Body::Tcp(segment) => {
                payload.extend_from_slice(&segment.seq.to_be_bytes());
                payload.extend_from_slice(&segment.ack.to_be_bytes());
                payload.extend_from_slice(&[0x50, segment.flags, 0x20, 0, 0, 0, 0, 0]);
                payload.resize(payload.len() + segment.length as usize, b'x');
                TCP
            }
        };
        frame(self.id, protocol, source, destination, &payload)
    }

    /// Reads a frame of a host, forwarded or not.
    pub fn from_frame(frame: &[u8]) -> Option<Self> {
        let ip = frame.get(14..)?;
        let id = be16(ip, 4)?;
        let (from, to) = (be16(ip, 20)?, be16(ip, 22)?);
        let from_client = to == SERVER_PORT;
        let flow = usize::from((if from_client { from } else { to }).checked_sub(CLIENT_PORT)?);
        let body = match *ip.get(9)? {
            UDP => Body::Udp,
            TCP => Body::Tcp(Segment {
                flags: *ip.get(33)?,
                seq: be32(ip, 24)?,
                ack: be32(ip, 28)?,
                length: u32::from(be16(ip, 2)?) - 40,
            }),
            _ => return None,
        };
        Some(Self { id, flow, from_client, body })
    }
}

impl std::fmt::Display for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = if self.from_client { "c" } else { "s" };
        write!(f, "#{} {end}{} ", self.id, self.flow)?;
        let Body::Tcp(segment) = self.body else { return f.write_str("udp") };
        for (flag, name) in [(SYN, "SYN "), (FIN, "FIN "), (RST, "RST "), (ACK, "ACK ")] {
            if segment.flags & flag != 0 {
                f.write_str(name)?;
            }
        }
        write!(f, "seq {} ack {} len {}", segment.seq, segment.ack, segment.length)
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn frame(id: u16, protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    let mut header = [0u8; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    header[4..6].copy_from_slice(&id.to_be_bytes());
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let sum: u32 = header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(payload);
    frame
}
