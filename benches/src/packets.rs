//! Packets and flows to measure with.

use samepath_dataplane::flow::{FlowKey, key_bytes, proto};

/// 10.0.0.1:4000 → 192.0.2.9:80, SYN with the usual options, 74 bytes.
pub const TCP_SYN: [u8; 74] = [
    0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x02, 0x08, 0x00, // Ethernet
    0x45, 0, 0, 0x3c, 0x12, 0x34, 0x40, 0, 0x40, 0x06, 0x5c, 0x7e, // IPv4, 60 bytes, TTL 64
    10, 0, 0, 1, 192, 0, 2, 9, //
    0x0f, 0xa0, 0, 80, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0, 0xa0, 0x02, 0xfa, 0xf0, 0, 0, 0, 0, // TCP
    2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7, // options
];

/// 2001:db8::1 → 2001:db8::2, UDP 5353 → 53, payload "hi".
pub const UDP_V6: [u8; 64] = [
    0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x02, 0x86, 0xdd, // Ethernet
    0x60, 0, 0, 0, 0, 10, 17, 64, // IPv6, payload 10
    0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, //
    0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, //
    0x14, 0xe9, 0, 53, 0, 10, 0, 0, b'h', b'i',
];

/// TCP flow number `number`: clients in 10.0.0.0/8 with ports, one server.
pub fn flow(number: u32) -> FlowKey {
    let client = std::net::Ipv4Addr::from(0x0a00_0000 | number >> 8);
    let server = std::net::Ipv4Addr::new(192, 0, 2, 9);
    let port = 1024 + (number & 0xff) as u16;
    FlowKey::new((key_bytes(client.into()), port), (key_bytes(server.into()), 443), proto::TCP, (0, 0)).0
}
