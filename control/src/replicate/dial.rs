//! The connection this node dials to a peer: its records go out, acknowledgements come back.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, VarInt};
use tokio::time::{sleep, timeout};

use samepath_dataplane::flow::NodeId;

use super::limits::{BACKOFF_MS, HELLO_MS};
use super::machine::Side;
use super::refusal::{Ending, Refusal, ending};
use super::replicator::{PeerLink, Shared, refused_by_us};
use super::stream::{Frames, StreamEnd, write};
use super::tls;
use crate::keys::node_name;

/// Dials the peer again and again, for ever.
pub(super) async fn keep(shared: Arc<Shared>, endpoint: Endpoint, peer: NodeId) {
    let Some(link) = shared.peers.get(&peer) else { return };
    let mut backoff = Backoff::new();
    loop {
        if attempt(&shared, &endpoint, peer, link).await {
            backoff = Backoff::new();
        }
        sleep(Duration::from_millis(backoff.next_ms())).await;
    }
}

/// One connection from beginning to end; true if records could go over it.
async fn attempt(shared: &Shared, endpoint: &Endpoint, peer: NodeId, link: &PeerLink) -> bool {
    let address = link.address;
    let conclude = |ending| shared.concluded(Side::Sending, Some(peer), address, ending);
    let client = ClientConfig::clone(&shared.client.load());
    let connecting = endpoint.connect_with(client, address, &node_name(peer));
    let connection = match connecting {
        Ok(connecting) => match timeout(Duration::from_millis(HELLO_MS), connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                conclude(ending(&error, address));
                return false;
            }
            // Nobody is there: nothing to tell.
            Err(_) => return false,
        },
        Err(cause) => {
            let reason = format!("node {peer} at {address} cannot be dialled ({cause}): correct --peer");
            conclude(refused_by_us(&reason));
            return false;
        }
    };
    let (end, greeted) = match identify(shared, &connection, peer, link) {
        Ok(()) => match connection.open_bi().await {
            Ok((send, receive)) => {
                shared.adopt(peer, Side::Sending, connection.clone());
                converse(shared, send, receive, peer, link).await
            }
            Err(_) => (StreamEnd::Broken, false),
        },
        Err(refusal) => (refusal.into(), false),
    };
    conclude(close(&connection, end));
    greeted
}

/// Whether the certificate at the other end is that of the peer configured there.
fn identify(shared: &Shared, connection: &Connection, peer: NodeId, link: &PeerLink) -> Result<(), Refusal> {
    let me = shared.identity.node;
    let address = link.address;
    match tls::peer_of(connection) {
        Some(found) if found == peer => Ok(()),
        Some(found) if found == me => Err(Refusal::SameNode { node: me }),
        Some(found) => Err(Refusal::WrongPeer { me, peer, address, found }),
        None => Err(Refusal::Nameless { address }),
    }
}

/// Hello, then records out and acknowledgements in until the connection ends.
async fn converse(
    shared: &Shared,
    mut send: SendStream,
    receive: RecvStream,
    peer: NodeId,
    peer_link: &PeerLink,
) -> (StreamEnd, bool) {
    let link = shared.machine().dialled(peer);
    let mut greeted = false;
    let mut frames = Frames::new(receive, shared.identity.node, peer);
    let reading = async {
        loop {
            let message = if greeted { frames.next().await? } else { frames.hello().await? };
            shared.machine().handle_message(link, message, shared.now())?;
            greeted = true;
            shared.notice();
            peer_link.wake.notify_one();
        }
        #[expect(unreachable_code, reason = "gives the endless loop its error type")]
        Ok::<(), StreamEnd>(())
    };
    let end = tokio::select! {
        Err(end) = reading => end,
        end = write(shared, link, &mut send, &peer_link.wake) => end,
        () = peer_link.redial.notified() => StreamEnd::Broken,
    };
    shared.machine().closed(link, shared.now());
    (end, greeted)
}

/// Closes a connection for the reason its stream ended, and says what that means.
pub(super) fn close(connection: &Connection, end: StreamEnd) -> Ending {
    match (end, connection.close_reason()) {
        (StreamEnd::Refused(refusal), None) => {
            let reason = refusal.to_string();
            connection.close(VarInt::from_u32(refusal.code()), reason.as_bytes());
            refused_by_us(&reason)
        }
        (_, Some(error)) => ending(&error, connection.remote_address()),
        (StreamEnd::Broken, None) => {
            connection.close(VarInt::from_u32(0), b"");
            Ending::Lost
        }
    }
}

/// Pauses between attempts: doubled each time, and jittered so that nodes started together do not
/// dial each other in step.
struct Backoff {
    ms: u64,
}

impl Backoff {
    fn new() -> Self {
        Self { ms: BACKOFF_MS.0 }
    }

    fn next_ms(&mut self) -> u64 {
        let ms = self.ms;
        self.ms = (ms * 2).min(BACKOFF_MS.1);
        let random = RandomState::new().build_hasher().finish();
        ms * 3 / 4 + random % (ms / 4 + 1)
    }
}
