//! Where a core keeps its sessions: fixed room, found by flow, walked by slot.
//!
//! ```text
//! flow ─ name and keyed hash ─► bucket (64 bytes, 8 flows) ─ tag, slot ─► line (64 bytes): all that a
//!        (table/name.rs)        (table/index.rs)                          packet of the Owner needs
//!                                                               ├────────► rest (32 bytes): counts, ages
//!                                                               └────────► addresses (32 bytes): IPv6 only
//! ```
//!
//! Nothing is allocated or rehashed after [`SessionTable::new`], and a session stays in its slot. Why this
//! layout: `docs/decisions/0008-session-table-layout.md`.

mod burst;
mod index;
mod line;
mod name;
mod plain;
mod slots;
#[cfg(test)]
mod tests;
mod yielding;

use crate::clock::NowMs;
use crate::flow::{Direction, FlowKey, Generation, NodeId};
use crate::limits::{EVICTION_PROBES, HALF_OPEN_PERCENT};
use crate::memory::{HugeArray, Pages};
use crate::session::admission::Admission;
use crate::session::record::{Role, Session, State, Tracked};
use crate::session::tcp::TcpTracking;

pub use burst::Found;
use index::Index;
pub(crate) use line::PATHS;
use line::{FREE, Line, NO_REST, Rest};
pub use name::Name;
use name::Namer;
pub use plain::PlainRules;
use slots::Slots;
use yielding::Yielding;

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

/// What a packet changes in the session of an Owner.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Progress {
    /// State after the packet.
    pub state: State,
    /// Tracking after the packet.
    pub tcp: TcpTracking,
    /// When the session ends unless packets come.
    pub expires: NowMs,
    /// Idle time of the state, ms; kept when the state changes.
    pub timeout_ms: u32,
    /// Counts as a new version of the session.
    pub replicate: bool,
}

/// The sessions of one core.
#[derive(Debug)]
pub struct SessionTable {
    namer: Namer,
    index: Index,
    lines: HugeArray<Line>,
    rests: HugeArray<Rest>,
    /// Addresses of IPv6 flows.
    long: HugeArray<[u64; 4]>,
    slots: Slots,
    counts: [usize; 3],
    yielding: Yielding,
    /// Where the next search for a victim begins.
    probe: usize,
    /// Insertions and removals, modulo 2^32.
    changes: u32,
    /// A tick near all times in the table and not before any session was created.
    present: u64,
    unplaced: u64,
    crowded: u64,
    /// The node that owns what is owned here.
    me: NodeId,
}

impl SessionTable {
    /// Room for `capacity` sessions, at most 2^30. Takes and touches all memory that IPv4 sessions will
    /// ever need; that of IPv6 addresses is taken as they come.
    pub fn new(capacity: usize) -> Self {
        Self::sharing(capacity, HALF_OPEN_PERCENT)
    }

    /// As [`SessionTable::new`]; at most `percent` of the sessions may be such that [give way](State::gives_way).
    pub fn sharing(capacity: usize, percent: u8) -> Self {
        assert!(capacity <= 1 << 30, "a session table has at most 2^30 slots");
        Self {
            namer: Namer::random(),
            index: Index::new(capacity),
            lines: HugeArray::new(capacity, FREE),
            rests: HugeArray::new(capacity, NO_REST),
            long: HugeArray::untouched(capacity),
            slots: Slots::new(capacity),
            counts: [0; 3],
            yielding: Yielding::new((capacity * usize::from(percent) / 100).clamp(1, capacity.max(1))),
            probe: 0,
            changes: 0,
            present: 0,
            unplaced: 0,
            crowded: 0,
            me: NodeId(0),
        }
    }

    /// What this table calls a flow.
    #[inline(always)]
    pub fn name(&self, key: &FlowKey) -> Name {
        self.namer.name(key)
    }

    /// The slot of a flow's session.
    #[inline]
    pub fn find(&self, key: &FlowKey) -> Option<Slot> {
        let name = self.name(key);
        let is_it = |slot: u32| {
            self.lines[slot as usize].is_of(&name)
                && (!name.is_long() || self.long[slot as usize] == name::addresses(key))
        };
        self.index.find(self.namer.hash(&name), is_it).map(Slot)
    }

    /// The session in a slot that [`SessionTable::find`], [`SessionTable::insert`] or
    /// [`SessionTable::occupied`] gave and that was not removed since.
    pub fn get(&self, slot: Slot) -> Session {
        let (line, rest) = (&self.lines[slot.index()], &self.rests[slot.index()]);
        line::session(line, rest, state_of(line), self.key(slot), (self.present, self.me))
    }

