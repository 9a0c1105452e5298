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
use crate::session::table::name::Named;
use crate::session::table::{SessionTable, Slot};
use crate::wire::plain::Plain;

/// Flows between two stages. Lower: lines are needed before they are there; higher: more are asked for
/// than a core can wait for (10 to 16 in the first cache level).
const AHEAD: usize = 12;

/// No session of the flow.
const NONE: u32 = u32::MAX;
/// Not known yet: the home bucket did not tell.
const UNKNOWN: u32 = u32::MAX - 1;

/// What a burst's look-up found of one flow: the slot, and the hash for an insertion that may follow.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub(super) named: Named,
    slot: u32,
    /// Insertions and removals of the table until then.
    changes: u32,
}

impl Default for Found {
    fn default() -> Self {
        Self { named: Named::default(), slot: NONE, changes: 0 }
    }
}

impl Found {
    /// The slot, if there was a session when the burst was looked up. See [`SessionTable::settle`].
    pub fn slot(&self) -> Option<Slot> {
        (self.slot != NONE).then_some(Slot(self.slot))
    }
}

impl SessionTable {
    /// Looks up the flows of `items`, in order, into the first places of `found`.
    #[inline]
    pub fn find_burst<T>(&self, items: &[T], key: impl Fn(&T) -> &FlowKey, found: &mut [Found]) {
        let found = &mut found[..items.len()];
        for at in 0..items.len() + 2 * AHEAD {
            if let (Some(item), Some(found)) = (items.get(at), found.get_mut(at)) {
                self.begin(key(item), found);
            }
            if let Some(found) = at.checked_sub(AHEAD).and_then(|at| found.get_mut(at)) {
                self.glance(found);
            }
            if let Some(at) = at.checked_sub(2 * AHEAD) {
                self.complete(key(&items[at]), &mut found[at]);
            }
        }
    }

    /// The slot that a flow of a burst has now: what was found, or what insertions and removals since
    /// then have made of it.
    #[inline(always)]
    pub fn settle(&self, found: &Found, key: &FlowKey) -> Option<Slot> {
        if found.changes == self.changes { found.slot() } else { self.find_named(&found.named, key) }
    }

    /// First step of a look-up by parts of the packet: hash, ask for the bucket.
    #[inline(always)]
    pub fn begin_plain(&self, plain: &Plain, found: &mut Found) {
        found.named = if plain.ipv6 {
            self.namer.long(&plain.ends, plain.rest)
        } else {
            self.namer.short(plain.ends[0], plain.rest)
        };
        self.index.prefetch(found.named.hash);
    }

    /// Second step: compare tags, ask for the line.
    #[inline(always)]
    pub fn glance_at(&self, found: &mut Found) {
        found.changes = self.changes;
        self.glance(found);
    }

    /// Last step: the slot that the flow has now. `ends`: those of the packet, looked at for IPv6 only.
    #[inline(always)]
    pub fn confirm(&self, found: &Found, ends: &[u64; 4]) -> Option<Slot> {
        if found.changes == self.changes {
            if self.is_plainly(found.slot, &found.named, ends) {
                return Some(Slot(found.slot));
            }
            if found.slot == NONE {
                return None;
            }
        }
        self.find_again(found, ends)
    }

    /// The flow is in its other bucket, or sessions came and went since the glance.
    #[cold]
    fn find_again(&self, found: &Found, ends: &[u64; 4]) -> Option<Slot> {
        let named = &found.named;
        self.index.find(named.hash, |slot| self.is_plainly(slot, named, ends)).map(Slot)
    }

    #[inline(always)]
    fn is_plainly(&self, slot: u32, named: &Named, ends: &[u64; 4]) -> bool {
        let line = self.lines.get(slot as usize);
        line.is_some_and(|line| line.is_of(named) && (!line.is_long() || self.long[slot as usize] == *ends))
    }

    #[inline(always)]
    fn begin(&self, key: &FlowKey, found: &mut Found) {
        found.named = self.namer.name(key);
        self.index.prefetch(found.named.hash);
    }

    #[inline(always)]
    fn glance(&self, found: &mut Found) {
        found.slot = match self.index.glance(found.named.hash) {
            Glance::Perhaps(slot) => {
                if let Some(line) = self.lines.get(slot as usize) {
                    prefetch(line);
                }
                if found.named.hash.is_long() {
                    if let Some(addresses) = self.long.get(slot as usize) {
                        prefetch(addresses);
                    }
                }
                slot
            }
            Glance::Away => UNKNOWN,
            Glance::Nowhere => NONE,
        };
    }

    #[inline(always)]
    fn complete(&self, key: &FlowKey, found: &mut Found) {
        found.changes = self.changes;
        if found.slot == NONE {
            return;
        }
        match self.lines.get(found.slot as usize) {
            Some(line) if self.is_line_of(line, found.slot, &found.named, key) => {
                if line.nearly_full() {
                    prefetch(&self.rests[found.slot as usize]);
                }
            }
            _ => found.slot = self.find_named(&found.named, key).map_or(NONE, |slot| slot.0),
        }
    }
}
