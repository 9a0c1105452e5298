//! What aggregation costs: nothing where traffic is symmetric, and what a redirected packet costs the node
//! it arrives at and its Owner. Topology and method: `benches/README.md`.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use samepath_benches::device::{Cluster, Device, NodePlan, Peer, Traffic};
use samepath_benches::forwarder::ForwarderKeys;
use samepath_benches::generator::{Generator, Recording, Stream};
use samepath_benches::measure::{Search, Window};
use samepath_benches::recorder;
use samepath_benches::report::{Bar, Goal, Report, Summary, Table};
use samepath_benches::rig::{Links, NODES, Rig};
use samepath_tests::cli::Stats;
use serde::{Deserialize, Serialize};

/// How the bench is called.
#[derive(Parser, Debug)]
struct Arguments {
    /// Repetitions of the whole round.
    #[arg(long, default_value_t = 5)]
    reps: u32,
    /// Seconds of each final window.
    #[arg(long, default_value_t = 1.5)]
    window: f64,
    /// Flows of each kind.
    #[arg(long, default_value_t = 10_000)]
    flows: u64,
    /// Parts of the round: owner, worker, xdp.
    #[arg(long, value_delimiter = ',', default_value = "owner,worker,xdp")]
    parts: Vec<String>,
    /// Go on where the last call ended: its measurements count too.
    #[arg(long)]
    keep: bool,
    /// Number of the first repetition; ratios are made within one, so calls with other parts share it.
    #[arg(long, default_value_t = 0)]
    first: u32,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The node whose redirected packets the Owner gets.
const INGRESS_NODE: u8 = 2;

/// Packets of a flow after which it is certainly published, and how many per second are sent for that.
const PUBLISHED_AFTER: f64 = 24.0;
const PUBLISHING_RATE: f64 = 50_000.0;

/// How often that is tried.
const PUBLISHING_ATTEMPTS: u32 = 3;

/// What Cisco says of four of its firewalls in a cluster, by what each does alone.
const PUBLISHED_BY_CISCO: f64 = 0.70;

const GOALS: &[(&str, Goal)] = &[
    ("aggregation_on_symmetric_ratio", Goal::AtLeast(0.98)),
    ("owner_cost_ratio", Goal::AtMost(1.1)),
    ("forwarder_cost_ratio/xdp", Goal::AtMost(0.65)),
    ("forwarder_cost_ratio/worker", Goal::AtMost(1.1)),
    ("scaling_factor_4_nodes", Goal::AtLeast(0.70)),
];

/// One role of the node under test.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    /// Owner of everything that arrives, aggregation off on all nodes.
    AggregationOff,
    /// Owner of everything that arrives on its data interface.
    Local,
    /// Owner; half of its packets come through the tunnel.
    OwnerHalf,
    /// Owner; all of its packets come through the tunnel.
    Owner,
    /// As `Local`, in the topology of the forwarder.
    LocalBeside,
    /// Half of its packets belong to another node: its worker tunnels them.
    ForwarderHalf,
    /// All of its packets belong to another node: its worker tunnels them.
    Forwarder,
    /// The same, tunnelled inside XDP.
    ForwarderXdp,
}

impl Role {
    const ALL: [Role; 8] = [
        Role::AggregationOff,
        Role::Local,
        Role::OwnerHalf,
        Role::Owner,
        Role::LocalBeside,
        Role::ForwarderHalf,
        Role::Forwarder,
        Role::ForwarderXdp,
    ];

    fn name(self) -> &'static str {
        match self {
            Role::AggregationOff => "local, aggregation off",
            Role::Local => "local (0 % redirected)",
            Role::OwnerHalf => "Owner, 50 % redirected",
            Role::Owner => "Owner, 100 % redirected",
            Role::LocalBeside => "local, beside the forwarder",
            Role::ForwarderHalf => "forwarder (worker), 50 %",
            Role::Forwarder => "forwarder (worker), 100 %",
            Role::ForwarderXdp => "forwarder (XDP), 100 %",
        }
    }

    /// Colour in the plot: local, Owner, forwarder.
    fn group(self) -> usize {
        match self {
            Role::AggregationOff | Role::Local | Role::LocalBeside => 1,
            Role::OwnerHalf | Role::Owner => 0,
            Role::ForwarderHalf | Role::Forwarder | Role::ForwarderXdp => 2,
        }
    }
}

