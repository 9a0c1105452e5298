//! Random changes, cuts, restarts and slow consumers against a model: whatever happened, once the
//! link stands the backup's table is the owner's.

use std::collections::{BTreeMap, VecDeque};

use super::link::{A, B, Pair, machine};
use super::{identity, record};
use crate::replicate::event::{BulkRoom, PeerEvent};
use crate::replicate::hello::Identity;

/// Flows in play: few, so that they end and begin again all the time.
const FLOWS: u64 = 40;
const CAPACITY: usize = 64;
const QUEUE: usize = 3;

/// Numbers that repeat from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

struct Simulation {
    random: Random,
    pair: Pair,
    boots: u64,
    /// The owner's sessions: flow → version.
    owned: BTreeMap<u16, u32>,
    versions: u32,
    /// The walk for a bulk sync: its number and the next flow to visit.
    walk: Option<(u32, u16)>,
    paused: bool,
    /// The backup's sessions: flow → (version, mark).
    backups: BTreeMap<u16, (u32, u16)>,
    /// The last event was that the link stands.
    new_link: bool,
    resumed: u64,
    syncs: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            pair: Pair::new(CAPACITY),
            boots: 0,
            owned: BTreeMap::new(),
            versions: 0,
            walk: None,
            paused: false,
            backups: BTreeMap::new(),
            new_link: false,
            resumed: 0,
            syncs: 0,
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..30 => self.change(),
            30..45 => drop(self.pair.a_sends()),
            45..60 if self.pair.received.len() < QUEUE => drop(self.pair.b_takes().unwrap()),
            60..70 => self.consume(),
            70..77 => drop(self.pair.b_sends()),
            77..84 => drop(self.pair.a_takes().unwrap()),
            84..92 => self.walk(),
            92..95 => self.pair.now = self.pair.now.plus(self.random.below(30)),
            95 if self.random.below(3) == 0 => {
                let b_notices = self.random.below(2) == 0;
                self.pair.cut(b_notices);
            }
            96..99 if self.pair.link.is_none() => self.pair.connect(),
            99 if self.random.below(20) == 0 => self.restart(),
            _ => {}
        }
        self.events();
        assert!(self.pair.a.log_len() <= CAPACITY);
    }

    fn change(&mut self) {
        let flow = self.random.below(FLOWS) as u16;
        self.versions += 1;
        let mut change = record(flow, self.versions);
        if self.random.below(3) == 0 {
            change.remove = true;
            if self.owned.remove(&flow).is_none() {
                return;
            }
        } else {
            self.owned.insert(flow, self.versions);
        }
        self.pair.a.publish(&change, self.pair.now);
    }

    /// What A's consumer does with its events.
    fn events(&mut self) {
        while let Some(event) = self.pair.a.poll_event() {
            match event {
                PeerEvent::NeedBulk { sync, .. } => {
                    self.resumed -= u64::from(std::mem::take(&mut self.new_link));
                    self.walk = Some((sync, 0));
                    self.paused = false;
                    self.syncs += 1;
                }
                PeerEvent::BulkMore { sync, .. } => {
                    assert_eq!(self.walk.map(|(sync, _)| sync), Some(sync));
                    self.paused = false;
                }
                PeerEvent::Connected { .. } => {
                    self.new_link = true;
                    self.resumed += 1;
                }
                PeerEvent::Lost { .. } => {}
                other => panic!("unexpected {other:?}"),
            }
        }
        self.new_link = false;
    }

    /// The next page of the walk, as the sessions are now.
    fn walk(&mut self) {
        let Some((sync, from)) = self.walk.filter(|_| !self.paused) else { return };
        let page: Vec<(u16, u32)> =
            self.owned.range(from..).take(3).map(|(&flow, &version)| (flow, version)).collect();
        let Some(&(last, _)) = page.last() else {
            // False when the sync is over meanwhile: a new one will be asked for.
            self.pair.a.bulk_done(B, sync);
            self.walk = None;
            return;
        };
        let records: Vec<_> = page.iter().map(|&(flow, version)| record(flow, version)).collect();
        match self.pair.a.bulk(B, sync, &records) {
            BulkRoom::More => self.walk = Some((sync, last + 1)),
            BulkRoom::Full => {
                self.walk = Some((sync, last + 1));
                self.paused = true;
            }
            BulkRoom::Over => self.walk = None,
        }
    }

    /// What B's consumer does: it believes every record, so order matters.
    fn consume(&mut self) {
        match self.pair.received.pop_front() {
            Some(PeerEvent::Records { from: A, mark, records }) => {
                assert_ne!(mark, 0);
                for record in records {
                    let flow = record.key.lo_port;
                    if record.remove {
                        self.backups.remove(&flow);
                    } else {
                        self.backups.insert(flow, (record.version, mark));
                    }
                }
            }
            Some(PeerEvent::BulkEnd { mark, .. }) => {
                self.backups.retain(|_, &mut (_, of)| of == mark);
            }
            // What a peer owned before it began anew is nobody's until the flows' Directors have it.
            Some(PeerEvent::Restarted { .. }) => self.backups.clear(),
            Some(PeerEvent::BulkBegin { .. }) | None => {}
            Some(other) => panic!("unexpected {other:?}"),
        }
    }

    /// One end's process dies: with its connection, its sessions and its queue.
    fn restart(&mut self) {
        self.boots += 1;
        let boot_id = 0xd000 + self.boots;
        let b_notices = self.random.below(2) == 0;
        self.pair.cut(b_notices);
        self.events();
        if self.random.below(2) == 0 {
            self.pair.a = machine(Identity { boot_id, ..identity(1) }, B, CAPACITY);
            self.owned.clear();
            self.walk = None;
        } else {
            self.pair.b = machine(Identity { boot_id, ..identity(2) }, A, CAPACITY);
            self.backups.clear();
            self.pair.received = VecDeque::new();
        }
    }

    /// No further faults or changes: everything must arrive.
    fn settle(&mut self) {
        if self.pair.link.is_none() {
            self.pair.connect();
        }
        for _ in 0..10_000 {
            self.pair.settle().unwrap();
            self.events();
            self.walk();
            while !self.pair.received.is_empty() {
                self.consume();
            }
        }
    }
}

fn run(seed: u64) -> (u64, u64) {
    let mut simulation = Simulation::new(seed);
    for _ in 0..3000 {
        simulation.step();
    }
    simulation.settle();
    let backups: BTreeMap<u16, u32> =
        simulation.backups.iter().map(|(&flow, &(version, _))| (flow, version)).collect();
    let stats = simulation.pair.a.stats(simulation.pair.now).remove(0);
    let replay = format!("seed {seed}: SAMEPATH_SEED={seed} cargo test -p samepath simulation");
    assert_eq!(backups, simulation.owned, "{replay}");
    assert_eq!((stats.lag_records, stats.syncing), (0, false), "{replay}");
    (simulation.resumed, simulation.syncs)
}

#[test]
fn simulation_ends_with_equal_tables_whatever_happened() {
    if let Some(seed) = std::env::var("SAMEPATH_SEED").ok().and_then(|seed| seed.parse().ok()) {
        run(seed);
        return;
    }
    let (mut resumed, mut syncs) = (0, 0);
    for seed in 1..=200 {
        let counts = run(seed);
        resumed += counts.0;
        syncs += counts.1;
    }
    // The mix of faults is worth its time only if it meets both ways of coming back.
    assert!(resumed > 300 && syncs > 1000, "resumed {resumed} times, {syncs} bulk syncs");
}
