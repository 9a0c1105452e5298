//! `samepath trace`: a connection over the split path as one story, beside what a capture of the cluster link has.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use samepath_tests::bed::plan::Family;
use samepath_tests::bed::{Bed, Forwarder, SETTLE_SOON, Service, Shape};
use samepath_tests::capture::Frame;
use samepath_tests::{artifacts, wait};
use serde::Deserialize;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

/// Packets that are traced: the handshake, the request and what follows.
const PACKETS: usize = 6;

/// The parts of a trace that are compared.
#[derive(Debug, Deserialize)]
struct Trace {
    packets: Vec<Packet>,
    missed: Vec<Value>,
    silent: Vec<Value>,
}

#[derive(Debug, Deserialize)]
struct Packet {
    number: usize,
    at_us: u64,
    says: String,
    complete: bool,
    flow: Value,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    node: u16,
    told: String,
    seen: Value,
}

impl Packet {
    /// Node and verdict of each step.
    fn way(&self) -> Vec<(u16, &str)> {
        self.steps
            .iter()
            .map(|step| (step.node, step.seen["said"]["verdict"].as_str().unwrap_or("")))
            .collect()
    }

    /// Interface by which it leaves in the end.
    fn out(&self) -> &Value {
        self.steps.last().map_or(&Value::Null, |step| &step.seen["out"]["interface"])
    }

    fn crossings(&self) -> usize {
        self.steps.iter().filter(|step| step.seen["tunnel"].is_object()).count()
    }
}

/// Starts `samepath` on node 1; returns when all three nodes look on.
fn start(bed: &Bed, name: &str, arguments: &[&str]) -> Result<Service> {
    bed.start_client(name, arguments, "looking on nodes 1, 2, 3;")
}

#[test]
fn a_connection_over_the_split_path_is_one_story() -> Result<()> {
    let mut bed = Bed::new("trace", Shape { forwarder: Forwarder::Xdp, ..Shape::default() })?;
    // The reply to the SYN finds no backup, however soon it comes.
    bed.start_nodes(&[&SETTLE_SOON[..], &["--backup", "established"]].concat())?;
    bed.wait_settled()?;
    let _web = bed.start_web()?;
    let ends = bed.director_on(2, Family::V4)?;
    let (client, server) = (ends.0.to_string(), ends.1.to_string());
    wait::until_true("XDP redirects", SOON, || Ok(bed.status(1)?["forwarder"] == "xdp"))?;

    let cluster = bed.capture_cluster("trace-cluster")?;
    let count = PACKETS.to_string();
    let filter = ["--src", &client, "--dst", &server, "--dport", "80"];
    let asked = [&["trace", "-n", &count, "--timeout", "60", "--json"][..], &filter].concat();
    let mut tracing = start(&bed, "trace-json", &asked)?;
    ensure!(bed.status(1)?["forwarder"] == "worker", "nobody sees what the XDP program redirects");
    bed.fetch_small(ends, 1)?;
    let ended = tracing.wait(SOON)?;
    ensure!(ended.success(), "{ended}: {}", tracing.log_tail());
    let trace: Trace = serde_json::from_str(&tracing.output()).context(tracing.output())?;
    let frames = cluster.finish(&format!("geneve && ip.addr == {client} && tcp.port == 80"))?;
    check(&trace, &server, &frames)?;

    // In text, and each packet as soon as its end is known.
    let asked = [&["trace", "-n", "2", "--timeout", "60"][..], &filter].concat();
    let mut tracing = start(&bed, "trace-text", &asked)?;
    bed.fetch_small(ends, 1)?;
    ensure!(tracing.wait(SOON)?.success(), "{}", tracing.log_tail());
    let text = tracing.output();
    for part in [
        "asks the Director, node 2 (Query)",
        "goes back there (FirstPacket)",
        "node 3: arrives by outside",
        "goes to the Owner, node 1",
    ] {
        ensure!(text.contains(part), "`{part}` is missing:\n{text}");
    }
    wait::until_true("XDP redirects again", SOON, || Ok(bed.status(1)?["forwarder"] == "xdp"))?;

    forgotten_when_killed(&bed, &filter)?;
    silent_node_is_named(&mut bed, &filter)?;
    bed.finish()
}

