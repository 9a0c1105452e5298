//! What peers say of their sessions: applied only if newer; two Owners that meet are settled here.

use super::Worker;
use crate::clock::NowMs;
use crate::flow::{FlowKey, Generation, NodeId};
use crate::mailbox::FromWorker;
use crate::session::table::Slot;
use crate::session::{Role, Session};
use crate::wire::record::Record;
use crate::xsk::Io;

impl<I: Io> Worker<I> {
    /// Applies a peer's record. `mark` is that peer's present bulk sync.
    pub(super) fn apply_record(&mut self, record: &Record, mark: u16, now: NowMs) {
        let slot = self.shard.table.find(&record.key);
        match (record.remove, slot) {
            (true, None) => {}
            (true, Some(slot)) => self.remove_backup(slot, record),
            (false, None) => {
                // A full table refuses backups first: the Owner still has the session.
                let _ = self.insert(record.to_session(now, mark));
            }
            (false, Some(slot)) => self.merge(slot, record.to_session(now, mark), now),
        }
    }

    fn remove_backup(&mut self, slot: Slot, record: &Record) {
        let known = self.shard.table.get(slot);
        let theirs = known.role != Role::Owner && known.owner == record.owner;
        if theirs && known.generation <= record.generation {
            self.shard.remove(slot);
        }
    }

    /// A record meets one's own: the higher (generation, owner, version) wins.
    fn merge(&mut self, slot: Slot, theirs: Session, now: NowMs) {
        let known = self.shard.table.get(slot);
        match known.role {
            Role::Owner if (theirs.generation, theirs.owner) > (known.generation, known.owner) => {
                match self.draining {
                    true => self.counters.handed_over.add(1),
                    false => self.counters.conflicts_lost.add(1),
                }
                self.replace_keeping_counts(slot, theirs, &known);
            }
            // The peer must learn that it lost.
            Role::Owner => self.announce(slot, now),
            Role::Claim if (theirs.generation, theirs.owner) >= (known.generation, known.owner) => {
                self.replace_keeping_counts(slot, theirs, &known);
            }
            Role::Claim | Role::Backup => {
                if theirs.is_newer_than(&known) {
                    self.replace_keeping_counts(slot, theirs, &known);
                } else if theirs.owner == known.owner {
                    self.shard.table.set_mark(slot, theirs.mark);
                }
            }
        }
    }

    fn replace_keeping_counts(&mut self, slot: Slot, theirs: Session, known: &Session) {
        let session = Session { packets: known.packets, bytes: known.bytes, ..theirs };
        self.shard.replace(slot, session);
    }

    /// A Director asks whether a flow it granted still lives here.
    pub(super) fn answer_claim(&mut self, from: NodeId, key: FlowKey, generation: Generation, now: NowMs) {
        let slot = self.shard.table.find(&key);
        match slot.filter(|&slot| self.shard.table.role(slot) == Role::Owner) {
            Some(slot) => self.announce(slot, now),
            None => {
                // If the outbox is full the Director asks again.
                let _ = self.mailbox.outbox.push(FromWorker::ClaimDenied { to: from, key, generation });
            }
        }
    }

    /// The Owner does not know a flow this node granted it.
    pub(super) fn forget_claim(&mut self, from: NodeId, key: &FlowKey, generation: Generation) {
        let Some(slot) = self.shard.table.find(key) else { return };
        let known = self.shard.table.get(slot);
        if known.role == Role::Claim && known.owner == from && known.generation == generation {
            self.shard.remove(slot);
        }
    }
}
