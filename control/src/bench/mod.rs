//! `samepath bench`: what one core of this machine does with packets, and several together: the node's own worker over
//! memory ports ([`samepath_dataplane::bench`]), without root, interfaces or a daemon.

mod doubt;
mod figures;
mod plan;
mod show;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::time::Duration;

use samepath_dataplane::bench::{BURST, Family, Role};

pub use figures::{Bench, Figure, Spread, Together};
pub use plan::{Refusal, SESSIONS_LEAST, SESSIONS_MOST, WORKERS_MOST};

use crate::doctor::Trouble;
use crate::host::Place;
use crate::operator::api::SCHEMA;
use crate::operator::client::{DEGRADED, FINE, complain};
use doubt::Watched;
use figures::measure;
use plan::Plan;

/// What is to be measured.
#[derive(Clone, PartialEq, Debug)]
pub struct Order {
    /// Roles; none: all.
    pub roles: Vec<Role>,
    /// IP versions; none: both.
    pub families: Vec<Family>,
    /// Sessions of each worker.
    pub sessions: u32,
    /// Workers that are measured together; `None`: one per core.
    pub workers: Option<usize>,
    /// Their cores; none: the first ones.
    pub cores: Vec<usize>,
    /// Measurements of each case.
    pub repetitions: u32,
    /// CPU time of each, inside the worker.
    pub time: Duration,
    /// One JSON document.
    pub json: bool,
}

/// Why nothing, or not all, was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The order cannot be carried out here.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The figures could not be printed.
    #[error("the figures cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// What the figures are, and are not.
pub const SCOPE: &str = "the worker alone over memory: no NIC, no kernel, no rings, no hand-off between cores; an upper bound of what a core's worker does. On a live node compare ns/packet of `samepath top` under load, which has the kernel's part in it";

/// Measures and prints; gives the exit code: [`DEGRADED`] if something makes the figures doubtful.
pub fn run(order: &Order, place: &Place, out: &mut impl Write) -> Result<u8, BenchError> {
    let plan = Plan::new(order, place)?;
    let mut doubts = doubt::beforehand(place, &plan.cores);
    // Now, so that nobody disturbs a live node who did not want to.
    tell(&doubts);
    give_way();
    let mut watched = Watched::begin(place);
    if !order.json {
        show::heading(&plan, out)?;
    }
    let mut figures = Vec::new();
    for case in plan.cases() {
        let figure = measure(&plan, case, place, &mut watched);
        if !order.json {
            show::row(&figure, out)?;
        }
        figures.push(figure);
    }
    let seen = watched.doubts(place, &plan.cores);
    tell(&seen);
    doubts.extend(seen);
    let code = if doubts.is_empty() { FINE } else { DEGRADED };
    match order.json {
        true => show::json(&document(&plan, figures, doubts), out)?,
        false => show::scope(out)?,
    }
    Ok(code)
}

fn tell(doubts: &[Trouble]) {
    for Trouble { cause, remedy } in doubts {
        complain(&format_args!("warning: {cause}; {remedy}"));
    }
}

/// Whatever else wants the cores comes first: CPU time is measured, so it costs patience only.
fn give_way() {
    // A kernel that refuses leaves an ordinary process.
    let _ = rustix::process::nice(19);
}

fn document(plan: &Plan, figures: Vec<Figure>, doubts: Vec<Trouble>) -> Bench {
    Bench {
        schema: SCHEMA,
        kind: "bench",
        version: env!("CARGO_PKG_VERSION"),
        scope: SCOPE,
        cores: plan.cores.clone(),
        sessions: plan.sessions,
        burst: BURST,
        repetitions: plan.repetitions,
        seconds: plan.time.as_secs_f64(),
        figures,
        doubts,
    }
}
