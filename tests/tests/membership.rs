//! Nodes come, go, drain and stall while traffic flows.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use samepath_tests::bed::plan::{self, Family};
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::scenario::etcd;
use samepath_tests::scenario::iperf::Iperf;
use samepath_tests::scenario::steady::{Conversation, Steady};
use samepath_tests::stopped::Stopped;
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
    let iperf = Iperf::begin(&bed, (plan::client(Family::V4, 0), plan::server(Family::V4, 0)), "40M")?;
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
    let transfer = iperf.end()?;
    eprintln!("{tally:?} {transfer:?}");
    tally.nothing_was_lost()?;
    ensure!(transfer.bytes > 1_000_000 && transfer.idle == 0, "{transfer:?}");
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

/// What `status` of a node says, though its exit code be 5.
fn status(bed: &Bed, number: u8) -> Result<Value> {
    bed.cli(number)?.ask("status")
}

/// Whether one node has another in its view.
fn sees(bed: &Bed, number: u8, other: u8) -> Result<bool> {
    let members = bed.members(number)?;
    let rows = members["members"].as_array().context("no members")?;
    Ok(rows.iter().any(|row| row["node"] == other && row["live"] == true))
}

#[test]
fn a_node_without_its_data_link_gives_its_flows_away_and_takes_them_again() -> Result<()> {
    let mut bed = Bed::new("data-link", Shape::default())?;
    bed.start_nodes(&[])?;
    let traffic = Steady::begin(&bed, Family::V4)?;
    sleep(A_WHILE);
    // Routers know first, as they would; what comes back goes to node 1 still, which owns the flows.
    bed.forward_via(2)?;
    bed.router_a().ip("link set n1 down")?;
    wait::until_true("node 1 owns nothing and says why", SOON, || {
        let status = status(&bed, 1)?;
        let why = status["obstacles"].to_string();
        Ok(status["ready"] == false
            && why.contains("inside is without carrier")
            && bed.stats(1)?.sessions.owner == 0)
    })?;
    ensure!(status(&bed, 1)?["interfaces"][0]["up"] == false);
    sleep(A_WHILE);
    let stats = bed.stats(1)?;
    ensure!(stats.sessions.owner == 0 && stats.sessions.handed_over > 10, "{:?}", stats.sessions);
    bed.router_a().ip("link set n1 up")?;
    wait::until_true("node 1 is ready again", SOON, || Ok(status(&bed, 1)?["ready"] == true))?;
    let tally = traffic.end()?;
    eprintln!("{tally:?}");
    tally.nothing_broke()?;
    bed.finish()
}

#[test]
fn a_node_whose_thread_stands_still_leaves_the_view_and_comes_back() -> Result<()> {
    let mut bed = Bed::new("stall", Shape { queues: 2, workers: 2, ..Shape::default() })?;
    bed.start_nodes(&[])?;
    // Not the first worker: that one says Hello, and would be missed anyway. The first thread is control.
    for thread in ["sp-worker-1", "samepath"] {
        let stopped = Stopped::thread(bed.process(1)?, thread)?;
        for peer in [2, 3] {
            wait::until_true(&format!("node {peer} misses node 1, {thread} stopped"), SOON, || {
                Ok(!sees(&bed, peer, 1)?)
            })?;
        }
        ensure!(sees(&bed, 2, 3)? && sees(&bed, 3, 2)?, "the others go on");
        drop(stopped);
        bed.wait_members(3)?;
    }
    bed.finish()
}

