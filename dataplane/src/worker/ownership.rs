//! Ownership that changes without a packet: flows of a dead or restarted Owner, and flows handed over by a node that
//! wants to own none.

use std::ops::Range;

use super::Worker;
use crate::clock::NowMs;
use crate::flow::NodeId;
use crate::mailbox::FromWorker;
use crate::session::table::Slot;
use crate::session::{Role, Session, State};
use crate::wire::record::Record;
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
                let expires = now.plus(u64::from(session.timeout_ms));
                self.shard.replace(slot, Session { owner: NodeId(0), expires, ..session });
            }
        }
        false
    }

    fn adopt(&mut self, slot: Slot, session: &Session, now: NowMs) {
        self.counters.takeovers.add(1);
        self.become_owner(Some(slot), Session { generation: session.generation.next(), ..*session }, now);
    }

    /// Whatever fits is owned from now on and told; a full table leaves the flow with whoever had it.
    fn become_owner(&mut self, slot: Option<Slot>, session: Session, now: NowMs) {
        let owned = Session {
            role: Role::Owner,
            owner: self.snapshots.view.me,
            version: session.version + 1,
            expires: now.plus(u64::from(session.timeout_ms)),
            dirty: false,
            ..session
        };
        if let Ok(slot) = self.put(slot, owned) {
            self.announce(slot, now);
        }
    }

    /// Offers sessions this node owns to their Directors. It goes on as Owner until it hears that they took them.
    pub(super) fn hand_over_some(&mut self, slots: Range<usize>, now: NowMs) -> bool {
        for index in slots {
            let Some(slot) = self.shard.table.occupied(index) else { continue };
            let session = self.shard.table.get(slot);
            let to = self.snapshots.view.director_of(&session.key);
            if session.role != Role::Owner || to == self.snapshots.view.me {
                continue;
            }
            let given = Session {
                owner: to,
                generation: session.generation.next(),
                version: session.version + 1,
                ..session
            };
            // Room was checked by the caller; what is not offered now is offered by the next walk.
            let _ = self.mailbox.outbox.push(FromWorker::HandOver(Record::of(&given, now)));
        }
        false
    }

    /// A peer offers a flow: it is owned here from now on unless something newer is known of it.
    pub(super) fn take_over(&mut self, from: NodeId, record: &Record, now: NowMs) {
        let slot = self.shard.table.find(&record.key);
        let offered = record.to_session(now, 0);
        if let Some(slot) = slot {
            let known = self.shard.table.get(slot);
            if known.owner != from || known.generation >= offered.generation {
                return;
            }
            let kept = Session { packets: known.packets, bytes: known.bytes, ..offered };
            return self.become_owner(Some(slot), kept, now);
        }
        self.become_owner(None, offered, now);
    }
}
