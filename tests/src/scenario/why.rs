//! `samepath why` beside what happens: of random flows each packet's way is asked before it is sent, and in the end the
//! nodes' counters and sessions are what was said.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::HAND_MADE_PORTS;
use crate::bed::Bed;
use crate::bed::plan::{self, End, Family, NODES};
use crate::cli::{Line, Session};
use crate::frame::Way;
use crate::lab::random::Random;
use crate::raw_port::RawPort;
use crate::wait;

/// Time for records and counters to arrive.
const SOON: Duration = Duration::from_secs(20);

/// The policy of the nodes: flows from inside to the lower half of the hand-made ports may begin.
pub const POLICY: &str = r#"
default = "deny"

[[rule]]
name = "lower-half"
from = "inside"
protocol = ["tcp", "udp"]
destination_port = "20000-24999"
action = "allow"
"#;

/// A random flow: where its packets and the replies arrive.
#[derive(Clone, Copy, Debug)]
struct Flow {
    tcp: bool,
    client: (IpAddr, u16),
    server: (IpAddr, u16),
    ingress: u8,
    back: u8,
}

/// The parts of an answer that are compared.
#[derive(Clone, Debug, Deserialize)]
struct Why {
    director: u16,
    owner: Option<u16>,
    generation: Option<u32>,
    backups: Vec<u16>,
    agreed: bool,
    path: Vec<Step>,
    silent: Vec<Value>,
}

#[derive(Clone, Debug, Deserialize)]
struct Step {
    node: u8,
    verdict: String,
}

/// Counted verdicts, by node and name.
type Tally = BTreeMap<(u8, String), u64>;

/// Owners of flows by the flows' two ends.
type Owners = HashMap<((IpAddr, u16), (IpAddr, u16)), u8>;

/// What was asked and sent, and what was said of it.
struct Trial<'a> {
    bed: &'a Bed,
    random: Random,
    lines: Vec<Line>,
    inside: Vec<RawPort>,
    outside: Vec<RawPort>,
    said: Tally,
}

/// Asks about and sends `count` random flows over a bed of nodes with [`POLICY`] that has settled.
pub fn random_flows(bed: &Bed, count: usize) -> Result<()> {
    let mut trial = Trial::new(bed)?;
    let before = counted(bed)?;
    let flows = random(&mut trial.random, count);
    let mut owners = HashMap::new();
    for flow in &flows {
        let why = trial.ask(flow, false, None)?;
        ensure!(why.agreed && why.owner.is_none() && why.silent.is_empty(), "{flow:?}: {why:?}");
        trial.send(flow, false, &why)?;
        let last = why.path.last().context("no way is told")?;
        if last.verdict == "forward" {
            owners.insert((flow.client, flow.server), last.node);
        }
    }
    ensure!(owners.len() > count / 3 && owners.len() < count, "{} of {count} flows go through", owners.len());
    wait_known(bed, owners.len())?;
    let begun: Vec<&Flow> =
        flows.iter().filter(|flow| owners.contains_key(&(flow.client, flow.server))).collect();
    for flow in &begun {
        let owner = owners[&(flow.client, flow.server)];
        let mut whys = Vec::new();
        for asked in 1..=NODES {
            whys.push(trial.ask(flow, true, Some(asked))?);
        }
        for why in &whys {
            let right = why.agreed && why.silent.is_empty() && why.generation == Some(1);
            ensure!(right && why.owner == Some(owner.into()), "{flow:?}, owned by {owner}: {why:?}");
            ensure!(why.backups.len() == usize::from(NODES) - 1 && why.director == whys[0].director);
        }
        trial.send(flow, true, &whys[0])?;
    }
    compare_counters(bed, &before, &trial.said)?;
    compare_sessions(bed, &owners)
}

fn random(random: &mut Random, count: usize) -> Vec<Flow> {
    let addresses = 16;
    let mut seen = HashSet::new();
    let mut flows = Vec::with_capacity(count);
    while flows.len() < count {
        let port = |random: &mut Random| {
            random.within(u64::from(*HAND_MADE_PORTS.start())..u64::from(*HAND_MADE_PORTS.end())) as u16
        };
        let family = random.pick(&Family::BOTH);
        let flow = Flow {
            tcp: random.chance(333),
            client: (plan::client(family, random.within(0..addresses) as u8), port(random)),
            server: (plan::server(family, random.within(0..addresses) as u8), port(random)),
            ingress: random.within(1..u64::from(NODES) + 1) as u8,
            back: random.within(1..u64::from(NODES) + 1) as u8,
        };
        if seen.insert((flow.client, flow.server)) {
            flows.push(flow);
        }
    }
    flows
}

