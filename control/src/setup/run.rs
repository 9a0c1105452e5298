//! Checks, applies and undoes.

use std::io::{self, Write};
use std::path::PathBuf;

use super::print::{self, Told};
use super::{Action, Record, STAGES, Stage, Step};
use crate::host::{Case, Place};
use crate::operator::client::{DEGRADED, FAILED, FINE, USAGE, complain};

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Say what differs.
    Check,
    /// Make it as wanted.
    Apply,
    /// Make it what it was.
    Undo,
}

/// What to do, to what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// What to do.
    pub verb: Verb,
    /// Only this stage.
    pub stage: Option<String>,
    /// Print the commands and run none.
    pub dry_run: bool,
    /// Print JSON.
    pub json: bool,
    /// Where what was there is written down.
    pub state: PathBuf,
}

impl Order {
    fn covers(&self, stage: &str) -> bool {
        self.stage.as_deref().is_none_or(|only| only == stage)
    }
}

/// Carries an order out; `look` reads the host anew. Gives the exit code.
pub fn run(order: &Order, place: &Place, look: &dyn Fn() -> Case, out: &mut impl Write) -> io::Result<u8> {
    let record = match Record::read(place, &order.state) {
        Ok(record) => record,
        Err(error) => {
            complain(&format_args!(
                "{} cannot be read ({error}): run as root, or name another file with --state",
                order.state.display()
            ));
            return Ok(FAILED);
        }
    };
    let (told, code) = if order.verb == Verb::Undo {
        undo(order, place, record)
    } else {
        match without_configuration(&look()) {
            Some(sentence) => {
                complain(&sentence);
                return Ok(USAGE);
            }
            None => forward(order, place, look, record),
        }
    };
    print::print(order, &told, out)?;
    Ok(code)
}

fn without_configuration(case: &Case) -> Option<String> {
    match (&case.config, &case.refused) {
        (Some(_), _) => None,
        (None, Some(why)) => Some(format!("the configuration ({}) cannot be used: {why}", case.source)),
        (None, None) => Some(format!(
            "there is no configuration to set this host up for ({}): name one with --config, or give the flags of `samepath run`",
            case.source
        )),
    }
}

/// Check or apply, stage by stage; each stage sees what the ones before have changed.
fn forward(order: &Order, place: &Place, look: &dyn Fn() -> Case, mut record: Record) -> (Vec<Told>, u8) {
    let (mut told, mut code, mut case) = (Vec::new(), FINE, look());
    for stage in STAGES.iter().filter(|stage| order.covers(stage.name)) {
        let mut steps = Vec::new();
        let mut changed = false;
        for step in (stage.look)(&case, place) {
            let mut outcome = None;
            if step.differs() && order.verb == Verb::Apply && !order.dry_run {
                outcome = Some(apply(stage, &step, place, &mut record));
                changed = true;
            }
            code = code.max_by_severity(code_of(order, &step, outcome.as_ref()));
            steps.push((step, outcome));
        }
        if changed {
            case = look();
            verify(stage, &case, place, &mut steps, &mut code);
        }
        told.push(Told { stage: stage.name, why: stage.why, steps });
    }
    (told, code)
}

fn code_of(order: &Order, step: &Step, outcome: Option<&Result<(), String>>) -> u8 {
    match outcome {
        Some(Err(_)) => FAILED,
        None if step.differs() && order.verb == Verb::Check => DEGRADED,
        _ => FINE,
    }
}

trait BySeverity {
    fn max_by_severity(self, other: u8) -> u8;
}

impl BySeverity for u8 {
    /// Failed beats degraded beats fine.
    fn max_by_severity(self, other: u8) -> u8 {
        match (self, other) {
            (FAILED, _) | (_, FAILED) => FAILED,
            (one, other) => one.max(other),
        }
    }
}

fn apply(stage: &Stage, step: &Step, place: &Place, record: &mut Record) -> Result<(), String> {
    if let Some(why) = &step.blocked {
        return Err(why.clone());
    }
    record.note(stage.name, &step.object, &step.back).map_err(|error| {
        format!("what was there cannot be written down ({error}): run as root, or name a file with --state")
    })?;
    perform(&step.change, place)
}

fn perform(actions: &[Action], place: &Place) -> Result<(), String> {
    actions.iter().try_for_each(|action| action.perform(place))
}

/// A kernel may take a value and do less, as with huge pages.
fn verify(
    stage: &Stage,
    case: &Case,
    place: &Place,
    steps: &mut [(Step, Option<Result<(), String>>)],
    code: &mut u8,
) {
    let now = (stage.look)(case, place);
    for (step, outcome) in steps.iter_mut().filter(|(_, outcome)| matches!(outcome, Some(Ok(())))) {
        let still = now.iter().find(|other| other.object == step.object && other.differs());
        if let Some(still) = still {
            *outcome = Some(Err(format!(
                "it was set and is now {}: the kernel had no more, or somebody else changes it",
                still.found
            )));
            *code = FAILED;
        }
    }
}

fn undo(order: &Order, place: &Place, mut record: Record) -> (Vec<Told>, u8) {
    let (mut told, mut code) = (Vec::<Told>::new(), FINE);
    let changed: Vec<_> =
        record.changed.iter().rev().filter(|one| order.covers(&one.stage)).cloned().collect();
    for one in changed {
        let step = Step {
            object: one.object.clone(),
            found: "changed by setup".into(),
            wanted: "as before".into(),
            change: one.back.clone(),
            ..Step::default()
        };
        let outcome = (!order.dry_run).then(|| {
            perform(&one.back, place)?;
            record.forget(&one).map_err(|error| {
                format!("it was put back, and {} cannot be written: {error}", order.state.display())
            })
        });
        if matches!(outcome, Some(Err(_))) {
            code = FAILED;
        }
        let why = "put back what was there";
        match told.last_mut().filter(|last| last.stage == one.stage) {
            Some(last) => last.steps.push((step, outcome)),
            None => {
                let stage = STAGES.iter().find(|stage| stage.name == one.stage);
                told.push(Told {
                    stage: stage.map_or("gone", |stage| stage.name),
                    why,
                    steps: vec![(step, outcome)],
                });
            }
        }
    }
    (told, code)
}
