//! Instructions of all roles, and whether one of them has become worse.

use std::collections::BTreeMap;
use std::process::ExitCode;

use samepath_dataplane::bench::Role;

use crate::{count, counted_cases};

/// How much worse than the baseline a count may be.
const TOLERANCE: f64 = 1.10;

/// Most instructions the project allows itself.
pub(crate) fn goal(role: Role) -> Option<f64> {
    match role {
        Role::Local => Some(350.0),
        Role::Ingress | Role::Owner | Role::Director => Some(450.0),
        Role::First => None,
    }
}

pub(crate) fn counts() -> Result<BTreeMap<String, f64>, String> {
    println!("{:<16} {:>12} {:>8}", "role", "instructions", "goal");
    let mut counts = BTreeMap::new();
    for case in counted_cases() {
        let count = count::per_packet(case)?;
        let goal = goal(case.role).map_or("-".into(), |goal| format!("{goal:.0}"));
        println!("{:<16} {count:>12.1} {goal:>8}", case.name());
        counts.insert(case.name(), count);
    }
    Ok(counts)
}

pub(crate) fn complain(error: &str) -> ExitCode {
    eprintln!("burst: {error}");
    ExitCode::FAILURE
}

/// Counts, and compares with the counts in `baseline`.
pub(crate) fn against(baseline: &str) -> ExitCode {
    match try_check(baseline) {
        Ok(worse) if worse.is_empty() => {
            println!("burst: no role costs {:.0} % more than in {baseline}", (TOLERANCE - 1.0) * 100.0);
            ExitCode::SUCCESS
        }
        Ok(worse) => {
            complain(&format!("costs more instructions than {baseline} allows: {}", worse.join(", ")))
        }
        Err(error) => complain(&error),
    }
}

fn try_check(baseline: &str) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(baseline).map_err(|error| format!("{baseline}: {error}"))?;
    let expected: BTreeMap<String, f64> =
        serde_json::from_str(&text).map_err(|error| format!("{baseline}: {error}"))?;
    let counts = counts()?;
    if let Some(name) = counts.keys().find(|name| !expected.contains_key(*name)) {
        return Err(format!("{baseline} has no count for {name}: add it"));
    }
    let worse = counts.iter().filter(|(name, count)| **count > expected[*name] * TOLERANCE);
    Ok(worse.map(|(name, count)| format!("{name} {count:.1} instead of {}", expected[name])).collect())
}
