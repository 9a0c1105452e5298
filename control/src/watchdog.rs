//! A worker that runs first (`--sched fifo`) must not lock up the machine. On each core of a worker an
//! ordinary thread, the canary, writes down that it still gets to run. Where it does not and the worker
//! has not slept meanwhile, the watchdog, above the workers in priority, makes that worker ordinary for a
//! while. See `docs/decisions/0010-scheduling.md`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use samepath_dataplane::clock::Clock;
use samepath_dataplane::counters::Counters;
use samepath_dataplane::xsk::{FIFO_PRIORITY, Policy, WATCHDOG_PRIORITY, policy, set_policy};

/// How often canaries sing and the watchdog looks.
const EVERY: Duration = Duration::from_millis(50);

/// So long may a worker run without sleeping while nothing else on its core runs, ms. Lower: short bursts
/// demote; higher: a longer freeze of the core. The kernel's own guard takes 950 ms.
const STARVES_MS: u64 = 200;

/// So long a demoted worker stays ordinary, ms: a worker that always starves its core does so for at most
/// 2 % of the time.
const DEMOTED_MS: u64 = 10_000;

/// A worker's thread and scheduling, shared between the thread, the watchdog and the operator.
#[derive(Debug, Default)]
pub struct Scheduling {
    /// The thread's number in the kernel; 0 until it runs.
    pub thread: AtomicI32,
    /// It is ordinary at the moment because it starved its core.
    pub demoted: AtomicBool,
    /// How often that happened.
    pub demotions: AtomicU64,
}

impl Scheduling {
    /// The policy the kernel has now; `None` if the thread is not there.
    pub fn policy(&self) -> Option<Policy> {
        match self.thread.load(Relaxed) {
            0 => None,
            thread => policy(thread).ok(),
        }
    }
}

/// What the watchdog needs of a worker.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its scheduling.
    pub scheduling: Arc<Scheduling>,
    /// Its counters: whether it slept.
    pub counters: Arc<Counters>,
    /// The core it is pinned to.
    pub core: Option<usize>,
}

/// Whether this process may use real-time priorities; the kernel's refusal if not.
pub fn fifo_allowed() -> io::Result<()> {
    let tried = std::thread::spawn(|| set_policy(0, Policy::Fifo(WATCHDOG_PRIORITY))).join();
    tried.unwrap_or_else(|_| Err(io::Error::other("the thread that tried it ended")))
}

/// Cores the operator isolated, as long as the kernel's own guard is on.
pub fn given_cores() -> Vec<usize> {
    if kernel_guards() { crate::config::isolated_cores() } else { Vec::new() }
}

/// The threads that watch; dropping it stops them.
#[derive(Debug)]
pub struct Watchdog {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts watching; workers on the cores `given` away are left alone.
    pub fn start(workers: Vec<Watched>, given: &[usize], clock: Clock) -> anyhow::Result<Self> {
        let stop: Arc<AtomicBool> = Arc::default();
        let mut threads = Vec::new();
        let mut guards = Vec::new();
        for (index, worker) in workers.into_iter().enumerate() {
            if worker.core.is_some_and(|core| given.contains(&core)) {
                tracing::info!("worker {index} has an isolated core: only the kernel guards it");
                continue;
            }
            let heard = Arc::new(AtomicU64::new(clock.now().0));
            let (core, canary) = (worker.core, (heard.clone(), stop.clone()));
            threads
                .push(spawn(format!("sp-canary-{index}"), move || sing(core, &canary.0, &canary.1, clock))?);
            guards.push((index, worker, heard, Guard::new(clock.now().0)));
        }
        let stopped = stop.clone();
        threads.push(spawn("sp-watchdog".into(), move || watch(&mut guards, &stopped, clock))?);
        Ok(Self { stop, threads })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            drop(thread.join());
        }
    }
}

/// The kernel keeps a share of every core for ordinary threads (sched(7), `sched_rt_runtime_us`).
fn kernel_guards() -> bool {
    let runtime = std::fs::read_to_string("/proc/sys/kernel/sched_rt_runtime_us").unwrap_or_default();
    runtime.trim().parse::<i64>().is_ok_and(|us| us >= 0)
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    let cannot = format!("thread {name} cannot be started: raise the limit of threads (ulimit -u)");
    Builder::new().name(name).spawn(run).context(cannot)
}

