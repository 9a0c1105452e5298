use super::*;
use crate::flow::{FlowKey, key_bytes};
use crate::wire::samples::{ECHO, TCP_SYN, UDP, UDP_V6, framed, icmp_error, ipv4_packet, ipv6_packet};
use crate::wire::tcp::SYN;

fn parse(frame: &[u8]) -> Result<Packet, ParseError> {
    Packet::parse(frame, 0, &FlowHasher::new(1))
}

fn flow(source: (&str, u16), destination: (&str, u16), proto: u8) -> (FlowKey, Direction) {
    let end = |(address, port): (&str, u16)| (key_bytes(address.parse().unwrap()), port);
    FlowKey::new(end(source), end(destination), proto, (0, 0))
}

#[test]
fn tcp_syn() {
    let packet = parse(&TCP_SYN).unwrap();
    let (key, direction) = flow(("10.0.0.1", 4000), ("192.0.2.9", 80), 6);
    assert_eq!((packet.key, packet.direction), (key, direction));
    assert_eq!((packet.ttl, packet.length), (64, 74));
    assert_eq!((packet.fragment, packet.ports), (None, None));
    let L4::Tcp(segment) = packet.l4 else { panic!("{:?}", packet.l4) };
    assert_eq!((segment.flags, segment.seq, segment.scale), (SYN, 0x1122_3344, Some(7)));
    assert_eq!((segment.payload, segment.sack_permitted), (0, true));
    assert_eq!(packet.key_with_ports(), (key, direction));
}

#[test]
fn tcp_payload_ends_where_ip_ends() {
    let tcp = [&TCP_SYN[34..46], &[0x50, 0x10, 0, 9, 0, 0, 0, 0], b"abc"].concat();
    let frame = [framed(&[], &ipv4_packet(6, 0, &tcp)), vec![0; 6]].concat();
    let L4::Tcp(segment) = parse(&frame).unwrap().l4 else { panic!("not TCP") };
    assert_eq!((segment.payload, segment.window), (3, 9));
}

#[test]
fn udp_over_ipv6_with_vlan_in_the_key() {
    let frame = framed(&[(0x8100, 0x6007)], &UDP_V6[14..]);
    let packet = parse(&frame).unwrap();
    assert_eq!(packet.l4, L4::Udp);
    assert_eq!(packet.key.vlans(), (7, 0));
    assert_eq!(packet.key.source(packet.direction), ("2001:db8::1".parse().unwrap(), 5353));
    assert_eq!(packet.key.destination(packet.direction), ("2001:db8::2".parse().unwrap(), 53));
}

#[test]
fn icmp_queries_and_others() {
    let echo = parse(&framed(&[], &ipv4_packet(1, 0, &ECHO))).unwrap();
    assert_eq!(echo.l4, L4::IcmpQuery { request: true });
    assert_eq!((echo.key.lo_port, echo.key.hi_port), (0x1234, 0x1234));
    let mut reply = ECHO;
    reply[0] = 0;
    let reply = parse(&framed(&[], &ipv4_packet(1, 0, &reply))).unwrap();
    assert_eq!(reply.l4, L4::IcmpQuery { request: false });
    let mut router_advertisement = ECHO;
    router_advertisement[0] = 9;
    let other = parse(&framed(&[], &ipv4_packet(1, 0, &router_advertisement))).unwrap();
    assert_eq!((other.l4, other.key.lo_port), (L4::Other, 0));
    let gre = parse(&framed(&[], &ipv4_packet(47, 0, &[0; 4]))).unwrap();
    assert_eq!((gre.l4, gre.key.proto()), (L4::Other, 47));
    let no_next = parse(&framed(&[], &ipv6_packet(59, &[0; 4]))).unwrap();
    assert_eq!(no_next.l4, L4::Other);
}

#[test]
fn sctp_chunk() {
    let sctp = [0x0b, 0x59, 0x0b, 0x5a, 0, 0, 0, 9, 0, 0, 0, 0, 10, 0, 0, 8, 1, 2, 3, 4];
    let packet = parse(&framed(&[], &ipv4_packet(132, 0, &sctp))).unwrap();
    assert_eq!(packet.l4, L4::Sctp { chunk: 10, tag: 9 });
}

#[test]
fn icmp_error_goes_against_the_packet_it_quotes() {
    let (key, there) = flow(("10.0.0.1", 4000), ("192.0.2.9", 80), 6);
    let packet = parse(&icmp_error(11, &TCP_SYN[14..42])).unwrap();
    assert_eq!(packet.l4, L4::IcmpError);
    assert_eq!((packet.key, packet.direction), (key, there.reversed()));
    let (key, there) = flow(("2001:db8::1", 5353), ("2001:db8::2", 53), 17);
    let packet = parse(&icmp_error(2, &UDP_V6[14..])).unwrap();
    assert_eq!((packet.key, packet.direction), (key, there.reversed()));
}

#[test]
fn icmp_error_without_a_usable_quote_has_its_own_addresses() {
    let (key, direction) = flow(("10.0.0.1", 0), ("192.0.2.9", 0), 1);
    let packet = parse(&icmp_error(3, &[])).unwrap();
    assert_eq!(packet.l4, L4::IcmpError);
    assert_eq!((packet.key, packet.direction), (key, direction));
}

