use super::*;
use crate::flow::Direction;
use crate::wire::flow_hash::FlowHasher;
use crate::wire::ipv4::{folded, sum};
use crate::wire::samples::{TCP_SYN, UDP, UDP_V6, framed, icmp_error, ipv4_packet};

fn answered(frame: &[u8], own: Option<IpAddr>) -> Option<(Answer, Vec<u8>)> {
    answered_with(Complaint::Prohibited, frame, own)
}

fn answered_with(complaint: Complaint, frame: &[u8], own: Option<IpAddr>) -> Option<(Answer, Vec<u8>)> {
    let packet = Packet::parse(frame, 0, &FlowHasher::new(1)).expect("a packet of a test");
    let answer = Answer::new(&Refused { complaint, packet: &packet, frame, own })?;
    let mut room = [0; Answer::QUOTE_MAX];
    let mut bytes = vec![0; answer.length()];
    answer.write(answer.quote(frame, 0, &mut room), &mut bytes);
    let layout = answer.layout(&packet.layout);
    assert_eq!((usize::from(layout.l3_end), layout.l3_off), (bytes.len(), packet.layout.l3_off));
    Some((answer, bytes))
}

/// Zero if the checksum in `body` is right.
fn checked(answer: &Answer, protocol: u8, body: &[u8]) -> u16 {
    let part = |address: &[u8; 16]| sum(if answer.is_ipv6 { address } else { &address[12..] });
    let pseudo = match protocol {
        proto::ICMP => 0,
        _ => part(&answer.source) + part(&answer.destination) + u32::from(protocol) + body.len() as u32,
    };
    folded(pseudo + sum(body))
}

#[test]
fn a_syn_is_reset_with_the_number_it_asked_for() {
    let (answer, bytes) = answered(&TCP_SYN, None).unwrap();
    assert_eq!(bytes.len(), 54);
    assert_eq!(bytes[26..34], [192, 0, 2, 9, 10, 0, 0, 1], "from the server, to the client");
    assert_eq!(bytes[34..38], [0, 80, 0x0f, 0xa0]);
    assert_eq!(
        bytes[38..46],
        [0, 0, 0, 0, 0x11, 0x22, 0x33, 0x45],
        "sequence 0, its own plus one acknowledged"
    );
    assert_eq!(bytes[46..48], [0x50, RST | ACK]);
    assert_eq!((ipv4::checksum(&bytes[14..34]), checked(&answer, proto::TCP, &bytes[34..])), (0, 0));
}

#[test]
fn a_segment_with_ack_is_reset_at_its_own_number() {
    let mut segment = TCP_SYN;
    segment[42..46].copy_from_slice(&[9, 8, 7, 6]);
    segment[47] = ACK;
    let (_, bytes) = answered(&segment, None).unwrap();
    assert_eq!(bytes[38..48], [9, 8, 7, 6, 0, 0, 0, 0, 0x50, RST]);
    segment[47] = FIN;
    let (_, bytes) = answered(&segment, None).unwrap();
    assert_eq!(bytes[42..48], [0x11, 0x22, 0x33, 0x45, 0x50, RST | ACK], "FIN counts as one, too");
}

#[test]
fn a_datagram_is_answered_by_icmp_with_all_of_it_that_fits() {
    let own = "10.0.0.254".parse().unwrap();
    let long = [&[0x13, 0x88, 0x17, 0x70, 4, 0xb8, 0, 0][..], &[7; 1200]].concat();
    for (datagram, quoted) in [(&UDP[..], 28), (&long, 548)] {
        let frame = framed(&[], &ipv4_packet(proto::UDP, 0, datagram));
        let (answer, bytes) = answered(&frame, Some(own)).unwrap();
        assert_eq!(bytes[26..34], [10, 0, 0, 254, 10, 0, 0, 1], "from the node");
        assert_eq!(bytes[34..36], [3, 13]);
        assert_eq!(bytes[42..], frame[14..14 + quoted]);
        assert_eq!((ipv4::checksum(&bytes[14..34]), checked(&answer, proto::ICMP, &bytes[34..])), (0, 0));
        let parsed = Packet::parse(&bytes, 0, &FlowHasher::new(1)).unwrap();
        let refused = Packet::parse(&frame, 0, &FlowHasher::new(1)).unwrap();
        assert_eq!((parsed.l4, parsed.key), (L4::IcmpError, refused.key), "it belongs to the flow it quotes");
    }
    let (_, bytes) = answered(&framed(&[], &ipv4_packet(proto::UDP, 0, &UDP)), None).unwrap();
    assert_eq!(bytes[26..30], [192, 0, 2, 9], "without an address of its own: from where the packet went");
}

#[test]
fn ipv6_behind_a_tag() {
    let frame = framed(&[(0x8100, 5)], &UDP_V6[14..]);
    let own: IpAddr = "2001:db8::ff".parse().unwrap();
    let (answer, bytes) = answered(&frame, Some(own)).unwrap();
    assert_eq!(bytes[..18], frame[..18], "tag and all");
    assert_eq!(bytes[18 + 40..18 + 42], [1, 1]);
    assert_eq!(bytes[18 + 48..], frame[18..]);
    assert_eq!(checked(&answer, proto::ICMPV6, &bytes[58..]), 0);
    assert_eq!(answer.source, key_bytes(own));
    let (answer, _) = answered(&frame, Some("10.0.0.1".parse().unwrap())).unwrap();
    assert_ne!(answer.source[..12], MAPPED_PREFIX, "an address of the other IP version is none");
}

