//! Replies as a person reads them: aligned columns, no colour.

use std::io::{self, Write};

use serde_json::Value;

use super::api::{Aggregation, Count, Director, Members, PolicyReply, Reply, ServiceRow, Stats, Status};
use super::drain::Stage;
use super::{symmetry, trace, why};

/// Prints any reply but sessions and errors, which the client treats by itself.
pub fn print(reply: &Reply, out: &mut impl Write) -> io::Result<()> {
    match reply {
        Reply::Status(status) => print_status(status, out)?,
        Reply::Members(members) => print_members(members, out)?,
        Reply::Count(count) => print_count(count, out)?,
        Reply::Stats(stats) => print_stats(stats, out)?,
        Reply::Director(director) => print_director(director, out)?,
        Reply::Aggregation(aggregation) => print_aggregation(aggregation, out)?,
        Reply::Log(log) if log.before == log.filter => writeln!(out, "log {}", log.filter)?,
        Reply::Log(log) => writeln!(out, "log {} (before: {})", log.filter, log.before)?,
        Reply::Policy(policy) => print_policy(policy, out)?,
        Reply::Symmetry(symmetry) => symmetry::print(symmetry, out)?,
        Reply::Detours(detours) => {
            let alone = symmetry::merge(vec![detours.clone()], Vec::new(), usize::MAX);
            symmetry::print(&alone, out)?;
        }
        Reply::Why(why) => why::print(why, out)?,
        Reply::Trace(told) => trace::print(told, out)?,
        // Its readers make more of it than a table.
        Reply::Watched(watched) => writeln!(out, "{} nodes look", watched.nodes.len())?,
        Reply::Followed(followed) => {
            for event in &followed.events {
                writeln!(out, "{event}")?;
            }
        }
        Reply::Drain(drain) => writeln!(out, "{drain}")?,
        Reply::Error(refusal) => writeln!(out, "{}", refusal.error)?,
        Reply::Sessions(page) => {
            for row in &page.sessions {
                writeln!(out, "{}", super::sessions::line(row))?;
            }
        }
    }
    out.flush()
}

