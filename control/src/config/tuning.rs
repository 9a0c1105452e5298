//! How workers use cores, rings and memory; each option is explained in `docs/tuning.md`.

use samepath_dataplane::limits::BURST;
use samepath_dataplane::tuning::{HugePages, Idle};
use samepath_dataplane::xsk::SocketOptions;

/// How workers are scheduled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sched {
    /// `SCHED_FIFO` at the lowest real-time priority, watched.
    Fifo,
    /// `SCHED_OTHER`, like everything else.
    Other,
}

impl Sched {
    /// Both by the name an operator writes.
    pub const NAMES: [(&'static str, Sched); 2] = [("fifo", Sched::Fifo), ("other", Sched::Other)];
}

/// What is done about receive side scaling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RssChoice {
    /// Data interfaces are made symmetric where the driver can, and put back at the stop.
    Symmetric,
    /// It stays as it is.
    Keep,
}

impl RssChoice {
    /// Both by the name an operator writes.
    pub const NAMES: [(&'static str, RssChoice); 2] =
        [("symmetric", RssChoice::Symmetric), ("keep", RssChoice::Keep)];
}

/// The options of tuning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TuningOptions {
    /// How workers are scheduled.
    pub sched: Sched,
    /// What a worker does without work.
    pub idle: Idle,
    /// Allow FIFO and spinning together on cores that others need too.
    pub fifo_spin: bool,
    /// Packets taken from one ring per turn.
    pub batch: usize,
    /// Packets the kernel sends per wakeup; `None`: 256, or the ring's size if that is less.
    pub tx_batch: Option<u32>,
    /// How long the kernel polls the device per call, µs; 0 = not at all.
    pub busy_poll_usecs: u32,
    /// Packets per such poll.
    pub busy_poll_budget: u32,
    /// Drivers say when they must be woken.
    pub need_wakeup: bool,
    /// Where packet memory comes from.
    pub huge_pages: HugePages,
    /// What is done about receive side scaling.
    pub rss: RssChoice,
}

impl Default for TuningOptions {
    fn default() -> Self {
        let SocketOptions { need_wakeup, busy_poll_usecs, busy_poll_budget, .. } = SocketOptions::default();
        Self {
            sched: Sched::Other,
            idle: Idle::default(),
            fifo_spin: false,
            batch: BURST,
            tx_batch: None,
            busy_poll_usecs,
            busy_poll_budget,
            need_wakeup,
            huge_pages: HugePages::default(),
            rss: RssChoice::Symmetric,
        }
    }
}

impl TuningOptions {
    /// What is set on sockets with rings of `ring_size`.
    pub fn socket_options(&self, ring_size: u32) -> SocketOptions {
        SocketOptions {
            need_wakeup: self.need_wakeup,
            tx_batch: self.tx_batch.unwrap_or(SocketOptions::TX_BATCH.min(ring_size)),
            busy_poll_usecs: self.busy_poll_usecs,
            busy_poll_budget: self.busy_poll_budget,
        }
    }
}