    /// The flow of the session in a slot.
    pub fn key(&self, slot: Slot) -> FlowKey {
        name::key_of(self.lines[slot.index()].name, || self.long[slot.index()])
    }

    /// What following a packet needs of a session: one line is read.
    #[inline(always)]
    pub fn tracked(&self, slot: Slot) -> Tracked {
        let line = &self.lines[slot.index()];
        Tracked { role: line.role(), state: state_of(line), origin: line.origin(), tcp: line.tcp }
    }

    /// What this node is to the flow.
    #[inline(always)]
    pub fn role(&self, slot: Slot) -> Role {
        self.lines[slot.index()].role()
    }

    /// Owner and generation of a flow that this node does not own, without reading more than a line.
    #[inline(always)]
    pub fn owned_by(&self, slot: Slot) -> Option<(NodeId, Generation)> {
        self.lines[slot.index()].owned_by()
    }

    /// Adds a session whose flow is not in the table.
    pub fn insert(&mut self, session: &Session) -> Result<Slot, TableFull> {
        let name = self.name(&session.key);
        let hash = self.namer.hash(&name);
        debug_assert!(self.find(&session.key).is_none(), "a flow has one session per node");
        let slot = self.slots.take(&self.lines, name.is_long()).ok_or(TableFull)?;
        match self.index.insert(hash, slot) {
            Ok(moved) => self.crowded += u64::from(moved),
            Err(_) => {
                self.slots.give(&mut self.lines, slot, name.is_long());
                self.unplaced += 1;
                return Err(TableFull);
            }
        }
        if name.is_long() {
            self.long[slot as usize] = name::addresses(&session.key);
        }
        self.lay_down(slot as usize, name, session);
        self.yielding.changed(&self.lines, slot, None, Some(session.state));
        self.counts[session.role as usize] += 1;
        self.changes = self.changes.wrapping_add(1);
        Ok(Slot(slot))
    }

    fn lay_down(&mut self, at: usize, name: Name, session: &Session) {
        let present = line::full_ticks(session.expires.max(session.created));
        self.present = self.present.max(present);
        if session.role == Role::Owner {
            debug_assert!(self.me == session.owner || self.me == NodeId(0), "a node owns in its own name");
            self.me = session.owner;
        }
        self.lines[at] = Line::new(session, name);
        self.rests[at] = Rest::new(session);
    }

    /// Takes a session out; its slot may be given to another flow from now on.
    pub fn remove(&mut self, slot: Slot) -> Session {
        let session = self.get(slot);
        let name = self.lines[slot.index()].name;
        self.index.remove(self.namer.hash(&name), slot.0);
        self.slots.give(&mut self.lines, slot.0, name.is_long());
        self.yielding.changed(&self.lines, slot.0, Some(session.state), None);
        self.counts[session.role as usize] -= 1;
        self.changes = self.changes.wrapping_add(1);
        session
    }

    /// Puts another record of the same flow in a slot and returns the old one; the role may differ. Next
    /// hops are forgotten.
    pub fn replace(&mut self, slot: Slot, session: &Session) -> Session {
        let old = self.get(slot);
        assert!(old.key == session.key, "a slot belongs to one flow");
        self.lay_down(slot.index(), self.lines[slot.index()].name, session);
        self.yielding.changed(&self.lines, slot.0, Some(old.state), Some(session.state));
        self.counts[old.role as usize] -= 1;
        self.counts[session.role as usize] += 1;
        old
    }

    /// A packet was processed by the Owner. True if the session now ends sooner than before: its timer
    /// must not wait. One line is written, and the rest if the state changed.
    #[inline]
    pub fn progress(&mut self, slot: Slot, progress: &Progress) -> bool {
        let line = &mut self.lines[slot.index()];
        let was = line.state.replace(progress.state);
        line.tcp = progress.tcp;
        let sooner = line.set_expires(progress.expires);
        let moved = was != Some(progress.state);
        if moved {
            self.yielding.changed(&self.lines, slot.0, was, Some(progress.state));
        }
        if moved || progress.replicate {
            self.rests[slot.index()].change(progress.replicate, progress.timeout_ms);
        }
        sooner
    }

    /// Counts a packet of `length` bytes.
    #[inline]
    pub fn count_packet(&mut self, slot: Slot, length: u32) {
        if let Some((packets, bytes)) = self.lines[slot.index()].count(length) {
            self.rests[slot.index()].add(packets, bytes);
        }
    }

