//! Whom to ask for, and when. Time is an argument.

use samepath_dataplane::clock::NowMs;

use super::super::PortLink;
use super::super::message::{Fact, Place, Standing};
use super::super::mirror::Mirror;
use super::super::probes::Probes;
use super::{ip, link, neighbour, route, via};

/// Ports 4 and 5, a default route by 10.0.0.1 on 4, an on-link prefix on 5.
fn node() -> Mirror {
    let ports = [PortLink { port: 0, ifindex: 4 }, PortLink { port: 1, ifindex: 5 }];
    let mut mirror = Mirror::new(&ports);
    for ifindex in [4, 5, 6] {
        mirror.apply(Fact::Link(link(ifindex)));
    }
    mirror.apply(Fact::Route(route("0.0.0.0/0", 0, &[via(4, Some("10.0.0.1"))]), Place::First));
    mirror.apply(Fact::Route(route("10.1.0.0/24", 0, &[via(5, None)]), Place::First));
    mirror
}

fn due(probes: &mut Probes, mirror: &Mirror, now: u64) -> Vec<(u32, std::net::IpAddr)> {
    probes.due(mirror, &mirror.snapshot(1).routes, NowMs(now))
}

#[test]
fn gateways_and_peers_are_asked_for_before_they_are_needed_and_until_they_answer() {
    let (mut probes, mut node) = (Probes::default(), node());
    probes.keep(vec![(5, ip("10.1.0.7")), (5, ip("203.0.113.7"))]);
    let both = vec![(4, ip("10.0.0.1")), (5, ip("10.1.0.7"))];
    assert_eq!(due(&mut probes, &node, 1_000), both, "a peer behind a gateway stands for it");
    assert_eq!(due(&mut probes, &node, 1_500), vec![], "too soon");
    assert_eq!(due(&mut probes, &node, 2_000), both);
    node.apply(neighbour(4, "10.0.0.1", Some(1), Standing::Fresh));
    node.apply(neighbour(5, "10.1.0.7", None, Standing::Asked));
    assert_eq!(due(&mut probes, &node, 4_000), vec![], "one known, one being asked");
    node.apply(neighbour(5, "10.1.0.7", None, Standing::Unknown));
    assert_eq!(due(&mut probes, &node, 5_000), vec![(5, ip("10.1.0.7"))], "failed: again");
    let down = super::super::LinkState { up: false, ..link(5) };
    node.apply(Fact::Link(down));
    assert_eq!(due(&mut probes, &node, 6_000), vec![], "not on a link that is down");
}

#[test]
fn stale_neighbours_are_confirmed_every_fifteen_seconds_but_permanent_ones_never() {
    let (mut probes, mut node) = (Probes::default(), node());
    node.apply(neighbour(4, "10.0.0.1", Some(1), Standing::Stale));
    node.apply(neighbour(5, "10.1.0.5", Some(2), Standing::Stale));
    node.apply(neighbour(5, "10.1.0.6", Some(3), Standing::Lasting));
    node.apply(neighbour(5, "10.1.0.8", Some(4), Standing::Fresh));
    let stale = vec![(4, ip("10.0.0.1")), (5, ip("10.1.0.5"))];
    assert_eq!(due(&mut probes, &node, 1_000), stale);
    assert_eq!(due(&mut probes, &node, 15_999), vec![]);
    assert_eq!(due(&mut probes, &node, 16_000), stale);
}

#[test]
fn rounds_over_many_stale_neighbours_take_turns() {
    let (mut probes, mut node) = (Probes::default(), node());
    node.apply(neighbour(4, "10.0.0.1", Some(1), Standing::Fresh));
    for host in 0..1_500_u32 {
        let address = format!("10.1.{}.{}", host / 250, host % 250);
        node.apply(neighbour(5, &address, Some(2), Standing::Stale));
    }
    let first = due(&mut probes, &node, 1_000);
    let second = due(&mut probes, &node, 20_000);
    assert_eq!((first.len(), second.len()), (1_024, 1_024));
    let mut all = [first, second].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 1_500);
}

#[test]
fn waiting_packets_ask_once_per_half_second_and_address() {
    let (mut probes, mut node) = (Probes::default(), node());
    let mut ask =
        |node: &Mirror, ifindex, address: &str, now| probes.ask(node, ifindex, ip(address), NowMs(now));
    assert!(ask(&node, 5, "10.1.0.9", 1_000));
    assert!(!ask(&node, 5, "10.1.0.9", 1_499));
    assert!(ask(&node, 5, "10.1.0.10", 1_499));
    assert!(ask(&node, 5, "10.1.0.9", 1_500));
    assert!(!ask(&node, 6, "10.1.0.9", 1_500), "not a port");
    node.apply(neighbour(5, "10.1.0.11", Some(1), Standing::Fresh));
    assert!(!ask(&node, 5, "10.1.0.11", 1_500), "known by now");
    let scan = (0..2_000_u32)
        .filter(|host| ask(&node, 5, &format!("10.1.{}.{}", 100 + host / 250, host % 250), 1_600));
    assert!(scan.count() < 512, "a scan is bounded");
}
