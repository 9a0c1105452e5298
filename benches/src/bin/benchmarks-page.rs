//! Fills docs/benchmarks.md with what the benches last wrote: tables of figures with goals between
//! `<!-- bench:NAME -->` and `<!-- /bench -->`, plots next to the page. Figures are copied, never rounded up.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use samepath_tests::artifacts;
use serde_json::Value;

/// Where a section begins; its bench's name and ` -->` follow.
const BEGIN: &str = "<!-- bench:";

/// Where it ends.
const END: &str = "<!-- /bench -->";

fn main() -> Result<()> {
    let results = artifacts::target()?.join("bench");
    let page = artifacts::workspace().join("docs/benchmarks.md");
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    fs::write(&page, fill(&text, |bench| section(&results, bench))?)?;
    copy_plots(&results, &artifacts::workspace().join("docs/benchmarks"))?;
    println!("filled: {}", page.display());
    Ok(())
}

/// The page with every section made anew; one whose bench wrote nothing stays as it is.
fn fill(text: &str, section: impl Fn(&str) -> Result<Option<String>>) -> Result<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let from_name = &rest[at + BEGIN.len()..];
        let (name, after) = from_name.split_once(" -->").context("a section's comment does not end")?;
        let Some(end) = after.find(END) else { bail!("section `{name}` has no `{END}`: add it") };
        let body = section(name)?.unwrap_or_else(|| after[..end].trim_matches('\n').to_owned());
        filled += &format!("{}{BEGIN}{name} -->\n{}\n{END}", &rest[..at], body.trim_end());
        rest = &after[end + END.len()..];
    }
    Ok(filled + rest)
}

/// The table of one bench, if it has written something.
fn section(results: &Path, bench: &str) -> Result<Option<String>> {
    let file = results.join(format!("{bench}.json"));
    let Ok(text) = fs::read_to_string(&file) else { return Ok(None) };
    let report: Value = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    let mut rows = Vec::new();
    leaves(&report["metrics"], String::new(), &mut rows);
    let mut table = String::from("| figure | median | lowest to highest | goal | |\n|---|---|---|---|---|\n");
    for (path, value) in rows {
        let spread = at(&report["spread"], &path);
        let range = match (spread["lowest"].as_f64(), spread["highest"].as_f64()) {
            (Some(lowest), Some(highest)) => {
                format!("{} to {} of {}", number(lowest), number(highest), spread["repetitions"])
            }
            _ => String::new(),
        };
        let goal = at(&report["goals"], &path);
        let met = match goal["met"].as_bool() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        };
        let stated = goal["goal"].as_str().unwrap_or_default();
        table += &format!("| `{path}` | {} | {range} | {stated} | {met} |\n", number(value));
    }
    Ok(Some(table))
}

fn at<'a>(tree: &'a Value, path: &str) -> &'a Value {
    path.split('/').fold(tree, |place, name| &place[name])
}

/// All numbers of a tree with their paths.
fn leaves(tree: &Value, path: String, into: &mut Vec<(String, f64)>) {
    match tree {
        Value::Object(fields) => {
            for (name, value) in fields {
                let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                leaves(value, below, into);
            }
        }
        other => into.extend(other.as_f64().map(|number| (path, number))),
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1000.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

fn copy_plots(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let is_plot = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "svg");
    for path in fs::read_dir(from)?.filter_map(|entry| Some(entry.ok()?.path())).filter(is_plot) {
        let name = path.file_name().context("a plot without a name")?;
        fs::copy(&path, to.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_replaced_and_those_without_figures_kept() {
        let text = "a\n<!-- bench:x -->\nold\n<!-- /bench -->\nb\n<!-- bench:y -->\nkept\n<!-- /bench -->\n";
        let filled = fill(text, |name| Ok((name == "x").then(|| "new".to_owned()))).unwrap();
        assert_eq!(filled, text.replace("old", "new"));
        assert!(fill("<!-- bench:x -->\n", |_| Ok(None)).is_err());
    }

    #[test]
    fn leaves_are_named_by_their_path() {
        let mut found = Vec::new();
        leaves(&serde_json::json!({"a": {"1k": 2.0}, "b": 3}), String::new(), &mut found);
        assert_eq!(found, [("a/1k".to_owned(), 2.0), ("b".to_owned(), 3.0)]);
    }
}
