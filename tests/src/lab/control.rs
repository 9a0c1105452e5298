//! A node's control thread without sockets and clock: the true replication machine and the true membership,
//! joined to the worker as the daemon joins them (`control/src/daemon/`). All that the lab knows of
//! membership and replication is in this file and in `channels.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use samepath::membership::{Membership, MembershipConfig};
use samepath::replicate::hello::{Identity, Versions};
use samepath::replicate::machine::Machine;
use samepath::replicate::{BulkRoom, Claim, PeerEvent};
use samepath::tunnel_keys::{Order, TunnelKeys};
use samepath_dataplane::clock::NowMs;
use samepath_dataplane::cluster::director::{Director, DirectorHash, DirectorKey};
use samepath_dataplane::cluster::view::{Member, View};
use samepath_dataplane::counters::Counters;
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::keyring::OpenKey;
use samepath_dataplane::mailbox::{FromWorker, Mailbox, ToWorker};
use samepath_dataplane::wire::record::Record;

use super::ports;

/// The cluster id of the lab.
pub const CLUSTER: u32 = 42;
/// Silence after which a peer is dead, ms.
pub const PEER_TIMEOUT_MS: u64 = 300;
/// How long a starting node waits for peers that do not come, ms.
const GRACE_MS: u64 = 600;
/// A draining node offers its sessions so often, ms.
const OFFER_MS: u64 = 200;
/// How long a key of the tunnel is used, ms: several are met in one run.
const REKEY_MS: u64 = 7_000;
/// Datagrams that wait for a channel; what finds no room is lost.
const DATAGRAMS: usize = 32;
/// Messages taken from the worker at once.
const MESSAGES: usize = 256;

/// A bulk sync under way.
#[derive(Debug)]
struct Walk {
    peer: NodeId,
    sync: u32,
    paused: Option<usize>,
}

/// See the file's first lines.
#[derive(Debug)]
pub struct Control {
    me: NodeId,
    nodes: u16,
    /// What has been said to which peer.
    pub machine: Machine,
    /// Who is a member.
    pub membership: Membership,
    /// The keys of the tunnel.
    keys: TunnelKeys,
    /// Keys drawn.
    drawn: u64,
    /// Membership's datagrams to each peer, until the channel takes them.
    pub datagrams: BTreeMap<NodeId, Vec<Vec<u8>>>,
    walks: BTreeMap<u32, Walk>,
    next_walk: u32,
    backlog: VecDeque<ToWorker>,
    /// This process's random number.
    pub boot_id: u64,
    started: NowMs,
    /// The node may direct.
    pub ready: bool,
    /// Its share of Director duty once it is.
    pub weight: u8,
    /// Its present view.
    pub members: Vec<Member>,
    epoch: u32,
    /// It hands its sessions over and takes no more.
    pub draining: bool,
    next_offer: NowMs,
}

impl Control {
    /// A process that has just started.
    pub fn new(me: u16, nodes: u16, boot_id: u64, log: usize, now: NowMs) -> Self {
        let peers: Vec<NodeId> = (1..=nodes).filter(|&node| node != me).map(NodeId).collect();
        let identity = Identity {
            node: NodeId(me),
            cluster: CLUSTER,
            director_hash: DirectorHash::IpPair,
            fingerprint: 0xf19e,
            boot_id,
            started: now,
            versions: Versions::SPOKEN,
        };
        let addresses: Vec<_> =
            peers.iter().map(|&peer| (peer, (ports::link_address(peer.0), 6082).into())).collect();
        Self {
            me: NodeId(me),
            nodes,
            machine: Machine::new(identity, &addresses, log),
            membership: Membership::new(MembershipConfig {
                node: NodeId(me),
                peers,
                started: boot_id,
                timeout_ms: PEER_TIMEOUT_MS,
                hello_interval_ms: ports::HELLO_MS,
                quorum: 0,
                seed: boot_id,
            }),
            keys: TunnelKeys::new(REKEY_MS, (boot_id as u8).wrapping_mul(37)),
            drawn: 0,
            datagrams: BTreeMap::new(),
            walks: BTreeMap::new(),
            next_walk: 0,
            backlog: VecDeque::new(),
            boot_id,
            started: now,
            ready: false,
            weight: 1,
            members: vec![Member { node: NodeId(me), weight: 0 }],
            epoch: 1,
            draining: false,
            next_offer: NowMs(0),
        }
    }

    /// The view as it is.
    pub fn view(&self) -> View {
        view_of(self.me, self.nodes, &self.members, self.epoch)
    }

