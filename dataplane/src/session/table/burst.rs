//! Look-up of a burst: while one flow's line comes from memory, the next ones' are asked for.
//!
//! ```text
//! flow n + 2·AHEAD: name, hash, ask for its bucket
//! flow n +   AHEAD: compare tags, ask for its line
//! flow n          : compare names
//! ```

use crate::flow::FlowKey;
use crate::memory::prefetch;
use crate::session::table::index::Glance;
use crate::session::table::name::Hash;
use crate::session::table::{Name, SessionTable, Slot};
use crate::wire::plain::Plain;

/// Flows between two stages. Lower: lines are needed before they are there; higher: more are asked for
/// than a core can wait for (two per flow in between; 10 to 16 fit the first cache level).
const AHEAD: usize = 8;

/// No session of the flow.
const NONE: u32 = u32::MAX;
/// Not known yet: the home bucket did not tell.
const UNKNOWN: u32 = u32::MAX - 1;

/// What a burst's look-up found of one flow: the slot, and the hash for an insertion that may follow.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub(super) hash: Hash,
    slot: u32,
    /// Insertions and removals of the table until then.
    changes: u32,
}

impl Default for Found {
    fn default() -> Self {
        Self { hash: Hash(0), slot: NONE, changes: 0 }
    }
}

impl Found {
    /// The slot, if there was a session when the burst was looked up. See [`SessionTable::settle`].
    #[inline(always)]
    pub fn slot(&self) -> Option<Slot> {
        (self.slot != NONE).then_some(Slot(self.slot))
    }
}

impl SessionTable {
    /// Looks up the flows that `names` name, in order, into as many places of `found`. `key` gives the
    /// flow of a name by its index; it is asked for IPv6 flows only.
    #[inline]
    pub fn find_burst<'a>(&self, names: &[Name], key: impl Fn(usize) -> &'a FlowKey, found: &mut [Found]) {
        let count = names.len();
        let found = &mut found[..count];
        let (begun, glanced) = (count.min(2 * AHEAD), count.min(AHEAD));
        for (name, found) in names.iter().zip(&mut *found).take(begun) {
            self.begin(name, found);
        }
        for found in &mut found[..glanced] {
            self.glance(found);
        }
        for at in begun..count {
            self.begin(&names[at], &mut found[at]);
            self.glance(&mut found[at - AHEAD]);
            let done = at - 2 * AHEAD;
            self.complete(&names[done], || key(done), &mut found[done]);
        }
        for found in &mut found[glanced.max(count - glanced)..] {
            self.glance(found);
        }
        for at in count - begun..count {
            self.complete(&names[at], || key(at), &mut found[at]);
        }
    }

    /// The slot that a flow of a burst has now: what was found, or what insertions and removals since
    /// then have made of it.
    #[inline(always)]
    pub fn settle(&self, found: &Found, key: &FlowKey) -> Option<Slot> {
        if found.changes == self.changes {
            return found.slot();
        }
        self.find_named(&self.name(key), found.hash, || key)
    }

    /// First step of a plain packet's look-up: name and hash, ask for the bucket.
    #[inline(always)]
    pub fn begin_plain(&self, plain: &Plain, found: &mut Found) -> Name {
        let name = self.namer.name_plain(plain);
        self.begin(&name, found);
        name
    }

    /// Second step: compare tags, ask for the line.
    #[inline(always)]
    pub fn glance_at(&self, found: &mut Found) {
        found.changes = self.changes;
        self.glance(found);
    }

    /// Last step: the slot that the flow has now. `ends`: those of the packet, looked at for IPv6 only.
    #[inline(always)]
    pub fn confirm(&self, name: &Name, found: &Found, ends: &[u64; 4]) -> Option<Slot> {
        if found.changes == self.changes {
            if self.is_plainly(found.slot, name, ends) {
                return Some(Slot(found.slot));
            }
            if found.slot == NONE {
                return None;
            }
        }
        self.find_again(name, found.hash, ends)
    }

    /// The flow is in its other bucket, or sessions came and went since the glance.
    #[cold]
    fn find_again(&self, name: &Name, hash: Hash, ends: &[u64; 4]) -> Option<Slot> {
        self.index.find(hash, |slot| self.is_plainly(slot, name, ends)).map(Slot)
    }

    #[inline(always)]
    fn is_plainly(&self, slot: u32, name: &Name, ends: &[u64; 4]) -> bool {
        let line = self.lines.get(slot as usize);
        line.is_some_and(|line| line.is_of(name) && (!name.is_long() || self.long[slot as usize] == *ends))
    }

    #[inline(always)]
    fn begin(&self, name: &Name, found: &mut Found) {
        found.hash = self.namer.hash(name);
        self.index.prefetch(found.hash);
    }

    #[inline(always)]
    fn glance(&self, found: &mut Found) {
        found.slot = match self.index.glance(found.hash) {
            Glance::Perhaps(slot) => {
                if let Some(line) = self.lines.get(slot as usize) {
                    prefetch(line);
                }
                slot
            }
            Glance::Away => UNKNOWN,
            Glance::Nowhere => NONE,
        };
    }

    #[inline(always)]
    fn complete<'a>(&self, name: &Name, key: impl Fn() -> &'a FlowKey, found: &mut Found) {
        found.changes = self.changes;
        match self.lines.get(found.slot as usize) {
            Some(line) if line.is_of(name) && !name.is_long() => {}
            None if found.slot == NONE => {}
            _ => found.slot = self.find_slowly(name, found.hash, key()),
        }
    }

    /// IPv6 flows, those in their other bucket, and those whose tag is not the only one of its kind.
    #[inline(never)]
    fn find_slowly(&self, name: &Name, hash: Hash, key: &FlowKey) -> u32 {
        self.find_named(name, hash, || key).map_or(NONE, |slot| slot.0)
    }
}
