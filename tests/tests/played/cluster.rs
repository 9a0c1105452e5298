//! What a cluster makes of a capture whose two directions arrive at two of its nodes.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use samepath_tests::bed::Bed;
use samepath_tests::bed::plan::{End, NODES};
use samepath_tests::capture;
use samepath_tests::cli::{Line, Stats};
use samepath_tests::{link, wait};
use serde_json::json;

use super::packet::MACS;
use super::place::{self, Inlet};
use super::split::{Capture, Side};

/// Nodes at which clients' and servers' frames arrive.
const ARRIVAL: [u8; 2] = [1, 3];

/// Frames sent before they are asked after: a veth's ring has 256 entries.
pub const AT_ONCE: u64 = 64;

/// Longer than a fragment waits for its first (1 s) and a packet for a neighbour (3 s).
const PATIENCE: Duration = Duration::from_secs(10);

/// TCP is taken up in the middle and its windows are only counted: as near to a plain router as a firewall comes.
const FLAGS: [&str; 3] = ["--tcp-pickup", "loose", "--tcp-loose-window"];

/// XDP outcomes of frames that are ours or our own: they end otherwise, or nobody sent them here.
const NO_END: [&str; 5] =
    ["steered", "steered_tunnel", "redirected", "pass_own_address", "pass_cluster_link"];

/// The bed and its nodes.
pub struct Cluster {
    bed: Bed,
    inlets: [Inlet; 2],
    routes: BTreeMap<IpAddr, Side>,
}

/// A round that is being played.
pub struct Session<'a> {
    cluster: &'a mut Cluster,
    lines: Vec<Line>,
    captures: [capture::Capture; 2],
    /// Frames that had ended before the first was sent.
    before: u64,
    sent: u64,
    last: Ends,
}

/// How frames have ended, in all nodes together since they started.
#[derive(Clone, Default, Debug)]
pub struct Ends {
    /// Dropped by workers, or passed or dropped by XDP, by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Answered in their place; may lag behind what came out.
    answered: u64,
    /// Frames that nodes sent to routers, answers among them.
    out: u64,
    /// Waiting now.
    held: u64,
}

/// What became of one capture.
pub struct Crossing {
    /// How its frames ended.
    pub ends: Ends,
    /// When it was played, since 1970.
    from: Duration,
    until: Duration,
}

/// A frame that a node sent to a router.
pub struct Out {
    /// The router's side.
    pub side: Side,
    /// The node.
    pub node: u8,
    /// The whole frame.
    pub bytes: Vec<u8>,
    at: Duration,
}

fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?)
}

impl Cluster {
    /// Builds the bed.
    pub fn new() -> Result<Self> {
        let bed = place::quiet_bed("played-cluster")?;
        place::deafen_nodes(&bed)?;
        let inlets =
            [Inlet::open(&bed, Side::Client, ARRIVAL[0])?, Inlet::open(&bed, Side::Server, ARRIVAL[1])?];
        Ok(Self { bed, inlets, routes: BTreeMap::new() })
    }

    /// Folder for logs and scratch files.
    pub fn scratch(&self) -> &Path {
        self.bed.runtime()
    }

    /// Folder for what is to stay.
    pub fn logs(&self) -> &Path {
        self.bed.logs()
    }

    /// Starts fresh nodes that have these routes.
    pub fn begin(&mut self, routes: &BTreeMap<IpAddr, Side>) -> Result<Session<'_>> {
        for number in 1..=NODES {
            place::set_routes(&self.bed, number, &self.routes, routes)?;
        }
        self.routes.clone_from(routes);
        self.bed.start_nodes(&FLAGS)?;
        let ports = ["n1", "n2", "n3"];
        let captures = [
            self.bed.capture("router-a", self.bed.router_a(), &ports)?,
            self.bed.capture("router-b", self.bed.router_b(), &ports)?,
        ];
        let lines = (1..=NODES).map(|number| Line::open(&self.bed.socket(number))).collect::<Result<_>>()?;
        let last = Ends::default();
        let mut session = Session { cluster: self, lines, captures, before: 0, sent: 0, last };
        session.last = session.ends()?;
        session.before = session.last.total();
        Ok(session)
    }

    /// Removes the bed.
    pub fn remove(self) -> Result<()> {
        self.bed.remove()
    }
}