fn sing(core: Option<usize>, heard: &AtomicU64, stop: &AtomicBool, clock: Clock) {
    if let Some(id) = core {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    while !stop.load(Relaxed) {
        heard.store(clock.now().0, Relaxed);
        std::thread::sleep(EVERY);
    }
}

fn watch(guards: &mut [(usize, Watched, Arc<AtomicU64>, Guard)], stop: &AtomicBool, clock: Clock) {
    if let Err(error) = set_policy(0, Policy::Fifo(WATCHDOG_PRIORITY)) {
        tracing::warn!("the watchdog of --sched fifo has no priority itself ({error}): use --sched other");
    }
    while !stop.load(Relaxed) {
        for (index, worker, heard, guard) in guards.iter_mut() {
            let order = guard.look(clock.now().0, heard.load(Relaxed), worker.counters.sleeps.get());
            match order {
                Order::None => {}
                Order::Demote => demote(*index, worker),
                Order::Restore => restore(*index, worker),
            }
        }
        std::thread::sleep(EVERY);
    }
}

fn demote(index: usize, worker: &Watched) {
    let scheduling = &worker.scheduling;
    if let Err(error) = set_policy(scheduling.thread.load(Relaxed), Policy::Other) {
        return tracing::warn!("worker {index} starves its core and cannot be made ordinary: {error}");
    }
    scheduling.demoted.store(true, Relaxed);
    if scheduling.demotions.fetch_add(1, Relaxed) == 0 {
        tracing::warn!(
            "worker {index} ran {STARVES_MS} ms without sleeping while everything else on its core waited: it runs as an ordinary thread (SCHED_OTHER) for {} s; give it a core of its own, or use --sched other. Later times are only counted (workers[].demotions)",
            DEMOTED_MS / 1000
        );
    }
}

fn restore(index: usize, worker: &Watched) {
    let thread = worker.scheduling.thread.load(Relaxed);
    match set_policy(thread, Policy::Fifo(FIFO_PRIORITY)) {
        Ok(()) => worker.scheduling.demoted.store(false, Relaxed),
        Err(error) => tracing::warn!("worker {index} stays an ordinary thread: {error}"),
    }
}

/// What is to be done with a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    None,
    Demote,
    Restore,
}

/// What the watchdog remembers of a worker.
#[derive(Debug)]
struct Guard {
    sleeps: u64,
    /// Since when it has not slept, as far as was seen.
    awake_since: u64,
    demoted_at: Option<u64>,
}

impl Guard {
    fn new(now: u64) -> Self {
        Self { sleeps: 0, awake_since: now, demoted_at: None }
    }

    /// `heard`: when the canary ran last; `sleeps`: how often the worker has slept.
    fn look(&mut self, now: u64, heard: u64, sleeps: u64) -> Order {
        if self.sleeps != sleeps {
            self.sleeps = sleeps;
            self.awake_since = now;
        }
        if let Some(at) = self.demoted_at {
            if now.saturating_sub(at) < DEMOTED_MS {
                return Order::None;
            }
            self.demoted_at = None;
            self.awake_since = now;
            return Order::Restore;
        }
        let starving = now.saturating_sub(heard) >= STARVES_MS;
        if starving && now.saturating_sub(self.awake_since) >= STARVES_MS {
            self.demoted_at = Some(now);
            return Order::Demote;
        }
        Order::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_starves_its_core_is_demoted_and_restored() {
        let mut guard = Guard::new(0);
        let orders: Vec<(u64, Order)> = (1..500)
            .map(|step| step * 50)
            .map(|now| (now, guard.look(now, 0, 0)))
            .filter(|(_, order)| *order != Order::None)
            .collect();
        let expected = [
            (200, Order::Demote),
            (10_200, Order::Restore),
            (10_400, Order::Demote),
            (20_400, Order::Restore),
            (20_600, Order::Demote),
        ];
        assert_eq!(orders, expected);
    }

    #[test]
    fn a_busy_worker_beside_a_living_canary_is_left_alone() {
        let mut guard = Guard::new(0);
        assert!((1..500).all(|step| guard.look(step * 50, (step - 1) * 50, 0) == Order::None));
    }

    #[test]
    fn a_worker_that_sleeps_is_left_alone_although_the_canary_waits() {
        // Something else keeps the canary off the core.
        let mut guard = Guard::new(0);
        assert!((1..500).all(|step| guard.look(step * 50, 0, step) == Order::None));
    }
}
