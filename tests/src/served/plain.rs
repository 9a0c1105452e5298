//! Plain kernel routing on a node, in samepath's place: packets of users go to the service by policy routing, what comes
//! from the service goes on by the main table. What an administrator would set up on a single firewall.

use anyhow::Result;

use crate::bed::service_port::both_families;
use crate::bed::{Bed, SERVICE_PORT};

/// The node's kernel forwards from now on, users' packets by way of its service.
pub fn route_through_service(bed: &Bed, number: u8) -> Result<()> {
    let node = bed.node_namespace(number);
    node.sysctl(&[
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        (&format!("ipv4/conf/{SERVICE_PORT}/send_redirects"), "0"),
    ])?;
    both_families(node, "rule add iif inside lookup 200\nrule add iif outside lookup 200\n")?;
    node.ip(&format!(
        "route add default via 10.66.{number}.2 table 200\nroute add default via fd00:66:{number}::2 table 200\n"
    ))
}
