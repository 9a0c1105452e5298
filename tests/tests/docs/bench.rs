//! The document of `samepath bench --json` has the fields that the page names.

use samepath::bench::{Bench, Figure, Spread, Together};
use samepath::doctor::Trouble;
use serde_json::Value;

use super::page::{Page, assert_same, column};

/// Names of all fields, like `figures[].mpps`; a spread is one, whatever is in it.
fn fields(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(inner) if !inner.contains_key("median") => {
            for (name, field) in inner {
                fields(field, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, found);
            }
        }
        Value::Array(items) if items.iter().all(Value::is_object) => {
            items.iter().for_each(|item| fields(item, &format!("{path}[]"), found));
        }
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn every_field_of_bench() {
    let figure = Figure {
        cycles_per_packet: Some(Spread::default()),
        together: Some(Together::default()),
        ..Figure::default()
    };
    let bench =
        Bench { cores: vec![0], figures: vec![figure], doubts: vec![Trouble::default()], ..Bench::default() };
    let mut code = Vec::new();
    fields(&serde_json::to_value(&bench).unwrap(), "", &mut code);
    // That it can be missing is a row of its own.
    code.push("figures[].together".into());
    let rows = column(&Page::read("docs/operations.md").table("table:bench"), 0);
    let page: Vec<String> =
        rows.iter().flat_map(|row| row.split(", ").map(|name| name.trim_matches('`').to_owned())).collect();
    assert_same("fields of bench", &page, &code);
}
