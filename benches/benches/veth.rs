//! End to end over AF_XDP on veth: samepath beside what somebody would take instead of it.
//! Topology and method: `benches/README.md`.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::Result;
use clap::Parser;
use samepath_benches::device::{self, Device, Peer, Traffic};
use samepath_benches::generator::Stream;
use samepath_benches::measure::{Search, Window};
use samepath_benches::report::{Bar, Goal, Report, Summary, Table};
use samepath_benches::rig::{Links, Rig, Setting};
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
    /// Flows.
    #[arg(long, value_delimiter = ',', default_value = "1000,100000,1000000")]
    flows: Vec<u64>,
    /// Devices to measure.
    #[arg(long, value_delimiter = ',', default_values_t = PEERS)]
    peers: Vec<Peer>,
    /// What the flows are: udp or tcp.
    #[arg(long, value_parser = traffic, default_value = "udp")]
    traffic: Traffic,
    /// Go on where the last call ended: its measurements count too.
    #[arg(long)]
    keep: bool,
    /// Number of the first repetition; ratios are made within one, so calls with other devices share it.
    #[arg(long, default_value_t = 0)]
    first: u32,
    /// A flag more for the node under test and the others, as `--node-flag=--batch=16`.
    #[arg(long)]
    node_flag: Vec<String>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn traffic(text: &str) -> Result<Traffic, String> {
    [Traffic::Udp, Traffic::Tcp]
        .into_iter()
        .find(|traffic| traffic.name() == text)
        .ok_or_else(|| format!("`{text}` is neither udp nor tcp"))
}

/// What is measured unless told otherwise.
const PEERS: [Peer; 10] = [
    Peer::Samepath,
    Peer::Bare,
    Peer::Kernel,
    Peer::Conntrack,
    Peer::SamepathTunnel,
    Peer::ConntrackVxlan,
    Peer::Redirect,
    Peer::Testpmd,
    Peer::SamepathSplit,
    Peer::TestpmdSplit,
];

const GOALS: &[(&str, Goal)] = &[
    ("ratio_vs_bare/1k", Goal::AtLeast(0.92)),
    ("ratio_vs_bare/1m", Goal::AtLeast(0.90)),
    ("ratio_vs_conntrack/1k", Goal::AtLeast(1.6)),
    ("ratio_vs_conntrack/100k", Goal::AtLeast(2.1)),
    ("ratio_vs_conntrack/1m", Goal::AtLeast(2.4)),
    ("ratio_vs_bare/1k/tcp", Goal::AtLeast(0.92)),
    ("ratio_vs_conntrack/1k/tcp", Goal::AtLeast(1.6)),
    ("ratio_vs_conntrack/100k/tcp", Goal::AtLeast(2.1)),
    ("ratio_vs_conntrack_vxlan", Goal::AtLeast(3.0)),
    ("ratio_vs_testpmd", Goal::AtLeast(2.5)),
    ("ratio_vs_testpmd_split", Goal::AtLeast(0.95)),
];

/// One device, one number of flows, one repetition.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Measurement {
    peer: String,
    flows: u64,
    traffic: String,
    repetition: u32,
    #[serde(flatten)]
    window: Window,
}

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some(device::FORWARD_BARE) {
        return device::forward_bare();
    }
    let arguments = Arguments::parse();
    let _settings = machine_settings(&arguments)?;
    let rig = Rig::new("veth", Links::Freed)?;
    let mut search = Search::new(arguments.window);
    let name = report_of(arguments.traffic);
    let mut measured = if arguments.keep { Report::earlier(name, "measurements")? } else { Vec::new() };
    let report = Report::new(name)?;
    for repetition in arguments.first..arguments.first + arguments.reps {
        for &flows in &arguments.flows {
            for &peer in &arguments.peers {
                if !is_worth_it(peer, flows, &arguments.flows) {
                    continue;
                }
                let window = one(&rig, &mut search, peer, flows, &arguments)?;
                println!("{}", line(peer, flows, &window));
                let (peer, traffic) = (peer.name().to_owned(), arguments.traffic.name().to_owned());
                measured.push(Measurement { peer, flows, traffic, repetition, window });
            }
        }
    }
    drop(rig);
    finish(report, &measured)
}

/// Each kind of traffic has a report of its own, so that one can be measured again without the other.
fn report_of(traffic: Traffic) -> &'static str {
    match traffic {
        Traffic::Udp => "veth",
        Traffic::Tcp => "veth-tcp",
    }
}

/// Without sessions the number of flows makes no difference: once per round is enough. So it is for tunnels,
/// which are compared at 100,000 flows.
fn is_worth_it(peer: Peer, flows: u64, all: &[u64]) -> bool {
    match peer {
        Peer::SamepathTunnel | Peer::SamepathTunnelXdp | Peer::ConntrackVxlan => {
            flows == 100_000 || all.len() == 1
        }
        Peer::SamepathSplit => flows == all[0],
        _ => peer.keeps_sessions() || flows == all[0],
    }
}

fn machine_settings(arguments: &Arguments) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    if arguments.peers.iter().any(|peer| matches!(peer, Peer::Conntrack | Peer::ConntrackVxlan)) {
        settings.push(Setting::at_least("net/netfilter/nf_conntrack_max", 4 << 20)?);
        settings.push(Setting::at_least("net/netfilter/nf_conntrack_buckets", 1 << 20)?);
    }
    if arguments.peers.iter().any(|peer| matches!(peer, Peer::Testpmd | Peer::TestpmdSplit)) {
        settings.push(Setting::at_least("vm/nr_hugepages", 400)?);
    }
    Ok(settings)
}

