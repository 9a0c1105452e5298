//! Floods of new flows: what is established stays, on all nodes, and memory is what it was.

mod cluster;

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering::Relaxed;

use cluster::{ACK, Cluster, INSIDE, OUTSIDE, SYN, lone_settings, tcp, udp};
use samepath_dataplane::floods::{Floods, Rate};
use samepath_dataplane::session::{Role, State};
use samepath_dataplane::tuning::Tuning;
use samepath_dataplane::verdict::DropReason;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);
/// A quarter of the 4096 sessions of a node.
const SHARE: usize = 1024;
const CONNECTIONS: u32 = 200;

/// Host `n` of the clients' network.
fn client(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a01_0000 + n % 0xffff)
}

/// Connections through nodes 1 and 3.
fn with_connections(mut cluster: Cluster) -> Cluster {
    for n in 0..CONNECTIONS {
        cluster.establish(client(n), SERVER);
    }
    cluster
}

/// SYNs, each the first of its flow, through node 1.
fn flood(cluster: &mut Cluster, count: u32) {
    for n in 0..count {
        let source = (client(n.wrapping_mul(7919)), 20_000 + (n / 1000) as u16);
        cluster.arrive(1, INSIDE, &tcp(source, (SERVER, 443), SYN, 1, 0));
        if n % 32 == 31 {
            cluster.settle();
        }
    }
    cluster.settle();
    cluster.delivered.clear();
}

/// Each connection is on each node, and goes on in both directions.
fn all_go_on(cluster: &mut Cluster) {
    for id in 1..=3 {
        let established =
            cluster.sessions(id).iter().filter(|one| one.state == State::TcpEstablished).count();
        assert_eq!(established, CONNECTIONS as usize, "connections that node {id} knows");
    }
    cluster.delivered.clear();
    for n in 0..CONNECTIONS {
        cluster.arrive(1, INSIDE, &tcp((client(n), 1000), (SERVER, 80), ACK, 101, 501));
        cluster.arrive(3, OUTSIDE, &tcp((SERVER, 80), (client(n), 1000), ACK, 501, 101));
        cluster.settle();
    }
    assert_eq!(cluster.delivered.len(), 2 * CONNECTIONS as usize, "packets of connections");
    cluster.check_accounts();
}

#[test]
fn a_flood_of_syns_pushes_out_itself_and_no_connection_on_any_node() {
    let mut cluster = with_connections(Cluster::new());
    flood(&mut cluster, 6_000);
    for node in &cluster.nodes {
        // The Owner's ends come after its beginnings: its peers may have room when it has none.
        let yielding = node.counters.sessions_yielding.get() as usize;
        assert!(yielding <= SHARE && yielding > SHARE * 9 / 10, "node {}: {yielding}", node.id);
        assert_eq!(node.counters.drops[DropReason::TableFull as usize].get(), 0);
    }
    assert_eq!(cluster.node(1).counters.sessions_evicted.get(), 6_000 - SHARE as u64);
    all_go_on(&mut cluster);
}

#[test]
fn claims_give_way_like_half_open_sessions_while_nobody_hears_of_owners() {
    let mut cluster = with_connections(Cluster::new());
    cluster.replication = false;
    flood(&mut cluster, 6_000);
    for node in &cluster.nodes[1..] {
        let claims = node.counters.sessions_claim.get();
        assert!(claims > 900 && claims <= SHARE as u64, "node {} has {claims} claims", node.id);
        assert!(node.counters.claims_evicted.get() > 0);
    }
    all_go_on(&mut cluster);
}

#[test]
fn a_handshake_in_a_flood_is_done_before_its_turn_comes() {
    let mut cluster = Cluster::new();
    for round in 0..20 {
        let visitor = Ipv4Addr::new(10, 1, 255, round);
        cluster.arrive(1, INSIDE, &tcp((visitor, 1000), (SERVER, 80), SYN, 100, 0));
        flood(&mut cluster, SHARE as u32 / 2);
        cluster.arrive(3, OUTSIDE, &tcp((SERVER, 80), (visitor, 1000), SYN | ACK, 500, 101));
        flood(&mut cluster, SHARE as u32 / 4);
        cluster.arrive(1, INSIDE, &tcp((visitor, 1000), (SERVER, 80), ACK, 101, 501));
        cluster.settle();
    }
    let established = cluster.sessions(1).iter().filter(|one| one.state == State::TcpEstablished).count();
    assert_eq!(established, 20);
}

#[test]
fn half_open_sessions_wait_while_peers_are_behind_and_established_ones_do_not() {
    let mut cluster = Cluster::new();
    cluster.node(1).counters.lagging.store(true, Relaxed);
    flood(&mut cluster, 500);
    for id in 2..=3 {
        let backups = cluster.sessions(id).iter().filter(|one| one.role == Role::Backup).count();
        assert_eq!(backups, 0, "node {id} was told of half-open sessions");
    }
    assert_eq!(cluster.node(1).counters.put_off.get(), 500);
    for n in 0..CONNECTIONS {
        cluster.establish(client(n), SERVER);
    }
    all_go_on(&mut cluster);
    // What ends before it was told of is nobody's business.
    flood(&mut cluster, 2_000);
    assert_eq!(cluster.resyncs, 0, "peers would need a bulk sync");
    cluster.node(1).counters.lagging.store(false, Relaxed);
    cluster.settle();
    cluster.pass(1_000);
    assert_eq!(cluster.node(1).counters.dirty.get(), 0);
    let backups = cluster.sessions(3).iter().filter(|one| one.state == State::TcpSynSent).count();
    assert!(backups > SHARE * 9 / 10, "when peers are up to date they are told of those left, {backups}");
}

#[test]
fn a_prefix_over_its_rate_costs_its_ingress_a_drop_and_others_nothing() {
    let per_prefix = Some(Rate { per_second: 100, burst: 250 });
    let tuning = Tuning { floods: Floods { per_prefix, ..Floods::default() }, ..Tuning::default() };
    let mut cluster = with_connections(Cluster::tuned(lone_settings(), tuning));
    cluster.pass(10_000);
    let before = cluster.node(1).counters.query_tx.get();
    for n in 0..2_000 {
        let source = (Ipv4Addr::new(10, 1, 9, (n % 250) as u8), 1000 + n as u16);
        cluster.arrive(1, INSIDE, &udp(source, (SERVER, 53)));
        cluster.settle();
    }
    assert_eq!(cluster.drops(1, DropReason::PrefixRate), 2_000 - 250);
    let asked = cluster.node(1).counters.query_tx.get() - before;
    assert!(asked <= 250, "{asked} Queries");
    cluster.delivered.clear();
    cluster.arrive(1, INSIDE, &udp((Ipv4Addr::new(10, 1, 10, 1), 1000), (SERVER, 53)));
    cluster.settle();
    assert_eq!(cluster.delivered.len(), 1, "another prefix");
    all_go_on(&mut cluster);
}
