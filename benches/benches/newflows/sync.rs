//! Backups: the highest rate of new sessions at which none is missing, what they cost, how far behind they are.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use samepath_benches::device::{Cluster, Conntrackd, Device, NodePlan, Peer};
use samepath_benches::generator::{Generator, Kind, Pace, Stream};
use samepath_benches::report::Summary;
use samepath_benches::rig::{Links, NODES, Rig};
use serde::Serialize;

use crate::Bench;

/// How long after the last new session its backup may be missing.
const GRACE: Duration = Duration::from_millis(500);

/// Backups that may be missing for a rate to count as free of loss.
const MISSING: f64 = 0.001;

/// A rate at which not this many times as many sessions are made as at the one before is beyond what can be made.
const GROWTH: f64 = 1.03;

/// So many such rates end the search: one may have been disturbed.
const IN_VAIN: u32 = 2;

/// Where the lag is measured if the highest rate is not known, sessions per second.
const LAG_RATE: f64 = 50_000.0;

/// Time between two looks at the lag.
const LOOK: Duration = Duration::from_millis(5);

/// New sessions at one rate.
#[derive(Clone, Debug, Serialize)]
struct Run {
    what: &'static str,
    repetition: u32,
    rate: f64,
    /// Sessions the device made, and per second.
    created: u64,
    made_per_s: f64,
    /// Backups each other node held after the grace.
    backups: u64,
    /// CPU time per session, ns.
    sender_ns: f64,
    receiver_ns: f64,
}

impl Run {
    fn is_loss_free(&self) -> bool {
        self.backups as f64 >= self.created as f64 * (1.0 - MISSING)
    }

    fn print(&self) {
        println!(
            "{:<13} {:>7.0} sessions/s: {:.0} made, {} created, {} backed up in time, {:.0} + {:.0} ns of CPU per session{}",
            self.what,
            self.rate,
            self.made_per_s,
            self.created,
            self.backups,
            self.sender_ns,
            self.receiver_ns,
            if self.is_loss_free() { "" } else { "  (behind)" }
        );
    }
}

/// The highest rate without a missing backup: for samepath with two backups and with one, for conntrackd with one.
pub fn measure(bench: &mut Bench, repetition: u32) -> Result<()> {
    search(bench, "samepath", |rate, seconds| of_samepath(NODES, repetition, rate, seconds))?;
    search(bench, "samepath-pair", |rate, seconds| of_samepath(2, repetition, rate, seconds))?;
    search(bench, "conntrackd", |rate, seconds| of_conntrackd(repetition, rate, seconds))
}

/// Rates upwards until backups fall behind or no more sessions are made, then between the last good rate and the
/// first bad one.
fn search(bench: &mut Bench, what: &str, run: impl Fn(f64, f64) -> Result<Run>) -> Result<()> {
    let seconds = bench.arguments.seconds;
    let mut tried = |rate: f64| -> Result<Run> {
        let run = run(rate, seconds)?;
        run.print();
        bench.report.measurement(&run)?;
        Ok(run)
    };
    let (mut best, mut behind): (Option<Run>, Option<f64>) = (None, None);
    let mut in_vain = 0;
    for rate in bench.arguments.rates.clone() {
        let run = tried(rate)?;
        if !run.is_loss_free() {
            behind = Some(rate);
            break;
        }
        let grew = best.as_ref().is_none_or(|best| run.made_per_s > best.made_per_s * GROWTH);
        in_vain = if grew { 0 } else { in_vain + 1 };
        best = Some(match best {
            Some(best) => better(best, run),
            None => run,
        });
        if in_vain == IN_VAIN {
            break;
        }
    }
    let mut best = best
        .with_context(|| format!("{what} loses backups at the lowest rate: give a lower one in --rates"))?;
    for _ in 0..if behind.is_some() { bench.arguments.halvings } else { 0 } {
        let rate = (best.rate + behind.unwrap_or(best.rate)) / 2.0;
        let run = tried(rate)?;
        if run.is_loss_free() {
            best = better(best, run);
        } else {
            behind = Some(rate);
        }
    }
    bench.note(&format!("loss_free_per_s/{what}"), best.made_per_s);
    // Each at the rate that suits it best: the more per second, the less each session costs.
    bench.note(&format!("cpu_ns_per_session/{what}/sender"), best.sender_ns);
    bench.note(&format!("cpu_ns_per_session/{what}/receiver"), best.receiver_ns);
    Ok(())
}

/// The one in which more sessions were made; the search goes on from the later rate.
fn better(best: Run, run: Run) -> Run {
    if best.made_per_s >= run.made_per_s { Run { rate: run.rate, ..best } } else { run }
}

/// Flows of which each packet is the first, from a generator that the nodes on its core push aside.
fn new_sessions(rig: &Rig, rate: f64, seconds: f64) -> Result<Stream> {
    let way = rig.into_ingress()?;
    Ok(Stream { rate, seconds, pace: Pace::Idling, ..Stream::fresh(Kind::Udp, 0, &way) })
}

