//! The session table of the dataplane, as a worker uses it.

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::flow::{Direction, FlowKey, Generation, NodeId, proto};
use samepath_dataplane::session::table::{Found, Name, Progress, SessionTable, Slot};
use samepath_dataplane::session::tcp::TcpTracking;
use samepath_dataplane::session::wheel::{self, TICK_MS, Wheel};
use samepath_dataplane::session::{Role, Session, State};

use samepath_benches::packets::flow;

use crate::Contestant;
use crate::workload::{BURST, PASS, Workload, timed};

/// Table and timers of one core.
pub struct Ours {
    table: SessionTable,
    wheel: Wheel,
    now: NowMs,
}

impl Ours {
    pub fn new(workload: &Workload) -> Self {
        let now = NowMs(1 << 40);
        let sessions = workload.sessions as usize;
        Self { table: SessionTable::new(sessions), wheel: Wheel::new(sessions, now), now }
    }

    /// Looks up a pass of flows, given by their places in the order; gives the time and how many had a session.
    /// Their records are touched.
    #[inline(always)]
    fn look_up(&mut self, workload: &Workload, number: impl Fn(u32) -> u32) -> (Option<f64>, usize) {
        let (table, now) = (&mut self.table, self.now);
        let mut hits = 0;
        let ns = timed(PASS, || {
            let mut burst = [(Name::default(), Found::default()); BURST];
            for first in workload.bursts() {
                for (at, (name, found)) in burst.iter_mut().enumerate() {
                    *name = name_of(number(first.wrapping_add(at as u32)));
                    table.begin(name, found);
                }
                table.glance_all(burst.iter_mut().map(|(_, found)| found));
                for (name, found) in &burst {
                    if let Some(slot) = table.settle(name, found, &IPV4) {
                        table.set_expires(slot, now);
                        hits += 1;
                    }
                }
            }
        });
        (ns, hits)
    }
}

/// Ends that are not looked at.
const IPV4: [u64; 4] = [0; 4];

/// What the table calls flow number `number`, as a worker reads it off a packet: 16 bytes, like the peer's key.
#[inline(always)]
fn name_of(number: u32) -> Name {
    let ports = (1024 + u64::from(number & 0xff)) | 443 << 16;
    Name::ipv4(0x0a00_0000 | number >> 8, 0xc000_0209, ports | u64::from(proto::TCP) << 56)
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
        admission: Default::default(),
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
    let workload = Workload::new(1 << 16);
    let mut ours = Ours::new(&workload);
    // Without a clock: valgrind does not know this one.
    for key in workload.all().map(flow) {
        ours.table.insert(&session(key, ours.now)).expect("there is room");
    }
    let keys: Vec<FlowKey> = (0..1 << 14).map(|at| flow(workload.known(at))).collect();
    packets(&mut ours.table, &keys, ours.now);
    println!("{} packets", keys.len());
}

#[inline(never)]
fn packets(table: &mut SessionTable, keys: &[FlowKey], now: NowMs) {
    let mut flows = [(Name::default(), Found::default()); BURST];
    for burst in keys.chunks_exact(BURST) {
        for (key, (name, found)) in burst.iter().zip(&mut flows) {
            *name = table.name(key);
            table.begin(name, found);
        }
        table.glance_all(flows.iter_mut().map(|(_, found)| found));
        for (name, found) in &flows {
            let Some(slot) = table.settle(name, found, &IPV4) else { continue };
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
        timed(workload.sessions as usize, || {
            for session in workload.all().map(|number| session(flow(number), *now)) {
                assert_eq!(table.find(&session.key), None, "a new flow has no session");
                let slot = table.insert(&session).expect("there is room");
                wheel.schedule(slot, session.expires);
            }
        })
    }

    fn hit(&mut self, workload: &Workload) -> Option<f64> {
        let (ns, hits) = self.look_up(workload, |at| workload.known(at));
        assert_eq!(hits, PASS, "all flows are known");
        ns
    }

    fn miss(&mut self, workload: &Workload) -> Option<f64> {
        let (ns, hits) = self.look_up(workload, |at| workload.unknown(at));
        assert_eq!(hits, 0, "no flow is known");
        ns
    }

    fn delete(&mut self, workload: &Workload) -> Option<f64> {
        let Self { table, wheel, .. } = self;
        timed(workload.sessions as usize, || {
            for at in workload.all() {
                let slot = table.find(&flow(workload.known(at))).expect("every flow has a session");
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
        timed(workload.sessions as usize, || {
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
