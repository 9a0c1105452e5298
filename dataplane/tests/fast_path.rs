//! The fast path decides nothing otherwise: the same traffic through two clusters, one with it and one without,
//! leaves the same packets, sessions and counters.

mod cluster;

use std::net::Ipv4Addr;
use std::sync::Arc;

use cluster::{Cluster, INSIDE, OUTSIDE, hosts, tcp, udp};
use proptest::prelude::*;
use samepath_dataplane::counters::Counters;
use samepath_dataplane::mailbox::ToWorker;
use samepath_dataplane::policy::{Action, Match, Policy, Rule};
use samepath_dataplane::session::timeouts::Timeouts;
use samepath_dataplane::watch::{Filter, Watch};
use samepath_dataplane::worker::Watching;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A segment of flow `flow`, from client or server, arrives at a node.
    Segment { flow: usize, from_client: bool, node: u16, flags: u8, ahead: u32, acks: u32, times: u8 },
    /// A datagram.
    Datagram { flow: usize, from_client: bool, node: u16 },
    /// The replication channel is cut or mended.
    Replication(bool),
    /// Packets that arrived are worked on, as a burst.
    Settle,
    /// Time passes.
    Pass(u64),
    /// A node dies.
    Live([u16; 2]),
    /// Another policy is in force.
    Policy(usize),
}

const ACK: u8 = 16;

fn event() -> impl Strategy<Value = Event> {
    let flags =
        prop_oneof![6 => Just(ACK), 1 => Just(ACK | 8), 1 => Just(2_u8), 1 => Just(18_u8), 1 => any::<u8>()];
    let numbers =
        (prop_oneof![4 => 0..3000_u32, 1 => any::<u32>()], prop_oneof![4 => 0..3000_u32, 1 => any::<u32>()]);
    prop_oneof![
        20 => (0..4_usize, any::<bool>(), 1..4_u16, flags, numbers, 1..6_u8).prop_map(
            |(flow, from_client, node, flags, (ahead, acks), times)| {
                Event::Segment { flow, from_client, node, flags, ahead, acks, times }
            }),
        8 => (0..4_usize, any::<bool>(), 1..4_u16).prop_map(|(flow, from_client, node)| {
            Event::Datagram { flow, from_client, node }
        }),
        1 => any::<bool>().prop_map(Event::Replication),
        12 => Just(Event::Settle),
        2 => prop_oneof![Just(100_u64), Just(20_000), Just(400_000)].prop_map(Event::Pass),
        1 => prop_oneof![Just([1, 2]), Just([2, 3]), Just([1, 3])].prop_map(Event::Live),
        2 => (0..3_usize).prop_map(Event::Policy),
    ]
}

fn ends(flow: usize) -> ((Ipv4Addr, u16), (Ipv4Addr, u16)) {
    // Flows of different Directors.
    let (client, server) = hosts(flow as u16 % 3 + 1, flow);
    ((client, 1000 + flow as u16), (server, 80))
}

/// All may begin, in two ways; and: web from inside, with idle times of its own, other TCP is rejected.
fn policies() -> [Arc<Policy>; 3] {
    let web = Rule {
        zones: 1 << 1,
        source: vec!["10.1.0.0/17".parse().unwrap()],
        destination: vec![],
        matches: vec![Match { protocols: vec![6], destination_ports: vec![80..=80], ..Match::default() }],
        action: Action::Allow,
        terms: 1,
        local: false,
        log: false,
    };
    let reject = Rule {
        source: vec![],
        matches: vec![Match { protocols: vec![6], ..Match::default() }],
        action: Action::Reject,
        terms: 0,
        ..web.clone()
    };
    let short = Timeouts { tcp_established: 50_000, ..Timeouts::default() };
    let policy = |number: u16, rules: &[Rule], default| {
        Arc::new(Policy::new((number, number.into()), rules, default, &[short], 2).unwrap())
    };
    [
        policy(1, &[], Action::Allow),
        policy(2, std::slice::from_ref(&web), Action::Allow),
        policy(3, &[web, reject], Action::Deny),
    ]
}

