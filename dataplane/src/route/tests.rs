//! Rows: what the kernel knows, a destination, what comes out.

use super::*;

const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
const MAC_C: [u8; 6] = [2, 0, 0, 0, 0, 0xc];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(port: Option<u8>) -> Link {
    Link { port, mac: [2, 1, 1, 1, 1, port.unwrap_or(99)], mtu: 1500, up: true, carrier: true }
}

fn via(ifindex: u32, gateway: Option<&str>) -> Via {
    Via { ifindex, gateway: gateway.map(ip), weight: 1, mtu: 0 }
}

/// Port 0 is interface 10, port 1 is 11; interface 12 is not a port. Gateways A and B are known.
fn node() -> RoutesBuilder {
    let mut node = RoutesBuilder::default();
    node.set_link(10, link(Some(0)));
    node.set_link(11, link(Some(1)));
    node.set_link(12, link(None));
    node.set_neighbour(10, ip("10.0.0.1"), MAC_A);
    node.set_neighbour(11, ip("10.1.0.1"), MAC_B);
    node
}

fn main_route(node: &mut RoutesBuilder, prefix: &str, vias: &[Via]) {
    node.set_route(Table::Main, prefix.parse().unwrap(), RouteTarget::Via(vias.to_vec()));
}

fn sent(routes: &Routes, destination: &str, flow_hash: u32) -> LinkHop {
    match routes.resolve(ip(destination), flow_hash) {
        Resolution::Send(hop) => *routes.hop(hop).expect("index of a hop"),
        other => panic!("{destination}: {other:?}"),
    }
}

/// How many of 20,000 evenly spread flows go to each link address.
fn shares(routes: &Routes, destination: &str) -> [usize; 2] {
    let mut shares = [0; 2];
    for flow in 0..20_000_u32 {
        let mac = sent(routes, destination, flow.wrapping_mul(214_748)).destination_mac;
        shares[usize::from(mac == MAC_B)] += 1;
    }
    shares
}

#[test]
fn gateway_route_sends_to_the_gateway_of_the_longest_prefix() {
    let mut node = node();
    main_route(&mut node, "0.0.0.0/0", &[via(10, Some("10.0.0.1"))]);
    main_route(&mut node, "192.0.2.0/24", &[via(11, Some("10.1.0.1"))]);
    let routes = node.build(7);
    assert_eq!(routes.generation, 7);
    let hop = sent(&routes, "198.51.100.9", 0);
    assert_eq!((hop.port, hop.destination_mac, hop.mtu), (0, MAC_A, 1500));
    assert_eq!(hop.source_mac, [2, 1, 1, 1, 1, 0]);
    assert_eq!(sent(&routes, "192.0.2.9", 0).port, 1);
    assert_eq!(routes.resolve(ip("2001:db8::1"), 0), Resolution::NoRoute);
    assert_eq!(routes.gateways(), vec![(10, ip("10.0.0.1")), (11, ip("10.1.0.1"))]);
}

#[test]
fn on_link_route_resolves_the_destination_itself() {
    let mut node = node();
    main_route(&mut node, "10.0.0.0/24", &[via(10, None)]);
    main_route(&mut node, "2001:db8::/64", &[via(11, None)]);
    let routes = node.build(1);
    assert_eq!(sent(&routes, "10.0.0.1", 5).destination_mac, MAC_A);
    let unknown = ip("10.0.0.77");
    assert_eq!(routes.resolve(unknown, 5), Resolution::Unresolved { ifindex: 10, address: unknown });
    assert_eq!(routes.next_hop(unknown, 5), Some((10, unknown)));
    node.set_neighbour(11, ip("2001:db8::5"), MAC_C);
    let routes = node.build(2);
    assert_eq!(sent(&routes, "2001:db8::5", 0).destination_mac, MAC_C);
    assert_eq!(routes.neighbour(11, ip("2001:db8::5")), Some(MAC_C));
    assert_eq!(routes.neighbour(10, ip("2001:db8::5")), None);
}

#[test]
fn ipv4_route_may_have_an_ipv6_gateway() {
    let mut node = node();
    node.set_neighbour(10, ip("fe80::1"), MAC_C);
    main_route(&mut node, "198.51.100.0/24", &[via(10, Some("fe80::1"))]);
    assert_eq!(sent(&node.build(1), "198.51.100.1", 0).destination_mac, MAC_C);
}

