//! A page of documentation: its marked tables and code blocks, and comparisons that name what differs.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::PathBuf;

use samepath_tests::artifacts::workspace;

/// A page by its path in the repository.
pub struct Page {
    path: PathBuf,
    text: String,
}

/// One row of a table, backticks taken off.
pub type Row = Vec<String>;

impl Page {
    pub fn read(path: &str) -> Self {
        let path = workspace().join(path);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        Self { path, text }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// What follows `<!-- mark -->`.
    fn behind(&self, mark: &str) -> &str {
        let comment = format!("<!-- {mark} -->\n");
        let (_, rest) =
            self.text.split_once(&comment).unwrap_or_else(|| panic!("{:?} has no {mark}", self.path));
        rest
    }

    /// The rows of the table behind `<!-- mark -->`, heading left out.
    pub fn table(&self, mark: &str) -> Vec<Row> {
        let rows: Vec<Row> =
            self.behind(mark).lines().take_while(|line| line.starts_with('|')).skip(2).map(cells).collect();
        assert!(!rows.is_empty(), "{:?}: {mark} is empty", self.path);
        rows
    }

    /// The first code block behind `<!-- mark -->`.
    pub fn block(&self, mark: &str) -> &str {
        let block = self.behind(mark).split("```").nth(1).unwrap_or_default();
        block.split_once('\n').map_or("", |(_, block)| block)
    }
}

/// The cells of a table's line; `\|` is no border.
fn cells(line: &str) -> Row {
    let inside = line.trim().trim_start_matches('|').replace("\\|", "\u{0}");
    let inside = inside.strip_suffix('|').unwrap_or(&inside);
    inside.split('|').map(|cell| cell.trim().trim_matches('`').replace('\u{0}', "|")).collect()
}

/// One column of a table.
pub fn column(rows: &[Row], index: usize) -> Vec<String> {
    rows.iter().map(|row| row[index].clone()).collect()
}

/// Fails with the names that only one side has, or that the page has twice.
#[track_caller]
pub fn assert_same<T: Ord + Clone + Debug>(what: &str, page: &[T], code: &[T]) {
    let (documented, real): (BTreeSet<_>, BTreeSet<_>) = (page.iter().collect(), code.iter().collect());
    let missing: Vec<_> = real.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&real).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "{what}: the code has and the page lacks {missing:?}; the page has and the code lacks {stale:?}"
    );
    assert_eq!(documented.len(), page.len(), "{what}: the page names something twice: {page:?}");
}
