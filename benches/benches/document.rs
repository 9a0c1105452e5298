//! Fills docs/benchmarks.md with what the other benches left in target/bench: figures, goals, tables, plots.
//!
//! A page has places `<!-- figures: NAME -->` … `<!-- end -->`; what is between them is written anew from
//! `target/bench/NAME.json`. A bench that was not run leaves its place as it is.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use samepath_tests::artifacts;
use serde_json::{Map, Value};

const BEGIN: &str = "<!-- figures: ";
const END: &str = "<!-- end -->";

/// So many figures nobody reads one by one: the report's tables have them.
const MANY: usize = 60;

fn main() -> Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let results = artifacts::target()?.join("bench");
    let page = docs.join("benchmarks.md");
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    fs::write(&page, filled(&text, &results)?)?;
    copy_plots(&results, &docs.join("plots"))
}

/// The page with every place written anew.
fn filled(text: &str, results: &Path) -> Result<String> {
    let mut parts = text.split(BEGIN);
    let mut page = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -->").context("a place without a name")?;
        let (old, after) = rest.split_once(END).with_context(|| format!("{name}: no {END}"))?;
        let new = figures(&results.join(format!("{name}.json")))?;
        println!("{name}: {}", if new.is_some() { "written anew" } else { "left as it is: not measured" });
        let body = new.map_or_else(|| old.to_owned(), |new| format!("\n{new}\n"));
        write!(page, "{BEGIN}{name} -->{body}{END}{after}")?;
    }
    Ok(page)
}

/// One report as Markdown.
fn figures(path: &PathBuf) -> Result<Option<String>> {
    if !path.exists() {
        return Ok(None);
    }
    let report: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    let mut all = Vec::new();
    flatten("", report["metrics"].as_object().context("no metrics")?, &mut all);
    let mut text = if all.len() < MANY { one_by_one(&all, &report["goals"])? } else { String::new() };
    for table in report["tables"].as_array().into_iter().flatten() {
        text += "\n";
        text += &rows(table);
    }
    Ok(Some(text))
}

/// A row for each figure, beside its goal.
fn one_by_one(all: &[(String, Value)], goals: &Value) -> Result<String> {
    let mut text =
        String::from("| figure | median | lowest | highest | goal | |\n|---|--:|--:|--:|--:|---|\n");
    for (name, value) in all {
        let cell = |key: &str| number(&value[key]);
        let (median, lowest, highest) = match value {
            Value::Object(_) => (cell("median"), cell("lowest"), cell("highest")),
            plain => (number(plain), String::new(), String::new()),
        };
        let verdict = &goals[name];
        let goal = verdict["goal"].as_str().unwrap_or_default();
        let met = match verdict["met"].as_bool() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        };
        writeln!(text, "| `{name}` | {median} | {lowest} | {highest} | {goal} | {met} |")?;
    }
    Ok(text)
}

/// Figures by their whole name; a summary stays together.
fn flatten(above: &str, metrics: &Map<String, Value>, all: &mut Vec<(String, Value)>) {
    for (name, value) in metrics {
        let name = if above.is_empty() { name.clone() } else { format!("{above}/{name}") };
        match value.as_object() {
            Some(inner) if !inner.contains_key("median") => flatten(&name, inner, all),
            _ => all.push((name, value.clone())),
        }
    }
}

fn number(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if number.abs() >= 100.0 => format!("{number:.0}"),
        Some(number) => format!("{number:.3}"),
        None => "–".into(),
    }
}

fn rows(table: &Value) -> String {
    let mut text = String::new();
    for (at, row) in table.as_array().into_iter().flatten().enumerate() {
        let cells: Vec<&str> = row.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        text += &format!("| {} |\n", cells.join(" | "));
        if at == 0 {
            text += &format!("|---|{}\n", "--:|".repeat(cells.len().saturating_sub(1)));
        }
    }
    text
}

fn copy_plots(results: &Path, plots: &Path) -> Result<()> {
    fs::create_dir_all(plots)?;
    for entry in fs::read_dir(results).with_context(|| format!("no {}", results.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "svg") {
            fs::copy(&path, plots.join(path.file_name().context("no name")?))?;
        }
    }
    Ok(())
}
