//! Between bursts: messages from control, timers, walks, Hello, gauges, stopping.

use super::former::FormerView;
use super::walks::Purpose;
use super::{Snapshots, Worker};
use crate::clock::NowMs;
use crate::cluster::view::{Peer, View};
use crate::flow::NodeId;
use crate::limits::{ADOPT_AFTER_MS, CLAIM_CHECK_MS, INBOX_PER_TURN, STOP_MS, TIMERS_PER_TURN};
use crate::mailbox::{FromWorker, Retired, ToWorker};
use crate::session::Role;
use crate::session::table::Slot;
use crate::session::wheel::TICK_MS;
use crate::xsk::Io;

/// An Owner that is not live.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) node: NodeId,
    pub(super) at: NowMs,
    /// Rounds of prompts to the ends of its proxied connections.
    pub(super) prompts: u8,
    /// Its idle flows have been looked for.
    adopted: bool,
}

impl<I: Io> Worker<I> {
    /// Takes what control sent; true if there was anything.
    pub(super) fn take_messages(&mut self, now: NowMs) -> bool {
        for taken in 0..INBOX_PER_TURN {
            let Some(message) = self.mailbox.inbox.pop() else { return taken > 0 };
            self.take_message(message, now);
        }
        true
    }

    fn take_message(&mut self, message: ToWorker, now: NowMs) {
        match message {
            ToWorker::View(view) => {
                let old = std::mem::replace(&mut self.snapshots.view, view);
                let Snapshots { view, settings, .. } = &self.snapshots;
                let asked_ms = settings.former_directors_ms;
                self.former = FormerView::after(self.former.take(), &old, view, asked_ms, now);
                self.note_deaths(now);
                self.draining &= self.snapshots.view.my_weight() == 0;
                let toward = |peer: &Peer| (peer.heard, peer.key.as_ref().map(|key| key.id));
                let heard = |view: &View| view.peers.iter().map(toward).collect::<Vec<_>>();
                let said = |view: &View| (view.my_weight(), heard(view));
                if said(&old) != said(&self.snapshots.view) {
                    // Until the peers hear of it they and this node disagree about some Directors.
                    self.next_hello = now;
                }
                self.renew_outward();
                self.retire(Retired::View(old));
            }
            ToWorker::Routes(routes) => {
                let old = std::mem::replace(&mut self.snapshots.routes, routes);
                self.new_paths();
                self.retire(Retired::Routes(old));
                self.retry_held(now);
            }
            ToWorker::Settings(settings) => {
                let switched_on = settings.aggregation && !self.snapshots.settings.aggregation;
                let old = std::mem::replace(&mut self.snapshots.settings, settings);
                self.renew_outward();
                self.retire(Retired::Settings(old));
                if switched_on {
                    self.walks.begin(Purpose::Announce { dirty_only: false }, 0);
                }
            }
            ToWorker::Policy(policy) => {
                let old = std::mem::replace(&mut self.snapshots.policy, policy);
                self.new_paths();
                self.retire(Retired::Policy(old));
            }
            ToWorker::Services(services) => {
                let old = std::mem::replace(&mut self.services, services);
                self.retire(Retired::Services(old));
            }
            ToWorker::TakeKey(key) => {
                self.counters.tunnel_keys.add(1);
                self.keyring.take(key).into_iter().for_each(|old| self.retire(Retired::Key(old)));
            }
            ToWorker::ForgetKey { peer, id } => {
                self.keyring.forget(peer, id).into_iter().for_each(|old| self.retire(Retired::Key(old)));
            }
            ToWorker::Apply { record, mark } => {
                self.telling(&record.key, now, |worker| worker.apply_record(&record, mark, now));
            }
            ToWorker::Sweep { owner, mark } => self.walks.begin(Purpose::Sweep { owner, mark }, 0),
            ToWorker::ClaimQuestion { from, key, generation } => {
                self.answer_claim(from, key, generation, now);
            }
            ToWorker::ClaimDenied { from, key, generation } => {
                self.telling(&key, now, |worker| worker.forget_claim(from, &key, generation, now));
            }
            ToWorker::HandOver => self.begin_hand_over(),
            ToWorker::TakeOver { record, mark } => {
                self.telling(&record.key, now, |worker| worker.take_over(&record, mark, now));
            }
            ToWorker::Walk { id, owned_only, from } => {
                self.walks.begin(Purpose::Page { id, owned_only }, from);
            }
            ToWorker::Adopt { owner } => self.walks.begin(Purpose::Adopt { owner, restarted: true }, 0),
            ToWorker::Explain { id, inquiry } => {
                let explained = Box::new(self.explain(&inquiry, now));
                // With a full outbox nobody is answered, and who asked does not wait for ever.
                let _ = self.mailbox.outbox.push(FromWorker::Explained { id, explained });
            }
            ToWorker::Detours { id } => {
                let (detours, forgotten) = self.detours.tell();
                let _ = self.mailbox.outbox.push(FromWorker::Detours { id, detours, forgotten });
            }
            ToWorker::Watch(watching) => {
                if let Some(watching) = &watching {
                    watching.watch.adopted.set(1);
                }
                let old = std::mem::replace(&mut self.watching, watching);
                old.into_iter().for_each(|old| self.retire(Retired::Watch(old)));
            }
            ToWorker::Follow(following) => {
                following.iter().for_each(|following| following.adopt());
                let old = std::mem::replace(&mut self.following, following);
                old.into_iter().for_each(|old| self.retire(Retired::Follow(old)));
            }
            ToWorker::Stop => self.stopping = Some(now),
        }
    }