#[test]
fn refused_local_throw_and_foreign_interfaces_are_told_apart() {
    let mut node = node();
    main_route(&mut node, "0.0.0.0/0", &[via(10, Some("10.0.0.1"))]);
    main_route(&mut node, "172.16.0.0/12", &[via(12, Some("172.16.0.1"))]);
    main_route(&mut node, "172.17.0.0/16", &[via(404, None)]);
    node.set_route(Table::Main, "203.0.113.0/24".parse().unwrap(), RouteTarget::Refused);
    node.set_route(Table::Main, "192.0.2.0/24".parse().unwrap(), RouteTarget::NoRoute);
    node.set_route(Table::Local, "10.0.0.254/32".parse().unwrap(), RouteTarget::Local);
    let routes = node.build(1);
    assert_eq!(routes.resolve(ip("203.0.113.5"), 0), Resolution::Refused);
    assert_eq!(routes.resolve(ip("192.0.2.5"), 0), Resolution::NoRoute);
    assert_eq!(routes.resolve(ip("10.0.0.254"), 0), Resolution::Local);
    assert_eq!(routes.resolve(ip("172.16.9.9"), 0), Resolution::Elsewhere);
    assert_eq!(routes.resolve(ip("172.17.9.9"), 0), Resolution::NoRoute, "unknown link");
    assert_eq!(routes.resolve(ip("224.0.0.5"), 0), Resolution::NoRoute);
    assert_eq!(routes.resolve(ip("fe80::5"), 0), Resolution::NoRoute);
}

#[test]
fn local_prefix_yields_to_a_longer_main_one_only_for_ipv4() {
    let mut node = node();
    node.set_route(Table::Local, "10.0.0.0/8".parse().unwrap(), RouteTarget::Local);
    node.set_route(Table::Local, "2001:db8::/32".parse().unwrap(), RouteTarget::Local);
    main_route(&mut node, "10.9.0.0/16", &[via(10, Some("10.0.0.1"))]);
    main_route(&mut node, "2001:db8:9::/48", &[via(10, None)]);
    let routes = node.build(1);
    assert_eq!(sent(&routes, "10.9.0.1", 0).destination_mac, MAC_A);
    assert_eq!(routes.resolve(ip("10.8.0.1"), 0), Resolution::Local);
    assert_eq!(routes.resolve(ip("2001:db8:9::1"), 0), Resolution::Local);
}

#[test]
fn flows_spread_by_weight_and_stay() {
    let mut node = node();
    let heavy = Via { weight: 3, ..via(11, Some("10.1.0.1")) };
    main_route(&mut node, "0.0.0.0/0", &[via(10, Some("10.0.0.1")), heavy]);
    let routes = node.build(1);
    let [a, b] = shares(&routes, "198.51.100.1");
    assert!((4_700..5_300).contains(&a), "a quarter of 20,000, not {a} and {b}");
    for hash in [0, 1, 0x8000_0000, u32::MAX] {
        assert_eq!(sent(&routes, "192.0.2.1", hash), sent(&routes, "192.0.2.1", hash));
    }
}

#[test]
fn next_hop_choice_does_not_follow_the_core_choice() {
    let mut node = node();
    main_route(&mut node, "0.0.0.0/0", &[via(10, Some("10.0.0.1")), via(11, Some("10.1.0.1"))]);
    let routes = node.build(1);
    let of_first_core = (0..10_000_u32).map(|flow| flow * 200_000).filter(|hash| *hash < 1 << 31);
    let (mut all, mut first) = (0, 0);
    for hash in of_first_core {
        all += 1;
        first += usize::from(sent(&routes, "192.0.2.1", hash).destination_mac == MAC_A);
    }
    assert!(first * 10 > all * 4 && first * 10 < all * 6, "{first} of {all} flows of one core");
}

#[test]
fn silent_gateway_gives_way_to_one_that_answers() {
    let mut node = node();
    main_route(&mut node, "0.0.0.0/0", &[via(10, Some("10.0.0.1")), via(11, Some("10.1.0.1"))]);
    node.remove_neighbour(10, ip("10.0.0.1"));
    assert_eq!(shares(&node.build(1), "192.0.2.1"), [0, 20_000]);
    node.remove_neighbour(11, ip("10.1.0.1"));
    let routes = node.build(2);
    assert!(matches!(routes.resolve(ip("192.0.2.1"), 9), Resolution::Unresolved { .. }));
    assert!(routes.hops.is_empty());
}