    /// True right after a packet was counted with which the line's count moved to the rest: at least at every
    /// sixteenth of the flow, without reading more than the line.
    #[inline(always)]
    pub fn has_counted_up(&self, slot: Slot) -> bool {
        self.lines[slot.index()].has_counted_up()
    }

    /// Notes what the policy made of an Owner's session. Next hops are forgotten.
    pub fn set_admission(&mut self, slot: Slot, admission: &Admission) {
        if self.role(slot) == Role::Owner {
            self.rests[slot.index()].set_admission(admission);
            self.lines[slot.index()].set_terms(admission.terms);
        }
    }

    /// The next hop remembered for packets in `direction`, if routes and policy are still those of number
    /// `paths`.
    #[inline(always)]
    pub fn hop(&self, slot: Slot, direction: Direction, paths: u32) -> Option<u32> {
        self.lines[slot.index()].hop(direction, paths)
    }

    /// Remembers a next hop. Those of sessions owned elsewhere or with a service, whose packets leave by where they came
    /// from and so take no fast path, and numbers above 65,534, are not kept.
    #[inline]
    pub fn set_hop(&mut self, slot: Slot, direction: Direction, paths: u32, hop: u32) {
        if self.rests[slot.index()].service() == 0 {
            self.lines[slot.index()].set_hop(direction, paths, hop);
        }
    }

    /// Sets when the session ends or is looked at again.
    pub fn set_expires(&mut self, slot: Slot, expires: NowMs) {
        self.lines[slot.index()].set_expires(expires);
    }

    /// Marks a session that control could not be told of, or takes the mark away.
    pub fn set_dirty(&mut self, slot: Slot, dirty: bool) {
        self.lines[slot.index()].set_dirty(dirty);
    }

    /// Notes the bulk sync that confirmed a backup or claim.
    pub fn set_mark(&mut self, slot: Slot, mark: u16) {
        if self.role(slot) != Role::Owner {
            self.rests[slot.index()].set_mark(mark);
        }
    }

    /// Sessions in the table.
    pub fn len(&self) -> usize {
        self.lines.len() - self.slots.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sessions there is room for.
    pub fn capacity(&self) -> usize {
        self.lines.len()
    }

    /// Sessions in which this node has `role`.
    pub fn count(&self, role: Role) -> usize {
        self.counts[role as usize]
    }

    /// Insertions refused although slots were free, because the flow's buckets and all that lead from
    /// them were full. Not to be expected below 95 % of the index, of which 55 % are used at most.
    pub fn unplaced(&self) -> u64 {
        self.unplaced
    }

    /// Insertions for which others had to move, because both buckets of the flow were full: at most 128 buckets are
    /// looked at then, two otherwise.
    pub fn crowded(&self) -> u64 {
        self.crowded
    }

    /// Sessions that give way to new ones.
    pub fn yielding(&self) -> usize {
        self.yielding.count()
    }

    /// One more session that gives way needs the place of another one.
    pub fn has_share_used_up(&self) -> bool {
        self.yielding.is_full()
    }

    /// Bytes taken by everything but IPv6 addresses.
    pub fn bytes(&self) -> usize {
        self.index.bytes() + self.yielding.bytes() + size_of_val(&*self.lines) + size_of_val(&*self.rests)
    }

    /// What kind of pages the lines and the index are on.
    pub fn pages(&self) -> [Pages; 2] {
        [self.lines.pages(), self.index.pages()]
    }

    /// The slot `index` of `0..capacity` if a session is in it: for walks over all sessions, a few slots
    /// at a time. A session that stays is met exactly once.
    pub fn occupied(&self, index: usize) -> Option<Slot> {
        self.lines.get(index)?.state.map(|_| Slot(index as u32))
    }

    /// The session to evict for a new one: the eldest that [gives way](State::gives_way). If its age is not known any more,
    /// one of the next [`EVICTION_PROBES`] slots behind those of the last call; `None` if there is none among them.
    pub fn victim(&mut self) -> Option<Slot> {
        if let Some(eldest) = self.yielding.eldest(&self.lines) {
            return Some(Slot(eldest));
        }
        if self.yielding.count() == 0 {
            return None;
        }
        for _ in 0..EVICTION_PROBES.min(self.capacity()) {
            let index = self.probe;
            self.probe = (index + 1) % self.capacity();
            if self.lines[index].state.is_some_and(State::gives_way) {
                return Some(Slot(index as u32));
            }
        }
        None
    }
}

fn state_of(line: &Line) -> State {
    line.state.expect("a slot is used only while its session is in it")
}
