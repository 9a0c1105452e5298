//! Packets put together from what nodes have seen.

use std::time::Instant;

use super::join::Join;
use super::*;
use crate::operator::watch::{KnownSeen, NodeWatched, OutSeen, TunnelSeen};
use crate::operator::why::Said;

fn flow() -> FlowSeen {
    FlowSeen {
        proto: "tcp".into(),
        src: "10.1.0.10".parse().unwrap(),
        sport: 4000,
        dst: "10.2.0.10".parse().unwrap(),
        dport: 80,
        vlan: 0,
    }
}

fn said(verdict: &'static str, to: Option<u16>) -> Option<Said> {
    Some(Said { verdict: verdict.into(), to, generation: to.map(|_| 1), ..Said::default() })
}

/// A packet that left; `at_us`: when.
fn seen(packet: &str, at_us: u64, verdict: Option<Said>) -> Seen {
    Seen {
        at_ns: at_us * 1000,
        packet: packet.into(),
        interface: "inside".into(),
        flow: Some(flow()),
        says: "SYN".into(),
        director: 2,
        said: verdict,
        outcome: "left".into(),
        out: Some(OutSeen { interface: "outside".into(), queue: 0, pieces: 1, length: 60 }),
        length: 60,
        ..Seen::default()
    }
}

fn tunnelled(kind: &'static str, sender: u16, crossings: u8, seen: Seen) -> Seen {
    let tunnel = TunnelSeen { kind: kind.into(), sender, crossings, ingress: 1, ..TunnelSeen::default() };
    Seen { tunnel: Some(tunnel), interface: "cluster".into(), ..seen }
}

fn watched(seen: Vec<(u16, Seen)>) -> Watched {
    let nodes =
        seen.into_iter().map(|(node, seen)| NodeWatched { node, seen: vec![seen], ..Default::default() });
    Watched { nodes: nodes.collect(), silent: Vec::new() }
}

/// Packets are given once a later look has brought nothing earlier.
fn all(join: &mut Join, told: Vec<(u16, Seen)>) -> Vec<Traced> {
    let mut given = join.take(watched(told));
    let begun = Instant::now();
    while given.is_empty() && begun.elapsed() < Duration::from_secs(1) {
        given = join.take(Watched::default());
    }
    given
}

#[test]
fn a_first_packet_is_followed_to_the_director_and_back_whatever_the_clocks_say() {
    let owner = KnownSeen { role: "owner".into(), owner: 1, generation: 1, state: "SYN_SENT".into() };
    let claim = KnownSeen { role: "claim".into(), owner: 1, generation: 1, state: "CLAIMED".into() };
    let granted = tunnelled("first_packet", 2, 2, seen("a", 1200, said("forward", None)));
    // By 0.9 ms at least the clock of node 2 is behind.
    let at_director = tunnelled("query", 1, 1, seen("a", 100, said("first_packet", Some(1))));
    let steps = vec![
        (1, Seen { after: Some(owner), ..granted }),
        (2, Seen { after: Some(claim), ..at_director }),
        (1, seen("a", 1000, said("query", Some(2)))),
    ];
    let packets = all(&mut Join::new(1), steps);
    let [packet] = packets.as_slice() else { panic!("{packets:?}") };
    assert!(packet.complete);
    let nodes: Vec<_> =
        packet.steps.iter().map(|step| (step.node, step.after_us, step.clock_behind_us)).collect();
    assert_eq!(nodes, [(1, 0, 0), (2, 0, 900), (1, 200, 0)]);
    let told: Vec<&str> = packet.steps.iter().map(|step| step.told.as_str()).collect();
    assert_eq!(
        told,
        [
            "arrives by inside; no session here, Director is node 2; asks the Director, node 2 (Query); leaves by outside, queue 0",
            "comes from node 1 as Query by cluster, crossing 1; no session here, Director is node 2; claims the flow for node 1, generation 1; is granted to node 1, generation 1, and goes back there (FirstPacket); leaves by outside, queue 0",
            "comes from node 2 as FirstPacket by cluster, crossing 2; no session here, Director is node 2; a session begins, this node owns the flow, generation 1, SYN_SENT; goes on; leaves by outside, queue 0",
        ]
    );
}

#[test]
fn packets_are_told_in_the_order_of_their_arrival_and_no_more_than_are_wanted() {
    let mut join = Join::new(2);
    let packets = all(
        &mut join,
        vec![
            (3, seen("c", 300, said("forward", None))),
            (1, seen("a", 100, said("forward", None))),
            (2, seen("b", 200, said("drop", None))),
        ],
    );
    let order: Vec<_> = packets.iter().map(|packet| (packet.number, packet.at_us)).collect();
    assert_eq!(order, [(1, 100), (2, 200)]);
    assert!(join.is_done());
}

#[test]
fn the_same_bytes_twice_are_two_packets() {
    let twice = |at| (1, seen("a", at, said("query", Some(2))));
    let query = |at| (2, tunnelled("query", 1, 1, seen("a", at, said("redirect", Some(3)))));
    let end = |at| (3, tunnelled("redirect", 2, 2, seen("a", at, said("forward", None))));
    let packets =
        all(&mut Join::new(2), vec![twice(100), query(110), end(120), twice(500), query(510), end(520)]);
    let times: Vec<Vec<u64>> =
        packets.iter().map(|packet| packet.steps.iter().map(|step| step.after_us).collect()).collect();
    assert_eq!(times, [[0, 10, 20], [0, 10, 20]]);
}

#[test]
fn a_packet_that_waits_and_one_that_comes_back_from_its_service_go_on() {
    let waits = Seen { outcome: "waits".into(), out: None, ..seen("a", 100, said("forward", None)) };
    let goes_on = Seen { waited: true, ..seen("a", 150, None) };
    let packets = all(&mut Join::new(1), vec![(1, goes_on), (1, waits)]);
    assert_eq!((packets[0].steps.len(), packets[0].complete), (2, true));
    assert!(packets[0].steps[0].told.ends_with("waits for its next hop's link address"));
    let to_service = seen("s", 100, said("service", None));
    let back = Seen { from_service: true, zone: "ips".into(), ..seen("s", 120, said("forward", None)) };
    let packets = all(&mut Join::new(1), vec![(1, to_service), (1, back)]);
    assert_eq!((packets.len(), packets[0].steps.len()), (1, 2));
    assert!(packets[0].steps[1].told.starts_with("comes from service ips by inside"));
}

#[test]
fn what_is_not_told_is_not_made_up() {
    let mut join = Join::new(1);
    assert!(join.take(watched(vec![(1, seen("a", 100, said("query", Some(2))))])).is_empty());
    let rest = join.rest();
    assert_eq!((rest.len(), rest[0].complete, rest[0].steps.len()), (1, false, 1));
    let mut text = Vec::new();
    show::packet(&rest[0], &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.starts_with("packet 1  00:00:00.000100  tcp 10.1.0.10:4000 → 10.2.0.10:80 SYN, 60 bytes\n"),
        "{text}"
    );
    assert!(text.contains("what came then was not seen"), "{text}");
}
