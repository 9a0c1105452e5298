//! QUIC's cryptography, counted: which packets were sealed by who holds the key and are new, and which were not.
//!
//! All of it is rustls and ring; what is added is a counter where a packet is opened.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use quinn::crypto::{
    ClientConfig, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig,
    Session, UnsupportedVersion,
};
use quinn::{ConnectError, ConnectionId, Side};
use quinn_proto::TransportError;
use quinn_proto::transport_parameters::TransportParameters;

use super::arrivals::{Arrivals, Discard};

/// Packets behind the newest one within which QUIC tells new ones from those received before.
const WINDOW: u64 = 128;

/// A side's configuration, a connection's session or a key, with the counters.
pub(super) struct Counted<T: ?Sized> {
    arrivals: Arc<Arrivals>,
    inner: T,
}

impl<T> Counted<T> {
    /// Counts what is opened with keys that come of `inner`.
    pub(super) fn new(inner: T, arrivals: Arc<Arrivals>) -> Self {
        Self { arrivals, inner }
    }
}

impl<C: ClientConfig + 'static> ClientConfig for Counted<Arc<C>> {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let session = self.inner.clone().start_session(version, server_name, params)?;
        Ok(Box::new(Counted::new(session, self.arrivals.clone())))
    }
}

impl<S: ServerConfig + 'static> ServerConfig for Counted<Arc<S>> {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        Ok(counted(self.inner.initial_keys(version, dst_cid)?, &self.arrivals))
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.inner.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn Session> {
        let session = self.inner.clone().start_session(version, params);
        Box::new(Counted::new(session, self.arrivals.clone()))
    }
}

impl Session for Counted<Box<dyn Session>> {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        counted(self.inner.initial_keys(dst_cid, side), &self.arrivals)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.inner.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.inner.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        self.inner.write_handshake(buf).map(|keys| counted(keys, &self.arrivals))
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.inner.next_1rtt_keys().map(|keys| opening(keys, &self.arrivals))
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}

fn counted(keys: Keys, arrivals: &Arc<Arrivals>) -> Keys {
    Keys { header: keys.header, packet: opening(keys.packet, arrivals) }
}

/// The same keys; what the peer's opens is counted.
fn opening(keys: KeyPair<Box<dyn PacketKey>>, arrivals: &Arc<Arrivals>) -> KeyPair<Box<dyn PacketKey>> {
    let remote = Opening { inner: keys.remote, seen: Mutex::default(), arrivals: arrivals.clone() };
    KeyPair { local: keys.local, remote: Box::new(remote) }
}

/// A key of a peer.
struct Opening {
    inner: Box<dyn PacketKey>,
    seen: Mutex<Seen>,
    arrivals: Arc<Arrivals>,
}

impl PacketKey for Opening {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.inner.encrypt(packet, buf, header_len);
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        let opened = self.inner.decrypt(packet, header, payload);
        match &opened {
            Err(_) => self.arrivals.discard(Discard::Tag),
            // QUIC itself puts an old one away; it is counted here, where its number is known to be true.
            Ok(()) if self.seen.lock().unwrap_or_else(PoisonError::into_inner).is_new(packet) => {
                self.arrivals.took();
            }
            Ok(()) => self.arrivals.discard(Discard::Replay),
        }
        opened
    }

    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.inner.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.inner.integrity_limit()
    }
}

/// Numbers of packets received: a window below the highest, as QUIC keeps it.
#[derive(Default)]
struct Seen {
    /// One more than the highest.
    next: u64,
    /// Bit n: `next - 2 - n` was received.
    below: u128,
}

impl Seen {
    /// Notes a number; false if it was noted before or is too far behind to know.
    fn is_new(&mut self, number: u64) -> bool {
        if let Some(ahead) = number.checked_sub(self.next) {
            // What was the highest becomes a bit of the window.
            let shifted = (self.below << 1) | u128::from(self.next > 0);
            self.below = u32::try_from(ahead).ok().and_then(|by| shifted.checked_shl(by)).unwrap_or(0);
            self.next = number + 1;
            return true;
        }
        let behind = self.next - 1 - number;
        if behind == 0 || behind > WINDOW {
            return false;
        }
        let bit = 1 << (behind - 1);
        let new = self.below & bit == 0;
        self.below |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_new_once() {
        let mut seen = Seen::default();
        for (number, new) in [
            (0, true),
            (0, false),
            (3, true),
            (1, true),
            (1, false),
            (3, false),
            (2, true),
            (131, true),
            (3, false),
            (4, true),
            (2, false),
            (500, true),
            (372, true),
            (371, false),
            (372, false),
            (499, true),
            (500, false),
        ] {
            assert_eq!(seen.is_new(number), new, "{number}");
        }
    }
}
