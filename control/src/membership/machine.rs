//! The membership machine. See the folder's README.

use std::collections::{BTreeMap, VecDeque};

use foca::State;
use samepath_dataplane::clock::NowMs;
use samepath_dataplane::cluster::view::Member;
use samepath_dataplane::counters::Told;
use samepath_dataplane::flow::NodeId;

use super::agreement::agree;
use super::etcd::Registry;
use super::evidence::Evidence;
use super::row::{Identity, ROW, Row, VERSION};
use super::swim::{SWIM, Swim};

/// How late this node may be without anybody noticing, ms: what an ordinary machine under load does.
const LATE_MS: u64 = 50;

/// How long a node may be missing in a registry that others are in, ms: longer than a lease lasts by default, and than
/// a node takes to get a new one.
const ABSENT_MS: u64 = 5_000;

/// Datagrams waiting to be sent; beyond it the oldest go, for newer ones say the same and more.
const WAITING: usize = 1024;

/// What the machine is made for.
#[derive(Clone, Debug)]
pub struct MembershipConfig {
    /// This node.
    pub node: NodeId,
    /// The others.
    pub peers: Vec<NodeId>,
    /// When this process started, ms of the wall clock; see [`Identity::started`].
    pub started: u64,
    /// Silence after which a node is dead, ms.
    pub timeout_ms: u64,
    /// Time between two Hellos, ms.
    pub hello_interval_ms: u64,
    /// Members without which nothing new is granted; 0: any number will do.
    pub quorum: usize,
    /// Of the random choices.
    pub seed: u64,
}

/// What the cluster looks like from here: the view to publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The same on all members once all of them see the same.
    pub epoch: u32,
    /// This node and the peers it hears; those the members have not agreed on with weight 0.
    pub members: Vec<Member>,
    /// The members all agree on, ascending.
    pub agreed: Vec<NodeId>,
    /// Peers this node hears, for it tells them so.
    pub heard: Vec<NodeId>,
    /// They are enough.
    pub quorate: bool,
}

/// See the file's first lines.
#[derive(Debug)]
pub struct Membership {
    config: MembershipConfig,
    evidence: Evidence,
    swim: Swim,
    /// The newest row of every node but this one, and when it came.
    rows: BTreeMap<NodeId, (Row, NowMs)>,
    own: Row,
    next_row: NowMs,
    /// This node's Director weight.
    weight: u8,
    /// The highest epoch known.
    epoch: u32,
    standing: Standing,
    changed: bool,
    looked: Option<NowMs>,
    out: VecDeque<(NodeId, Vec<u8>)>,
    refused: u64,
    /// Nodes the registry has, with when each was last in it, as far as there is a registry that was read.
    registered: Option<BTreeMap<NodeId, NowMs>>,
}

impl Membership {
    /// Alone, at epoch 1, with weight 0.
    pub fn new(config: MembershipConfig) -> Self {
        let identity = Identity { node: config.node.0, started: config.started, renewals: 0 };
        let me = config.node;
        Self {
            evidence: Evidence::new(config.peers.iter().copied()),
            swim: Swim::new(identity, config.timeout_ms, config.seed),
            rows: BTreeMap::new(),
            own: Row { identity, count: 0, epoch: 1, hears: Vec::new(), policy: None, serves: Some(false) },
            next_row: NowMs(0),
            weight: 0,
            epoch: 1,
            standing: Standing {
                epoch: 1,
                members: vec![Member { node: me, weight: 0 }],
                agreed: vec![me],
                heard: Vec::new(),
                quorate: config.quorum <= 1,
            },
            changed: false,
            looked: None,
            out: VecDeque::new(),
            refused: 0,
            registered: None,
            config,
        }
    }

    /// What is known of the peers.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// What became of control channels is told here.
    pub fn evidence_mut(&mut self) -> &mut Evidence {
        &mut self.evidence
    }

    /// The present view's members.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// This node is one of the members all agree on.
    pub fn is_agreed(&self) -> bool {
        self.standing.agreed.contains(&self.config.node)
    }

    /// What SWIM thinks of a peer.
    pub fn opinion(&self, node: NodeId) -> Option<State> {
        self.swim.opinion(node)
    }

