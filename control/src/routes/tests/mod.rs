//! The mirror against constructed messages, and against a real kernel in namespaces made here.

mod fib;
mod follow;
mod messages;
mod namespace;
mod neighbours;
mod probes;

use std::net::IpAddr;

use ipnet::IpNet;
use samepath_dataplane::route::{Table, Via};

use super::LinkState;
use super::message::{Fact, Kind, Route, Standing};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn via(ifindex: u32, gateway: Option<&str>) -> Via {
    Via { ifindex, gateway: gateway.map(ip), weight: 1, mtu: 0 }
}

fn route(prefix: &str, priority: u32, vias: &[Via]) -> Route {
    Route {
        table: Table::Main,
        prefix: net(prefix),
        priority,
        kind: Kind::Unicast,
        vias: vias.to_vec(),
        object: None,
        mtu: 0,
    }
}

fn link(ifindex: u32) -> LinkState {
    LinkState {
        ifindex,
        name: format!("p{ifindex}"),
        mac: [2, 0, 0, 0, 0, ifindex as u8],
        mtu: 1500,
        up: true,
        carrier: true,
        addresses: Vec::new(),
    }
}

fn neighbour(ifindex: u32, address: &str, mac: Option<u8>, standing: Standing) -> Fact {
    let mac = mac.map(|last| [6, 0, 0, 0, 0, last]);
    Fact::Neighbour { ifindex, address: ip(address), mac, standing }
}
