//! Policy on three whole workers: what is denied crosses nothing and leaves nothing, replies pass, changes reach
//! sessions with their next packet.

mod cluster;

use std::net::Ipv4Addr;
use std::sync::Arc;

use cluster::{ACK, Cluster, Crossing, INSIDE, OUTSIDE, SYN, hosts, tcp, udp};
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::policy::{ANY_ZONE, Action, Match, Policy, Rule};
use samepath_dataplane::session::timeouts::Timeouts;
use samepath_dataplane::session::{Role, State};
use samepath_dataplane::verdict::DropReason::{NoSession, PolicyDenied, PolicyEnded, PolicyRejected};
use samepath_dataplane::wire::tunnel::TunnelKind::{FirstPacket, Lookup, Query, Redirect};

/// Zone of INSIDE; OUTSIDE is 2.
const FROM_INSIDE: u16 = 1 << 1;

fn rule(zones: u16, protocol: u8, port: u16, action: Action) -> Rule {
    let one = Match { protocols: vec![protocol], destination_ports: vec![port..=port], ..Match::default() };
    let matches = vec![one];
    Rule { zones, source: vec![], destination: vec![], matches, action, terms: 0, local: false, log: false }
}

fn policy(number: u16, rules: &[Rule], default: Action) -> Arc<Policy> {
    let short = Timeouts { udp: 5_000, udp_stream: 5_000, ..Timeouts::default() };
    Arc::new(Policy::new((number, u32::from(number)), rules, default, &[short], 2).unwrap())
}

/// From inside web and DNS may begin, nothing else.
fn office(number: u16) -> Arc<Policy> {
    let (web, dns) = (rule(FROM_INSIDE, 6, 80, Action::Allow), rule(FROM_INSIDE, 17, 53, Action::Allow));
    policy(number, &[web, dns], Action::Deny)
}

fn nobody_knows_anything(cluster: &mut Cluster) {
    for id in 1..=3 {
        assert_eq!(cluster.sessions(id), [], "node {id}");
    }
}

#[test]
fn a_denied_first_packet_crosses_nothing_and_leaves_no_claim() {
    let mut cluster = Cluster::new();
    cluster.set_policy(&office(1));
    let (client, server) = hosts(2, 0);
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 22), SYN, 100, 0));
    cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 22)));
    cluster.arrive(1, OUTSIDE, &tcp((server, 1000), (client, 80), SYN, 100, 0));
    cluster.settle();
    assert_eq!((cluster.crossings.len(), cluster.delivered.len()), (0, 0));
    nobody_knows_anything(&mut cluster);
    assert_eq!(cluster.drops(1, PolicyDenied), 3);
    assert_eq!(cluster.hits(1, 2), (3, 0), "the default was the answer");
    cluster.check_accounts();
}

#[test]
fn an_allowed_flow_is_asked_about_as_ever_and_its_replies_pass() {
    for replication in [true, false] {
        let mut cluster = Cluster::new();
        cluster.set_policy(&office(1));
        cluster.replication = replication;
        let (client, server) = hosts(2, 0);
        cluster.establish(client, server);
        assert_eq!(cluster.delivered.len(), 3, "replicated: {replication}");
        let crossed: Vec<_> = cluster.crossings.iter().map(|one| one.kind).collect();
        let expected = if replication {
            vec![Query, FirstPacket, Redirect]
        } else {
            vec![Query, FirstPacket, Query, Redirect]
        };
        assert_eq!(crossed, expected);
        let session = cluster.sessions(1)[0];
        assert_eq!((session.admission.policy, session.admission.zone), (1, 1));
        assert_eq!((cluster.hits(1, 0), cluster.hits(2, 0)), ((1, 1), (0, 0)), "counted once, at the Owner");
        cluster.check_accounts();
    }
}

