//! hashbrown with aHash from flow to record number, one look-up after the other: what one would write.

use ahash::RandomState;
use hashbrown::HashMap;
use samepath_benches::packets::flow;
use samepath_dataplane::flow::FlowKey;
use samepath_dataplane::memory::HugeArray;

use crate::Contestant;
use crate::workload::{PASS, Workload, timed};

/// A record of a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Record(pub [u64; 8]);

/// A record that was never used.
pub const BLANK: Record = Record([0; 8]);

/// Map and records.
pub struct Reference {
    map: HashMap<FlowKey, u32, RandomState>,
    records: HugeArray<Record>,
}

impl Reference {
    pub fn new(sessions: u32) -> Self {
        let map = HashMap::with_capacity_and_hasher(sessions as usize, RandomState::new());
        Self { map, records: HugeArray::new(sessions as usize, BLANK) }
    }
}

impl Contestant for Reference {
    fn name(&self) -> String {
        "hashbrown + aHash, one by one".into()
    }

    fn insert(&mut self, workload: &Workload) -> Option<f64> {
        timed(workload.sessions as usize, || {
            for number in workload.all() {
                self.map.insert(flow(number), number);
                self.records[number as usize].0[0] = 1;
            }
        })
    }

    fn hit(&mut self, workload: &Workload) -> Option<f64> {
        timed(PASS, || {
            for at in workload.places() {
                let number = self.map[&flow(workload.known(at))];
                self.records[number as usize].0[1] += 1;
            }
        })
    }

    fn miss(&mut self, workload: &Workload) -> Option<f64> {
        let mut hits = 0;
        let ns = timed(PASS, || {
            for at in workload.places() {
                hits += usize::from(self.map.contains_key(&flow(workload.unknown(at))));
            }
        });
        assert_eq!(hits, 0);
        ns
    }

    fn delete(&mut self, workload: &Workload) -> Option<f64> {
        timed(workload.sessions as usize, || {
            for at in workload.all() {
                self.map.remove(&flow(workload.known(at))).expect("every flow has a session");
            }
        })
    }

    fn expire(&mut self, workload: &Workload) -> Option<f64> {
        let Self { map, records } = self;
        timed(workload.sessions as usize, || map.retain(|_, number| records[*number as usize].0[0] > 1))
    }
}
