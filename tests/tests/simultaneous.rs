//! First packets of one flow at two nodes at the same moment: exactly one Owner.

use anyhow::Result;
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::scenario::{self, simultaneous};

/// Flows in all.
const FLOWS: usize = 10_000;

#[test]
fn ten_thousand_flows_that_begin_at_two_nodes_have_one_owner_each() -> Result<()> {
    let mut bed = Bed::new("simultaneous", Shape::default())?;
    scenario::keep_from_hosts(&bed)?;
    // Long enough that no session ends while the lists are read.
    bed.start_nodes(&["--timeout", "udp=300", "--timeout", "tcp_syn_sent=300"])?;
    bed.cut_replication()?;
    simultaneous::inject(&bed, FLOWS)?;
    bed.mend_replication()?;
    simultaneous::backed_up_everywhere(&bed, FLOWS)?;
    bed.finish()
}
