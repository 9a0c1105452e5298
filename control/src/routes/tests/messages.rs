//! Messages in, facts and effects out.

use std::net::Ipv4Addr;

use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_REPLACE, NetlinkHeader, NetlinkSerializable};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAttribute, RouteMessage, RouteMetric, RouteNextHop, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use samepath_dataplane::route::{Resolution, Table, Via};

use super::super::PortLink;
use super::super::message::{self, Fact, Kind, NextHopObject, Place, Route, Standing};
use super::super::mirror::{Effect, Mirror};
use super::{ip, link, neighbour, net, route, via};

/// Through bytes and back, as from the kernel.
fn told(message: RouteNetlinkMessage, flags: u16) -> Option<Fact> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.message_type = message.message_type();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    message::read(&header, &bytes).unwrap()
}

fn raw(message_type: u16, payload: &[u8]) -> Result<Option<Fact>, String> {
    let mut header = NetlinkHeader::default();
    header.message_type = message_type;
    message::read(&header, payload).map_err(|error| error.to_string())
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (value.len() as u16 + 4).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn v4_route(kind: RouteType, table: u8, attributes: Vec<RouteAttribute>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = 24;
    message.header.table = table;
    message.header.kind = kind;
    message.attributes = vec![RouteAttribute::Destination(Ipv4Addr::new(192, 0, 2, 0).into())];
    message.attributes.extend(attributes);
    message
}

fn read_route(message: RouteMessage) -> Option<Route> {
    match told(RouteNetlinkMessage::NewRoute(message), 0) {
        Some(Fact::Route(route, Place::First)) => Some(route),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn route_with_one_gateway_is_read() {
    let attributes = vec![
        RouteAttribute::Oif(4),
        RouteAttribute::Gateway(ip("10.0.0.1").into()),
        RouteAttribute::Priority(50),
        RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400)]),
        RouteAttribute::Other(DefaultNla::new(30, 9_u32.to_ne_bytes().to_vec())),
    ];
    let expected = Route {
        object: Some(9),
        mtu: 1400,
        ..route("192.0.2.0/24", 50, &[Via { mtu: 1400, ..via(4, Some("10.0.0.1")) }])
    };
    assert_eq!(read_route(v4_route(RouteType::Unicast, 254, attributes)), Some(expected));
}

#[test]
fn multipath_weights_and_gateways_of_the_other_family_are_read() {
    let mut first = RouteNextHop::default();
    first.interface_index = 4;
    first.hops = 2;
    first.attributes = vec![RouteAttribute::Gateway(ip("10.0.0.1").into())];
    let mut second = RouteNextHop::default();
    second.interface_index = 5;
    second.attributes = vec![RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap()))];
    let message = v4_route(RouteType::Unicast, 254, vec![RouteAttribute::MultiPath(vec![first, second])]);
    let expected = [Via { weight: 3, ..via(4, Some("10.0.0.1")) }, via(5, Some("fe80::1"))];
    assert_eq!(read_route(message), Some(route("192.0.2.0/24", 0, &expected)));
}

#[test]
fn kinds_and_tables_are_told_apart() {
    let kind_of = |kind, table| read_route(v4_route(kind, table, vec![])).map(|r| (r.kind, r.table));
    assert_eq!(kind_of(RouteType::BlackHole, 254), Some((Kind::Refused, Table::Main)));
    assert_eq!(kind_of(RouteType::Unreachable, 254), Some((Kind::Refused, Table::Main)));
    assert_eq!(kind_of(RouteType::Prohibit, 254), Some((Kind::Refused, Table::Main)));
    assert_eq!(kind_of(RouteType::Throw, 254), Some((Kind::Throw, Table::Main)));
    assert_eq!(kind_of(RouteType::Local, 255), Some((Kind::Local, Table::Local)));
    assert_eq!(kind_of(RouteType::Broadcast, 255), Some((Kind::Local, Table::Local)));
    assert_eq!(kind_of(RouteType::Anycast, 255), Some((Kind::Local, Table::Local)));
    assert_eq!(kind_of(RouteType::Multicast, 255), None);
    assert_eq!(kind_of(RouteType::Unicast, 100), None, "table 100 is not followed");
    let high_table = vec![RouteAttribute::Table(1000)];
    assert_eq!(read_route(v4_route(RouteType::Unicast, 252, high_table)), None);
}

#[test]
fn routes_for_some_sources_or_services_only_are_left_out() {
    let mut of_tos = v4_route(RouteType::Unicast, 254, vec![]);
    of_tos.header.tos = 4;
    assert_eq!(read_route(of_tos), None);
    let mut of_source = v4_route(RouteType::Unicast, 254, vec![]);
    of_source.header.source_prefix_length = 8;
    assert_eq!(read_route(of_source), None);
}

