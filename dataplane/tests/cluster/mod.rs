//! Three whole workers over plain memory, joined by a network that loses nothing unless told to.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::cluster::director::{DirectorHash, DirectorKey};
use samepath_dataplane::cluster::view::{Member, Peer, View};
use samepath_dataplane::counters::Counters;
use samepath_dataplane::flow::{Direction, FlowKey, NodeId, key_bytes, proto};
use samepath_dataplane::keyring::{OpenKey, PeerKey};
use samepath_dataplane::limits::MAX_PORTS;
use samepath_dataplane::mailbox::{FromWorker, Mailbox, ToWorker};
use samepath_dataplane::policy::{Hits, InForce, Policy};
use samepath_dataplane::route::{Link, RouteTarget, Routes, RoutesBuilder, Table, Via};
use samepath_dataplane::session::Session;
use samepath_dataplane::settings::{Settings, TcpPickup};
use samepath_dataplane::tuning::Tuning;
use samepath_dataplane::verdict::DropReason;
use samepath_dataplane::wire::flow_hash::FlowHasher;
use samepath_dataplane::wire::layout::Layout;
use samepath_dataplane::wire::packet::Packet;
use samepath_dataplane::wire::tunnel::{self, TunnelEnds, TunnelKey};
use samepath_dataplane::worker::{Handoff, Ports, Snapshots, Worker, WorkerParts};
use samepath_dataplane::xsk::{MemoryIo, Waker, Wire};

/// Port indices of every node.
pub const INSIDE: u8 = 0;
pub const OUTSIDE: u8 = 1;
pub const LINK: u8 = 2;

/// Turns in which nodes come to rest once nothing arrives, and many more.
const MOST_TURNS: u32 = 1_000_000;

/// A tunnel crossing as a bystander sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing {
    pub from: u16,
    pub to: u16,
    pub kind: tunnel::TunnelKind,
}

pub struct Node {
    pub id: u16,
    worker: Worker<MemoryIo>,
    wire: Wire,
    mailbox: Mailbox,
    pub counters: Arc<Counters>,
    hasher: FlowHasher,
    pages: Vec<Session>,
}

pub struct Cluster {
    pub nodes: Vec<Node>,
    pub now: NowMs,
    pub crossings: Vec<Crossing>,
    /// Tunnel packets but Hello, as they crossed.
    pub tunnelled: Vec<Vec<u8>>,
    /// What each node counts of the rules of the policy set last.
    pub hits: Vec<Arc<Hits>>,
    /// Answers of rules with `log`: (node, rule).
    pub judged: Vec<(u16, u32)>,
    /// Packets that left by a data interface: (node, port, bytes).
    pub delivered: Vec<(u16, u8, Vec<u8>)>,
    pub replication: bool,
    /// Ends of sessions that could not be told one by one.
    pub resyncs: usize,
    pub settings: Settings,
    live: Vec<u16>,
    epoch: u32,
    /// Hellos, which nobody gets.
    pub hellos: Vec<Vec<u8>>,
    /// Packets a test has made and sent itself.
    forged: u64,
}

const KEY: DirectorKey = DirectorKey([7; 16]);

fn link_address(node: u16) -> IpAddr {
    Ipv4Addr::new(10, 99, 0, node as u8).into()
}

fn mac(node: u16, port: u8) -> [u8; 6] {
    [2, 0, 0, 0, node as u8, port]
}

fn routes() -> Routes {
    let mut builder = RoutesBuilder::default();
    for port in [INSIDE, OUTSIDE] {
        let ifindex = u32::from(port) + 1;
        let link = Link { port: Some(port), mac: [2, 0, 0, 0, 0, port], mtu: 1500, up: true, carrier: true };
        builder.set_link(ifindex, link);
        let gateway: IpAddr = Ipv4Addr::new(172, 16, port, 254).into();
        builder.set_neighbour(ifindex, gateway, [2, 0, 0, 0, 0xff, port]);
        let prefixes =
            if port == INSIDE { ["10.1.0.0/16", "fd00:1::/32"] } else { ["10.2.0.0/16", "fd00:2::/32"] };
        for prefix in prefixes {
            let via = Via { ifindex, gateway: Some(gateway), weight: 1, mtu: 0 };
            builder.set_route(Table::Main, prefix.parse().unwrap(), RouteTarget::Via(vec![via]));
        }
    }
    builder.build(1)
}

