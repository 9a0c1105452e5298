//! What became of all captures, as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::compare::Row;

/// Rows of captures.
#[derive(Default)]
pub struct Table {
    rows: BTreeMap<String, Row>,
    faults: Vec<String>,
}

const HEAD: &str = "| captures | number | frames | the router forwards | the cluster forwards | answered | dropped or left to the kernel |\n\
                    |---|---|---|---|---|---|---|\n";

impl Table {
    /// A capture in which all is well.
    pub fn add(&mut self, name: &str, row: Row) {
        self.rows.insert(name.to_owned(), row);
    }

    /// Something that is not.
    pub fn fault(&mut self, text: String) {
        println!("{text}");
        self.faults.push(text);
    }

    /// All that is not well.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// How many captures were played.
    pub fn captures(&self) -> usize {
        self.rows.len() + self.faults.len()
    }

    /// Frames that were overtaken.
    pub fn overtaken(&self) -> u64 {
        self.rows.values().map(|row| row.overtaking).sum()
    }

    /// A row for each group of captures and one for all.
    pub fn summary(&self) -> String {
        let mut groups: BTreeMap<&str, (u64, Row)> = BTreeMap::new();
        for (name, row) in &self.rows {
            for group in [group(name), "~all"] {
                let (captures, sum) = groups.entry(group).or_default();
                *captures += 1;
                sum.add(row);
            }
        }
        let lines =
            groups.iter().map(|(group, (captures, sum))| line(group.trim_start_matches('~'), *captures, sum));
        String::from(HEAD) + &lines.collect::<String>()
    }

    /// [`Table::summary`], and a row for each capture.
    pub fn text(&self) -> String {
        let rows = self.rows.iter().map(|(name, row)| line(name, 1, row));
        self.summary() + "\n" + HEAD + &rows.collect::<String>()
    }
}

/// Folder, and of Suricata's captures the kind of test.
fn group(name: &str) -> &str {
    let test = name.split_once("__").map_or(name, |(test, _)| test);
    match test.split_once('/') {
        Some(("suricata", test)) if test.starts_with("ipv6-evasion") => "suricata/ipv6-evasion",
        Some(("suricata", test)) if test.contains("defrag") => "suricata, fragments",
        Some(("suricata", _)) => "suricata, others",
        _ => test.split('/').next().unwrap_or(test),
    }
}

fn line(name: &str, captures: u64, row: &Row) -> String {
    let mut reasons: Vec<_> = row.reasons.iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let reasons: Vec<_> = reasons.iter().map(|(name, count)| format!("`{name}` {count}")).collect();
    let mut text = String::new();
    writeln!(
        text,
        "| {name} | {captures} | {} | {} | {} | {} | {} |",
        row.frames,
        row.router,
        row.cluster,
        row.answered,
        reasons.join(", ")
    )
    .expect("a String takes every write");
    text
}