#[test]
fn some_packets_have_no_answer() {
    let mut reset = TCP_SYN;
    reset[47] = RST;
    assert!(answered(&reset, None).is_none());
    assert!(answered(&icmp_error(3, &TCP_SYN[14..]), None).is_none());
    assert!(answered(&framed(&[], &ipv4_packet(proto::UDP, 1, &UDP)), None).is_none());
    for source in [[0, 0, 0, 0], [255, 255, 255, 255], [240, 0, 0, 1]] {
        let mut packet = Packet::parse(&TCP_SYN, 0, &FlowHasher::new(1)).unwrap();
        (packet.key.lo, packet.direction) = (key_bytes(source.into()), Direction::LoToHi);
        assert!(
            Answer::new(&Refused {
                complaint: Complaint::Prohibited,
                packet: &packet,
                frame: &TCP_SYN,
                own: None
            })
            .is_none(),
            "{source:?}"
        );
    }
}

/// Type, code, second word: of RFC 792 and RFC 1191 for IPv4, of RFC 4443 for IPv6.
#[test]
fn each_complaint_has_its_message_and_tcp_is_told_like_all_others() {
    let rows = [
        (Complaint::TimeExceeded, [11, 0], [3, 0], 0, 0),
        (Complaint::NoRoute, [3, 0], [1, 0], 0, 0),
        (Complaint::HostUnreachable, [3, 1], [1, 3], 0, 0),
        (Complaint::TooBig(1400), [3, 4], [2, 0], 1400, 1400),
        (Complaint::TooBig(900), [3, 4], [2, 0], 900, 1280),
    ];
    let (v4, v6): (IpAddr, IpAddr) = ("10.0.0.254".parse().unwrap(), "2001:db8::ff".parse().unwrap());
    for (complaint, of_v4, of_v6, word_v4, word_v6) in rows {
        for (frame, own, header, kind, word) in
            [(&TCP_SYN[..], v4, 20, of_v4, word_v4), (&UDP_V6[..], v6, 40, of_v6, word_v6)]
        {
            let (answer, bytes) = answered_with(complaint, frame, Some(own)).unwrap();
            let body = &bytes[14 + header..];
            assert_eq!(body[..2], kind, "{complaint:?}");
            assert_eq!(body[4..8], u32::to_be_bytes(word), "{complaint:?}");
            assert_eq!(body[8..], frame[14..], "{complaint:?}: all of a short packet is quoted");
            assert_eq!(answer.source, key_bytes(own));
            assert_eq!(checked(&answer, answer.icmp(), body), 0, "{complaint:?}");
        }
    }
}

/// RFC 1122 section 3.2.2, RFC 4443 section 2.4.
#[test]
fn some_packets_have_no_error() {
    let own = Some("10.0.0.254".parse().unwrap());
    let told = |frame: &[u8], own| answered_with(Complaint::TimeExceeded, frame, own).is_some();
    assert!(told(&TCP_SYN, own));
    assert!(!told(&TCP_SYN, None), "nobody but the node itself may be its source");
    assert!(!told(&TCP_SYN, Some("2001:db8::ff".parse().unwrap())));
    assert!(!told(&icmp_error(3, &TCP_SYN[14..]), own), "an error");
    assert!(!told(&framed(&[], &ipv4_packet(proto::UDP, 1, &UDP)), own), "a later fragment");
    let (answer, _) = answered_with(Complaint::TimeExceeded, &TCP_SYN, own).unwrap();
    let packet = Packet::parse(&TCP_SYN, 0, &FlowHasher::new(1)).unwrap();
    assert_ne!(answer.layout(&packet.layout).flags & FLAG_ICMP_ERROR, 0, "nor is the answer answered");
}

#[test]
fn a_prompt_is_an_ack_of_the_other_end_that_fits_nothing() {
    let v6_behind_tags = framed(&[(0x88a8, 6), (0x8100, 5)], &UDP_V6[14..]);
    for (frame, l3_off) in [(&TCP_SYN[..], 14), (&v6_behind_tags, 22)] {
        let packet = Packet::parse(frame, 0, &FlowHasher::new(1)).unwrap();
        let header = TaggedHeader::of(&packet.key);
        assert_eq!(header.bytes()[12..], frame[12..l3_off], "tags and type of the flow's frames");
        let prompt = Answer::prompt(&packet.key, packet.direction.reversed(), header.bytes().len());
        let mut bytes = vec![0; prompt.length()];
        prompt.write(header.bytes(), &mut bytes);
        let l4_off = l3_off + prompt.header();
        let (from, to) = packet.key.ends(packet.direction.reversed());
        assert_eq!(bytes[l4_off..l4_off + 4], [from.1.to_be_bytes(), to.1.to_be_bytes()].concat());
        assert_eq!(bytes[l4_off + 4..l4_off + 14], [0, 0, 0, 0, 0, 0, 0, 0, 0x50, ACK]);
        assert_eq!(bytes.len() - l4_off, 21, "a byte of data");
        assert_eq!(checked(&prompt, proto::TCP, &bytes[l4_off..]), 0);
        let layout = prompt.layout(&Layout { vlan_outer: 5, ..packet.layout });
        assert_eq!((usize::from(layout.l3_end), usize::from(layout.l4_off)), (bytes.len(), l4_off));
        assert_eq!(layout.is_ipv6(), l3_off == 22);
    }
}
