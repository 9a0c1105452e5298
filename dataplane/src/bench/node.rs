//! One core's worker over plain memory, with as many sessions as wanted, in the roles a node can have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::clock::NowMs;
use crate::cluster::director::{DirectorHash, DirectorKey};
use crate::cluster::view::{Member, Peer, View};
use crate::counters::Counters;
use crate::floods::Floods;
use crate::flow::NodeId;
use crate::keyring::{OpenKey, PeerKey};
use crate::limits::{MAX_NODES, MAX_PORTS};
use crate::mailbox::{FromWorker, Mailbox, ToWorker};
use crate::policy::InForce;
use crate::route::{Link, RouteTarget, Routes, RoutesBuilder, Table, Via};
use crate::settings::{Settings, TcpPickup};
use crate::tuning::Tuning;
use crate::watch::Watch;
use crate::wire::flow_hash::FlowHasher;
use crate::wire::layout::Layout;
use crate::wire::tunnel::{self, TunnelEnds, TunnelKey};
use crate::worker::{Handoff, Ports, Snapshots, Watching, Worker, WorkerParts};
use crate::xsk::{MemoryIo, Waker, Wire};

/// Port indices.
pub const INSIDE: u8 = 0;
/// See [`INSIDE`].
pub const OUTSIDE: u8 = 1;
/// See [`INSIDE`].
pub const LINK: u8 = 2;

const SEED: u64 = 0x5eed;
const DIRECTOR_KEY: DirectorKey = DirectorKey([7; 16]);

/// The present of every turn: sessions neither age nor end while they are measured.
pub const NOW: NowMs = NowMs(10_000);

/// A node with one worker.
#[derive(Debug)]
pub struct Node {
    worker: Worker<MemoryIo>,
    wire: Wire,
    mailbox: Mailbox,
    /// What it counted.
    pub counters: Arc<Counters>,
    hasher: FlowHasher,
}

fn link_address(node: u16) -> IpAddr {
    Ipv4Addr::new(10, 99, 0, node as u8).into()
}

fn mac(node: u16) -> [u8; 6] {
    [2, 0, 0, 0, node as u8, LINK]
}

/// Clients inside, servers outside, one gateway each.
fn routes() -> Routes {
    let mut builder = RoutesBuilder::default();
    for (port, prefixes) in
        [(INSIDE, ["10.0.0.0/8", "fd00:1::/32"]), (OUTSIDE, ["192.0.2.0/24", "fd00:2::/32"])]
    {
        let ifindex = u32::from(port) + 1;
        let link = Link { port: Some(port), mac: [2, 0, 0, 0, 0, port], mtu: 1500, up: true, carrier: true };
        builder.set_link(ifindex, link);
        let gateways: [IpAddr; 2] = [
            Ipv4Addr::new(172, 16, port, 254).into(),
            Ipv6Addr::new(0xfd00, 9, port.into(), 0, 0, 0, 0, 1).into(),
        ];
        for (gateway, prefix) in gateways.into_iter().zip(prefixes) {
            builder.set_neighbour(ifindex, gateway, [2, 0, 0, 0, 0xff, port]);
            let via = Via { ifindex, gateway: Some(gateway), weight: 1, mtu: 0 };
            let prefix = prefix.parse().expect("a prefix");
            builder.set_route(Table::Main, prefix, RouteTarget::Via(vec![via]));
        }
    }
    builder.build(1)
}

fn peer(me: u16, node: u16) -> Peer {
    Peer {
        node: NodeId(node),
        address: link_address(node),
        key: Some(tunnel_key()),
        heard: true,
        ends: Some(TunnelEnds {
            source_mac: mac(me),
            destination_mac: mac(node),
            source: link_address(me),
            destination: link_address(node),
        }),
    }
}

/// `directs`: the member with all Director duty. `own`: the others may own flows nevertheless, which no real view
/// says of members of weight 0.
fn view(me: u16, directs: u16, nodes: u16, own: bool) -> View {
    let member = |node| Member { node: NodeId(node), weight: u8::from(node == directs) };
    let members = (1..=nodes).map(member).collect();
    let peers = (1..=nodes).filter(|&node| node != me).map(|node| peer(me, node)).collect();
    let mut view = View::new(1, NodeId(me), members, peers, DirectorHash::IpPair, &DIRECTOR_KEY);
    for member in view.members.iter_mut().filter(|_| own) {
        member.weight = 1;
    }
    view
}

/// The key all nodes speak with.
pub fn tunnel_key() -> PeerKey {
    PeerKey { id: 1, key: TunnelKey::new([9; 16]) }
}

/// Claims and half-open sessions are what some roles are about: none gives way.
fn tuning() -> Tuning {
    Tuning { floods: Floods { half_open_percent: 100, ..Floods::default() }, ..Tuning::default() }
}

