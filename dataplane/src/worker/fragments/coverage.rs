//! Which bytes of a packet have come, as separate runs in order; all numbers in units of eight bytes.

use crate::limits::FRAGMENT_RUNS;
use crate::wire::packet::Fragment;

/// What a fragment adds to those that came before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// Bytes that had not come; others are still missing.
    New,
    /// All there is to come.
    Last,
    /// Nothing: all of it had come.
    Copy,
    /// Some bytes had come, or it contradicts the end (RFC 5722: all of the packet is to be dropped).
    Overlap,
    /// More runs than are remembered.
    Scattered,
}

/// What has come of one packet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Coverage {
    runs: [(u16, u16); FRAGMENT_RUNS],
    count: u8,
    /// Where the packet ends; 0 = not known.
    end: u16,
}

impl Coverage {
    /// Adds a fragment that is not empty.
    pub(super) fn add(&mut self, fragment: Fragment) -> Part {
        let from = fragment.offset / 8;
        let to = from + fragment.length.div_ceil(8);
        let runs = &self.runs[..usize::from(self.count)];
        // The first run that reaches to where this begins, or beyond.
        let at = runs.partition_point(|&(_, end)| end < from);
        let met = runs.iter().skip_while(|&&(_, end)| end <= from).find(|&&(begin, _)| begin < to);
        if let Some(&(begin, end)) = met {
            return if begin <= from && to <= end { Part::Copy } else { Part::Overlap };
        }
        let last_end = runs.last().map_or(0, |&(_, end)| end);
        let beyond = self.end != 0 && to > self.end;
        if beyond || !fragment.more && (self.end != 0 || last_end > to) {
            return Part::Overlap;
        }
        if !self.insert(at, from, to) {
            return Part::Scattered;
        }
        if !fragment.more {
            self.end = to;
        }
        let whole = self.count == 1 && self.end != 0 && self.runs[0] == (0, self.end);
        if whole { Part::Last } else { Part::New }
    }

    /// Joins with the runs that touch; `at` is the first of them, or of those behind.
    fn insert(&mut self, at: usize, from: u16, to: u16) -> bool {
        let count = usize::from(self.count);
        let run = |at: usize| (at < count).then(|| self.runs[at]);
        let joins_front = run(at).is_some_and(|(_, end)| end == from);
        let next = at + usize::from(joins_front);
        let joins_back = run(next).is_some_and(|(begin, _)| begin == to);
        match (joins_front, joins_back) {
            (true, true) => {
                self.runs[at].1 = self.runs[next].1;
                self.runs.copy_within(next + 1..count, next);
                self.count -= 1;
            }
            (true, false) => self.runs[at].1 = to,
            (false, true) => self.runs[at].0 = from,
            (false, false) if count == FRAGMENT_RUNS => return false,
            (false, false) => {
                self.runs.copy_within(at..count, at + 1);
                self.runs[at] = (from, to);
                self.count += 1;
            }
        }
        true
    }
}
