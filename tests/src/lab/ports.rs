//! Every node's interfaces, addresses, routes and settings: the same on all of them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use samepath_dataplane::cluster::view::Peer;
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::limits::MAX_PORTS;
use samepath_dataplane::route::{Link, RouteTarget, Routes, RoutesBuilder, Table, Via};
use samepath_dataplane::session::timeouts::Timeouts;
use samepath_dataplane::settings::{Settings, TcpPickup};
use samepath_dataplane::wire::tunnel::TunnelEnds;
use samepath_dataplane::worker::Ports;

use super::control::CLUSTER;

/// The interface towards the clients.
pub const INSIDE: u8 = 0;
/// The interface towards the servers.
pub const OUTSIDE: u8 = 1;
/// The cluster link.
pub const LINK: u8 = 2;
/// Time between Hellos, ms.
pub const HELLO_MS: u64 = 50;

/// A node's address on the cluster link.
pub fn link_address(node: u16) -> IpAddr {
    Ipv4Addr::new(10, 99, 0, node as u8).into()
}

/// The node a tunnel packet is for.
pub fn addressee(bytes: &[u8]) -> u16 {
    u16::from(bytes[33])
}

fn mac(node: u16) -> [u8; 6] {
    [2, 0, 0, 0, node as u8, LINK]
}

/// Where `me` tunnels to.
pub fn peers(me: u16, nodes: u16) -> Vec<Peer> {
    let ends = |node| TunnelEnds {
        source_mac: mac(me),
        destination_mac: mac(node),
        source: link_address(me),
        destination: link_address(node),
    };
    (1..=nodes)
        .filter(|&node| node != me)
        .map(|node| Peer {
            node: NodeId(node),
            address: link_address(node),
            ends: Some(ends(node)),
            key: None,
            heard: false,
        })
        .collect()
}

/// One route to each side.
pub fn routes() -> Arc<Routes> {
    let mut builder = RoutesBuilder::default();
    for port in [INSIDE, OUTSIDE] {
        let ifindex = u32::from(port) + 1;
        let link = Link { port: Some(port), mac: [2, 0, 0, 0, 0, port], mtu: 1500, up: true, carrier: true };
        builder.set_link(ifindex, link);
        let gateway: IpAddr = Ipv4Addr::new(172, 16, port, 254).into();
        builder.set_neighbour(ifindex, gateway, [2, 0, 0, 0, 0xff, port]);
        let prefix = if port == INSIDE { "10.1.0.0/16" } else { "10.2.0.0/16" };
        let via = Via { ifindex, gateway: Some(gateway), weight: 1, mtu: 0 };
        let prefix = prefix.parse().expect("a prefix");
        builder.set_route(Table::Main, prefix, RouteTarget::Via(vec![via]));
    }
    Arc::new(builder.build(1))
}

/// What the worker must know of the interfaces.
pub fn ports() -> Ports {
    Ports {
        zones: [1; MAX_PORTS],
        queues: [1; MAX_PORTS],
        cluster_link: LINK,
        cluster_link_mtu: 2000,
        mss_clamp: [0; 2],
        hello_interval_ms: HELLO_MS,
    }
}

/// Aggregation on, everything strict, idle times short enough to be met.
pub fn settings(node: u16) -> Settings {
    let timeouts = Timeouts { udp: 6_000, udp_stream: 6_000, tcp_established: 20_000, ..Timeouts::default() };
    Settings {
        node: NodeId(node),
        cluster: CLUSTER,
        aggregation: true,
        tcp_pickup: TcpPickup::Strict,
        tcp_loose_window: false,
        timeouts,
        backup: Default::default(),
        former_directors_ms: 10_000,
        refresh_ms: 2_000,
    }
}