#[test]
fn fragments_of_one_train() {
    let first = parse(&framed(&[], &ipv4_packet(17, 0x2000, &UDP))).unwrap();
    let length = UDP.len() as u16;
    let expected = Fragment { id: 0x1234, first: true, more: true, offset: 0, length };
    assert_eq!(first.fragment, Some(expected));
    assert_eq!((first.key.lo_port, first.key.hi_port), (0, 0));
    assert_eq!((first.ports, first.l4), (Some((5000, 6000)), L4::Udp));
    let (key, direction) = flow(("10.0.0.1", 5000), ("192.0.2.9", 6000), 17);
    assert_eq!(first.key_with_ports(), (key, direction));

    let later = parse(&framed(&[], &ipv4_packet(17, 0x0001, &UDP))).unwrap();
    let expected = Fragment { id: 0x1234, first: false, more: false, offset: 8, length };
    assert_eq!(later.fragment, Some(expected));
    assert_eq!((later.ports, later.l4), (None, L4::None));
    assert_eq!(later.key, first.key);
    assert_eq!(later.key_with((5000, 6000)), (key, direction));
}

#[test]
fn ipv6_fragment_id_behind_other_headers() {
    let chain = [&[44, 0, 1, 4, 0, 0, 0, 0][..], &[17, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef], &UDP];
    let packet = parse(&framed(&[], &ipv6_packet(0, &chain.concat()))).unwrap();
    let length = UDP.len() as u16;
    let expected = Fragment { id: 0xdead_beef, first: true, more: true, offset: 0, length };
    assert_eq!(packet.fragment, Some(expected));
    assert_eq!(packet.ports, Some((5000, 6000)));
}

#[test]
fn ends_on_one_host_find_their_direction_with_the_ports() {
    let mut frame = framed(&[], &ipv4_packet(17, 0x2000, &[0x17, 0x70, 0x13, 0x88, 0, 8, 0, 0]));
    let (source, destination) = (26..30, 30..34);
    frame.copy_within(source, destination.start);
    frame[24..26].fill(0);
    let checksum = ipv4::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    let packet = parse(&frame).unwrap();
    assert_eq!(packet.key_with_ports(), flow(("10.0.0.1", 6000), ("10.0.0.1", 5000), 17));
    assert_eq!(packet.key_with_ports().1, Direction::HiToLo);
}

#[test]
fn layer_4_that_contradicts_itself() {
    let dropped = |frame: &[u8]| parse(frame).unwrap_err();
    let mut short_header = TCP_SYN;
    short_header[46] = 0x40;
    assert_eq!(dropped(&short_header), ParseError::Drop(DropReason::Malformed));
    let mut long_header = TCP_SYN;
    long_header[46] = 0xb0;
    assert_eq!(dropped(&long_header), ParseError::Drop(DropReason::Malformed));
    for length in [7, 11] {
        let mut udp = UDP_V6;
        udp[59] = length;
        assert_eq!(dropped(&udp), ParseError::Drop(DropReason::Malformed), "UDP length {length}");
    }
    let no_chunk = framed(&[], &ipv4_packet(132, 0, &[0; 12]));
    assert_eq!(dropped(&no_chunk), ParseError::Drop(DropReason::Malformed));
    let long_datagram = framed(&[], &ipv4_packet(17, 0x2000, &[0, 1, 0, 2, 9, 0, 0, 0]));
    assert!(parse(&long_datagram).is_ok(), "a datagram is longer than its first fragment");
}

#[test]
fn martians_and_their_quotes() {
    let mut loopback = TCP_SYN;
    loopback[26] = 127;
    assert_eq!(parse(&loopback), Err(ParseError::Drop(DropReason::Martian)));
    let mut mapped = UDP_V6;
    mapped[22..34].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    assert_eq!(parse(&mapped), Err(ParseError::Drop(DropReason::Martian)));
    let quote = icmp_error(1, &mapped[14..]);
    assert_eq!(parse(&quote), Err(ParseError::Drop(DropReason::Martian)));
}

#[test]
fn an_ipv4_header_with_a_wrong_checksum() {
    for at in [15, 18, 22, 24, 25, 26] {
        let mut changed = TCP_SYN;
        changed[at] ^= 1;
        assert_eq!(parse(&changed), Err(ParseError::Drop(DropReason::IpChecksum)), "byte {at}");
    }
}

#[test]
fn metadata_that_does_not_fit() {
    let layout = Layout::parse(&TCP_SYN, 0, &FlowHasher::new(1)).unwrap();
    let lies = [
        Layout { l3_off: 0, ..layout },
        Layout { l3_off: 60, ..layout },
        Layout { l3_end: 75, ..layout },
        Layout { l3_end: 10, ..layout },
        Layout { l4_off: 73, ..layout },
        Layout { l4_off: 75, ..layout },
        Layout { l4_off: 14, ..layout },
        Layout { flags: 1, ..layout },
        Layout { flags: 2, ..layout },
        Layout { flags: 8, quoted_l3_off: 70, ..layout },
    ];
    for lie in lies {
        assert_eq!(Packet::read(&TCP_SYN, lie), Err(DropReason::BadMetadata), "{lie:?}");
    }
    assert!(Packet::read(&TCP_SYN, layout).is_ok());
}
