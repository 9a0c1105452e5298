//! A node whose worker or control thread stands still must leave the view: its Hello, sent by another thread, would
//! keep it in. A thread of its own watches all of them and silences the Hello meanwhile, so that peers take the
//! node for dead and its flows over; see `docs/decisions/0013-membership.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use samepath_dataplane::clock::Clock;
use samepath_dataplane::counters::Counters;

/// How often the guard looks.
const EVERY: Duration = Duration::from_millis(20);

/// A guard that itself was so late, ms, blames nobody for that time: the machine had no time for anyone.
const LATE_MS: u64 = 60;

/// Since when something has not moved.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    beats: u64,
    since: u64,
}

impl Pulse {
    /// It moved just now.
    pub fn new(now: u64) -> Self {
        Self { beats: 0, since: now }
    }

    /// How long it has not moved, ms; `beats` counts its movements.
    pub fn look(&mut self, beats: u64, now: u64) -> u64 {
        if self.beats != beats {
            *self = Self { beats, since: now };
        }
        now.saturating_sub(self.since)
    }

    /// So much of the time does not count.
    fn excuse(&mut self, ms: u64) {
        self.since += ms;
    }
}

/// What the guard and control share.
#[derive(Debug, Default)]
pub struct Vigil {
    /// Turns of the control loop, counted by control.
    pub control: AtomicU64,
    /// Something stands still: Hello is silenced.
    pub stalled: AtomicBool,
    /// How often that began.
    pub stalls: AtomicU64,
}

/// The guard's thread; dropping this ends it.
#[derive(Debug)]
pub struct StallGuard {
    vigil: Arc<Vigil>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StallGuard {
    /// Begins to watch. `limit_ms`: standing still for longer silences the Hello, which the first worker sends.
    pub fn start(workers: Vec<Arc<Counters>>, limit_ms: u64, clock: Clock) -> anyhow::Result<Self> {
        let (vigil, stop) = (Arc::<Vigil>::default(), Arc::<AtomicBool>::default());
        let mut watch = Watch::new(workers, vigil.clone(), limit_ms, clock.now().0);
        let stopped = stop.clone();
        let thread = Builder::new()
            .name("sp-stall".into())
            .spawn(move || {
                while !stopped.load(Relaxed) {
                    watch.look(clock.now().0);
                    std::thread::sleep(EVERY);
                }
            })
            .context("thread sp-stall cannot be started: raise the limit of threads (ulimit -u)")?;
        Ok(Self { vigil, stop, thread: Some(thread) })
    }

    /// What is shared with control, for another thread.
    pub fn shared(&self) -> Arc<Vigil> {
        self.vigil.clone()
    }

    /// What is shared with control.
    pub fn vigil(&self) -> &Vigil {
        &self.vigil
    }
}

impl Drop for StallGuard {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            drop(thread.join());
        }
    }
}

struct Watch {
    workers: Vec<(Arc<Counters>, Pulse)>,
    control: Pulse,
    vigil: Arc<Vigil>,
    limit_ms: u64,
    looked: u64,
}

impl Watch {
    fn new(workers: Vec<Arc<Counters>>, vigil: Arc<Vigil>, limit_ms: u64, now: u64) -> Self {
        let workers = workers.into_iter().map(|counters| (counters, Pulse::new(now))).collect();
        Self { workers, control: Pulse::new(now), vigil, limit_ms, looked: now }
    }

    fn look(&mut self, now: u64) {
        let slept = now.saturating_sub(self.looked);
        self.looked = now;
        if slept > LATE_MS {
            self.control.excuse(slept);
            self.workers.iter_mut().for_each(|(_, pulse)| pulse.excuse(slept));
        }
        let control = self.control.look(self.vigil.control.load(Relaxed), now);
        let worker =
            self.workers.iter_mut().map(|(counters, pulse)| pulse.look(counters.turns.get(), now)).max();
        let stalled = control.max(worker.unwrap_or(0)) > self.limit_ms;
        // A worker that has not begun yet fills its tables, which takes as long as they are large.
        let begun = self.workers.iter().all(|(counters, _)| counters.turns.get() > 0);
        if stalled && !self.vigil.stalled.swap(stalled, Relaxed) && begun {
            self.vigil.stalls.fetch_add(1, Relaxed);
            tracing::warn!(
                control_ms = control,
                worker_ms = worker,
                "a thread stands still: this node is silent until it moves, and peers take its flows over"
            );
        }
        self.vigil.stalled.store(stalled, Relaxed);
        for (counters, _) in &self.workers {
            counters.silent.store(stalled, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Node {
        watch: Watch,
        workers: Vec<Arc<Counters>>,
        now: u64,
    }

    impl Node {
        fn new() -> Self {
            let workers: Vec<Arc<Counters>> = vec![Arc::default(), Arc::default()];
            let watch = Watch::new(workers.clone(), Arc::default(), 400, 0);
            Self { watch, workers, now: 0 }
        }

        /// Time passes; these move meanwhile. True if the node is silent then.
        fn pass(&mut self, ms: u64, moving: [bool; 3]) -> bool {
            let end = self.now + ms;
            while self.now < end {
                self.now += 20;
                self.move_on(moving);
                self.watch.look(self.now);
            }
            self.workers[0].silent.load(Relaxed)
        }

        fn move_on(&mut self, [control, first, second]: [bool; 3]) {
            self.watch.vigil.control.fetch_add(control.into(), Relaxed);
            self.workers[0].turns.add(first.into());
            self.workers[1].turns.add(second.into());
        }
    }

    #[test]
    fn any_thread_that_stands_still_silences_the_node_until_it_moves() {
        for standing in 0..3 {
            let mut node = Node::new();
            let mut moving = [true; 3];
            assert!(!node.pass(2_000, moving));
            moving[standing] = false;
            assert!(!node.pass(400, moving), "{standing}: not yet");
            assert!(node.pass(40, moving), "{standing}");
            assert!(!node.pass(20, [true; 3]), "{standing}: it moves");
            assert_eq!(node.watch.vigil.stalls.load(Relaxed), 1);
        }
    }

    #[test]
    fn a_worker_that_fills_its_tables_is_no_alarm() {
        let mut node = Node::new();
        assert!(node.pass(2_000, [true, true, false]), "silent until it has begun");
        assert_eq!(node.watch.vigil.stalls.load(Relaxed), 0);
        assert!(!node.pass(20, [true; 3]));
        assert!(node.pass(420, [true, true, false]));
        assert_eq!(node.watch.vigil.stalls.load(Relaxed), 1);
    }

    #[test]
    fn a_machine_without_time_for_anybody_blames_nobody() {
        let mut node = Node::new();
        for _ in 0..10 {
            node.now += 1_000;
            node.watch.look(node.now);
            assert!(!node.workers[0].silent.load(Relaxed));
            node.move_on([true; 3]);
        }
    }
}
