//! Frames for tests, written by hand: literal bytes and a few verbs to put layers around them.

use crate::wire::ipv4;

/// 10.0.0.1:4000 → 192.0.2.9:80, SYN, window scale 7, SACK permitted.
pub(crate) const TCP_SYN: [u8; 74] = [
    0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x02, 0x08, 0x00, // Ethernet
    0x45, 0, 0, 0x3c, 0x12, 0x34, 0x40, 0, 0x40, 0x06, 0x5c, 0x7e, // IPv4, 60 bytes, TTL 64
    10, 0, 0, 1, 192, 0, 2, 9, //
    0x0f, 0xa0, 0, 80, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0, 0xa0, 0x02, 0xfa, 0xf0, 0, 0, 0, 0, // TCP
    2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7, // options
];

/// 2001:db8::1 → 2001:db8::2, UDP 5353 → 53, payload "hi".
pub(crate) const UDP_V6: [u8; 64] = [
    0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x02, 0x86, 0xdd, // Ethernet
    0x60, 0, 0, 0, 0, 10, 17, 64, // IPv6, payload 10
    0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, //
    0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, //
    0x14, 0xe9, 0, 53, 0, 10, 0, 0, b'h', b'i',
];

/// ICMP echo request, identifier 0x1234.
pub(crate) const ECHO: [u8; 8] = [8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1];

/// UDP 5000 → 6000 without payload.
pub(crate) const UDP: [u8; 8] = [0x13, 0x88, 0x17, 0x70, 0, 8, 0, 0];

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// An IPv4 packet 10.0.0.1 → 192.0.2.9; `offset_field` is DF, MF and the fragment offset.
pub(crate) fn ipv4_packet(proto: u8, offset_field: u16, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut header = [0x45, 0, 0, 0, 0x12, 0x34, 0, 0, 64, proto, 0, 0, 10, 0, 0, 1, 192, 0, 2, 9];
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[6..8].copy_from_slice(&offset_field.to_be_bytes());
    let checksum = ipv4::checksum(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&header, payload].concat()
}

/// An IPv6 packet 2001:db8::1 → 2001:db8::2.
pub(crate) fn ipv6_packet(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; 40];
    header.copy_from_slice(&UDP_V6[14..54]);
    header[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    header[6] = next;
    [&header, payload].concat()
}

/// An Ethernet frame around an IP packet, behind VLAN tags (TPID, TCI).
pub(crate) fn framed(tags: &[(u16, u16)], packet: &[u8]) -> Vec<u8> {
    let mut frame = MACS.to_vec();
    for (tpid, tci) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    let ethertype: u16 = if packet.first().is_some_and(|b| b >> 4 == 6) { 0x86dd } else { 0x0800 };
    frame.extend(ethertype.to_be_bytes());
    frame.extend(packet);
    frame
}

/// An ICMP (v4) or ICMPv6 error of this type around a quote, as a frame.
pub(crate) fn icmp_error(kind: u8, quote: &[u8]) -> Vec<u8> {
    let message = [&[kind, 0, 0, 0, 0, 0, 0, 0], quote].concat();
    if quote.first().is_some_and(|b| b >> 4 == 6) {
        framed(&[], &ipv6_packet(58, &message))
    } else {
        framed(&[], &ipv4_packet(1, 0, &message))
    }
}

/// One of each kind of frame a worker may get.
pub(crate) fn all() -> Vec<Vec<u8>> {
    let tags = [(0x88a8, 100), (0x8100, 0x2065)];
    let fragment6 = [&[17, 0, 0, 1, 0, 0, 0, 7][..], &UDP].concat();
    let destination_options = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &UDP].concat();
    let echo6 = [128, 0, 0, 0, 0x12, 0x34, 0, 1];
    let sctp = [0x0b, 0x59, 0x0b, 0x5a, 0, 0, 0, 9, 0, 0, 0, 0, 10, 0, 0, 8, 1, 2, 3, 4];
    vec![
        TCP_SYN.to_vec(),
        UDP_V6.to_vec(),
        framed(&tags, &TCP_SYN[14..]),
        framed(&tags[..1], &UDP_V6[14..]),
        framed(&[], &ipv4_packet(1, 0, &ECHO)),
        framed(&[], &ipv6_packet(58, &echo6)),
        framed(&[], &ipv4_packet(132, 0, &sctp)),
        framed(&[], &ipv4_packet(17, 0x2000, &UDP)),
        framed(&[], &ipv4_packet(17, 0x0001, &UDP)),
        framed(&[], &ipv6_packet(44, &fragment6)),
        framed(&[], &ipv6_packet(60, &destination_options)),
        icmp_error(3, &TCP_SYN[14..]),
        icmp_error(1, &UDP_V6[14..]),
        framed(&[], &ipv4_packet(47, 0, &[0, 0, 8, 0])),
    ]
}
