//! The socket of the control port with a gate in front: what cannot be a packet of the cluster ends here, counted, before
//! it costs QUIC anything and before anything is answered.

use std::collections::BTreeSet;
use std::io::{Cursor, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionIdGenerator, UdpPoller};
use quinn_proto::{FixedLengthConnectionIdParser, HashedConnectionIdGenerator, ProtectedHeader};

use super::arrivals::{Arrivals, Discard};

/// QUIC version 1 (RFC 9000), which all nodes speak.
pub(super) const VERSION: u32 = 1;

/// Datagrams that begin a connection are at least so long (RFC 9000 section 14.1).
const INITIAL_MIN: usize = 1200;

/// The least after the unprotected header: a packet number as long as may be, and a sample of the text behind it to
/// unprotect the header with (RFC 9001 section 5.4.2).
const PROTECTED_MIN: usize = 4 + 16;

/// A socket that hands on only what may be for this node.
#[derive(Debug)]
pub(super) struct Gate {
    socket: Arc<dyn AsyncUdpSocket>,
    judge: Judge,
}

/// What a datagram is, by its first packet.
enum First<'a> {
    /// QUIC is to have it; packets may follow.
    Ours(&'a [u8]),
    /// It ends here.
    Not(Discard),
    /// The same, unless it is a peer's stateless reset (RFC 9000 section 10.3), which looks as if it named a connection:
    /// QUIC knows those it may get, and answers no other.
    Perhaps(Discard),
}

/// What tells packets of the cluster from others.
pub(super) struct Judge {
    peers: BTreeSet<IpAddr>,
    /// Knows the names (connection ids) this node gives out.
    names: HashedConnectionIdGenerator,
    arrivals: Arc<Arrivals>,
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge").field("peers", &self.peers).finish_non_exhaustive()
    }
}

impl Judge {
    /// `names`: the key of the connection ids this node gives out.
    pub(super) fn new(peers: BTreeSet<IpAddr>, names: u64, arrivals: Arc<Arrivals>) -> Self {
        Self { peers, names: HashedConnectionIdGenerator::from_key(names), arrivals }
    }

    /// Counts what is in a datagram; true if QUIC is to have it.
    fn admits(&self, from: IpAddr, datagram: &[u8]) -> bool {
        self.arrivals.arrived();
        let first = self.first(from, datagram);
        match first {
            First::Ours(rest) => self.count(rest),
            First::Not(why) | First::Perhaps(why) => self.arrivals.discard(why),
        }
        !matches!(first, First::Not(_))
    }

    /// Judges a datagram by its first packet, which QUIC goes by too.
    fn first<'a>(&self, from: IpAddr, datagram: &'a [u8]) -> First<'a> {
        let (header, rest) = match self.split(datagram) {
            Ok(split) => split,
            Err(why) => return First::Not(why),
        };
        let is_peer = self.peers.contains(&from.to_canonical());
        let is_named = self.names.validate(header.dst_cid()).is_ok();
        match header {
            // Who connects without being a peer is told so: see `accept`.
            ProtectedHeader::Initial(_) if is_peer || datagram.len() >= INITIAL_MIN => First::Ours(rest),
            _ if !is_peer => First::Not(Discard::Stranger),
            // A client names the connection itself in its Initial; in all others the receiver has named it.
            _ if is_named => First::Ours(rest),
            ProtectedHeader::Short { .. } => First::Perhaps(Discard::Connection),
            _ => First::Not(Discard::Connection),
        }
    }

    /// Counts the packets behind the first one. QUIC ends where one cannot be read.
    fn count(&self, mut rest: &[u8]) {
        while !rest.is_empty() {
            self.arrivals.arrived();
            match self.split(rest) {
                Ok((_, after)) => rest = after,
                Err(why) => return self.arrivals.discard(why),
            }
        }
    }

    /// Reads a packet's header and cuts off what follows the packet.
    fn split<'a>(&self, bytes: &'a [u8]) -> Result<(ProtectedHeader, &'a [u8]), Discard> {
        let parser = FixedLengthConnectionIdParser::new(self.names.cid_len());
        let mut cursor = Cursor::new(BytesMut::from(bytes));
        let header = ProtectedHeader::decode(&mut cursor, &parser, &[VERSION], true)
            .map_err(|_| Discard::Malformed)?;
        let read = cursor.position();
        let protected = match &header {
            ProtectedHeader::Initial(initial) => initial.len,
            ProtectedHeader::Long { len, .. } => *len,
            ProtectedHeader::Short { .. } => bytes.len() as u64 - read,
            // Neither has a protected part, and nothing follows.
            ProtectedHeader::Retry { .. } | ProtectedHeader::VersionNegotiate { .. } => {
                return Ok((header, &[]));
            }
        };
        let end = read.checked_add(protected).filter(|&end| end <= bytes.len() as u64);
        let end = end.filter(|_| protected >= PROTECTED_MIN as u64).ok_or(Discard::Malformed)?;
        Ok((header, &bytes[end as usize..]))
    }

    /// Keeps of received datagrams those QUIC is to have, moved together. The kernel hands on several of one sender as
    /// one piece of memory; all but the last are `stride` bytes long.
    fn sift(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let (from, stride) = (meta.addr.ip(), meta.stride.max(1));
        let mut kept = 0;
        for start in (0..meta.len).step_by(stride) {
            let end = meta.len.min(start + stride);
            if self.admits(from, &buffer[start..end]) {
                buffer.copy_within(start..end, kept);
                kept += end - start;
            }
        }
        meta.len = kept;
    }
}

impl Gate {
    /// Puts `judge` in front of `socket`.
    pub(super) fn new(socket: Arc<dyn AsyncUdpSocket>, judge: Judge) -> Self {
        Self { socket, judge }
    }
}

impl AsyncUdpSocket for Gate {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> std::io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<std::io::Result<usize>> {
        let received = ready!(self.socket.poll_recv(cx, buffers, meta))?;
        for (buffer, meta) in buffers.iter_mut().zip(meta).take(received) {
            self.judge.sift(buffer, meta);
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}
