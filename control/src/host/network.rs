//! Routes, neighbours, packet filter and ports.

use std::net::IpAddr;

use serde_json::Value;

use super::{Chain, Place};
use crate::config::Config;

/// The network as the kernel sees it.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// `net.ipv4.ip_forward`.
    pub ip_forward: Option<bool>,
    /// `net.ipv4.conf.all.rp_filter`.
    pub rp_filter: Option<u32>,
    /// Connections that the kernel's conntrack follows.
    pub tracked: Option<u64>,
    /// Base chains of nftables; `None`: they cannot be read.
    pub chains: Option<Vec<Chain>>,
    /// UDP ports somebody has bound.
    pub udp_ports: Vec<u16>,
    /// Neighbours.
    pub neighbours: Vec<Neighbour>,
    /// Routes of both IP versions.
    pub routes: Vec<Route>,
    /// Where the configured peers are.
    pub peers: Vec<PeerRoute>,
}

/// A neighbour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Interface.
    pub interface: String,
    /// It does not answer (`FAILED` or `INCOMPLETE`).
    pub silent: bool,
}

/// A route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Next hop, if the destination is not on the link itself.
    pub gateway: Option<IpAddr>,
    /// Interface.
    pub interface: String,
}

/// How a peer is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerRoute {
    /// Its number.
    pub node: u16,
    /// Its address.
    pub address: IpAddr,
    /// Interface of its route; `None`: there is no route.
    pub interface: Option<String>,
}

impl Network {
    /// Reads it.
    pub fn read(place: &Place, config: Option<&Config>) -> Self {
        let sysctl = |name: &str| place.value::<u64>(&format!("/proc/sys/net/{name}"));
        let ruleset = place.json("nft", &["-j", "list", "ruleset"]);
        Self {
            ip_forward: sysctl("ipv4/ip_forward").map(|value| value != 0),
            rp_filter: sysctl("ipv4/conf/all/rp_filter").map(|value| value as u32),
            tracked: sysctl("netfilter/nf_conntrack_count"),
            chains: ruleset.map(|ruleset| Chain::all(&ruleset)),
            udp_ports: udp_ports(place),
            neighbours: list(place.json("ip", &["-j", "neigh", "show"]), neighbour),
            routes: [routes(place, "-4"), routes(place, "-6")].concat(),
            peers: config.map(|config| peers(place, config)).unwrap_or_default(),
        }
    }
}

fn list<T>(answer: Option<Value>, read: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    answer.as_ref().and_then(Value::as_array).into_iter().flatten().filter_map(read).collect()
}

fn neighbour(entry: &Value) -> Option<Neighbour> {
    let states = entry["state"].as_array()?;
    Some(Neighbour {
        address: entry["dst"].as_str()?.parse().ok()?,
        interface: entry["dev"].as_str()?.into(),
        silent: states.iter().any(|state| state == "FAILED" || state == "INCOMPLETE"),
    })
}

fn routes(place: &Place, version: &str) -> Vec<Route> {
    let answer = place.json("ip", &[version, "-j", "route", "show"]);
    let hop = |entry: &Value| {
        let gateway = entry["gateway"].as_str().and_then(|text| text.parse().ok());
        Some(Route { gateway, interface: entry["dev"].as_str()?.into() })
    };
    let several = |entry: &Value| {
        // Every interface that is up has this one, and it leads nowhere.
        if entry["dst"].as_str().is_some_and(|to| to.starts_with("fe80:")) {
            return None;
        }
        let hops = entry["nexthops"].as_array();
        Some(hops.map_or_else(
            || hop(entry).into_iter().collect(),
            |hops| hops.iter().filter_map(hop).collect::<Vec<_>>(),
        ))
    };
    list(answer, several).concat()
}

fn peers(place: &Place, config: &Config) -> Vec<PeerRoute> {
    let route = |address: IpAddr| {
        let answer = place.json("ip", &["-j", "route", "get", &address.to_string()])?;
        Some(answer[0]["dev"].as_str()?.to_owned())
    };
    let peers = config.peers.iter();
    peers
        .map(|peer| PeerRoute { node: peer.node.0, address: peer.address, interface: route(peer.address) })
        .collect()
}

/// Local ports in /proc/net/udp and udp6 (proc_pid_net(5)).
fn udp_ports(place: &Place) -> Vec<u16> {
    let files = ["/proc/self/net/udp", "/proc/self/net/udp6"];
    let text: String = files.iter().filter_map(|file| place.text(file)).map(|text| text + "\n").collect();
    let port = |line: &str| {
        let local = line.split_whitespace().nth(1)?;
        u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()
    };
    text.lines().filter_map(port).collect()
}
