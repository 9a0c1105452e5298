//! The Owner of many sessions dies: how long until the others serve them all.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use samepath_benches::device::{Cluster, Conntrackd, Device, NodePlan, Peer, Traffic};
use samepath_benches::generator::{Generator, Kind, Stream};
use samepath_benches::rig::{Links, NODES, Rig};
use samepath_tests::{link, wait};
use serde_json::json;

use crate::Bench;

/// Silence that means death.
const PEER_TIMEOUT_MS: u32 = 1000;

/// Packets per second into the surviving node while the Owner dies: each flow is met about once per second.
const RATE: f64 = 200_000.0;

/// How long it is watched.
const SECONDS: f64 = 6.0;

/// The surviving node forwards all of a slice of this length again: the takeover is over.
const SLICE: Duration = Duration::from_millis(10);

/// A backup that learns nothing for this long has learnt what it will.
const QUIET: Duration = Duration::from_secs(2);

/// This share of what is offered counts as all of it.
const ALL: f64 = 0.9;

/// samepath, then conntrackd.
pub fn measure(bench: &mut Bench, repetition: u32) -> Result<()> {
    let sessions = bench.arguments.takeover;
    let (taken, outage) = of_samepath(sessions)?;
    println!(
        "samepath: {sessions} sessions served {taken:.1} ms after the view changed, outage {outage:.0} ms in all"
    );
    bench.note("takeover_ms/samepath", taken);
    bench.note("outage_ms/samepath", outage);
    let commit = of_conntrackd(sessions)?;
    println!("conntrackd: {sessions} sessions committed in {commit:.0} ms");
    bench.note("takeover_ms/conntrackd", commit);
    bench.report.measurement(json!({"part": "takeover", "repetition": repetition, "sessions": sessions,
        "samepath_ms": taken, "samepath_outage_ms": outage, "conntrackd_commit_ms": commit}))
}

/// Milliseconds from the change of the view to full service, and from the death to full service.
fn of_samepath(sessions: u64) -> Result<(f64, f64)> {
    let rig = Rig::new("newflows", Links::Native)?;
    let plan = NodePlan::new(sessions).in_cluster_of(NODES).with_peer_timeout(PEER_TIMEOUT_MS);
    let mut device = Device::start_node(&rig, Peer::Samepath, &plan)?;
    let cluster = device.cluster_mut()?;
    cluster.open_at(&rig, 1, Traffic::Udp, 0, sessions)?;
    let way = cluster.way_into(&rig, 2)?;
    let packets = Stream { rate: RATE, seconds: SECONDS, ..Stream::steady(Kind::Udp, sessions, &way) };
    let generator = Generator::start(&rig, packets)?;
    sleep(Duration::from_secs(1));
    cluster.kill_device()?;
    let died = Instant::now();
    let view_changed = wait::until("the death is noticed", Duration::from_secs(5), || {
        let answer: serde_json::Value = cluster.cli(2).ask("status")?;
        let members = answer["members"].as_array().context("no members in the answer")?.len();
        Ok((members < usize::from(NODES)).then(Instant::now))
    })?;
    let served = wait_served(cluster)?;
    generator.finish()?;
    device.stop(&rig)?;
    let ms = |span: Duration| span.as_secs_f64() * 1e3;
    // Service may be complete before the status, asked every few milliseconds, says so.
    Ok((ms(served.saturating_duration_since(view_changed)), ms(served - died)))
}

/// The beginning of the first slice in which node 2 forwards all it is offered.
fn wait_served(cluster: &Cluster) -> Result<Instant> {
    let forwarded = || Ok::<u64, anyhow::Error>(link::counters(cluster.namespace(2), "outside")?.rx_dropped);
    let offered = || Ok::<u64, anyhow::Error>(link::counters(cluster.namespace(2), "inside")?.rx_packets);
    loop {
        let began = Instant::now();
        let (sent, arrived) = (forwarded()?, offered()?);
        sleep(SLICE);
        let (sent, arrived) = (forwarded()? - sent, offered()? - arrived);
        if arrived > 0 && sent as f64 >= ALL * arrived as f64 {
            return Ok(began);
        }
        anyhow::ensure!(arrived > 0, "the traffic ended before the sessions were served");
    }
}

/// Waits until the backup knows all sessions, or no more than before for a while: it may lose some, which is in
/// its favour when the rest is committed. How many it knows.
fn wait_known(pair: &Conntrackd, sessions: u64) -> Result<u64> {
    let mut known = pair.external_sessions()?;
    loop {
        sleep(QUIET);
        let now = pair.external_sessions()?;
        if now >= sessions * 999 / 1000 || now <= known {
            anyhow::ensure!(
                now >= sessions * 9 / 10,
                "conntrackd's backup knows {now} of {sessions} sessions"
            );
            return Ok(now.min(sessions));
        }
        known = now;
    }
}

fn of_conntrackd(sessions: u64) -> Result<f64> {
    let rig = Rig::new("newflows", Links::Native)?;
    let device = Device::start(&rig, Peer::Conntrack, 0)?;
    let pair = Conntrackd::start(&rig)?;
    let way = rig.into_ingress()?;
    // Slow enough that nothing is lost on the way.
    Generator::send(&rig, Stream::once(Kind::Udp, false, sessions, 50_000.0, &way))?;
    let known = wait_known(&pair, sessions)?;
    let commit = pair.commit(known)?;
    pair.stop()?;
    device.stop(&rig)?;
    Ok(commit.as_secs_f64() * 1e3)
}