/// Rows under a heading, columns as wide as their widest cell; numbers to the right.
pub(super) fn table<const N: usize>(
    out: &mut impl Write,
    heading: [&str; N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let mut widths = heading.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let number = |cell: &str| !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
    let heading = heading.map(str::to_owned);
    for (index, row) in std::iter::once(&heading).chain(rows).enumerate() {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            // A heading stands where its column's cells stand.
            let below = if index == 0 { rows.first().map_or(cell, |row| &row[column]) } else { cell };
            let cell = match number(below) {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            };
            line.push_str(&cell);
            line.push_str("  ");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn yes(truth: bool) -> String {
    if truth { "yes".into() } else { "no".into() }
}

fn on(truth: bool) -> &'static str {
    if truth { "on" } else { "off" }
}

fn print_status(status: &Status, out: &mut impl Write) -> io::Result<()> {
    let members: Vec<String> = status.members.iter().map(ToString::to_string).collect();
    writeln!(
        out,
        "node {} of cluster {}: {} (samepath {}, up {})",
        status.node,
        status.cluster,
        if status.ready { "ready" } else { "NOT READY" },
        status.version,
        duration(status.uptime_s)
    )?;
    if status.drain.stage != Stage::Off {
        writeln!(out, "{}", status.drain)?;
    }
    for obstacle in &status.obstacles {
        writeln!(out, "takes no flows: {obstacle}")?;
    }
    writeln!(out, "aggregation {}", on(status.aggregation))?;
    writeln!(out, "forwarder {}", status.forwarder)?;
    writeln!(
        out,
        "policy {}",
        if status.policy.is_empty() { "none: every flow is allowed" } else { &status.policy }
    )?;
    let keys = &status.keys;
    writeln!(
        out,
        "certificate of CA `{}` until {}, {} CAs believed",
        keys.issuer, keys.valid_until, keys.cas
    )?;
    writeln!(out, "epoch {}, members {}", status.epoch, members.join(" "))?;
    writeln!(out, "workers {}", status.workers)?;
    writeln!(out, "huge pages {}", if status.huge_pages { "yes" } else { "no" })?;
    writeln!(out, "landlock {}", status.landlock)?;
    writeln!(out)?;
    let rows: Vec<[String; 11]> = status
        .interfaces
        .iter()
        .map(|interface| {
            [
                interface.name.clone(),
                interface.role.to_string(),
                if interface.zone.is_empty() { "-".into() } else { interface.zone.clone() },
                if interface.up { "up".into() } else { "DOWN".into() },
                interface.ifindex.to_string(),
                interface.queues.to_string(),
                interface.xdp_mode.clone(),
                yes(interface.zero_copy),
                interface.rss.to_string(),
                on(interface.need_wakeup).into(),
                interface.busy_poll.to_string(),
            ]
        })
        .collect();
    let heading = [
        "interface",
        "role",
        "zone",
        "link",
        "index",
        "queues",
        "xdp",
        "zero-copy",
        "rss",
        "need-wakeup",
        "busy poll",
    ];
    table(out, heading, &rows)?;
    print_services(status, out)?;
    print_scheduling(status, out)?;
    for warning in &status.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

fn print_services(status: &Status, out: &mut impl Write) -> io::Result<()> {
    if status.services.is_empty() {
        return Ok(());
    }
    let rows: Vec<[String; 5]> = status
        .services
        .iter()
        .map(|service| {
            let state = if service.up { "up" } else { "DOWN" };
            let ServiceRow { name, mode, interface, via, .. } = service;
            [name.clone(), mode.to_string(), interface.clone(), via.clone(), state.into()]
        })
        .collect();
    writeln!(out)?;
    table(out, ["service", "mode", "interface", "via", "state"], &rows)
}

fn print_scheduling(status: &Status, out: &mut impl Write) -> io::Result<()> {
    if status.scheduling.is_empty() {
        return Ok(());
    }
    let rows: Vec<[String; 4]> = status
        .scheduling
        .iter()
        .map(|worker| {
            let policy = match worker.demoted {
                true => format!("{} (demoted)", worker.policy),
                false => worker.policy.to_string(),
            };
            [worker.worker.to_string(), worker.core.to_string(), policy, worker.idle.to_string()]
        })
        .collect();
    writeln!(out)?;
    table(out, ["worker", "core", "sched", "idle"], &rows)
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn print_members(members: &Members, out: &mut impl Write) -> io::Result<()> {
    let rows: Vec<[String; 10]> = members
        .members
        .iter()
        .map(|member| {
            let heard = match member.last_heard_ms {
                _ if member.is_self => "(this node)".into(),
                Some(ms) => format!("{ms} ms ago"),
                None => "never".into(),
            };
            [
                member.node.to_string(),
                member.address.clone(),
                member.state.to_string(),
                if member.is_self { "-".into() } else { yes(member.connected) },
                heard,
                member.detected_ms.map_or_else(|| "-".into(), |ms| format!("{ms} ms")),
                member.sync.to_string(),
                member.weight.to_string(),
                member.buckets.to_string(),
                match member.policy.as_deref() {
                    None => "?".into(),
                    Some("") => "none".into(),
                    Some(version) => version.to_owned(),
                },
            ]
        })
        .collect();
    table(
        out,
        [
            "node",
            "address",
            "state",
            "connected",
            "last heard",
            "detected",
            "sync",
            "weight",
            "buckets",
            "policy",
        ],
        &rows,
    )?;
    writeln!(
        out,
        "epoch {}, timeout {} ms, membership {}",
        members.epoch, members.timeout_ms, members.membership
    )?;
    if !members.quorate {
        writeln!(out, "no quorum: flows that are not known yet are refused")?;
    }
    if !members.adopted {
        writeln!(out, "some workers still use the view before epoch {}", members.epoch)?;
    }
    let told: Vec<&String> = members.members.iter().filter_map(|member| member.policy.as_ref()).collect();
    if told.iter().any(|policy| *policy != told[0]) {
        writeln!(
            out,
            "nodes have different policies: give all the same file, then `samepath policy reload` on each"
        )?;
    }
    for member in &members.members {
        if let Some(reason) = &member.refused {
            writeln!(out, "node {} is refused: {reason}", member.node)?;
        }
    }
    Ok(())
}

fn print_policy(policy: &PolicyReply, out: &mut impl Write) -> io::Result<()> {
    if policy.file.is_empty() {
        return writeln!(out, "no policy: every flow is allowed");
    }
    let row = |name: &str, action: &str, packets: u64, flows: u64| {
        [name.to_owned(), action.to_owned(), packets.to_string(), flows.to_string()]
    };
    let mut rows: Vec<[String; 4]> =
        policy.rules.iter().map(|rule| row(&rule.name, &rule.action, rule.packets, rule.flows)).collect();
    rows.push(row("(default)", &policy.default, policy.default_packets, policy.default_flows));
    writeln!(out, "policy {} from {}", policy.digest, policy.file)?;
    table(out, ["rule", "action", "packets", "flows"], &rows)?;
    if let Some(failed) = &policy.failed {
        writeln!(out, "the last reload changed nothing: {failed}")?;
    }
    Ok(())
}

fn print_count(count: &Count, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{} (owner {}, backup {}, claim {})", count.count, count.owner, count.backup, count.claim)
}

fn print_director(director: &Director, out: &mut impl Write) -> io::Result<()> {
    let order: Vec<String> = director.candidates.iter().map(ToString::to_string).collect();
    writeln!(out, "node {}", director.director)?;
    writeln!(out, "  {}", director.why)?;
    writeln!(
        out,
        "  hash {}, bucket {}, epoch {}, order {}",
        director.mode,
        director.bucket,
        director.epoch,
        order.join(" ")
    )
}

fn print_aggregation(aggregation: &Aggregation, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "node {}: aggregation {}; it is switched on each node by itself",
        aggregation.node,
        on(aggregation.aggregation)
    )
}

/// Of these many only those that are not zero are shown.
const SPARSE: [&str; 4] = ["drops.", "xdp.", "tunnel.rejected.", "control.discarded."];

/// Counters under the names of the document, single ones first; peers and workers have tables of their own.
fn print_stats(stats: &Stats, out: &mut impl Write) -> io::Result<()> {
    let mut rows = Vec::new();
    flatten("", &serde_json::to_value(stats)?, &mut rows);
    let hidden = |name: &str| SPARSE.iter().any(|group| name.starts_with(group));
    rows.retain(|[name, value]| !(name.starts_with("replication.") || value == "0" && hidden(name)));
    rows.sort_by_key(|[name, _]| name.contains('.'));
    table(out, ["counter", "value"], &rows)?;
    print_replication(stats, out)?;
    print_workers(stats, out)
}

/// Numbers of a document, by their path with dots.
fn flatten(path: &str, value: &Value, rows: &mut Vec<[String; 2]>) {
    match value {
        Value::Number(number) => rows.push([path.to_owned(), number.to_string()]),
        Value::Object(members) => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, rows);
            }
        }
        _ => {}
    }
}

