//! Draining this node: it takes no new flows (Director weight 0), hands its sessions over and waits until
//! peers own them. Its process goes on, so that packets that still arrive are forwarded.

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::mailbox::ToWorker;

use super::Node;
use crate::operator::drain::{Drain, Stage};

/// How often sessions that no peer has taken yet are offered: longer than an offer takes there and its
/// record back, so that few are offered twice.
const OFFER_MS: u64 = 200;

/// How long a node must be apart before it gives its flows away, ms. When a node dies the others notice within some Hello
/// intervals of each other and one of them may look apart meanwhile: shorter, and it gives its flows away for that, which
/// proxied ones do not outlive; longer, and flows of a node that is apart for good stay out of some nodes' reach.
const APART_MS: u64 = 300;

/// A drain under way, or over.
#[derive(Debug)]
pub(super) struct Draining {
    since: NowMs,
    began_with: u64,
    /// Nothing is owned here any more, and the peers have acknowledged everything.
    pub(super) done: bool,
}

impl Node {
    /// Begins to drain, if that is not under way.
    pub(super) fn begin_drain(&mut self) -> anyhow::Result<Result<Drain, String>> {
        if self.draining.is_none() {
            if let Some(obstacle) = self.drain_obstacle() {
                return Ok(Err(obstacle));
            }
            let now = self.now();
            self.draining = Some(Draining { since: now, began_with: self.owned(), done: false });
            tracing::info!(sessions = self.owned(), "draining: sessions are handed over");
            // The first offer follows at once.
            self.offered = NowMs(0);
            self.renew_view()?;
        }
        Ok(Ok(self.drain()))
    }

    /// Takes flows again.
    pub(super) fn end_drain(&mut self) -> anyhow::Result<Drain> {
        if self.draining.take().is_some() {
            tracing::info!("draining is over: new flows are taken again");
            self.renew_view()?;
        }
        Ok(self.drain())
    }

    /// Why there is nobody to hand anything to.
    fn drain_obstacle(&self) -> Option<String> {
        if !self.settings.aggregation {
            return Some(
                "aggregation is off: peers have no copies of sessions and nothing can be handed over; switch it on first (`samepath aggregation on`), or stop the node as it is".into(),
            );
        }
        let others = |member: &&samepath_dataplane::cluster::view::Member| {
            member.node != self.config.node && member.weight > 0
        };
        self.view.members.iter().find(others).is_none().then(|| {
            "no live peer takes flows: nothing can be handed over; see `samepath members`, start a peer or undrain one first, or stop the node as it is".into()
        })
    }

    /// Sessions that this node owns and cannot serve, or shall not, are offered to peers again and again;
    /// notices when a drain is over.
    pub(super) fn watch_hand_over(&mut self) {
        let now = self.now();
        let is_apart = !self.membership.is_agreed();
        self.apart_since = is_apart.then(|| self.apart_since.unwrap_or(now));
        let owned = self.owned();
        if owned > 0 && self.hands_over(now) && now.since(self.offered) >= OFFER_MS {
            self.offered = now;
            self.workers.tell_all(|| ToWorker::HandOver);
        }
        let dirty: u64 = self.workers.counters().iter().map(|one| one.dirty.get()).sum();
        let Some(draining) = &mut self.draining else { return };
        let done = owned == 0 && dirty == 0 && self.replicator.is_flushed();
        if done && !draining.done {
            tracing::info!(ms = now.since(draining.since), "drained: peers own all sessions");
        }
        draining.done = done;
    }

    /// It drains, lacks a data interface, or has been none of the members all agree on for a while.
    fn hands_over(&self, now: NowMs) -> bool {
        let is_apart = self.apart_since.is_some_and(|since| now.since(since) >= APART_MS);
        let unfit = self.draining.is_some() || self.duty.links_down || is_apart;
        unfit && self.settings.aggregation && self.view.my_weight() == 0
    }

    /// Sessions this node owns.
    pub(super) fn owned(&self) -> u64 {
        self.workers.counters().iter().map(|one| one.sessions_owner.get()).sum()
    }

    /// How far it is.
    pub(super) fn drain(&self) -> Drain {
        let (stage, began_with, ms) = match &self.draining {
            None => (Stage::Off, 0, 0),
            Some(drain) => {
                let stage = if drain.done { Stage::Drained } else { Stage::Draining };
                (stage, drain.began_with, self.now().since(drain.since))
            }
        };
        let unacknowledged = self.replicator.stats().iter().map(|peer| peer.lag_records).max();
        Drain {
            node: self.config.node.0,
            stage,
            began_with,
            owned: self.owned(),
            unacknowledged: unacknowledged.unwrap_or(0),
            elapsed_ms: ms,
        }
    }
}