fn peers(me: u16) -> Vec<Peer> {
    (1..=3)
        .filter(|&node| node != me)
        .map(|node| Peer {
            heard: true,
            key: Some(tunnel_key()),
            node: NodeId(node),
            address: link_address(node),
            ends: Some(TunnelEnds {
                source_mac: mac(me, LINK),
                destination_mac: mac(node, LINK),
                source: link_address(me),
                destination: link_address(node),
            }),
        })
        .collect()
}

fn view(me: u16, live: &[u16], epoch: u32) -> View {
    view_without(me, live, epoch, 0)
}

/// A view in which one of the nodes takes no flows.
fn view_without(me: u16, live: &[u16], epoch: u32, idle: u16) -> View {
    view_by(DirectorHash::IpPair, me, live, epoch, idle)
}

fn view_by(hash: DirectorHash, me: u16, live: &[u16], epoch: u32, idle: u16) -> View {
    let member = |&node| Member { node: NodeId(node), weight: u8::from(node != idle) };
    let members = live.iter().map(member).collect();
    View::new(epoch, NodeId(me), members, peers(me), hash, &KEY)
}

fn ports() -> Ports {
    Ports {
        zones: std::array::from_fn(|port| [1, 2, 0][port.min(2)]),
        queues: [1; MAX_PORTS],
        cluster_link: LINK,
        cluster_link_mtu: 2000,
        mss_clamp: [0; 2],
        hello_interval_ms: 1_000_000_000,
    }
}

/// The key all nodes speak with.
pub fn tunnel_key() -> PeerKey {
    PeerKey { id: 1, key: TunnelKey::new([9; 16]) }
}

/// The defaults, with aggregation on.
pub fn lone_settings() -> Settings {
    Settings {
        node: NodeId(1),
        cluster: 42,
        aggregation: true,
        tcp_pickup: TcpPickup::Strict,
        tcp_loose_window: false,
        timeouts: Default::default(),
        backup: Default::default(),
        former_directors_ms: 10_000,
        refresh_ms: 0,
    }
}

/// One of two cores of node 1, which is alone.
pub struct Core {
    worker: Worker<MemoryIo>,
    wire: Wire,
    pub counters: Arc<Counters>,
    sent: Vec<(u8, Vec<u8>)>,
}

const SEED: u64 = 5;

impl Core {
    pub fn pair(wakers: &[Arc<Waker>; 2], sends: [bool; 2], settings: &Settings) -> [Self; 2] {
        Self::tuned_pair(wakers, sends, settings, Tuning::default())
    }

    pub fn tuned_pair(
        wakers: &[Arc<Waker>; 2],
        sends: [bool; 2],
        settings: &Settings,
        tuning: Tuning,
    ) -> [Self; 2] {
        let mut ends = Handoff::mesh(wakers).into_iter();
        [0, 1].map(|index| {
            let wire = Wire::default();
            let counters = Arc::new(Counters::default());
            let mailbox = Mailbox::default();
            for peer in [2, 3] {
                let key = OpenKey::new(NodeId(peer), tunnel_key());
                assert!(mailbox.inbox.push(ToWorker::TakeKey(key)).is_ok());
            }
            let worker = Worker::new(WorkerParts {
                index,
                io: MemoryIo::new(wire.clone(), if sends[index] { 3 } else { 0 }, 1024),
                ports: ports(),
                hasher: FlowHasher::new(SEED),
                snapshots: Snapshots {
                    view: Arc::new(view(1, &[1], 1)),
                    routes: Arc::new(routes()),
                    settings: Arc::new(settings.clone()),
                    policy: Arc::new(InForce::nothing(settings)),
                },
                sessions_max: 4096,
                handoff: ends.next().unwrap(),
                mailbox,
                counters: counters.clone(),
                tuning,
                now: NowMs(10_000),
            });
            Self { worker, wire, counters, sent: Vec::new() }
        })
    }

    pub fn arrive(&self, port: u8, bytes: &[u8]) {
        assert!(self.wire.arrive(port, bytes, &FlowHasher::new(SEED)));
    }

