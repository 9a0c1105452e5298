//! Frames put together from literal headers. Lengths and the checksum of IPv4's header are filled in, others are not:
//! neither the program nor a worker looks at them.

/// A TCP header with ports 4000 → 80, 20 bytes.
pub const TCP: [u8; 20] =
    [0x0f, 0xa0, 0x00, 0x50, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];

/// A UDP header with ports 4000 → 53 and four bytes of payload.
pub const UDP: [u8; 12] = [0x0f, 0xa0, 0x00, 0x35, 0, 12, 0, 0, 1, 2, 3, 4];

/// An SCTP common header with ports 4000 → 2905.
pub const SCTP: [u8; 12] = [0x0f, 0xa0, 0x0b, 0x59, 0, 0, 0, 1, 0, 0, 0, 0];

/// An ICMP echo request with identifier 0x1234.
pub const ECHO: [u8; 8] = [8, 0, 0, 0, 0x12, 0x34, 0, 1];

/// An ICMPv6 echo request with identifier 0x1234.
pub const ECHO6: [u8; 8] = [128, 0, 0, 0, 0x12, 0x34, 0, 1];

/// An Ethernet header to the port under test; `tags` and EtherType follow the addresses.
pub fn ethernet(rest: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], rest].concat()
}

/// IPv4 198.51.100.7 → 203.0.113.9.
pub fn ipv4(proto: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_between([198, 51, 100, 7], [203, 0, 113, 9], proto, 0, payload)
}

/// IPv4 with the fragment word (flags and offset) given.
pub fn ipv4_between(
    source: [u8; 4],
    destination: [u8; 4],
    proto: u8,
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let total = (20 + payload.len() as u16).to_be_bytes();
    let word = fragment.to_be_bytes();
    let fixed = [0x45, 0, total[0], total[1], 0, 7, word[0], word[1], 64, proto, 0, 0];
    let mut packet = [&fixed[..], &source, &destination, payload].concat();
    mend_checksum(&mut packet);
    packet
}

/// Writes the checksum of an IPv4 header without options.
pub fn mend_checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let words = packet[..20].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// 2001:db8:a::N.
pub fn v6(last: u8) -> [u8; 16] {
    [0x20, 0x01, 0x0d, 0xb8, 0, 0xa, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

/// IPv6 2001:db8:a::7 → 2001:db8:a::9.
pub fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    ipv6_between(v6(7), v6(9), next, payload)
}

/// IPv6 between any two.
pub fn ipv6_between(source: [u8; 16], destination: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let fixed = [0x60, 0, 0, 0, length[0], length[1], next, 64];
    [&fixed[..], &source, &destination, payload].concat()
}

/// An untagged IPv4 frame.
pub fn frame4(packet: &[u8]) -> Vec<u8> {
    [ethernet(&[0x08, 0x00]), packet.to_vec()].concat()
}

/// An untagged IPv6 frame.
pub fn frame6(packet: &[u8]) -> Vec<u8> {
    [ethernet(&[0x86, 0xdd]), packet.to_vec()].concat()
}

/// UDP to port 6081 around Geneve with `words` words of options around `inner`.
pub fn tunnel_udp(words: u8, inner: &[u8]) -> Vec<u8> {
    let length = 16 + u16::from(words) * 4 + inner.len() as u16;
    let udp = [[0xc1, 0x23], [0x17, 0xc1], length.to_be_bytes(), [0, 0]].concat();
    let geneve = [words, 0, 0x65, 0x58, 0, 0, 7, 0];
    [&udp[..], &geneve, &vec![0xee; usize::from(words) * 4], inner].concat()
}

/// A tunnel packet as a peer sends it over IPv4: 192.0.2.2 → 192.0.2.1, eight words of options.
pub fn tunnel4(inner: &[u8]) -> Vec<u8> {
    let udp = tunnel_udp(8, inner);
    frame4(&ipv4_between([192, 0, 2, 2], [192, 0, 2, 1], 17, 0x4000, &udp))
}

/// 2001:db8::N, the cluster link's network.
pub fn cluster6(last: u8) -> [u8; 16] {
    [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

/// A tunnel packet over IPv6: 2001:db8::2 → 2001:db8::1.
pub fn tunnel6(inner: &[u8]) -> Vec<u8> {
    let udp = tunnel_udp(8, inner);
    frame6(&ipv6_between(cluster6(2), cluster6(1), 17, &udp))
}

/// What stands in the metadata, field by field as in `layout.h`, without the hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Expected {
    pub inner_off: u16,
    pub l3_off: u16,
    pub l4_off: u16,
    pub l3_end: u16,
    pub quoted_l3_off: u16,
    pub quoted_l4_off: u16,
    pub vlans: Option<(u16, Option<u16>)>,
    pub proto: u8,
    pub quoted_proto: u8,
    pub flags: u8,
}

impl Expected {
    /// The bytes behind the hash, as port 3 writes them on a little-endian machine.
    pub fn bytes(&self) -> [u8; 20] {
        let outer = self.vlans.map_or(0xffff, |(outer, _)| outer);
        let inner = self.vlans.and_then(|(_, inner)| inner).unwrap_or(0xffff);
        let halves = [
            self.inner_off,
            self.l3_off,
            self.l4_off,
            self.l3_end,
            self.quoted_l3_off,
            self.quoted_l4_off,
            outer,
            inner,
        ];
        let mut bytes = [0; 20];
        for (pair, half) in bytes.chunks_exact_mut(2).zip(halves) {
            pair.copy_from_slice(&half.to_ne_bytes());
        }
        bytes[16..].copy_from_slice(&[self.proto, self.quoted_proto, self.flags, 3]);
        bytes
    }
}