fn print_replication(stats: &Stats, out: &mut impl Write) -> io::Result<()> {
    if stats.replication.is_empty() {
        return Ok(());
    }
    let rows: Vec<[String; 7]> = stats
        .replication
        .iter()
        .map(|(peer, r)| {
            let [sent, acked, lag, ms, dirty, resent] =
                [r.sent, r.acked, r.lag_records, r.lag_ms, r.dirty, r.resent].map(|value| value.to_string());
            [peer.clone(), sent, acked, lag, ms, dirty, resent]
        })
        .collect();
    writeln!(out)?;
    table(out, ["peer", "sent", "acked", "lag", "lag ms", "dirty", "resent"], &rows)
}

fn print_workers(stats: &Stats, out: &mut impl Write) -> io::Result<()> {
    let rows: Vec<[String; 14]> = stats
        .workers
        .iter()
        .map(|w| {
            [
                w.worker as u64,
                w.core as u64,
                w.rx,
                w.tx,
                w.dropped,
                w.handoff_tx,
                w.handoff_rx,
                w.sessions,
                w.fast_path,
                w.view_epoch,
                w.turns,
                w.sleeps,
                w.busy_ns / 1_000_000,
                w.demotions,
            ]
            .map(|value| value.to_string())
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    table(
        out,
        [
            "worker",
            "core",
            "rx",
            "tx",
            "dropped",
            "handoff tx",
            "handoff rx",
            "sessions",
            "fast path",
            "view",
            "turns",
            "sleeps",
            "busy ms",
            "demotions",
        ],
        &rows,
    )
}
