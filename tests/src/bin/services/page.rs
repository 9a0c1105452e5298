//! Fills the places `<!-- services: NAME -->` … `<!-- end -->` of docs/services.md.

use std::fs;

use anyhow::{Context, Result};
use samepath_tests::artifacts;

use crate::report::Report;

const END: &str = "<!-- end -->";

/// Writes the page's tables anew.
pub fn fill(report: &Report) -> Result<()> {
    let page = artifacts::workspace().join("docs/services.md");
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let text = filled(&text, "paths", &report.table())?;
    fs::write(&page, filled(&text, "death", &report.deaths_table())?)?;
    Ok(())
}

fn filled(text: &str, name: &str, table: &str) -> Result<String> {
    let begin = format!("<!-- services: {name} -->\n");
    let (before, rest) = text.split_once(&begin).with_context(|| format!("no place {name}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("the place {name} has no end"))?;
    Ok(format!("{before}{begin}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_written_anew() {
        let page = "a\n<!-- services: paths -->\n| old |\n<!-- end -->\nb\n";
        let filled = filled(page, "paths", "| new |\n").unwrap();
        assert_eq!(filled, "a\n<!-- services: paths -->\n| new |\n<!-- end -->\nb\n");
    }
}