#[test]
fn a_datagram_that_may_be_a_reply_is_looked_up_and_finds_its_owner() {
    let mut cluster = Cluster::new();
    cluster.set_policy(&office(1));
    cluster.replication = false;
    let (client, server) = hosts(2, 0);
    cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 53)));
    cluster.settle();
    cluster.crossings.clear();
    cluster.arrive(3, OUTSIDE, &udp((server, 53), (client, 1000)));
    cluster.settle();
    let crossing = |from, to, kind| Crossing { from, to, kind };
    assert_eq!(cluster.crossings, [crossing(3, 2, Lookup), crossing(2, 1, Redirect)]);
    assert_eq!(cluster.delivered.len(), 2);
    assert_eq!(cluster.sessions(1)[0].state, State::UdpReplied);
    cluster.check_accounts();
}

#[test]
fn a_datagram_that_answers_nothing_is_dropped_by_the_director_and_claims_nothing() {
    let mut cluster = Cluster::new();
    cluster.set_policy(&office(1));
    // The Directors: another node, and the ingress itself.
    for (director, crossings) in [(2, 1), (3, 0)] {
        let (client, server) = hosts(director, 0);
        cluster.crossings.clear();
        cluster.arrive(3, OUTSIDE, &udp((server, 53), (client, 1000)));
        cluster.settle();
        assert_eq!(cluster.crossings.len(), crossings);
        assert_eq!(cluster.drops(director, PolicyDenied), 1);
        nobody_knows_anything(&mut cluster);
    }
    assert!(cluster.delivered.is_empty());
    cluster.check_accounts();
}

#[test]
fn a_rejected_syn_is_reset_at_its_ingress() {
    let mut cluster = Cluster::new();
    cluster.set_policy(&policy(1, &[rule(ANY_ZONE, 6, 80, Action::Reject)], Action::Allow));
    let (client, server) = hosts(2, 0);
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), SYN, 100, 0));
    cluster.settle();
    assert!(cluster.crossings.is_empty());
    let (node, port, bytes) = &cluster.delivered[0];
    assert_eq!((*node, *port, bytes.len()), (1, INSIDE, 54));
    assert_eq!(bytes[..6], [2, 0, 0, 0, 0xff, INSIDE], "to the gateway towards the client");
    assert_eq!((&bytes[26..30], &bytes[30..34]), (&server.octets()[..], &client.octets()[..]));
    assert_eq!(bytes[38..48], [0, 0, 0, 0, 0, 0, 0, 101, 0x50, 0x14], "RST and ACK of its SYN");
    assert_eq!(bytes[22], 64);
    assert_eq!(cluster.node(1).counters.rejected.get(), 1);
    assert_eq!(cluster.hits(1, 0), (1, 0));
    nobody_knows_anything(&mut cluster);
    cluster.check_accounts();
}

#[test]
fn a_rejected_datagram_is_answered_by_icmp_and_a_flood_of_them_is_not() {
    let mut cluster = Cluster::new();
    cluster.set_policy(&policy(1, &[rule(ANY_ZONE, 17, 53, Action::Reject)], Action::Deny));
    let (client, server) = hosts(2, 0);
    let datagram = udp((client, 1000), (server, 53));
    cluster.arrive(1, INSIDE, &datagram);
    cluster.settle();
    let (node, port, bytes) = cluster.delivered.remove(0);
    assert_eq!((node, port, bytes[23], &bytes[34..36]), (1, INSIDE, 1, &[3, 13][..]));
    assert_eq!(bytes[42..], datagram[14..]);
    for _ in 0..1_200 {
        cluster.arrive(1, INSIDE, &datagram);
        if cluster.step(0) {
            cluster.settle();
        }
    }
    assert_eq!((cluster.delivered.len(), cluster.drops(1, PolicyRejected)), (999, 201));
    cluster.pass(1_000);
    cluster.arrive(1, INSIDE, &datagram);
    cluster.settle();
    assert_eq!(cluster.delivered.len(), 1_000);
    cluster.check_accounts();
}