impl Session<'_> {
    /// Plays a capture. A frame the other way waits for those before it, as an answer does for what it answers.
    pub fn play(&mut self, capture: &Capture) -> Result<Crossing> {
        let (from, began) = (now()?, self.last.clone());
        let mut turn = None;
        for (side, frame) in &capture.frames {
            if turn.replace(*side).is_some_and(|before| before != *side) || self.sent.is_multiple_of(AT_ONCE)
            {
                self.settle(true)?;
            }
            self.cluster.inlets[*side as usize].send(frame)?;
            self.sent += 1;
        }
        self.settle(false).with_context(|| capture.name.clone())?;
        Ok(Crossing { ends: self.last.since(&began), from, until: now()? })
    }

    /// Waits until every frame sent has ended, or waits in a node.
    fn settle(&mut self, or_held: bool) -> Result<()> {
        let before = self.last.clone();
        wait::until_true("every frame sent ends", PATIENCE, || {
            self.last = self.ends()?;
            let (done, held) = (self.last.total() - self.before, if or_held { self.last.held } else { 0 });
            let since = self.last.since(&before);
            ensure!(done + held <= self.sent, "{} sent, but {done} ended: {since:?}", self.sent);
            ensure!(done + held == self.sent, "{} sent, {done} ended: {since:?}", self.sent);
            Ok(true)
        })
    }

    fn ends(&mut self) -> Result<Ends> {
        let mut ends = Ends::default();
        for line in &mut self.lines {
            let stats: Stats = serde_json::from_value(line.ask(&json!({"command": "stats"}))?)?;
            let outcomes = stats.xdp.iter().filter(|(name, _)| !NO_END.contains(&name.as_str()));
            for (name, count) in stats.drops.iter().chain(outcomes) {
                *ends.reasons.entry(name.clone()).or_default() += count;
            }
            ends.answered += stats.verdicts.get("reject").copied().unwrap_or(0);
            ends.held += stats.held;
        }
        for router in [self.cluster.bed.router_a(), self.cluster.bed.router_b()] {
            let links = link::all_counters(router)?;
            ends.out += links
                .iter()
                .filter(|(name, _)| name.starts_with('n'))
                .map(|(_, link)| link.rx_packets)
                .sum::<u64>();
        }
        Ok(ends)
    }

    /// Ends the round: books balance, nodes stop. All that nodes sent to routers, in the order of time, and how many
    /// packets they say they have answered.
    pub fn end(mut self) -> Result<(Vec<Out>, u64)> {
        let answered = self.ends()?.answered;
        let mut out = Vec::new();
        for (side, capture) in Side::BOTH.into_iter().zip(self.captures) {
            read(side, &capture.finish_file()?, &mut out)?;
        }
        out.sort_by_key(|frame| frame.at);
        self.cluster.bed.finish_nodes()?;
        Ok((out, answered))
    }
}

impl Ends {
    fn total(&self) -> u64 {
        self.out + self.reasons.values().sum::<u64>()
    }

    fn since(&self, before: &Self) -> Self {
        let reasons = self.reasons.iter().map(|(name, count)| {
            let before = before.reasons.get(name).copied().unwrap_or(0);
            (name.clone(), count - before)
        });
        Self {
            reasons: reasons.filter(|(_, count)| *count > 0).collect(),
            answered: self.answered - before.answered,
            out: self.out - before.out,
            held: self.held,
        }
    }
}

impl Crossing {
    /// Of all that was sent to routers, what came while this capture was played.
    pub fn of<'a>(&self, out: &'a [Out]) -> &'a [Out] {
        let begin = out.partition_point(|frame| frame.at < self.from);
        let end = out.partition_point(|frame| frame.at <= self.until);
        &out[begin..end]
    }
}

/// Frames of a capture file at a router's ports n1, n2, n3 that came from the nodes.
fn read(side: Side, file: &Path, out: &mut Vec<Out>) -> Result<()> {
    let bytes = fs::read(file)?;
    let mut reader = PcapNgReader::new(&bytes[..])?;
    while let Some(block) = reader.next_block() {
        let packet = match block? {
            Block::EnhancedPacket(packet) => packet,
            Block::InterfaceStatistics(statistics) => {
                let lost = statistics.options.iter().map(|option| match option {
                    InterfaceStatisticsOption::IsbIfDrop(lost) => *lost,
                    _ => 0,
                });
                let lost: u64 = lost.sum();
                ensure!(lost == 0, "dumpcap lost {lost} frames at {side:?}: the machine is too busy");
                continue;
            }
            _ => continue,
        };
        let node = u8::try_from(packet.interface_id + 1)?;
        let end = match side {
            Side::Client => End::Inside(node),
            Side::Server => End::Outside(node),
        };
        if packet.data.get(6..MACS) == Some(&end.mac()) {
            out.push(Out { side, node, bytes: packet.data.to_vec(), at: packet.timestamp });
        }
    }
    Ok(())
}
