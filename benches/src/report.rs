//! What a bench leaves: a table on the terminal, JSON and plots under target/bench.

mod plot;
mod summary;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use samepath_tests::artifacts;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::rig::TOPOLOGY;
pub use plot::Bar;
pub use summary::Summary;
pub use table::Table;

/// `target/bench/NAME.json`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this document's shape.
    schema: u32,
    /// The bench.
    bench: String,
    /// What it ran on.
    machine: Machine,
    /// How it was called.
    arguments: Vec<String>,
    /// The figures that goals are written for.
    pub metrics: BTreeMap<String, serde_json::Value>,
    /// Everything measured, one entry per repetition and device.
    pub measurements: Vec<serde_json::Value>,
    /// Figures that metrics are made of, one value per repetition.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, Vec<f64>>,
    /// What each figure should be, and whether it is.
    goals: BTreeMap<String, Verdict>,
    /// Tables as they were printed.
    tables: Vec<Table>,
}

/// A goal and whether it was met.
#[derive(Debug, Serialize)]
struct Verdict {
    goal: String,
    met: bool,
}

/// The machine a bench ran on.
#[derive(Debug, Serialize)]
struct Machine {
    kernel: String,
    processor: String,
    cores: usize,
}

impl Machine {
    fn this() -> Result<Self> {
        let processors = fs::read_to_string("/proc/cpuinfo")?;
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
        Ok(Self {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            processor: model.unwrap_or("unknown").trim().to_owned(),
            cores: std::thread::available_parallelism()?.get(),
        })
    }
}

impl Report {
    /// An empty report of `bench`; prints what is measured where.
    pub fn new(bench: &str) -> Result<Self> {
        println!("{TOPOLOGY}");
        Self::in_bed(bench)
    }

    /// An empty report of a bench in the bed of the end-to-end tests, which `tests/README.md` draws.
    pub fn in_bed(bench: &str) -> Result<Self> {
        Ok(Self {
            schema: 1,
            bench: bench.to_owned(),
            machine: Machine::this()?,
            arguments: std::env::args().skip(1).collect(),
            metrics: BTreeMap::new(),
            measurements: Vec::new(),
            figures: BTreeMap::new(),
            goals: BTreeMap::new(),
            tables: Vec::new(),
        })
    }

    /// What the last report of `bench` holds under `field`, for a bench that goes on where the last call ended.
    /// A bench that was never run has nothing.
    pub fn earlier<T: DeserializeOwned + Default>(bench: &str, field: &str) -> Result<T> {
        let path = artifacts::target()?.join("bench").join(format!("{bench}.json"));
        if !path.exists() {
            return Ok(T::default());
        }
        let mut report: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        let wrong = || format!("`{field}` of {} is no use: begin anew without --keep", path.display());
        match report[field].take() {
            serde_json::Value::Null => Ok(T::default()),
            kept => serde_json::from_value(kept).with_context(wrong),
        }
    }

    /// Prints a table and keeps it for the document.
    pub fn table(&mut self, table: Table) {
        println!("\n{table}");
        self.tables.push(table);
    }

    /// Enters a figure: its median, and how far repetitions were apart.
    pub fn metric(&mut self, name: &str, summary: &Summary) {
        self.metrics.insert(name.to_owned(), serde_json::json!(summary));
    }

    /// Enters one measurement.
    pub fn measurement(&mut self, measurement: impl Serialize) -> Result<()> {
        self.measurements.push(serde_json::to_value(measurement)?);
        Ok(())
    }

    /// Writes it and says where.
    pub fn write(&self) -> Result<PathBuf> {
        let folder = artifacts::target()?.join("bench");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.json", self.bench));
        let text = serde_json::to_string_pretty(self)?;
        fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        println!("\nwritten: {}", path.display());
        Ok(path)
    }

    /// Draws `target/bench/NAME[-PART].svg`.
    pub fn plot(&self, part: &str, title: &str, unit: &str, bars: &[Bar]) -> Result<()> {
        let name = if part.is_empty() { self.bench.clone() } else { format!("{}-{part}", self.bench) };
        chart(&name, title, unit, bars)
    }

    /// The figures with goals, as a table: losing ones like winning ones.
    pub fn print_metrics(&mut self, goals: &[(&str, Goal)]) {
        let mut table = Table::new(&["metric", "value", "lowest", "highest", "goal", ""]);
        for (name, value) in &self.metrics {
            let summary: Summary = serde_json::from_value(value.clone()).unwrap_or_default();
            let goal = goals.iter().find(|(goal, _)| goal == name).map(|(_, goal)| goal);
            if let Some(goal) = goal {
                let verdict = Verdict { goal: goal.text(), met: goal.is_met(summary.median) };
                self.goals.insert(name.clone(), verdict);
            }
            table.row([
                name.clone(),
                format!("{:.3}", summary.median),
                format!("{:.3}", summary.lowest),
                format!("{:.3}", summary.highest),
                goal.map(Goal::text).unwrap_or_default(),
                goal.map(|goal| if goal.is_met(summary.median) { "met" } else { "MISSED" }.to_owned())
                    .unwrap_or_default(),
            ]);
        }
        println!("\n{table}");
    }
}

/// Draws `target/bench/NAME.svg`; no bars, no file.
pub fn chart(name: &str, title: &str, unit: &str, bars: &[Bar]) -> Result<()> {
    if bars.is_empty() {
        return Ok(());
    }
    let folder = artifacts::target()?.join("bench");
    fs::create_dir_all(&folder)?;
    plot::bars(&folder.join(format!("{name}.svg")), title, unit, bars)
}

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Goal {
    /// Whether `value` is on the right side.
    pub fn is_met(&self, value: f64) -> bool {
        match *self {
            Goal::AtLeast(limit) => value >= limit,
            Goal::AtMost(limit) => value <= limit,
        }
    }

    /// As it is written in tables.
    pub fn text(&self) -> String {
        match self {
            Goal::AtLeast(limit) => format!("≥ {limit}"),
            Goal::AtMost(limit) => format!("≤ {limit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Goal;

    #[test]
    fn a_goal_is_met_on_its_own_side() {
        assert!(Goal::AtLeast(0.9).is_met(0.9) && !Goal::AtLeast(0.9).is_met(0.89));
        assert!(Goal::AtMost(5.0).is_met(5.0) && !Goal::AtMost(5.0).is_met(5.1));
    }
}