    fn retire(&mut self, old: Retired) {
        // With a full outbox the snapshot is freed here: slower for once, never wrong.
        let _ = self.mailbox.outbox.push(FromWorker::Retired(old));
    }

    /// Remembers since when each Owner that is not live has been missing.
    fn note_deaths(&mut self, now: NowMs) {
        let Snapshots { view, .. } = &self.snapshots;
        self.owner_died.retain(|death| !view.is_live(death.node));
        for peer in &view.peers {
            if !view.is_live(peer.node) && !self.owner_died.iter().any(|death| death.node == peer.node) {
                self.owner_died.push(Death { node: peer.node, at: now, prompts: 0, adopted: false });
            }
        }
    }

    fn died(&self, node: NodeId) -> NowMs {
        self.owner_died.iter().find(|death| death.node == node).map_or(NowMs(0), |death| death.at)
    }

    /// Flows of a dead Owner that had no packet for a while get a new Owner too, so that the next node that dies
    /// or joins finds them owned.
    fn adopt_the_idle(&mut self, now: NowMs) {
        let due = |death: &&mut Death| !death.adopted && now.since(death.at) >= ADOPT_AFTER_MS;
        if let Some(death) = self.owner_died.iter_mut().find(due) {
            death.adopted = true;
            self.walks.begin(Purpose::Adopt { owner: death.node, restarted: false }, 0);
        }
    }

    /// Timers, walks, Hello; true if there was anything to do.
    pub(super) fn housekeep(&mut self, now: NowMs) -> bool {
        let timers = self.run_timers(now);
        self.expire_held(now);
        self.expire_fragments(now);
        if self.removal_lost && self.mailbox.outbox.push(FromWorker::Resync).is_ok() {
            self.removal_lost = false;
        }
        if self.has_to_tell(now) && !self.walks.announcing() && !self.is_behind() {
            self.walks.begin(Purpose::Announce { dirty_only: true }, 0);
            self.next_announcing = now.plus(self.snapshots.settings.backup.pause_ms());
        }
        self.adopt_the_idle(now);
        self.refresh_some(now);
        self.prompt_the_held(now);
        let walked = self.walk_on(now);
        self.say_hello(now);
        timers || walked
    }

