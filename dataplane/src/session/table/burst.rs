//! Look-up of a burst: while one flow's line comes from memory, the others' are asked for.
//!
//! ```text
//! all flows of the burst: name, hash, ask for the home bucket         begin
//! all of them           : compare tags, ask for the line              glance_all
//! those passed on       : the same in their other bucket
//! one after the other   : compare names; the line is used at once     confirm
//! ```
//!
//! A whole burst at each step: a core waits for 16 lines at once, and asks for more when one is there.

use crate::memory::prefetch_in;
use crate::session::table::index::Glance;
use crate::session::table::name::Hash;
use crate::session::table::{Name, SessionTable, Slot};
use crate::wire::plain::Plain;

/// Flows of a burst that may wait for their other bucket; of 64 flows, on average one in two bursts does.
const AWAY: usize = 8;

/// No session of the flow.
const NONE: u32 = u32::MAX;

/// What is known of one flow of a burst.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    hash: Hash,
    /// The home bucket; after the glance, the slot that the flow's session may be in.
    place: u32,
    /// Insertions and removals of the table until the glance.
    changes: u32,
}

impl Default for Found {
    fn default() -> Self {
        Self { hash: Hash(0), place: NONE, changes: 0 }
    }
}

impl SessionTable {
    /// First step of a look-up: hash, ask for the bucket.
    #[inline(always)]
    pub fn begin(&self, name: &Name, found: &mut Found) {
        found.hash = self.namer.hash(name);
        found.place = self.index.prefetch(found.hash);
    }

    /// First step of a plain packet's look-up: its flow's name, too.
    #[inline(always)]
    pub fn begin_plain(&self, plain: &Plain, found: &mut Found) -> Name {
        let name = self.namer.name_plain(plain);
        self.begin(&name, found);
        name
    }

    /// Second step, of all flows that were begun: compare tags, ask for the lines.
    #[inline(always)]
    pub fn glance_all<'a>(&self, all: impl Iterator<Item = &'a mut Found>) {
        let mut away: [Option<&mut Found>; AWAY] = [const { None }; AWAY];
        let mut count = 0;
        for found in all {
            found.changes = self.changes;
            match self.index.glance(found.place, found.hash) {
                Glance::Perhaps(slot) => {
                    prefetch_in(&self.lines, slot as usize);
                    found.place = slot;
                }
                Glance::Nowhere => found.place = NONE,
                Glance::Away(other) => {
                    found.place = other;
                    if count == AWAY {
                        count = 0;
                        away.iter_mut().flatten().for_each(|found| self.glance_away(found));
                    }
                    away[count] = Some(found);
                    count += 1;
                }
            }
        }
        away.iter_mut().take(count).flatten().for_each(|found| self.glance_away(found));
    }

    /// The same in the other bucket of a flow.
    fn glance_away(&self, found: &mut Found) {
        found.place = self.index.glance_away(found.place, found.hash).unwrap_or(NONE);
        prefetch_in(&self.lines, found.place as usize);
    }

    /// Last step: the slot that the flow has now, if that is the one seen at the glance. `None`: see
    /// [`SessionTable::find_again`]. `ends`: those of the packet, looked at for IPv6 only.
    #[inline(always)]
    pub fn confirm(&self, name: &Name, found: &Found, ends: &[u64; 4]) -> Option<Slot> {
        let stands = found.changes == self.changes && self.is_plainly(found.place, name, ends);
        stands.then_some(Slot(found.place))
    }

    /// The slot of a flow that is new, or whose tag was another flow's, or sessions came and went since the glance.
    #[inline(never)]
    pub fn find_again(&self, name: &Name, found: &Found, ends: &[u64; 4]) -> Option<Slot> {
        if found.changes == self.changes && found.place == NONE {
            return None;
        }
        self.index.find(found.hash, |slot| self.is_plainly(slot, name, ends)).map(Slot)
    }

    /// Last step, whatever happened since the glance: [`SessionTable::confirm`], else [`SessionTable::find_again`].
    #[inline(always)]
    pub fn settle(&self, name: &Name, found: &Found, ends: &[u64; 4]) -> Option<Slot> {
        self.confirm(name, found, ends).or_else(|| self.find_again(name, found, ends))
    }

    #[inline(always)]
    fn is_plainly(&self, slot: u32, name: &Name, ends: &[u64; 4]) -> bool {
        let line = self.lines.get(slot as usize);
        line.is_some_and(|line| {
            line.is_of(name) && (!name.is_long() || self.long.get(slot as usize) == Some(ends))
        })
    }
}
