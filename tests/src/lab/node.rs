//! One node: its clock, and its process while it runs, a true worker and its control.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use samepath_dataplane::clock::NowMs;
use samepath_dataplane::counters::Counters;
use samepath_dataplane::floods::Floods;
use samepath_dataplane::mailbox::{FromWorker, Mailbox};
use samepath_dataplane::policy::InForce;
use samepath_dataplane::session::Session;
use samepath_dataplane::tuning::Tuning;
use samepath_dataplane::verdict::DropReason;
use samepath_dataplane::wire::flow_hash::FlowHasher;
use samepath_dataplane::wire::layout::Layout;
use samepath_dataplane::wire::tunnel;
use samepath_dataplane::worker::{Handoff, Snapshots, Worker, WorkerParts};
use samepath_dataplane::xsk::{MemoryIo, Waker, Wire};

use super::control::Control;
use super::ports::{self, LINK};

/// Frames of a node.
const FRAMES: u64 = 256;
/// Sessions it has room for.
const SESSIONS: usize = 64;
/// Messages a worker may have waiting for control; walks want room for two pages.
const OUTBOX: usize = 640;

/// A node, running or not.
#[derive(Debug)]
pub struct Node {
    /// Its number.
    pub id: u16,
    /// How fast its clock runs, parts per million off.
    pub drift_ppm: i64,
    /// What runs on it.
    pub process: Option<Process>,
    /// It sleeps until then.
    pub paused_until: Option<u64>,
    /// Its control thread sleeps until then.
    pub control_asleep_until: u64,
    /// It starts again then.
    pub starts_at: Option<u64>,
    /// Processes it has had.
    pub boots: u64,
}

/// A running samepath.
#[derive(Debug)]
pub struct Process {
    worker: Worker<MemoryIo>,
    wire: Wire,
    hasher: FlowHasher,
    /// Rings between worker and control.
    pub mailbox: Mailbox,
    /// The worker's counters.
    pub counters: Arc<Counters>,
    /// The control thread.
    pub control: Control,
}

impl Node {
    /// A node that does not run yet.
    pub fn new(id: u16, drift_ppm: i64) -> Self {
        Self {
            id,
            drift_ppm,
            process: None,
            paused_until: None,
            control_asleep_until: 0,
            starts_at: None,
            boots: 0,
        }
    }

    /// What its clock shows.
    pub fn clock(&self, now: u64) -> NowMs {
        let drift = now as i64 * self.drift_ppm / 1_000_000;
        NowMs((now as i64 + drift) as u64 + 10_000 * u64::from(self.id))
    }

    /// Starts with empty memory.
    pub fn start(&mut self, nodes: u16, log: usize, now: u64) {
        self.boots += 1;
        let boot_id = u64::from(self.id) * 1000 + self.boots;
        self.process = Some(Process::new(self.id, nodes, boot_id, log, self.clock(now)));
        self.paused_until = None;
        self.starts_at = None;
    }

    /// It runs and is awake.
    pub fn is_awake(&self) -> bool {
        self.process.is_some() && self.paused_until.is_none()
    }
}

/// All of the small table may be half open: what a full one does is not what the lab is about.
fn tuning() -> Tuning {
    Tuning { floods: Floods { half_open_percent: 100, ..Floods::default() }, ..Tuning::default() }
}

impl Process {
    fn new(id: u16, nodes: u16, boot_id: u64, log: usize, now: NowMs) -> Self {
        let wire = Wire::default();
        let mailbox =
            Mailbox { inbox: Arc::new(ArrayQueue::new(512)), outbox: Arc::new(ArrayQueue::new(OUTBOX)) };
        let counters = Arc::new(Counters::default());
        let hasher = FlowHasher::new(boot_id);
        let control = Control::new(id, nodes, boot_id, log, now);
        let waker = Arc::new(Waker::new().expect("a file descriptor"));
        let worker = Worker::new(WorkerParts {
            index: 0,
            io: MemoryIo::new(wire.clone(), 3, FRAMES),
            ports: ports::ports(),
            hasher,
            snapshots: Snapshots {
                view: Arc::new(control.view()),
                routes: ports::routes(),
                settings: Arc::new(ports::settings(id)),
                policy: Arc::new(InForce::nothing(&ports::settings(id))),
            },
            sessions_max: SESSIONS,
            handoff: Handoff::mesh(&[waker]).remove(0),
            mailbox: mailbox.clone(),
            counters: counters.clone(),
            tuning: tuning(),
            now,
        });
        Self { worker, wire, hasher, mailbox, counters, control }
    }

    /// A packet reaches an interface.
    pub fn arrive(&self, port: u8, bytes: &[u8]) {
        if port != LINK {
            self.wire.arrive(port, bytes, &self.hasher);
            return;
        }
        let inner_off = tunnel::overhead(&ports::link_address(1));
        // The XDP program steers a tunnel packet by what is inside.
        if let Ok(layout) = Layout::parse_inner(&bytes[inner_off..], inner_off as u16, LINK, &self.hasher) {
            self.wire.arrive_with(bytes, &layout);
        }
    }

    /// Turns of the worker until it has received all that arrived; gives what it sent.
    pub fn turn(&mut self, now: NowMs) -> Vec<(u8, Vec<u8>)> {
        loop {
            let before = self.counters.rx.get();
            self.worker.turn(now);
            if self.counters.rx.get() == before {
                break;
            }
        }
        std::iter::from_fn(|| self.wire.take_sent()).collect()
    }

    /// The worker's table.
    pub fn sessions(&self) -> Vec<Session> {
        self.worker.sessions().collect()
    }

    /// Packets dropped for a reason since the start.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.counters.drops[reason as usize].get()
    }

    /// Other work fills the outbox but for one message.
    pub fn flood_outbox(&self) {
        let address = ports::link_address(1);
        while self.mailbox.outbox.len() + 1 < OUTBOX {
            let _ = self.mailbox.outbox.push(FromWorker::Unresolved { ifindex: 1, address });
        }
    }

    /// Promise 3: every packet has one verdict and is counted once, every frame is somewhere.
    pub fn check_accounts(&self) -> Result<(), String> {
        let counters = &self.counters;
        let dropped: u64 = counters.drops.iter().map(|one| one.get()).sum();
        let (rx, tx, held) = (
            counters.rx.get() + counters.fragments_made.get() + counters.prompted.get(),
            counters.tx.get(),
            counters.held.get(),
        );
        if rx != tx + dropped + held {
            return Err(format!("received {rx} is not sent {tx} + dropped {dropped} + held {held}"));
        }
        let frames = counters.frames_free.get() + counters.frames_kernel.get() + counters.frames_hand.get();
        if frames != FRAMES {
            return Err(format!("{frames} frames of {FRAMES}"));
        }
        Ok(())
    }
}
