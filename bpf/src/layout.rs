//! Mirror of `layout.h`. The skeleton carries the C types, so the compiler compares the two here.

use std::mem::offset_of;
use std::net::IpAddr;

use crate::skeleton::types;
use crate::steering::{PortConfig, PortRole};

/// Interfaces of one node the maps have room for.
pub const MAX_PORTS: usize = 16;

/// Receive queues per interface the socket map has room for.
pub const MAX_QUEUES: u32 = 64;

/// Own addresses the program can know.
pub const MAX_OWN_ADDRESSES: usize = 4096;

/// Words of `own_filter`.
pub(crate) const OWN_FILTER: usize = 64;

/// Spreads own addresses over the bits of `own_filter`.
const OWN_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Leaves the 12 bits that number them.
const OWN_SHIFT: u32 = 52;

/// Cluster addresses of peers the program can know.
pub const MAX_PEERS: usize = 256;

/// Entries the pass list has room for.
pub const MAX_PASS_LIST: usize = 1024;

/// Bytes of metadata in front of a steered frame (`struct sp_layout`).
pub const METADATA_SIZE: usize = 24;

/// UDP destination port of the tunnel (Geneve, RFC 8926 section 3.3).
pub const TUNNEL_PORT: u16 = 6081;

/// Elements of the map `forwards` when it has room for entries: the gate's, the hints', every bucket's.
pub const FORWARDS: u32 = 2 + 32_768 / 8 + 32_768 * 2;

/// Elements of the map `forwards` without any entry.
pub(crate) const NO_FORWARDS: u32 = 2;

/// Bytes of an element of the map `forwards`.
pub(crate) const FORWARD_SIZE: usize = 64;

/// Bytes of outer headers `struct sp_forward_peer` has room for.
pub const FORWARD_HEADERS: usize = 110;

/// Every outcome a frame can have, in counter order; `enum sp_outcome` in lower case.
pub const OUTCOMES: [&str; 18] = [
    "steered",
    "steered_tunnel",
    "redirected",
    "pass_not_ip",
    "pass_multicast",
    "pass_other_host",
    "pass_neighbour",
    "pass_own_address",
    "pass_listed",
    "pass_cluster_link",
    "pass_unknown_interface",
    "drop_malformed",
    "drop_extension_headers",
    "drop_tunnel_elsewhere",
    "drop_tunnel_unknown_peer",
    "drop_tunnel_malformed",
    "drop_metadata",
    "no_socket",
];

/// Outcomes of frames that got metadata: `steered`, `steered_tunnel`, `no_socket`.
pub(crate) fn has_metadata(outcome: &str) -> bool {
    outcome.starts_with("steered") || outcome == "no_socket"
}

/// Element of `ports`.
pub(crate) fn port_value(port: &PortConfig) -> types::sp_port {
    let role = match port.role {
        PortRole::Data => 0,
        PortRole::ClusterLink => 1,
        PortRole::Service => 2,
    };
    types::sp_port { ifindex: port.ifindex, index: port.index, role, mac: port.mac }
}

/// Word and bit of an own address in `own_filter`.
pub(crate) fn own_bit(key: &[u8; 16]) -> (usize, u64) {
    let half = |at: usize| u64::from_ne_bytes(std::array::from_fn(|byte| key[at + byte]));
    let bit = (half(0) ^ half(8)).wrapping_mul(OWN_FACTOR) >> OWN_SHIFT;
    ((bit / 64) as usize % OWN_FILTER, 1 << (bit % 64))
}

/// Key of the map `sockets`.
pub(crate) fn socket_key(port: u8, queue: u32) -> [u8; 4] {
    (u32::from(port) * MAX_QUEUES + queue).to_ne_bytes()
}