    /// Datagrams that were none of the sender's.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// This node's Director weight from now on; 0: it takes no flows.
    pub fn set_weight(&mut self, weight: u8) {
        self.weight = weight;
    }

    /// Something else of the view has changed here: it gets a new epoch.
    pub fn touch(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
        self.standing.epoch = self.epoch;
        self.changed = true;
    }

    /// The last Hello of a peer, and what it told.
    pub fn handle_hello(&mut self, peer: NodeId, at: NowMs, told: Told) {
        self.evidence.heard(peer, at, told);
        self.epoch = self.epoch.max(told.epoch);
    }

    /// This node, or a thread that hears for it, did not run for so long.
    pub fn excuse(&mut self, ms: u64) {
        self.evidence.excuse(ms);
        self.swim.excuse(ms);
    }

    /// Takes a datagram of a peer whose certificate names `from`.
    pub fn handle_message(&mut self, from: NodeId, datagram: &[u8], now: NowMs) {
        let taken = match datagram {
            [VERSION, SWIM, packet @ ..] => self.swim.handle_message(from, packet, now),
            [VERSION, ROW, ..] => self.take_own_row(from, datagram, now),
            // Of another release; what it means is not known here.
            _ => true,
        };
        self.refused += u64::from(!taken);
        self.take_rows(now);
    }

    /// A row straight from its node.
    fn take_own_row(&mut self, from: NodeId, datagram: &[u8], now: NowMs) -> bool {
        let Some(row) = Row::decode(datagram).filter(|row| row.identity.node == from.0) else { return false };
        self.swim.meet(row.identity, now);
        self.swim.pass_on(&row);
        true
    }

    fn take_rows(&mut self, now: NowMs) {
        for row in self.swim.came() {
            let node = NodeId(row.identity.node);
            if node == self.config.node || self.evidence.peer(node).is_none() {
                continue;
            }
            let before = self.rows.get(&node).map(|(row, _)| row.identity.started);
            if before.is_some_and(|started| started < row.identity.started) {
                self.evidence.forgive(node);
            }
            self.epoch = self.epoch.max(row.epoch);
            self.rows.insert(node, (row, now));
        }
    }

    /// What this node tells of itself.
    pub fn own_row(&self) -> &Row {
        &self.own
    }

    /// Tells peers the version of this node's policy from the next row on.
    pub fn set_policy(&mut self, version: u32) {
        self.own.policy = Some(version);
        self.next_row = NowMs(0);
    }

    /// Version of a peer's policy, 0 without one; `None` if it has not said so.
    pub fn policy_of(&self, node: NodeId) -> Option<u32> {
        self.rows.get(&node).and_then(|(row, _)| row.policy)
    }

    /// What etcd holds. A node must be in it to be a member, once it could be read; one that vanished from it stays
    /// for `ABSENT_MS`, for a registry that was away itself is not whole at once.
    pub fn handle_registry(&mut self, registry: &Registry, now: NowMs) {
        self.epoch = self.epoch.max(u32::try_from(registry.revision).unwrap_or(u32::MAX));
        let registered = self.registered.get_or_insert_default();
        for row in &registry.rows {
            registered.insert(NodeId(row.identity.node), now);
            self.swim.pass_on(row);
        }
        self.take_rows(now);
    }

    fn is_registered(&self, node: NodeId, now: NowMs) -> bool {
        let Some(registered) = &self.registered else { return true };
        let newest = registered.values().copied().max().unwrap_or(now);
        registered.get(&node).is_some_and(|&at| newest.since(at) <= ABSENT_MS)
    }

    /// Judges everybody. To be called often: what matters is seen when it is called.
    pub fn handle_timeout(&mut self, now: NowMs) {
        let slept = self.looked.map_or(0, |looked| now.since(looked));
        self.looked = Some(now);
        if slept > LATE_MS {
            self.excuse(slept);
        }
        self.swim.handle_timeout(now);
        self.take_rows(now);
        let hasty = (self.config.timeout_ms / 2).max(3 * self.config.hello_interval_ms);
        let limit = |node| match self.swim.opinion(node) {
            // Two ways of asking agree.
            Some(State::Down) => hasty.min(self.config.timeout_ms),
            _ => self.config.timeout_ms,
        };
        self.evidence.judge(limit, now);
        self.say(now);
        self.settle(now);
    }

