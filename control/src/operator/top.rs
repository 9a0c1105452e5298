//! `samepath top`: what a node does now, from two looks at its counters.

mod workers;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::api::{Members, Reply, Request, SCHEMA, Stats, Status};
use super::client::{ClientError, Connection, FINE};
use super::tables::table;
use crate::host::{Place, clock_rates};
use workers::TopWorker;

/// Clears what was shown before: cursor to the upper left corner, everything behind it empty.
const CLEAR: &str = "\x1b[H\x1b[J";

/// How `samepath top` shows it.
#[derive(Clone, Copy, Debug)]
pub struct TopOrder {
    /// Time between two looks.
    pub interval: Duration,
    /// One frame only.
    pub once: bool,
}

/// One look.
#[derive(Clone, Debug)]
struct Sample {
    at: Instant,
    status: Status,
    members: Members,
    stats: Stats,
    /// Clock rate of each core, MHz.
    mhz: BTreeMap<usize, f64>,
}

/// What happened between two looks; rates are per second.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Top {
    /// Version of these names.
    pub schema: u32,
    /// `top`.
    pub kind: &'static str,
    /// The node.
    pub node: u16,
    /// It is ready.
    pub ready: bool,
    /// Epoch of its view.
    pub epoch: u32,
    /// Live members.
    pub members: Vec<u16>,
    /// Who redirects: `xdp` or `worker`.
    pub forwarder: String,
    /// Time between the two looks, ms.
    pub interval_ms: u64,
    /// Packets taken from the rings and sent.
    pub packets: [u64; 2],
    /// Their bits.
    pub bits: [u64; 2],
    /// Packets by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Of `redirect` those of the XDP program.
    pub redirected_by_xdp: u64,
    /// Sessions now: owned, backed up, granted.
    pub sessions: [u64; 3],
    /// Sessions begun.
    pub sessions_begun: u64,
    /// Sessions ended by their idle time.
    pub sessions_expired: u64,
    /// Packet memory that is free, percent.
    pub frames_free_percent: u64,
    /// Dropped packets by reason; only reasons there were.
    pub drops: BTreeMap<String, u64>,
    /// Each worker.
    pub workers: Vec<TopWorker>,
    /// Each peer.
    pub peers: Vec<TopPeer>,
}

/// A peer in [`Top`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct TopPeer {
    /// Its number.
    pub node: u16,
    /// As in `members`.
    pub state: String,
    /// As in `members`.
    pub sync: String,
    /// Director buckets it holds.
    pub buckets: usize,
    /// Records sent to it.
    pub records: u64,
    /// Records it has not acknowledged now.
    pub lag_records: u64,
    /// Age of the oldest of these, ms.
    pub lag_ms: u64,
}

/// Shows frames until the reader has enough; gives the exit code.
pub fn run(
    socket: Option<&Path>,
    order: TopOrder,
    json: bool,
    out: &mut impl Write,
) -> Result<u8, ClientError> {
    let mut connection = Connection::open(&super::client::socket(socket)?)?;
    let on_screen = !json && !order.once && std::io::stdout().is_terminal();
    let mut before = Sample::take(&mut connection)?;
    loop {
        sleep(order.interval);
        let after = Sample::take(&mut connection)?;
        let top = Top::between(&before, &after);
        let mut text = if on_screen { CLEAR.to_owned() } else { String::new() };
        match json {
            true => {
                text += &serde_json::to_string(&top).map_err(|error| ClientError::Output(error.into()))?
            }
            // A string takes whatever is written to it.
            false => drop(write!(text, "{top}")),
        }
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(FINE),
            Err(error) => return Err(ClientError::Output(error)),
            Ok(()) if order.once => return Ok(FINE),
            Ok(()) => before = after,
        }
    }
}

impl Sample {
    fn take(connection: &mut Connection) -> Result<Self, ClientError> {
        let mut ask = |request: &Request| {
            connection.ask(request)?;
            connection.reply()
        };
        let (status, members, stats) =
            (ask(&Request::Status)?, ask(&Request::Members)?, ask(&Request::Stats)?);
        match (status, members, stats) {
            (Reply::Status(status), Reply::Members(members), Reply::Stats(stats)) => {
                // The daemon is on this machine: its socket is.
                let mhz = clock_rates(&Place::here());
                Ok(Self { at: Instant::now(), status: *status, members, stats: *stats, mhz })
            }
            (Reply::Error(refusal), ..) | (_, Reply::Error(refusal), _) | (.., Reply::Error(refusal)) => {
                Err(ClientError::Refused(refusal.error))
            }
            _ => Err(ClientError::Refused(
                "the daemon answered something else: use the program of its version".into(),
            )),
        }
    }
}

