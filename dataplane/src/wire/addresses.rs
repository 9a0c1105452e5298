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
