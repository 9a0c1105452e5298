//! What a node says to those who watch it: Prometheus and systemd.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use samepath::metrics;
use samepath::metrics::names::{Kind, METRICS};
use samepath_tests::bed::plan::{self, Family};
use samepath_tests::bed::{Bed, Shape, USER, Unit};
use samepath_tests::stopped::Stopped;
use samepath_tests::{program, wait};
use serde_json::Value;

/// How long something may take to become true.
const SOON: Duration = Duration::from_secs(20);

/// Where the node serves its metrics.
const SCRAPED: &str = "127.0.0.1:9684";

/// Samples by name with labels, as Prometheus would store them.
fn scrape(bed: &Bed) -> Result<BTreeMap<String, u64>> {
    let mut curl = bed.node_namespace(1).command("curl");
    let page = program::run(curl.args(["-sS", "--fail", &format!("http://{SCRAPED}/metrics")]))?;
    ensure!(page.ends_with("# EOF\n"), "the page is cut: {page}");
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').context("no value")?;
            // No labels may be written as empty braces.
            Ok((name.trim_end_matches("{}").to_owned(), value.parse().with_context(|| line.to_owned())?))
        })
        .collect()
}

/// The samples that `stats` asks for: name with label, and value.
fn expected(stats: &Value) -> Vec<(String, Kind, u64)> {
    let mut all = Vec::new();
    for metric in METRICS {
        let total = if metric.kind == Kind::Counter { "_total" } else { "" };
        for (label, value) in metrics::values(stats, metric) {
            let label = label.map(|label| format!("{}=\"{label}\"", metric.label.key())).unwrap_or_default();
            let value = value.as_u64().unwrap_or_default();
            let labels = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
            all.push((format!("{}{total}{labels}", metric.name), metric.kind, value));
        }
    }
    all
}

/// Text of an item of the archive unpacked into `folder`.
fn item(folder: &Path, name: &str) -> Result<String> {
    let top = std::fs::read_dir(folder)?.next().context("nothing in the archive")??.path();
    std::fs::read_to_string(top.join(name)).with_context(|| format!("no {name} in the archive"))
}

#[test]
fn a_sysdump_has_what_somebody_elsewhere_needs_and_no_secret() -> Result<()> {
    let mut bed = Bed::new("sysdump", Shape::default())?;
    bed.start_node(1, &["--join-grace-ms", "0"])?;
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("dump.tar.gz");
    let archive = archive.to_str().context("the folder has a strange name")?;
    let told = bed.cli(1)?.output(&["sysdump", "-w", archive])?;
    ensure!(told.contains("items"), "{told}");
    ensure!(std::fs::metadata(archive)?.permissions().mode() & 0o077 == 0, "others may read it");
    let unpacked = folder.path().join("unpacked");
    std::fs::create_dir(&unpacked)?;
    program::run(Command::new("tar").args(["-xzf", archive, "-C"]).arg(&unpacked))?;
    let status: Value = serde_json::from_str(&item(&unpacked, "node/status.json")?)?;
    ensure!(status["node"] == 1 && status["kind"] == "status", "{status}");
    ensure!(item(&unpacked, "configuration.txt")?.contains("--cluster-link cluster"));
    ensure!(item(&unpacked, "doctor.txt")?.contains("hints"));
    ensure!(item(&unpacked, "process/status")?.contains("samepath"));
    let index = item(&unpacked, "index.txt")?;
    ensure!(
        index.contains("node/stats.json: ") && index.contains("interface/inside/features.txt"),
        "{index}"
    );
    // Whatever is in the key files must be nowhere in the archive.
    let secret = std::fs::read(bed.keys().join("cluster.secret"))?;
    let everything = program::run(Command::new("tar").args(["-xzOf", archive]))?;
    let line = String::from_utf8_lossy(&secret).lines().next().unwrap_or_default().to_owned();
    ensure!(line.len() > 20 && !everything.contains(&line) && !everything.contains("PRIVATE KEY"));

    let again = bed.cli(1)?.output(&["sysdump", "-w", archive])?;
    ensure!(again.contains("cannot be written") && again.contains("--write"), "{again}");
    bed.finish_nodes()?;
    bed.remove()
}

#[test]
fn a_node_that_starts_and_leaves_raises_no_alarm() -> Result<()> {
    let mut bed = Bed::new("calm", Shape::default())?;
    bed.start_nodes(&[])?;
    bed.leave_node(3)?;
    let log = std::fs::read_to_string(bed.logs().join("node3.log"))?;
    ensure!(log.contains("samepath stopped"), "{log}");
    ensure!(!log.contains("a thread stands still"), "{log}");
    bed.finish()
}