#[test]
fn a_session_the_new_policy_denies_ends_with_its_next_packet_on_all_nodes() {
    let mut cluster = Cluster::new();
    cluster.set_policy(&office(1));
    let ((client, server), (other, _)) = (hosts(2, 0), hosts(2, 1));
    cluster.establish(client, server);
    cluster.establish(other, server);
    cluster.delivered.clear();
    let only_other = Rule {
        source: vec![format!("{other}/32").parse().unwrap()],
        ..rule(FROM_INSIDE, 6, 80, Action::Allow)
    };
    cluster.set_policy(&policy(2, &[only_other], Action::Deny));
    // By the node that owns it, and by another one.
    let ack = |client: Ipv4Addr| tcp((client, 1000), (server, 80), ACK, 101, 501);
    let reply = |client: Ipv4Addr| tcp((server, 80), (client, 1000), ACK, 501, 101);
    cluster.arrive(3, OUTSIDE, &reply(client));
    cluster.arrive(1, INSIDE, &ack(other));
    cluster.settle();
    assert_eq!(cluster.drops(1, PolicyEnded), 1);
    assert_eq!(cluster.node(1).counters.sessions_ended.get(), 1);
    for id in 1..=3 {
        let clients: Vec<_> = cluster.sessions(id).iter().map(|session| session.key.lo).collect();
        assert_eq!(clients, [samepath_dataplane::flow::key_bytes(other.into())], "node {id}");
    }
    cluster.arrive(1, INSIDE, &ack(client));
    cluster.settle();
    assert_eq!(cluster.drops(2, NoSession), 1, "nobody knows the flow any longer");
    // The other flow goes on, judged once.
    let fast = cluster.node(1).counters.fast_path.get();
    cluster.arrive(1, INSIDE, &ack(other));
    cluster.settle();
    assert_eq!(cluster.node(1).counters.fast_path.get(), fast + 1);
    assert_eq!(cluster.delivered.len(), 2);
    let session = cluster.sessions(1)[0];
    assert_eq!((session.admission.policy, session.admission.zone), (2, 1));
    cluster.check_accounts();
}

#[test]
fn a_node_judges_what_it_takes_over_by_where_the_flow_began() {
    for (allowed, reason) in [(true, 0), (false, 1)] {
        let mut cluster = Cluster::new();
        cluster.set_policy(&office(1));
        let (client, server) = hosts(3, 0);
        cluster.establish(client, server);
        if !allowed {
            let none = policy(2, &[], Action::Deny);
            cluster.set_policy_of(3, &none);
            cluster.settle();
        }
        cluster.set_live(&[2, 3]);
        cluster.delivered.clear();
        // A reply: the policy judges the flow, not this packet.
        cluster.arrive(3, OUTSIDE, &tcp((server, 80), (client, 1000), ACK, 501, 101));
        cluster.settle();
        assert_eq!((cluster.delivered.len() as u64, cluster.drops(3, PolicyEnded)), (1 - reason, reason));
        let left: Vec<_> = cluster.sessions(2).iter().map(|session| (session.role, session.owner)).collect();
        assert_eq!(
            left,
            if allowed { vec![(Role::Backup, NodeId(3))] } else { vec![] },
            "allowed: {allowed}"
        );
    }
}

#[test]
fn a_reply_that_overtakes_the_first_packet_on_its_way_is_none_too_early() {
    let mut cluster = Cluster::new();
    cluster.set_policy(&office(1));
    let (client, server) = hosts(2, 0);
    // Two datagrams cross: the client's at node 1, the server's at node 3, before anybody is told.
    cluster.replication = false;
    cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 53)));
    cluster.arrive(1, OUTSIDE, &udp((server, 53), (client, 1000)));
    cluster.settle();
    assert_eq!(cluster.delivered.len(), 2, "the reply overtook the answer about the first packet");
    assert_eq!(cluster.sessions(1).len(), 1);
    cluster.check_accounts();
}