    /// One turn of the control thread; true if the view changed.
    pub fn turn(&mut self, mailbox: &Mailbox, counters: &Counters, now: NowMs) -> bool {
        self.drain(mailbox);
        for _ in 0..MESSAGES {
            let Some(message) = mailbox.outbox.pop() else { break };
            self.take_message(mailbox, message, now);
        }
        while let Some(event) = self.machine.poll_event() {
            self.take_event(mailbox, event, now);
        }
        self.watch(mailbox, counters, now)
    }

    /// To the worker, in order, however full its inbox is.
    pub fn tell(&mut self, mailbox: &Mailbox, message: ToWorker) {
        self.backlog.push_back(message);
        self.drain(mailbox);
    }

    fn drain(&mut self, mailbox: &Mailbox) {
        while let Some(message) = self.backlog.pop_front() {
            if let Err(message) = mailbox.inbox.push(message) {
                self.backlog.push_front(message);
                return;
            }
        }
    }

    fn take_message(&mut self, mailbox: &Mailbox, message: FromWorker, now: NowMs) {
        match message {
            FromWorker::Changed(record) => self.machine.publish(&record, now),
            FromWorker::ClaimCheck { owner, key, generation } => {
                self.machine.claim_check(owner, Claim { key, generation });
            }
            FromWorker::ClaimDenied { to, key, generation } => {
                self.machine.claim_denied(to, Claim { key, generation });
            }
            FromWorker::Page { id, sessions, next, .. } => {
                let records: Vec<Record> = sessions.iter().map(|session| Record::of(session, now)).collect();
                self.take_page(mailbox, id, &records, next);
            }
            FromWorker::HandOver { to, record } => self.machine.hand_over(to, &record),
            FromWorker::Resync => self.machine.resync_all(),
            _ => {}
        }
    }

    fn take_page(&mut self, mailbox: &Mailbox, id: u32, records: &[Record], next: Option<usize>) {
        let Some(walk) = self.walks.get_mut(&id) else { return };
        let (peer, sync) = (walk.peer, walk.sync);
        let room = match records {
            [] => self.machine.bulk_room(peer, sync),
            records => self.machine.bulk(peer, sync, records),
        };
        match (room, next) {
            (BulkRoom::Over, _) => drop(self.walks.remove(&id)),
            (_, None) => {
                self.machine.bulk_done(peer, sync);
                self.walks.remove(&id);
            }
            (BulkRoom::More, Some(from)) => {
                self.tell(mailbox, ToWorker::Walk { id, owned_only: true, from });
            }
            (BulkRoom::Full, Some(from)) => walk.paused = Some(from),
        }
    }

    /// Takes what a peer said.
    pub fn take_event(&mut self, mailbox: &Mailbox, event: PeerEvent, now: NowMs) {
        match event {
            PeerEvent::Connected { peer, boot_id } => {
                let Self { me, boot_id: mine, drawn, .. } = self;
                self.keys.handle_connected(peer, boot_id, now, || draw(*me, *mine, drawn));
                self.membership.evidence_mut().connected(peer);
            }
            PeerEvent::Lost { peer } => {
                self.keys.handle_lost(peer);
                self.membership.evidence_mut().disconnected(peer);
            }
            PeerEvent::TunnelKey { from, key } => {
                let is_new = self.keys.handle_given(from, *key);
                if is_new {
                    self.membership.touch();
                    self.renew_view(mailbox, now);
                }
            }
            PeerEvent::Leaving { from } => self.membership.evidence_mut().leaving(from),
            PeerEvent::Records { from, mark, records } => {
                for record in records.into_iter().filter(|record| record.owner == from) {
                    self.tell(mailbox, ToWorker::Apply { record, mark });
                }
            }
            PeerEvent::Restarted { from } => {
                self.membership.evidence_mut().restarted(from);
                self.renew_view(mailbox, now);
                self.tell(mailbox, ToWorker::Adopt { owner: from });
            }
            PeerEvent::HandOver { from, mark, records } => {
                for record in records.into_iter().filter(|record| record.owner == from) {
                    self.tell(mailbox, ToWorker::TakeOver { record, mark });
                }
            }
            PeerEvent::BulkEnd { from, mark } => self.tell(mailbox, ToWorker::Sweep { owner: from, mark }),
            PeerEvent::NeedBulk { peer, sync } => {
                self.walks.retain(|_, walk| walk.peer != peer);
                self.next_walk += 1;
                self.walks.insert(self.next_walk, Walk { peer, sync, paused: None });
                let id = self.next_walk;
                self.tell(mailbox, ToWorker::Walk { id, owned_only: true, from: 0 });
            }
            PeerEvent::BulkMore { peer, sync } => {
                let paused = self.walks.iter_mut().find_map(|(&id, walk)| {
                    let same = (walk.peer, walk.sync) == (peer, sync);
                    walk.paused.take_if(|_| same).map(|from| (id, from))
                });
                if let Some((id, from)) = paused {
                    self.tell(mailbox, ToWorker::Walk { id, owned_only: true, from });
                }
            }
            PeerEvent::ClaimChecks { from, claims } => {
                for Claim { key, generation } in claims {
                    self.tell(mailbox, ToWorker::ClaimQuestion { from, key, generation });
                }
            }
            PeerEvent::ClaimsDenied { from, claims } => {
                for Claim { key, generation } in claims {
                    self.tell(mailbox, ToWorker::ClaimDenied { from, key, generation });
                }
            }
            _ => {}
        }
    }

