//! What peers had no room for, or lost in whatever way, they get again: every session that lasts is told once more within
//! an interval, a few at a time. A backup that is as it should be stays as it is.

use std::ops::Range;

use super::Worker;
use crate::clock::NowMs;
use crate::limits::WALK_PER_TURN;
use crate::session::Role;
use crate::xsk::Io;

/// Slots that are worth a look.
const STEP: u64 = 64;

/// How far this walk without end has come.
#[derive(Debug, Default)]
pub(super) struct Refresh {
    cursor: usize,
    looked: NowMs,
}

impl Refresh {
    /// Slots that are due of a table of `capacity`, which is gone through in `interval` ms. What a busy time has not
    /// let happen is not made up for.
    fn due(&mut self, capacity: usize, interval: u64, now: NowMs) -> Range<usize> {
        let due = capacity as u64 * now.since(self.looked) / interval;
        if due < STEP.min(capacity as u64) {
            return 0..0;
        }
        self.looked = now;
        let begin = if self.cursor < capacity { self.cursor } else { 0 };
        let end = (begin + (due as usize).min(WALK_PER_TURN)).min(capacity);
        self.cursor = end;
        begin..end
    }
}

impl<I: Io> Worker<I> {
    /// Tells peers again of the sessions whose turn it is; nothing while anything else waits to be told.
    pub(super) fn refresh_some(&mut self, now: NowMs) {
        let interval = self.snapshots.settings.refresh_ms;
        if interval == 0 || self.walks.pending() || self.is_behind() || !self.replicates() {
            return;
        }
        for index in self.refresh.due(self.shard.table.capacity(), interval, now) {
            let Some(slot) = self.shard.table.occupied(index) else { continue };
            let session = self.shard.table.get(slot);
            if session.role == Role::Owner && !session.dirty && !session.state.gives_way() {
                self.announce(slot, now);
                self.counters.refreshed.add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_gone_through_once_in_an_interval() {
        let mut refresh = Refresh::default();
        let mut seen = vec![0; 1000];
        for now in (1..=10_000).map(NowMs) {
            refresh.due(seen.len(), 10_000, now).for_each(|slot| seen[slot] += 1);
        }
        assert!(seen.iter().filter(|&&times| times == 1).count() > 900, "{seen:?}");
        assert!(seen.iter().all(|&times| times <= 1), "{seen:?}");
    }

    #[test]
    fn after_a_pause_it_goes_on_a_turn_at_a_time() {
        let mut refresh = Refresh::default();
        assert_eq!(refresh.due(100_000, 1_000, NowMs(50_000)).len(), WALK_PER_TURN);
        assert_eq!(refresh.due(100_000, 1_000, NowMs(50_000)).len(), 0);
        assert_eq!(refresh.due(64, 1_000, NowMs(100_000)), 0..64, "the table has shrunk: from the beginning");
    }
}
