use std::net::IpAddr;

use super::*;
use crate::flow::{key_bytes, proto};

fn end(address: &str, bits: u8, port: Option<u16>) -> End {
    let address: IpAddr = address.parse().unwrap();
    let length = if address.is_ipv4() { bits + 96 } else { bits };
    End { prefix: key_bytes(address), length, port }
}

fn asked(from: (&str, u16), to: (&str, u16), protocol: u8, vlan: u16, zone: u8) -> Asked {
    let ends = [from, to].map(|(address, port)| (key_bytes(address.parse().unwrap()), port));
    let (key, direction) = FlowKey::new(ends[0], ends[1], protocol, (vlan, 0));
    let (lo, hi) = ((u128::from_be_bytes(key.lo), key.lo_port), (u128::from_be_bytes(key.hi), key.hi_port));
    Asked { lo, hi, proto_vlans: key.proto_vlans, direction, zone, portless: false }
}

fn lets(filter: Filter, asked: &Asked) -> bool {
    Sieve::new(&filter).lets_through(asked)
}

const CLIENT: (&str, u16) = ("10.1.0.10", 4000);
const SERVER: (&str, u16) = ("10.2.0.10", 443);

#[test]
fn every_part_of_a_filter_counts() {
    let there = asked(CLIENT, SERVER, proto::TCP, 7, 2);
    let whole = Filter {
        proto: Some(proto::TCP),
        from: end("10.1.0.0", 16, Some(4000)),
        to: end("10.2.0.10", 32, Some(443)),
        both_ways: false,
        vlan: Some(7),
        zone: Some(2),
    };
    assert!(lets(Filter::default(), &there) && lets(whole, &there));
    let wrong = [
        Filter { proto: Some(proto::UDP), ..whole },
        Filter { from: end("10.3.0.0", 16, Some(4000)), ..whole },
        Filter { from: end("10.1.0.0", 16, Some(4001)), ..whole },
        Filter { to: end("10.2.0.11", 32, Some(443)), ..whole },
        Filter { to: end("10.2.0.10", 32, Some(444)), ..whole },
        Filter { vlan: Some(0), ..whole },
        Filter { zone: Some(1), ..whole },
        // An IPv6 prefix, however short, holds no IPv4 address.
        Filter { from: end("fd00::", 8, None), ..whole },
    ];
    for filter in wrong {
        assert!(!lets(filter, &there), "{filter:?}");
    }
    assert!(!lets(
        Filter { from: end("0.0.0.0", 0, None), ..Filter::default() },
        &asked(("fd00::1", 1), ("fd00::2", 2), 6, 0, 0)
    ));
}

#[test]
fn the_way_back_is_wanted_only_if_it_is_asked_for() {
    for (from, to) in [(CLIENT, SERVER), (SERVER, CLIENT), (("fd00::1", 9), ("fd00::2", 5))] {
        let bits = if from.0.contains(':') { 128 } else { 32 };
        let one_way = Filter {
            from: end(from.0, bits, Some(from.1)),
            to: end(to.0, bits, Some(to.1)),
            ..Filter::default()
        };
        let (there, back) = (asked(from, to, 17, 0, 1), asked(to, from, 17, 0, 1));
        assert!(lets(one_way, &there) && !lets(one_way, &back));
        let both = Filter { both_ways: true, ..one_way };
        assert!(lets(both, &there) && lets(both, &back));
        // Ports belong to their ends.
        let crossed = asked((from.0, to.1), (to.0, from.1), 17, 0, 1);
        assert!(!lets(both, &crossed));
    }
}

#[test]
fn a_fragment_is_wanted_whatever_the_ports() {
    let filter = Filter { from: end("10.1.0.10", 32, Some(4000)), ..Filter::default() };
    let fragment = Asked { portless: true, ..asked(("10.1.0.10", 0), SERVER, 17, 0, 1) };
    assert!(lets(filter, &fragment));
    assert!(!lets(filter, &Asked { portless: false, ..fragment }));
}

#[test]
fn slots_are_made_once_and_go_round() {
    let watch = Watch::new(&[Filter::default()], 4, 2);
    let (mut one, two) = (watch.slot().unwrap(), watch.slot().unwrap());
    assert!(watch.slot().is_none(), "no third one");
    watch.keep(&mut one.arrived, b"123456");
    assert_eq!((one.arrived.as_slice(), one.arrived.capacity()), (&b"1234"[..], 4));
    watch.tell(one);
    watch.tell(two);
    let first = watch.take().unwrap();
    assert_eq!(first.arrived, b"1234", "in the order they were told");
    watch.give_back(first);
    assert!(watch.slot().is_some() && watch.take().is_some());
}

/// The fast path's reading of a packet is asked as the other one is.
#[test]
fn a_plain_packet_is_asked_as_any_other() {
    for (from, to) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
        let ports = if from.0 < to.0 { (from.1, to.1) } else { (to.1, from.1) };
        let long = asked(from, to, proto::TCP, 0, 1);
        let addresses = u64::from(u32::from_be_bytes([10, 1, 0, 10])) << 32
            | u64::from(u32::from_be_bytes([10, 2, 0, 10]));
        let plain = Plain {
            ends: [addresses, 0, 0, 0],
            // As `Plain::finish` writes it: the lower end's port below.
            rest: u64::from(ports.0) | u64::from(ports.1) << 16 | u64::from(proto::TCP) << 56,
            direction: long.direction,
            ..Plain::default()
        };
        assert_eq!(format!("{:?}", Asked::of_plain(&plain, 1)), format!("{long:?}"));
    }
}
