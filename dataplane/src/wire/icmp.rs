//! ICMP and ICMPv6 (RFC 792, RFC 4443): which messages are queries, which quote a packet.
//!
//! ```text
//!  0               8               16                             31
//! +---------------+---------------+-------------------------------+
//! | type          | code          | checksum                      |
//! +---------------+---------------+-------------------------------+
//! | query: identifier             | sequence number               |
//! | error: unused, MTU, pointer, gateway                          |
//! +---------------------------------------------------------------+
//! | error: the quoted packet, from its IP header                  |
//! ```

use crate::wire::octets::{be16, be32, byte};

/// Bytes in front of a quoted packet, and the least an ICMP message has.
pub const HEADER: usize = 8;

/// True for messages that quote the packet they complain about.
pub fn is_error(ipv6: bool, kind: u8) -> bool {
    if ipv6 { matches!(kind, 1..=4) } else { matches!(kind, 3 | 4 | 5 | 11 | 12) }
}

/// Type of an echo request of ICMP.
pub const ECHO: u8 = 8;
/// Type of an echo request of ICMPv6.
pub const ECHO_V6: u8 = 128;

/// `Some(true)` for the request of a query that carries an identifier, `Some(false)` for its reply.
/// IPv4: echo, timestamp, information, address mask. IPv6: echo.
pub fn query(ipv6: bool, kind: u8) -> Option<bool> {
    match (ipv6, kind) {
        (false, 8 | 13 | 15 | 17) | (true, 128) => Some(true),
        (false, 0 | 14 | 16 | 18) | (true, 129) => Some(false),
        _ => None,
    }
}

/// The type of the request that a query of this type is or answers.
pub fn request_of(ipv6: bool, kind: u8) -> u8 {
    match (ipv6, kind) {
        (false, 0) => 8,
        (false, 14 | 16 | 18) | (true, 129) => kind - 1,
        _ => kind,
    }
}

/// Least MTU an error may tell: what the kernel stops at by default (`net.ipv4.route.min_pmtu`), and what every link
/// of IPv6 carries (RFC 8200 section 5).
const V4_MTU_MIN: u32 = 552;
const V6_MTU_MIN: u32 = 1280;

/// What an ICMP error says that can be checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Told {
    /// Fragmentation Needed, Packet Too Big: bytes the path carries. 0 in IPv4: not said (RFC 1191 section 5).
    pub mtu: Option<u32>,
    /// Sequence number of the quoted TCP segment.
    pub seq: Option<u32>,
}

impl Told {
    /// Reads an error; `quoted` is the quoted TCP header, if it quotes one.
    pub fn read(ipv6: bool, message: &[u8], quoted: Option<&[u8]>) -> Self {
        let mtu = match (ipv6, byte(message, 0), byte(message, 1)) {
            (false, Some(3), Some(4)) => be16(message, 6).map(u32::from),
            (true, Some(2), _) => be32(message, 4),
            _ => None,
        };
        Self { mtu, seq: quoted.and_then(|segment| be32(segment, 4)) }
    }

    /// True for an MTU that no path has, told by who wants small packets (RFC 8201 section 4).
    pub fn is_below_floor(&self, ipv6: bool) -> bool {
        self.mtu.is_some_and(|mtu| if ipv6 { mtu < V6_MTU_MIN } else { mtu != 0 && mtu < V4_MTU_MIN })
    }
}

/// True for neighbour discovery (RFC 4861), which belongs to the kernel.
pub fn is_neighbour_discovery(kind: u8) -> bool {
    matches!(kind, 133..=137)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_queries_do_not_overlap() {
        for ipv6 in [false, true] {
            for kind in 0..=255 {
                assert!(!(is_error(ipv6, kind) && query(ipv6, kind).is_some()), "{ipv6} {kind}");
            }
        }
    }

    #[test]
    fn told_mtus_have_a_floor() {
        let below = |ipv6, message: [u8; 8]| Told::read(ipv6, &message, None).is_below_floor(ipv6);
        for (mtu, is_below) in [(0, false), (551, true), (552, false), (1400, false)] {
            let [high, low] = u16::to_be_bytes(mtu);
            assert_eq!(below(false, [3, 4, 0, 0, 0, 0, high, low]), is_below, "{mtu}");
            assert!(!below(false, [3, 1, 0, 0, 0, 0, high, low]), "only fragmentation needed has one");
        }
        for (mtu, is_below) in [(0, true), (1279, true), (1280, false)] {
            let [high, low] = u16::to_be_bytes(mtu);
            assert_eq!(below(true, [2, 0, 0, 0, 0, 0, high, low]), is_below, "{mtu}");
        }
    }

    #[test]
    fn numbers_of_the_registry() {
        let errors = |ipv6| (0..=255).filter(|&kind| is_error(ipv6, kind)).collect::<Vec<u8>>();
        assert_eq!(errors(false), [3, 4, 5, 11, 12]);
        assert_eq!(errors(true), [1, 2, 3, 4]);
        let queries = |ipv6| (0..=255).filter(|&kind| query(ipv6, kind).is_some()).collect::<Vec<u8>>();
        assert_eq!(queries(false), [0, 8, 13, 14, 15, 16, 17, 18]);
        assert_eq!(queries(true), [128, 129]);
        assert_eq!(query(false, 8), Some(true));
        assert_eq!(query(true, 129), Some(false));
        for (ipv6, kind) in [(false, 0), (false, 14), (false, 16), (false, 18), (true, 129)] {
            let request = request_of(ipv6, kind);
            assert_eq!((query(ipv6, request), request_of(ipv6, request)), (Some(true), request));
        }
        assert!(is_neighbour_discovery(135) && !is_neighbour_discovery(132));
    }
}
