//! What connections notice when nodes die, sleep, are cut off, restart or are drained: many repetitions of every case
//! of the end-to-end tests (`tests/src/scenario/failover.rs`), on a cluster of three in network namespaces.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use samepath_benches::report::{Bar, Goal, Report, Summary, Table};
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::scenario::failover::{Case, Stage, Traffic};
use samepath_tests::traffic::lasting::Told;
use serde_json::json;

/// How the bench is called.
#[derive(Parser, Debug)]
struct Arguments {
    /// Repetitions of each case, in turn.
    #[arg(long, default_value_t = 50)]
    reps: u32,
    /// Cases; all of them if none is named.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<Case>,
    /// TCP connections of a case, besides a download.
    #[arg(long, default_value_t = 200)]
    tcp: usize,
    /// UDP flows of a case, a datagram each 10 ms.
    #[arg(long, default_value_t = 16)]
    udp: usize,
    /// Seconds a node sleeps or a link is cut.
    #[arg(long, default_value_t = 10.0)]
    harm: f64,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Silences of one case, ms, and what broke.
#[derive(Debug, Default)]
struct Outcome {
    repetitions: u32,
    connections: usize,
    broken: usize,
    errors: BTreeMap<String, usize>,
    /// The longest of each repetition.
    udp_ms: Vec<f64>,
    tcp_ms: Vec<f64>,
    sent: u64,
    lost: u64,
}

impl Outcome {
    fn add(&mut self, told: &Told) {
        self.repetitions += 1;
        self.connections += told.tcp;
        self.broken += told.broken.values().sum::<usize>() + told.stalled;
        for (error, count) in &told.broken {
            *self.errors.entry(error.clone()).or_default() += count;
        }
        self.udp_ms.extend(told.udp_silence_ms.last());
        self.tcp_ms.extend(told.tcp_silence_ms.last());
        self.sent += told.udp_sent;
        self.lost += told.udp_sent.saturating_sub(told.udp_answers);
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let cases = if arguments.cases.is_empty() { Case::ALL.to_vec() } else { arguments.cases.clone() };
    let traffic = Traffic {
        tcp: arguments.tcp,
        udp: arguments.udp,
        harm: Duration::from_secs_f64(arguments.harm),
        ..Traffic::default()
    };
    let mut report = Report::in_bed("failover")?;
    let mut outcomes: BTreeMap<&str, Outcome> = BTreeMap::new();
    for repetition in 0..arguments.reps {
        // A bed of its own for each round: a case must not live on what the one before left.
        let mut stage = Stage::set(Bed::new("bench-failover", Shape::default())?, &[])?;
        for &case in &cases {
            let told = stage.play(case, traffic).with_context(|| format!("repetition {repetition}"))?;
            println!(
                "{repetition:>3} {:<26} silence UDP {:>5.0} ms, TCP {:>5.0} ms, {} of {} connections broken",
                case.name(),
                told.udp_silence_ms.last().unwrap_or(&0.0),
                told.tcp_silence_ms.last().unwrap_or(&0.0),
                told.broken.values().sum::<usize>() + told.stalled,
                told.tcp
            );
            report.measurement(json!({"case": case, "repetition": repetition, "told": told}))?;
            outcomes.entry(case.name()).or_default().add(&told);
        }
        drop(stage.strike());
    }
    finish(report, &outcomes)
}

/// The value below which `share` of the sorted values lie.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 - 1.0) * share).ceil() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

fn finish(mut report: Report, outcomes: &BTreeMap<&str, Outcome>) -> Result<()> {
    let mut table = Table::new(&[
        "case",
        "reps",
        "broken",
        "of",
        "blackout ms p50",
        "p99",
        "max",
        "TCP silence p50",
        "max",
        "datagrams lost %",
    ]);
    let mut bars = Vec::new();
    let mut goals = Vec::new();
    for (&case, outcome) in outcomes {
        let lost = 100.0 * outcome.lost as f64 / outcome.sent.max(1) as f64;
        table.row([
            case.to_owned(),
            outcome.repetitions.to_string(),
            outcome.broken.to_string(),
            outcome.connections.to_string(),
            format!("{:.0}", quantile(&outcome.udp_ms, 0.5)),
            format!("{:.0}", quantile(&outcome.udp_ms, 0.99)),
            format!("{:.0}", quantile(&outcome.udp_ms, 1.0)),
            format!("{:.0}", quantile(&outcome.tcp_ms, 0.5)),
            format!("{:.0}", quantile(&outcome.tcp_ms, 1.0)),
            format!("{lost:.2}"),
        ]);
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            let value = quantile(&outcome.udp_ms, share);
            report.metric(&format!("blackout_ms/{case}/{name}"), &Summary::of([value]).unwrap_or_default());
        }
        let broken = format!("connections_broken/{case}");
        report.metric(&broken, &Summary::of([outcome.broken as f64]).unwrap_or_default());
        goals.push((broken, Goal::AtMost(0.0)));
        if let Some(summary) = Summary::of(outcome.udp_ms.iter().copied()) {
            bars.push(Bar { label: case.to_owned(), group: 0, summary });
        }
        if !outcome.errors.is_empty() {
            println!("{case}: {:?}", outcome.errors);
        }
    }
    report.table(table);
    let goals: Vec<(&str, Goal)> = goals.iter().map(|(name, goal)| (name.as_str(), *goal)).collect();
    report.print_metrics(&goals);
    report.plot("", "Longest silence of a UDP flow, by case", "ms", &bars)?;
    report.write().map(drop)
}
