//! What setup found and did, as a person or a program reads it.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::run::{Order, Verb};
use super::{Action, Step};
use crate::operator::api::SCHEMA;

/// A stage and its steps, with what became of each.
pub(super) struct Told {
    pub stage: &'static str,
    pub why: &'static str,
    pub steps: Vec<(Step, Option<Result<(), String>>)>,
}

pub(super) fn print(order: &Order, told: &[Told], out: &mut impl Write) -> io::Result<()> {
    if order.json {
        let stages: Vec<Value> = told.iter().map(stage_json).collect();
        writeln!(out, "{}", json!({"schema": SCHEMA, "kind": "setup", "stages": stages}))?;
    } else if order.dry_run {
        let steps = told.iter().flat_map(|told| &told.steps);
        steps.flat_map(|(step, _)| &step.change).try_for_each(|action| writeln!(out, "{action}"))?;
    } else {
        told.iter().try_for_each(|told| print_stage(order, told, out))?;
        if told.is_empty() {
            writeln!(out, "nothing to undo")?;
        }
    }
    out.flush()
}

fn print_stage(order: &Order, told: &Told, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}: {}", told.stage, told.why)?;
    if told.steps.is_empty() {
        writeln!(out, "    nothing to set here")?;
    }
    for (step, outcome) in &told.steps {
        let what = match outcome {
            None if !step.differs() => format!("{}: as wanted ({})", step.object, step.found),
            None => format!("{}: {}, wanted: {}", step.object, step.found, step.wanted),
            Some(Ok(())) => format!("{}: was {}, now {}", step.object, step.found, step.wanted),
            Some(Err(why)) => format!("{}: FAILED: {why}", step.object),
        };
        writeln!(out, "    {what}")?;
        if outcome.is_none() && order.verb == Verb::Check {
            step.change.iter().try_for_each(|action| writeln!(out, "        {action}"))?;
        }
    }
    Ok(())
}

fn stage_json(told: &Told) -> Value {
    let steps: Vec<Value> = told
        .steps
        .iter()
        .map(|(step, outcome)| {
            json!({
                "object": step.object,
                "found": step.found,
                "wanted": step.wanted,
                "as_wanted": !step.differs(),
                "commands": step.change.iter().map(Action::to_string).collect::<Vec<_>>(),
                "done": outcome.as_ref().map(Result::is_ok),
                "error": outcome.as_ref().and_then(|outcome| outcome.as_ref().err()),
            })
        })
        .collect();
    json!({"stage": told.stage, "why": told.why, "steps": steps})
}
