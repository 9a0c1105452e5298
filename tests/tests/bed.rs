//! The bed itself: with the nodes' kernels forwarding instead of samepath, packets take the paths that
//! the other tests rely on. No node of samepath runs here.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use samepath_tests::bed::plan::{self, Family, NODES};
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::{artifacts, ledger, program, wait};

/// Packets that left a router towards a node so far.
fn sent_to(bed: &Bed, router: &samepath_tests::netns::Namespace, node: u8) -> Result<u64> {
    let _ = bed;
    samepath_tests::link::counters(router, &format!("n{node}")).map(|link| link.tx_packets)
}

fn kernel_forwards(bed: &Bed, on: bool) -> Result<()> {
    let value = if on { "1" } else { "0" };
    for number in 1..=NODES {
        let keys = [("ipv4/ip_forward", value), ("ipv6/conf/all/forwarding", value)];
        bed.node_namespace(number).sysctl(&keys)?;
    }
    Ok(())
}

fn ping(bed: &Bed, family: Family, count: u32) -> Result<String> {
    let mut ping = bed.client().command("ping");
    ping.args([family.option(), "-c", &count.to_string(), "-i", "0.02", "-W", "2", "-I"]);
    ping.arg(plan::client(family, 1).to_string()).arg(plan::server(family, 2).to_string());
    program::run(&mut ping)
}

#[test]
fn packets_take_the_chosen_paths() -> Result<()> {
    let bed = Bed::new("bed-paths", Shape { queues: 2, ..Shape::default() })?;
    for family in Family::BOTH {
        assert!(ping(&bed, family, 1).is_err(), "nodes forward although nobody told them to");
    }
    kernel_forwards(&bed, true)?;
    for (there, back) in [(1, 3), (2, 1), (3, 3)] {
        bed.forward_via(there)?;
        bed.return_via(back)?;
        for family in Family::BOTH {
            ping(&bed, family, 1)?;
            let before = (sent_to(&bed, bed.router_a(), there)?, sent_to(&bed, bed.router_b(), back)?);
            ping(&bed, family, 20)?;
            let after = (sent_to(&bed, bed.router_a(), there)?, sent_to(&bed, bed.router_b(), back)?);
            assert!(after.0 - before.0 >= 20, "{family:?}: not through node {there}");
            assert!(after.1 - before.1 >= 20, "{family:?}: not back through node {back}");
        }
    }
    let prefix = bed.prefix().to_owned();
    bed.remove()?;
    assert_eq!(ledger::namespaces(&prefix), Vec::<String>::new());
    Ok(())
}

#[test]
fn spread_paths_use_every_node_and_traffic_counts_exactly() -> Result<()> {
    let bed = Bed::new("bed-spread", Shape::default())?;
    kernel_forwards(&bed, true)?;
    bed.forward_spread()?;
    bed.return_spread()?;
    let mut serve = bed.server().command(artifacts::sibling("samepath-traffic")?);
    serve.args(["serve", "--port", "7000"]);
    for family in Family::BOTH {
        serve.args(["--address", &plan::server(family, 0).to_string()]);
    }
    let server = bed.start_service("serve", &mut serve)?;
    wait::until_true("the server is ready", Duration::from_secs(5), || {
        Ok(server.output().contains("ready"))
    })?;
    let before: Vec<u64> =
        (1..=NODES).map(|node| sent_to(&bed, bed.router_a(), node)).collect::<Result<_>>()?;
    for family in Family::BOTH {
        for what in ["tcp", "udp"] {
            let mut ask = bed.client().command(artifacts::sibling("samepath-traffic")?);
            ask.args([what, "--count", "100", "--at-once", "8", "--to"]);
            ask.arg(std::net::SocketAddr::new(plan::server(family, 0), 7000).to_string());
            for index in 0..4 {
                ask.args(["--from", &plan::client(family, index).to_string()]);
            }
            let tally: samepath_tests::traffic::Tally = serde_json::from_str(&program::run(&mut ask)?)?;
            assert_eq!((tally.ok, tally.failed, tally.resets), (100, 0, 0), "{tally:?}");
        }
    }
    for node in 1..=NODES {
        let sent = sent_to(&bed, bed.router_a(), node)? - before[usize::from(node) - 1];
        assert!(sent > 100, "node {node} saw {sent} packets only");
    }
    Ok(())
}

#[test]
fn a_bed_whose_process_was_killed_is_swept_by_the_next() -> Result<()> {
    // A ledger of a process that cannot exist any more, with a namespace that does.
    let prefix = "sp0-stale";
    std::fs::create_dir_all("/run/samepath-bed")?;
    program::run(Command::new("ip").args(["netns", "add", &format!("{prefix}-x")]))?;
    std::fs::write(format!("/run/samepath-bed/{prefix}"), format!("process 1 1\nnamespace {prefix}-x\n"))?;
    ledger::sweep_stale()?;
    assert_eq!(ledger::namespaces(prefix), Vec::<String>::new());
    Ok(())
}
