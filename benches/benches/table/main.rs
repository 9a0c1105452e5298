//! One core's session table beside DPDK's rte_hash, hashbrown with aHash, other layouts, and the limit
//! that memory sets.
//!
//! ```text
//! flows in random order, 64 at a time ─► look up ─► touch the 64-byte record     one core, CPU time
//! ```
//!
//! All of them in one run, interleaved, medians. `make bench-table` builds the peer and runs this.
//! JSON in `target/bench/table.json`.

mod hashbrown;
mod layouts;
mod limit;
mod ours;
mod report;
mod rte_hash;
mod workload;

use layouts::Tried;
use report::{Figures, Report};
use workload::Workload;

/// Something that keeps sessions. All figures are nanoseconds of CPU time per operation.
pub trait Contestant {
    /// The name in the table.
    fn name(&self) -> String;
    /// Fills itself with all known flows.
    fn insert(&mut self, workload: &Workload) -> Option<f64>;
    /// Looks up known flows and touches their records.
    fn hit(&mut self, workload: &Workload) -> Option<f64>;
    /// The same, if there is another way: all records of a burst asked for before the first is touched.
    fn hit_ahead(&mut self, _: &Workload) -> Option<f64> {
        None
    }
    /// Looks up unknown flows.
    fn miss(&mut self, workload: &Workload) -> Option<f64>;
    /// Removes all sessions, one by one by flow.
    fn delete(&mut self, workload: &Workload) -> Option<f64>;
    /// Removes all sessions because their time is over.
    fn expire(&mut self, workload: &Workload) -> Option<f64>;
}

/// Sessions and how often look-ups are repeated.
const SIZES: [(&str, u32, usize); 3] = [("64k", 1 << 16, 21), ("1m", 1 << 20, 15), ("8m", 1 << 23, 9)];

fn contestants(workload: &Workload, brief: bool) -> Vec<Box<dyn Contestant>> {
    let sessions = workload.sessions;
    // First, so that it gets the reserved huge pages it needs; the others do with transparent ones.
    let peer = rte_hash::RteHash::start(sessions);
    let mut all: Vec<Box<dyn Contestant>> =
        vec![Box::new(ours::Ours::new(workload)), Box::new(limit::Limit::new(sessions))];
    if !brief {
        all.push(Box::new(hashbrown::Reference::new(sessions)));
        all.push(Box::new(Tried::new(layouts::Linear::new(sessions))));
        all.push(Box::new(Tried::new(layouts::Chained::new(sessions))));
        all.push(Box::new(Tried::new(layouts::Inline::new(sessions))));
    }
    match peer {
        Ok(peer) => all.push(Box::new(peer)),
        Err(reason) => eprintln!("without rte_hash: {reason}"),
    }
    all
}

fn measure(sessions: u32, repetitions: usize, brief: bool) -> Vec<Figures> {
    let mut workload = Workload::new(sessions);
    let mut contestants = contestants(&workload, brief);
    let mut figures: Vec<Figures> = contestants.iter().map(|one| Figures::new(one.name())).collect();
    let cycles = if sessions > 1 << 20 { 1 } else { 3 };
    for cycle in 0..cycles {
        for (one, figures) in contestants.iter_mut().zip(&mut figures) {
            figures.insert.extend(one.insert(&workload));
            if cycle > 0 || cycles == 1 {
                figures.delete.extend(one.delete(&workload));
            } else {
                figures.expire.extend(one.expire(&workload));
            }
            if cycle + 1 == cycles {
                figures.insert.extend(one.insert(&workload));
            }
        }
    }
    for _ in 0..repetitions {
        for (one, figures) in contestants.iter_mut().zip(&mut figures) {
            if sessions as usize <= workload::PASS {
                // Not counted: what the others left of the caches is not this one's.
                one.hit(&workload);
            }
            figures.hit.extend(one.hit(&workload));
            figures.hit_ahead.extend(one.hit_ahead(&workload));
            figures.miss.extend(one.miss(&workload));
        }
        workload.go_on();
    }
    if cycles == 1 {
        for (one, figures) in contestants.iter_mut().zip(&mut figures) {
            figures.expire.extend(one.expire(&workload));
        }
    }
    figures
}

fn main() {
    // `cargo bench -- 1m` measures one size, `-- packets` is for callgrind; cargo itself adds `--bench`.
    let mut wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if wanted.iter().any(|wanted| wanted == "packets") {
        return ours::count_instructions();
    }
    // `brief`: without the layouts that were tried and hashbrown.
    let brief = wanted.iter().any(|wanted| wanted == "brief");
    wanted.retain(|wanted| wanted != "brief");
    let mut report = Report::default();
    for (name, sessions, repetitions) in SIZES {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            report.add(name, measure(sessions, repetitions, brief));
        }
    }
    report.bytes_per_session = ours::bytes_per_session();
    report.print();
    if wanted.is_empty() {
        report.save();
    }
}
