//! Visits to all sessions, a few slots per turn: listing, bulk sync, sweep, sending again.

use std::collections::VecDeque;
use std::ops::Range;

use super::Worker;
use crate::clock::NowMs;
use crate::flow::NodeId;
use crate::limits::WALK_PER_TURN;
use crate::mailbox::FromWorker;
use crate::session::{Role, Session};
use crate::xsk::Io;

/// What a walk does with the sessions it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Copy them to control.
    Page {
        /// Given back with the page.
        id: u32,
        /// Only those this node owns.
        owned_only: bool,
    },
    /// Forget backups of `owner` that the bulk sync `mark` did not confirm.
    Sweep { owner: NodeId, mark: u16 },
    /// Own the sessions of a dead Owner whose Director this node is. `restarted`: it lives again without them, so
    /// nobody may take it for their Owner.
    Adopt { owner: NodeId, restarted: bool },
    /// Ask the ends of connections that a dead Owner's proxy had where they are.
    Prompt { owner: NodeId },
    /// Tell control of the sessions this node owns (again).
    Announce { dirty_only: bool },
    /// Offer the sessions this node owns to the nodes that decide about them.
    HandOver,
}

#[derive(Debug, Clone, Copy)]
struct Walk {
    purpose: Purpose,
    cursor: usize,
}

/// Walks under way, oldest first.
#[derive(Debug, Default)]
pub(super) struct Walks {
    queue: VecDeque<Walk>,
}

impl Walks {
    pub(super) fn begin(&mut self, purpose: Purpose, cursor: usize) {
        self.queue.push_back(Walk { purpose, cursor });
    }

    pub(super) fn pending(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn handing_over(&self) -> bool {
        self.queue.iter().any(|walk| walk.purpose == Purpose::HandOver)
    }

    pub(super) fn announcing(&self) -> bool {
        self.queue.iter().any(|walk| matches!(walk.purpose, Purpose::Announce { .. }))
    }
}

impl<I: Io> Worker<I> {
    /// Takes the oldest walk a little further; true if one was under way.
    pub(super) fn walk_on(&mut self, now: NowMs) -> bool {
        // Pages and announcements need room in the outbox; packets' changes go first.
        let room = self.mailbox.outbox.capacity() - self.mailbox.outbox.len();
        let Some(walk) = self.walks.queue.front().copied() else { return false };
        if room < WALK_PER_TURN * 2 && !matches!(walk.purpose, Purpose::Sweep { .. } | Purpose::Prompt { .. })
        {
            return false;
        }
        let end = (walk.cursor + WALK_PER_TURN).min(self.shard.table.capacity());
        let last = end == self.shard.table.capacity();
        let slots = walk.cursor.min(end)..end;
        let answered = match walk.purpose {
            Purpose::Page { id, owned_only } => self.page(id, owned_only, slots, last),
            Purpose::Sweep { owner, mark } => {
                self.telling_slots(slots.clone(), now, |worker| worker.sweep(owner, mark, slots))
            }
            Purpose::Adopt { owner, restarted } => self
                .telling_slots(slots.clone(), now, |worker| worker.adopt_some(owner, restarted, slots, now)),
            Purpose::Prompt { owner } => self.prompt_some(owner, slots, now),
            Purpose::Announce { dirty_only } => self.announce_some(dirty_only, slots, now),
            Purpose::HandOver => self.hand_over_some(slots, now),
        };
        if last || answered {
            self.walks.queue.pop_front();
        } else if let Some(walk) = self.walks.queue.front_mut() {
            walk.cursor = end;
        }
        true
    }

    /// One page; true once it is sent.
    fn page(&mut self, id: u32, owned_only: bool, slots: Range<usize>, last: bool) -> bool {
        let next = (!last).then_some(slots.end);
        let sessions: Vec<Session> = slots
            .filter_map(|index| self.shard.table.occupied(index))
            .map(|slot| self.shard.table.get(slot))
            .filter(|session| !owned_only || session.role == Role::Owner && !session.admission.local)
            .collect();
        if sessions.is_empty() && !last {
            return false;
        }
        // Room was checked by the caller, and this worker is the only producer.
        let page = FromWorker::Page { id, worker: self.index, sessions, next };
        self.mailbox.outbox.push(page).is_ok()
    }

    fn sweep(&mut self, owner: NodeId, mark: u16, slots: Range<usize>) -> bool {
        for index in slots {
            let Some(slot) = self.shard.table.occupied(index) else { continue };
            let session = self.shard.table.get(slot);
            if session.role == Role::Backup && session.owner == owner && session.mark != mark {
                self.shard.remove(slot);
            }
        }
        false
    }

    fn announce_some(&mut self, dirty_only: bool, slots: Range<usize>, now: NowMs) -> bool {
        for index in slots {
            let Some(slot) = self.shard.table.occupied(index) else { continue };
            let session = self.shard.table.get(slot);
            if session.role == Role::Owner && (session.dirty || !dirty_only) {
                self.announce(slot, now);
            }
        }
        false
    }
}
