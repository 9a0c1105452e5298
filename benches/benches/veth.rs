//! End to end over AF_XDP on veth: samepath beside what somebody would take instead of it.
//! Topology and method: `benches/README.md`.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Parser;
use samepath_benches::device::{self, Device, Peer, Traffic};
use samepath_benches::generator::Stream;
use samepath_benches::measure::{Search, Window};
use samepath_benches::report::{Goal, Report, Summary, Table};
use samepath_benches::rig::{ClusterLink, Rig, Setting};
use serde::Serialize;

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
    #[arg(long, value_delimiter = ',', default_value = "samepath,bare-af-xdp,kernel,conntrack,xdp-redirect")]
    peers: Vec<Peer>,
    /// What the flows are: udp or tcp.
    #[arg(long, value_parser = traffic, default_value = "udp")]
    traffic: Traffic,
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

const GOALS: &[(&str, Goal)] = &[
    ("ratio_vs_bare/1k", Goal::AtLeast(0.92)),
    ("ratio_vs_bare/1m", Goal::AtLeast(0.90)),
    ("ratio_vs_conntrack/1k", Goal::AtLeast(1.6)),
    ("ratio_vs_conntrack/100k", Goal::AtLeast(2.1)),
    ("ratio_vs_conntrack/1m", Goal::AtLeast(2.4)),
    ("ratio_vs_conntrack_vxlan", Goal::AtLeast(3.0)),
    ("ratio_vs_testpmd", Goal::AtLeast(2.5)),
];

/// One device, one number of flows, one repetition.
#[derive(Clone, Debug, Serialize)]
struct Measurement {
    peer: &'static str,
    flows: u64,
    traffic: &'static str,
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
    let rig = Rig::new("veth", ClusterLink::Veth)?;
    let mut search = Search::new(arguments.window);
    let mut measured = Vec::new();
    for repetition in 0..arguments.reps {
        for &flows in &arguments.flows {
            for &peer in &arguments.peers {
                // Without sessions the number of flows makes no difference: once per round is enough.
                if !peer.keeps_sessions() && flows != arguments.flows[0] {
                    continue;
                }
                let window = one(&rig, &mut search, peer, flows, arguments.traffic)?;
                println!("{}", line(peer, flows, &window));
                let traffic = arguments.traffic.name();
                measured.push(Measurement { peer: peer.name(), flows, traffic, repetition, window });
            }
        }
    }
    drop(rig);
    finish(&measured)
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

fn one(rig: &Rig, search: &mut Search, peer: Peer, flows: u64, traffic: Traffic) -> Result<Window> {
    let device = Device::start(rig, peer, flows)?;
    device.open_flows(rig, traffic, flows)?;
    let stream = Stream::steady(traffic.steady(), flows, 1.0, 1.0);
    let window = search.peak(rig, &device, &format!("{peer}@{flows}"), &stream)?;
    device.stop(rig)?;
    Ok(window)
}

fn line(peer: Peer, flows: u64, window: &Window) -> String {
    let threads: Vec<String> = window
        .threads
        .iter()
        .filter(|(_, share)| *share > 0.01)
        .map(|(name, share)| format!("{name} {:.0} %", share * 100.0))
        .collect();
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
        threads.join(", ")
    )
}

fn finish(measured: &[Measurement]) -> Result<()> {
    let mut report = Report::new("veth")?;
    for measurement in measured {
        report.measurement(measurement)?;
    }
    print_medians(measured);
    for (flows, label) in [(1_000, "1k"), (100_000, "100k"), (1_000_000, "1m")] {
        for (other, name) in [(Peer::Bare, "bare"), (Peer::Conntrack, "conntrack"), (Peer::Kernel, "kernel")]
        {
            if let Some(summary) = ratio(measured, (Peer::Samepath, flows), (other, flows)) {
                report.metric(&format!("ratio_vs_{name}/{label}"), &summary);
            }
        }
    }
    for (other, name) in [(Peer::Testpmd, "testpmd"), (Peer::TestpmdSplit, "testpmd_split")] {
        if let Some(summary) = ratio(measured, (Peer::Samepath, 1_000), (other, 1_000)) {
            report.metric(&format!("ratio_vs_{name}"), &summary);
        }
    }
    report.print_metrics(GOALS);
    report.write().map(drop)
}

/// Rates of two devices within one repetition, divided. A device without sessions was measured once per
/// repetition, whatever the number of flows.
fn ratio(measured: &[Measurement], ours: (Peer, u64), theirs: (Peer, u64)) -> Option<Summary> {
    let find = |(peer, flows): (Peer, u64), repetition: u32| {
        measured.iter().find(|one| {
            one.repetition == repetition
                && one.peer == peer.name()
                && (one.flows == flows || !peer.keeps_sessions())
        })
    };
    let repetitions = measured.iter().map(|one| one.repetition).max()?;
    Summary::of((0..=repetitions).filter_map(|repetition| {
        Some(find(ours, repetition)?.window.forwarded / find(theirs, repetition)?.window.forwarded)
    }))
}

fn print_medians(measured: &[Measurement]) {
    let mut groups: BTreeMap<(u64, &str), Vec<&Measurement>> = BTreeMap::new();
    for one in measured {
        groups.entry((one.flows, one.peer)).or_default().push(one);
    }
    let mut table = Table::new(&["device", "flows", "Mpps", "spread %", "ns/packet", "spread %", "spoiled"]);
    for ((flows, peer), group) in groups {
        let of = |read: fn(&Window) -> f64| Summary::of(group.iter().map(|one| read(&one.window)));
        let (Some(rate), Some(cost)) =
            (of(|window| window.forwarded / 1e6), of(|window| window.ns_per_packet))
        else {
            continue;
        };
        table.row([
            peer.to_owned(),
            flows.to_string(),
            format!("{:.3}", rate.median),
            format!("{:.0}", rate.spread_percent()),
            format!("{:.0}", cost.median),
            format!("{:.0}", cost.spread_percent()),
            group.iter().filter(|one| one.window.is_spoiled()).count().to_string(),
        ]);
    }
    println!("\n{table}");
}