fn play(cluster: &mut Cluster, event: Event) {
    let node_is_live = |cluster: &Cluster, node: u16| cluster.lives(node);
    match event {
        Event::Segment { flow, from_client, node, flags, ahead, acks, times }
            if node_is_live(cluster, node) =>
        {
            let (client, server) = ends(flow);
            let (from, to, port) =
                if from_client { (client, server, INSIDE) } else { (server, client, OUTSIDE) };
            let (seq, ack) = if from_client { (100, 500) } else { (500, 100) };
            for _ in 0..times {
                let segment = tcp(from, to, flags, ahead.wrapping_add(seq), acks.wrapping_add(ack));
                cluster.arrive(node, port, &segment);
            }
        }
        Event::Datagram { flow, from_client, node } if node_is_live(cluster, node) => {
            let (client, server) = ends(flow);
            let (from, to, port) =
                if from_client { (client, server, INSIDE) } else { (server, client, OUTSIDE) };
            cluster.arrive(node, port, &udp(from, to));
        }
        Event::Segment { .. } | Event::Datagram { .. } => {}
        Event::Replication(on) => cluster.replication = on,
        Event::Settle => cluster.settle(),
        Event::Pass(ms) => cluster.pass(ms),
        Event::Live(live) => cluster.set_live(&live),
        Event::Policy(number) => cluster.set_policy(&policies()[number]),
    }
}

/// All counters but those that must differ: being told to look takes a turn.
fn counted(counters: &Counters) -> Vec<(&'static str, u64)> {
    let names = Counters::NAMES.iter().map(|(name, _)| *name);
    names.zip(counters.values()).filter(|(name, _)| !["fast_path", "turns"].contains(name)).collect()
}

/// Everything that can be seen of a cluster.
fn seen(cluster: &mut Cluster) -> String {
    cluster.settle();
    let mut seen = format!("{:?}\n{:?}\n", cluster.delivered, cluster.tunnelled);
    for node in 1..=3 {
        let mut sessions = cluster.sessions(node);
        sessions.sort_by_key(|session| {
            (session.key.lo, session.key.hi, session.key.lo_port, session.key.proto())
        });
        seen += &format!("{sessions:?}\n");
        let counters = &cluster.node(node).counters;
        let drops: Vec<u64> = counters.drops.iter().map(|one| one.get()).collect();
        seen += &format!("{drops:?} {:?}\n", counted(counters));
    }
    seen
}

/// A cluster in which every packet is written down, as long as there are slots.
fn looked_at() -> Cluster {
    let mut cluster = Cluster::new();
    for node in 1..=3 {
        let watch = Arc::new(Watch::new(&[Filter::default()], 288, 40));
        cluster.node(node).tell(ToWorker::Watch(Some(Box::new(Watching::new(watch)))));
    }
    cluster.settle();
    cluster
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn with_and_without_it_everything_is_the_same(
        opening in proptest::collection::vec((0..4_usize, 1..4_u16), 0..6),
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let mut all = [Cluster::new(), Cluster::new().without_fast_path(), looked_at()];
        for cluster in &mut all {
            for &(flow, node) in &opening {
                let (client, server) = ends(flow);
                cluster.arrive(node, INSIDE, &tcp(client, server, 2, 100, 0));
                cluster.settle();
                cluster.arrive(node % 3 + 1, OUTSIDE, &tcp(server, client, 18, 500, 101));
                cluster.settle();
                cluster.arrive(node, INSIDE, &tcp(client, server, ACK, 101, 501));
                cluster.settle();
            }
            for &event in &events {
                play(cluster, event);
            }
        }
        let [fast, long, looked_at] = &mut all;
        let seen_fast = seen(fast);
        prop_assert_eq!(&seen_fast, &seen(long));
        prop_assert_eq!(&seen_fast, &seen(looked_at));
        fast.check_accounts();
    }
}

/// Otherwise the comparison would compare nothing.
#[test]
fn ordinary_traffic_takes_the_fast_path() {
    let mut cluster = Cluster::new();
    let (client, server) = ends(0);
    for (node, port, segment) in [
        (1, INSIDE, tcp(client, server, 2, 100, 0)),
        (3, OUTSIDE, tcp(server, client, 18, 500, 101)),
        (1, INSIDE, tcp(client, server, ACK, 101, 501)),
        (3, OUTSIDE, tcp(server, client, ACK, 501, 101)),
        (1, INSIDE, tcp(client, server, ACK, 101, 501)),
    ] {
        cluster.arrive(node, port, &segment);
        cluster.settle();
    }
    let fast = |node| cluster.node(node).counters.fast_path.get();
    assert_eq!((fast(1), fast(2), fast(3)), (2, 0, 1), "the last two segments, one of them through node 3");
}