#[test]
fn what_prometheus_scrapes_is_what_stats_says() -> Result<()> {
    let mut bed = Bed::new("metrics", Shape::default())?;
    bed.start_node(1, &["--metrics", SCRAPED, "--join-grace-ms", "0"])?;
    bed.forward_via(1)?;
    bed.return_via(1)?;
    let mut ping = bed.client().command("ping");
    ping.args(["-c", "20", "-i", "0.02", "-W", "2", "-I"]).arg(plan::client(Family::V4, 1).to_string());
    program::run(ping.arg(plan::server(Family::V4, 2).to_string()))?;

    let before: Value = bed.cli(1)?.json(&["stats"])?;
    let scraped = scrape(&bed)?;
    let after: Value = bed.cli(1)?.json(&["stats"])?;
    let (before, after) = (expected(&before), expected(&after));
    ensure!(before.len() > 80 && before.len() == after.len(), "{} and {} samples", before.len(), after.len());
    for ((name, kind, low), (_, _, high)) in before.iter().zip(&after) {
        let value = *scraped.get(name).with_context(|| format!("{name} is not served"))?;
        let between = *low <= value && value <= *high;
        ensure!(between || *kind == Kind::Gauge && low != high, "{name}: {low} <= {value} <= {high}");
    }
    ensure!(scraped["samepath_rx_packets_total"] >= 40, "{}", scraped["samepath_rx_packets_total"]);
    ensure!(scraped["samepath_ready"] == 1 && scraped["samepath_member_live{node=\"2\"}"] == 0);
    ensure!(scraped["samepath_interface_up{interface=\"inside\"}"] == 1);

    let mut curl = bed.node_namespace(1).command("curl");
    let elsewhere = program::run(curl.args(["-sS", &format!("http://{SCRAPED}/")]))?;
    ensure!(elsewhere.contains("/metrics"), "{elsewhere}");
    bed.finish_nodes()?;
    bed.remove()
}

/// Reads what came since the last look; true if `wanted` was in it.
fn told(manager: &UnixDatagram, wanted: &str) -> Result<bool> {
    let mut bytes = [0; 512];
    let mut found = false;
    while let Ok(length) = manager.recv(&mut bytes) {
        let text = std::str::from_utf8(&bytes[..length])?;
        found |= text.lines().any(|line| line == wanted);
    }
    Ok(found)
}

fn wait_told(manager: &UnixDatagram, wanted: &str) -> Result<()> {
    wait::until_true(&format!("systemd is told {wanted}"), SOON, || told(manager, wanted))
}

#[test]
fn systemd_is_told_and_its_watchdog_starves_when_a_worker_stands_still() -> Result<()> {
    let mut bed = Bed::new("notify", Shape { queues: 2, workers: 2, ..Shape::default() })?;
    let path = bed.runtime().join("notify.sock");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_nonblocking(true)?;
    // As systemd's own is.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))?;
    let socket = format!("NOTIFY_SOCKET={}", path.display());
    // systemd puts the number of the process there, which this shell becomes.
    let exec = ["env", &socket, "WATCHDOG_USEC=600000", "sh", "-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh"];
    bed.launch_node_under(1, &["--join-grace-ms", "0"], &exec)?;
    wait_told(&manager, "READY=1")?;
    bed.wait_ready(1)?;
    wait_told(&manager, "WATCHDOG=1")?;

    let stopped = Stopped::thread(bed.process(1)?, "sp-worker-1")?;
    let starves = Duration::from_millis(1_500);
    let mut last = Instant::now();
    wait::until_true("signs of life end", SOON, || {
        if told(&manager, "WATCHDOG=1")? {
            last = Instant::now();
        }
        Ok(last.elapsed() > starves)
    })?;
    drop(stopped);
    wait_told(&manager, "WATCHDOG=1")?;

    nix::sys::signal::kill(nix::unistd::Pid::from_raw(bed.process(1)? as i32), Signal::SIGHUP)?;
    let mut seen = String::new();
    wait::until_true("a reload begins and ends", SOON, || {
        let mut bytes = [0; 512];
        while let Ok(length) = manager.recv(&mut bytes) {
            seen.push_str(std::str::from_utf8(&bytes[..length])?);
            seen.push('\n');
        }
        let begun = seen.find("RELOADING=1");
        Ok(begun.is_some_and(|at| seen[at..].contains("MONOTONIC_USEC=") && seen[at..].contains("READY=1")))
    })?;
    bed.stop_node(1)?;
    wait_told(&manager, "STOPPING=1")?;
    bed.remove()
}

