//! The limit: two dependent random cache lines per look-up, in arrays as large as the table's and on the same
//! pages, asked for well ahead without a pause. Nothing is hashed, nothing compared.

use samepath_dataplane::memory::{HugeArray, prefetch_in};

use crate::Contestant;
use crate::hashbrown::{BLANK, Record};
use crate::workload::{PASS, Workload, shuffled, timed};

/// Look-ups between asking for a line and using it: 16 to 32 are equally fast, 8 are slower.
const AHEAD: usize = 24;
/// Look-ups remembered, at least twice [`AHEAD`].
const RING: usize = 64;
/// Records that so many lines of the index name: 4.4 each, eight places of which 55 % are used.
const RECORDS: u32 = 22;
const LINES: u32 = 5;

/// Lines that name lines, every record once.
pub struct Limit {
    index: HugeArray<Record>,
    records: HugeArray<Record>,
    at: u32,
}

/// Where the number of a record is.
#[inline(always)]
fn place_of(number: u32) -> (usize, usize) {
    let line = (u64::from(number) * u64::from(LINES) / u64::from(RECORDS)) as u32;
    let first = (u64::from(line) * u64::from(RECORDS)).div_ceil(u64::from(LINES)) as u32;
    (line as usize, (number - first) as usize % 8)
}

impl Limit {
    pub fn new(sessions: u32) -> Self {
        let mut index = HugeArray::new((sessions / RECORDS + 1) as usize * LINES as usize, BLANK);
        for number in 0..sessions {
            let (line, word) = place_of(number);
            index[line].0[word] = u64::from(shuffled(number ^ 0x15, sessions));
        }
        Self { index, records: HugeArray::new(sessions as usize, BLANK), at: 0 }
    }
}

impl Contestant for Limit {
    fn name(&self) -> String {
        "limit: two dependent random lines".into()
    }

    fn insert(&mut self, _: &Workload) -> Option<f64> {
        None
    }

    fn hit(&mut self, workload: &Workload) -> Option<f64> {
        let from = self.at;
        self.at = self.at.wrapping_add(PASS as u32);
        let (index, records) = (&self.index, &mut self.records);
        let mut asked = [(0_usize, 0_usize); RING];
        let mut named = [0_usize; RING];
        timed(PASS, || {
            for at in 0..PASS + 2 * AHEAD {
                let number = shuffled(from.wrapping_add(at as u32), workload.sessions);
                asked[at % RING] = place_of(number);
                prefetch_in(index, asked[at % RING].0);
                if at >= AHEAD {
                    let (line, word) = asked[(at - AHEAD) % RING];
                    let record = index[line].0[word] as usize;
                    named[(at - AHEAD) % RING] = record;
                    prefetch_in(records, record);
                }
                if at >= 2 * AHEAD {
                    records[named[(at - 2 * AHEAD) % RING]].0[1] += 1;
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
