//! The two netlink sockets: one that is told of changes and asks for neighbours, one per listing.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    Emitable, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NLMSG_OVERRUN, NetlinkBuffer, NetlinkHeader, NetlinkMessage, Parseable,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, Socket, SocketAddr, TokioSocket, protocols};
use rustix::net::sockopt;
use tracing::debug;

use super::PortLink;
use super::message::{self, Fact};
use super::mirror::Mirror;

/// Multicast groups (linux/rtnetlink.h): link, neigh, ipv4-ifaddr, ipv4-route, ipv6-ifaddr,
/// ipv6-route, nexthop.
const GROUPS: [u32; 7] = [1, 3, 5, 7, 9, 11, 32];

/// Receive buffer, bytes: some ten thousand notifications, as a routing daemon sends them in a burst
/// while a listing is being read. An overflow costs another listing, nothing is lost.
const RECEIVE_BUFFER: usize = 8 << 20;

/// Requests for listings: message type, length of its fixed header, address family. Links come first
/// because everything else refers to them, next-hop objects before routes.
const LISTINGS: [(u16, usize, u8); 6] = [
    (18, 16, 0),  // RTM_GETLINK, struct ifinfomsg
    (22, 8, 0),   // RTM_GETADDR, struct ifaddrmsg
    (30, 12, 0),  // RTM_GETNEIGH, struct ndmsg
    (106, 8, 0),  // RTM_GETNEXTHOP, struct nhmsg
    (26, 12, 2),  // RTM_GETROUTE, struct rtmsg, AF_INET
    (26, 12, 10), // RTM_GETROUTE, struct rtmsg, AF_INET6
];
const RTM_GETNEXTHOP: u16 = 106;

/// A listing during which the kernel's tables changed may miss entries and is made again, this often;
/// after that the notifications received meanwhile have to do.
const LISTING_ATTEMPTS: usize = 5;

const ENOBUFS: i32 = 105;

/// What came from the kernel.
#[derive(Debug)]
pub enum Received {
    /// Changes, in order.
    Facts(Vec<Fact>),
    /// Changes were lost: the socket's buffer was full, or a message could not be read.
    Lost,
}

/// The socket that is told of changes. Belongs to the network namespace of the thread that opened it.
pub struct Notifications {
    socket: TokioSocket,
}

impl Notifications {
    /// Opens and subscribes; from now on no change goes unnoticed.
    pub fn open() -> io::Result<Self> {
        let socket = open()?;
        for group in GROUPS {
            // Kernels before 5.3 have no next-hop objects and refuse their group.
            match socket.socket_ref().add_membership(group) {
                Err(error) if group != 32 => return Err(error),
                _ => {}
            }
        }
        Ok(Self { socket })
    }

    /// Waits for changes. Cancel safe: nothing is taken from the socket before it is returned.
    pub async fn receive(&self) -> io::Result<Received> {
        let bytes = match self.socket.recv_from_full().await {
            Ok((bytes, _)) => bytes,
            Err(error) if error.raw_os_error() == Some(ENOBUFS) => return Ok(Received::Lost),
            Err(error) => return Err(error),
        };
        let mut facts = Vec::new();
        for message in messages(&bytes) {
            let Ok((header, payload)) = message else { return Ok(Received::Lost) };
            match header.message_type {
                // A request for a neighbour failed, for example on an interface that just vanished.
                NLMSG_ERROR => debug!(error = ?error_of(payload), "the kernel refused a request"),
                NLMSG_OVERRUN => return Ok(Received::Lost),
                _ => facts.extend(read(&header, payload)),
            }
        }
        Ok(Received::Facts(facts))
    }

