//! Connections peers dial: their records come in and are acknowledged when the consumer has them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, Endpoint, Incoming, VarInt};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use samepath_dataplane::flow::NodeId;

use super::arrivals::Discard;
use super::dial::close;
use super::event::PeerEvent;
use super::limits::HELLO_MS;
use super::machine::{Link, Side};
use super::message::Message;
use super::refusal::{OTHER_KEYS, Refusal, SUPERSEDED, ending};
use super::replicator::{Shared, refused_by_us};
use super::stream::{Frames, StreamEnd, write};
use super::tls;

/// Accepts for ever. Ends, with all connections, when it is dropped.
pub(super) async fn serve(shared: Arc<Shared>, endpoint: Endpoint, events: mpsc::Sender<PeerEvent>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => match welcome(&shared, &incoming, connections.len()) {
                    Ok(()) => drop(connections.spawn(receive(shared.clone(), incoming, events.clone()))),
                    Err(why) => {
                        shared.arrivals.discard(why);
                        incoming.refuse();
                    }
                },
                None => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Strangers are turned away before their handshake costs anything; and so is a peer that dials
/// faster than its old connections end.
fn welcome(shared: &Shared, incoming: &Incoming, connections: usize) -> Result<(), Discard> {
    let address = incoming.remote_address();
    let from = address.ip().to_canonical();
    if shared.peers.values().any(|peer| peer.address.ip() == from) {
        let has_room = connections < 8 * shared.peers.len();
        return has_room.then_some(()).ok_or(Discard::Crowded);
    }
    let reason = format!(
        "something at {from} connects to the control port, but no peer is configured at that address: add it with --peer if it is a node"
    );
    shared.concluded(Side::Receiving, None, address, refused_by_us(&reason));
    Err(Discard::Stranger)
}

/// One connection from beginning to end.
async fn receive(shared: Arc<Shared>, incoming: Incoming, events: mpsc::Sender<PeerEvent>) {
    let address = incoming.remote_address();
    let keys = shared.client.load_full();
    let at_address = peer_at(&shared, address.ip());
    let connection = match timeout(Duration::from_millis(HELLO_MS), incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            shared.arrivals.fail();
            let ending = ending(&error, address);
            return shared.concluded(Side::Receiving, at_address, address, ending);
        }
        Err(_) => return shared.arrivals.fail(),
    };
    let (peer, end) = match identify(&shared, &connection) {
        Err(refusal) => {
            shared.arrivals.fail();
            (at_address, refusal.into())
        }
        // Keys were renewed while this one shook hands under the old ones.
        Ok(peer) if !Arc::ptr_eq(&keys, &shared.client.load()) => {
            connection.close(VarInt::from_u32(SUPERSEDED), OTHER_KEYS);
            (Some(peer), StreamEnd::Broken)
        }
        Ok(peer) => (Some(peer), converse(&shared, &connection, peer, events).await),
    };
    shared.concluded(Side::Receiving, peer, address, close(&connection, end));
}

/// The peer configured at an address, if there is just one.
fn peer_at(shared: &Shared, address: IpAddr) -> Option<NodeId> {
    let address = address.to_canonical();
    let mut there = shared.peers.iter().filter(|(_, peer)| peer.address.ip() == address);
    let (&peer, _) = there.next()?;
    there.next().is_none().then_some(peer)
}

/// The configured peer whose certificate the other end holds, if it comes from its address. The
/// port does not matter: the certificate names the node, the address guards against two with one.
fn identify(shared: &Shared, connection: &Connection) -> Result<NodeId, Refusal> {
    let me = shared.identity.node;
    let address: SocketAddr = connection.remote_address();
    let from = address.ip().to_canonical();
    let peer = tls::peer_of(connection).ok_or(Refusal::Nameless { address })?;
    if peer == me {
        return Err(Refusal::SameNode { node: me });
    }
    let configured = shared.peers.get(&peer).ok_or(Refusal::UnknownNode { me, peer })?;
    let configured = configured.address.ip();
    if configured != from {
        return Err(Refusal::Address { me, peer, from, configured });
    }
    Ok(peer)
}

/// Hello, then records in and acknowledgements out until the connection ends.
async fn converse(
    shared: &Shared,
    connection: &Connection,
    peer: NodeId,
    events: mpsc::Sender<PeerEvent>,
) -> StreamEnd {
    let stream = timeout(Duration::from_millis(HELLO_MS), connection.accept_bi()).await;
    let (mut send, receive) = match stream {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return StreamEnd::Broken,
        Err(_) => return Refusal::Silent { me: shared.identity.node, peer }.into(),
    };
    let link = shared.machine().accepted(peer);
    let wake = Notify::new();
    let datagrams = events.clone();
    let mut frames = Frames::new(receive, shared.identity.node, peer);
    let reading = async {
        let hello = frames.hello().await?;
        take(shared, link, hello, &events).await?;
        greeted(shared, connection, peer);
        wake.notify_one();
        loop {
            let message = frames.next().await?;
            take(shared, link, message, &events).await?;
            wake.notify_one();
        }
    };
    let end: Result<(), StreamEnd> = tokio::select! {
        end = reading => end,
        end = write(shared, link, &mut send, &wake) => Err(end),
        end = datagrams_in(connection, peer, &datagrams) => Err(end),
    };
    shared.machine().closed(link, shared.now());
    end.err().unwrap_or(StreamEnd::Broken)
}

/// Datagrams in, for ever. One for which the consumer has no place is lost, as any may be.
async fn datagrams_in(connection: &Connection, from: NodeId, events: &mpsc::Sender<PeerEvent>) -> StreamEnd {
    while let Ok(bytes) = connection.read_datagram().await {
        let _ = events.try_send(PeerEvent::Datagram { from, bytes });
    }
    StreamEnd::Broken
}

/// Hands a message to the machine and what it means to the consumer. The place comes first: what the machine has taken
/// counts as acknowledged. While there is none the stream is not read, and QUIC holds the peer back.
async fn take(
    shared: &Shared,
    link: Link,
    message: Message,
    events: &mpsc::Sender<PeerEvent>,
) -> Result<(), StreamEnd> {
    let place = events.reserve().await.map_err(|_| StreamEnd::Broken)?;
    if let Some(event) = shared.machine().handle_message(link, message, shared.now())? {
        place.send(event);
    }
    Ok(())
}

/// The peer's records come over this connection from now on.
fn greeted(shared: &Shared, connection: &Connection, peer: NodeId) {
    shared.adopt(peer, Side::Receiving, connection.clone());
    shared.notice();
    if shared.machine().is_outdated(peer)
        && let Some(link) = shared.peers.get(&peer)
    {
        link.redial.notify_one();
    }
}