    fn run_timers(&mut self, now: NowMs) -> bool {
        let mut due = std::mem::take(&mut self.due);
        self.shard.wheel.advance(now, TIMERS_PER_TURN, &mut due);
        let any = !due.is_empty();
        for slot in due.drain(..) {
            // The timer of a removed session is cancelled, but one due in the same turn may have gone.
            if self.shard.table.occupied(slot.index()).is_some() {
                let slots = slot.index()..slot.index() + 1;
                self.telling_slots(slots, now, |worker| worker.timer_due(slot, now));
            }
        }
        self.due = due;
        any
    }

    /// Only the Owner ages a session; a backup waits for its delete, or for its Owner's death and a
    /// fresh minimum time; a claim never lapses under a living Owner.
    fn timer_due(&mut self, slot: Slot, now: NowMs) {
        let session = self.shard.table.get(slot);
        if session.expires > now {
            self.shard.wheel.schedule(slot, session.expires);
            return;
        }
        let live = self.snapshots.view.is_live(session.owner);
        match session.role {
            Role::Owner => {
                self.counters.sessions_expired.add(1);
                self.end(slot, now);
            }
            Role::Claim if live => self.check_claim(slot, now),
            Role::Backup if live => self.look_again(slot, now.plus(u64::from(session.timeout_ms)), now),
            Role::Backup if session.owner == NodeId(0) && self.snapshots.settings.aggregation => {
                self.adopt(slot, &session, now);
            }
            Role::Claim | Role::Backup => {
                let until = self.died(session.owner).plus(u64::from(session.timeout_ms));
                if until > now {
                    self.look_again(slot, until, now);
                } else {
                    self.shard.remove(slot);
                }
            }
        }
    }

    /// Sets a timer that was due again, for the next tick at the earliest: a backup may have been told that no time is left,
    /// and would be looked at in every turn until its Owner's delete comes.
    fn look_again(&mut self, slot: Slot, at: NowMs, now: NowMs) {
        let at = at.max(now.plus(TICK_MS));
        self.shard.table.set_expires(slot, at);
        self.shard.wheel.schedule(slot, at);
    }

    fn check_claim(&mut self, slot: Slot, now: NowMs) {
        let session = self.shard.table.get(slot);
        // With a full outbox the question is asked at the next turn of this timer.
        let _ = self.mailbox.outbox.push(FromWorker::ClaimCheck {
            owner: session.owner,
            key: session.key,
            generation: session.generation,
        });
        self.look_again(slot, now.plus(CLAIM_CHECK_MS), now);
    }

    /// Publishes what is now in the table, the queues and the rings.
    pub(super) fn publish_gauges(&self) {
        let counters = &self.counters;
        counters.sessions_owner.set(self.shard.table.count(Role::Owner) as u64);
        counters.sessions_backup.set(self.shard.table.count(Role::Backup) as u64);
        counters.sessions_claim.set(self.shard.table.count(Role::Claim) as u64);
        counters.sessions_yielding.set(self.shard.table.yielding() as u64);
        counters.sessions_crowded.set(self.shard.table.crowded());
        counters.sessions_unplaced.set(self.shard.table.unplaced());
        counters.dirty.set(self.shard.dirty);
        let waiting_fragments = self.waiting_fragments();
        counters.fragments_waiting.set(waiting_fragments as u64);
        counters.held.set((self.held.len() + waiting_fragments) as u64);
        counters.forwards_withdrawn.set(self.shard.forwards.withdrawn);
        counters.view_epoch.set(u64::from(self.snapshots.view.epoch));
        let frames = self.io.frames();
        counters.frames_free.set(frames.free);
        counters.frames_kernel.set(frames.kernel);
        let waiting = self.held.len() + waiting_fragments + self.handoff.waiting();
        counters.frames_hand.set(frames.hand + waiting as u64);
    }

    /// True when control said stop and nothing is left in the transmit rings (or waiting was enough).
    pub(super) fn may_end(&mut self, now: NowMs) -> bool {
        let Some(since) = self.stopping else { return false };
        let idle = self.io.frames().hand == 0;
        now.since(since) > STOP_MS || (idle && self.handoff.is_empty() && !self.io.flush())
    }
}