/// One role, one repetition.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Measurement {
    role: Role,
    repetition: u32,
    #[serde(flatten)]
    window: Window,
}

/// A bench in progress.
struct Bench {
    arguments: Arguments,
    search: Search,
    measured: Vec<Measurement>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let measured = if arguments.keep { Report::earlier("asymmetry", "measurements")? } else { Vec::new() };
    let report = Report::new("asymmetry")?;
    let mut bench = Bench { search: Search::new(arguments.window), arguments, measured };
    for repetition in bench.repetitions() {
        for part in bench.arguments.parts.clone() {
            match part.as_str() {
                "owner" => bench.owner(repetition)?,
                "worker" => bench.forwarder(repetition)?,
                "xdp" => bench.forwarder_in_xdp(repetition)?,
                other => anyhow::bail!("`{other}` is no part of this bench: owner, worker, xdp"),
            }
        }
    }
    bench.finish(report)
}

impl Bench {
    fn repetitions(&self) -> Range<u32> {
        self.arguments.first..self.arguments.first + self.arguments.reps
    }

    fn plan(&self) -> NodePlan {
        NodePlan::new(2 * self.arguments.flows).in_cluster_of(NODES)
    }

    fn note(
        &mut self,
        rig: &Rig,
        device: &Device,
        role: Role,
        repetition: u32,
        stream: &Stream,
    ) -> Result<()> {
        let window = self.search.peak(rig, device, role.name(), stream)?;
        println!(
            "{:<28} {:.3} Mpps of {:.3} offered, {:.0} ns/packet, core {:.0} %{}  ({})",
            role.name(),
            window.forwarded / 1e6,
            window.offered / 1e6,
            window.ns_per_packet,
            window.device_core * 100.0,
            if window.is_spoiled() { " SPOILED" } else { "" },
            window.thread_shares()
        );
        self.measured.push(Measurement { role, repetition, window });
        Ok(())
    }

    /// The node owns every flow; packets arrive directly, with aggregation on and off, and through the tunnel.
    fn owner(&mut self, repetition: u32) -> Result<()> {
        let rig = Rig::new("asymmetry", Links::NativeEverywhere)?;
        let plan = self.plan().with_for(INGRESS_NODE, &["--forwarder", "xdp"]);
        let device = Device::start_node(&rig, Peer::Samepath, &plan)?;
        let cluster = cluster_of(&device)?;
        let flows = self.arguments.flows;
        cluster.open_at(&rig, 1, Traffic::Udp, 0, flows)?;
        let direct = Stream::steady(Traffic::Udp.steady(), flows, &rig.into_ingress()?);
        self.note(&rig, &device, Role::Local, repetition, &direct)?;
        cluster.set_aggregation(false)?;
        self.note(&rig, &device, Role::AggregationOff, repetition, &direct)?;
        cluster.set_aggregation(true)?;
        let way = cluster.way_into(&rig, INGRESS_NODE)?;
        let recording = self.recording(&rig, cluster, Stream { way, ..direct.clone() })?;
        for (role, every) in [(Role::OwnerHalf, 2), (Role::Owner, 1)] {
            let recording = Recording { every, ..recording.clone() };
            let flows = recording.frames.len() as u64;
            let stream = Stream { flows, recording: Some(recording), ..direct.clone() };
            let before = cluster.stats(1)?;
            self.note(&rig, &device, role, repetition, &stream)?;
            nothing_was_refused(&before, &cluster.stats(1)?)?;
        }
        device.stop(&rig)
    }

