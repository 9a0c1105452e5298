//! Makes the bed: namespaces, links, addresses, routes.

use std::fmt::Write;
use std::process::Command;
use std::thread;

use anyhow::{Result, anyhow};

use super::plan::{
    self, CLIENTS, CLUSTER, CLUSTER_MTU, End, FIRST_HOST, Family, NODE, NODES, ROUTER, SERVERS,
};
use super::{Forwarder, Namespaces, Shape};
use crate::netns::Namespace;
use crate::program;

/// Before any interface exists, so that each inherits it: no duplicate address detection, no router
/// advertisements or solicitations (the bed's addresses and routes are all static), no reverse path
/// filter (asymmetry is the point).
pub(super) const QUIET: &[(&str, &str)] = &[
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/autoconf", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv6/conf/default/keep_addr_on_down", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
];

/// Routers forward, and spread by addresses and ports where a route has several next hops.
const FORWARDING: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/fib_multipath_hash_policy", "1"),
    ("ipv6/fib_multipath_hash_policy", "1"),
];

/// Makes everything `tests/README.md` draws.
pub(super) fn build(prefix: &str, shape: &Shape) -> Result<Namespaces> {
    let namespaces = add_namespaces(prefix)?;
    for namespace in namespaces.all() {
        namespace.sysctl(QUIET)?;
    }
    for router in [&namespaces.router_a, &namespaces.router_b] {
        router.sysctl(FORWARDING)?;
    }
    namespaces
        .switch
        .sysctl(&[("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")])?;
    program::feed(Command::new("ip").args(["-batch", "-"]), &links(&namespaces, shape))?;
    namespaces.switch.ip(&switch())?;
    namespaces.client.ip(&host(CLIENTS, shape))?;
    namespaces.server.ip(&host(SERVERS, shape))?;
    namespaces.router_a.ip(&router("client", CLIENTS, plan::inside))?;
    namespaces.router_b.ip(&router("server", SERVERS, plan::outside))?;
    for number in 1..=NODES {
        namespaces.node(number).ip(&node(number))?;
    }
    for_each_at_once(&namespaces.interfaces(), |(namespace, interface)| plain_frames(namespace, interface))?;
    if shape.forwarder == Forwarder::Xdp {
        takes_redirected_frames(&namespaces.switch, true)?;
    }
    Ok(namespaces)
}

fn add_namespaces(prefix: &str) -> Result<Namespaces> {
    Ok(Namespaces {
        client: Namespace::add(prefix, "client")?,
        router_a: Namespace::add(prefix, "routera")?,
        router_b: Namespace::add(prefix, "routerb")?,
        nodes: (1..=NODES).map(|node| Namespace::add(prefix, &format!("n{node}"))).collect::<Result<_>>()?,
        switch: Namespace::add(prefix, "switch")?,
        server: Namespace::add(prefix, "server")?,
    })
}

/// One veth pair per line of the drawing. Native XDP needs at least as many receive queues as the peer
/// has transmit queues, hence the same number everywhere.
fn links(namespaces: &Namespaces, shape: &Shape) -> String {
    let queues = format!("numrxqueues {0} numtxqueues {0}", shape.queues);
    let mut lines = String::new();
    let mut link = |near: (&Namespace, &str, &str), far: (&Namespace, &str, &str)| {
        writeln!(
            lines,
            "link add {} {} {queues} netns {} type veth peer name {} {} {queues} netns {}",
            near.1,
            near.2,
            near.0.name(),
            far.1,
            far.2,
            far.0.name()
        )
        .expect("a String takes every write");
    };
    let address = |end: End| format!("address {}", end.mac_text());
    link((&namespaces.client, "eth0", ""), (&namespaces.router_a, "client", ""));
    link((&namespaces.server, "eth0", ""), (&namespaces.router_b, "server", ""));
    for number in 1..=NODES {
        let (node, port) = (namespaces.node(number), format!("n{number}"));
        let cluster = format!("{} mtu {CLUSTER_MTU}", address(End::Cluster(number)));
        link(
            (&namespaces.router_a, &port, &address(End::RouterA(number))),
            (node, "inside", &address(End::Inside(number))),
        );
        link(
            (&namespaces.router_b, &port, &address(End::RouterB(number))),
            (node, "outside", &address(End::Outside(number))),
        );
        link((&namespaces.switch, &port, &format!("mtu {CLUSTER_MTU}")), (node, "cluster", &cluster));
    }
    lines
}

fn switch() -> String {
    let mut lines = format!("link add br0 mtu {CLUSTER_MTU} type bridge mcast_snooping 0\n");
    for number in 1..=NODES {
        lines += &format!("link set n{number} master br0 up\n");
    }
    lines + "link set br0 up\n"
}

fn host(subnet: plan::Subnet, shape: &Shape) -> String {
    let mut lines = String::from("link set eth0 up\n");
    for family in Family::BOTH {
        for index in 0..shape.addresses {
            lines += &address("eth0", subnet, family, FIRST_HOST + index);
        }
        lines += &format!("route add default via {}\n", subnet.host(family, ROUTER));
    }
    lines
}

fn router(host: &str, hosts: plan::Subnet, link_to: fn(u8) -> plan::Subnet) -> String {
    let mut lines = format!("link set {host} up\n");
    for family in Family::BOTH {
        lines += &address(host, hosts, family, ROUTER);
    }
    for number in 1..=NODES {
        lines += &format!("link set n{number} up\n");
        for family in Family::BOTH {
            lines += &address(&format!("n{number}"), link_to(number), family, ROUTER);
        }
    }
    lines
}

fn node(number: u8) -> String {
    let mut lines = String::new();
    let (inside, outside) = (plan::inside(number), plan::outside(number));
    for (interface, subnet, host) in
        [("inside", inside, NODE), ("outside", outside, NODE), ("cluster", CLUSTER, number)]
    {
        lines += &format!("link set {interface} up\n");
        for family in Family::BOTH {
            lines += &address(interface, subnet, family, host);
        }
    }
    for family in Family::BOTH {
        for (hosts, link) in [(CLIENTS, inside), (SERVERS, outside)] {
            let gateway = link.host(family, ROUTER);
            lines += &format!("route add {} via {gateway}\n", hosts.network(family));
        }
    }
    lines
}

fn address(interface: &str, subnet: plan::Subnet, family: Family, host: u8) -> String {
    let nodad = if family == Family::V6 { " nodad" } else { "" };
    format!("address add {} dev {interface}{nodad}\n", subnet.host_with_prefix(family, host))
}

/// Whole frames with complete checksums, as a real link carries them: a veth would otherwise hand on
/// super-frames and partial checksums.
pub(super) fn plain_frames(namespace: &Namespace, interface: &str) -> Result<()> {
    let mut command = namespace.command("ethtool");
    command.args(["-K", interface]);
    command.args(["tx", "off", "tso", "off", "gso", "off", "gro", "off"]);
    program::run(&mut command).map(drop)
}

/// A veth sends what XDP redirects to it only while its other end has an XDP program or GRO: the latter for the
/// switch's ports, or not.
pub(super) fn takes_redirected_frames(switch: &Namespace, yes: bool) -> Result<()> {
    for number in 1..=NODES {
        let mut command = switch.command("ethtool");
        command.args(["-K", &format!("n{number}"), "gro", if yes { "on" } else { "off" }]);
        program::run(&mut command)?;
    }
    Ok(())
}

/// Runs `work` for all items at once and gives the first error.
fn for_each_at_once<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(|| work(item))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a set-up thread panicked"))?)
    })
}