#[test]
fn a_minority_keeps_its_flows_and_begins_none() -> Result<()> {
    let mut bed = Bed::new("quorum", Shape::default())?;
    bed.start_nodes(&["--quorum", "2"])?;
    bed.return_via(1)?;
    Conversation::serve(&bed, Family::V4)?;
    let mut known = Conversation::open(&bed, Family::V4, 1)?;
    // Established, and so owned by node 1 whatever its Director.
    known.ask()?;
    bed.switch().ip("link set n1 down")?;
    wait::until_true("node 1 knows that it is alone", SOON, || {
        Ok(status(&bed, 1)?["obstacles"].to_string().contains("--quorum"))
    })?;
    known.ask().context("a known flow goes on")?;
    ensure!(status(&bed, 2)?["ready"] == true, "the majority goes on");
    let before = bed.stats(1)?.dropped_for("no_quorum");
    let refused = std::thread::scope(|scope| {
        let opening = scope.spawn(|| Conversation::open(&bed, Family::V4, 2));
        let counted = wait::until_true("node 1 refuses new flows", SOON, || {
            Ok(bed.stats(1)?.dropped_for("no_quorum") > before)
        });
        bed.switch().ip("link set n1 up")?;
        counted?;
        opening.join().map_err(|_| anyhow::anyhow!("the client panicked"))
    })?;
    refused.context("the SYN is sent again, and begins the flow once there is a quorum")?.ask()?;
    known.ask()?;
    bed.wait_members(3)?;
    bed.finish()
}

#[test]
fn detection_takes_as_long_as_asked_for() -> Result<()> {
    let mut bed = Bed::new("detection", Shape::default())?;
    bed.start_nodes(&["--hello-interval-ms", "20", "--peer-timeout-ms", "100"])?;
    let epoch = |bed: &Bed, node: u8| -> Result<Value> { Ok(bed.members(node)?["epoch"].clone()) };
    wait::until_true("all nodes have one epoch", SOON, || {
        let first = epoch(&bed, 1)?;
        Ok(first == epoch(&bed, 2)? && first == epoch(&bed, 3)?)
    })?;
    let killed = Instant::now();
    bed.kill_node(2)?;
    wait::until_true("node 1 misses node 2", SOON, || Ok(!sees(&bed, 1, 2)?))?;
    let members = bed.members(1)?;
    let detected = members["members"][1]["detected_ms"].as_u64().context("no detection time")?;
    eprintln!("seen after {:?}, silent for {detected} ms", killed.elapsed());
    // Below 100 if SWIM was of the same opinion: then silence of three intervals is enough.
    ensure!((60..300).contains(&detected), "{members}");
    bed.wait_members(2)?;
    ensure!(epoch(&bed, 1)? == epoch(&bed, 3)?, "one epoch again");
    bed.finish()
}

#[test]
fn with_etcd_members_are_written_down_and_its_absence_changes_nothing() -> Result<()> {
    let mut bed = Bed::new("etcd", Shape::default())?;
    etcd::prepare(&bed)?;
    let mut server = etcd::start(&bed)?;
    let membership = etcd::membership();
    bed.start_nodes(&["--membership", &membership])?;
    wait::until_true("etcd answers all nodes", SOON, || etcd::all_say(&bed, "etcd"))?;
    bed.wait_members(3)?;
    let traffic = Steady::begin(&bed, Family::V4)?;
    sleep(A_WHILE);

    server.kill()?;
    wait::until_true("all nodes miss etcd", SOON, || etcd::all_say(&bed, "etcd (away)"))?;
    let epoch = bed.members(1)?["epoch"].clone();
    // Longer than any lease.
    sleep(Duration::from_secs(6));
    bed.wait_members(3)?;
    ensure!(bed.members(1)?["epoch"] == epoch, "etcd's absence changed the view");
    let _server = etcd::start(&bed)?;
    wait::until_true("etcd answers again", SOON, || etcd::all_say(&bed, "etcd"))?;
    sleep(A_WHILE);
    bed.wait_members(3)?;
    let tally = traffic.end()?;
    eprintln!("{tally:?}");
    tally.nothing_was_lost()?;

    bed.kill_node(2)?;
    bed.wait_members(2)?;
    bed.start_node(2, &["--membership", &membership])?;
    bed.wait_members(3)?;
    bed.finish()
}
