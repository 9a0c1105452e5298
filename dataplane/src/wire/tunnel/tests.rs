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
    emit(&mut frame, TCP_SYN.len(), ends, CLUSTER, &OPTION_SENT, &key_of_tests(), &key, direction, entropy);
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
    assert_eq!(inner_off, 82);
    #[rustfmt::skip]
    let headers = [
        2, 0, 0, 0, 0, 0xa2, 2, 0, 0, 0, 0, 0xa1, 0x08, 0x00,
        // 20 + 8 + 8 + 32 + 74 = 142 bytes, don't fragment, TTL 64, UDP
        0x45, 0, 0, 142, 0, 0, 0x40, 0, 64, 17, 0x26, 0x5b, 10, 1, 0, 1, 10, 1, 0, 2,
        // source port 0xc000 | 0x1234, destination port 6081, 122 bytes, no checksum
        0xd2, 0x34, 0x17, 0xc1, 0, 122, 0, 0,
        // Geneve: 8 words of options, Ethernet, VNI
        0x08, 0, 0x65, 0x58, 0xab, 0xcd, 0xef, 0,
        // option class, type, 7 words
        0xff, 0x53, 0x01, 7,
        // version, Redirect, hops, zone, ingress, owner, generation, epoch, sender, reserved
        2, 3, 2, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0, 0,
    ];
    assert_eq!(frame[..headers.len()], headers);
    assert_eq!(frame[inner_off..], TCP_SYN, "the inner frame is unaltered");
    assert_eq!(ipv4::checksum(&frame[14..34]), 0);
}

/// Computed with another implementation of AES from blocks put together from the text of `tag.rs`.
#[test]
fn literal_tags() {
    let (frame, _) = tunnelled(&ends("10.1.0.1", "10.1.0.2"));
    assert_eq!(frame[74..82], [0x03, 0xa0, 0x67, 0x32, 0x95, 0x67, 0x4b, 0xe1]);
    let packet = Packet::parse(&UDP_V6, 0, &FlowHasher::new(1)).unwrap();
    let directions = [
        (packet.direction, [0x8c, 0x60, 0x5d, 0x6b, 0x38, 0xba, 0x6d, 0xb0]),
        (packet.direction.reversed(), [0x9e, 0x3f, 0x04, 0x06, 0x1f, 0x92, 0x88, 0xbd]),
    ];
    for (direction, expected) in directions {
        let mut outer = [0; 82];
        let ends = ends("10.1.0.1", "10.1.0.2");
        emit(&mut outer, 64, &ends, CLUSTER, &OPTION_SENT, &key_of_tests(), &packet.key, direction, 0);
        assert_eq!(outer[74..], expected);
    }
}

#[test]
fn literal_bytes_over_ipv6() {
    let (frame, inner_off) = tunnelled(&ends("fd00::1", "fd00::2"));
    assert_eq!(inner_off, 102);
    assert_eq!(frame[12..22], [0x86, 0xdd, 0x60, 0, 0, 0, 0, 122, 17, 64]);
    assert_eq!(frame[22..38], key_bytes("fd00::1".parse().unwrap()));
    assert_eq!(frame[38..54], key_bytes("fd00::2".parse().unwrap()));
    assert_eq!(frame[54..62], [0xd2, 0x34, 0x17, 0xc1, 0, 122, 0, 0]);
}

#[test]
fn what_was_sent_is_received() {
    let (key, direction) = flow();
    for ends in [ends("10.1.0.1", "10.1.0.2"), ends("fd00::1", "fd00::2")] {
        let (frame, inner_off) = tunnelled(&ends);
        let received = parse(&frame, inner_off).unwrap();
        assert_eq!(plainly(&frame, inner_off), Some(received));
        assert_eq!((received.option, received.cluster), (OPTION_SENT, CLUSTER));
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
    for (at, bit) in (46..49).chain(50..82).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
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
        frame[42] = 10;
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
        (42, 0x48, DropReason::TunnelMalformed), // Geneve version 1
        (44, 0x08, DropReason::TunnelMalformed), // another protocol inside
        (42, 0x07, DropReason::BadMetadata),     // the headers end elsewhere
        (50, 0x00, DropReason::TunnelUnknown),   // no option of ours
        (53, 6, DropReason::TunnelMalformed),    // our option with another length
        (54, 1, DropReason::TunnelUnknown),      // another version
        (55, 0, DropReason::TunnelUnknown),      // unknown kinds
        (55, 6, DropReason::TunnelUnknown),
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
    let mut outer = [0; 82];
    let (flow, direction) = (FlowKey::default(), Direction::LoToHi);
    let ends = ends("10.1.0.1", "10.1.0.2");
    emit(&mut outer, frame.len(), &ends, CLUSTER, &option, &key_of_tests(), &flow, direction, 0);
    let received = parse(&outer, 82).unwrap();
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
    ] {
        assert_eq!(TunnelKind::from_wire(kind as u8), Some(kind));
    }
    assert_eq!(TunnelKind::from_wire(0), None);
    assert_eq!(TunnelKind::from_wire(6), None);
}
