//! The replication machine: log, cursors, acknowledgements, bulk syncs of all peers. No sockets, no
//! clock; what carries its frames (ordered, reliable until it breaks) is in the files around it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::keyring::PeerKey;
use samepath_dataplane::wire::record::Record;

use super::event::{BulkRoom, PeerEvent, PeerStats};
use super::hello::Identity;
use super::limits::{REFUSALS, STRANGER_MS};
use super::log::Log;
use super::message::{self, Claim, Malformed, Message};
use super::receiver::Receiver;
use super::refusal::{By, Refusal};
use super::sender::Sender;

/// Which way records go over a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// This node dialled; its records go to the peer.
    Sending,
    /// The peer dialled; its records come here.
    Receiving,
}

/// One connection, as the machine names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Link {
    /// Which way records go.
    pub side: Side,
    /// The other end.
    pub peer: NodeId,
    id: u32,
}

/// See the file's first lines.
#[derive(Debug)]
pub struct Machine {
    identity: Identity,
    log: Log,
    peers: BTreeMap<NodeId, Peer>,
    events: VecDeque<PeerEvent>,
    links: u32,
    stranger_at: Option<NowMs>,
}

#[derive(Debug)]
struct Peer {
    address: SocketAddr,
    sender: Sender,
    receiver: Receiver,
    /// The version agreed on, by [`Side`].
    version: [u8; 2],
    /// What was last refused, by [`Side`].
    refused: [Option<(By, String)>; 2],
}

impl Machine {
    /// A machine for these peers, none connected; `log_capacity` in records.
    pub fn new(identity: Identity, peers: &[(NodeId, SocketAddr)], log_capacity: usize) -> Self {
        let peer = |&(node, address): &(NodeId, SocketAddr)| {
            let sender = Sender::new(node, identity.started);
            let receiver = Receiver::new(node);
            (node, Peer { address, sender, receiver, version: [message::VERSION; 2], refused: [None, None] })
        };
        Self {
            identity,
            log: Log::new(log_capacity),
            peers: peers.iter().map(peer).collect(),
            events: VecDeque::new(),
            links: 0,
            stranger_at: None,
        }
    }

    /// A change for all peers.
    pub fn publish(&mut self, record: &Record, now: NowMs) {
        if self.log.push(record, now) {
            self.trim();
        }
    }

    /// Forgets what no peer needs.
    fn trim(&mut self) {
        let first = self.log.first();
        let mut needed = self.log.next();
        for peer in self.peers.values_mut() {
            peer.sender.forgotten(first);
            needed = needed.min(peer.sender.needs().unwrap_or(needed));
        }
        self.log.trim(needed);
    }