    /// Tells the own row when it changed, and now and then.
    fn say(&mut self, now: NowMs) {
        let mut hears: Vec<NodeId> = self
            .evidence
            .peers()
            .iter()
            .filter(|peer| peer.heard && !peer.suppressed)
            .map(|peer| peer.node)
            .collect();
        hears.sort_unstable();
        let serves = Some(self.weight > 0);
        let same = hears == self.own.hears && serves == self.own.serves && self.own.epoch == self.epoch;
        if same && now < self.next_row {
            return;
        }
        self.next_row = now.plus((self.config.timeout_ms / 4).max(1));
        let (identity, count) = (self.swim.identity(), self.own.count + 1);
        self.own = Row { identity, count, epoch: self.epoch, hears, policy: self.own.policy, serves };
        self.swim.pass_on(&self.own);
        let datagram = self.own.encode();
        for peer in self.evidence.peers().iter().filter(|peer| peer.connected) {
            self.out.push_back((peer.node, datagram.clone()));
        }
    }

    /// What is agreed now, and whether that is news.
    fn settle(&mut self, now: NowMs) {
        let me = self.config.node;
        let timeout_ms = self.config.timeout_ms;
        let fresh = |node: &NodeId| self.rows.get(node).filter(|(_, came)| now.since(*came) <= timeout_ms);
        let mut there = vec![me];
        there.extend(self.evidence.peers().iter().filter(|peer| peer.live).map(|peer| peer.node));
        let may = |node: &NodeId| {
            self.evidence.peer(*node).is_some_and(|peer| peer.admitted && !peer.leaving && !peer.suppressed)
        };
        there.extend(self.rows.keys().copied().filter(|node| fresh(node).is_some() && may(node)));
        there.retain(|&node| self.is_registered(node, now));
        let peer = |node| self.evidence.peer(node);
        let serves = |node| match peer(node) {
            Some(peer) => peer.weight > 0 && fresh(&node).is_none_or(|(row, _)| row.serves != Some(false)),
            None => self.weight > 0,
        };
        let agreed = agree(&there, serves, |a, b| match fresh(&a) {
            _ if a == me => peer(b).is_some_and(|peer| peer.heard && !peer.suppressed),
            Some((row, _)) => row.hears(b),
            None if b == me => peer(a).is_some_and(|peer| peer.hears_me),
            // It says nothing of others, and is heard: it is believed to hear all.
            None => true,
        });
        let told = |node: NodeId| if agreed.contains(&node) { u8::MAX } else { 0 };
        let mut members: Vec<Member> = self
            .evidence
            .peers()
            .iter()
            .filter(|peer| peer.live)
            .map(|peer| Member { node: peer.node, weight: peer.weight.min(told(peer.node)) })
            .collect();
        members.push(Member { node: me, weight: self.weight.min(told(me)) });
        members.sort_unstable();
        let quorate = agreed.contains(&me) && agreed.len() >= self.config.quorum;
        if (&members, &agreed, quorate)
            != (&self.standing.members, &self.standing.agreed, self.standing.quorate)
        {
            self.epoch = self.epoch.saturating_add(1);
        }
        let heard = self.evidence.peers().iter().filter(|peer| peer.heard).map(|peer| peer.node).collect();
        let standing = Standing { epoch: self.epoch, members, agreed, heard, quorate };
        self.changed |= standing != self.standing;
        self.standing = standing;
    }

    /// The view to publish, if there is a new one.
    pub fn poll_standing(&mut self) -> Option<Standing> {
        std::mem::take(&mut self.changed).then(|| self.standing.clone())
    }

    /// The next datagram to send, to a peer, best effort.
    pub fn poll_message(&mut self) -> Option<(NodeId, Vec<u8>)> {
        while let Some(message) = self.swim.poll_message() {
            self.out.push_back(message);
        }
        while self.out.len() > WAITING {
            self.out.pop_front();
        }
        self.out.pop_front()
    }

    /// When [`Self::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> NowMs {
        self.swim.poll_timeout().map_or(self.next_row, |due| due.min(self.next_row))
    }
}
