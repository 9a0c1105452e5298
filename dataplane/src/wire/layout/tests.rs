use super::*;
use crate::flow::{FlowKey, key_bytes};
use crate::wire::samples::{ECHO, TCP_SYN, UDP, UDP_V6, framed, icmp_error, ipv4_packet, ipv6_packet};

const HASHER_SEED: u64 = 0x0123_4567_89ab_cdef;

fn parse(frame: &[u8]) -> Result<Layout, NotSteered> {
    Layout::parse(frame, 3, &FlowHasher::new(HASHER_SEED))
}

fn hash(source: (&str, u16), destination: (&str, u16), proto: u8, vlans: (u16, u16)) -> u32 {
    let end = |(address, port): (&str, u16)| (key_bytes(address.parse().unwrap()), port);
    let (key, _) = FlowKey::new(end(source), end(destination), proto, vlans);
    FlowHasher::new(HASHER_SEED).hash(&key)
}

const PLAIN: Layout = Layout {
    flow_hash: 0,
    inner_off: 0,
    l3_off: 14,
    l4_off: 34,
    l3_end: 42,
    quoted_l3_off: 0,
    quoted_l4_off: 0,
    vlan_outer: NO_VLAN,
    vlan_inner: NO_VLAN,
    proto: 17,
    quoted_proto: 0,
    flags: 0,
    port: 3,
};

#[test]
fn metadata_is_24_bytes_in_the_order_of_the_c_struct() {
    assert_eq!(size_of::<Layout>(), Layout::SIZE);
    let layout = Layout {
        flow_hash: 0x0403_0201,
        inner_off: 0x0605,
        l3_off: 0x0807,
        l4_off: 0x0a09,
        l3_end: 0x0c0b,
        quoted_l3_off: 0x0e0d,
        quoted_l4_off: 0x100f,
        vlan_outer: 0x1211,
        vlan_inner: 0x1413,
        proto: 0x15,
        quoted_proto: 0x16,
        flags: 0x17,
        port: 0x18,
    };
    let bytes = layout.to_metadata();
    if cfg!(target_endian = "little") {
        assert_eq!(bytes.to_vec(), (1..=24).collect::<Vec<u8>>());
    }
    assert_eq!(Layout::from_metadata(&bytes), layout);
}

#[test]
fn tcp_over_ipv4() {
    let expected = Layout {
        flow_hash: hash(("10.0.0.1", 4000), ("192.0.2.9", 80), 6, (0, 0)),
        l3_end: 74,
        proto: 6,
        ..PLAIN
    };
    assert_eq!(parse(&TCP_SYN), Ok(expected));
    let padded = [&TCP_SYN[..], &[0; 9]].concat();
    assert_eq!(parse(&padded), Ok(expected), "padding is not part of the packet");
}

#[test]
fn two_tags_and_ipv6() {
    let frame = framed(&[(0x88a8, 0xe064), (0x8100, 0x0065)], &UDP_V6[14..]);
    let expected = Layout {
        flow_hash: hash(("2001:db8::1", 5353), ("2001:db8::2", 53), 17, (100, 101)),
        l3_off: 22,
        l4_off: 62,
        l3_end: 72,
        vlan_outer: 0xe064,
        vlan_inner: 0x0065,
        flags: FLAG_IPV6,
        ..PLAIN
    };
    assert_eq!(parse(&frame), Ok(expected));
}

#[test]
fn rules_1_and_2() {
    assert_eq!(parse(&TCP_SYN[..13]), Err(NotSteered::Malformed));
    let mut group = TCP_SYN;
    group[0] |= 1;
    assert_eq!(parse(&group), Err(NotSteered::Multicast));
    assert_eq!(parse(&group[..13]), Err(NotSteered::Malformed), "length comes first");
    let mut arp = TCP_SYN;
    arp[13] = 0x06;
    assert_eq!(parse(&arp), Err(NotSteered::NotIp));
    let tags = [(0x8100, 1), (0x8100, 2), (0x8100, 3)];
    assert_eq!(parse(&framed(&tags, &TCP_SYN[14..])), Err(NotSteered::NotIp));
    assert_eq!(parse(&framed(&tags[..1], &[])[..17]), Err(NotSteered::Malformed));
}