    /// Asks the kernel to resolve or confirm a neighbour, as if a packet waited for it (`NTF_USE`).
    /// Does not wait; the answer is a notification.
    pub fn probe(&self, ifindex: u32, address: IpAddr) -> io::Result<()> {
        let mut neighbour = NeighbourMessage::default();
        neighbour.header.ifindex = ifindex;
        neighbour.header.flags = NeighbourFlags::Use;
        let destination = match address {
            IpAddr::V4(v4) => {
                neighbour.header.family = AddressFamily::Inet;
                NeighbourAddress::Inet(v4)
            }
            IpAddr::V6(v6) => {
                neighbour.header.family = AddressFamily::Inet6;
                NeighbourAddress::Inet6(v6)
            }
        };
        neighbour.attributes.push(NeighbourAttribute::Destination(destination));
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_CREATE;
        let payload = RouteNetlinkMessage::NewNeighbour(neighbour).into();
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.socket_ref().send(&bytes, 0).map(|_| ())
    }
}

/// Lists everything anew into an empty mirror.
pub async fn list(ports: &[PortLink]) -> io::Result<Mirror> {
    let mut attempt = 1;
    loop {
        let socket = open()?;
        let mut mirror = Mirror::new(ports);
        let mut interrupted = false;
        for (sequence, listing) in (1..).zip(LISTINGS) {
            interrupted |= list_one(&socket, listing, sequence, &mut mirror).await?;
        }
        if !interrupted || attempt == LISTING_ATTEMPTS {
            return Ok(mirror);
        }
        attempt += 1;
    }
}

/// Returns whether the listing was interrupted by a change.
async fn list_one(
    socket: &TokioSocket,
    (message_type, header_len, family): (u16, usize, u8),
    sequence: u32,
    mirror: &mut Mirror,
) -> io::Result<bool> {
    socket.send(&request(message_type, header_len, family, sequence)).await?;
    let mut interrupted = false;
    loop {
        let (bytes, _) = socket.recv_from_full().await?;
        for message in messages(&bytes) {
            let (header, payload) = message?;
            if header.sequence_number != sequence {
                continue;
            }
            interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
            match header.message_type {
                NLMSG_DONE => return Ok(interrupted),
                NLMSG_ERROR if message_type == RTM_GETNEXTHOP => return Ok(interrupted),
                NLMSG_ERROR => return Err(error_of(payload)),
                _ => {
                    if let Some(fact) = read(&header, payload) {
                        mirror.apply(fact.listed());
                    }
                }
            }
        }
    }
}

fn open() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocols::NETLINK_ROUTE)?;
    let raw: &mut Socket = socket.socket_mut();
    raw.bind(&SocketAddr::new(0, 0))?;
    raw.connect(&SocketAddr::new(0, 0))?;
    // Beyond the system's limit only with CAP_NET_ADMIN; without it the default must do.
    let _ = sockopt::set_socket_recv_buffer_size_force(raw, RECEIVE_BUFFER);
    Ok(socket)
}

fn request(message_type: u16, header_len: usize, family: u8, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    let mut bytes = vec![0; header.buffer_len() + header_len];
    header.length = bytes.len() as u32;
    header.message_type = message_type;
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    header.sequence_number = sequence;
    header.emit(&mut bytes);
    bytes[header.buffer_len()] = family;
    bytes
}

/// The messages of one datagram.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = io::Result<(NetlinkHeader, &[u8])>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut bytes);
        let parsed = NetlinkBuffer::new_checked(rest)
            .and_then(|buffer| Ok((NetlinkHeader::parse(&buffer)?, buffer.payload())));
        Some(match parsed {
            Ok((header, payload)) => {
                let length = (header.length as usize).next_multiple_of(4);
                bytes = rest.get(length..).unwrap_or_default();
                Ok((header, payload))
            }
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        })
    })
}

/// A message that cannot be read is left out: it tells of something this version does not know.
fn read(header: &NetlinkHeader, payload: &[u8]) -> Option<Fact> {
    message::read(header, payload).unwrap_or_else(|error| {
        debug!(message_type = header.message_type, %error, "netlink message not understood");
        None
    })
}

/// struct nlmsgerr begins with a negative errno.
fn error_of(payload: &[u8]) -> io::Error {
    let errno = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    io::Error::from_raw_os_error(errno.saturating_neg())
}
