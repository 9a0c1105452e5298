//! Where a core keeps its sessions: fixed room, found by flow, walked by slot.
//!
//! A slab of sessions and an index from the flow's keyed hash (private to this table and random per
//! boot) to slots. Nothing is allocated, moved or rehashed after [`SessionTable::new`].

mod index;
#[cfg(test)]
mod tests;

use ahash::RandomState;

use crate::flow::FlowKey;
use crate::limits::EVICTION_PROBES;
use crate::session::record::{Role, Session};

use index::Index;

/// Where a session is in its table. Valid until the session is removed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub u32);

impl Slot {
    /// As an index, `0..capacity`.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The table has no room left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the session table is full")]
pub struct TableFull;

/// The sessions of one core.
#[derive(Debug)]
pub struct SessionTable {
    index: Index,
    hasher: RandomState,
    slab: Vec<Option<Session>>,
    free: Vec<Slot>,
    counts: [usize; 3],
    /// Where the next search for a victim begins.
    probe: usize,
}

impl SessionTable {
    /// Room for `capacity` sessions, at most 2^30. Allocates and touches all memory it will ever use.
    pub fn new(capacity: usize) -> Self {
        assert!(capacity <= 1 << 30, "a session table has at most 2^30 slots");
        Self {
            index: Index::new(capacity),
            hasher: RandomState::new(),
            slab: vec![None; capacity],
            // Lowest slot on top.
            free: (0..capacity as u32).rev().map(Slot).collect(),
            counts: [0; 3],
            probe: 0,
        }
    }

    /// The slot of a flow's session.
    pub fn find(&self, key: &FlowKey) -> Option<Slot> {
        let slab = &self.slab;
        self.index.find(self.hasher.hash_one(key), |slot| {
            slab[slot.index()].as_ref().is_some_and(|session| session.key == *key)
        })
    }

    /// The session in a slot that [`SessionTable::find`], [`SessionTable::insert`] or
    /// [`SessionTable::occupied`] gave and that was not removed since.
    pub fn get(&self, slot: Slot) -> &Session {
        self.slab[slot.index()].as_ref().expect("a slot is used only while its session is in it")
    }

    /// As [`SessionTable::get`]. `key` and `role` must stay as they are: [`SessionTable::replace`] changes
    /// the role.
    pub fn get_mut(&mut self, slot: Slot) -> &mut Session {
        self.slab[slot.index()].as_mut().expect("a slot is used only while its session is in it")
    }

    /// Adds a session whose flow is not in the table.
    pub fn insert(&mut self, session: Session) -> Result<Slot, TableFull> {
        debug_assert!(self.find(&session.key).is_none(), "a flow has one session per node");
        let slot = self.free.pop().ok_or(TableFull)?;
        self.counts[session.role as usize] += 1;
        self.index.insert(self.hasher.hash_one(session.key), slot);
        self.slab[slot.index()] = Some(session);
        Ok(slot)
    }

    /// Takes a session out; its slot may be given to another flow from now on.
    pub fn remove(&mut self, slot: Slot) -> Session {
        let session = self.slab[slot.index()].take().expect("a slot is removed once, while in use");
        self.index.remove(self.hasher.hash_one(session.key), slot);
        self.free.push(slot);
        self.counts[session.role as usize] -= 1;
        session
    }

    /// Puts another record of the same flow in a slot and returns the old one; the role may differ.
    pub fn replace(&mut self, slot: Slot, session: Session) -> Session {
        let place = self.get_mut(slot);
        assert!(place.key == session.key, "a slot belongs to one flow");
        let old = std::mem::replace(place, session);
        self.counts[old.role as usize] -= 1;
        self.counts[session.role as usize] += 1;
        old
    }

    /// Sessions in the table.
    pub fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sessions there is room for.
    pub fn capacity(&self) -> usize {
        self.slab.len()
    }

    /// Sessions in which this node has `role`.
    pub fn count(&self, role: Role) -> usize {
        self.counts[role as usize]
    }

    /// The slot `index` of `0..capacity` if a session is in it: for walks over all sessions, a few slots
    /// at a time. A session that stays is met exactly once.
    pub fn occupied(&self, index: usize) -> Option<Slot> {
        self.slab.get(index)?.as_ref().map(|_| Slot(index as u32))
    }

    /// A half-open session that may be evicted for a new one, looked for in the next
    /// [`EVICTION_PROBES`] slots behind those of the last call; `None` if there is none among them.
    pub fn half_open_victim(&mut self) -> Option<Slot> {
        for _ in 0..EVICTION_PROBES.min(self.capacity()) {
            let index = self.probe;
            self.probe = (index + 1) % self.capacity();
            if self.slab[index].is_some_and(|session| session.state.is_half_open()) {
                return Some(Slot(index as u32));
            }
        }
        None
    }
}
