//! The flow hash the program writes, against the formula written down a second time.

mod support;

use std::net::IpAddr;

use samepath_bpf::{PortRole, Steering};
use support::frame::*;
use support::{SEED, bench, in_namespace};

const TWO_TO_64: u128 = 1 << 64;

/// `x * y` modulo 2^64, by way of 128 bits.
fn times(x: u64, y: u128) -> u64 {
    (u128::from(x) * y % TWO_TO_64) as u64
}

fn end(address: &str, port: u16) -> u64 {
    let bytes = match address.parse().unwrap() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let half = |from: usize| -> u64 { (0..8).map(|i| u64::from(bytes[from + i]) << (8 * i)).sum() };
    let mut x = times(SEED ^ half(0), 0x9e37_79b9_7f4a_7c15);
    x = x ^ (x >> 32) ^ half(8);
    x = times(x, 0xff51_afd7_ed55_8ccd);
    x ^= x >> 29;
    x = ((u128::from(x) + u128::from(port)) % TWO_TO_64) as u64;
    x = times(x, 0x9e37_79b9_7f4a_7c15);
    x ^ (x >> 32)
}

fn hash(source: (&str, u16), destination: (&str, u16), proto: u8, vlans: (u32, u32)) -> u32 {
    let proto_vlans = u32::from(proto) << 24 | vlans.1 << 12 | vlans.0;
    let sum = u128::from(end(source.0, source.1)) + u128::from(end(destination.0, destination.1));
    let mut e = (sum % TWO_TO_64) as u64;
    e ^= times(u64::from(proto_vlans), 0xff51_afd7_ed55_8ccd);
    e = times(e, 0x9e37_79b9_7f4a_7c15);
    ((e ^ (e >> 32)) % (1 << 32)) as u32
}

fn written(steering: &Steering, frame: &[u8]) -> u32 {
    let metadata = steering.test_run(frame, 1).unwrap().metadata.unwrap();
    u32::from_ne_bytes(metadata[..4].try_into().unwrap())
}

const A4: &str = "198.51.100.7";
const B4: &str = "203.0.113.9";
const A6: &str = "2001:db8:a::7";
const B6: &str = "2001:db8:a::9";

/// Computed with Python's integers from the formula in docs/protocol.md.
const TCP_VECTOR: u32 = 0xb7b7_51e2;

#[test]
fn vector_made_elsewhere() {
    assert_eq!(hash((A4, 4000), (B4, 80), 6, (0, 0)), TCP_VECTOR);
    in_namespace(|| {
        assert_eq!(written(&bench(PortRole::Data), &frame4(&ipv4(6, &TCP))), TCP_VECTOR);
    });
}

#[test]
fn every_kind_of_flow() {
    let quote = &ipv4(17, &UDP)[..28];
    let error = |quote: &[u8]| {
        frame4(&ipv4_between(
            [192, 0, 2, 77],
            [198, 51, 100, 7],
            1,
            0,
            &[&[3, 3, 0, 0, 0, 0, 0, 0][..], quote].concat(),
        ))
    };
    let tags = |tags: &[u8], packet: Vec<u8>| [ethernet(tags), packet].concat();
    let fragment = |word| frame4(&ipv4_between([198, 51, 100, 7], [203, 0, 113, 9], 17, word, &UDP));
    let untagged = (0, 0);
    let cases = [
        ("TCP", frame4(&ipv4(6, &TCP)), hash((A4, 4000), (B4, 80), 6, untagged)),
        ("TCP over IPv6", frame6(&ipv6(6, &TCP)), hash((A6, 4000), (B6, 80), 6, untagged)),
        ("SCTP", frame4(&ipv4(132, &SCTP)), hash((A4, 4000), (B4, 2905), 132, untagged)),
        ("echo", frame4(&ipv4(1, &ECHO)), hash((A4, 0x1234), (B4, 0x1234), 1, untagged)),
        ("ICMPv6 echo", frame6(&ipv6(58, &ECHO6)), hash((A6, 0x1234), (B6, 0x1234), 58, untagged)),
        (
            "ICMP router solicitation",
            frame4(&ipv4(1, &[10, 0, 0, 0, 1, 2, 3, 4])),
            hash((A4, 0), (B4, 0), 1, untagged),
        ),
        ("GRE", frame4(&ipv4(47, &UDP)), hash((A4, 0), (B4, 0), 47, untagged)),
        ("first fragment", fragment(0x2000), hash((A4, 0), (B4, 0), 17, untagged)),
        ("later fragment", fragment(1), hash((A4, 0), (B4, 0), 17, untagged)),
        (
            "VLAN",
            tags(&[0x81, 0, 0xa0, 0x64, 8, 0], ipv4(17, &UDP)),
            hash((A4, 4000), (B4, 53), 17, (100, 0)),
        ),
        (
            "QinQ",
            tags(&[0x88, 0xa8, 0xa0, 0x64, 0x81, 0, 0, 0xc8, 8, 0], ipv4(17, &UDP)),
            hash((A4, 4000), (B4, 53), 17, (100, 200)),
        ),
        ("ICMP error", error(quote), hash((A4, 4000), (B4, 53), 17, untagged)),
        ("ICMP error, short quote", error(&quote[..27]), hash((A4, 0), (B4, 0), 17, untagged)),
        ("ICMP error, useless quote", error(&quote[..19]), hash(("192.0.2.77", 0), (A4, 0), 1, untagged)),
    ];
    in_namespace(|| {
        let data = bench(PortRole::Data);
        let cluster = bench(PortRole::ClusterLink);
        for (case, frame, wanted) in &cases {
            assert_eq!(written(&data, frame), *wanted, "{case}");
            assert_eq!(written(&cluster, &tunnel4(frame)), *wanted, "{case}, in the tunnel");
            assert_eq!(written(&cluster, &tunnel6(frame)), *wanted, "{case}, in the tunnel");
        }
    });
}

#[test]
fn both_directions_have_one_hash() {
    in_namespace(|| {
        let steering = bench(PortRole::Data);
        let mut back = TCP;
        back[..4].copy_from_slice(&[0x00, 0x50, 0x0f, 0xa0]);
        let there = frame4(&ipv4(6, &TCP));
        let back = frame4(&ipv4_between([203, 0, 113, 9], [198, 51, 100, 7], 6, 0, &back));
        assert_eq!(written(&steering, &there), written(&steering, &back));
        let other = frame6(&ipv6(6, &TCP));
        assert_ne!(written(&steering, &there), written(&steering, &other));
    });
}
