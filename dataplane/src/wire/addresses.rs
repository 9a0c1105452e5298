//! Addresses read straight from a frame, where only one of them is needed.
//!
//! ```text
//! IPv4  | … 12 source (4) | 16 destination (4) |
//! IPv6  | … 8 source (16) | 24 destination (16) |
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::ethernet;
use crate::wire::layout::Layout;
use crate::wire::octets::array;

/// The address the packet itself goes to (for an ICMP error not that of the quoted flow). `frame`
/// starts at the (inner) Ethernet header. `None` if the layout does not fit.
pub fn destination(frame: &[u8], layout: &Layout) -> Option<IpAddr> {
    let l3 = usize::from(layout.l3_off);
    if layout.is_ipv6() {
        return array::<16>(frame, l3 + 24).map(|octets| Ipv6Addr::from(octets).into());
    }
    array::<4>(frame, l3 + 16).map(|octets| Ipv4Addr::from(octets).into())
}

/// The outer source address of a tunnel packet, whose outer Ethernet header carries at most one tag.
pub fn tunnel_source(frame: &[u8]) -> Option<IpAddr> {
    let mut at = ethernet::HEADER;
    let mut ethertype = u16::from_be_bytes(array(frame, at - 2)?);
    if ethernet::is_tag(ethertype) {
        at += 4;
        ethertype = u16::from_be_bytes(array(frame, at - 2)?);
    }
    match ethertype {
        ethernet::IPV4 => array::<4>(frame, at + 12).map(|octets| Ipv4Addr::from(octets).into()),
        ethernet::IPV6 => array::<16>(frame, at + 8).map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// True if `address` is the outer source address of a tunnel packet without a VLAN tag.
#[inline(always)]
pub(crate) fn is_tunnel_source(frame: &[u8], address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => array::<4>(frame, ethernet::HEADER + 12) == Some(v4.octets()),
        IpAddr::V6(v6) => array::<16>(frame, ethernet::HEADER + 8) == Some(v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::flow_hash::FlowHasher;
    use crate::wire::samples::{TCP_SYN, UDP_V6, framed, icmp_error};

    fn layout(frame: &[u8]) -> Layout {
        Layout::parse(frame, 0, &FlowHasher::new(1)).unwrap()
    }

    #[test]
    fn destination_is_the_packets_own() {
        let v4: IpAddr = "192.0.2.9".parse().unwrap();
        let v6: IpAddr = "2001:db8::2".parse().unwrap();
        assert_eq!(destination(&TCP_SYN, &layout(&TCP_SYN)), Some(v4));
        let tagged = framed(&[(0x8100, 5)], &UDP_V6[14..]);
        assert_eq!(destination(&tagged, &layout(&tagged)), Some(v6));
        let mut quote = TCP_SYN[14..].to_vec();
        quote[16..20].copy_from_slice(&[198, 51, 100, 1]);
        let error = icmp_error(3, &quote);
        assert_eq!(destination(&error, &layout(&error)), Some(v4));
        assert_eq!(destination(&TCP_SYN[..33], &layout(&TCP_SYN)), None);
    }

    #[test]
    fn source_of_the_outer_header() {
        assert_eq!(tunnel_source(&TCP_SYN), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(tunnel_source(&UDP_V6), Some("2001:db8::1".parse().unwrap()));
        let tags = [(0x8100, 5), (0x8100, 6)];
        let tagged = framed(&tags[..1], &TCP_SYN[14..]);
        assert_eq!(tunnel_source(&tagged), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(tunnel_source(&framed(&tags, &TCP_SYN[14..])), None);
        assert_eq!(tunnel_source(&TCP_SYN[..29]), None);
    }
}
