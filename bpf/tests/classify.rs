//! Literal frames through the program in the kernel: the outcome of each, and the metadata of those
//! it steers.

mod support;

use samepath_bpf::{Action, PortRole, Steering};
use support::frame::*;
use support::{bench, in_namespace};

const IPV6: u8 = 1;
const FRAGMENT_FIRST: u8 = 2;
const FRAGMENT_LATER: u8 = 4;
const ICMP_ERROR: u8 = 8;
const TUNNEL: u8 = 16;
const HELLO: u8 = 32;

/// Checks one frame that must be steered.
fn steers(steering: &Steering, case: &str, frame: &[u8], expected: Expected) {
    let run = steering.test_run(frame, 1).unwrap();
    assert_eq!((run.outcome, run.action, run.steered), ("no_socket", Action::Drop, true), "{case}");
    let metadata = run.metadata.unwrap();
    assert_eq!(metadata[4..], expected.bytes(), "{case}: wanted {expected:?}");
}

/// Checks one frame that must not be steered.
fn ends(steering: &Steering, case: &str, frame: &[u8], outcome: &str) {
    let run = steering.test_run(frame, 1).unwrap();
    let action = if outcome.starts_with("pass") { Action::Pass } else { Action::Drop };
    assert_eq!((run.outcome, run.action, run.steered), (outcome, action, false), "{case}");
    assert_eq!(run.metadata, None, "{case}");
}

#[test]
fn layer_4_protocols_over_ipv4() {
    in_namespace(|| {
        let steering = bench(PortRole::Data);
        let rows: [(&str, u8, &[u8]); 6] = [
            ("TCP", 6, &TCP),
            ("UDP", 17, &UDP),
            ("SCTP", 132, &SCTP),
            ("ICMP echo", 1, &ECHO),
            ("ICMPv6 over IPv4 is a protocol like any other", 58, &[135, 0, 0, 0, 0, 0, 0, 0]),
            ("GRE without a byte", 47, &[]),
        ];
        for (case, proto, payload) in rows {
            let l3_end = 34 + payload.len() as u16;
            let expected = Expected { l3_off: 14, l4_off: 34, l3_end, proto, ..Default::default() };
            let mut frame = frame4(&ipv4(proto, payload));
            steers(&steering, case, &frame, expected);
            frame.extend([0; 9]);
            steers(&steering, &format!("{case}, padded"), &frame, expected);
        }
        let mut options = frame4(&ipv4(6, &[&[7; 8][..], &TCP].concat()));
        options[14] = 0x47;
        let expected = Expected { l3_off: 14, l4_off: 42, l3_end: 62, proto: 6, ..Default::default() };
        steers(&steering, "IPv4 options", &options, expected);
    });
}

#[test]
fn layer_4_protocols_over_ipv6() {
    in_namespace(|| {
        let steering = bench(PortRole::Data);
        let rows: [(&str, u8, &[u8]); 5] = [
            ("TCP", 6, &TCP),
            ("UDP", 17, &UDP),
            ("ICMPv6 echo", 58, &ECHO6),
            ("ICMP over IPv6 is a protocol like any other", 1, &[3, 0, 0, 0, 0, 0, 0, 0]),
            ("ESP", 50, &[1, 2, 3, 4]),
        ];
        for (case, proto, payload) in rows {
            let l3_end = 54 + payload.len() as u16;
            let expected =
                Expected { l3_off: 14, l4_off: 54, l3_end, proto, flags: IPV6, ..Default::default() };
            steers(&steering, case, &frame6(&ipv6(proto, payload)), expected);
        }
        let expected = Expected { l3_off: 14, l3_end: 58, proto: 59, flags: IPV6, ..Default::default() };
        steers(&steering, "no next header", &frame6(&ipv6(59, &[1, 2, 3, 4])), expected);
    });
}

#[test]
fn vlan_tags() {
    in_namespace(|| {
        let steering = bench(PortRole::Data);
        let packet = ipv4(17, &UDP);
        let tagged = |tags: &[u8]| [ethernet(tags), packet.clone()].concat();
        let one = Expected {
            l3_off: 18,
            l4_off: 38,
            l3_end: 50,
            proto: 17,
            vlans: Some((0xa064, None)),
            ..Default::default()
        };
        steers(&steering, "802.1Q", &tagged(&[0x81, 0, 0xa0, 0x64, 8, 0]), one);
        let two = Expected { l3_off: 22, l4_off: 42, l3_end: 54, vlans: Some((0xa064, Some(0x00c8))), ..one };
        for outer in [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]] {
            let tags = [&outer[..], &[0xa0, 0x64, 0x81, 0, 0, 0xc8, 8, 0]].concat();
            steers(&steering, "QinQ", &tagged(&tags), two);
        }
        let three = [0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 8, 0];
        ends(&steering, "three tags", &tagged(&three), "pass_not_ip");
        ends(&steering, "tag cut short", &ethernet(&[0x81, 0, 0, 1, 8]), "drop_malformed");
        let cut = ethernet(&[0x81, 0, 0, 1, 0x81, 0, 0]);
        ends(&steering, "second tag cut short", &cut, "drop_malformed");
    });
}

