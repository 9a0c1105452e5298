//! Which of several routes to one prefix counts: the kernel's rules, one row each.

use samepath_dataplane::route::{RouteTarget, Table, Via};

use super::super::fib::Fib;
use super::super::message::{Kind, NextHopObject, Place, Route};
use super::{net, route, via};

fn target(fib: &Fib, prefix: &str) -> Option<RouteTarget> {
    fib.target(Table::Main, net(prefix))
}

fn vias(vias: &[Via]) -> Option<RouteTarget> {
    Some(RouteTarget::Via(vias.to_vec()))
}

fn object_route(prefix: &str, object: u32) -> Route {
    Route { object: Some(object), ..route(prefix, 0, &[]) }
}

#[test]
fn lowest_metric_wins_and_the_next_takes_over() {
    let mut fib = Fib::default();
    let (a, b) = (via(1, Some("10.0.0.1")), via(2, Some("10.1.0.1")));
    fib.insert(&route("192.0.2.0/24", 200, &[b]), Place::First);
    fib.insert(&route("192.0.2.0/24", 100, &[a]), Place::First);
    assert_eq!(target(&fib, "192.0.2.0/24"), vias(&[a]));
    fib.remove(&route("192.0.2.0/24", 100, &[a]));
    assert_eq!(target(&fib, "192.0.2.0/24"), vias(&[b]));
    fib.remove(&route("192.0.2.0/24", 200, &[b]));
    assert_eq!(target(&fib, "192.0.2.0/24"), None);
}

#[test]
fn ipv4_routes_of_one_metric_count_by_place() {
    let mut fib = Fib::default();
    let [a, b, c, d] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"].map(|g| via(1, Some(g)));
    fib.insert(&route("192.0.2.0/24", 0, &[a]), Place::First);
    fib.insert(&route("192.0.2.0/24", 0, &[b]), Place::Last);
    assert_eq!(target(&fib, "192.0.2.0/24"), vias(&[a]), "appended behind");
    fib.insert(&route("192.0.2.0/24", 0, &[c]), Place::First);
    assert_eq!(target(&fib, "192.0.2.0/24"), vias(&[c]), "prepended before");
    fib.insert(&route("192.0.2.0/24", 0, &[d]), Place::Replace);
    assert_eq!(target(&fib, "192.0.2.0/24"), vias(&[d]), "replaced the first");
    fib.remove(&route("192.0.2.0/24", 0, &[d]));
    assert_eq!(target(&fib, "192.0.2.0/24"), vias(&[a]));
}

#[test]
fn route_told_of_twice_is_one_route() {
    let mut fib = Fib::default();
    let a = via(1, Some("10.0.0.1"));
    for prefix in ["192.0.2.0/24", "2001:db8::/32"] {
        fib.insert(&route(prefix, 7, &[a]), Place::Last);
        fib.insert(&route(prefix, 7, &[a]), Place::First);
        fib.remove(&route(prefix, 7, &[a]));
        assert_eq!(target(&fib, prefix), None);
    }
}

#[test]
fn ipv6_routes_of_one_metric_with_gateways_share_the_load() {
    let mut fib = Fib::default();
    let (a, b) = (via(1, Some("2001:db8::1")), via(2, Some("2001:db8:1::1")));
    fib.insert(&route("2001:db8:9::/48", 100, &[a]), Place::First);
    // The kernel tells of both when the second is appended.
    fib.insert(&route("2001:db8:9::/48", 100, &[a, b]), Place::Last);
    assert_eq!(target(&fib, "2001:db8:9::/48"), vias(&[a, b]));
    fib.insert(&route("2001:db8:9::/48", 200, &[b]), Place::First);
    fib.remove(&route("2001:db8:9::/48", 100, &[a]));
    assert_eq!(target(&fib, "2001:db8:9::/48"), vias(&[b]));
    // Told of one by one, as routers are learnt from their advertisements.
    fib.insert(&route("::/0", 1024, &[a]), Place::First);
    fib.insert(&route("::/0", 1024, &[b]), Place::First);
    assert_eq!(target(&fib, "::/0"), vias(&[a, b]));
}