    /// From node 2 through the tunnel, as packet `counter` of its stream 0.
    pub fn arrive_tunnelled(&self, option: &tunnel::TunnelOption, inner: &[u8], counter: u64) {
        let ends = peers(2)[0].ends.expect("node 1's link address is known");
        let inner_off = tunnel::overhead(&ends.destination);
        let layout = Layout::parse_inner(inner, inner_off as u16, LINK, &FlowHasher::new(SEED))
            .expect("a packet of a test");
        let flow = match Packet::read(inner, layout) {
            Ok(packet) if !layout.is_hello() => (packet.key, packet.direction),
            _ => (FlowKey::default(), Direction::LoToHi),
        };
        let mut bytes = vec![0; inner_off];
        let (seal, key) = (tunnel::Seal { key: 1, stream: 0, counter }, tunnel_key().key);
        tunnel::emit(&mut bytes, inner.len(), &ends, 42, option, &seal, &key, &flow.0, flow.1, 7);
        bytes.extend_from_slice(inner);
        self.wire.arrive_with(&bytes, &layout);
    }

    pub fn drops(&self, reason: DropReason) -> u64 {
        self.counters.drops[reason as usize].get()
    }

    pub fn turn(&mut self) -> bool {
        let busy = self.worker.turn(NowMs(10_000));
        while let Some((port, bytes)) = self.wire.take_sent() {
            if port != LINK {
                self.sent.push((port, bytes));
            }
        }
        busy
    }

    pub fn sent(&self) -> &[(u8, Vec<u8>)] {
        &self.sent
    }
}

/// Frames may move between cores, none is lost or made.
pub fn check_frames(cores: &[Core]) {
    let frames: u64 = cores
        .iter()
        .map(|core| &core.counters)
        .map(|c| c.frames_free.get() + c.frames_kernel.get() + c.frames_hand.get())
        .sum();
    assert_eq!(frames, 1024 * cores.len() as u64);
}

impl Node {
    fn new(id: u16, settings: &Settings, tuning: Tuning, now: NowMs) -> Self {
        let wire = Wire::default();
        let mailbox = Mailbox::default();
        let counters = Arc::new(Counters::default());
        let hasher = FlowHasher::new(u64::from(id) * 77);
        let mut handoff = Handoff::mesh(&[Arc::new(Waker::new().unwrap())]);
        let worker = Worker::new(WorkerParts {
            index: 0,
            io: MemoryIo::new(wire.clone(), 3, 1024),
            ports: ports(),
            hasher,
            snapshots: Snapshots {
                view: Arc::new(view(id, &[1, 2, 3], 1)),
                routes: Arc::new(routes()),
                settings: Arc::new(Settings { node: NodeId(id), ..settings.clone() }),
                policy: Arc::new(InForce::nothing(settings)),
            },
            sessions_max: 4096,
            handoff: handoff.remove(0),
            mailbox: mailbox.clone(),
            counters: counters.clone(),
            tuning,
            now,
        });
        let node = Self { id, worker, wire, mailbox, counters, hasher, pages: Vec::new() };
        for peer in (1..=3).filter(|&peer| peer != id) {
            node.tell(ToWorker::TakeKey(OpenKey::new(NodeId(peer), tunnel_key())));
        }
        node
    }

    fn without_fast_path(&mut self) {
        let id = self.id;
        let spare = Node::new(id, &lone_settings(), Tuning::default(), NowMs(0)).worker;
        self.worker = std::mem::replace(&mut self.worker, spare).without_fast_path();
    }

    pub fn tell(&self, message: ToWorker) {
        self.mailbox.inbox.push(message).unwrap();
    }
}

impl Cluster {
    pub fn new() -> Self {
        Self::with(lone_settings())
    }

    pub fn with(settings: Settings) -> Self {
        Self::tuned(settings, Tuning::default())
    }

    pub fn tuned(settings: Settings, tuning: Tuning) -> Self {
        let now = NowMs(10_000);
        let mut cluster = Self {
            nodes: (1..=3).map(|id| Node::new(id, &settings, tuning, now)).collect(),
            now,
            crossings: Vec::new(),
            tunnelled: Vec::new(),
            hits: Vec::new(),
            judged: Vec::new(),
            delivered: Vec::new(),
            replication: true,
            resyncs: 0,
            settings,
            live: vec![1, 2, 3],
            epoch: 1,
            hellos: Vec::new(),
            forged: 0,
        };
        cluster.settle();
        cluster.delivered.clear();
        cluster.crossings.clear();
        cluster
    }

