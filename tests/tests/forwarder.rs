//! `--forwarder xdp`: packets of established flows leave node 3 for their Owner without entering user space, and
//! nothing else changes: the promises hold in both modes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use samepath_tests::bed::plan::{Family, NODES};
use samepath_tests::bed::{Bed, Forwarder, SETTLE_SOON, Shape};
use samepath_tests::scenario::long_flow::{LongFlow, OFFERED_AFTER};
use samepath_tests::scenario::split_flow::SplitFlow;
use samepath_tests::scenario::{self, strict};
use samepath_tests::wait;
use serde_json::Value;

/// Datagrams of a flow after it was published.
const MANY: u64 = 300;

/// How long node 3 may take to notice that its driver or view changed.
const NOTICED: Duration = Duration::from_secs(10);

fn xdp() -> Shape {
    Shape { forwarder: Forwarder::Xdp, ..Shape::default() }
}

/// Frames node 3's XDP program has redirected.
fn redirected(bed: &Bed) -> Result<u64> {
    Ok(bed.stats(3)?.xdp_outcome("redirected"))
}

fn forwarder(bed: &Bed, node: u8) -> Result<(String, Vec<String>)> {
    let status: Value = bed.status(node)?;
    let now = status["forwarder"].as_str().context("status names no forwarder")?.to_owned();
    let warnings = status["warnings"].as_array().context("no warnings")?;
    // Others speak of this machine (its huge pages, say).
    let ours = warnings.iter().filter_map(Value::as_str).filter(|text| text.contains("--forwarder"));
    Ok((now, ours.map(str::to_owned).collect()))
}

fn a_long_flow(bed: &Bed, family: Family, vlan: Option<u16>, number: u16) -> Result<()> {
    let before = bed.stats(3)?;
    let owner_before = bed.stats(1)?.tunnel.redirect_rx;
    let capture = bed.capture(&format!("long-flow-{number}"), bed.router_a(), &["n1"])?;
    let mut flow = LongFlow::begin(bed, family, vlan, number)?;
    flow.publish(bed)?;
    flow.send(bed, MANY)?;
    let after = bed.stats(3)?;
    let by_xdp = after.xdp_outcome("redirected") - before.xdp_outcome("redirected");
    ensure!(by_xdp == MANY, "{by_xdp} of {MANY} datagrams left by XDP");
    let tunnel = (&after.tunnel, &before.tunnel);
    ensure!(tunnel.0.redirect_tx - tunnel.1.redirect_tx == MANY + OFFERED_AFTER, "{tunnel:?}");
    ensure!(tunnel.0.redirect_tx_xdp - tunnel.1.redirect_tx_xdp == MANY, "{tunnel:?}");
    ensure!(after.verdicts["redirect"] - before.verdicts["redirect"] == OFFERED_AFTER, "the workers' part");
    wait::until_true("the Owner has them all", NOTICED, || {
        Ok(bed.stats(1)?.tunnel.redirect_rx - owner_before == MANY + OFFERED_AFTER)
    })?;
    flow.check_arrived(&capture.finish(&format!("udp.port == {}", flow.client().1))?)
}

fn long_flows(name: &str, cluster_family: Family) -> Result<()> {
    let mut bed = Bed::new(name, Shape { cluster_family, ..xdp() })?;
    scenario::keep_from_hosts(&bed)?;
    bed.start_nodes(&[])?;
    for number in 1..=NODES {
        let (now, warnings) = forwarder(&bed, number)?;
        ensure!(now == "xdp", "node {number}: {now}, {warnings:?}");
    }
    a_long_flow(&bed, Family::V4, None, 1)?;
    a_long_flow(&bed, Family::V6, None, 2)?;
    a_long_flow(&bed, Family::V4, Some(100), 3)?;
    bed.finish()
}

#[test]
fn established_flows_leave_by_xdp_and_everything_arrives_over_ipv4() -> Result<()> {
    long_flows("forwarder", Family::V4)
}

#[test]
fn established_flows_leave_by_xdp_and_everything_arrives_over_ipv6() -> Result<()> {
    long_flows("forwarder-6", Family::V6)
}

#[test]
fn workers_redirect_unless_told_otherwise() -> Result<()> {
    let mut bed = Bed::new("forwarder-worker", Shape::default())?;
    scenario::keep_from_hosts(&bed)?;
    bed.start_nodes(&[])?;
    let mut flow = LongFlow::begin(&bed, Family::V4, None, 1)?;
    flow.send(&bed, MANY)?;
    let stats = bed.stats(3)?;
    ensure!(stats.xdp_outcome("redirected") == 0 && stats.forwards.published == 0, "{stats:?}");
    ensure!(stats.verdicts["redirect"] == MANY, "{:?}", stats.verdicts);
    ensure!(forwarder(&bed, 3)? == ("worker".into(), Vec::new()));
    bed.finish()
}

