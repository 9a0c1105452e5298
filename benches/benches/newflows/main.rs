//! New sessions: how many per second without and with backups, how far behind backups are, what a session
//! costs, and how long a takeover takes; beside nf_conntrack and conntrackd. Topology and method:
//! `benches/README.md`.

mod insertion;
mod sync;
mod takeover;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Parser;
use samepath_benches::device::Peer;
use samepath_benches::report::{Bar, Goal, Report, Summary, Table};
use samepath_benches::rig::Setting;

/// How the bench is called.
#[derive(Parser, Debug)]
struct Arguments {
    /// Repetitions.
    #[arg(long, default_value_t = 3)]
    reps: u32,
    /// Parts: insertion, sync, lag, takeover.
    #[arg(long, value_delimiter = ',', default_value = "insertion,sync,lag,takeover")]
    parts: Vec<String>,
    /// Sessions per second at which backups are tried, ascending.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "20000,40000,60000,80000,100000,150000,200000,300000,400000"
    )]
    rates: Vec<f64>,
    /// Rates tried between the last good one and the first at which backups fell behind.
    #[arg(long, default_value_t = 3)]
    halvings: u32,
    /// Seconds of new sessions at each rate.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Sessions that are taken over.
    #[arg(long, default_value_t = 400_000)]
    takeover: u64,
    /// Go on where the last call ended: its figures count too.
    #[arg(long)]
    keep: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

const GOALS: &[(&str, Goal)] = &[
    ("ratio_vs_conntrack_insert", Goal::AtLeast(3.5)),
    ("ratio_vs_conntrackd_sync", Goal::AtLeast(13.0)),
    ("cpu_per_session_ratio/sender", Goal::AtMost(0.1)),
    ("cpu_per_session_ratio/receiver", Goal::AtMost(0.1)),
    ("backup_lag_p99_ms", Goal::AtMost(5.0)),
    ("takeover_400k_ms", Goal::AtMost(50.0)),
];

/// Figures by name, one value per repetition.
type Figures = BTreeMap<String, Vec<f64>>;

/// What was measured.
struct Bench {
    arguments: Arguments,
    report: Report,
    figures: Figures,
}

impl Bench {
    fn note(&mut self, name: &str, value: f64) {
        self.figures.entry(name.to_owned()).or_default().push(value);
    }

    /// Figures that begin with `prefix`.
    fn bars(&self, prefix: &str) -> Vec<Bar> {
        let named =
            self.figures.iter().filter_map(|(name, values)| Some((name.strip_prefix(prefix)?, values)));
        named
            .filter_map(|(name, values)| {
                let group = usize::from(!name.starts_with("samepath"));
                Some(Bar { label: name.to_owned(), group, summary: Summary::of(values.iter().copied())? })
            })
            .collect()
    }

    fn median(&self, name: &str) -> Option<f64> {
        Summary::of(self.figures.get(name)?.iter().copied()).map(|summary| summary.median)
    }

    /// Two figures of the same repetition, divided.
    fn ratio(&mut self, metric: &str, ours: &str, theirs: &str) {
        let (Some(ours), Some(theirs)) = (self.figures.get(ours), self.figures.get(theirs)) else { return };
        if let Some(summary) = Summary::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs)) {
            self.report.metric(metric, &summary);
        }
    }

    fn metric(&mut self, metric: &str, figure: &str) {
        let values = self.figures.get(figure).into_iter().flatten().copied();
        if let Some(summary) = Summary::of(values) {
            self.report.metric(metric, &summary);
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let _settings = [
        Setting::at_least("net/netfilter/nf_conntrack_max", 16 << 20)?,
        Setting::at_least("net/netfilter/nf_conntrack_buckets", 1 << 20)?,
        // conntrackd asks for buffers of 64 MiB.
        Setting::at_least("net/core/rmem_max", 64 << 20)?,
        Setting::at_least("net/core/wmem_max", 64 << 20)?,
    ];
    let figures = if arguments.keep { Report::earlier("newflows", "figures")? } else { Figures::new() };
    let earlier = if arguments.keep { Report::earlier("newflows", "measurements")? } else { Vec::new() };
    let mut bench = Bench { report: Report::new("newflows")?, arguments, figures };
    bench.report.measurements = earlier;
    let mut rates = insertion::Rates::default();
    for repetition in 0..bench.arguments.reps {
        for part in bench.arguments.parts.clone() {
            match part.as_str() {
                "insertion" => insertion::measure(&mut bench, &mut rates, repetition)?,
                "sync" => sync::measure(&mut bench, repetition)?,
                "lag" => sync::lag(&mut bench, repetition)?,
                "takeover" => takeover::measure(&mut bench, repetition)?,
                other => anyhow::bail!("`{other}` is no part: insertion, sync, lag, takeover"),
            }
        }
    }
    finish(bench)
}

fn finish(mut bench: Bench) -> Result<()> {
    let mut table = Table::new(&["figure", "median", "lowest", "highest"]);
    for (name, values) in &bench.figures {
        if let Some(summary) = Summary::of(values.iter().copied()) {
            table.row([
                name.clone(),
                format!("{:.2}", summary.median),
                format!("{:.2}", summary.lowest),
                format!("{:.2}", summary.highest),
            ]);
        }
    }
    bench.report.table(table);
    bench.report.figures = bench.figures.clone();
    bench.report.plot(
        "",
        "New sessions of one core",
        "new sessions per second",
        &bench.bars("insert_per_s/"),
    )?;
    let insert = |peer: Peer, traffic: &str| format!("insert_per_s/{peer}/{traffic}");
    bench.ratio("ratio_vs_conntrack_insert", &insert(Peer::Samepath, "udp"), &insert(Peer::Conntrack, "udp"));
    bench.ratio(
        "ratio_vs_conntrack_insert_alone",
        &insert(Peer::SamepathAlone, "udp"),
        &insert(Peer::Conntrack, "udp"),
    );
    bench.ratio(
        "ratio_vs_conntrack_insert_alone/tcp_syn",
        &insert(Peer::SamepathAlone, "tcp_syn"),
        &insert(Peer::Conntrack, "tcp_syn"),
    );
    bench.ratio("ratio_vs_conntrackd_sync", "loss_free_per_s/samepath", "loss_free_per_s/conntrackd");
    let pair = "ratio_vs_conntrackd_sync/one_backup";
    bench.ratio(pair, "loss_free_per_s/samepath-pair", "loss_free_per_s/conntrackd");
    for end in ["sender", "receiver"] {
        bench.ratio(
            &format!("cpu_per_session_ratio/{end}"),
            &format!("cpu_ns_per_session/samepath/{end}"),
            &format!("cpu_ns_per_session/conntrackd/{end}"),
        );
    }
    for (metric, figure) in [
        ("backup_lag_p50_ms", "lag_p50_ms"),
        ("backup_lag_p99_ms", "lag_p99_ms"),
        ("takeover_400k_ms", "takeover_ms/samepath"),
        ("takeover_400k_ms/conntrackd_commit", "takeover_ms/conntrackd"),
    ] {
        bench.metric(metric, figure);
    }
    bench.report.print_metrics(GOALS);
    bench.report.write().map(drop)
}
