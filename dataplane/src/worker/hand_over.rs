//! Draining: a session goes to the node that decides about its flow, so that claim and Owner are in one
//! place and no answer has to travel. That node owns it one generation higher and says so to all peers;
//! when its record comes back, the rule for two Owners that meet makes this node a backup that forwards.
//! Until then both process what reaches them, so no packet waits.

use std::ops::Range;

use super::Worker;
use super::walks::Purpose;
use crate::clock::NowMs;
use crate::flow::NodeId;
use crate::mailbox::FromWorker;
use crate::session::{Role, Session};
use crate::wire::record::Record;
use crate::xsk::Io;

impl<I: Io> Worker<I> {
    /// Offers all sessions this node owns, unless that is under way.
    pub(super) fn begin_hand_over(&mut self) {
        self.draining = true;
        if !self.walks.handing_over() {
            self.walks.begin(Purpose::HandOver, 0);
        }
    }

    pub(super) fn hand_over_some(&mut self, slots: Range<usize>, now: NowMs) -> bool {
        for index in slots {
            let Some(slot) = self.shard.table.occupied(index) else { continue };
            let session = self.shard.table.get(slot);
            if session.role == Role::Owner
                && let Some(to) = self.successor_of(&session)
            {
                // What a full outbox refuses is offered by the next walk.
                let record = self.record_of(&session, now);
                let _ = self.mailbox.outbox.push(FromWorker::HandOver { to, record });
            }
        }
        false
    }

    /// The Director of the flow, if it is another node that takes flows.
    fn successor_of(&self, session: &Session) -> Option<NodeId> {
        let view = &self.snapshots.view;
        let director = view.director_of(&session.key);
        (director != view.me && view.weight_of(director) > 0).then_some(director)
    }

    /// Takes a session from a draining peer. Not taken (no room, known to be another node's by now, or
    /// this node takes no flows): the peer keeps it and offers it again.
    pub(super) fn take_over(&mut self, record: &Record, mark: u16, now: NowMs) {
        if record.remove || !self.replicates() || self.snapshots.view.my_weight() == 0 {
            return;
        }
        self.apply_record(record, mark, now);
        let Some(slot) = self.shard.table.find(&record.key) else { return };
        let known = self.shard.table.get(slot);
        let theirs = (known.owner, known.generation) == (record.owner, record.generation);
        if known.role == Role::Owner || !theirs {
            return;
        }
        self.counters.handed_in.add(1);
        // A backup's own time is not the Owner's.
        self.own_from_now(slot, &known, record.to_session(now, mark).expires, now);
    }
}