#[test]
fn aggregation_off_ends_it_at_once_and_on_begins_again() -> Result<()> {
    let mut bed = Bed::new("forwarder-aggregation", xdp())?;
    scenario::keep_from_hosts(&bed)?;
    bed.start_nodes(&["--timeout", "udp=300"])?;
    let mut flow = LongFlow::begin(&bed, Family::V4, None, 1)?;
    flow.publish(&bed)?;
    flow.send(&bed, 10)?;
    let before = redirected(&bed)?;
    ensure!(before == 10, "{before} left by XDP");
    bed.set_aggregation(false)?;
    flow.send(&bed, 10)?;
    ensure!(redirected(&bed)? == before, "the XDP program redirects with aggregation off");
    bed.set_aggregation(true)?;
    // Node 3 has taken the flow over meanwhile: what was published of it must not come to life again.
    flow.send(&bed, OFFERED_AFTER * 2)?;
    ensure!(redirected(&bed)? == before, "an entry of before is followed");
    let mut other = LongFlow::begin(&bed, Family::V4, None, 2)?;
    other.publish(&bed)?;
    other.send(&bed, 10)?;
    ensure!(redirected(&bed)? == before + 10, "flows are not published again");
    bed.finish()
}

#[test]
fn a_dead_owner_gets_nothing_and_its_transfer_goes_on() -> Result<()> {
    let mut bed = Bed::new("forwarder-takeover", xdp())?;
    bed.start_nodes(&[])?;
    let web = bed.start_web()?;
    let pair = bed.director_on(2, Family::V4)?;
    let mut killed = None;
    let mut to_the_dead = None;
    let fetched = bed.begin_large(pair)?.finish(&web, |bytes| {
        if killed.is_none() && bytes > 10_000_000 {
            ensure!(redirected(&bed)? > 1000, "the transfer does not leave by XDP");
            bed.forward_via(2)?;
            bed.kill_node(1)?;
            killed = Some(());
            bed.wait_members(2)?;
            to_the_dead = Some(bed.capture_cluster("after-death")?);
        }
        Ok(())
    })?;
    ensure!(fetched.bytes > 10_000_000, "{fetched:?}");
    let capture = to_the_dead.context("the Owner was never killed")?;
    let takeovers = bed.stats(2)?.sessions.takeovers + bed.stats(3)?.sessions.takeovers;
    ensure!(takeovers > 0, "nobody took the transfer over");
    let stale = capture.finish("geneve && ip.dst == 10.9.0.1 && tcp.port == 80")?;
    ensure!(stale.is_empty(), "{} packets followed a stale entry", stale.len());
    bed.finish()
}

#[test]
fn a_link_that_takes_no_redirected_frames_is_noticed() -> Result<()> {
    let mut bed = Bed::new("forwarder-fallback", xdp())?;
    scenario::keep_from_hosts(&bed)?;
    bed.take_redirected_frames(false)?;
    bed.start_nodes(&[])?;
    let (now, warnings) = forwarder(&bed, 3)?;
    ensure!(now == "worker" && warnings.iter().any(|line| line.contains("gro on")), "{now}: {warnings:?}");
    let mut flow = LongFlow::begin(&bed, Family::V4, None, 1)?;
    flow.send(&bed, 2 * OFFERED_AFTER)?;
    ensure!(redirected(&bed)? == 0, "frames were redirected into a link that loses them");
    for (yes, mode) in [(true, "xdp"), (false, "worker"), (true, "xdp")] {
        bed.take_redirected_frames(yes)?;
        wait::until_true(&format!("node 3 says {mode}"), NOTICED, || Ok(forwarder(&bed, 3)?.0 == mode))?;
        let before = redirected(&bed)?;
        flow.send(&bed, 2 * OFFERED_AFTER)?;
        let moved = redirected(&bed)? > before;
        ensure!(moved == yes, "mode {mode}, but by XDP: {moved}");
    }
    bed.finish()
}

#[test]
fn both_modes_keep_the_promises() -> Result<()> {
    for forwarder in Forwarder::BOTH {
        let name = format!("forwarder-promises-{}", forwarder.name());
        let shape = Shape { forwarder, queues: 2, workers: 2, ..Shape::default() };
        let mut bed = Bed::new(&name, shape)?;
        scenario::keep_from_hosts(&bed)?;
        bed.start_nodes(&SETTLE_SOON)?;
        SplitFlow { family: Family::V4, vlan: None, number: 1 }.run(&bed)?;
        SplitFlow { family: Family::V6, vlan: Some(100), number: 2 }.run(&bed)?;
        let server = strict::serve(&bed)?;
        strict::exchange(&bed, &server, 200)?;
        bed.cut_replication()?;
        strict::exchange(&bed, &server, 200)?;
        bed.mend_replication()?;
        drop(server);
        bed.finish()?;
    }
    Ok(())
}
