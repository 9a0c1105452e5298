//! The workers in [`super::Top`].

use std::collections::BTreeMap;

use serde::Serialize;

use crate::operator::api::{Stats, Worker};

/// Columns of [`TopWorker::row`].
pub(super) const HEADING: [&str; 13] = [
    "worker",
    "core",
    "in",
    "out",
    "handed over",
    "dropped",
    "fast",
    "burst",
    "busy",
    "ns/packet",
    "cycles",
    "sleeps",
    "sessions",
];

/// A worker in [`super::Top`].
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct TopWorker {
    /// Its index.
    pub worker: usize,
    /// Its core.
    pub core: usize,
    /// Packets taken from the rings.
    pub rx: u64,
    /// Packets sent.
    pub tx: u64,
    /// Packets handed to other workers.
    pub handed_over: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Packets on the fast path, percent of those taken and handed to it.
    pub fast_percent: u64,
    /// Packets per turn of its loop, as long as it does not sleep.
    pub burst: f64,
    /// Time of the turns that found work, percent.
    pub busy_percent: f64,
    /// That time for each packet taken and handed to it, ns; null: there were none.
    pub ns_per_packet: Option<u64>,
    /// The same in cycles of its core; null: there were none, or the core's clock rate is not known.
    pub cycles_per_packet: Option<u64>,
    /// Times it slept.
    pub sleeps: u64,
    /// Sessions now.
    pub sessions: u64,
}

impl TopWorker {
    /// All of them, from two looks `interval_ms` apart; `mhz`: clock rate by core.
    pub(super) fn all(old: &Stats, new: &Stats, interval_ms: u64, mhz: &BTreeMap<usize, f64>) -> Vec<Self> {
        let pairs = old.workers.iter().zip(&new.workers);
        pairs.map(|(old, new)| Self::between(old, new, interval_ms, mhz.get(&new.core))).collect()
    }

    fn between(old: &Worker, new: &Worker, interval_ms: u64, mhz: Option<&f64>) -> Self {
        let rate = |before: u64, after: u64| after.saturating_sub(before) * 1000 / interval_ms;
        let taken = (new.rx + new.handoff_rx).saturating_sub(old.rx + old.handoff_rx);
        let awake = new.turns.saturating_sub(old.turns).saturating_sub(new.sleeps.saturating_sub(old.sleeps));
        let busy_ns = new.busy_ns.saturating_sub(old.busy_ns);
        let each = (taken > 0).then(|| busy_ns as f64 / taken as f64);
        Self {
            worker: new.worker,
            core: new.core,
            rx: rate(old.rx, new.rx),
            tx: rate(old.tx, new.tx),
            handed_over: rate(old.handoff_tx, new.handoff_tx),
            dropped: rate(old.dropped, new.dropped),
            fast_percent: new.fast_path.saturating_sub(old.fast_path) * 100 / taken.max(1),
            burst: (taken as f64 * 10.0 / awake.max(1) as f64).round() / 10.0,
            // Nanoseconds of milliseconds, as percent with two digits.
            busy_percent: (busy_ns as f64 / interval_ms as f64 / 100.0).round() / 100.0,
            ns_per_packet: each.map(|ns| ns.round() as u64),
            cycles_per_packet: each.zip(mhz).map(|(ns, mhz)| (ns * mhz / 1000.0).round() as u64),
            sleeps: rate(old.sleeps, new.sleeps),
            sessions: new.sessions,
        }
    }

    /// Cells of a table under [`HEADING`].
    pub(super) fn row(&self) -> [String; 13] {
        let or_dash = |value: Option<u64>| value.map_or_else(|| "-".into(), |value| value.to_string());
        [
            self.worker.to_string(),
            self.core.to_string(),
            self.rx.to_string(),
            self.tx.to_string(),
            self.handed_over.to_string(),
            self.dropped.to_string(),
            format!("{}%", self.fast_percent),
            self.burst.to_string(),
            format!("{:.1}%", self.busy_percent),
            or_dash(self.ns_per_packet),
            or_dash(self.cycles_per_packet),
            self.sleeps.to_string(),
            self.sessions.to_string(),
        ]
    }
}
