use super::*;
use crate::flow::key_bytes;
use crate::wire::flow_hash::FlowHasher;
use crate::wire::packet::Packet;
use crate::wire::samples::{TCP_SYN, UDP_V6};

fn key_of_tests() -> TunnelKey {
    TunnelKey::new([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
}

const CLUSTER: u32 = 0x00ab_cdef;

const OPTION_SENT: TunnelOption = TunnelOption {
    kind: TunnelKind::Redirect,
    hops: 2,
    zone: 3,
    ingress: NodeId(0x0102),
    owner: NodeId(0x0304),
    generation: Generation(0x0506_0708),
    epoch: 0x090a_0b0c,
    sender: NodeId(0x0d0e),
};

const SEAL_SENT: Seal = Seal { key: 15, stream: 16, counter: 0x1112_1314_1516_1718 };

fn ends(source: &str, destination: &str) -> TunnelEnds {
    TunnelEnds {
        source_mac: [2, 0, 0, 0, 0, 0xa1],
        destination_mac: [2, 0, 0, 0, 0, 0xa2],
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

fn flow() -> (FlowKey, Direction) {
    let packet = Packet::parse(&TCP_SYN, 0, &FlowHasher::new(1)).unwrap();
    (packet.key, packet.direction)
}

/// The TCP SYN behind a tunnel header, and where it starts.
fn tunnelled(ends: &TunnelEnds) -> (Vec<u8>, usize) {
    let inner_off = overhead(&ends.destination);
    let mut frame = vec![0xee; inner_off];
    let (key, direction) = flow();
    let entropy = 0xffff_1234;
    let tunnel_key = key_of_tests();
    let seal = &SEAL_SENT;
    emit(&mut frame, TCP_SYN.len(), ends, CLUSTER, &OPTION_SENT, seal, &tunnel_key, &key, direction, entropy);
    frame.extend(TCP_SYN);
    (frame, inner_off)
}

/// What the fast path reads of a tunnel packet.
fn plainly(frame: &[u8], inner_off: usize) -> Option<Received> {
    parse_plain(frame, inner_off)?.whole()
}

#[test]
fn literal_bytes_over_ipv4() {
    let (frame, inner_off) = tunnelled(&ends("10.1.0.1", "10.1.0.2"));
    assert_eq!(inner_off, 90);
    #[rustfmt::skip]
    let headers = [
        2, 0, 0, 0, 0, 0xa2, 2, 0, 0, 0, 0, 0xa1, 0x08, 0x00,
        // 20 + 8 + 8 + 40 + 74 = 150 bytes, don't fragment, TTL 64, UDP
        0x45, 0, 0, 150, 0, 0, 0x40, 0, 64, 17, 0x26, 0x53, 10, 1, 0, 1, 10, 1, 0, 2,
        // source port 0xc000 | 0x1234, destination port 6081, 130 bytes, no checksum
        0xd2, 0x34, 0x17, 0xc1, 0, 130, 0, 0,
        // Geneve: 10 words of options, Ethernet, VNI
        0x0a, 0, 0x65, 0x58, 0xab, 0xcd, 0xef, 0,
        // option class, type, 9 words
        0xff, 0x53, 0x01, 9,
        // version, Redirect, hops, zone, ingress, owner, generation, epoch, sender, key, stream
        3, 3, 2, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
        // counter
        0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
    ];
    assert_eq!(frame[..headers.len()], headers);
    assert_eq!(frame[inner_off..], TCP_SYN, "the inner frame is unaltered");
    assert_eq!(ipv4::checksum(&frame[14..34]), 0);
}

/// Computed with another implementation of AES from blocks put together from the text of `tag.rs`.
#[test]
fn literal_tags() {
    let (frame, _) = tunnelled(&ends("10.1.0.1", "10.1.0.2"));
    assert_eq!(frame[82..90], [0xb2, 0x93, 0x1b, 0x23, 0x04, 0x39, 0x8a, 0x1d]);
    let packet = Packet::parse(&UDP_V6, 0, &FlowHasher::new(1)).unwrap();
    let directions = [
        (packet.direction, [0x3d, 0xb3, 0x6e, 0xb2, 0x15, 0x8f, 0xe0, 0x4b]),
        (packet.direction.reversed(), [0xb6, 0xfb, 0x6b, 0xa2, 0x29, 0x8a, 0x05, 0x88]),
    ];
    for (direction, expected) in directions {
        let mut outer = [0; 90];
        let ends = ends("10.1.0.1", "10.1.0.2");
        let (key, seal) = (key_of_tests(), SEAL_SENT);
        emit(&mut outer, 64, &ends, CLUSTER, &OPTION_SENT, &seal, &key, &packet.key, direction, 0);
        assert_eq!(outer[82..], expected);
    }
}

/// As above, and with another implementation of SipHash.
#[test]
fn literal_tag_of_the_xdp_program() {
    let (mut frame, inner_off) = tunnelled(&ends("10.1.0.1", "10.1.0.2"));
    let (key, direction) = flow();
    let seal = Seal { stream: 0x90, ..SEAL_SENT };
    reseal(&mut frame[..inner_off], &seal, &key_of_tests(), &key, direction);
    assert_eq!(frame[82..90], [0x2c, 0xa6, 0xc4, 0xc4, 0x0b, 0x39, 0x39, 0xcd]);
    let received = parse(&frame, inner_off).unwrap();
    assert_eq!((received.option, received.seal), (OPTION_SENT, seal));
    assert!(received.verify(&key_of_tests(), &key, direction));
}

#[test]
fn literal_bytes_over_ipv6() {
    let (frame, inner_off) = tunnelled(&ends("fd00::1", "fd00::2"));
    assert_eq!(inner_off, 110);
    assert_eq!(frame[12..22], [0x86, 0xdd, 0x60, 0, 0, 0, 0, 130, 17, 64]);
    assert_eq!(frame[22..38], key_bytes("fd00::1".parse().unwrap()));
    assert_eq!(frame[38..54], key_bytes("fd00::2".parse().unwrap()));
    assert_eq!(frame[54..62], [0xd2, 0x34, 0x17, 0xc1, 0, 130, 0, 0]);
}

#[test]
fn what_was_sent_is_received() {
    let (key, direction) = flow();
    for ends in [ends("10.1.0.1", "10.1.0.2"), ends("fd00::1", "fd00::2")] {
        let (frame, inner_off) = tunnelled(&ends);
        let received = parse(&frame, inner_off).unwrap();
        assert_eq!(plainly(&frame, inner_off), Some(received));
        assert_eq!((received.option, received.seal, received.cluster), (OPTION_SENT, SEAL_SENT, CLUSTER));
        assert!(received.verify(&key_of_tests(), &key, direction));
        assert!(!received.verify(&key_of_tests(), &key, direction.reversed()));
        assert!(!received.verify(&TunnelKey::new([0; 16]), &key, direction));
    }
}

#[test]
fn vlan_tag_on_the_cluster_link() {
    let (mut frame, inner_off) = tunnelled(&ends("10.1.0.1", "10.1.0.2"));
    frame.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
    assert_eq!(parse(&frame, inner_off + 4).unwrap().option, OPTION_SENT);
}

#[test]
fn any_flipped_bit_of_the_option_or_vni_is_found() {
    let (key, direction) = flow();
    let (frame, inner_off) = tunnelled(&ends("10.1.0.1", "10.1.0.2"));
    // RFC 8926: the reserved bits of the option header must be ignored.
    let reserved = [(53, 5), (53, 6), (53, 7)];
    for (at, bit) in (46..49).chain(50..90).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut flipped = frame.clone();
        flipped[at] ^= 1 << bit;
        let accepted = parse(&flipped, inner_off)
            .is_ok_and(|received| received.verify(&key_of_tests(), &key, direction));
        assert_eq!(accepted, reserved.contains(&(at, bit)), "byte {at} bit {bit}");
    }
}

#[test]
fn any_flipped_bit_of_the_inner_flow_is_found() {
    let (frame, inner_off) = tunnelled(&ends("10.1.0.1", "10.1.0.2"));
    let received = parse(&frame, inner_off).unwrap();
    // Addresses and ports of the inner packet.
    for (at, bit) in (26..38).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut flipped = TCP_SYN;
        flipped[at] ^= 1 << bit;
        if let Ok(packet) = Packet::parse(&flipped, 0, &FlowHasher::new(1)) {
            let accepted = received.verify(&key_of_tests(), &packet.key, packet.direction);
            assert!(!accepted, "byte {at} bit {bit}");
        }
    }
}

#[test]
fn options_of_others() {
    let (frame, inner_off) = tunnelled(&ends("10.1.0.1", "10.1.0.2"));
    let with = |option: [u8; 8]| {
        let mut frame = frame.clone();
        frame.splice(50..50, option);
        frame[42] = 12;
        parse(&frame, inner_off + 8).map(|received| received.option)
    };
    assert_eq!(with([0x01, 0x02, 0x03, 1, 9, 9, 9, 9]), Ok(OPTION_SENT));
    assert_eq!(with([0x01, 0x02, 0x83, 1, 9, 9, 9, 9]), Err(DropReason::TunnelUnknown));
    assert_eq!(with([0x01, 0x02, 0x03, 31, 9, 9, 9, 9]), Err(DropReason::TunnelMalformed));
    assert_eq!(with([0xff, 0x53, 0x01, 1, 9, 9, 9, 9]), Err(DropReason::TunnelMalformed));
}

#[test]
fn what_is_refused_and_why() {
    let (frame, inner_off) = tunnelled(&ends("10.1.0.1", "10.1.0.2"));
    let refused = [
        (42, 0x4a, DropReason::TunnelMalformed), // Geneve version 1
        (44, 0x08, DropReason::TunnelMalformed), // another protocol inside
        (42, 0x09, DropReason::BadMetadata),     // the headers end elsewhere
        (50, 0x00, DropReason::TunnelUnknown),   // no option of ours
        (53, 8, DropReason::TunnelMalformed),    // our option with another length
        (54, 1, DropReason::TunnelUnknown),      // another version
        (55, 0, DropReason::TunnelUnknown),      // unknown kinds
        (55, 7, DropReason::TunnelUnknown),
    ];
    for (at, value, reason) in refused {
        let mut frame = frame.clone();
        frame[at] = value;
        assert_eq!(parse(&frame, inner_off), Err(reason), "byte {at} = {value:#x}");
    }
    for (at, value, _) in refused {
        let mut frame = frame.clone();
        frame[at] = value;
        assert_eq!(plainly(&frame, inner_off), None, "byte {at} = {value:#x}");
    }
    for cut in 0..inner_off {
        assert_eq!(plainly(&frame[..cut], inner_off), None);
        assert!(cut == 0 || parse_plain(&frame, cut).is_none());
        assert_eq!(parse(&frame[..cut], inner_off), Err(DropReason::BadMetadata));
        assert_eq!(parse(&frame, cut), Err(DropReason::BadMetadata));
    }
}

#[test]
fn hello() {
    let frame = hello_frame([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    assert_eq!(frame, [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    let option = TunnelOption { kind: TunnelKind::Hello, ..OPTION_SENT };
    let mut outer = [0; 90];
    let (flow, direction) = (FlowKey::default(), Direction::LoToHi);
    let ends = ends("10.1.0.1", "10.1.0.2");
    let (key, seal) = (key_of_tests(), SEAL_SENT);
    emit(&mut outer, frame.len(), &ends, CLUSTER, &option, &seal, &key, &flow, direction, 0);
    let received = parse(&outer, 90).unwrap();
    assert_eq!(received.option.kind, TunnelKind::Hello);
    assert!(received.verify(&key_of_tests(), &flow, direction));
}

#[test]
fn keys_are_not_printed() {
    assert_eq!(format!("{:?}", key_of_tests()), "TunnelKey(..)");
}

#[test]
fn kinds_on_the_wire() {
    for kind in [
        TunnelKind::Query,
        TunnelKind::FirstPacket,
        TunnelKind::Redirect,
        TunnelKind::Hello,
        TunnelKind::Lookup,
        TunnelKind::Gather,
    ] {
        assert_eq!(TunnelKind::from_wire(kind as u8), Some(kind));
    }
    assert_eq!(TunnelKind::from_wire(0), None);
    assert_eq!(TunnelKind::from_wire(7), None);
}
