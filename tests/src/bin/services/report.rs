//! services.json: what was shown so far. A run replaces what it shows anew and keeps the rest.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use samepath_tests::artifacts;
use samepath_tests::served::transactions::Outcome;
use samepath_tests::served::{self, Column, Served, death};
use serde::{Deserialize, Serialize};

/// Version of the names in services.json.
const SCHEMA: u32 = 1;

/// One cell of the table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cell {
    attempted: u64,
    failed: u64,
    why: String,
    milliseconds: u64,
}

impl From<Outcome> for Cell {
    fn from(outcome: Outcome) -> Self {
        let tally = outcome.tally;
        Self {
            attempted: tally.attempted,
            failed: tally.failed,
            why: outcome.why,
            milliseconds: tally.milliseconds,
        }
    }
}

impl Display for Cell {
    fn fmt(&self, to: &mut Formatter) -> fmt::Result {
        if self.failed == 0 {
            return write!(to, "{} work", self.attempted);
        }
        write!(to, "**{} of {} fail**: {}", self.failed, self.attempted, self.why)
    }
}

/// What services.json has.
#[derive(Serialize, Deserialize)]
pub struct Report {
    schema: u32,
    /// Cells by service and column.
    cells: BTreeMap<String, BTreeMap<String, Cell>>,
    /// What was seen when the Owner died, by service.
    #[serde(default)]
    deaths: BTreeMap<String, death::Outcome>,
}

impl Report {
    /// What earlier runs have shown.
    pub fn load() -> Result<Self> {
        let empty = Self { schema: SCHEMA, cells: BTreeMap::new(), deaths: BTreeMap::new() };
        let read = fs::read_to_string(Self::file()?).ok();
        let read = read.and_then(|text| serde_json::from_str::<Self>(&text).ok());
        Ok(read.filter(|read| read.schema == SCHEMA).unwrap_or(empty))
    }

    fn file() -> Result<PathBuf> {
        Ok(artifacts::target()?.join("services.json"))
    }

    /// Notes a cell, at once also in the file.
    pub fn set(&mut self, service: &dyn Served, column: Column, cell: Cell) -> Result<()> {
        let row = self.cells.entry(service.name().to_owned()).or_default();
        row.insert(column.name().to_owned(), cell);
        self.save()
    }

    /// Notes what was seen when the Owner died, at once also in the file.
    pub fn set_death(&mut self, service: &dyn Served, outcome: death::Outcome) -> Result<()> {
        self.deaths.insert(service.name().to_owned(), outcome);
        self.save()
    }

    fn save(&self) -> Result<()> {
        let file = Self::file()?;
        fs::write(&file, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// The table, a row for each service.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| service | symmetric | asymmetric without samepath | asymmetric with samepath |\n|---|---|---|---|\n",
        );
        for service in served::all() {
            let cells = Column::ALL.map(|column| {
                let cell = self.cells.get(service.name()).and_then(|row| row.get(column.name()));
                cell.map_or(String::from("–"), Cell::to_string)
            });
            text += &format!("| {} | {} |\n", service.title(), cells.join(" | "));
        }
        text
    }

    /// What long connections and new transactions saw, a row for each service.
    pub fn deaths_table(&self) -> String {
        let mut text = String::from(
            "| service | long connections | ended by a reset after, ms | first new transaction done after, ms | \
             new transactions | slowest of them, ms |\n|---|---|--:|--:|--:|--:|\n",
        );
        for service in served::all() {
            let cells = self.deaths.get(service.name()).map_or([const { String::new() }; 5], death_cells);
            text += &format!("| {} | {} |\n", service.title(), cells.join(" | "));
        }
        text
    }
}

fn death_cells(seen: &death::Outcome) -> [String; 5] {
    let span = |times: &[u64]| match times {
        [] => String::from("–"),
        [first, .., last] => format!("{first} to {last}"),
        [only] => only.to_string(),
    };
    let held = if seen.silences_ms.is_empty() {
        format!("{} of {} reset", seen.resets_ms.len(), seen.held)
    } else {
        let silence = span(&seen.silences_ms);
        format!("{} of {} go on; longest silences {silence} ms", seen.silences_ms.len(), seen.held)
    };
    [
        held,
        span(&seen.resets_ms),
        seen.first_new_ms.map_or(String::from("–"), |first| first.to_string()),
        format!("{}, {} failed", seen.new, seen.new_failed),
        seen.slowest_new_ms.to_string(),
    ]
}