#[test]
fn frames_for_the_kernel() {
    in_namespace(|| {
        let mut steering = bench(PortRole::Data);
        let to4 = |destination, payload: &[u8]| {
            frame4(&ipv4_between([198, 51, 100, 7], destination, 17, 0, payload))
        };
        let to6 =
            |destination, proto, payload: &[u8]| frame6(&ipv6_between(v6(7), destination, proto, payload));
        let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let mut broadcast = frame4(&ipv4(17, &UDP));
        broadcast[0] = 0xff;
        let mut other = frame4(&ipv4(17, &UDP));
        other[5] = 9;
        let cases = [
            ("ARP", ethernet(&[8, 6, 0, 1]), "pass_not_ip"),
            ("802.3 length", ethernet(&[0, 46, 0x42, 0x42]), "pass_not_ip"),
            ("link broadcast", broadcast, "pass_multicast"),
            ("another's link address", other, "pass_other_host"),
            ("224.0.0.5", to4([224, 0, 0, 5], &UDP), "pass_multicast"),
            ("239.255.255.255", to4([239, 255, 255, 255], &UDP), "pass_multicast"),
            ("255.255.255.255", to4([255; 4], &UDP), "pass_multicast"),
            ("ff02::1", to6(all_nodes, 17, &UDP), "pass_multicast"),
            ("router solicitation", to6(v6(9), 58, &[133; 8]), "pass_neighbour"),
            ("redirect, cut to one byte", to6(v6(9), 58, &[137]), "pass_neighbour"),
            ("own IPv4 address", to4([192, 0, 2, 1], &UDP), "pass_own_address"),
            ("own IPv6 address", to6(cluster6(1), 17, &UDP), "pass_own_address"),
            ("own address, no layer 4", to4([192, 0, 2, 1], &[]), "pass_own_address"),
        ];
        for (case, frame, outcome) in cases {
            ends(&steering, case, &frame, outcome);
        }
        let expected =
            Expected { l3_off: 14, l4_off: 54, l3_end: 62, proto: 58, flags: IPV6, ..Default::default() };
        steers(&steering, "type 132", &to6(v6(9), 58, &[132, 0, 0, 0, 0, 0, 0, 0]), expected);
        steering.set_own_addresses(&["192.0.2.7".parse().unwrap()]).unwrap();
        ends(&steering, "the new one", &to4([192, 0, 2, 7], &UDP), "pass_own_address");
        let expected = Expected { l3_off: 14, l4_off: 34, l3_end: 46, proto: 17, ..Default::default() };
        steers(&steering, "no longer own", &to4([192, 0, 2, 1], &UDP), expected);
    });
}

#[test]
fn pass_list() {
    in_namespace(|| {
        let mut steering = bench(PortRole::Data);
        steering.set_pass_list(&[(6, 179), (89, 0), (17, 0)]).unwrap();
        let mut bgp = TCP;
        bgp[2..4].copy_from_slice(&[0, 179]);
        ends(&steering, "listed port", &frame4(&ipv4(6, &bgp)), "pass_listed");
        ends(&steering, "listed port, IPv6", &frame6(&ipv6(6, &bgp)), "pass_listed");
        ends(&steering, "protocol without ports", &frame4(&ipv4(89, &[2, 1])), "pass_listed");
        ends(&steering, "any port", &frame4(&ipv4(17, &UDP)), "pass_listed");
        let fragment = |word| frame4(&ipv4_between([198, 51, 100, 7], [203, 0, 113, 9], 6, word, &bgp));
        ends(&steering, "first fragment", &fragment(0x2000), "pass_listed");
        let later =
            Expected { l3_off: 14, l3_end: 54, proto: 6, flags: FRAGMENT_LATER, ..Default::default() };
        steers(&steering, "later fragment", &fragment(0x0003), later);
        let expected = Expected { l3_off: 14, l4_off: 34, l3_end: 54, proto: 6, ..Default::default() };
        steers(&steering, "other port", &frame4(&ipv4(6, &TCP)), expected);
        steering.set_pass_list(&[]).unwrap();
        steers(&steering, "no longer listed", &frame4(&ipv4(6, &bgp)), expected);
    });
}

