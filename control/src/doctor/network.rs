//! Routes, neighbours, packet filter, ports.

use super::machine::one_if;
use super::{Trouble, trouble};
use crate::config::{OnCrash, narrow_link, tunnel_overhead};
use crate::host::Case;

pub(super) fn cluster_mtu(case: &Case) -> Vec<Trouble> {
    let (Some(config), Some(link)) = (&case.config, case.cluster_link()) else { return Vec::new() };
    let largest =
        case.ports().iter().filter(|port| port.link.name != link.name).map(|port| port.link.mtu).max();
    let Some(largest) = largest else { return Vec::new() };
    let wanted = largest + tunnel_overhead(config.cluster_address);
    let narrow = narrow_link(config, largest, link.mtu);
    narrow
        .map(|sentence| {
            let cause = sentence.split("; run").next().unwrap_or_default();
            trouble(
                cause,
                format!("ip link set {} mtu {wanted}   (and on switches between the nodes)", link.name),
            )
        })
        .into_iter()
        .collect()
}

pub(super) fn cluster_address(case: &Case) -> Vec<Trouble> {
    let (Some(config), Some(link)) = (&case.config, case.cluster_link()) else { return Vec::new() };
    let (address, prefix) = (config.cluster_address, if config.cluster_address.is_ipv4() { 24 } else { 64 });
    let cause =
        format!("cluster link {} does not have the cluster address {address}: peers reach nobody", link.name);
    one_if(
        !link.addresses.contains(&address),
        cause,
        format!("ip address add {address}/{prefix} dev {}", link.name),
    )
}

pub(super) fn peer_route(case: &Case) -> Vec<Trouble> {
    let Some(link) = case.cluster_link().filter(|link| link.up) else { return Vec::new() };
    let astray = case.host.network.peers.iter().filter(|peer| peer.interface.as_deref() != Some(&link.name));
    astray
        .map(|peer| {
            let found = match &peer.interface {
                Some(other) => format!("goes by {other}"),
                None => "does not exist".into(),
            };
            let cause = format!(
                "the route to peer {} ({}) {found}: the tunnel leaves by {}",
                peer.node, peer.address, link.name
            );
            trouble(cause, format!("ip route replace {} dev {}", peer.address, link.name))
        })
        .collect()
}

pub(super) fn neighbours(case: &Case) -> Vec<Trouble> {
    let network = &case.host.network;
    let ports = case.interfaces();
    let matters = |address| {
        network.peers.iter().any(|peer| peer.address == address)
            || network.routes.iter().any(|route| route.gateway == Some(address))
    };
    let silent = network.neighbours.iter().filter(|one| {
        one.silent && ports.iter().any(|(_, name)| *name == one.interface) && matters(one.address)
    });
    silent
        .map(|one| {
            let cause = format!(
                "{} on {} does not answer ARP or ND: packets that go by it are lost",
                one.address, one.interface
            );
            trouble(
                cause,
                format!(
                    "ping -I {} {}   (is it there, in the same VLAN, with this address?)",
                    one.interface, one.address
                ),
            )
        })
        .collect()
}

pub(super) fn data_routes(case: &Case) -> Vec<Trouble> {
    let routes = &case.host.network.routes;
    let bare = case
        .data_links()
        .into_iter()
        .filter(|link| link.up && !routes.iter().any(|route| route.interface == link.name));
    bare.map(|link| {
        let cause = format!("no route leads over data interface {}: nothing is ever sent there", link.name);
        trouble(
            cause,
            format!(
                "ip address add ADDRESS/PREFIX dev {0}, ip route add NETWORK via GATEWAY dev {0}",
                link.name
            ),
        )
    })
    .collect()
}

pub(super) fn rp_filter(case: &Case) -> Vec<Trouble> {
    let all = case.host.network.rp_filter.unwrap_or(0);
    let strict = case.ports().into_iter().filter(|port| port.link.rp_filter.unwrap_or(0).max(all) == 1);
    strict
        .map(|port| {
            let name = &port.link.name;
            let cause = format!("rp_filter of {name} is strict (1): the kernel drops what arrives for this node by another way than it answers");
            trouble(cause, format!("sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{name}.rp_filter=0   (2, loose, does too)"))
        })
        .collect()
}

pub(super) fn forwarding_on(case: &Case) -> Vec<Trouble> {
    let network = &case.host.network;
    let open = case.config.as_ref().is_some_and(|config| config.on_crash == OnCrash::Closed);
    let guarded =
        network.chains.as_ref().is_none_or(|chains| chains.iter().any(|chain| chain.hook == "forward"));
    let cause = "net.ipv4.ip_forward is 1 and no packet filter looks at what the kernel forwards: before the node starts and after it stops everything passes, whatever --on-crash closed and --policy say";
    one_if(
        open && network.ip_forward == Some(true) && !guarded,
        cause,
        "sysctl -w net.ipv4.ip_forward=0   (samepath forwards by itself)",
    )
}

pub(super) fn forwarding_off(case: &Case) -> Vec<Trouble> {
    let asked = case.config.as_ref().is_some_and(|config| config.on_crash == OnCrash::Open);
    let cause = "--on-crash open leaves packets to the kernel, and net.ipv4.ip_forward is 0: after a crash nothing passes";
    one_if(asked && case.host.network.ip_forward == Some(false), cause, "sysctl -w net.ipv4.ip_forward=1")
}

pub(super) fn port_taken(case: &Case) -> Vec<Trouble> {
    let Some(config) = case.config.as_ref().filter(|_| case.node.is_none()) else { return Vec::new() };
    let port = config.control_port;
    let cause = format!("UDP port {port} is in use by another program: the control channel needs it");
    let taken = case.host.network.udp_ports.contains(&port);
    one_if(
        taken,
        cause,
        format!("ss -lunp sport = :{port}   (stop that program, or --control-port on all nodes)"),
    )
}

pub(super) fn port_blocked(case: &Case) -> Vec<Trouble> {
    let Some(config) = &case.config else { return Vec::new() };
    let chains = case.host.network.chains.iter().flatten();
    let blocking = chains
        .filter(|chain| chain.hook == "input" && chain.blocks(&config.cluster_link, config.control_port));
    blocking
        .map(|chain| {
            let (link, port) = (&config.cluster_link, config.control_port);
            let cause = format!(
                "nftables chain `{}` drops UDP port {port} on {link}: peers cannot connect",
                chain.name
            );
            trouble(cause, format!("nft insert rule {} iifname {link} udp dport {port} accept", chain.name))
        })
        .collect()
}

pub(super) fn bypassed(case: &Case) -> Vec<Trouble> {
    if case.config.is_none() {
        return Vec::new();
    }
    let chains = case.host.network.chains.iter().flatten();
    let filters = chains.filter(|chain| chain.hook == "forward" && chain.rules() > 0);
    filters
        .map(|chain| {
            let cause = format!(
                "nftables chain `{}` filters forwarded packets, and what samepath handles never passes it",
                chain.name
            );
            trouble(cause, "write its rules into a policy (docs/policy.md) and give it with --policy")
        })
        .collect()
}

pub(super) fn conntrack(case: &Case) -> Vec<Trouble> {
    let tracked = case.host.network.tracked.unwrap_or(0);
    let cause = format!(
        "the kernel's conntrack follows {tracked} connections in this namespace: each packet left to the kernel pays for it"
    );
    let remedy =
        "nft add rule inet raw prerouting iifname CLUSTER-LINK notrack   (or remove rules with `ct`)";
    one_if(case.config.is_some() && tracked > 0, cause, remedy)
}
