//! The Owner of all flows dies: what long connections through its service see, and from when new ones work.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use serde::{Deserialize, Serialize};

use super::held::{Fate, Held};
use super::site::{Ends, Site};
use super::{Column, Served};
use crate::bed::Kind;
use crate::wait;

/// Long connections of a service.
const HELD: usize = 12;

/// A new transaction begins so often after the death, until long connections have met their fate.
const PACE: Duration = Duration::from_millis(100);

/// And so many at most.
const NEW: usize = 60;

/// What was seen. Times are ms after the Owner was killed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Long connections.
    pub held: usize,
    /// When they were reset, sorted; empty of a service whose connections go on.
    pub resets_ms: Vec<u64>,
    /// Longest silences of those that go on, sorted.
    pub silences_ms: Vec<u64>,
    /// New transactions that were begun.
    pub new: usize,
    /// Of those, failed ones.
    pub new_failed: usize,
    /// How they failed, and when those began, ms.
    #[serde(default)]
    pub failures: BTreeMap<String, Vec<u64>>,
    /// When the first of them was done.
    pub first_new_ms: Option<u64>,
    /// How long the slowest of them took.
    pub slowest_new_ms: u64,
}

/// A new transaction: when it began and ended, ms after the death.
struct New {
    began: u64,
    done: u64,
    error: Option<String>,
}

/// Builds the site, opens long connections, kills node 1.
pub fn run(served: &dyn Served) -> Result<Outcome> {
    let mut site = Site::build(served, Column::With)?;
    // Half of the pairs of a turn have other Directors than the rest; both IP versions.
    let held: Vec<Held> =
        (0..HELD).map(|turn| served.hold(&site, Ends::of(turn * 5), turn)).collect::<Result<_>>()?;
    wait_for_backups(&site)?;
    let death = Instant::now();
    site.bed.kill_node(1)?;
    site.bed.forward_via(2)?;
    let (fates, new) = watch(served, &site, held, death);
    let outcome = outcome(served, fates, new)?;
    site.finish()?;
    Ok(outcome)
}

/// Nodes 2 and 3 know all that node 1 owns.
fn wait_for_backups(site: &Site) -> Result<()> {
    wait::until_true("all sessions are backed up", Duration::from_secs(20), || {
        let owner = site.bed.stats(1)?;
        ensure!(owner.replication.values().all(|peer| peer.lag_records == 0), "{:?}", owner.replication);
        for number in [2, 3] {
            let known = site.bed.stats(number)?.sessions;
            ensure!(known.backup >= owner.sessions.owner, "node {number}: {known:?}");
        }
        Ok(owner.sessions.owner >= HELD as u64)
    })
}

fn watch(served: &dyn Served, site: &Site, held: Vec<Held>, death: Instant) -> (Vec<Fate>, Vec<New>) {
    let goes_on = served.kind() != Some(Kind::Proxy);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let fates: Vec<_> =
            held.into_iter().map(|one| scope.spawn(move || one.watch(death, goes_on))).collect();
        let new = scope.spawn(|| begin_new(served, site, death, &over));
        let died = || Fate::Other("its thread died".into());
        let fates = fates.into_iter().map(|one| one.join().unwrap_or_else(|_| died())).collect();
        over.store(true, Relaxed);
        (fates, new.join().unwrap_or_default())
    })
}

/// Begins transactions one after the other without waiting for their ends.
fn begin_new(served: &dyn Served, site: &Site, death: Instant, over: &AtomicBool) -> Vec<New> {
    let now = || death.elapsed().as_millis() as u64;
    thread::scope(|scope| {
        let mut begun = Vec::new();
        while begun.len() < NEW && !(over.load(Relaxed) && begun.len() > NEW / 3) {
            let turn = begun.len();
            begun.push(scope.spawn(move || {
                let began = now();
                let error = served.transact(site, Ends::of(turn), 1000 + turn).err();
                New { began, done: now(), error }
            }));
            let due = PACE * begun.len() as u32;
            wait::until_true("the next one is due", PACE * 2, || Ok(death.elapsed() >= due)).ok();
        }
        begun.into_iter().filter_map(|one| one.join().ok()).collect()
    })
}

fn outcome(served: &dyn Served, fates: Vec<Fate>, new: Vec<New>) -> Result<Outcome> {
    let held = fates.len();
    let (mut resets_ms, mut silences_ms, mut others) = (Vec::new(), Vec::new(), BTreeMap::new());
    for fate in fates {
        match fate {
            Fate::Reset(after) => resets_ms.push(after.as_millis() as u64),
            Fate::GoesOn(silence) => silences_ms.push(silence.as_millis() as u64),
            Fate::Other(words) => *others.entry(words).or_insert(0) += 1,
        }
    }
    resets_ms.sort_unstable();
    silences_ms.sort_unstable();
    let as_it_must = if served.kind() == Some(Kind::Proxy) { &resets_ms } else { &silences_ms };
    ensure!(
        as_it_must.len() == held,
        "long connections: {resets_ms:?} reset, {silences_ms:?} go on, {others:?}"
    );
    let new_failed = new.iter().filter(|one| one.error.is_some()).count();
    let mut failures: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (one, error) in new.iter().filter_map(|one| Some((one, one.error.clone()?))) {
        failures.entry(error).or_default().push(one.began);
    }
    let first_new_ms = new.iter().filter(|one| one.error.is_none()).map(|one| one.done).min();
    let last = new.iter().max_by_key(|one| one.began).ok_or_else(|| anyhow!("no new transaction"))?;
    ensure!(last.error.is_none(), "new transactions still fail after {} ms: {:?}", last.began, last.error);
    Ok(Outcome {
        held,
        resets_ms,
        silences_ms,
        new: new.len(),
        new_failed,
        failures,
        first_new_ms,
        slowest_new_ms: new.iter().map(|one| one.done - one.began).max().unwrap_or(0),
    })
}
