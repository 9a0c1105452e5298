//! Two beds of the same shape, one whose first node is a plain Linux router, one with a cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use samepath_tests::bed::plan::{self, End, Family, NODE, NODES, ROUTER};
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::netns::Namespace;
use samepath_tests::raw_port::RawPort;

use super::packet::MACS;
use super::split::Side;

/// A bed whose hosts and routers say nothing by themselves.
pub fn quiet_bed(name: &str) -> Result<Bed> {
    let bed = Bed::new(name, Shape::default())?;
    for router in [bed.router_a(), bed.router_b()] {
        keep_out(router, "{ n1, n2, n3 }")?;
    }
    for number in 1..=NODES {
        bed.node_namespace(number).ip(&neighbours(number))?;
    }
    Ok(bed)
}

/// What comes by these interfaces meets no rule, route or socket of the namespace: it is only looked at.
fn keep_out(namespace: &Namespace, interfaces: &str) -> Result<()> {
    namespace.nft(&format!(
        "table inet quiet {{
            chain in {{
                type filter hook prerouting priority raw
                iifname {interfaces} drop
            }}
        }}"
    ))
}

/// Nobody needs to ask for a link address.
fn neighbours(number: u8) -> String {
    let mut lines = String::new();
    for family in Family::BOTH {
        let mut known = |address: IpAddr, end: End, interface: &str| {
            lines +=
                &format!("neigh replace {address} lladdr {} dev {interface} nud permanent\n", end.mac_text());
        };
        known(plan::inside(number).host(family, ROUTER), End::RouterA(number), "inside");
        known(plan::outside(number).host(family, ROUTER), End::RouterB(number), "outside");
        for peer in (1..=NODES).filter(|peer| *peer != number) {
            known(plan::cluster_address(family, peer), End::Cluster(peer), "cluster");
        }
    }
    lines
}

/// A node's kernel takes no notice of packets that samepath leaves to it.
pub fn deafen_nodes(bed: &Bed) -> Result<()> {
    (1..=NODES).try_for_each(|number| keep_out(bed.node_namespace(number), "{ inside, outside }"))
}

/// Node 1 forwards as any Linux does.
pub fn make_router(bed: &Bed) -> Result<()> {
    let on = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"].map(|key| (key, "1"));
    let off = ["all", "default", "inside", "outside"].map(|of| format!("ipv4/conf/{of}/send_redirects"));
    let off: Vec<_> = off.iter().map(|key| (key.as_str(), "0")).collect();
    bed.node_namespace(1).sysctl(&[&on[..], &off].concat())
}

/// Routes of a node to all these addresses, in place of those of the round before.
pub fn set_routes(
    bed: &Bed,
    number: u8,
    before: &BTreeMap<IpAddr, Side>,
    now: &BTreeMap<IpAddr, Side>,
) -> Result<()> {
    let line = |verb: &str, (address, side): (&IpAddr, &Side)| {
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let link = match side {
            Side::Client => plan::inside(number),
            Side::Server => plan::outside(number),
        };
        format!("route {verb} {address} via {}\n", link.host(family, ROUTER))
    };
    let lines =
        before.iter().map(|route| line("del", route)).chain(now.iter().map(|route| line("add", route)));
    bed.node_namespace(number).ip(&lines.collect::<String>())
}

/// True if the bed itself has this address, or needs it for its own routes.
pub fn is_beds_own(address: IpAddr) -> bool {
    Family::BOTH.into_iter().any(|family| {
        (1..=NODES).any(|number| {
            [plan::inside(number), plan::outside(number)]
                .iter()
                .any(|link| [NODE, ROUTER].iter().any(|host| link.host(family, *host) == address))
                || plan::cluster_address(family, number) == address
        })
    })
}

/// The link between a router and a node: frames go in there.
pub struct Inlet {
    port: RawPort,
    macs: [u8; MACS],
}

impl Inlet {
    /// From the router of this side to a node.
    pub fn open(bed: &Bed, side: Side, number: u8) -> Result<Self> {
        let (router, from, to) = match side {
            Side::Client => (bed.router_a(), End::RouterA(number), End::Inside(number)),
            Side::Server => (bed.router_b(), End::RouterB(number), End::Outside(number)),
        };
        let mut macs = [0; MACS];
        macs[..6].copy_from_slice(&to.mac());
        macs[6..].copy_from_slice(&from.mac());
        Ok(Self { port: RawPort::open_both_ways(router, &format!("n{number}"))?, macs })
    }

    /// Sends the frame as the router would.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.port.send(&[&self.macs[..], &frame[MACS..]].concat())
    }

    /// The next frame that the node sent to the router.
    pub fn receive(&self) -> Result<Vec<u8>> {
        loop {
            let frame = self.port.receive()?;
            if frame.len() >= MACS && frame[..6] == self.macs[6..] {
                return Ok(frame);
            }
        }
    }
}
