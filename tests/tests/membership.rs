//! Nodes come, go, drain and stall while traffic flows.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use samepath_tests::bed::plan::Family;
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::scenario::steady::Steady;
use samepath_tests::wait;
use serde_json::Value;

/// Traffic before and after each step: many times what a step takes.
const A_WHILE: Duration = Duration::from_millis(700);

/// How long something may take to become true.
const SOON: Duration = Duration::from_secs(10);

/// While Directors change, a segment can reach one that has not heard of its flow yet: a flow whose record is
/// on its way at that moment. Its end sends it again. So many are possible at 200 new flows a second.
const ON_THEIR_WAY: u64 = 10;

/// What the nodes dropped, by reason, `no_socket` included.
fn drops(bed: &Bed) -> Result<BTreeMap<(u8, String), u64>> {
    let mut all = BTreeMap::new();
    for number in bed.running() {
        let stats = bed.stats(number)?;
        all.extend(stats.drops.iter().map(|(reason, &count)| ((number, reason.clone()), count)));
        all.insert((number, "no_socket".into()), stats.xdp_outcome("no_socket"));
    }
    Ok(all)
}

/// Nothing was dropped since `before`, but what [`ON_THEIR_WAY`] says.
fn nothing_dropped(bed: &Bed, before: &BTreeMap<(u8, String), u64>) -> Result<()> {
    let since: Vec<_> = drops(bed)?
        .into_iter()
        .map(|(of, count)| (count - before.get(&of).copied().unwrap_or(0), of))
        .filter(|(count, _)| *count > 0)
        .collect();
    eprintln!("dropped: {since:?}");
    let on_their_way: u64 = since.iter().filter(|(_, of)| of.1 == "no_session").map(|(count, _)| count).sum();
    ensure!(on_their_way <= ON_THEIR_WAY && since.iter().all(|(_, of)| of.1 == "no_session"), "{since:?}");
    Ok(())
}

#[test]
fn a_node_is_drained_replaced_and_taken_back_and_nothing_is_lost() -> Result<()> {
    let mut bed = Bed::new("drain", Shape::default())?;
    bed.start_nodes(&[])?;
    let before = drops(&bed)?;
    let traffic = Steady::begin(&bed, Family::V4)?;
    sleep(A_WHILE);
    ensure!(bed.stats(1)?.sessions.owner > 10, "node 1 owns too little to prove anything");

    let drain: Value = bed.cli(1)?.json(&["drain", "--timeout", "20"])?;
    ensure!(drain["stage"] == "drained" && drain["owned"] == 0, "{drain}");
    ensure!(drain["began_with"].as_u64() > Some(10), "{drain}");
    let status: Value = bed.cli(1)?.ask("status")?;
    ensure!(status["ready"] == false && status["drain"]["stage"] == "drained", "{status}");
    ensure!(bed.cli(1)?.run(&["status"]).is_err(), "`status` of a drained node has exit code 5");
    sleep(A_WHILE);
    let stats = bed.stats(1)?;
    ensure!(stats.sessions.owner == 0, "a drained node took flows: {:?}", stats.sessions);
    ensure!(stats.sessions.handed_over > 10 && stats.sessions.conflicts_lost == 0, "{:?}", stats.sessions);

    bed.cli(1)?.run(&["undrain"])?;
    wait::until_true("node 1 takes flows again", SOON, || Ok(bed.stats(1)?.sessions.owner > 0))?;
    bed.cli(1)?.run(&["drain"])?;

    bed.forward_via(2)?;
    sleep(A_WHILE);
    nothing_dropped(&bed, &before)?;
    bed.conservation_everywhere()?;
    bed.cli(1)?.run(&["leave"])?;
    ensure!(bed.ended(1)?.success(), "a node that leaves ends with 0");
    sleep(A_WHILE);
    bed.start_node(1, &[])?;
    bed.wait_members(3)?;
    bed.forward_via(1)?;
    sleep(A_WHILE);
    let tally = traffic.end()?;
    eprintln!("{tally:?}");
    tally.nothing_was_lost()?;
    bed.finish()
}

#[test]
fn a_node_that_cannot_hand_over_says_why() -> Result<()> {
    let mut bed = Bed::new("drain-alone", Shape::default())?;
    bed.start_node(1, &["--join-grace-ms", "100"])?;
    let refused = bed.cli(1)?.run(&["drain"]).unwrap_err();
    ensure!(format!("{refused:#}").contains("no live peer takes flows"), "{refused:#}");
    bed.cli(1)?.run(&["aggregation", "off"])?;
    let refused = bed.cli(1)?.run(&["leave"]).unwrap_err();
    ensure!(format!("{refused:#}").contains("aggregation is off"), "{refused:#}");
    bed.finish()
}
