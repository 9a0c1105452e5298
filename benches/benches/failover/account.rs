//! What is kept of every play, and what all repetitions come to.

use std::collections::BTreeMap;

use samepath_benches::report::{Bar, Goal, Report, Summary, Table};
use samepath_tests::traffic::lasting::Told;
use serde::{Deserialize, Serialize};

/// One play, an entry of `measurements` in `target/bench/failover.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Play {
    /// A case of the end-to-end tests, or `machine-SETTING-PATHS`.
    pub case: String,
    /// `samepath` or `conntrackd`.
    pub device: String,
    pub repetition: u32,
    /// Sessions its backup knew before it happened; 0 where that was not asked.
    pub known: u64,
    /// Seconds it took in all.
    pub seconds: f64,
    /// What the traffic saw, if it could be told.
    pub told: Option<Told>,
    /// Why there is nothing to tell.
    pub failure: Option<String>,
}

impl Play {
    /// Sessions that did not go on.
    pub fn lost(told: &Told) -> usize {
        told.broken.values().sum::<usize>() + told.silent
    }

    pub fn print(&self) {
        print!("{:>3} {:<10} {:<26} {:>5.1} s: ", self.repetition, self.device, self.case, self.seconds);
        match &self.told {
            Some(told) => println!(
                "silence UDP {:>5.0} ms, TCP {:>5.0} ms; {} of {} sessions lost, {} not opened",
                last(&told.udp_silence_ms),
                last(&told.tcp_silence_ms),
                Self::lost(told),
                told.tcp + told.udp_silence_ms.len(),
                told.unopened
            ),
            None => println!("{}", self.failure.as_deref().unwrap_or("nothing to tell")),
        }
    }
}

fn last(sorted: &[f64]) -> f64 {
    sorted.last().copied().unwrap_or(0.0)
}

/// The value below which `share` of the values lie.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 - 1.0) * share).ceil() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

/// All repetitions of one case on one device.
#[derive(Default)]
struct Outcome {
    repetitions: u32,
    failed: u32,
    sessions: usize,
    unopened: usize,
    lost: usize,
    /// The longest of each repetition.
    udp_ms: Vec<f64>,
    tcp_ms: Vec<f64>,
    sent: u64,
    unanswered: u64,
}

impl Outcome {
    fn add(&mut self, play: &Play) {
        self.repetitions += 1;
        let Some(told) = &play.told else {
            self.failed += 1;
            return;
        };
        self.sessions += told.tcp + told.udp_silence_ms.len();
        self.unopened += told.unopened;
        self.lost += Play::lost(told);
        self.udp_ms.push(last(&told.udp_silence_ms));
        self.tcp_ms.push(last(&told.tcp_silence_ms));
        self.sent += told.udp_sent;
        self.unanswered += told.udp_sent.saturating_sub(told.udp_answers);
    }

    fn row(&self, case: &str, device: &str) -> [String; 12] {
        let ms = |values: &[f64], share: f64| format!("{:.0}", quantile(values, share));
        [
            case.to_owned(),
            device.to_owned(),
            self.repetitions.to_string(),
            self.failed.to_string(),
            self.lost.to_string(),
            self.sessions.to_string(),
            self.unopened.to_string(),
            ms(&self.udp_ms, 0.5),
            ms(&self.udp_ms, 0.99),
            ms(&self.udp_ms, 1.0),
            ms(&self.tcp_ms, 1.0),
            format!("{:.2}", 100.0 * self.unanswered as f64 / self.sent.max(1) as f64),
        ]
    }
}

const HEAD: [&str; 12] = [
    "case",
    "device",
    "reps",
    "failed",
    "sessions lost",
    "of",
    "not opened",
    "blackout ms p50",
    "p99",
    "max",
    "TCP silence ms max",
    "datagrams lost %",
];

/// Tables, figures and plot of all plays, written to `target/bench/failover.json`.
pub fn write(mut report: Report, plays: &[Play]) -> anyhow::Result<()> {
    let mut outcomes: BTreeMap<(&str, &str), Outcome> = BTreeMap::new();
    for play in plays {
        report.measurement(play)?;
        outcomes.entry((&play.case, &play.device)).or_default().add(play);
    }
    let mut table = Table::new(&HEAD);
    let (mut bars, mut goals) = (Vec::new(), Vec::new());
    for (&(case, device), outcome) in &outcomes {
        table.row(outcome.row(case, device));
        let figure = |value: f64| Summary::of([value]).unwrap_or_default();
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            if !outcome.udp_ms.is_empty() {
                let name = format!("blackout_ms/{case}/{device}/{name}");
                report.metric(&name, &figure(quantile(&outcome.udp_ms, share)));
            }
        }
        for (name, value) in [("sessions_lost", outcome.lost), ("plays_failed", outcome.failed as usize)] {
            let name = format!("{name}/{case}/{device}");
            report.metric(&name, &figure(value as f64));
            if device == "samepath" {
                goals.push((name, Goal::AtMost(0.0)));
            }
        }
        if let Some(summary) = Summary::of(outcome.udp_ms.iter().copied()) {
            let group = usize::from(device != "samepath");
            bars.push(Bar { label: format!("{case} {device}"), group, summary });
        }
    }
    report.table(table);
    let goals: Vec<(&str, Goal)> = goals.iter().map(|(name, goal)| (name.as_str(), *goal)).collect();
    report.print_metrics(&goals);
    report.plot("", "Longest silence of a UDP flow, by case", "ms", &bars)?;
    report.write().map(drop)
}
