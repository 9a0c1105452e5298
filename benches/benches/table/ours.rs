//! The session table of the dataplane, as a worker uses it.

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::flow::{Direction, FlowKey, Generation, NodeId};
use samepath_dataplane::session::table::{Found, Name, Progress, SessionTable, Slot};
use samepath_dataplane::session::tcp::TcpTracking;
use samepath_dataplane::session::wheel::{self, TICK_MS, Wheel};
use samepath_dataplane::session::{Role, Session, State};

use crate::Contestant;
use crate::workload::{BURST, PASS, Workload, timed};

/// Table and timers of one core.
pub struct Ours {
    table: SessionTable,
    wheel: Wheel,
    now: NowMs,
    /// The workload's flows as the table calls them: 16 bytes, like the peer's keys.
    known: Vec<Name>,
    unknown: Vec<Name>,
}

impl Ours {
    pub fn new(workload: &Workload) -> Self {
        let now = NowMs(1 << 40);
        let sessions = workload.sessions as usize;
        let table = SessionTable::new(sessions);
        let names = |keys: &[FlowKey]| keys.iter().map(|key| table.name(key)).collect();
        let (known, unknown) = (names(&workload.known), names(&workload.unknown));
        Self { table, wheel: Wheel::new(sessions, now), now, known, unknown }
    }
}

/// Everything that is kept for an IPv4 session.
pub fn bytes_per_session() -> usize {
    const SESSIONS: usize = 1 << 20;
    SessionTable::new(SESSIONS).bytes().div_ceil(SESSIONS) + wheel::BYTES_PER_SLOT
}

fn session(key: FlowKey, now: NowMs) -> Session {
    Session {
        key,
        role: Role::Owner,
        state: State::TcpEstablished,
        origin: Direction::LoToHi,
        dirty: false,
        owner: NodeId(1),
        mark: 0,
        generation: Generation(1),
        version: 1,
        tcp: TcpTracking::default(),
        created: now,
        expires: now.plus(300_000),
        timeout_ms: 300_000,
        packets: 0,
        bytes: 0,
    }
}

/// What the common packet asks of the table, for `valgrind --tool=callgrind
/// --toggle-collect='table::ours::packets'`: instructions divided by the number printed.
pub fn count_instructions() {
    let mut workload = Workload::new(1 << 16);
    let mut ours = Ours::new(&workload);
    // Without a clock: valgrind does not know this one.
    for key in &workload.known {
        ours.table.insert(&session(*key, ours.now)).expect("there is room");
    }
    workload.known.truncate(1 << 14);
    packets(&mut ours.table, &workload.known, ours.now);
    println!("{} packets", workload.known.len());
}

#[inline(never)]
fn packets(table: &mut SessionTable, keys: &[FlowKey], now: NowMs) {
    let mut found = [Found::default(); BURST];
    let mut names = [Name::default(); BURST];
    for burst in keys.chunks_exact(BURST) {
        for (name, key) in names.iter_mut().zip(burst) {
            *name = table.name(key);
        }
        table.find_burst(&names, |at| &burst[at], &mut found);
        for (key, found) in burst.iter().zip(&found) {
            let Some(slot) = table.settle(found, key) else { continue };
            let tracked = table.tracked(slot);
            let progress = Progress {
                state: tracked.state,
                tcp: tracked.tcp,
                expires: now.plus(300_000),
                timeout_ms: 300_000,
                replicate: false,
            };
            table.progress(slot, &progress);
            table.count_packet(slot, 64);
            if table.hop(slot, tracked.origin, 1).is_none() {
                table.set_hop(slot, tracked.origin, 1, 7);
            }
        }
    }
}

impl Contestant for Ours {
    fn name(&self) -> String {
        format!("samepath, pages {:?}", self.table.pages())
    }

    fn insert(&mut self, workload: &Workload) -> Option<f64> {
        let Self { table, wheel, now, .. } = self;
        timed(workload.known.len(), || {
            let mut found = [Found::default(); BURST];
            let mut names = [Name::default(); BURST];
            for burst in workload.known.chunks_exact(BURST) {
                for (name, key) in names.iter_mut().zip(burst) {
                    *name = table.name(key);
                }
                table.find_burst(&names, |at| &burst[at], &mut found);
                for (key, found) in burst.iter().zip(&found) {
                    let session = session(*key, *now);
                    let slot = table.insert_found(found, &session).expect("there is room");
                    wheel.schedule(slot, session.expires);
                }
            }
        })
    }

    fn hit(&mut self, workload: &Workload) -> Option<f64> {
        let (table, known, now) = (&mut self.table, &self.known, self.now);
        let mut hits = 0;
        let ns = timed(PASS, || {
            let mut found = [Found::default(); BURST];
            for (names, keys) in workload.bursts(known).zip(workload.known()) {
                table.find_burst(names, |at| &keys[at], &mut found);
                for found in &found {
                    if let Some(slot) = found.slot() {
                        table.set_expires(slot, now);
                        hits += 1;
                    }
                }
            }
        });
        assert_eq!(hits, PASS, "all flows are known");
        ns
    }

    fn miss(&mut self, workload: &Workload) -> Option<f64> {
        let mut hits = 0;
        let ns = timed(PASS, || {
            let mut found = [Found::default(); BURST];
            for (names, keys) in workload.bursts(&self.unknown).zip(workload.unknown()) {
                self.table.find_burst(names, |at| &keys[at], &mut found);
                hits += found.iter().filter(|found| found.slot().is_some()).count();
            }
        });
        assert_eq!(hits, 0, "no flow is known");
        ns
    }

    fn delete(&mut self, workload: &Workload) -> Option<f64> {
        let Self { table, wheel, .. } = self;
        timed(workload.known.len(), || {
            for key in workload.known.iter().rev() {
                let slot = table.find(key).expect("every flow has a session");
                wheel.cancel(slot);
                table.remove(slot);
            }
        })
    }

    /// As housekeeping does it: what the wheel gives out, if its time is really over.
    fn expire(&mut self, workload: &Workload) -> Option<f64> {
        let Self { table, wheel, now, .. } = self;
        *now = now.plus(300_000 + 2 * TICK_MS);
        let mut due: Vec<Slot> = Vec::with_capacity(256);
        timed(workload.known.len(), || {
            while !table.is_empty() {
                wheel.advance(*now, 256, &mut due);
                for slot in due.drain(..) {
                    assert!(table.get(slot).expires <= *now, "no timer is early");
                    table.remove(slot);
                }
            }
        })
    }
}