impl Top {
    fn between(before: &Sample, after: &Sample) -> Self {
        let interval_ms = (after.at - before.at).as_millis().max(1) as u64;
        let rate = |before: u64, after: u64| after.saturating_sub(before) * 1000 / interval_ms;
        let (old, new, status) = (&before.stats, &after.stats, &after.status);
        let rates = |old: &BTreeMap<String, u64>, new: &BTreeMap<String, u64>| {
            let of = |(name, count): (&String, &u64)| {
                (name.clone(), rate(old.get(name).copied().unwrap_or(0), *count))
            };
            new.iter().map(of).collect::<BTreeMap<_, _>>()
        };
        let mut drops = rates(&old.drops, &new.drops);
        drops.retain(|_, rate| *rate > 0);
        Self {
            schema: SCHEMA,
            kind: "top",
            node: status.node,
            ready: status.ready,
            epoch: status.epoch,
            members: status.members.clone(),
            forwarder: status.forwarder.to_string(),
            interval_ms,
            packets: [rate(old.rx, new.rx), rate(old.tx, new.tx)],
            bits: [rate(old.rx_bytes, new.rx_bytes) * 8, rate(old.tx_bytes, new.tx_bytes) * 8],
            verdicts: rates(&old.verdicts, &new.verdicts),
            redirected_by_xdp: rate(old.tunnel.redirect_tx_xdp, new.tunnel.redirect_tx_xdp),
            sessions: [new.sessions.owner, new.sessions.backup, new.sessions.claim],
            sessions_begun: rate(old.sessions.created, new.sessions.created),
            sessions_expired: rate(old.sessions.expired, new.sessions.expired),
            frames_free_percent: new.frames.free * 100 / new.frames.total.max(1),
            drops,
            workers: TopWorker::all(old, new, interval_ms, &after.mhz),
            peers: peers(old, after, interval_ms),
        }
    }
}

fn peers(old: &Stats, after: &Sample, interval_ms: u64) -> Vec<TopPeer> {
    let others = after.members.members.iter().filter(|member| !member.is_self);
    others
        .map(|member| {
            let name = member.node.to_string();
            let sent = |stats: &Stats| stats.replication.get(&name).copied().unwrap_or_default();
            let (old, new) = (sent(old), sent(&after.stats));
            TopPeer {
                node: member.node,
                state: member.state.to_string(),
                sync: member.sync.to_string(),
                buckets: member.buckets,
                records: new.sent.saturating_sub(old.sent) * 1000 / interval_ms,
                lag_records: new.lag_records,
                lag_ms: new.lag_ms,
            }
        })
        .collect()
}

impl fmt::Display for Top {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<String> = self.members.iter().map(ToString::to_string).collect();
        let ready = if self.ready { "ready" } else { "NOT READY" };
        writeln!(
            f,
            "node {} {ready}, epoch {}, members {}, forwarder {}; per second over {} ms",
            self.node,
            self.epoch,
            members.join(" "),
            self.forwarder,
            self.interval_ms
        )?;
        let [rx, tx] = self.bits.map(|bits| bits as f64 / 1e6);
        writeln!(
            f,
            "in {} packets, {rx:.1} Mbit; out {} packets, {tx:.1} Mbit",
            self.packets[0], self.packets[1]
        )?;
        let verdict = |name: &str| self.verdicts.get(name).copied().unwrap_or(0);
        writeln!(
            f,
            "forwarded {}, to services {}, asked {}, granted {}, redirected {} (by XDP {}), rejected {}, dropped {}",
            verdict("forward"),
            verdict("service"),
            verdict("query"),
            verdict("first_packet"),
            verdict("redirect"),
            self.redirected_by_xdp,
            verdict("reject"),
            verdict("drop")
        )?;
        let [owner, backup, claim] = self.sessions;
        writeln!(
            f,
            "sessions owned {owner}, backed up {backup}, granted {claim}; begun {}, expired {}; frames free {}%",
            self.sessions_begun, self.sessions_expired, self.frames_free_percent
        )?;
        let drops: Vec<String> = self.drops.iter().map(|(reason, rate)| format!("{reason} {rate}")).collect();
        writeln!(f, "drops: {}\n", if drops.is_empty() { "none".into() } else { drops.join(", ") })?;
        f.write_str(&self.tables())
    }
}