    /// The packets another node would redirect to the Owner: its XDP program's, which the generator numbers and tags,
    /// so that the core of the Owner is full and nothing else.
    fn recording(&self, rig: &Rig, cluster: &Cluster, stream: Stream) -> Result<Recording> {
        let node = cluster.namespace(INGRESS_NODE);
        let way = rig.into_cluster_link();
        for _ in 0..PUBLISHING_ATTEMPTS {
            publish(rig, &stream.clone().gently())?;
            let counts = cluster.stats(INGRESS_NODE)?.forwards;
            if counts.published - counts.withdrawn >= stream.flows * 97 / 100 {
                break;
            }
        }
        let keys = ForwarderKeys::of(node, "inside")?;
        let frames = recorder::record(rig, INGRESS_NODE, &stream, &keys)?;
        Ok(Recording { frames, key_half: keys.key_half, every: 1, way })
    }

    /// The node owns half of the flows, another node the other half; workers tunnel.
    fn forwarder(&mut self, repetition: u32) -> Result<()> {
        let rig = Rig::new("asymmetry", Links::Freed)?;
        let device = Device::start_node(&rig, Peer::SamepathTunnel, &self.plan())?;
        let cluster = cluster_of(&device)?;
        let flows = self.arguments.flows;
        cluster.open_at(&rig, 1, Traffic::Udp, 0, flows)?;
        cluster.open_at(&rig, 2, Traffic::Udp, flows, flows)?;
        rig.cut_cluster_link()?;
        let own = Stream::steady(Traffic::Udp.steady(), flows, &rig.into_ingress()?);
        self.note(&rig, &device, Role::LocalBeside, repetition, &own)?;
        let both = Stream { flows: 2 * flows, ..own.clone() };
        self.note(&rig, &device, Role::ForwarderHalf, repetition, &both)?;
        let others = Stream { first_flow: flows, ..own };
        self.note(&rig, &device, Role::Forwarder, repetition, &others)?;
        device.stop(&rig)
    }

    /// Another node owns all flows; the XDP program tunnels.
    fn forwarder_in_xdp(&mut self, repetition: u32) -> Result<()> {
        let rig = Rig::new("asymmetry", Links::Redirectable)?;
        let plan = self.plan().with(&["--forwarder", "xdp"]);
        let device = Device::start_node(&rig, Peer::SamepathTunnelXdp, &plan)?;
        let cluster = cluster_of(&device)?;
        let flows = self.arguments.flows;
        cluster.open_at(&rig, 2, Traffic::Udp, 0, flows)?;
        let stream = Stream::steady(Traffic::Udp.steady(), flows, &rig.into_ingress()?);
        publish(&rig, &stream)?;
        rig.cut_cluster_link()?;
        let before = cluster.stats(1)?;
        self.note(&rig, &device, Role::ForwarderXdp, repetition, &stream)?;
        let after = cluster.stats(1)?;
        let by_xdp = after.xdp_outcome("redirected") - before.xdp_outcome("redirected");
        let by_worker = after.rx - before.rx;
        println!(
            "  {:.2} % by XDP; {} of {flows} flows published, {} offers refused",
            100.0 * by_xdp as f64 / (by_xdp + by_worker).max(1) as f64,
            after.forwards.published - after.forwards.withdrawn,
            after.forwards.refused
        );
        device.stop(&rig)
    }

    fn finish(&self, mut report: Report) -> Result<()> {
        for measurement in &self.measured {
            report.measurement(measurement)?;
        }
        let bars = self.print_medians(&mut report);
        report.plot("", "CPU time per packet of one node, by role", "ns per packet", &bars)?;
        let rate = |window: &Window| window.forwarded;
        let cost = |window: &Window| window.ns_per_packet;
        let figures = [
            ("aggregation_on_symmetric_ratio", self.ratio(Role::Local, Role::AggregationOff, rate)),
            ("owner_cost_ratio", self.ratio(Role::Owner, Role::Local, cost)),
            ("forwarder_cost_ratio/worker", self.ratio(Role::Forwarder, Role::LocalBeside, cost)),
            ("forwarder_cost_ratio/xdp", self.ratio(Role::ForwarderXdp, Role::LocalBeside, cost)),
        ];
        for (name, summary) in &figures {
            if let Some(summary) = summary {
                report.metric(name, summary);
            }
        }
        for (name, forwarder) in [("", &figures[3].1), ("/worker", &figures[2].1)] {
            if let (Some(owner), Some(forwarder)) = (&figures[1].1, forwarder) {
                let factor = Summary::of([scaling(4, owner.median, forwarder.median)]);
                report.metric(&format!("scaling_factor_4_nodes{name}"), &factor.unwrap_or_default());
            }
        }
        let published = Summary::of([PUBLISHED_BY_CISCO]).unwrap_or_default();
        report.metric("scaling_factor_4_nodes/published_by_cisco", &published);
        report.print_metrics(GOALS);
        report.write().map(drop)
    }