fn settings(me: u16) -> Settings {
    Settings {
        node: NodeId(me),
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

fn ports() -> Ports {
    Ports {
        zones: [1; MAX_PORTS],
        queues: [1; MAX_PORTS],
        cluster_link: LINK,
        cluster_link_mtu: 1700,
        mss_clamp: [0; 2],
        hello_interval_ms: 1_000_000_000,
    }
}

impl Node {
    /// Node `me` of `nodes` that are live, of which `directs` is Director of everything, with room for
    /// `sessions`.
    pub fn new(me: u16, directs: u16, nodes: u16, sessions: usize) -> Self {
        Self::with_view(me, view(me, directs, nodes, false), sessions)
    }

    /// A Director whose peers have no duty and are granted flows nevertheless.
    pub fn granting(me: u16, nodes: u16, sessions: usize) -> Self {
        Self::with_view(me, view(me, me, nodes, true), sessions)
    }

    fn with_view(me: u16, view: View, sessions: usize) -> Self {
        let (wire, mailbox, counters) = (Wire::default(), Mailbox::default(), Arc::new(Counters::default()));
        let hasher = FlowHasher::new(SEED);
        let waker = Arc::new(Waker::new().expect("an eventfd can be made"));
        let worker = Worker::new(WorkerParts {
            index: 0,
            io: MemoryIo::new(wire.clone(), 3, 4096),
            ports: ports(),
            hasher,
            snapshots: Snapshots {
                view: Arc::new(view),
                routes: Arc::new(routes()),
                settings: Arc::new(settings(me)),
                policy: Arc::new(InForce::nothing(&settings(me))),
            },
            sessions_max: sessions,
            handoff: Handoff::mesh(&[waker]).remove(0),
            mailbox: mailbox.clone(),
            counters: counters.clone(),
            tuning: tuning(),
            now: NOW,
        });
        for peer in (1..=MAX_NODES as u16).filter(|&peer| peer != me) {
            let taken = mailbox.inbox.push(ToWorker::TakeKey(OpenKey::new(NodeId(peer), tunnel_key())));
            assert!(taken.is_ok(), "the inbox is empty");
        }
        let mut node = Self { worker, wire, mailbox, counters, hasher };
        // The Hello of the first turn.
        node.turn();
        node.discard_sent();
        node
    }

    /// A packet arrives on a data interface.
    pub fn arrive(&self, port: u8, bytes: &[u8]) {
        assert!(self.wire.arrive(port, bytes, &self.hasher), "a frame the XDP program would not steer");
    }

    /// A packet arrives through the tunnel, as another node sent it.
    pub fn arrive_tunnelled(&self, bytes: &[u8], layout: &Layout) {
        self.wire.arrive_with(bytes, layout);
    }

    /// What the XDP program finds in a tunnel packet.
    pub fn tunnel_layout(&self, bytes: &[u8]) -> Layout {
        let inner_off = tunnel::overhead(&link_address(1));
        Layout::parse_inner(&bytes[inner_off..], inner_off as u16, LINK, &self.hasher)
            .expect("a tunnelled packet was steered once")
    }

    /// What the XDP program finds in a packet on a data interface.
    pub fn data_layout(&self, port: u8, bytes: &[u8]) -> Layout {
        Layout::parse(bytes, port, &self.hasher).expect("a packet that is steered")
    }

    /// One turn of its loop. Instructions are counted inside this function and nowhere else.
    #[inline(never)]
    pub fn turn(&mut self) {
        self.worker.turn(NOW);
    }

    /// The same at another time; its instructions are not counted.
    #[inline(never)]
    pub fn step_at(&mut self, now: NowMs) {
        self.worker.turn(now);
    }

    /// Somebody looks on from the next turn on, or nobody any longer.
    pub fn look(&self, watch: Option<Arc<Watch>>) {
        let watching = watch.map(|watch| Box::new(Watching::new(watch)));
        assert!(self.mailbox.inbox.push(ToWorker::Watch(watching)).is_ok(), "the inbox is empty");
    }

    /// The oldest packet sent.
    pub fn take_sent(&self) -> Option<(u8, Vec<u8>)> {
        self.wire.take_sent()
    }

    /// Forgets what was sent and gives the number of packets.
    pub fn discard_sent(&self) -> usize {
        std::iter::from_fn(|| self.wire.take_sent_with(|_, _| ())).count()
    }

    /// What the worker told control; records among it go to `other` as they would by replication.
    pub fn drain_outbox(&self, other: Option<&Node>) {
        while let Some(said) = self.mailbox.outbox.pop() {
            if let (FromWorker::Changed(record), Some(other)) = (said, other) {
                let full = other.mailbox.inbox.push(ToWorker::Apply { record, mark: 1 });
                assert!(full.is_ok(), "the inbox is drained in between");
            }
        }
    }

    /// Packets dropped so far.
    pub fn dropped(&self) -> u64 {
        self.counters.drops.iter().map(|one| one.get()).sum()
    }
}