    /// A connection this node dialled stands.
    pub fn dialled(&mut self, peer: NodeId) -> Link {
        let link = self.link(Side::Sending, peer);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.sender.up(link.id);
        }
        link
    }

    /// A connection the peer dialled stands. It counts from its Hello on.
    pub fn accepted(&mut self, peer: NodeId) -> Link {
        self.link(Side::Receiving, peer)
    }

    fn link(&mut self, side: Side, peer: NodeId) -> Link {
        self.links = self.links.wrapping_add(1);
        Link { side, peer, id: self.links }
    }

    /// A connection has ended.
    pub fn closed(&mut self, link: Link, now: NowMs) {
        let Some(peer) = self.peers.get_mut(&link.peer) else { return };
        let (sender, receiver) = (&mut peer.sender, &mut peer.receiver);
        if sender.link == Some(link.id) && sender.down(now) {
            self.events.push_back(PeerEvent::Lost { peer: link.peer });
        }
        if receiver.link == Some(link.id) {
            receiver.down();
        }
    }

    /// Takes a message. What it returns must reach the consumer: it counts as acknowledged.
    pub fn handle_message(
        &mut self,
        link: Link,
        message: Message,
        now: NowMs,
    ) -> Result<Option<PeerEvent>, Refusal> {
        let me = self.identity.node;
        let malformed = |cause| Refusal::Malformed { me, peer: link.peer, cause };
        let Some(peer) = self.peers.get_mut(&link.peer) else { return Ok(None) };
        match (link.side, message) {
            (Side::Sending, _) if peer.sender.link != Some(link.id) => Ok(None),
            (Side::Sending, Message::Hello(hello)) => {
                peer.version[Side::Sending as usize] = self.identity.check(link.peer, &hello)?;
                let boot_id = self.identity.boot_id;
                if !peer.sender.greeted(&hello, boot_id, &self.log, &mut self.events) {
                    return Err(malformed(Malformed::Order(Message::Hello(hello).kind())));
                }
                peer.refused[Side::Sending as usize] = None;
                Ok(None)
            }
            (Side::Sending, Message::Ack(ack)) => {
                if !peer.sender.acknowledged(ack, &mut self.events) {
                    return Err(malformed(Malformed::Order(Message::Ack(ack).kind())));
                }
                self.trim();
                Ok(None)
            }
            (Side::Sending, Message::Unknown(_)) => Ok(None),
            (Side::Sending, other) => Err(malformed(Malformed::Order(other.kind()))),
            (Side::Receiving, Message::Hello(hello)) if peer.receiver.link != Some(link.id) => {
                peer.version[Side::Receiving as usize] = self.identity.check(link.peer, &hello)?;
                let restarted = peer.receiver.greeted(&hello, link.id);
                peer.refused[Side::Receiving as usize] = None;
                Ok(restarted.then_some(PeerEvent::Restarted { from: link.peer }))
            }
            (Side::Receiving, message) if peer.receiver.link == Some(link.id) => {
                let from = peer.receiver.handle(message, now);
                from.map_err(malformed)
            }
            (Side::Receiving, _) => Ok(None),
        }
    }

    /// The time [`Self::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, link: Link, now: NowMs) {
        if let Some(peer) = self.peers.get_mut(&link.peer)
            && link.side == Side::Receiving
            && peer.receiver.link == Some(link.id)
        {
            peer.receiver.handle_timeout(now);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called for this link.
    pub fn poll_timeout(&self, link: Link) -> Option<NowMs> {
        let receiver = &self.peers.get(&link.peer)?.receiver;
        let current = link.side == Side::Receiving && receiver.link == Some(link.id);
        receiver.poll_timeout().filter(|_| current)
    }

    /// The next frame for this link. To be called when the link has room: what is returned counts
    /// as sent.
    pub fn poll_message(&mut self, link: Link, now: NowMs) -> Option<Vec<u8>> {
        let Peer { sender, receiver, version, .. } = self.peers.get_mut(&link.peer)?;
        let held = receiver.held();
        let hello = || self.identity.hello(held, now);
        let mut frame = match link.side {
            Side::Sending if sender.link == Some(link.id) => sender.poll(&self.log, hello, &mut self.events),
            Side::Receiving if receiver.link == Some(link.id) => receiver.poll(hello),
            _ => None,
        }?;
        message::speak(version[link.side as usize], &mut frame);
        Some(frame)
    }

    /// What the consumer must know beside what [`Self::handle_message`] returned.
    pub fn poll_event(&mut self) -> Option<PeerEvent> {
        self.events.pop_front()
    }

    /// Sessions this node owns, for the bulk sync the peer was announced with. Always taken unless
    /// the sync is over.
    pub fn bulk(&mut self, peer: NodeId, sync: u32, records: &[Record]) -> BulkRoom {
        let next = self.log.next();
        self.sender(peer).map_or(BulkRoom::Over, |sender| sender.bulk(sync, records, next))
    }

    /// Whether the sync wants pages now.
    pub fn bulk_room(&mut self, peer: NodeId, sync: u32) -> BulkRoom {
        self.sender(peer).map_or(BulkRoom::Over, |sender| sender.bulk_room(sync))
    }

    /// No further pages follow. False if that sync is over.
    pub fn bulk_done(&mut self, peer: NodeId, sync: u32) -> bool {
        let next = self.log.next();
        self.sender(peer).is_some_and(|sender| sender.bulk_done(sync, next))
    }

    /// A change could not be published: every peer gets a bulk sync.
    pub fn resync_all(&mut self) {
        for peer in self.peers.values_mut() {
            peer.sender.resync();
        }
    }

    /// Asks a claim's Owner, best effort.
    pub fn claim_check(&mut self, to: NodeId, claim: Claim) {
        if let Some(sender) = self.sender(to) {
            sender.check(claim);
        }
    }

    /// Tells a Director that its claim is void, best effort.
    pub fn claim_denied(&mut self, to: NodeId, claim: Claim) {
        if let Some(sender) = self.sender(to) {
            sender.deny(claim);
        }
    }

    /// Hands a session over to a peer, best effort.
    pub fn hand_over(&mut self, to: NodeId, record: &Record) {
        if let Some(sender) = self.sender(to) {
            sender.hand_over(record);
        }
    }

    /// Gives a peer a key to speak to this node with in the tunnel, if it is connected.
    pub fn give_key(&mut self, to: NodeId, key: PeerKey) {
        if let Some(sender) = self.sender(to) {
            sender.give_key(key);
        }
    }

    /// Asks a peer an operator's question; false if it cannot be asked now.
    pub fn question(&mut self, to: NodeId, number: u32, text: &[u8]) -> bool {
        self.sender(to).is_some_and(|sender| sender.say(message::question(number, text)))
    }

    /// Answers a peer's question, best effort.
    pub fn answer(&mut self, to: NodeId, number: u32, text: &[u8]) {
        if let Some(sender) = self.sender(to) {
            sender.say(message::answer(number, text));
        }
    }

    fn sender(&mut self, peer: NodeId) -> Option<&mut Sender> {
        self.peers.get_mut(&peer).map(|peer| &mut peer.sender)
    }

    /// The peer has said, on any link, that it leaves.
    pub fn left(&mut self, peer: NodeId) {
        if self.peers.get_mut(&peer).is_some_and(|peer| peer.receiver.leaves()) {
            self.events.push_back(PeerEvent::Leaving { from: peer });
        }
    }

    /// The link towards the peer belongs to a process that no longer runs: the peer has dialled
    /// with another boot id.
    pub fn is_outdated(&self, peer: NodeId) -> bool {
        self.peers
            .get(&peer)
            .is_some_and(|peer| peer.sender.is_live() && peer.sender.boot_id != peer.receiver.held().boot_id)
    }

    /// A connection was refused. Told to the consumer once per reason; strangers now and then.
    pub fn refused(
        &mut self,
        side: Side,
        peer: Option<NodeId>,
        address: SocketAddr,
        (by, reason): (By, String),
        now: NowMs,
    ) {
        let known = peer.and_then(|node| self.peers.get_mut(&node));
        let news = match known {
            Some(peer) => {
                let slot = &mut peer.refused[side as usize];
                let refused = Some((by, reason.clone()));
                let news = *slot != refused;
                *slot = refused;
                news
            }
            None => {
                let due = self.stranger_at.is_none_or(|at| now.since(at) >= STRANGER_MS);
                let news = due && self.events.len() < REFUSALS;
                if news {
                    self.stranger_at = Some(now);
                }
                news
            }
        };
        if news {
            self.events.push_back(PeerEvent::Refused { peer, address, reason, by });
        }
    }

    /// Every connected peer has acknowledged everything.
    pub fn is_flushed(&self) -> bool {
        self.peers.values().all(|peer| peer.sender.is_flushed(&self.log))
    }

    /// What is known of each peer, ascending; round trips are the shell's to add.
    pub fn stats(&self, now: NowMs) -> Vec<PeerStats> {
        self.peers.iter().map(|(&node, peer)| self.peer_stats(node, peer, now)).collect()
    }

    fn peer_stats(&self, node: NodeId, peer: &Peer, now: NowMs) -> PeerStats {
        let (sent, acked) = peer.sender.progress();
        let (lag_records, lag_ms) = peer.sender.lag(&self.log, now);
        let (resent, bulk_syncs, claims_dropped) = peer.sender.counts();
        let held = peer.receiver.held();
        PeerStats {
            peer: node,
            address: peer.address,
            connected: peer.sender.is_live(),
            receiving: peer.receiver.link.is_some(),
            sent,
            acked,
            received: held.sequence,
            lag_records,
            lag_ms,
            resent,
            bulk_syncs,
            syncing: peer.sender.is_syncing(),
            whole: held.whole,
            claims_dropped,
            refused: peer.refused.iter().flatten().next().map(|(_, reason)| reason.clone()),
            rtt_ms: None,
        }
    }

    /// Changes that the connected peer furthest behind has not acknowledged.
    pub fn lag(&self) -> u64 {
        let live = self.peers.values().filter(|peer| peer.sender.is_live());
        live.map(|peer| self.log.next() - 1 - peer.sender.progress().1).max().unwrap_or(0)
    }

    /// Records held for peers that have not acknowledged them.
    pub fn log_len(&self) -> usize {
        self.log.len()
    }
}
