//! From what was ordered to what this machine can do, or why it cannot.

use std::time::Duration;

use samepath_dataplane::bench::{Case, Family, Role};

use super::Order;
use crate::host::{Core, Place, available_memory, cores};

/// Fewest sessions of a worker: as many as a burst has packets, so that each is of another one.
pub const SESSIONS_LEAST: u32 = 64;

/// Most sessions of a worker. More than caches or TLBs can tell from fewer.
pub const SESSIONS_MOST: u32 = 1 << 24;

/// Most workers, as many as a node can have.
pub const WORKERS_MOST: usize = 64;

/// Memory of a worker while it is set up and measured, bytes, as measured for the role that takes most and rounded up: for
/// each session its line, index, timers and packets in two nodes' tables, and beside them rings to control and frames.
const BYTES_PER_SESSION: u64 = 512;
const BYTES_BESIDE: u64 = 192 << 20;

/// Why the order cannot be carried out: a sentence with the remedy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// What is measured.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Plan {
    pub(super) roles: Vec<Role>,
    pub(super) families: Vec<Family>,
    pub(super) sessions: u32,
    /// One per worker.
    pub(super) cores: Vec<usize>,
    pub(super) repetitions: u32,
    pub(super) time: Duration,
}

impl Plan {
    pub(super) fn new(order: &Order, place: &Place) -> Result<Self, Refusal> {
        let usable: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
        let cores = chosen(order, &usable, &cores(place))?;
        fits(order.sessions, cores.len(), available_memory(place))?;
        let or_all = |named: &[Role]| if named.is_empty() { Role::ALL.to_vec() } else { named.to_vec() };
        let or_both = |named: &[Family]| if named.is_empty() { Family::ALL.to_vec() } else { named.to_vec() };
        Ok(Self {
            roles: or_all(&order.roles),
            families: or_both(&order.families),
            sessions: order.sessions,
            cores,
            repetitions: order.repetitions,
            time: order.time,
        })
    }

    pub(super) fn cases(&self) -> impl Iterator<Item = Case> {
        let sessions = self.sessions;
        self.families
            .iter()
            .flat_map(move |&family| self.roles.iter().map(move |&role| Case { role, family, sessions }))
    }
}

fn listed(cores: &[usize]) -> String {
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The workers' cores: `usable` are those this process may run on, `known` what is known of the machine's.
pub(super) fn chosen(order: &Order, usable: &[usize], known: &[Core]) -> Result<Vec<usize>, Refusal> {
    if let Some(core) = order.cores.iter().find(|core| !usable.contains(core)) {
        return Err(Refusal(format!(
            "--cores: core {core} is not usable by this process; choose from {}",
            listed(usable)
        )));
    }
    let there = if order.cores.is_empty() { whole_first(usable, known) } else { order.cores.clone() };
    let whole = there.iter().filter(|&&core| is_whole(core, &there, known)).count();
    let default = if order.cores.is_empty() { whole } else { there.len() };
    let workers = order.workers.unwrap_or(default.clamp(1, WORKERS_MOST));
    if workers > there.len() {
        let source = if order.cores.is_empty() { "this process may use" } else { "--cores names" };
        return Err(Refusal(format!(
            "--workers {workers}: each worker needs a core of its own, and {source} {} ({}); write at most {0}",
            there.len(),
            listed(&there)
        )));
    }
    Ok(there[..workers].to_vec())
}

/// Whether `core` comes before its siblings in `cores`.
fn is_whole(core: usize, cores: &[usize], known: &[Core]) -> bool {
    let siblings = known.iter().find(|one| one.id == core).map(|one| one.siblings.as_slice());
    let first = cores.iter().find(|one| siblings.unwrap_or_default().contains(one));
    first.is_none_or(|&first| first == core)
}

/// One hardware thread of each core, then the others.
fn whole_first(usable: &[usize], known: &[Core]) -> Vec<usize> {
    let (whole, rest): (Vec<usize>, Vec<usize>) =
        usable.iter().partition(|&&core| is_whole(core, usable, known));
    [whole, rest].concat()
}

/// Whether the workers' memory can be had; `available` in bytes, `None`: not known.
pub(super) fn fits(sessions: u32, workers: usize, available: Option<u64>) -> Result<(), Refusal> {
    let needed = |sessions: u64| workers as u64 * (sessions * BYTES_PER_SESSION + BYTES_BESIDE);
    let needs = needed(u64::from(sessions));
    let Some(available) = available.filter(|&available| available < needs) else { return Ok(()) };
    let each = (available / workers as u64).saturating_sub(BYTES_BESIDE) / BYTES_PER_SESSION;
    let remedy = match each >= u64::from(SESSIONS_LEAST) {
        true => format!("write --sessions {each} or less, or fewer --workers"),
        false => "write fewer --workers, or measure where more memory is free".into(),
    };
    Err(Refusal(format!(
        "--sessions {sessions}: {workers} workers with so many need {} MiB and {} MiB are available; {remedy}",
        needs >> 20,
        available >> 20
    )))
}
