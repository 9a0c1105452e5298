//! What peers say of their sessions: applied only if newer; two Owners that meet are settled here.

use super::Worker;
use crate::clock::NowMs;
use crate::flow::{FlowKey, Generation, NodeId, proto};
use crate::mailbox::FromWorker;
use crate::session::table::Slot;
use crate::session::tcp::{TcpEnd, TcpTracking};
use crate::session::{Role, Session, State};
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
                // A full table refuses backups first: the Owner still has the session, and tells of it again.
                if self.insert(record.to_session(now, mark), now).is_err() {
                    self.counters.backups_refused.add(1);
                }
            }
            (false, Some(slot)) => self.merge(slot, record.to_session(now, mark), now),
        }
    }

    fn remove_backup(&mut self, slot: Slot, record: &Record) {
        let known = self.shard.table.get(slot);
        let theirs = known.role != Role::Owner && known.owner == record.owner;
        // A claim may be younger than the session that ends; what came from the Owner is not.
        if theirs && (known.role == Role::Backup || known.generation <= record.generation) {
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
                // The winner must learn what this node has seen of the flow.
                self.announce(slot, now);
                self.replace_keeping_counts(slot, theirs, &known);
            }
            // The peer must learn that it lost. What it has seen of the flow is not lost with it.
            Role::Owner => {
                self.learn_state(slot, &theirs, &known);
                self.announce(slot, now);
            }
            Role::Claim if self.is_believed(&theirs, &known) => {
                self.replace_keeping_counts(slot, theirs, &known);
            }
            Role::Claim if is_last_word(&theirs, &known) => self.learn_late(slot, theirs, &known),
            Role::Claim => {}
            // Everything an Owner says comes in order, so what it said last is what it has.
            Role::Backup if theirs.owner == known.owner || known.owner == NodeId(0) => {
                self.replace_keeping_counts(slot, theirs, &known);
            }
            Role::Backup if theirs.is_newer_than(&known) => {
                self.replace_keeping_counts(slot, theirs, &known);
            }
            Role::Backup => {}
        }
    }

    /// The winner of two Owners may know less of the flow than the loser: the answer to its SYN, perhaps, and
    /// segments that moved the windows. Those it learns anew.
    fn learn_state(&mut self, slot: Slot, theirs: &Session, known: &Session) {
        let same_protocol = known.state as u8 >> 4 == theirs.state as u8 >> 4;
        let further = known.state.is_half_open() && theirs.state as u8 > known.state as u8;
        let state = if same_protocol && further { theirs } else { known };
        if known.key.proto() != proto::TCP {
            return;
        }
        let end = |end: usize| {
            let TcpEnd { scale, flags, .. } = state.tcp.ends[end];
            TcpEnd { scale, flags, ..TcpEnd::default() }
        };
        let learned = Session {
            state: state.state,
            origin: state.origin,
            tcp: TcpTracking { ends: [end(0), end(1)] },
            timeout_ms: state.timeout_ms,
            expires: state.expires.max(known.expires),
            version: known.version + 1,
            ..*known
        };
        self.shard.replace(slot, learned);
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

    /// The Owner does not know a flow this node granted it. What else is known of the flow stays, nobody's.
    pub(super) fn forget_claim(&mut self, from: NodeId, key: &FlowKey, generation: Generation, now: NowMs) {
        let Some(slot) = self.shard.table.find(key) else { return };
        let known = self.shard.table.get(slot);
        if known.role != Role::Claim || known.owner != from || known.generation != generation {
            return;
        }
        if known.state == State::Claimed {
            self.shard.remove(slot);
            return;
        }
        self.orphan(slot, &known, now);
    }

    /// A claim ends with a record of the Owner it names, which may have begun with a lower generation (the grant was
    /// lost), or with one of its generation or a higher one. One granted because an Owner seemed dead ends also with
    /// the record of an Owner that is live after all: if the grant was taken up, that record comes too and wins.
    fn is_believed(&self, theirs: &Session, claim: &Session) -> bool {
        let revived = claim.state != State::Claimed && self.snapshots.view.is_live(theirs.owner);
        revived || theirs.owner == claim.owner || theirs.generation >= claim.generation
    }

    /// The last words of an Owner that is not live, after its flow was granted to another: what they say of the flow is
    /// learned, in case the new Owner dies as well; the grant stays, for its generation must not be given twice.
    fn learn_late(&mut self, slot: Slot, theirs: Session, claim: &Session) {
        let Session { role, owner, generation, expires, .. } = *claim;
        self.replace_keeping_counts(slot, Session { role, owner, generation, expires, ..theirs }, claim);
    }
}

/// A record of the Owner before the one the claim names, younger than what was known when the flow was granted anew.
fn is_last_word(theirs: &Session, claim: &Session) -> bool {
    claim.state != State::Claimed
        && theirs.generation.next() == claim.generation
        && theirs.version > claim.version
}
