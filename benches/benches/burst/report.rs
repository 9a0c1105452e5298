//! What is printed and written.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use samepath_benches::report::Goal;
use samepath_dataplane::bench::{Case, Family, Rate, Role};
use serde_json::{Value, json};

use crate::check::{complain, counts, goal};
use crate::{counted_cases, growth, time};

/// Sessions of the timed cases.
const TIMED_SESSIONS: [(&str, u32); 2] = [("64k", 1 << 16), ("1m", 1 << 20)];

fn print_rate(name: &str, rate: Rate) {
    let spread = (rate.highest - rate.lowest) / rate.median * 100.0;
    println!("{name:<22} {:>8.2} (spread {spread:.0} %)", rate.median);
}

/// Counts and times; table and JSON.
pub(crate) fn everything() -> ExitCode {
    match try_everything() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

fn try_everything() -> Result<(), String> {
    let counts = counts()?;
    println!("\n{:<22} {:>8}", "role", "Mpps of CPU time, one worker");
    let mut rates = BTreeMap::new();
    for (size, sessions) in TIMED_SESSIONS {
        for family in Family::ALL {
            for role in Role::ALL.into_iter().filter(|&role| role != Role::First) {
                let case = Case { role, family, sessions };
                let (name, rate) = (format!("{}/{size}", case.name()), time::one(case));
                print_rate(&name, rate);
                rates.insert(name, rate.median);
            }
        }
    }
    let scaling = time::scaling(Case { role: Role::Local, family: Family::V4, sessions: 1 << 16 });
    println!();
    print_rate("two workers over one", scaling);
    println!();
    let growth = growth::measure();
    write(&json!({ "growth": growth, "goals": verdicts(&counts, scaling.median), "metrics": {
        "instructions": counts,
        "mpps": rates,
        "scaling_2_workers": scaling.median,
    } }))
}

/// What has a goal, and whether it is met.
fn verdicts(counts: &BTreeMap<String, f64>, scaling: f64) -> Value {
    let verdict = |goal: Goal, value: f64| json!({ "goal": goal.text(), "met": goal.is_met(value) });
    let mut verdicts: BTreeMap<String, Value> = counted_cases()
        .into_iter()
        .filter_map(|case| {
            let goal = Goal::AtMost(goal(case.role)?);
            Some((format!("instructions/{}", case.name()), verdict(goal, *counts.get(&case.name())?)))
        })
        .collect();
    verdicts.insert("scaling_2_workers".into(), verdict(Goal::AtLeast(1.8), scaling));
    json!(verdicts)
}

fn write(figures: &Value) -> Result<(), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    let file = folder.join("burst.json");
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&file, format!("{figures:#}\n")))
        .map_err(|error| format!("{}: {error}", file.display()))
}