impl Top {
    fn tables(&self) -> String {
        let mut text = Vec::new();
        let workers: Vec<_> = self.workers.iter().map(TopWorker::row).collect();
        let peers: Vec<[String; 7]> = self.peers.iter().map(TopPeer::row).collect();
        // Memory takes whatever is written to it.
        let _ = table(&mut text, workers::HEADING, &workers);
        if !peers.is_empty() {
            text.push(b'\n');
            let heading = ["peer", "state", "sync", "buckets", "records", "lag", "oldest, ms"];
            let _ = table(&mut text, heading, &peers);
        }
        String::from_utf8_lossy(&text).trim_end().to_owned()
    }
}

impl TopPeer {
    fn row(&self) -> [String; 7] {
        let Self { node, state, sync, buckets, records, lag_records, lag_ms } = self;
        [
            node.to_string(),
            state.clone(),
            sync.clone(),
            buckets.to_string(),
            records.to_string(),
            lag_records.to_string(),
            lag_ms.to_string(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::api::{Member, Replication, Worker};

    fn sample(at: Instant, packets: u64) -> Sample {
        let worker = Worker {
            worker: 0,
            core: 1,
            rx: packets,
            tx: packets,
            turns: packets / 8 + 5,
            sleeps: 5,
            fast_path: packets / 2,
            busy_ns: packets * 250,
            ..Worker::default()
        };
        let mut stats =
            Stats { rx: packets, rx_bytes: packets * 1000, workers: vec![worker], ..Stats::default() };
        stats.drops.insert("no_route".into(), packets / 10);
        stats.drops.insert("martian".into(), 3);
        stats.verdicts.insert("forward".into(), packets);
        stats.sessions.owner = 7;
        stats.replication.insert(
            "2".into(),
            Replication { sent: packets / 4, lag_records: 9, lag_ms: 4, ..Replication::default() },
        );
        let peer = Member { node: 2, state: "member".into(), sync: "whole".into(), ..Member::default() };
        let myself = Member { node: 1, is_self: true, ..Member::default() };
        let members = Members { members: vec![myself, peer], ..Members::default() };
        let status = Status { node: 1, ready: true, members: vec![1, 2], ..Status::default() };
        Sample { at, status, members, stats, mhz: BTreeMap::from([(1, 3000.0)]) }
    }

    #[test]
    fn rates_are_per_second_and_read_so() {
        let (begin, half) = (Instant::now(), Duration::from_millis(500));
        let top = Top::between(&sample(begin, 1000), &sample(begin + half, 1800));
        assert_eq!((top.packets, top.bits[0], top.verdicts["forward"]), ([1600, 0], 12_800_000, 1600));
        assert_eq!(top.drops, BTreeMap::from([("no_route".to_owned(), 160)]));
        let TopWorker { rx, burst, fast_percent, .. } = &top.workers[0];
        assert_eq!((*rx, *burst, *fast_percent), (1600, 8.0, 50));
        let TopWorker { busy_percent, ns_per_packet, cycles_per_packet, .. } = &top.workers[0];
        assert_eq!((*busy_percent, *ns_per_packet, *cycles_per_packet), (0.04, Some(250), Some(750)));
        assert_eq!((top.peers.len(), top.peers[0].records, top.peers[0].lag_records), (1, 400, 9));
        let text = top.to_string();
        assert!(text.starts_with("node 1 ready, epoch 0, members 1 2"), "{text}");
        assert!(
            text.contains("in 1600 packets, 12.8 Mbit;") && text.contains("drops: no_route 160\n"),
            "{text}"
        );
        assert!(text.ends_with("   2  member  whole        0      400    9           4"), "{text}");
    }

    #[test]
    fn without_packets_or_a_known_rate_there_is_no_time_per_packet() {
        let begin = Instant::now();
        let idle = Top::between(&sample(begin, 1000), &sample(begin + Duration::from_secs(1), 1000));
        assert_eq!((idle.workers[0].ns_per_packet, idle.workers[0].cycles_per_packet), (None, None));
        let mut after = sample(begin + Duration::from_secs(1), 2000);
        after.mhz.clear();
        let unknown = Top::between(&sample(begin, 1000), &after);
        assert_eq!(
            (unknown.workers[0].ns_per_packet, unknown.workers[0].cycles_per_packet),
            (Some(250), None)
        );
        assert!(unknown.to_string().contains("250  -  "), "{unknown}");
    }

    #[test]
    fn a_daemon_that_began_anew_has_no_negative_rates() {
        let begin = Instant::now();
        let top = Top::between(&sample(begin, 1000), &sample(begin + Duration::from_secs(1), 10));
        assert_eq!((top.packets, top.drops.len(), top.workers[0].rx), ([0, 0], 0, 0));
    }
}