    pub fn node(&self, id: u16) -> &Node {
        &self.nodes[usize::from(id) - 1]
    }

    /// Every packet goes the long way from now on.
    pub fn without_fast_path(mut self) -> Self {
        for node in &mut self.nodes {
            node.without_fast_path();
        }
        self
    }

    /// A packet arrives on a data interface.
    pub fn arrive(&mut self, node: u16, port: u8, bytes: &[u8]) {
        let node = self.node(node);
        assert!(node.wire.arrive(port, bytes, &node.hasher), "the XDP program would not steer this");
    }

    /// A TCP connection from port 1000 to 80, opened through node 1, its Owner, and node 3.
    pub fn establish(&mut self, client: Ipv4Addr, server: Ipv4Addr) {
        self.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), SYN, 100, 0));
        self.settle();
        self.arrive(3, OUTSIDE, &tcp((server, 80), (client, 1000), SYN | ACK, 500, 101));
        self.settle();
        self.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), ACK, 101, 501));
        self.settle();
    }

    /// Runs everything until nothing moves.
    pub fn settle(&mut self) {
        for _ in 0..MOST_TURNS {
            let mut moved = false;
            for index in 0..self.nodes.len() {
                moved |= self.step(index);
            }
            if !moved {
                return;
            }
        }
        panic!("the nodes have not come to rest in {MOST_TURNS} turns of each");
    }

    /// One turn of one node, and what follows from it on the network.
    pub fn step(&mut self, index: usize) -> bool {
        if !self.live.contains(&self.nodes[index].id) {
            return false;
        }
        let mut moved = self.nodes[index].worker.turn(self.now);
        while let Some((port, bytes)) = self.nodes[index].wire.take_sent() {
            moved = true;
            self.carry(self.nodes[index].id, port, bytes);
        }
        let outbox = self.nodes[index].mailbox.outbox.clone();
        let mut said = VecDeque::new();
        while let Some(message) = outbox.pop() {
            said.push_back(message);
        }
        for message in said {
            moved |= self.hear(index, message);
        }
        moved
    }

    /// A tunnel packet that `from` sends to node 2 with the cluster's key, whatever its option says.
    pub fn tunnel(&mut self, from: u16, option: &tunnel::TunnelOption, inner: &[u8]) {
        let ends = TunnelEnds {
            source_mac: mac(from, LINK),
            destination_mac: mac(2, LINK),
            source: link_address(from),
            destination: link_address(2),
        };
        let layout = Layout::parse(inner, LINK, &self.node(2).hasher).expect("a packet of a test");
        let packet = Packet::read(inner, layout).expect("a packet of a test");
        let mut bytes = vec![0; tunnel::overhead(&ends.destination)];
        // A stream no worker has, so that it never was there before.
        self.forged += 1;
        let seal = tunnel::Seal { key: 1, stream: 77, counter: self.forged };
        let (cluster, key, direction) = (self.settings.cluster, tunnel_key().key, packet.direction);
        tunnel::emit(&mut bytes, inner.len(), &ends, cluster, option, &seal, &key, &packet.key, direction, 7);
        bytes.extend_from_slice(inner);
        self.carry(from, LINK, bytes);
        self.settle();
    }

    /// Bytes on the cluster link, whoever sends them; false if node `to`'s XDP program would drop them.
    pub fn inject(&mut self, to: u16, bytes: &[u8]) -> bool {
        let (inner_off, node) = (tunnel::overhead(&link_address(to)), self.node(to));
        let inner = bytes.get(inner_off..).unwrap_or_default();
        let layout = Layout::parse_inner(inner, inner_off as u16, LINK, &node.hasher);
        layout.is_ok_and(|layout| {
            node.wire.arrive_with(bytes, &layout);
            true
        })
    }

    fn carry(&mut self, from: u16, port: u8, bytes: Vec<u8>) {
        if port != LINK {
            self.delivered.push((from, port, bytes));
            return;
        }
        let to = u16::from(bytes[33]);
        let inner_off = tunnel::overhead(&link_address(to));
        let received = tunnel::parse(&bytes, inner_off).expect("nodes send what they can read");
        if received.option.kind == tunnel::TunnelKind::Hello {
            self.hellos.push(bytes);
            return;
        }
        self.crossings.push(Crossing { from, to, kind: received.option.kind });
        self.tunnelled.push(bytes.clone());
        if !self.live.contains(&to) {
            return;
        }
        let node = self.node(to);
        let layout = Layout::parse_inner(&bytes[inner_off..], inner_off as u16, LINK, &node.hasher)
            .expect("a tunnelled packet was steered once");
        node.wire.arrive_with(&bytes, &layout);
    }

    fn hear(&mut self, index: usize, message: FromWorker) -> bool {
        let from = self.nodes[index].id;
        match message {
            FromWorker::Changed(record) if self.replication => {
                for node in self.nodes.iter().filter(|node| node.id != from) {
                    node.tell(ToWorker::Apply { record, mark: 1 });
                }
                true
            }
            FromWorker::ClaimCheck { owner, key, generation } if self.replication => {
                self.node(owner.0).tell(ToWorker::ClaimQuestion { from: NodeId(from), key, generation });
                true
            }
            FromWorker::ClaimDenied { to, key, generation } if self.replication => {
                self.node(to.0).tell(ToWorker::ClaimDenied { from: NodeId(from), key, generation });
                true
            }
            FromWorker::HandOver { to, record } if self.replication => {
                self.node(to.0).tell(ToWorker::TakeOver { record, mark: 1 });
                true
            }
            FromWorker::Resync => {
                self.resyncs += 1;
                true
            }
            FromWorker::Judged { judgement, .. } => {
                self.judged.push((from, judgement.rule));
                true
            }
            FromWorker::Page { sessions, next, .. } => {
                self.nodes[index].pages.extend(sessions);
                if let Some(from) = next {
                    self.nodes[index].tell(ToWorker::Walk { id: 1, owned_only: false, from });
                }
                true
            }
            _ => false,
        }
    }

    /// All sessions of a node.
    pub fn sessions(&mut self, id: u16) -> Vec<Session> {
        let index = usize::from(id) - 1;
        self.nodes[index].pages.clear();
        self.nodes[index].tell(ToWorker::Walk { id: 1, owned_only: false, from: 0 });
        self.settle();
        std::mem::take(&mut self.nodes[index].pages)
    }

    /// All nodes find Directors by addresses and ports from now on.
    pub fn direct_by_five_tuple(&mut self) {
        self.epoch += 1;
        for node in &self.nodes {
            let view = view_by(DirectorHash::FiveTuple, node.id, &self.live, self.epoch, 0);
            node.tell(ToWorker::View(Arc::new(view)));
        }
        self.settle();
    }

    /// The nodes that now live, in the eyes of all that do.
    pub fn set_live(&mut self, live: &[u16]) {
        self.live = live.to_vec();
        self.epoch += 1;
        for node in self.nodes.iter().filter(|node| live.contains(&node.id)) {
            node.tell(ToWorker::View(Arc::new(view(node.id, live, self.epoch))));
        }
        self.settle();
    }

    /// One of the live nodes drains: all learn of it, it offers what it owns.
    pub fn drain(&mut self, id: u16) {
        self.set_idle(id);
        self.node(id).tell(ToWorker::HandOver);
        self.settle();
    }

    /// All live nodes know that this one takes no flows.
    fn set_idle(&mut self, id: u16) {
        self.epoch += 1;
        let live = self.live.clone();
        for node in self.nodes.iter().filter(|node| live.contains(&node.id)) {
            node.tell(ToWorker::View(Arc::new(view_without(node.id, &live, self.epoch, id))));
        }
    }

    /// A node begins anew with an empty table; the others hear of it at once.
    pub fn restart(&mut self, id: u16) {
        self.nodes[usize::from(id) - 1] = Node::new(id, &self.settings.clone(), Tuning::default(), self.now);
        for node in self.nodes.iter().filter(|node| node.id != id) {
            // It counts from the beginning.
            node.tell(ToWorker::TakeKey(OpenKey::new(NodeId(id), tunnel_key())));
        }
        self.set_idle(id);
        self.settle();
        for node in self.nodes.iter().filter(|node| node.id != id) {
            node.tell(ToWorker::Adopt { owner: NodeId(id) });
        }
        self.settle();
    }

    pub fn lives(&self, node: u16) -> bool {
        self.live.contains(&node)
    }

    /// All nodes have this policy from now on.
    pub fn set_policy(&mut self, policy: &Arc<Policy>) {
        self.hits = self.nodes.iter().map(|_| Arc::new(Hits::new(policy.rules()))).collect();
        for id in 1..=3 {
            self.set_policy_of(id, policy);
        }
        self.settle();
    }

    /// One node has this policy from now on.
    pub fn set_policy_of(&self, id: u16, policy: &Arc<Policy>) {
        let settings = Settings { node: NodeId(id), ..self.settings.clone() };
        let hits = self.hits[usize::from(id) - 1].clone();
        let in_force = InForce::new(policy.clone(), hits, &settings);
        self.node(id).tell(ToWorker::Policy(Arc::new(in_force)));
    }

    /// Packets a rule was the answer for, and flows it let begin, on a node.
    pub fn hits(&self, id: u16, rule: usize) -> (u64, u64) {
        let hits = &self.hits[usize::from(id) - 1].all()[rule];
        (hits.packets.get(), hits.flows.get())
    }

    pub fn set_aggregation(&mut self, aggregation: bool) {
        for node in &self.nodes {
            let settings = Settings { node: NodeId(node.id), aggregation, ..self.settings.clone() };
            node.tell(ToWorker::Settings(Arc::new(settings)));
        }
        self.settle();
    }

    /// Lets time pass in steps short enough for every timer.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.plus(ms);
        while self.now < end {
            self.now = self.now.plus(500).min(end);
            self.settle();
        }
    }

    pub fn drops(&self, id: u16, reason: DropReason) -> u64 {
        self.node(id).counters.drops[reason as usize].get()
    }

    /// Promise 3: every packet gets exactly one verdict and is counted once; no frame is lost.
    pub fn check_accounts(&self) {
        for node in &self.nodes {
            let counters = &node.counters;
            let dropped: u64 = counters.drops.iter().map(|one| one.get()).sum();
            assert_eq!(
                counters.rx.get() + counters.fragments_made.get() + counters.prompted.get(),
                counters.tx.get() + dropped + counters.held.get(),
                "node {}: received = sent + dropped + held",
                node.id
            );
            let frames =
                counters.frames_free.get() + counters.frames_kernel.get() + counters.frames_hand.get();
            assert_eq!(frames, 1024, "node {}: frames", node.id);
        }
    }
}