/// Sends first packets; how many sessions came of them, and when they ended.
fn make_sessions(rig: &Rig, device: &Device, rate: f64, seconds: f64) -> Result<(u64, Instant)> {
    Generator::send(rig, new_sessions(rig, rate, seconds)?)?;
    let ended = Instant::now();
    Ok((device.sessions(rig)?, ended))
}

/// Backups that the other nodes of `nodes` hold, the fewest.
fn backups(cluster: &Cluster, nodes: u8) -> Result<u64> {
    let mut fewest = u64::MAX;
    for number in 2..=nodes {
        fewest = fewest.min(cluster.stats(number)?.sessions.backup);
    }
    Ok(fewest)
}

fn of_samepath(nodes: u8, repetition: u32, rate: f64, seconds: f64) -> Result<Run> {
    let rig = Rig::new("newflows", Links::Native)?;
    let plan = NodePlan::new((rate * seconds) as u64).in_cluster_of(nodes);
    let mut device = Device::start_node(&rig, Peer::Samepath, &plan)?;
    let before = cpu(&mut device)?;
    let (created, ended) = make_sessions(&rig, &device, rate, seconds)?;
    let cluster = device.cluster_mut()?;
    while ended.elapsed() < GRACE && backups(cluster, nodes)? < created {
        sleep(LOOK);
    }
    let backups = backups(cluster, nodes)?;
    let after = cpu(&mut device)?;
    device.stop(&rig)?;
    let per_session = |ns: u64| ns as f64 / created.max(1) as f64;
    Ok(Run {
        what: if nodes == 2 { "samepath-pair" } else { "samepath" },
        repetition,
        rate,
        created,
        made_per_s: created as f64 / seconds,
        backups,
        sender_ns: per_session(after.0 - before.0),
        receiver_ns: per_session(after.1 - before.1),
    })
}

/// CPU time spent on backups: of the sender's threads that are not workers (a worker's part is in what an
/// insertion costs), and of everything at a receiver.
fn cpu(device: &mut Device) -> Result<(u64, u64)> {
    let cluster = device.cluster_mut()?;
    let (_, sender) = cluster.cpu_ns(1)?;
    let (workers, others) = cluster.cpu_ns(2)?;
    Ok((sender, workers + others))
}

fn of_conntrackd(repetition: u32, rate: f64, seconds: f64) -> Result<Run> {
    let rig = Rig::new("newflows", Links::Native)?;
    let device = Device::start(&rig, Peer::Conntrack, 0)?;
    let pair = Conntrackd::start(&rig)?;
    let before = pair.cpu_ns()?;
    let (created, ended) = make_sessions(&rig, &device, rate, seconds)?;
    while ended.elapsed() < GRACE && pair.external_sessions()? < created {
        sleep(10 * LOOK);
    }
    let backups = pair.external_sessions()?;
    let after = pair.cpu_ns()?;
    pair.stop()?;
    device.stop(&rig)?;
    let per_session = |ns: u64| ns as f64 / created.max(1) as f64;
    Ok(Run {
        what: "conntrackd",
        repetition,
        rate,
        created,
        made_per_s: created as f64 / seconds,
        backups,
        sender_ns: per_session(after.0 - before.0),
        receiver_ns: per_session(after.1 - before.1),
    })
}

/// How far behind backups are at half of the rate that was free of loss.
pub fn lag(bench: &mut Bench, repetition: u32) -> Result<()> {
    let rate = bench.median("loss_free_per_s/samepath").map_or(LAG_RATE, |highest| highest / 2.0);
    let seconds = bench.arguments.seconds;
    let rig = Rig::new("newflows", Links::Native)?;
    let plan = NodePlan::new((rate * seconds) as u64).in_cluster_of(NODES);
    let device = Device::start_node(&rig, Peer::Samepath, &plan)?;
    let generator = Generator::start(&rig, new_sessions(&rig, rate, seconds)?)?;
    let began = Instant::now();
    let mut lags = Vec::new();
    while began.elapsed().as_secs_f64() < seconds - 0.2 {
        if let Some(cluster) = device.cluster() {
            let furthest = cluster.stats(1)?.replication.values().map(|peer| peer.lag_ms).max();
            lags.push(furthest.unwrap_or(0) as f64);
        }
        sleep(LOOK);
    }
    generator.finish()?;
    device.stop(&rig)?;
    lags.sort_by(f64::total_cmp);
    let at = |share: f64| lags[((lags.len() - 1) as f64 * share).round() as usize];
    let (median, late) = (at(0.5), at(0.99));
    println!("lag at {rate:.0} sessions/s: p50 {median} ms, p99 {late} ms ({} looks)", lags.len());
    bench.note("lag_p50_ms", median);
    bench.note("lag_p99_ms", late);
    let entry = serde_json::json!({"part": "lag", "repetition": repetition, "rate": rate,
        "lag": Summary::of(lags)});
    bench.report.measurement(entry)
}
