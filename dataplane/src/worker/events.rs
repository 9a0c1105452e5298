//! Tells who follows sessions what became of them: what was known of a flow is noted before something happens to it, and
//! compared with what is known afterwards.
//!
//! Whatever makes, changes or ends a session does so in one of four places: a packet on the long way (the fast path changes
//! no role and no state), a message of control about one flow, a timer, a walk. Only a session that gives way to another
//! one is not the one that was noted: control says how many did. Without followers none of this runs.

use std::ops::Range;
use std::sync::Arc;

use super::Worker;
use super::allowance::Allowance;
use crate::clock::{NowMs, wall_ns};
use crate::events::{Event, Events, FOLLOWERS_MAX, Fate, Test, Wanted};
use crate::floods::Rate;
use crate::flow::FlowKey;
use crate::limits::{EVENTS_AT_ONCE, EVENTS_PER_S, WALK_PER_TURN};
use crate::session::Session;
use crate::watch::Known;
use crate::xsk::Io;

/// What a worker keeps while somebody follows its sessions.
#[derive(Debug)]
pub struct Following {
    /// Where they are told.
    pub events: Arc<Events>,
    /// Number of these followers: rises with every change of them.
    set: u64,
    tests: [Option<Test>; FOLLOWERS_MAX],
    allowance: Allowance,
    /// Flows something is happening to, and what was known of them before.
    before: Vec<(FlowKey, Option<Session>)>,
}

impl Following {
    /// To be given to a worker with [`crate::mailbox::ToWorker::Follow`]; `wanted` by follower.
    pub fn new(events: Arc<Events>, set: u64, wanted: &[Option<Wanted>; FOLLOWERS_MAX]) -> Self {
        let rate = Rate { per_second: EVENTS_PER_S, burst: EVENTS_AT_ONCE };
        Self {
            events,
            set,
            tests: wanted.map(|wanted| wanted.as_ref().map(Test::new)),
            allowance: Allowance::new(rate),
            before: Vec::with_capacity(WALK_PER_TURN),
        }
    }

    /// The worker looks from now on.
    pub(super) fn adopt(&self) {
        self.events.adopted.set(self.set);
    }

    /// Tells the difference, if there is one that somebody wants.
    fn tell(&mut self, before: Option<&Session>, after: Option<&Session>, now: NowMs) {
        let (known, present) = (before.map(Known::from), after.map(Known::from));
        let Some(&session) = after.or(before).filter(|_| known != present) else { return };
        let fate = match (known, present) {
            (Some(known), Some(_)) => Fate::Changed(known),
            (_, Some(_)) => Fate::Began,
            (_, None) => Fate::Ended,
        };
        let followers = self.followers_of(before, after);
        if followers == 0 {
            return;
        }
        let event = || Event { followers, set: self.set, at_ns: wall_ns(), fate, session };
        if !(self.allowance.take(now) && self.events.tell(event())) {
            self.events.lose(followers);
        }
    }

    /// By bit.
    fn followers_of(&self, before: Option<&Session>, after: Option<&Session>) -> u8 {
        let wants = |test: &Test| [before, after].into_iter().flatten().any(|session| test.holds(session));
        let tests = self.tests.iter().enumerate();
        tests.fold(0, |bits, (at, test)| bits | u8::from(test.as_ref().is_some_and(wants)) << at)
    }
}

impl<I: Io> Worker<I> {
    /// Does something to the session of `key`.
    #[inline(always)]
    pub(super) fn telling(&mut self, key: &FlowKey, now: NowMs, act: impl FnOnce(&mut Self)) {
        let followed = self.following.is_some();
        if followed {
            self.note_flow(key);
        }
        act(self);
        if followed {
            self.tell_changes(now);
        }
    }

    /// Does something to the sessions in `slots`.
    #[inline(always)]
    pub(super) fn telling_slots<R>(
        &mut self,
        slots: Range<usize>,
        now: NowMs,
        act: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let followed = self.following.is_some();
        if followed {
            self.note_slots(slots);
        }
        let done = act(self);
        if followed {
            self.tell_changes(now);
        }
        done
    }

    #[cold]
    #[inline(never)]
    fn note_flow(&mut self, key: &FlowKey) {
        let Self { following: Some(following), shard, .. } = self else { return };
        let known = shard.table.find(key).map(|slot| shard.table.get(slot));
        following.before.clear();
        following.before.push((*key, known));
    }

    #[cold]
    #[inline(never)]
    fn note_slots(&mut self, slots: Range<usize>) {
        let Self { following: Some(following), shard, .. } = self else { return };
        let table = &shard.table;
        let sessions = slots.filter_map(|index| table.occupied(index)).map(|slot| table.get(slot));
        following.before.clear();
        following.before.extend(sessions.map(|session| (session.key, Some(session))));
    }

    #[cold]
    #[inline(never)]
    fn tell_changes(&mut self, now: NowMs) {
        let Self { following: Some(following), shard, .. } = self else { return };
        let before = std::mem::take(&mut following.before);
        for (key, known) in &before {
            let after = shard.table.find(key).map(|slot| shard.table.get(slot));
            following.tell(known.as_ref(), after.as_ref(), now);
        }
        following.before = before;
    }
}