#[test]
fn place_is_read_from_the_flags_and_a_listing_is_in_order() {
    let message = || RouteNetlinkMessage::NewRoute(v4_route(RouteType::Unicast, 254, vec![]));
    let place = |flags| match told(message(), flags) {
        Some(Fact::Route(_, place)) => place,
        other => panic!("{other:?}"),
    };
    assert_eq!(place(NLM_F_REPLACE), Place::Replace);
    assert_eq!(place(NLM_F_APPEND), Place::Last);
    assert_eq!(place(0), Place::First);
    let listed = told(message(), 0).unwrap().listed();
    assert!(matches!(listed, Fact::Route(_, Place::Last)));
}

#[test]
fn neighbours_count_as_resolved_in_the_right_states() {
    let told_mac = |state, gone| {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = 4;
        message.header.state = state;
        message.attributes = vec![
            NeighbourAttribute::Destination(Ipv4Addr::new(10, 0, 0, 1).into()),
            NeighbourAttribute::LinkLocalAddress(vec![6, 0, 0, 0, 0, 1]),
        ];
        let message = if gone {
            RouteNetlinkMessage::DelNeighbour(message)
        } else {
            RouteNetlinkMessage::NewNeighbour(message)
        };
        match told(message, 0) {
            Some(Fact::Neighbour { mac, standing, .. }) => (mac.is_some(), standing),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told_mac(NeighbourState::Reachable, false), (true, Standing::Fresh));
    assert_eq!(told_mac(NeighbourState::Delay, false), (true, Standing::Fresh));
    assert_eq!(told_mac(NeighbourState::Probe, false), (true, Standing::Fresh));
    assert_eq!(told_mac(NeighbourState::Stale, false), (true, Standing::Stale));
    assert_eq!(told_mac(NeighbourState::Permanent, false), (true, Standing::Lasting));
    assert_eq!(told_mac(NeighbourState::Noarp, false), (true, Standing::Lasting));
    assert_eq!(told_mac(NeighbourState::Incomplete, false), (false, Standing::Asked));
    assert_eq!(told_mac(NeighbourState::Failed, false), (false, Standing::Unknown));
    assert_eq!(told_mac(NeighbourState::Reachable, true), (false, Standing::Unknown));
}

#[test]
fn link_is_read_whatever_else_its_message_contains() {
    let mut payload = vec![0; 16];
    payload[4..8].copy_from_slice(&7_u32.to_ne_bytes());
    payload[8..12].copy_from_slice(&(1_u32 | 1 << 16).to_ne_bytes());
    payload.extend(attribute(3, b"eth7\0"));
    payload.extend(attribute(60_000, b"from a newer kernel"));
    payload.extend(attribute(1, &[2, 0, 0, 0, 0, 7]));
    payload.extend(attribute(4, &1500_u32.to_ne_bytes()));
    let expected = super::super::LinkState { name: "eth7".into(), ..link(7) };
    assert_eq!(raw(16, &payload), Ok(Some(Fact::Link(expected))));
    assert_eq!(raw(17, &payload), Ok(Some(Fact::LinkGone(7))));
    payload[0] = 7;
    assert_eq!(raw(17, &payload), Ok(None), "a bridge lost a port, the interface stays");
    assert!(raw(16, &payload[..11]).is_err());
}

#[test]
fn next_hop_objects_are_read() {
    let object = |attributes: &[Vec<u8>]| {
        let mut payload = vec![0; 8];
        payload.extend(attributes.concat());
        raw(104, &payload).unwrap()
    };
    let id = attribute(1, &5_u32.to_ne_bytes());
    let oif = attribute(5, &4_u32.to_ne_bytes());
    let single = NextHopObject::Single(via(4, Some("10.0.0.1")));
    let gateway = attribute(6, &[10, 0, 0, 1]);
    assert_eq!(object(&[id.clone(), oif, gateway]), Some(Fact::NextHop(5, single)));
    let members = [[5, 0, 0, 0, 0, 0, 0, 0], [6, 0, 0, 0, 2, 0, 0, 0]].concat();
    let group = NextHopObject::Group(vec![(5, 1), (6, 3)]);
    let group_of = object(&[id.clone(), attribute(2, &members)]);
    assert_eq!(group_of, Some(Fact::NextHop(5, group)));
    let blackhole = object(&[id.clone(), attribute(4, &[])]);
    assert_eq!(blackhole, Some(Fact::NextHop(5, NextHopObject::Blackhole)));
    let gone = raw(105, &[vec![0; 8], id].concat());
    assert_eq!(gone, Ok(Some(Fact::NextHopGone(5))));
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for message_type in [16, 17, 20, 21, 24, 25, 28, 29, 104, 105, 9_999] {
        for _ in 0..2_000 {
            let length = (random() % 120) as usize;
            let mut payload: Vec<u8> = (0..length).map(|_| random() as u8 & 0x1f).collect();
            if random() % 2 == 0 && length > 20 {
                payload[0] = 2;
            }
            let _ = raw(message_type, &payload);
        }
    }
}

fn node() -> Mirror {
    let ports = [PortLink { port: 0, ifindex: 4 }, PortLink { port: 1, ifindex: 5 }];
    let mut mirror = Mirror::new(&ports);
    for ifindex in [4, 5, 6] {
        assert_eq!(mirror.apply(Fact::Link(link(ifindex))), Effect::Changed);
    }
    mirror
}

#[test]
fn only_what_changes_a_snapshot_is_a_change() {
    let mut node = node();
    assert_eq!(node.apply(Fact::Link(link(4))), Effect::None);
    assert_eq!(node.apply(neighbour(4, "10.0.0.1", Some(1), Standing::Fresh)), Effect::Changed);
    assert_eq!(node.apply(neighbour(4, "10.0.0.1", Some(1), Standing::Stale)), Effect::None);
    assert_eq!(node.apply(neighbour(4, "10.0.0.1", Some(2), Standing::Fresh)), Effect::Changed);
    assert_eq!(node.apply(neighbour(4, "10.0.0.9", None, Standing::Asked)), Effect::None);
    assert_eq!(node.apply(neighbour(4, "10.0.0.1", None, Standing::Unknown)), Effect::Changed);
    assert_eq!(node.apply(neighbour(6, "10.9.0.1", Some(1), Standing::Fresh)), Effect::None);
    let best = route("192.0.2.0/24", 1, &[via(4, Some("10.0.0.1"))]);
    let worse = route("192.0.2.0/24", 9, &[via(5, Some("10.1.0.1"))]);
    assert_eq!(node.apply(Fact::Route(best.clone(), Place::First)), Effect::Changed);
    assert_eq!(node.apply(Fact::Route(worse.clone(), Place::First)), Effect::None);
    assert_eq!(node.apply(Fact::RouteGone(best)), Effect::Changed);
    assert_eq!(node.apply(Fact::RouteGone(worse)), Effect::Changed);
}

#[test]
fn events_after_which_the_kernel_is_silent_call_for_a_listing() {
    let mut node = node();
    let down = super::super::LinkState { up: false, ..link(4) };
    assert_eq!(node.apply(Fact::Link(down)), Effect::Outdated);
    let no_carrier = super::super::LinkState { carrier: false, ..link(5) };
    assert_eq!(node.apply(Fact::Link(no_carrier)), Effect::Changed);
    assert_eq!(node.apply(Fact::Address(5, net("10.0.0.1/24"))), Effect::Changed);
    assert_eq!(node.apply(Fact::AddressGone(5, net("10.0.0.1/24"))), Effect::Outdated);
    assert_eq!(node.apply(Fact::AddressGone(5, net("10.0.0.1/24"))), Effect::None);
    assert_eq!(node.apply(Fact::LinkGone(4)), Effect::Outdated);
    assert_eq!(node.apply(Fact::LinkGone(4)), Effect::None);
}

#[test]
fn snapshot_says_where_packets_go_and_what_is_local() {
    let mut node = node();
    node.apply(neighbour(4, "10.0.0.1", Some(1), Standing::Stale));
    node.apply(Fact::Route(route("0.0.0.0/0", 0, &[via(4, Some("10.0.0.1"))]), Place::First));
    node.apply(Fact::Address(4, net("10.0.0.254/24")));
    for (prefix, table) in [
        ("10.0.0.254/32", Table::Local),
        ("10.0.0.255/32", Table::Local),
        ("127.0.0.1/32", Table::Local),
        ("172.16.0.0/12", Table::Local),
        ("2001:db8::/128", Table::Local),
    ] {
        let local = Route { kind: Kind::Local, table, ..route(prefix, 0, &[via(4, None)]) };
        node.apply(Fact::Route(local, Place::First));
    }
    let mirrored = node.snapshot(3);
    assert_eq!(mirrored.routes.generation, 3);
    assert_eq!(mirrored.routes.resolve(ip("198.51.100.1"), 0), Resolution::Send(0));
    assert_eq!(mirrored.routes.resolve(ip("172.17.0.1"), 0), Resolution::Local);
    let own = ["10.0.0.254", "10.0.0.255", "2001:db8::"].map(ip);
    assert_eq!(mirrored.own_addresses, own);
    assert_eq!(mirrored.links[0].addresses, vec![net("10.0.0.254/24")]);
    node.apply(Fact::LinkGone(4));
    assert_eq!(node.snapshot(4).routes.resolve(ip("198.51.100.1"), 0), Resolution::NoRoute);
    assert_eq!(node.neighbour(4, ip("10.0.0.1")), None);
}

#[test]
fn mirrors_that_say_the_same_are_known_as_such() {
    let (mut one, mut other) = (node(), node());
    one.apply(neighbour(4, "10.0.0.1", Some(1), Standing::Stale));
    assert!(!one.says_the_same_as(&other));
    other.apply(neighbour(4, "10.0.0.1", Some(1), Standing::Fresh));
    assert!(one.says_the_same_as(&other));
    one.apply(Fact::Route(route("0.0.0.0/0", 0, &[via(4, None)]), Place::First));
    assert!(!one.says_the_same_as(&other));
}