#[test]
fn links_that_are_down_carry_nothing() {
    let mut node = node();
    main_route(&mut node, "0.0.0.0/0", &[via(10, Some("10.0.0.1")), via(11, Some("10.1.0.1"))]);
    node.set_link(10, Link { up: false, ..link(Some(0)) });
    assert_eq!(shares(&node.build(1), "192.0.2.1"), [0, 20_000]);
    node.set_link(10, Link { carrier: false, ..link(Some(0)) });
    assert_eq!(shares(&node.build(2), "192.0.2.1"), [0, 20_000], "no carrier, another way");
    node.remove_link(11);
    assert_eq!(sent(&node.build(3), "192.0.2.1", 0).destination_mac, MAC_A, "no other way");
    node.set_link(10, Link { up: false, ..link(Some(0)) });
    assert_eq!(node.build(4).resolve(ip("192.0.2.1"), 0), Resolution::NoRoute);
}

#[test]
fn port_is_preferred_to_an_interface_samepath_does_not_own() {
    let mut node = node();
    main_route(&mut node, "0.0.0.0/0", &[via(12, Some("172.16.0.1")), via(11, Some("10.1.0.1"))]);
    assert_eq!(shares(&node.build(1), "192.0.2.1"), [0, 20_000]);
}

#[test]
fn smaller_mtu_of_route_and_link_counts() {
    let mut node = node();
    main_route(&mut node, "0.0.0.0/0", &[Via { mtu: 1300, ..via(10, Some("10.0.0.1")) }]);
    main_route(&mut node, "10.0.0.0/24", &[Via { mtu: 1400, ..via(10, None) }]);
    main_route(&mut node, "10.1.0.0/24", &[Via { mtu: 9000, ..via(11, None) }]);
    let routes = node.build(1);
    assert_eq!(sent(&routes, "192.0.2.1", 0).mtu, 1300);
    assert_eq!(sent(&routes, "10.0.0.1", 0).mtu, 1400);
    assert_eq!(sent(&routes, "10.1.0.1", 0).mtu, 1500);
}

#[test]
fn tunnel_ends_are_found_on_link_and_behind_a_gateway_but_only_on_the_cluster_port() {
    let mut node = node();
    main_route(&mut node, "10.1.0.0/24", &[via(11, None)]);
    main_route(&mut node, "10.2.0.0/24", &[via(11, Some("10.1.0.1"))]);
    let routes = node.build(1);
    let ours = [2, 1, 1, 1, 1, 1];
    assert_eq!(routes.tunnel_next_hop(1, ip("10.1.0.1")), Some((ours, MAC_B)));
    assert_eq!(routes.tunnel_next_hop(1, ip("10.2.0.9")), Some((ours, MAC_B)));
    assert_eq!(routes.tunnel_next_hop(0, ip("10.2.0.9")), None);
    assert_eq!(routes.tunnel_next_hop(1, ip("10.1.0.2")), None);
}

#[test]
fn snapshots_keep_their_routes_while_the_builder_changes() {
    let mut node = node();
    main_route(&mut node, "192.0.2.0/24", &[via(10, Some("10.0.0.1"))]);
    let before = node.build(1);
    main_route(&mut node, "192.0.2.0/24", &[via(11, Some("10.1.0.1"))]);
    main_route(&mut node, "198.51.100.0/24", &[via(10, Some("10.0.0.1"))]);
    let after = node.build(2);
    node.remove_route(Table::Main, "192.0.2.0/24".parse().unwrap());
    assert_eq!(sent(&before, "192.0.2.1", 0).port, 0);
    assert_eq!(before.resolve(ip("198.51.100.1"), 0), Resolution::NoRoute);
    assert_eq!(sent(&after, "192.0.2.1", 0).port, 1);
    assert_eq!(node.build(3).resolve(ip("192.0.2.1"), 0), Resolution::NoRoute);
}

#[test]
fn routes_over_the_same_gateway_share_one_group() {
    let mut node = node();
    for third in 0..200 {
        main_route(&mut node, &format!("192.0.{third}.0/24"), &[via(10, Some("10.0.0.1"))]);
    }
    let routes = node.build(1);
    assert_eq!((routes.prefixes(), routes.groups.len()), (200, 1));
    for third in 0..200 {
        node.remove_route(Table::Main, format!("192.0.{third}.0/24").parse().unwrap());
    }
    main_route(&mut node, "0.0.0.0/0", &[via(11, Some("10.1.0.1"))]);
    let routes = node.build(2);
    assert_eq!((routes.prefixes(), routes.groups.len()), (1, 1), "freed slots are used again");
    assert_eq!(Routes::default().resolve(ip("192.0.2.1"), 0), Resolution::NoRoute);
}