fn check(trace: &Trace, server: &str, frames: &[Frame]) -> Result<()> {
    ensure!(trace.silent.is_empty() && trace.missed.is_empty(), "{:?} {:?}", trace.silent, trace.missed);
    ensure!(
        trace.packets.len() == PACKETS && trace.packets.iter().all(|packet| packet.complete),
        "{trace:#?}"
    );
    let mut at = 0;
    for (index, packet) in trace.packets.iter().enumerate() {
        ensure!(packet.number == index + 1 && packet.at_us >= at, "{trace:#?}");
        at = packet.at_us;
    }
    let [syn, syn_ack, ack, ..] = trace.packets.as_slice() else { unreachable!("there are {PACKETS}") };
    let first = [(1, "query"), (2, "first_packet"), (1, "forward")];
    ensure!(syn.says == "SYN" && syn.way() == first && syn.out() == "outside", "{syn:#?}");
    let states = |index: usize, when: &str| syn.steps[index].seen[when].clone();
    ensure!(states(0, "before").is_null() && states(1, "after")["role"] == "claim", "{syn:#?}");
    ensure!(states(2, "after")["role"] == "owner" && states(2, "after")["generation"] == 1, "{syn:#?}");
    let reply = [(3, "query"), (2, "redirect"), (1, "forward")];
    ensure!(syn_ack.says == "SYN ACK" && syn_ack.flow["src"] == server, "{syn_ack:#?}");
    ensure!(syn_ack.way() == reply && syn_ack.out() == "inside", "{syn_ack:#?}");
    ensure!(syn_ack.steps[0].told.starts_with("arrives by outside, queue 0;"), "{syn_ack:#?}");
    ensure!(ack.says == "ACK" && ack.way() == [(1, "forward")], "{ack:#?}");
    // Later packets are established ones, which the fast path has otherwise.
    ensure!(trace.packets[3].says == "PSH ACK", "{trace:#?}");
    check_link(trace, frames)
}

/// What was traced crossed the cluster link just as often, and in the same order: each frame enters and leaves the switch.
fn check_link(trace: &Trace, frames: &[Frame]) -> Result<()> {
    let traced: usize = trace.packets.iter().map(Packet::crossings).sum();
    let first = frames.len().min(traced * 2);
    let kinds: Vec<&str> = trace
        .packets
        .iter()
        .flat_map(|packet| &packet.steps)
        .filter_map(|step| step.seen["tunnel"]["kind"].as_str())
        .collect();
    ensure!(traced >= 4 && kinds[..4] == ["query", "first_packet", "query", "redirect"], "{kinds:?}");
    ensure!(first == traced * 2, "{} frames on the link, {traced} crossings traced", frames.len());
    // Later packets of the connection, which were not asked for, cross too; those that were are the first.
    let syns =
        frames.iter().filter(|frame| frame.number("tcp.flags").is_ok_and(|flags| flags & 2 != 0)).count();
    let of_syns: usize = trace.packets[..2].iter().map(Packet::crossings).sum();
    ensure!(syns == of_syns * 2, "{syns} frames with SYN on the link, {of_syns} crossings traced");
    Ok(())
}

/// A trace whose program is killed ends on all nodes by itself.
fn forgotten_when_killed(bed: &Bed, filter: &[&str]) -> Result<()> {
    let mut tracing = start(bed, "trace-killed", &[&["trace"][..], filter].concat())?;
    tracing.kill()?;
    for node in 1..=3 {
        wait::until_true("nobody looks on", SOON, || Ok(bed.status(node)?["forwarder"] == "xdp"))?;
    }
    Ok(())
}

fn silent_node_is_named(bed: &mut Bed, filter: &[&str]) -> Result<()> {
    bed.signal_node(3, Signal::SIGSTOP)?;
    let arguments = [&["trace", "--timeout", "3", "--json"][..], filter].concat();
    let mut command = std::process::Command::new(artifacts::samepath()?);
    command.args(arguments).arg("--control-socket").arg(bed.socket(1));
    let mut tracing = bed.start_service("trace-silent", &mut command)?;
    let ended = tracing.wait(SOON);
    bed.signal_node(3, Signal::SIGCONT)?;
    ensure!(ended?.code() == Some(5), "{}", tracing.log_tail());
    let trace: Trace = serde_json::from_str(&tracing.output()).context(tracing.output())?;
    ensure!(trace.silent.len() == 1 && trace.silent[0]["node"] == 3, "{trace:?}");
    bed.wait_members(3)
}
