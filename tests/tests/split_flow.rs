//! One flow over the split path, on the wire: what crosses the cluster link, decoded by tshark, in which
//! order, and that no inner packet is altered.

use anyhow::Result;
use samepath_tests::bed::plan::Family;
use samepath_tests::bed::{Bed, SETTLE_SOON, Shape};
use samepath_tests::scenario::{self, split_flow::SplitFlow};

/// All cases over one bed whose cluster link speaks `cluster_family`.
fn all_cases(name: &str, cluster_family: Family) -> Result<()> {
    let mut bed = Bed::new(name, Shape { cluster_family, ..Shape::default() })?;
    scenario::keep_from_hosts(&bed)?;
    bed.start_nodes(&SETTLE_SOON)?;
    SplitFlow { family: Family::V4, vlan: None, number: 1 }.run(&bed)?;
    SplitFlow { family: Family::V6, vlan: None, number: 2 }.run(&bed)?;
    SplitFlow { family: Family::V4, vlan: Some(100), number: 3 }.run(&bed)?;
    bed.finish()
}

#[test]
fn reply_meets_its_owner_through_a_tunnel_over_ipv4() -> Result<()> {
    all_cases("split-flow", Family::V4)
}

#[test]
fn reply_meets_its_owner_through_a_tunnel_over_ipv6() -> Result<()> {
    all_cases("split-flow-6", Family::V6)
}