impl<'a> Trial<'a> {
    fn new(bed: &'a Bed) -> Result<Self> {
        let nodes = || 1..=NODES;
        let name = |node: u8| format!("n{node}");
        Ok(Self {
            bed,
            random: Random::new(6),
            lines: nodes().map(|node| Line::open(&bed.socket(node))).collect::<Result<_>>()?,
            inside: nodes().map(|node| RawPort::open(bed.router_a(), &name(node))).collect::<Result<_>>()?,
            outside: nodes().map(|node| RawPort::open(bed.router_b(), &name(node))).collect::<Result<_>>()?,
            said: Tally::new(),
        })
    }

    /// Asks a node, a random one unless it is named, about the flow's first packet, or with `back` about its reply.
    fn ask(&mut self, flow: &Flow, back: bool, asked: Option<u8>) -> Result<Why> {
        let asked = asked.unwrap_or_else(|| self.random.within(1..u64::from(NODES) + 1) as u8);
        let (src, dst, zone, ingress) = match back {
            false => (flow.client, flow.server, "inside", flow.ingress),
            true => (flow.server, flow.client, "outside", flow.back),
        };
        let request = json!({"command": "why", "flow": {
            "proto": if flow.tcp { 6 } else { 17 },
            "src": src.0, "sport": src.1, "dst": dst.0, "dport": dst.1,
            "zone": zone, "ingress": ingress,
        }});
        let answer = self.lines[usize::from(asked) - 1].ask(&request)?;
        serde_json::from_value(answer.clone()).with_context(|| format!("{request} was answered {answer}"))
    }

    /// Sends the packet that was asked about, and notes what was said of it.
    fn send(&mut self, flow: &Flow, back: bool, why: &Why) -> Result<()> {
        for step in &why.path {
            *self.said.entry((step.node, step.verdict.replace("lookup", "query"))).or_default() += 1;
        }
        let (node, ports) = if back { (flow.back, &self.outside) } else { (flow.ingress, &self.inside) };
        ports[usize::from(node) - 1].send(&flow.frame(back)?)?;
        // No ring overflows while packets are on their way one by one; now and then a core is late.
        wait::until_true("the node has taken the packet", SOON, || self.bed.rings_are_empty(node))
    }
}

impl Flow {
    fn frame(&self, back: bool) -> Result<Vec<u8>> {
        let way = match back {
            false => Way {
                from: End::RouterA(self.ingress),
                to: End::Inside(self.ingress),
                vlan: None,
                source: self.client,
                destination: self.server,
            },
            true => Way {
                from: End::RouterB(self.back),
                to: End::Outside(self.back),
                vlan: None,
                source: self.server,
                destination: self.client,
            },
        };
        if !self.tcp {
            return way.udp(b"why");
        }
        way.tcp(|tcp| {
            (tcp.syn, tcp.ack) = (true, back);
            (tcp.sequence_number, tcp.acknowledgment_number) = if back { (5000, 1001) } else { (1000, 0) };
        })
    }
}

/// All nodes know every flow by its Owner's record.
fn wait_known(bed: &Bed, flows: usize) -> Result<()> {
    wait::until_true("every node knows every flow", SOON, || {
        for number in bed.running() {
            let stats: Value = bed.cli(number)?.ask("stats")?;
            let of = |role: &str| stats["sessions"][role].as_u64().unwrap_or(0) as usize;
            ensure!(
                of("owner") + of("backup") == flows && of("claim") == 0,
                "node {number}: {}",
                stats["sessions"]
            );
        }
        Ok(true)
    })
}

/// Verdicts that every node has counted.
fn counted(bed: &Bed) -> Result<Tally> {
    let mut tally = Tally::new();
    for number in bed.running() {
        for (verdict, count) in bed.stats(number)?.verdicts {
            tally.insert((number, verdict), count);
        }
    }
    Ok(tally)
}

/// Every node has counted what was said, verdict by verdict.
fn compare_counters(bed: &Bed, before: &Tally, said: &Tally) -> Result<()> {
    wait::until_true("the nodes count what was said", SOON, || {
        let mut happened = Tally::new();
        for (place, count) in counted(bed)? {
            let new = count - before.get(&place).copied().unwrap_or(0);
            if new > 0 {
                happened.insert(place, new);
            }
        }
        ensure!(happened == *said, "what happened: {happened:?}\nwhat was said: {said:?}");
        Ok(true)
    })
}

/// The nodes' listings name the Owner that was said.
fn compare_sessions(bed: &Bed, owners: &Owners) -> Result<()> {
    for number in bed.running() {
        let rows: Vec<Session> = bed.sessions(number)?;
        ensure!(rows.len() == owners.len(), "node {number} lists {} sessions", rows.len());
        for row in rows {
            let owner = owners.get(&((row.src, row.sport), (row.dst, row.dport)));
            let right = owner.is_some_and(|&owner| {
                u16::from(owner) == row.owner && (row.role == "owner") == (owner == number)
            });
            ensure!(right, "node {number} lists {row:?}, the Owner was to be {owner:?}");
        }
    }
    Ok(())
}
