use std::net::IpAddr;

use super::*;
use crate::flow::{key_bytes, proto};
use crate::wire::plain::Plain;

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

/// The fast path's reading of a packet, as `Plain::read` leaves it.
fn plain(from: (&str, u16), to: (&str, u16), protocol: u8, vlan: u16) -> Plain {
    let Asked { lo, hi, proto_vlans, direction, .. } = asked(from, to, protocol, vlan, 0);
    let ipv6 = from.0.contains(':');
    let words = |number: u128| [((number >> 64) as u64).to_be(), (number as u64).to_be()];
    let ([a, b], [c, d]) = (words(lo.0), words(hi.0));
    let ends =
        if ipv6 { [a, b, c, d] } else { [u64::from(lo.0 as u32) << 32 | u64::from(hi.0 as u32), 0, 0, 0] };
    let rest = u64::from(lo.1) | u64::from(hi.1) << 16 | u64::from(proto_vlans) << 32;
    Plain { ends, ipv6, rest, direction, ..Plain::default() }
}

#[test]
fn plain_packets_are_asked_as_all_others() {
    let ends = [CLIENT, SERVER, ("10.1.0.10", 443), ("fd00::1", 4000), ("fd00::2", 443), ("fd00:1::1", 443)];
    let ways: Vec<_> = ends
        .iter()
        .flat_map(|from| ends.iter().map(move |to| (*from, *to)))
        .filter(|(from, to)| from != to && from.0.contains(':') == to.0.contains(':'))
        .collect();
    let packets: Vec<_> = [(proto::TCP, 0), (proto::UDP, 7)]
        .into_iter()
        .flat_map(|(protocol, tag)| ways.iter().map(move |(one, other)| (*one, *other, protocol, tag)))
        .map(|(one, other, protocol, tag)| {
            (asked(one, other, protocol, tag, 2), plain(one, other, protocol, tag))
        })
        .collect();
    assert!(packets.len() * 2 <= CHUNK);
    let mut halves = vec![
        End::default(),
        end("0.0.0.0", 0, Some(443)),
        end("fd00::", 16, None),
        end("fd00::1", 128, None),
    ];
    halves.extend([end("10.1.0.0", 16, None), end("10.2.0.10", 32, Some(443)), end("::", 0, Some(4000))]);
    let others = [
        (None, None, None),
        (Some(proto::TCP), None, Some(2)),
        (Some(proto::UDP), Some(7), None),
        (None, Some(0), Some(1)),
    ];
    let (mut through, mut held) = (0, 0);
    for (from, to) in halves.iter().flat_map(|from| halves.iter().map(move |to| (*from, *to))) {
        for ((proto, vlan, zone), both_ways) in others.iter().flat_map(|one| [(*one, false), (*one, true)]) {
            let filter = Filter { proto, from, to, both_ways, vlan, zone };
            let watch = Watch::new(&[Filter { proto: Some(255), ..filter }, filter], 1, 1);
            // Of each packet a copy that is not plain.
            let twice = packets.iter().flat_map(|(_, plain)| [(true, plain), (false, plain)]);
            let marks = watch.mark_plain(twice, |_| 2);
            let long = packets.iter().map(|(asked, _)| u64::from(lets(filter, asked)));
            let expected = long.enumerate().fold(0, |bits, (at, fits)| bits | fits << (2 * at));
            assert_eq!(marks.wanted[..3], [0, expected, 0], "{filter:?}");
            assert_eq!(marks.any(), expected);
            assert_eq!(ones(expected).fold(0, |bits, at| bits | 1 << at), expected);
            through += expected.count_ones();
            held += packets.len() as u32 - expected.count_ones();
        }
    }
    assert!(through > 100 && held > 1000, "{through} and {held}");
}

#[test]
fn what_is_missed_is_counted_by_filter_and_by_reason() {
    let watch = Watch::new(&[Filter::default(); 3], 1, 1);
    let mut marks = Marks::default();
    marks.wanted[..3].copy_from_slice(&[0b1111, 0b0110, 0]);
    watch.miss(&marks, 0b1100, true);
    watch.miss(&marks, 0b1000, false);
    let counted = watch.missed.each_ref().map(|missed| (missed.full.get(), missed.over_rate.get()));
    assert_eq!(counted[..3], [(2, 1), (1, 0), (0, 0)]);
}