#[test]
fn rules_3_and_4() {
    let broken = [(14, 0x65), (14, 0x44), (17, 0x13), (17, 0x3d), (16, 1)];
    for (at, value) in broken {
        let mut frame = TCP_SYN;
        frame[at] = value;
        assert_eq!(parse(&frame), Err(NotSteered::Malformed), "byte {at} = {value:#x}");
    }
    let broken = [(14, 0x40), (19, 0), (19, 11)];
    for (at, value) in broken {
        let mut frame = UDP_V6;
        frame[at] = value;
        assert_eq!(parse(&frame), Err(NotSteered::Malformed), "byte {at} = {value:#x}");
    }
    let mut to_many = TCP_SYN;
    to_many[30..34].copy_from_slice(&[239, 1, 1, 1]);
    assert_eq!(parse(&to_many), Err(NotSteered::Multicast));
    let mut to_many = UDP_V6;
    to_many[38] = 0xff;
    assert_eq!(parse(&to_many), Err(NotSteered::Multicast));
}

#[test]
fn rule_5_extension_headers() {
    let eight = [60, 0, 1, 4, 0, 0, 0, 0].repeat(7);
    let packet = [&eight[..], &[17, 0, 1, 4, 0, 0, 0, 0], &UDP].concat();
    let layout = parse(&framed(&[], &ipv6_packet(60, &packet))).unwrap();
    assert_eq!((layout.proto, layout.l4_off), (17, 14 + 40 + 64));
    let nine = [&eight[..8], &packet].concat();
    let frame = framed(&[], &ipv6_packet(60, &nine));
    assert_eq!(parse(&frame), Err(NotSteered::ExtensionHeaders));
    let cut = framed(&[], &ipv6_packet(60, &[17, 1, 1, 4, 0, 0, 0, 0]));
    assert_eq!(parse(&cut), Err(NotSteered::Malformed));
    let nothing_follows = parse(&framed(&[], &ipv6_packet(59, &[1, 2]))).unwrap();
    assert_eq!((nothing_follows.proto, nothing_follows.l4_off), (59, 0));
}

#[test]
fn fragments_hash_without_ports() {
    let portless = hash(("10.0.0.1", 0), ("192.0.2.9", 0), 17, (0, 0));
    let first = parse(&framed(&[], &ipv4_packet(17, 0x2000, &UDP)));
    assert_eq!(first, Ok(Layout { flow_hash: portless, flags: FLAG_FRAGMENT_FIRST, ..PLAIN }));
    let later = parse(&framed(&[], &ipv4_packet(17, 0x0001, &UDP)));
    assert_eq!(later, Ok(Layout { flow_hash: portless, flags: FLAG_FRAGMENT_LATER, l4_off: 0, ..PLAIN }));
    let tiny = framed(&[], &ipv4_packet(17, 0x2000, &UDP[..7]));
    assert_eq!(parse(&tiny), Err(NotSteered::Malformed));
}

#[test]
fn rule_6_neighbour_discovery() {
    for kind in 133..=137 {
        assert_eq!(parse(&framed(&[], &ipv6_packet(58, &[kind]))), Err(NotSteered::Neighbour));
    }
    let hop_by_hop = [&[58, 0, 1, 4, 0, 0, 0, 0], &[135, 0, 0, 0][..]].concat();
    assert_eq!(parse(&framed(&[], &ipv6_packet(0, &hop_by_hop))), Err(NotSteered::Neighbour));
    assert_eq!(parse(&framed(&[], &ipv6_packet(58, &[132]))), Err(NotSteered::Malformed));
}

#[test]
fn rule_8_layer_4_must_be_there() {
    for (proto, least) in [(6, 20), (17, 8), (132, 12), (1, 8), (58, 8), (47, 0)] {
        let frame = framed(&[], &ipv4_packet(proto, 0, &[0; 20][..least]));
        assert_eq!(parse(&frame).map(|layout| layout.l4_off), Ok(34), "{proto}");
        if least > 0 {
            let frame = framed(&[], &ipv4_packet(proto, 0, &[0; 20][..least - 1]));
            assert_eq!(parse(&frame), Err(NotSteered::Malformed), "{proto}");
        }
    }
}

#[test]
fn echo_hashes_its_identifier() {
    let layout = parse(&framed(&[], &ipv4_packet(1, 0, &ECHO))).unwrap();
    let expected = hash(("10.0.0.1", 0x1234), ("192.0.2.9", 0x1234), 1, (0, 0));
    assert_eq!(layout.flow_hash, expected);
}