#[test]
fn malformed() {
    in_namespace(|| {
        let steering = bench(PortRole::Data);
        let edited4 = |at: usize, value: u8| {
            let mut frame = frame4(&ipv4(17, &UDP));
            frame[14 + at] = value;
            frame
        };
        let edited6 = |at: usize, value: u8| {
            let mut frame = frame6(&ipv6(17, &UDP));
            frame[14 + at] = value;
            frame
        };
        let cases = [
            ("IPv4 of version 5", edited4(0, 0x55)),
            ("IHL 4", edited4(0, 0x44)),
            ("IHL beyond total length", edited4(0, 0x4f)),
            ("total length below header", edited4(3, 19)),
            ("total length beyond frame", edited4(3, 33)),
            ("IPv4 header cut", frame4(&[0x45; 19])),
            ("IPv6 of version 4", edited6(0, 0x40)),
            ("IPv6 without payload", edited6(5, 0)),
            ("payload beyond frame", edited6(5, 13)),
            ("IPv6 header cut", frame6(&[0x60; 39])),
            ("TCP of 19 bytes", frame4(&ipv4(6, &TCP[..19]))),
            ("UDP of 7 bytes", frame4(&ipv4(17, &UDP[..7]))),
            ("SCTP of 11 bytes", frame4(&ipv4(132, &SCTP[..11]))),
            ("ICMP of 7 bytes", frame4(&ipv4(1, &ECHO[..7]))),
            ("ICMPv6 of 7 bytes", frame6(&ipv6(58, &ECHO6[..7]))),
            ("hop-by-hop cut", frame6(&ipv6(0, &[6, 0, 1, 4, 0, 0, 0]))),
            ("hop-by-hop beyond packet", frame6(&ipv6(0, &[6, 1, 1, 4, 0, 0, 0, 0]))),
            ("nothing behind hop-by-hop", frame6(&ipv6(0, &[6, 0, 1, 4, 0, 0, 0, 0]))),
        ];
        for (case, frame) in cases {
            ends(&steering, case, &frame, "drop_malformed");
        }
    });
}

