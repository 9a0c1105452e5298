//! What layer-4 protocols have in common: how much of their header must be there, where ports are.
//!
//! ```text
//! TCP, UDP, SCTP:                      ICMP query:
//!  0               16             31    0               16             31
//! +---------------+---------------+    +---------------+---------------+
//! | source port   | dest. port    |    | type | code   | checksum      |
//! +---------------+---------------+    +---------------+---------------+
//!                                      | identifier    | sequence      |
//!                                      +---------------+---------------+
//! ```

use crate::flow::proto;
use crate::wire::icmp;
use crate::wire::octets::{be16, byte};

/// True if `protocol` is the ICMP of this IP version. The other version's number is a protocol like
/// any other: ICMPv6 over IPv4 means nothing.
pub fn is_icmp(protocol: u8, ipv6: bool) -> bool {
    protocol == if ipv6 { proto::ICMPV6 } else { proto::ICMP }
}

/// Bytes of layer-4 header a packet must have; 0 for protocols samepath does not read.
pub fn least_header(protocol: u8) -> usize {
    match protocol {
        proto::TCP => 20,
        proto::UDP => 8,
        proto::SCTP => 12,
        proto::ICMP | proto::ICMPV6 => icmp::HEADER,
        _ => 0,
    }
}

/// Bytes of layer-4 header a quoted packet must have to name its flow: RFC 792 promises eight.
pub fn least_quoted_header(protocol: u8, ipv6: bool) -> usize {
    match protocol {
        proto::TCP | proto::UDP | proto::SCTP => 8,
        _ if is_icmp(protocol, ipv6) => icmp::HEADER,
        _ => 0,
    }
}

/// Source and destination port as the flow key has them: an ICMP query's identifier stands in both,
/// protocols without ports have zeros. `None` if the header at the start of `layer4` is cut short.
#[inline]
pub fn ports(protocol: u8, ipv6: bool, layer4: &[u8]) -> Option<(u16, u16)> {
    match protocol {
        proto::TCP | proto::UDP | proto::SCTP => Some((be16(layer4, 0)?, be16(layer4, 2)?)),
        _ if is_icmp(protocol, ipv6) => match icmp::query(ipv6, byte(layer4, 0)?) {
            Some(_) => be16(layer4, 4).map(|identifier| (identifier, identifier)),
            None => Some((0, 0)),
        },
        _ => Some((0, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: [u8; 8] = [8, 0, 0xf7, 0xff, 0x12, 0x34, 0, 1];

    #[test]
    fn ports_of_each_protocol() {
        let header = [0x0f, 0xa0, 0x00, 0x50, 0, 0, 0, 0];
        for protocol in [proto::TCP, proto::UDP, proto::SCTP] {
            assert_eq!(ports(protocol, false, &header), Some((4000, 80)));
            assert_eq!(ports(protocol, true, &header[..3]), None);
        }
        assert_eq!(ports(47, false, &header), Some((0, 0)));
    }

    #[test]
    fn echo_has_its_identifier_in_both_ports() {
        assert_eq!(ports(proto::ICMP, false, &ECHO), Some((0x1234, 0x1234)));
        assert_eq!(ports(proto::ICMP, false, &ECHO[..5]), None);
        let mut unreachable = ECHO;
        unreachable[0] = 3;
        assert_eq!(ports(proto::ICMP, false, &unreachable), Some((0, 0)));
        assert_eq!(ports(proto::ICMP, true, &ECHO), Some((0, 0)), "ICMP over IPv6 means nothing");
        let mut echo6 = ECHO;
        echo6[0] = 128;
        assert_eq!(ports(proto::ICMPV6, true, &echo6), Some((0x1234, 0x1234)));
    }

    #[test]
    fn least_headers() {
        let least = [(6, 20, 8), (17, 8, 8), (132, 12, 8), (1, 8, 8), (58, 8, 0), (47, 0, 0)];
        for (protocol, own, quoted) in least {
            assert_eq!(least_header(protocol), own, "{protocol}");
            assert_eq!(least_quoted_header(protocol, false), quoted, "{protocol}");
        }
        assert_eq!(least_quoted_header(proto::ICMPV6, true), 8);
        assert_eq!(least_quoted_header(proto::ICMP, true), 0);
    }
}
