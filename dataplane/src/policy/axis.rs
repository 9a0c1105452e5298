//! One dimension of the rules: every value of it lies in an interval, every interval has the set of rules that
//! hold there.
//!
//! ```text
//! value ─ binary search ─► interval ─► row: summary (a bit per word that is not 0) · those words
//! ```
//!
//! Equal sets are kept once. A set of few rules takes few words, one of many at most a bit per rule.

use std::collections::HashMap;

/// Words of a summary.
pub(super) const SUMMARY: usize = 4;
/// Members a set can have.
pub(super) const MEMBERS: usize = SUMMARY * 64 * 64;

/// A number that rules have ranges of.
pub(super) trait Value: Copy + Ord {
    /// The lowest one.
    const LOWEST: Self;
    /// The next one, if there is one.
    fn next(self) -> Option<Self>;
}

macro_rules! values {
    ($($number:ty),+) => {
        $(impl Value for $number {
            const LOWEST: Self = 0;
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
        })+
    };
}

values!(u8, u16, u32, u128);

/// A set of rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) summary: &'a [u64; SUMMARY],
    words: &'a [u64],
}

impl Row<'_> {
    /// The word of a bit that is set in the summary.
    #[inline]
    pub(super) fn word(&self, part: usize, bit: u32) -> u64 {
        let below: u32 = self.summary[..part].iter().map(|word| word.count_ones()).sum();
        let within = (self.summary[part] & ((1 << bit) - 1)).count_ones();
        self.words[(below + within) as usize]
    }
}

/// Where a rule holds: everywhere, or in ranges.
pub(super) struct Extent<V> {
    pub(super) everywhere: bool,
    pub(super) ranges: Vec<(V, V)>,
}

#[derive(Debug, Default)]
struct Rows {
    summaries: Vec<[u64; SUMMARY]>,
    /// Where the words of each row begin.
    begins: Vec<u32>,
    words: Vec<u64>,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Axis<V> {
    starts: Vec<V>,
    row_of: Vec<u32>,
    /// The first 64 rules of each interval's row.
    first_words: Vec<u64>,
    rows: Rows,
}

impl<V: Value> Axis<V> {
    /// `extents[n]`: where member n holds.
    pub(super) fn new(extents: &[Extent<V>]) -> Self {
        let mut set = vec![0_u64; extents.len().div_ceil(64)];
        let mut edges: Vec<(V, usize, bool)> = Vec::new();
        for (member, extent) in extents.iter().enumerate() {
            if extent.everywhere {
                set[member / 64] |= 1 << (member % 64);
                continue;
            }
            for (first, last) in merged(&extent.ranges) {
                edges.push((first, member, true));
                edges.extend(last.next().map(|after| (after, member, false)));
            }
        }
        edges.sort_unstable_by_key(|edge| edge.0);
        let mut axis =
            Self { starts: Vec::new(), row_of: Vec::new(), first_words: Vec::new(), rows: Rows::default() };
        let mut known = HashMap::new();
        let mut at = V::LOWEST;
        for (value, member, begins) in edges {
            if value != at {
                axis.push(at, &set, &mut known);
                at = value;
            }
            match begins {
                true => set[member / 64] |= 1 << (member % 64),
                false => set[member / 64] &= !(1 << (member % 64)),
            }
        }
        axis.push(at, &set, &mut known);
        axis
    }

    fn push(&mut self, start: V, set: &[u64], known: &mut HashMap<Vec<u64>, u32>) {
        let row = match known.get(set) {
            Some(&row) => row,
            None => {
                let row = self.rows.add(set);
                known.insert(set.to_vec(), row);
                row
            }
        };
        self.starts.push(start);
        self.row_of.push(row);
        self.first_words.push(set.first().copied().unwrap_or(0));
    }

    /// The rules that hold at `value`.
    #[inline]
    pub(super) fn row(&self, value: V) -> Row<'_> {
        let row = self.row_of[self.interval(value)] as usize;
        let words = &self.rows.words[self.rows.begins[row] as usize..];
        Row { summary: &self.rows.summaries[row], words }
    }

    /// Those of the first 64 rules that hold at `value`.
    #[inline]
    pub(super) fn first_word(&self, value: V) -> u64 {
        self.first_words[self.interval(value)]
    }

    #[inline]
    fn interval(&self, value: V) -> usize {
        self.starts.partition_point(|&start| start <= value) - 1
    }

    /// Bytes taken.
    pub(super) fn bytes(&self) -> usize {
        let intervals = self.starts.len() * (size_of::<V>() + 4 + 8);
        intervals + self.rows.summaries.len() * (SUMMARY * 8 + 4) + self.rows.words.len() * 8
    }
}

impl Rows {
    fn add(&mut self, set: &[u64]) -> u32 {
        let mut summary = [0; SUMMARY];
        self.begins.push(self.words.len() as u32);
        for (at, &word) in set.iter().enumerate().filter(|(_, word)| **word != 0) {
            summary[at / 64] |= 1 << (at % 64);
            self.words.push(word);
        }
        self.summaries.push(summary);
        self.summaries.len() as u32 - 1
    }
}

/// Ranges in order, those that touch or overlap made one.
fn merged<V: Value>(ranges: &[(V, V)]) -> Vec<(V, V)> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut merged: Vec<(V, V)> = Vec::with_capacity(sorted.len());
    for (first, last) in sorted {
        match merged.last_mut() {
            Some(before) if before.1.next().is_none_or(|after| first <= after) => {
                before.1 = before.1.max(last);
            }
            _ => merged.push((first, last)),
        }
    }
    merged
}