#[test]
fn ipv6_on_link_routes_of_one_metric_do_not_share_the_load() {
    let mut fib = Fib::default();
    let (a, b) = (via(1, None), via(2, None));
    fib.insert(&route("2001:db8:b::/64", 50, &[a]), Place::First);
    fib.insert(&route("2001:db8:b::/64", 50, &[b]), Place::Last);
    assert_eq!(target(&fib, "2001:db8:b::/64"), vias(&[a]));
    fib.remove(&route("2001:db8:b::/64", 50, &[a]));
    assert_eq!(target(&fib, "2001:db8:b::/64"), vias(&[b]));
}

#[test]
fn ipv6_replace_takes_the_place_of_all_that_shared_the_load() {
    let mut fib = Fib::default();
    let [a, b, c] = ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(|g| via(1, Some(g)));
    fib.insert(&route("2001:db8:a::/48", 1024, &[a, b]), Place::First);
    fib.insert(&route("2001:db8:a::/48", 1024, &[c]), Place::Replace);
    assert_eq!(target(&fib, "2001:db8:a::/48"), vias(&[c]));
}

#[test]
fn kinds_lead_where_the_kernel_leads() {
    let mut fib = Fib::default();
    let of = |kind, table| Route { kind, table, ..route("192.0.2.0/24", 0, &[]) };
    fib.insert(&of(Kind::Throw, Table::Main), Place::First);
    fib.insert(&of(Kind::Throw, Table::Local), Place::First);
    assert_eq!(target(&fib, "192.0.2.0/24"), Some(RouteTarget::NoRoute));
    assert_eq!(fib.target(Table::Local, net("192.0.2.0/24")), None, "on to table main");
    fib.insert(&of(Kind::Refused, Table::Main), Place::Replace);
    assert_eq!(target(&fib, "192.0.2.0/24"), Some(RouteTarget::Refused));
    fib.insert(&of(Kind::Local, Table::Local), Place::Replace);
    assert_eq!(fib.local_prefixes().collect::<Vec<_>>(), vec![net("192.0.2.0/24")]);
}

#[test]
fn address_on_two_interfaces_stays_local_until_both_lose_it() {
    let mut fib = Fib::default();
    let on = |ifindex| Route {
        kind: Kind::Local,
        table: Table::Local,
        ..route("2001:db8::5/128", 0, &[via(ifindex, None)])
    };
    fib.insert(&on(1), Place::First);
    fib.insert(&on(2), Place::First);
    fib.remove(&on(1));
    assert_eq!(fib.local_prefixes().count(), 1);
    fib.remove(&on(2));
    assert_eq!(fib.local_prefixes().count(), 0);
}

#[test]
fn next_hop_objects_and_groups_are_looked_up() {
    let mut fib = Fib::default();
    let (a, b) = (via(1, Some("10.0.0.1")), via(2, Some("10.1.0.1")));
    let prefix = (Table::Main, net("192.0.2.0/24"));
    fib.insert(&Route { mtu: 1400, ..object_route("192.0.2.0/24", 7) }, Place::First);
    assert_eq!(target(&fib, "192.0.2.0/24"), vias(&[]), "object not known yet");
    assert_eq!(fib.set_object(7, NextHopObject::Group(vec![(5, 1), (6, 3)])), vec![prefix]);
    assert_eq!(fib.set_object(5, NextHopObject::Single(a)), vec![prefix]);
    assert_eq!(fib.set_object(6, NextHopObject::Single(b)), vec![prefix]);
    let (a7, b7) = (Via { mtu: 1400, ..a }, Via { mtu: 1400, weight: 3, ..b });
    assert_eq!(target(&fib, "192.0.2.0/24"), vias(&[a7, b7]));
    let c = via(1, Some("10.0.0.9"));
    fib.set_object(5, NextHopObject::Single(c));
    assert_eq!(target(&fib, "192.0.2.0/24"), vias(&[Via { mtu: 1400, ..c }, b7]));
    assert_eq!(fib.set_object(6, NextHopObject::Single(b)), vec![], "nothing new");
    assert_eq!(fib.remove_object(5), vec![prefix]);
    assert_eq!(target(&fib, "192.0.2.0/24"), vias(&[b7]));
    fib.set_object(7, NextHopObject::Blackhole);
    assert_eq!(target(&fib, "192.0.2.0/24"), Some(RouteTarget::Refused));
    fib.remove_object(7);
    assert_eq!(target(&fib, "192.0.2.0/24"), vias(&[]));
}