fn one(rig: &Rig, search: &mut Search, peer: Peer, flows: u64, arguments: &Arguments) -> Result<Window> {
    let device = match peer.plan(flows) {
        Some(plan) => {
            let flags: Vec<&str> = arguments.node_flag.iter().map(String::as_str).collect();
            Device::start_node(rig, peer, &plan.with(&flags))?
        }
        None => Device::start(rig, peer, flows)?,
    };
    device.open_flows(rig, arguments.traffic, flows)?;
    let stream = Stream::steady(arguments.traffic.steady(), flows, &rig.into_ingress()?);
    let window = search.peak(rig, &device, &format!("{peer}@{flows}"), &stream)?;
    device.stop(rig)?;
    Ok(window)
}

fn line(peer: Peer, flows: u64, window: &Window) -> String {
    format!(
        "{:<16} {flows:>8} flows  {:.3} Mpps of {:.3} offered, {:.0} ns/packet, core {:.0} %, others {:.0} %, stolen {:.0} %{}  ({})",
        peer.name(),
        window.forwarded / 1e6,
        window.offered / 1e6,
        window.ns_per_packet,
        window.device_core * 100.0,
        window.foreign * 100.0,
        window.stolen * 100.0,
        if window.is_spoiled() { " SPOILED" } else { "" },
        window.thread_shares()
    )
}

fn finish(mut report: Report, measured: &[Measurement]) -> Result<()> {
    for measurement in measured {
        report.measurement(measurement)?;
    }
    let bars = print_medians(&mut report, measured);
    report.plot("", "Forwarding on one core, 60-byte packets", "million packets per second", &bars)?;
    let (udp, tcp) = (Traffic::Udp.name(), Traffic::Tcp.name());
    for (flows, label) in [(1_000, "1k"), (100_000, "100k"), (1_000_000, "1m")] {
        for (other, name) in [(Peer::Bare, "bare"), (Peer::Conntrack, "conntrack"), (Peer::Kernel, "kernel")]
        {
            let pair = [(Peer::Samepath, flows), (other, flows)];
            if let Some(summary) = ratio(measured, udp, pair) {
                report.metric(&format!("ratio_vs_{name}/{label}"), &summary);
            }
            if let Some(summary) = ratio(measured, tcp, pair) {
                report.metric(&format!("ratio_vs_{name}/{label}/tcp"), &summary);
            }
        }
    }
    // The tunnels are compared at the middle of the three numbers of flows, testpmd has no flows.
    let pairs = [
        ("conntrack_vxlan", Peer::SamepathTunnel, Peer::ConntrackVxlan, 100_000),
        ("testpmd", Peer::Samepath, Peer::Testpmd, 1_000),
        ("testpmd_split", Peer::SamepathSplit, Peer::TestpmdSplit, 1_000),
    ];
    for (name, ours, theirs, flows) in pairs {
        if let Some(summary) = ratio(measured, udp, [(ours, flows), (theirs, flows)]) {
            report.metric(&format!("ratio_vs_{name}"), &summary);
        }
    }
    report.print_metrics(GOALS);
    report.write().map(drop)
}

/// Rates of two devices within one repetition, divided; spoiled windows do not count. A device without
/// sessions was measured once per repetition, whatever the number of flows.
fn ratio(measured: &[Measurement], traffic: &str, [ours, theirs]: [(Peer, u64); 2]) -> Option<Summary> {
    let find = |(peer, flows): (Peer, u64), repetition: u32| {
        measured.iter().filter(|one| !one.window.is_spoiled()).find(|one| {
            one.repetition == repetition
                && one.traffic == traffic
                && one.peer == peer.name()
                && (one.flows == flows || !peer.keeps_sessions())
        })
    };
    let repetitions = measured.iter().map(|one| one.repetition).max()?;
    Summary::of((0..=repetitions).filter_map(|repetition| {
        Some(find(ours, repetition)?.window.forwarded / find(theirs, repetition)?.window.forwarded)
    }))
}

/// The table of medians; the same as bars.
fn print_medians(report: &mut Report, measured: &[Measurement]) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut groups: BTreeMap<(&str, u64, &str), Vec<&Measurement>> = BTreeMap::new();
    for one in measured {
        groups.entry((&one.traffic, one.flows, &one.peer)).or_default().push(one);
    }
    let mut table = Table::new(&["device", "packets", "flows", "Mpps", "±%", "ns/packet", "±%", "spoiled"]);
    for ((traffic, flows, peer), group) in groups {
        let clean = || group.iter().filter(|one| !one.window.is_spoiled());
        let of = |read: fn(&Window) -> f64| Summary::of(clean().map(|one| read(&one.window)));
        let (Some(rate), Some(cost)) =
            (of(|window| window.forwarded / 1e6), of(|window| window.ns_per_packet))
        else {
            continue;
        };
        let has_flows = Peer::from_str(peer).is_ok_and(Peer::keeps_sessions);
        let label = if has_flows { format!("{peer}, {flows} {traffic} flows") } else { peer.to_owned() };
        bars.push(Bar { label, group: usize::from(!peer.starts_with("samepath")), summary: rate.clone() });
        table.row([
            peer.to_owned(),
            traffic.to_owned(),
            flows.to_string(),
            format!("{:.3}", rate.median),
            format!("{:.0}", rate.spread_percent()),
            format!("{:.0}", cost.median),
            format!("{:.0}", cost.spread_percent()),
            (group.len() - rate.repetitions).to_string(),
        ]);
    }
    report.table(table);
    bars
}