    /// One role by the other, within each repetition.
    fn ratio(&self, one: Role, other: Role, read: fn(&Window) -> f64) -> Option<Summary> {
        let find = |role: Role, repetition: u32| {
            let mut clean = self.measured.iter().filter(|one| !one.window.is_spoiled());
            let found = clean.find(|one| one.role == role && one.repetition == repetition);
            found.map(|measurement| read(&measurement.window))
        };
        let last = self.measured.iter().map(|one| one.repetition).max()?;
        Summary::of((0..=last).filter_map(|r| Some(find(one, r)? / find(other, r)?)))
    }

    /// The table of medians; costs as bars.
    fn print_medians(&self, report: &mut Report) -> Vec<Bar> {
        let mut bars = Vec::new();
        let mut table = Table::new(&["role", "Mpps", "ns/packet", "spread %", "spoiled"]);
        for role in Role::ALL {
            let all = self.measured.iter().filter(|one| one.role == role).map(|one| &one.window);
            let (spoiled, windows): (Vec<&Window>, Vec<&Window>) = all.partition(|one| one.is_spoiled());
            let (Some(rate), Some(cost)) = (
                Summary::of(windows.iter().map(|window| window.forwarded / 1e6)),
                Summary::of(windows.iter().map(|window| window.ns_per_packet)),
            ) else {
                continue;
            };
            bars.push(Bar { label: role.name().to_owned(), group: role.group(), summary: cost.clone() });
            table.row([
                role.name().to_owned(),
                format!("{:.3}", rate.median),
                format!("{:.0}", cost.median),
                format!("{:.0}", cost.spread_percent()),
                spoiled.len().to_string(),
            ]);
        }
        report.table(table);
        bars
    }
}

/// What `nodes` nodes forward together, by what they would if each did its own, when every packet arrives at
/// a random node: one in `nodes` is at its Owner, every other one costs a forwarder and its Owner.
fn scaling(nodes: u32, owner: f64, forwarder: f64) -> f64 {
    let at_owner = 1.0 / f64::from(nodes);
    1.0 / (at_owner + (1.0 - at_owner) * (owner + forwarder))
}

/// Sends each flow so often that its worker publishes it for the XDP program.
fn publish(rig: &Rig, stream: &Stream) -> Result<()> {
    let seconds = stream.flows as f64 * PUBLISHED_AFTER / PUBLISHING_RATE;
    Generator::send(rig, Stream { rate: PUBLISHING_RATE, seconds, ..stream.clone() }).map(drop)
}

/// What the Owner refuses costs it less than what it takes: then the figure would be no figure.
fn nothing_was_refused(before: &Stats, after: &Stats) -> Result<()> {
    let by = |reason: &str| after.drops.get(reason).unwrap_or(&0) - before.drops.get(reason).unwrap_or(&0);
    let refused: Vec<String> = ["tunnel_replay", "tunnel_tag", "tunnel_key", "tunnel_malformed"]
        .into_iter()
        .filter(|reason| by(reason) > 0)
        .map(|reason| format!("{} {reason}", by(reason)))
        .collect();
    ensure!(refused.is_empty(), "the Owner refused tunnel packets: {}", refused.join(", "));
    Ok(())
}

fn cluster_of(device: &Device) -> Result<&Cluster> {
    device.cluster().context("the device is not samepath")
}
