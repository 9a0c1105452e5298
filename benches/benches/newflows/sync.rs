//! Backups: the highest rate of new sessions at which none is missing, what they cost, how far behind they are.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use samepath_benches::device::{Cluster, Conntrackd, Device, NodePlan, Peer};
use samepath_benches::generator::{Generator, Kind, Stream};
use samepath_benches::report::Summary;
use samepath_benches::rig::{Links, NODES, Rig};
use serde::Serialize;

use crate::Bench;

/// How long after the last new session its backup may be missing.
const GRACE: Duration = Duration::from_millis(500);

/// Backups that may be missing for a rate to count as free of loss.
const MISSING: f64 = 0.001;

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
    /// Sessions the device made.
    created: u64,
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
            "{:<12} {:>7.0} sessions/s: {} created, {} backed up in time, {:.0} + {:.0} ns of CPU per session{}",
            self.what,
            self.rate,
            self.created,
            self.backups,
            self.sender_ns,
            self.receiver_ns,
            if self.is_loss_free() { "" } else { "  (behind)" }
        );
    }
}

/// Rates upwards until backups fall behind, for samepath with two backups and for conntrackd with one.
pub fn measure(bench: &mut Bench, repetition: u32) -> Result<()> {
    climb(bench, "samepath", |rate, seconds| of_samepath(repetition, rate, seconds))?;
    climb(bench, "conntrackd", |rate, seconds| of_conntrackd(repetition, rate, seconds))
}

fn climb(bench: &mut Bench, what: &str, run: impl Fn(f64, f64) -> Result<Run>) -> Result<()> {
    let mut best: Option<Run> = None;
    for rate in bench.arguments.rates.clone() {
        let run = run(rate, bench.arguments.seconds)?;
        run.print();
        bench.report.measurement(&run)?;
        if !run.is_loss_free() {
            break;
        }
        best = Some(run);
    }
    let best = best
        .with_context(|| format!("{what} loses backups at the lowest rate: give a lower one in --rates"))?;
    bench.note(&format!("loss_free_per_s/{what}"), best.created as f64 / bench.arguments.seconds);
    // Each at the rate that suits it best: the more per second, the less each session costs.
    bench.note(&format!("cpu_ns_per_session/{what}/sender"), best.sender_ns);
    bench.note(&format!("cpu_ns_per_session/{what}/receiver"), best.receiver_ns);
    Ok(())
}

fn new_sessions(rig: &Rig, rate: f64, seconds: f64) -> Result<Stream> {
    Ok(Stream { rate, seconds, ..Stream::fresh(Kind::Udp, 0, &rig.into_ingress()?).gently() })
}

/// Backups that the other nodes hold, the fewest.
fn backups(cluster: &Cluster) -> Result<u64> {
    let mut fewest = u64::MAX;
    for number in 2..=NODES {
        fewest = fewest.min(cluster.stats(number)?.sessions.backup);
    }
    Ok(fewest)
}

fn of_samepath(repetition: u32, rate: f64, seconds: f64) -> Result<Run> {
    let rig = Rig::new("newflows", Links::Native)?;
    let plan = NodePlan::new((rate * seconds) as u64).in_cluster_of(NODES);
    let mut device = Device::start_node(&rig, Peer::Samepath, &plan)?;
    let before = cpu(&mut device)?;
    Generator::send(&rig, new_sessions(&rig, rate, seconds)?)?;
    let ended = Instant::now();
    let created = device.sessions(&rig)?;
    let cluster = device.cluster_mut()?;
    while ended.elapsed() < GRACE && backups(cluster)? < created {
        sleep(LOOK);
    }
    let backups = backups(cluster)?;
    let after = cpu(&mut device)?;
    device.stop(&rig)?;
    let per_session = |ns: u64| ns as f64 / created.max(1) as f64;
    Ok(Run {
        what: "samepath",
        repetition,
        rate,
        created,
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
    Generator::send(&rig, new_sessions(&rig, rate, seconds)?)?;
    let ended = Instant::now();
    let created = device.sessions(&rig)?;
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
