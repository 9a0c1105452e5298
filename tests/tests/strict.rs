//! Real connections over the split path with replication cut off and strict TCP checks: none may fail.

use anyhow::Result;
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::scenario::strict;

#[test]
fn a_thousand_connections_and_exchanges_live_without_replication() -> Result<()> {
    let mut bed = Bed::new("strict", Shape::default())?;
    bed.start_nodes(&[])?;
    let server = strict::serve(&bed)?;
    bed.cut_replication()?;
    strict::exchange(&bed, &server, 1000)?;
    drop(server);
    bed.mend_replication()?;
    bed.finish()
}

#[test]
fn flows_whose_packets_spread_over_all_nodes_live_too() -> Result<()> {
    let mut bed = Bed::new("strict-spread", Shape::default())?;
    bed.start_nodes(&[])?;
    let server = strict::serve(&bed)?;
    bed.forward_spread()?;
    bed.return_spread()?;
    strict::exchange(&bed, &server, 400)?;
    bed.cut_replication()?;
    strict::exchange(&bed, &server, 400)?;
    drop(server);
    bed.mend_replication()?;
    bed.finish()
}
