//! hashbrown with aHash from flow to record number, one look-up after the other: what one would write.

use ahash::RandomState;
use hashbrown::HashMap;
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
        timed(workload.known.len(), || {
            for (number, key) in workload.arriving.iter().enumerate() {
                self.map.insert(*key, number as u32);
                self.records[number].0[0] = 1;
            }
        })
    }

    fn hit(&mut self, workload: &Workload) -> Option<f64> {
        timed(PASS, || {
            for key in workload.known().flatten() {
                let number = self.map[key];
                self.records[number as usize].0[1] += 1;
            }
        })
    }

    fn miss(&mut self, workload: &Workload) -> Option<f64> {
        let mut hits = 0;
        let ns = timed(PASS, || {
            hits = workload.unknown().flatten().filter(|key| self.map.contains_key(*key)).count()
        });
        assert_eq!(hits, 0);
        ns
    }

    fn delete(&mut self, workload: &Workload) -> Option<f64> {
        timed(workload.known.len(), || {
            for key in &workload.known {
                self.map.remove(key).expect("every flow has a session");
            }
        })
    }

    fn expire(&mut self, workload: &Workload) -> Option<f64> {
        let Self { map, records } = self;
        timed(workload.known.len(), || map.retain(|_, number| records[*number as usize].0[0] > 1))
    }
}
