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
use serde_json::{Map, Value, json};

pub use plot::Bar;
pub use summary::Summary;
pub use table::Table;

/// `target/bench/NAME.json`:
///
/// ```text
/// { "schema": 2, "bench": …, "machine": …, "arguments": …,
///   "metrics": { "ratio_vs_bare": { "1k": 0.93 } },                            medians, nested by `/`
///   "spread":  { "ratio_vs_bare": { "1k": { "lowest": …, "highest": …, "repetitions": … } } },
///   "goals":   { "ratio_vs_bare": { "1k": { "goal": "≥ 0.92", "met": true } } },
///   "measurements": [ … ] }
/// ```
#[derive(Debug)]
pub struct Report {
    bench: String,
    machine: Machine,
    arguments: Vec<String>,
    /// The figures that goals are written for.
    pub metrics: BTreeMap<String, Summary>,
    goals: BTreeMap<String, Value>,
    /// Everything measured, one entry per repetition and device.
    pub measurements: Vec<Value>,
}

/// Version of the document's shape.
const SCHEMA: u32 = 2;

/// `{"a/b": 1}` as `{"a": {"b": 1}}`.
pub fn nested(flat: impl IntoIterator<Item = (String, Value)>) -> Value {
    let mut root = Map::new();
    for (path, value) in flat {
        let mut place = &mut root;
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", &path));
        for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
            let inner = place.entry(folder).or_insert_with(|| Value::Object(Map::new()));
            // A figure that is a folder too gets its own value under an empty name.
            if !inner.is_object() {
                *inner = json!({ "": inner.take() });
            }
            place = inner.as_object_mut().expect("made an object just now");
        }
        place.insert(name.to_owned(), value);
    }
    Value::Object(root)
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
    /// An empty report of `bench`.
    pub fn new(bench: &str) -> Result<Self> {
        Ok(Self {
            bench: bench.to_owned(),
            machine: Machine::this()?,
            arguments: std::env::args().skip(1).collect(),
            metrics: BTreeMap::new(),
            goals: BTreeMap::new(),
            measurements: Vec::new(),
        })
    }

    /// Enters a figure: its median, and how far repetitions were apart.
    pub fn metric(&mut self, name: &str, summary: &Summary) {
        self.metrics.insert(name.to_owned(), summary.clone());
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
        let text = serde_json::to_string_pretty(&self.document())?;
        fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        println!("\nwritten: {}", path.display());
        Ok(path)
    }

    fn document(&self) -> Value {
        let each = |of: fn(&Summary) -> Value| {
            nested(self.metrics.iter().map(|(name, summary)| (name.clone(), of(summary))))
        };
        json!({
            "schema": SCHEMA,
            "bench": self.bench,
            "machine": self.machine,
            "arguments": self.arguments,
            "metrics": each(|summary| json!(summary.median)),
            "spread": each(|summary| json!({
                "lowest": summary.lowest, "highest": summary.highest, "repetitions": summary.repetitions
            })),
            "goals": nested(self.goals.clone()),
            "measurements": self.measurements,
        })
    }

    /// Draws `target/bench/NAME[-PART].svg`.
    pub fn plot(&self, part: &str, title: &str, unit: &str, bars: &[Bar]) -> Result<()> {
        if bars.is_empty() {
            return Ok(());
        }
        let folder = artifacts::target()?.join("bench");
        fs::create_dir_all(&folder)?;
        let name = if part.is_empty() { self.bench.clone() } else { format!("{}-{part}", self.bench) };
        plot::bars(&folder.join(format!("{name}.svg")), title, unit, bars)
    }

    /// The figures with goals, as a table: losing ones like winning ones.
    pub fn print_metrics(&mut self, goals: &[(&str, Goal)]) {
        let mut table = Table::new(&["metric", "value", "lowest", "highest", "goal", ""]);
        for (name, summary) in &self.metrics {
            let goal = goals.iter().find(|(goal, _)| goal == name).map(|(_, goal)| goal);
            if let Some(goal) = goal {
                let stated = json!({ "goal": goal.text(), "met": goal.is_met(summary.median) });
                self.goals.insert(name.clone(), stated);
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

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Goal {
    fn is_met(&self, value: f64) -> bool {
        match *self {
            Goal::AtLeast(limit) => value >= limit,
            Goal::AtMost(limit) => value <= limit,
        }
    }

    fn text(&self) -> String {
        match self {
            Goal::AtLeast(limit) => format!("≥ {limit}"),
            Goal::AtMost(limit) => format!("≤ {limit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Goal, nested};
    use serde_json::json;

    #[test]
    fn figures_are_found_by_path() {
        let flat = [("a/b", 1), ("a/c/d", 2), ("e", 3), ("e/f", 4)]
            .map(|(name, value)| (name.to_owned(), json!(value)));
        assert_eq!(nested(flat), json!({"a": {"b": 1, "c": {"d": 2}}, "e": {"": 3, "f": 4}}));
    }

    #[test]
    fn a_goal_is_met_on_its_own_side() {
        assert!(Goal::AtLeast(0.9).is_met(0.9) && !Goal::AtLeast(0.9).is_met(0.89));
        assert!(Goal::AtMost(5.0).is_met(5.0) && !Goal::AtMost(5.0).is_met(5.1));
    }
}
