//! Counters before and after: the proof that a node did what the step says.

use std::fmt;

use anyhow::{Context, Result, bail};
use samepath_tests::bed::Bed;
use serde::Serialize;
use serde_json::Value;

/// One counter of one node, before and after a step.
#[derive(Clone, Debug, Serialize)]
pub struct Proof {
    /// The node.
    pub node: u8,
    /// Path of the counter in `samepath stats --json`, with dots.
    pub counter: String,
    /// Value before.
    pub before: u64,
    /// Value after.
    pub after: u64,
}

impl Proof {
    /// How far the counter moved.
    pub fn moved(&self) -> u64 {
        self.after.saturating_sub(self.before)
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "node {}: {} {} -> {} (+{})",
            self.node,
            self.counter,
            self.before,
            self.after,
            self.moved()
        )
    }
}

/// Counters of interest: node and path.
pub type Watched<'a> = [(u8, &'a str)];

/// Reads the watched counters, does `work`, reads them again.
pub fn watch<T>(
    bed: &Bed,
    watched: &Watched<'_>,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Vec<Proof>)> {
    let before = read(bed, watched)?;
    let done = work()?;
    let after = read(bed, watched)?;
    let proof = watched.iter().zip(before).zip(after);
    let proof = proof.map(|((&(node, counter), before), after)| Proof {
        node,
        counter: counter.to_owned(),
        before,
        after,
    });
    Ok((done, proof.collect()))
}

/// [`watch`], and every watched counter must have moved.
pub fn watch_moving<T>(
    bed: &Bed,
    watched: &Watched<'_>,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Vec<Proof>)> {
    let (done, proof) = watch(bed, watched, work)?;
    match proof.iter().find(|proof| proof.moved() == 0) {
        Some(still) => bail!("the proof is missing: {still}"),
        None => Ok((done, proof)),
    }
}

fn read(bed: &Bed, watched: &Watched<'_>) -> Result<Vec<u64>> {
    watched
        .iter()
        .map(|&(node, counter)| {
            let stats: Value = bed.cli(node)?.json(&["stats"])?;
            let value = counter.split('.').fold(&stats, |value, name| &value[name]);
            value.as_u64().with_context(|| format!("node {node} has no counter {counter}"))
        })
        .collect()
}