#[test]
fn rule_9_icmp_error_has_the_hash_of_the_quoted_flow() {
    let layout = parse(&icmp_error(11, &TCP_SYN[14..14 + 28])).unwrap();
    let expected = Layout {
        flow_hash: hash(("10.0.0.1", 4000), ("192.0.2.9", 80), 6, (0, 0)),
        l3_end: 34 + 8 + 28,
        quoted_l3_off: 42,
        quoted_l4_off: 62,
        proto: 1,
        quoted_proto: 6,
        flags: FLAG_ICMP_ERROR,
        ..PLAIN
    };
    assert_eq!(layout, expected);
    let cut = parse(&icmp_error(11, &TCP_SYN[14..14 + 27])).unwrap();
    assert_eq!((cut.quoted_l3_off, cut.quoted_l4_off, cut.quoted_proto), (42, 0, 6));
    assert_eq!(cut.flow_hash, hash(("10.0.0.1", 0), ("192.0.2.9", 0), 6, (0, 0)));
}

#[test]
fn unusable_quotes() {
    let own = hash(("10.0.0.1", 0), ("192.0.2.9", 0), 1, (0, 0));
    let mut version = TCP_SYN[14..].to_vec();
    version[0] = 0x55;
    let mut header = TCP_SYN[14..].to_vec();
    header[0] = 0x44;
    for quote in [&version, &header, &TCP_SYN[14..33].to_vec(), &vec![]] {
        let layout = parse(&icmp_error(3, quote)).unwrap();
        assert_eq!((layout.quoted_l3_off, layout.quoted_l4_off, layout.quoted_proto), (0, 0, 0));
        assert_eq!(layout.flags, FLAG_ICMP_ERROR);
        assert_eq!(layout.flow_hash, own);
    }
    let extension_cut = ipv6_packet(60, &[17, 9, 0, 0, 0, 0, 0, 0]);
    let layout = parse(&icmp_error(1, &extension_cut)).unwrap();
    assert_eq!((layout.quoted_l3_off, layout.quoted_proto), (0, 0));
}

#[test]
fn quoted_fragment_and_quoted_echo() {
    let later = ipv4_packet(17, 0x0001, &UDP);
    let layout = parse(&icmp_error(3, &later)).unwrap();
    assert_eq!((layout.quoted_l3_off, layout.quoted_l4_off, layout.quoted_proto), (42, 0, 17));
    let layout = parse(&icmp_error(3, &ipv4_packet(1, 0, &ECHO))).unwrap();
    assert_eq!((layout.quoted_l4_off, layout.quoted_proto), (62, 1));
    let expected = hash(("10.0.0.1", 0x1234), ("192.0.2.9", 0x1234), 1, (0, 0));
    assert_eq!(layout.flow_hash, expected);
}

#[test]
fn inner_frames_skip_the_kernels_rules() {
    let hasher = FlowHasher::new(HASHER_SEED);
    let mut group = framed(&[], &ipv4_packet(17, 0, &UDP));
    group[0] |= 1;
    group[30] = 239;
    let layout = Layout::parse_inner(&group, 82, 3, &hasher).unwrap();
    assert_eq!((layout.inner_off, layout.l3_off, layout.flags), (82, 14, FLAG_TUNNEL));
    let discovery = framed(&[], &ipv6_packet(58, &[135, 0, 0, 0, 0, 0, 0, 0]));
    let layout = Layout::parse_inner(&discovery, 102, 3, &hasher).unwrap();
    assert_eq!(layout.flags, FLAG_TUNNEL | FLAG_IPV6);
    let mut arp = TCP_SYN;
    arp[13] = 0x06;
    assert_eq!(Layout::parse_inner(&arp, 82, 3, &hasher), Err(NotSteered::NotIp));
}

#[test]
fn hello_has_nothing_inside() {
    let hello = crate::wire::tunnel::hello_frame([2; 6], [4; 6]);
    let layout = Layout::parse_inner(&hello, 82, 3, &FlowHasher::new(HASHER_SEED)).unwrap();
    let expected = Layout {
        inner_off: 82,
        l3_off: 0,
        l4_off: 0,
        l3_end: 0,
        proto: 0,
        flags: FLAG_TUNNEL | FLAG_HELLO,
        ..PLAIN
    };
    assert_eq!(layout, expected);
    assert_eq!(parse(&hello), Err(NotSteered::NotIp), "on a data interface it is nothing of ours");
}
