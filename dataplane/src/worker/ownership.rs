//! Ownership that changes without a packet: flows of a dead or restarted Owner.

use std::ops::Range;

use super::Worker;
use crate::clock::NowMs;
use crate::flow::NodeId;
use crate::limits::{ORPHAN_MS, ORPHAN_STEP_MS};
use crate::session::table::Slot;
use crate::session::{Role, Session, State};
use crate::xsk::Io;

impl<I: Io> Worker<I> {
    /// Sessions of an Owner that is no more: this node owns those it directs. If the Owner lives again without them,
    /// the others belong to nobody until their Director has them or a packet asks it.
    pub(super) fn adopt_some(
        &mut self,
        owner: NodeId,
        restarted: bool,
        slots: Range<usize>,
        now: NowMs,
    ) -> bool {
        if !restarted && self.snapshots.view.is_live(owner) {
            return true;
        }
        for index in slots {
            let Some(slot) = self.shard.table.occupied(index) else { continue };
            let session = self.shard.table.get(slot);
            if session.role == Role::Owner || session.owner != owner {
                continue;
            }
            let view = &self.snapshots.view;
            let known = session.state != State::Claimed;
            if known && view.director_of(&session.key) == view.me && self.snapshots.settings.aggregation {
                self.adopt(slot, &session, now);
            } else if restarted {
                self.orphan(slot, &session, now);
            }
        }
        false
    }

    /// Nobody owns the session. Its Director takes it with the next packet; if the Director knows nothing of it,
    /// whoever still does owns it after a while, one node after the other so that the first is heard.
    pub(super) fn orphan(&mut self, slot: Slot, session: &Session, now: NowMs) {
        let view = &self.snapshots.view;
        let before_me = view.members.iter().filter(|member| member.node < view.me).count() as u64;
        let expires = now.plus(ORPHAN_MS + ORPHAN_STEP_MS * before_me);
        let nobody = Session { role: Role::Backup, owner: NodeId(0), expires, ..*session };
        self.shard.replace(slot, nobody);
    }

    /// Owns a session that nobody owns.
    pub(super) fn adopt(&mut self, slot: Slot, session: &Session, now: NowMs) {
        self.counters.takeovers.add(1);
        self.own_from_now(slot, session, now.plus(u64::from(session.timeout_ms)), now);
    }

    /// Owns a session known here, one generation higher, and tells all.
    pub(super) fn own_from_now(&mut self, slot: Slot, session: &Session, expires: NowMs, now: NowMs) {
        let owned = Session {
            role: Role::Owner,
            owner: self.snapshots.view.me,
            generation: session.generation.next(),
            version: session.version + 1,
            expires,
            dirty: false,
            mark: 0,
            ..*session
        };
        self.shard.replace(slot, owned);
        self.announce(slot, now);
    }
}