/// Key of the maps `own_addresses` and `peers`: IPv4 as `::ffff:a.b.c.d`.
pub(crate) fn address_key(address: &IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Key of the map `pass_list`.
pub(crate) fn pass_key(proto: u8, port: u16) -> [u8; 4] {
    let [a, b] = port.to_ne_bytes();
    [proto, 0, a, b]
}

/// Value of the map `forward_peers`; all zeros for a peer that cannot be reached.
pub(crate) fn forward_peer_value(epoch: u32, headers: &[u8], largest: u16, key_half: u64) -> [u8; 128] {
    let mut value = [0; 128];
    value[..4].copy_from_slice(&epoch.to_ne_bytes());
    value[4..6].copy_from_slice(&(headers.len() as u16).to_ne_bytes());
    value[6..8].copy_from_slice(&largest.to_ne_bytes());
    value[8..16].copy_from_slice(&key_half.to_ne_bytes());
    value[16..16 + headers.len()].copy_from_slice(headers);
    value
}

const _: () = {
    assert!(size_of::<types::sp_forward>() == FORWARD_SIZE);
    assert!(offset_of!(types::sp_forward, generation) == 8);
    assert!(offset_of!(types::sp_forward, peer) == 12);
    assert!(offset_of!(types::sp_forward, zone) == 13);
    assert!(offset_of!(types::sp_forward, port) == 14);
    assert!(offset_of!(types::sp_forward, writes) == 15);
    assert!(offset_of!(types::sp_forward, secret) == 16);
    assert!(offset_of!(types::sp_forward, source_port) == 24);
    assert!(offset_of!(types::sp_forward, proto_vlans) == 28);
    assert!(offset_of!(types::sp_forward, source) == 32);
    assert!(size_of::<types::sp_forward_peer>() == 128);
    assert!(offset_of!(types::sp_forward_peer, largest) == 6);
    assert!(offset_of!(types::sp_forward_peer, key_half) == 8);
    assert!(offset_of!(types::sp_forward_peer, headers) == 16);
    assert!(size_of::<types::sp_layout>() == METADATA_SIZE);
    assert!(offset_of!(types::sp_layout, flow_hash) == 0);
    assert!(offset_of!(types::sp_layout, inner_off) == 4);
    assert!(offset_of!(types::sp_layout, l3_off) == 6);
    assert!(offset_of!(types::sp_layout, l4_off) == 8);
    assert!(offset_of!(types::sp_layout, l3_end) == 10);
    assert!(offset_of!(types::sp_layout, quoted_l3_off) == 12);
    assert!(offset_of!(types::sp_layout, quoted_l4_off) == 14);
    assert!(offset_of!(types::sp_layout, vlan_outer) == 16);
    assert!(offset_of!(types::sp_layout, vlan_inner) == 18);
    assert!(offset_of!(types::sp_layout, proto) == 20);
    assert!(offset_of!(types::sp_layout, quoted_proto) == 21);
    assert!(offset_of!(types::sp_layout, flags) == 22);
    assert!(offset_of!(types::sp_layout, port) == 23);
    assert!(size_of::<types::sp_port>() == 12);
    assert!(offset_of!(types::sp_port, role) == 5);
    assert!(offset_of!(types::sp_port, mac) == 6);
    assert!(size_of::<types::sp_pass>() == 4);
    assert!(offset_of!(types::sp_pass, port) == 2);
    assert!(size_of::<types::sp_address>() == 16);
};

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = include_str!("layout.h");

    #[test]
    fn outcomes_have_the_names_and_order_of_the_c_enum() {
        let body = HEADER.split_once("enum sp_outcome {").unwrap().1.split_once('}').unwrap().0;
        let names: Vec<String> = body
            .split(',')
            .filter_map(|line| line.trim().strip_prefix("SP_"))
            .filter(|name| *name != "OUTCOMES")
            .map(str::to_lowercase)
            .collect();
        assert_eq!(names, OUTCOMES);
    }

    #[test]
    fn limits_have_the_values_of_the_c_header() {
        let defined = |name: &str| -> usize {
            let rest = HEADER.split_once(&format!("#define {name} ")).unwrap().1;
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        assert_eq!(defined("SP_MAX_PORTS"), MAX_PORTS);
        assert_eq!(defined("SP_MAX_QUEUES"), MAX_QUEUES as usize);
        assert_eq!(defined("SP_MAX_ADDRESSES"), MAX_OWN_ADDRESSES);
        assert_eq!(defined("SP_OWN_FILTER"), OWN_FILTER);
        assert_eq!(defined("SP_OWN_SHIFT"), OWN_SHIFT as usize);
        assert!(HEADER.contains(&format!("#define SP_OWN_FACTOR {OWN_FACTOR:#x}ULL ")));
        assert_eq!(defined("SP_MAX_PEERS"), MAX_PEERS);
        assert_eq!(defined("SP_MAX_PASS"), MAX_PASS_LIST);
        assert_eq!(defined("SP_TUNNEL_PORT"), usize::from(TUNNEL_PORT));
        let entries = defined("SP_FORWARD_BUCKETS") * defined("SP_FORWARD_WAYS");
        assert_eq!(defined("SP_FORWARD_HINTS"), NO_FORWARDS as usize);
        let hints = defined("SP_FORWARD_BUCKETS") / 8;
        assert_eq!(defined("SP_FORWARD_HINTS") + hints, defined("SP_FORWARD_FIRST"));
        assert_eq!(defined("SP_FORWARD_FIRST") + entries, FORWARDS as usize);
        assert_eq!(1 << (32 - defined("SP_FORWARD_BUCKET_SHIFT")), defined("SP_FORWARD_BUCKETS"));
        assert_eq!(defined("SP_FORWARD_HEADERS"), FORWARD_HEADERS);
    }
}
