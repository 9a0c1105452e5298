//! Which way packets go: the routers' routes, changeable at run time.

use anyhow::Result;

use super::plan::{self, CLIENTS, Family, NODE, NODES, SERVERS};
use super::{Bed, build};
use crate::program;

impl Bed {
    /// Packets towards the server pass this node from now on.
    pub fn forward_via(&self, node: u8) -> Result<()> {
        self.router_a().ip(&route(SERVERS, plan::inside, &[node]))
    }

    /// Packets towards the client pass this node from now on.
    pub fn return_via(&self, node: u8) -> Result<()> {
        self.router_b().ip(&route(CLIENTS, plan::outside, &[node]))
    }

    /// Packets towards addresses of services themselves (all nodes announce all of them) pass this node from now on.
    pub fn services_via(&self, node: u8) -> Result<()> {
        let via = |family| plan::outside(node).host(family, NODE);
        self.router_b().ip(&format!(
            "route replace 10.66.0.0/16 via {}\nroute replace fd00:66::/32 via {}\n",
            via(Family::V4),
            via(Family::V6)
        ))
    }

    /// The link between a node and router B comes up again.
    pub fn mend_data_link(&self, node: u8) -> Result<()> {
        self.router_b().ip(&format!("link set n{node} up\n"))
    }

    /// Whether the cluster switch's ports take frames that XDP redirects to them, from now on.
    pub fn take_redirected_frames(&self, yes: bool) -> Result<()> {
        build::takes_redirected_frames(self.switch(), yes)
    }

    /// Packets towards the server spread over all nodes from now on, by addresses and ports (ECMP).
    pub fn forward_spread(&self) -> Result<()> {
        self.router_a().ip(&route(SERVERS, plan::inside, &all()))
    }

    /// Each packet passes another node than the one before from now on, both ways, fragments of one packet too.
    pub fn scatter(&self) -> Result<()> {
        type LinkTo = fn(u8) -> plan::Subnet;
        let ways = [
            (self.router_a(), "client", SERVERS, plan::inside as LinkTo),
            (self.router_b(), "server", CLIENTS, plan::outside as LinkTo),
        ];
        for (router, interface, to, link_to) in ways {
            for family in Family::BOTH {
                for node in all() {
                    let (option, table) = (family.option(), 70 + node);
                    let (network, via) = (to.network(family), link_to(node).host(family, NODE));
                    for arguments in [
                        format!("{option} route add {network} via {via} table {table}"),
                        format!("{option} rule add fwmark {node} lookup {table}"),
                    ] {
                        program::run(router.command("ip").args(arguments.split(' ')))?;
                    }
                }
            }
            router.nft(&format!(
                "table inet scatter {{
                    chain each {{
                        type filter hook prerouting priority mangle
                        iifname {interface} meta mark set numgen inc mod {NODES} offset 1
                    }}
                }}"
            ))?;
        }
        Ok(())
    }

    /// Packets towards the client spread over all nodes from now on, by addresses and ports (ECMP).
    pub fn return_spread(&self) -> Result<()> {
        self.router_b().ip(&route(CLIENTS, plan::outside, &all()))
    }
}

fn all() -> Vec<u8> {
    (1..=NODES).collect()
}

fn route(to: plan::Subnet, link_to: fn(u8) -> plan::Subnet, nodes: &[u8]) -> String {
    let mut lines = String::new();
    for family in Family::BOTH {
        lines += &format!("route replace {}", to.network(family));
        for &node in nodes {
            lines += &format!(" nexthop via {}", link_to(node).host(family, NODE));
        }
        lines += "\n";
    }
    lines
}