    fn watch(&mut self, mailbox: &Mailbox, counters: &Counters, now: NowMs) -> bool {
        for peer in self.machine.stats(now) {
            if peer.connected {
                self.membership.evidence_mut().is_connected(peer.peer);
            }
            if peer.whole {
                self.membership.evidence_mut().synced(peer.peer);
            }
            if let Some((at, told)) = counters.last_heard(peer.peer) {
                self.membership.handle_hello(peer.peer, NowMs(at), told);
                self.keys.handle_heard(peer.peer, told.key, now);
            }
        }
        self.watch_keys(mailbox, counters, now);
        if self.draining && now >= self.next_offer {
            self.next_offer = now.plus(OFFER_MS);
            self.tell(mailbox, ToWorker::HandOver);
        }
        let moved = self.renew_view(mailbox, now);
        while let Some((to, datagram)) = self.membership.poll_message() {
            let waiting = self.datagrams.entry(to).or_default();
            if waiting.len() < DATAGRAMS {
                waiting.push(datagram);
            }
        }
        // As in the daemon: the view with new peers is out before the first duty is told.
        self.ready |= self.membership.evidence().is_ready(now.since(self.started) > GRACE_MS);
        moved
    }

    fn watch_keys(&mut self, mailbox: &Mailbox, counters: &Counters, now: NowMs) {
        let Self { me, boot_id, drawn, .. } = self;
        self.keys.handle_timeout(counters.tunnel_keys.get(), now, || draw(*me, *boot_id, drawn));
        while let Some(order) = self.keys.poll_order() {
            match order {
                Order::Take(peer, key) => self.tell(mailbox, ToWorker::TakeKey(OpenKey::new(peer, key))),
                Order::Forget(peer, id) => self.tell(mailbox, ToWorker::ForgetKey { peer, id }),
                Order::Tell(peer, key) => self.machine.give_key(peer, key),
            }
        }
    }

    fn renew_view(&mut self, mailbox: &Mailbox, now: NowMs) -> bool {
        self.membership.set_weight(if self.ready && !self.draining { self.weight } else { 0 });
        self.membership.handle_timeout(now);
        let Some(standing) = self.membership.poll_standing() else { return false };
        let moved = standing.members != self.members;
        (self.members, self.epoch) = (standing.members, standing.epoch);
        let mut view = self.view();
        for peer in &mut view.peers {
            peer.heard = standing.heard.contains(&peer.node);
            peer.key = self.keys.held(peer.node).cloned();
        }
        view.quorate = standing.quorate;
        self.tell(mailbox, ToWorker::View(view.into()));
        moved
    }
}

/// Another key each time, on each node, in each process.
fn draw(me: NodeId, boot_id: u64, drawn: &mut u64) -> [u8; 16] {
    *drawn += 1;
    let number = u128::from(me.0) << 112 | u128::from(boot_id) << 48 | u128::from(*drawn);
    number.to_be_bytes()
}

/// Making a table of Directors takes milliseconds and the same ones come again and again.
fn director_of(members: &[Member]) -> Director {
    static MADE: Mutex<BTreeMap<Vec<Member>, Director>> = Mutex::new(BTreeMap::new());
    let mut share: Vec<Member> = members.iter().copied().filter(|member| member.weight > 0).collect();
    if share.is_empty() {
        share = members.iter().map(|&Member { node, .. }| Member { node, weight: 1 }).collect();
    }
    let make = |share: &Vec<Member>| Director::new(share, DirectorHash::IpPair, &DirectorKey([7; 16]));
    if let Some(known) = MADE.lock().expect("no thread panics").get(&share) {
        return known.clone();
    }
    let made = make(&share);
    MADE.lock().expect("no thread panics").entry(share).or_insert(made).clone()
}

fn view_of(me: NodeId, nodes: u16, members: &[Member], epoch: u32) -> View {
    View {
        epoch,
        me,
        members: members.to_vec(),
        peers: ports::peers(me.0, nodes),
        director: director_of(members),
        quorate: true,
    }
}