#[test]
fn a_flow_without_aggregation_stays_where_it_began() {
    let mut cluster = Cluster::new();
    let dns = Rule { local: true, ..rule(FROM_INSIDE, 17, 53, Action::Allow) };
    cluster.set_policy(&policy(1, &[dns], Action::Deny));
    let (client, server) = hosts(2, 0);
    cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 53)));
    cluster.arrive(1, OUTSIDE, &udp((server, 53), (client, 1000)));
    cluster.settle();
    assert_eq!((cluster.crossings.len(), cluster.delivered.len()), (0, 2));
    let counts = [1, 2, 3].map(|id| cluster.sessions(id).len());
    assert_eq!(counts, [1, 0, 0], "no claim, no backup");
    assert!(cluster.sessions(1)[0].admission.local);
    cluster.pass(200_000);
    assert_eq!(cluster.sessions(1), []);
    cluster.check_accounts();
}

#[test]
fn a_rules_idle_times_are_its_sessions() {
    let mut cluster = Cluster::new();
    let dns = Rule { terms: 1, ..rule(FROM_INSIDE, 17, 53, Action::Allow) };
    cluster.set_policy(&policy(1, &[dns], Action::Allow));
    // The Directors: another node (the session begins with the packet that comes back), and the ingress.
    for director in [2, 1] {
        let (client, server) = hosts(director, 0);
        cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 53)));
        cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 54)));
    }
    cluster.settle();
    assert_eq!(cluster.sessions(1).len(), 4);
    cluster.pass(4_000);
    let (client, server) = hosts(2, 0);
    cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 53)));
    cluster.pass(4_000);
    assert_eq!(cluster.sessions(1).len(), 3, "one of the short ones had a packet");
    cluster.pass(4_000);
    assert_eq!(cluster.sessions(1).len(), 2);
    cluster.check_accounts();
}

#[test]
fn the_log_hears_of_rules_that_ask_for_it_and_not_too_often() {
    let mut cluster = Cluster::new();
    let telnet = Rule { log: true, ..rule(ANY_ZONE, 6, 23, Action::Deny) };
    let web = Rule { log: true, ..rule(ANY_ZONE, 6, 80, Action::Allow) };
    cluster.set_policy(&policy(1, &[telnet, web], Action::Allow));
    let (client, server) = hosts(2, 0);
    cluster.arrive(3, INSIDE, &tcp((client, 1000), (server, 23), SYN, 1, 0));
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), SYN, 1, 0));
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 81), SYN, 1, 0));
    cluster.settle();
    assert_eq!(cluster.judged, [(3, 0), (1, 1)], "an allowed flow once, at its Owner");
    for _ in 0..150 {
        cluster.arrive(3, INSIDE, &tcp((client, 1000), (server, 23), SYN, 1, 0));
    }
    cluster.settle();
    assert_eq!(cluster.judged.len(), 101);
    assert_eq!(cluster.node(3).counters.logs_lost.get(), 51);
}

#[test]
fn a_closed_connection_is_opened_again_only_from_where_it_may() {
    let mut cluster = Cluster::new();
    cluster.set_policy(&office(1));
    let (client, server) = hosts(2, 0);
    cluster.establish(client, server);
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), 4, 101, 0));
    cluster.settle();
    assert_eq!(cluster.sessions(1)[0].state, State::TcpClose);
    cluster.arrive(1, OUTSIDE, &tcp((server, 80), (client, 1000), SYN, 9_000_000, 0));
    cluster.settle();
    assert_eq!((cluster.drops(1, PolicyDenied), cluster.sessions(1)[0].state), (1, State::TcpClose));
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), SYN, 9_000_000, 0));
    cluster.settle();
    assert_eq!(cluster.sessions(1)[0].state, State::TcpSynSent);
    cluster.check_accounts();
}
