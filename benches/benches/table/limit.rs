//! The limit: two dependent random cache lines per look-up, in arrays as large as the table's, asked for
//! well ahead. Nothing is hashed and nothing compared.

use samepath_dataplane::memory::{HugeArray, prefetch};

use crate::Contestant;
use crate::hashbrown::{BLANK, Record};
use crate::workload::{BURST, PASS, Workload, timed};

/// Look-ups between asking for a line and using it.
const AHEAD: usize = 16;

/// Lines that name lines.
pub struct Limit {
    index: HugeArray<Record>,
    records: HugeArray<Record>,
    order: Vec<u32>,
    at: usize,
}

impl Limit {
    pub fn new(sessions: u32) -> Self {
        let mut index = HugeArray::new(sessions as usize * 10 / 64, BLANK);
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut step = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
        };
        for line in index.iter_mut() {
            line.0 = std::array::from_fn(|_| step() % u64::from(sessions));
        }
        let lines = index.len() as u64;
        let order = (0..PASS.max(sessions as usize))
            .map(|_| (step() % lines) as u32 * 8 + (step() % 8) as u32)
            .collect();
        Self { index, records: HugeArray::new(sessions as usize, BLANK), order, at: 0 }
    }

    fn record_of(&self, number: u32) -> usize {
        self.index[number as usize / 8].0[number as usize % 8] as usize
    }
}

impl Contestant for Limit {
    fn name(&self) -> String {
        "limit: two dependent random lines".into()
    }

    fn insert(&mut self, _: &Workload) -> Option<f64> {
        None
    }

    fn hit(&mut self, _: &Workload) -> Option<f64> {
        let from = self.at;
        self.at = (self.at + PASS) % self.order.len();
        let mut records = [0_usize; BURST];
        timed(PASS, || {
            for begin in (from..from + PASS).step_by(BURST) {
                for at in begin..begin + BURST + 2 * AHEAD {
                    if at < begin + BURST {
                        prefetch(&self.index[self.order[at] as usize / 8]);
                    }
                    if at >= begin + AHEAD && at < begin + BURST + AHEAD {
                        let record = self.record_of(self.order[at - AHEAD]);
                        prefetch(&self.records[record]);
                        records[(at - AHEAD) % BURST] = record;
                    }
                    if at >= begin + 2 * AHEAD {
                        self.records[records[(at - 2 * AHEAD) % BURST]].0[1] += 1;
                    }
                }
            }
        })
    }

    fn miss(&mut self, _: &Workload) -> Option<f64> {
        None
    }

    fn delete(&mut self, _: &Workload) -> Option<f64> {
        None
    }

    fn expire(&mut self, _: &Workload) -> Option<f64> {
        None
    }
}
