//! Many transactions at a time, counted; and why they failed, from what the services saw.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::site::{Ends, Site};
use super::{Column, Served};
use crate::bed::Kind;
use crate::traffic::Tally;

/// Transactions at a time: enough that those which wait for nothing are over soon.
const AT_ONCE: usize = 40;

/// Transactions at a time while all of them work: programs share the machine's cores.
const AT_ONCE_IF_THEY_WORK: usize = 8;

/// What a column of the table shows.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How many worked.
    pub tally: Tally,
    /// Why they failed, in a sentence; empty if none did.
    pub why: String,
}

/// Builds the site of a column, carries out `count` transactions and says how they went. An error if the column did not
/// go as it must.
pub fn run(served: &dyn Served, column: Column, count: usize) -> Result<Outcome> {
    let site = Site::build(served, column)?;
    let tally = tally(served, &site, column, count);
    let why = if tally.failed > 0 { why(served, &site, &tally)? } else { String::new() };
    let outcome = Outcome { tally, why };
    check(served, column, &site, &outcome)?;
    if column == Column::With {
        site.finish()?;
    }
    Ok(outcome)
}

fn tally(served: &dyn Served, site: &Site, column: Column, count: usize) -> Tally {
    let started = Instant::now();
    let next = AtomicUsize::new(0);
    let at_once = if column.must_work() { AT_ONCE_IF_THEY_WORK } else { AT_ONCE };
    let mut total = Tally { attempted: count as u64, ..Tally::default() };
    thread::scope(|scope| {
        let take_turns = || {
            let (mut ok, mut errors) = (0, Vec::new());
            loop {
                let turn = next.fetch_add(1, Relaxed);
                if turn >= count {
                    return (ok, errors);
                }
                match served.transact(site, Ends::of(turn), turn) {
                    Ok(()) => ok += 1,
                    Err(error) => errors.push(error),
                }
            }
        };
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(take_turns)).collect();
        for thread in threads {
            // Turns of a thread that died were not counted: they have failed.
            let (ok, errors) = thread.join().unwrap_or_default();
            total.ok += ok;
            errors.into_iter().for_each(|error| *total.errors.entry(error).or_default() += 1);
        }
    });
    total.failed = total.attempted - total.ok;
    total.milliseconds = started.elapsed().as_millis() as u64;
    total
}

/// The failures in the clients' words, and where packets ended.
fn why(served: &dyn Served, site: &Site, tally: &Tally) -> Result<String> {
    let words: Vec<String> = tally.errors.iter().map(|(error, count)| format!("{count} × {error}")).collect();
    let seen = site.seen()?;
    let ended = match served.kind() {
        None => {
            let dropped = site.bed.stats(3)?.dropped_for("no_session");
            format!("node 3 knows no connection and drops {dropped} packets (no_session)")
        }
        Some(Kind::Inspector) => format!(
            "node 3's inspector gets {} SYN-ACKs of connections it has not seen begin, and lets {} pass",
            seen[2].answer_in, seen[2].answer_out
        ),
        Some(Kind::Proxy) => format!(
            "of the servers' SYN-ACKs {} reach the proxy at node 1, which waits for them, and {} that at node 3",
            seen[0].answer_in, seen[2].answer_in
        ),
    };
    Ok(format!("{}; {ended}", words.join(", ")))
}

fn check(served: &dyn Served, column: Column, site: &Site, outcome: &Outcome) -> Result<()> {
    let (tally, name) = (&outcome.tally, served.name());
    if column.must_work() {
        ensure!(
            tally.failed == 0,
            "{name}, {}: {} of {} failed: {}",
            column.name(),
            tally.failed,
            tally.attempted,
            outcome.why
        );
    } else {
        ensure!(
            tally.ok == 0,
            "{name}: {} of {} work over asymmetric paths without samepath",
            tally.ok,
            tally.attempted
        );
    }
    if served.kind().is_some() && column.must_work() {
        let seen = site.seen()?;
        ensure!(seen[0].syn_in >= tally.attempted, "{name}: its service was passed by: {seen:?}");
    }
    if column == Column::With {
        let back = site.bed.stats(3)?.tunnel;
        ensure!(
            back.redirect_tx + back.query_tx >= tally.attempted,
            "{name}: replies did not come by node 3: {back:?}"
        );
    }
    Ok(())
}