#[test]
fn ipv6_extension_headers() {
    in_namespace(|| {
        let steering = bench(PortRole::Data);
        let ends_with = |next: u8, chain: &[u8], last: &[u8]| frame6(&ipv6(next, &[chain, last].concat()));
        let chain = [
            &[60, 0, 1, 4, 0, 0, 0, 0][..],
            &[43, 1, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[51, 0, 0, 0, 0, 0, 0, 0],
            &[6, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 3, 4, 5, 6],
        ]
        .concat();
        let expected =
            Expected { l3_off: 14, l4_off: 102, l3_end: 122, proto: 6, flags: IPV6, ..Default::default() };
        let frame = ends_with(0, &chain, &TCP);
        steers(&steering, "hop-by-hop, options, routing, AH", &frame, expected);

        let mut eight = [60, 0, 1, 4, 0, 0, 0, 0].repeat(8);
        ends(&steering, "nine", &ends_with(60, &eight, &[6; 28]), "drop_extension_headers");
        eight[56] = 6;
        let expected = Expected { l4_off: 118, l3_end: 138, ..expected };
        steers(&steering, "eight", &ends_with(60, &eight, &TCP), expected);
        eight[56] = 59;
        let expected = Expected { l4_off: 0, l3_end: 138, proto: 59, ..expected };
        steers(&steering, "eight and no next header", &ends_with(60, &eight, &TCP), expected);
    });
}

#[test]
fn fragments() {
    in_namespace(|| {
        let steering = bench(PortRole::Data);
        let v4 = |word| frame4(&ipv4_between([198, 51, 100, 7], [203, 0, 113, 9], 17, word, &UDP));
        let v6 = |word: u16| {
            let [high, low] = word.to_be_bytes();
            frame6(&ipv6(44, &[&[17, 0, high, low, 0, 0, 0, 7][..], &UDP].concat()))
        };
        let of4 = Expected { l3_off: 14, l4_off: 34, l3_end: 46, proto: 17, ..Default::default() };
        let of6 =
            Expected { l3_off: 14, l4_off: 62, l3_end: 74, proto: 17, flags: IPV6, ..Default::default() };
        steers(&steering, "IPv4, don't fragment", &v4(0x4000), of4);
        let first = Expected { flags: FRAGMENT_FIRST, ..of4 };
        steers(&steering, "IPv4, first", &v4(0x2000), first);
        let later = Expected { flags: FRAGMENT_LATER, l4_off: 0, ..of4 };
        steers(&steering, "IPv4, in between", &v4(0x2001), later);
        steers(&steering, "IPv4, last", &v4(0x1fff), later);
        steers(&steering, "IPv6, atomic", &v6(0), of6);
        let first = Expected { flags: IPV6 | FRAGMENT_FIRST, ..of6 };
        steers(&steering, "IPv6, first", &v6(1), first);
        let later = Expected { flags: IPV6 | FRAGMENT_LATER, l4_off: 0, ..of6 };
        steers(&steering, "IPv6, in between", &v6(9), later);
        steers(&steering, "IPv6, last", &v6(0xfff8), later);
    });
}

#[test]
fn icmp_errors() {
    in_namespace(|| {
        let steering = bench(PortRole::Data);
        let error4 =
            |kind: u8, quote: &[u8]| frame4(&ipv4(1, &[&[kind, 0, 0, 0, 0, 0, 0, 0][..], quote].concat()));
        let error6 =
            |kind: u8, quote: &[u8]| frame6(&ipv6(58, &[&[kind, 0, 0, 0, 0, 0, 0, 0][..], quote].concat()));
        let quote = &ipv4(6, &TCP)[..28];
        let of4 = Expected {
            l3_off: 14,
            l4_off: 34,
            l3_end: 70,
            quoted_l3_off: 42,
            quoted_l4_off: 62,
            proto: 1,
            quoted_proto: 6,
            flags: ICMP_ERROR,
            ..Default::default()
        };
        for kind in [3, 4, 5, 11, 12] {
            steers(&steering, "eight bytes of TCP", &error4(kind, quote), of4);
        }
        let seven = Expected { l3_end: 69, quoted_l4_off: 0, ..of4 };
        steers(&steering, "seven bytes of TCP", &error4(3, &quote[..27]), seven);
        let unusable = Expected { quoted_l3_off: 0, quoted_l4_off: 0, quoted_proto: 0, ..of4 };
        let cut = Expected { l3_end: 61, ..unusable };
        steers(&steering, "quoted header cut", &error4(3, &quote[..19]), cut);
        let mut version = quote.to_vec();
        version[0] = 0x65;
        steers(&steering, "quote of version 6", &error4(3, &version), unusable);
        let mut later = quote.to_vec();
        later[7] = 9;
        let of_later = Expected { quoted_l4_off: 0, ..of4 };
        steers(&steering, "quote of a later fragment", &error4(3, &later), of_later);

        let quote = &ipv6(0, &[&[17, 0, 1, 4, 0, 0, 0, 0][..], &UDP[..8]].concat());
        let of6 = Expected {
            l3_off: 14,
            l4_off: 54,
            l3_end: 118,
            quoted_l3_off: 62,
            quoted_l4_off: 110,
            proto: 58,
            quoted_proto: 17,
            flags: IPV6 | ICMP_ERROR,
            ..Default::default()
        };
        for kind in [1, 2, 3, 4] {
            steers(&steering, "UDP behind hop-by-hop", &error6(kind, quote), of6);
        }
        let cut = Expected { l3_end: 109, quoted_l3_off: 0, quoted_l4_off: 0, quoted_proto: 0, ..of6 };
        steers(&steering, "quoted extension cut", &error6(1, &quote[..47]), cut);
    });
}

#[test]
fn tunnel() {
    in_namespace(|| {
        let steering = bench(PortRole::ClusterLink);
        let inner = frame4(&ipv4(6, &TCP));
        let of4 = Expected {
            inner_off: 82,
            l3_off: 14,
            l4_off: 34,
            l3_end: 54,
            proto: 6,
            flags: TUNNEL,
            ..Default::default()
        };
        steers(&steering, "IPv4 in IPv4", &tunnel4(&inner), of4);
        steers(&steering, "IPv4 in IPv6", &tunnel6(&inner), Expected { inner_off: 102, ..of4 });
        let tagged = |outer: &[u8]| {
            let untagged = tunnel4(&inner);
            [&untagged[..12], outer, &untagged[12..]].concat()
        };
        let one = tagged(&[0x81, 0, 0, 5]);
        steers(&steering, "outer tag", &one, Expected { inner_off: 86, ..of4 });
        let two = tagged(&[0x88, 0xa8, 0, 4, 0x81, 0, 0, 5]);
        ends(&steering, "two outer tags", &two, "drop_tunnel_malformed");

        let mut inner6 = frame6(&ipv6(17, &UDP));
        inner6[0] = 0xff;
        let qinq = [&inner6[..12], &[0x88, 0xa8, 0, 4, 0x81, 0, 0, 5], &inner6[12..]].concat();
        let of6 = Expected {
            l3_off: 22,
            l4_off: 62,
            l3_end: 74,
            proto: 17,
            flags: TUNNEL | IPV6,
            vlans: Some((4, Some(5))),
            ..of4
        };
        steers(&steering, "QinQ, IPv6, group address inside", &tunnel4(&qinq), of6);

        let neighbour = frame6(&ipv6(58, &[135; 8]));
        let of6 = Expected { l4_off: 54, l3_end: 62, l3_off: 14, proto: 58, vlans: None, ..of6 };
        steers(&steering, "rule 6 is not for inner frames", &tunnel4(&neighbour), of6);

        let hello = tunnel4(&ethernet(&[0x88, 0xb5]));
        let expected = Expected { inner_off: 82, flags: TUNNEL | HELLO, ..Default::default() };
        steers(&steering, "Hello", &hello, expected);
        assert_eq!(steering.test_run(&hello, 1).unwrap().metadata.unwrap()[..4], [0; 4]);
    });
}

#[test]
fn tunnel_packets_that_are_dropped() {
    in_namespace(|| {
        let mut steering = bench(PortRole::ClusterLink);
        let inner = frame4(&ipv4(6, &TCP));
        let good = tunnel4(&inner);
        let edited = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            frame
        };
        let malformed = [
            ("Geneve version 1", edited(42, 0x48)),
            ("options beyond packet", edited(42, 0x3f)),
            ("protocol is not Ethernet", edited(44, 0x08)),
            ("UDP longer than IP", edited(39, 0xff)),
            ("UDP shorter than options", edited(39, 47)),
            ("inner frame is not IP", tunnel4(&ethernet(&[8, 6, 0, 1]))),
            ("inner frame of 13 bytes", tunnel4(&inner[..13])),
            ("inner packet cut", tunnel4(&inner[..inner.len() - 1])),
            ("inner TCP cut", tunnel4(&frame4(&ipv4(6, &TCP[..19])))),
            (
                "UDP header alone",
                frame4(&ipv4_between([192, 0, 2, 2], [192, 0, 2, 1], 17, 0, &[0, 1, 0x17, 0xc1, 0, 8, 0, 0])),
            ),
            (
                "nine inner extension headers",
                tunnel4(&frame6(&ipv6(60, &[60, 0, 1, 4, 0, 0, 0, 0].repeat(9)))),
            ),
            (
                "outer extension header",
                frame6(&ipv6_between(
                    cluster6(2),
                    cluster6(1),
                    60,
                    &[&[17, 0, 1, 4, 0, 0, 0, 0][..], &tunnel_udp(8, &inner)].concat(),
                )),
            ),
        ];
        for (case, frame) in malformed {
            ends(&steering, case, &frame, "drop_tunnel_malformed");
        }
        ends(&steering, "from a stranger", &edited(29, 3), "drop_tunnel_unknown_peer");
        ends(&steering, "to another address", &edited(33, 3), "drop_tunnel_elsewhere");
        let fragment = edited(20, 0x20);
        ends(&steering, "first fragment of a tunnel packet", &fragment, "pass_own_address");
        ends(&steering, "other traffic to us", &edited(37, 0xc2), "pass_own_address");
        ends(&steering, "other traffic", &inner, "pass_cluster_link");
        steering.set_pass_list(&[(6, 80)]).unwrap();
        ends(&steering, "listed", &inner, "pass_listed");
        steering.set_peers(&[]).unwrap();
        ends(&steering, "no longer a peer", &good, "drop_tunnel_unknown_peer");

        let steering = bench(PortRole::Data);
        ends(&steering, "on a data interface", &good, "drop_tunnel_elsewhere");
    });
}

#[test]
fn interfaces_nobody_named() {
    in_namespace(|| {
        let steering = support::load(samepath_bpf::OnCrash::Closed);
        ends(&steering, "no port", &frame4(&ipv4(6, &TCP)), "pass_unknown_interface");
    });
}

#[test]
fn frames_pass_without_socket_if_told_so() {
    in_namespace(|| {
        let mut steering = support::load(samepath_bpf::OnCrash::Open);
        steering.set_port(&support::port("lo", 1, PortRole::Data)).unwrap();
        let run = steering.test_run(&frame4(&ipv4(6, &TCP)), 1).unwrap();
        assert_eq!((run.outcome, run.action, run.steered), ("no_socket", Action::Pass, true));
    });
}