/// The capabilities of the packaged unit, as a set (include/uapi/linux/capability.h).
fn capabilities_of_the_unit() -> Result<u64> {
    const NUMBERS: [(&str, u32); 6] = [
        ("CAP_NET_ADMIN", 12),
        ("CAP_NET_RAW", 13),
        ("CAP_IPC_LOCK", 14),
        ("CAP_SYS_NICE", 23),
        ("CAP_PERFMON", 38),
        ("CAP_BPF", 39),
    ];
    Unit::read()?.list("AmbientCapabilities")?.iter().try_fold(0, |set, name| {
        let known = NUMBERS.iter().find(|(known, _)| known == name);
        Ok(set | 1 << known.with_context(|| format!("the unit has {name} too"))?.1)
    })
}

#[test]
fn nodes_run_as_an_ordinary_user_with_the_capabilities_of_the_unit_and_no_others() -> Result<()> {
    let mut bed = Bed::new("ordinary", Shape::default())?;
    bed.start_nodes(&[])?;
    let capabilities = capabilities_of_the_unit()?;
    for number in bed.running() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", bed.process(number)?))?;
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        for who in ["Uid:", "Gid:"] {
            let ids: Result<Vec<u32>, _> = line(who).split_whitespace().map(str::parse).collect();
            ensure!(ids.as_deref() == Ok(&[USER; 4]), "node {number}: {who} {ids:?}");
        }
        ensure!(line("Groups:").trim().is_empty() && line("NoNewPrivs:").trim() == "1", "{status}");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            let has = u64::from_str_radix(line(set).trim(), 16).context(set)?;
            ensure!(has == capabilities, "node {number}: {set} {has:#x}, the unit's: {capabilities:#x}");
        }
    }
    bed.finish()
}

/// Whether system calls are filtered, of each thread of node 1 by its name.
fn filtered(bed: &mut Bed) -> Result<Vec<(String, bool)>> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", bed.process(1)?))?;
    let filtered = |thread: std::io::Result<std::fs::DirEntry>| {
        let folder = thread?.path();
        let name = std::fs::read_to_string(folder.join("comm"))?.trim().to_owned();
        let status = std::fs::read_to_string(folder.join("status"))?;
        Ok((name, status.lines().any(|line| line == "Seccomp:\t2")))
    };
    threads.map(filtered).collect()
}

#[test]
fn system_calls_of_workers_are_filtered_unless_that_is_off() -> Result<()> {
    let mut bed = Bed::new("seccomp", Shape { queues: 2, workers: 2, ..Shape::default() })?;
    for (flags, workers) in [(&["--join-grace-ms", "0"][..], true), (&["--seccomp", "off"], false)] {
        bed.start_node(1, flags)?;
        let threads = filtered(&mut bed)?;
        let count = threads.iter().filter(|(name, _)| name.starts_with("sp-worker-")).count();
        let right =
            |(name, filtered): &(String, bool)| *filtered == (workers && name.starts_with("sp-worker-"));
        ensure!(count == 2 && threads.iter().all(right), "{flags:?}: {threads:?}");
        bed.finish_nodes()?;
    }
    bed.remove()
}

/// Own sessions of node 1, and those of them that no peer has.
fn at_risk(bed: &Bed) -> Result<(u64, u64)> {
    let stats: Value = bed.cli(1)?.json(&["stats"])?;
    let count = |name: &str| stats["sessions"][name].as_u64().with_context(|| format!("no sessions.{name}"));
    Ok((count("owner")?, count("at_risk")?))
}

#[test]
fn a_node_knows_how_many_sessions_would_die_with_it() -> Result<()> {
    let mut bed = Bed::new("at-risk", Shape::default())?;
    bed.start_nodes(&[])?;
    bed.forward_via(1)?;
    bed.return_via(3)?;
    for server in 0..3 {
        let mut ping = bed.client().command("ping");
        ping.args(["-c", "1", "-W", "5", "-I"]).arg(plan::client(Family::V4, 0).to_string());
        program::run(ping.arg(plan::server(Family::V4, server).to_string()))?;
    }
    wait::until_true("peers have them all", SOON, || Ok(matches!(at_risk(&bed)?, (3.., 0))))?;
    bed.kill_node(2)?;
    bed.kill_node(3)?;
    wait::until_true("nobody has them", SOON, || {
        let (owned, at_risk) = at_risk(&bed)?;
        Ok(owned > 0 && at_risk == owned)
    })?;
    bed.start_node(3, &[])?;
    wait::until_true("node 3 has them all", SOON, || Ok(matches!(at_risk(&bed)?, (1.., 0))))?;
    bed.cli(1)?.run(&["aggregation", "off"])?;
    ensure!(
        matches!(at_risk(&bed)?, (owned, at_risk) if owned > 0 && at_risk == owned),
        "nothing is replicated"
    );
    bed.finish()
}