/// A pair of hosts whose Director is `director` while all three nodes live; `nth` of them.
pub fn hosts(director: u16, nth: usize) -> (Ipv4Addr, Ipv4Addr) {
    static ALL: std::sync::OnceLock<View> = std::sync::OnceLock::new();
    let all = ALL.get_or_init(|| view(1, &[1, 2, 3], 1));
    (0..=u16::MAX)
        .map(|n| (Ipv4Addr::new(10, 1, (n >> 8) as u8, n as u8), Ipv4Addr::new(10, 2, 0, 1)))
        .filter(|&(client, server)| {
            let ends = ((key_bytes(client.into()), 0), (key_bytes(server.into()), 0));
            all.director_of(&FlowKey::new(ends.0, ends.1, proto::UDP, (0, 0)).0) == NodeId(director)
        })
        .nth(nth)
        .unwrap()
}

/// Sets the checksum of the IPv4 header (20 bytes) of an untagged frame.
pub fn sound(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let words = frame[14..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

fn ipv4(proto: u8, src: Ipv4Addr, dst: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    let mut header = [0u8; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    header[8] = 64;
    header[9] = proto;
    header[12..16].copy_from_slice(&src.octets());
    header[16..20].copy_from_slice(&dst.octets());
    frame.extend_from_slice(&header);
    sound(&mut frame);
    frame.extend_from_slice(payload);
    frame
}

/// A UDP packet with four bytes of payload.
pub fn udp(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend_from_slice(&src.1.to_be_bytes());
    payload.extend_from_slice(&dst.1.to_be_bytes());
    payload.extend_from_slice(&[0, 12, 0, 0, b'p', b'i', b'n', b'g']);
    ipv4(proto::UDP, src.0, dst.0, &payload)
}

/// A TCP segment without payload and options.
pub fn tcp(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend_from_slice(&src.1.to_be_bytes());
    payload.extend_from_slice(&dst.1.to_be_bytes());
    payload.extend_from_slice(&seq.to_be_bytes());
    payload.extend_from_slice(&ack.to_be_bytes());
    payload.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    ipv4(proto::TCP, src.0, dst.0, &payload)
}

pub const SYN: u8 = 2;
pub const ACK: u8 = 16;
