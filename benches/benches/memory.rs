//! Memory per session, beside nf_conntrack. Topology and method: `benches/README.md`.

use std::fs;

use anyhow::{Context, Result};
use clap::Parser;
use samepath_benches::device::{Device, NodePlan, Peer, Traffic};
use samepath_benches::report::{Goal, Report, Summary, Table};
use samepath_benches::rig::{Links, Rig, Setting};
use serde_json::json;

/// How the bench is called.
#[derive(Parser, Debug)]
struct Arguments {
    /// Sessions.
    #[arg(long, value_delimiter = ',', default_value = "1000000,8000000")]
    sessions: Vec<u64>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

const GOALS: &[(&str, Goal)] = &[
    ("bytes_per_session/1m", Goal::AtMost(128.0)),
    ("bytes_per_session/8m", Goal::AtMost(128.0)),
    ("bytes_per_session_full/1m", Goal::AtMost(128.0)),
    ("bytes_per_session_full/8m", Goal::AtMost(128.0)),
];

/// Bytes per session of so many sessions.
type Measure = fn(u64) -> Result<f64>;

/// Name, metric, and what measures it.
const MEASURED: [(&str, &str, Measure); 3] = [
    ("samepath, room for 5/4", "bytes_per_session", with_room_to_spare),
    ("samepath, all room used", "bytes_per_session_full", full),
    ("nf_conntrack", "nf_conntrack_bytes_per_session", of_conntrack),
];

/// The fewest sessions a node may have room for.
const LEAST_ROOM: u64 = 64;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let most = arguments.sessions.iter().copied().max().unwrap_or(0);
    let _most = Setting::at_least("net/netfilter/nf_conntrack_max", most * 5 / 4)?;
    let mut report = Report::new("memory")?;
    let mut table = Table::new(&["device", "sessions", "bytes per session"]);
    for &sessions in &arguments.sessions {
        let label = label(sessions);
        for (name, metric, measure) in MEASURED {
            let bytes = measure(sessions)?;
            println!("{name}: {bytes:.1} bytes per session at {sessions}");
            table.row([name.into(), sessions.to_string(), format!("{bytes:.1}")]);
            report.metric(&format!("{metric}/{label}"), &Summary::of([bytes]).unwrap_or_default());
            report.measurement(json!({"device": name, "sessions": sessions, "bytes": bytes}))?;
        }
    }
    report.table(table);
    report.print_metrics(GOALS);
    report.write().map(drop)
}

fn label(sessions: u64) -> String {
    match sessions {
        sessions if sessions >= 1_000_000 => format!("{}m", sessions / 1_000_000),
        sessions => format!("{}k", sessions / 1_000),
    }
}

/// Resident memory for each of `sessions` sessions of a node that has room for a quarter more.
fn with_room_to_spare(sessions: u64) -> Result<f64> {
    of_samepath(&NodePlan::new(sessions), sessions)
}

/// The same of a node that is full.
fn full(sessions: u64) -> Result<f64> {
    of_samepath(&NodePlan::new(sessions).with_room_for(sessions), sessions)
}

/// Above a node that holds none and has no room.
fn of_samepath(plan: &NodePlan, sessions: u64) -> Result<f64> {
    let (empty, _) = resident(&NodePlan::new(0).with_room_for(LEAST_ROOM), 0)?;
    let (bytes, held) = resident(plan, sessions)?;
    Ok((bytes as f64 - empty as f64) / held as f64)
}

/// Resident bytes of a node with so many sessions, and how many it holds.
fn resident(plan: &NodePlan, sessions: u64) -> Result<(u64, u64)> {
    let rig = Rig::new("memory", Links::Native)?;
    let mut device = Device::start_node(&rig, Peer::SamepathAlone, plan)?;
    if sessions > 0 {
        device.begin_flows(&rig, Traffic::Udp, sessions)?;
    }
    let process = device.cluster_mut()?.device_mut().service().pid();
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let bytes = kibibytes(&status, "VmRSS:")? + kibibytes(&status, "HugetlbPages:")?;
    let held = device.sessions(&rig)?;
    device.stop(&rig)?;
    Ok((bytes * 1024, held))
}

/// What the kernel's slabs grow by for one entry, and its share of the hash table.
fn of_conntrack(sessions: u64) -> Result<f64> {
    // As many as entries, which is the kernel's own choice.
    let _buckets = Setting::at_least("net/netfilter/nf_conntrack_buckets", sessions)?;
    let rig = Rig::new("memory", Links::Native)?;
    let device = Device::start(&rig, Peer::Conntrack, sessions)?;
    let before = slab_bytes()?;
    device.begin_flows(&rig, Traffic::Udp, sessions)?;
    let grown = slab_bytes()?.saturating_sub(before);
    let held = device.sessions(&rig)?;
    let buckets: u64 = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_buckets")?.trim().parse()?;
    device.stop(&rig)?;
    Ok((grown + buckets * 8) as f64 / held as f64)
}

fn slab_bytes() -> Result<u64> {
    Ok(kibibytes(&fs::read_to_string("/proc/meminfo")?, "Slab:")? * 1024)
}

/// A line `NAME   123 kB`.
fn kibibytes(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.with_context(|| format!("no {name}"))?.parse().context(name.to_owned())
}
