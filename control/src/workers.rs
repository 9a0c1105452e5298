//! The worker threads: started, pinned, spoken to, stopped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;

use anyhow::{Context, bail};
use samepath_dataplane::clock::Clock;
use samepath_dataplane::cluster::view::View;
use samepath_dataplane::counters::Counters;
use samepath_dataplane::flow::FlowKey;
use samepath_dataplane::forwards::SharedWords;
use samepath_dataplane::mailbox::{Mailbox, ToWorker};
use samepath_dataplane::policy::InForce;
use samepath_dataplane::route::Routes;
use samepath_dataplane::settings::Settings;
use samepath_dataplane::tuning::Tuning;
use samepath_dataplane::wire::flow_hash::{FlowHasher, core_of};
use samepath_dataplane::worker::{Handoff, Ports, Snapshots, Worker, WorkerParts};
use samepath_dataplane::xsk::{self, FIFO_PRIORITY, Policy, Waker, XskIo};

use crate::config::Sched;
use crate::seccomp::WorkerFilter;
use crate::watchdog::{Scheduling, Watchdog, Watched};

/// What the workers start with.
#[derive(Debug)]
pub struct WorkersPlan {
    /// Rings, one set per worker.
    pub rings: Vec<XskIo>,
    /// The node's interfaces.
    pub ports: Ports,
    /// The flow hash of this boot.
    pub hasher: FlowHasher,
    /// First view.
    pub view: Arc<View>,
    /// First routes.
    pub routes: Arc<Routes>,
    /// First settings.
    pub settings: Arc<Settings>,
    /// First policy, by worker.
    pub policies: Vec<Arc<InForce>>,
    /// Sessions of the node, shared out evenly.
    pub sessions_max: usize,
    /// Core of each worker, cycled; empty = not pinned.
    pub cores: Vec<usize>,
    /// Cores on which only the kernel guards a worker ([`crate::watchdog::given_cores`]).
    pub given: Vec<usize>,
    /// How workers are scheduled.
    pub sched: Sched,
    /// How they use their cores.
    pub tuning: Tuning,
    /// They make only the system calls they need.
    pub seccomp: bool,
    /// The process's clock.
    pub clock: Clock,
    /// Where flows are handed to the XDP program, if they are.
    pub forwards: Option<SharedWords>,
}

/// All workers of the node, as control sees them.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<XskIo>>,
    mailboxes: Vec<Mailbox>,
    counters: Vec<Arc<Counters>>,
    wakers: Vec<Arc<Waker>>,
    hasher: FlowHasher,
    cores: Vec<usize>,
    schedulings: Vec<Arc<Scheduling>>,
    watchdog: Option<Watchdog>,
    backlog: VecDeque<(usize, ToWorker)>,
}

impl Workers {
    /// Starts one thread per set of rings.
    pub fn start(plan: WorkersPlan) -> anyhow::Result<Self> {
        let count = plan.rings.len();
        let wakers = (0..count)
            .map(|_| Waker::new().map(Arc::new))
            .collect::<Result<Vec<_>, _>>()
            .context("no eventfd can be made for a worker: raise the limit of open files (ulimit -n)")?;
        let mailboxes: Vec<Mailbox> = (0..count).map(|_| Mailbox::default()).collect();
        let counters: Vec<Arc<Counters>> = (0..count).map(|_| Arc::default()).collect();
        let schedulings: Vec<Arc<Scheduling>> = (0..count).map(|_| Arc::default()).collect();
        let filter = plan.seccomp.then(WorkerFilter::prepare).transpose()?;
        let core_of = |index: usize| (!plan.cores.is_empty()).then(|| plan.cores[index % plan.cores.len()]);
        let watched = schedulings.iter().zip(&counters).enumerate().map(|(index, (scheduling, counters))| {
            Watched { scheduling: scheduling.clone(), counters: counters.clone(), core: core_of(index) }
        });
        // It watches before there is anything to watch.
        let watchdog = match plan.sched {
            Sched::Fifo => Some(Watchdog::start(watched.collect(), &plan.given, plan.clock)?),
            Sched::Other => None,
        };
        let mut threads = Vec::with_capacity(count);
        for (index, (io, handoff)) in plan.rings.into_iter().zip(Handoff::mesh(&wakers)).enumerate() {
            let parts = WorkerParts {
                index,
                io,
                ports: plan.ports.clone(),
                hasher: plan.hasher,
                snapshots: Snapshots {
                    view: plan.view.clone(),
                    routes: plan.routes.clone(),
                    settings: plan.settings.clone(),
                    policy: plan.policies[index].clone(),
                },
                sessions_max: plan.sessions_max.div_ceil(count),
                handoff,
                mailbox: mailboxes[index].clone(),
                counters: counters[index].clone(),
                tuning: plan.tuning,
                now: plan.clock.now(),
            };
            let place = Place {
                core: core_of(index),
                sched: plan.sched,
                own: schedulings[index].clone(),
                filter: filter.clone(),
            };
            threads.push(start_one(parts, place, plan.forwards.clone(), plan.clock)?);
        }
        Ok(Self {
            threads,
            mailboxes,
            counters,
            wakers,
            hasher: plan.hasher,
            cores: plan.cores,
            schedulings,
            watchdog,
            backlog: VecDeque::new(),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// The core a worker is pinned to (its own number if it is not pinned).
    pub fn core(&self, worker: usize) -> usize {
        match self.cores.len() {
            0 => worker,
            cores => self.cores[worker % cores],
        }
    }

    /// The scheduling of every worker.
    pub fn schedulings(&self) -> &[Arc<Scheduling>] {
        &self.schedulings
    }

    /// Counters of every worker.
    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// Rings to and from every worker.
    pub fn mailboxes(&self) -> &[Mailbox] {
        &self.mailboxes
    }

    /// The worker that owns a flow.
    pub fn owner_of(&self, key: &FlowKey) -> usize {
        core_of(self.hasher.hash(key), self.count())
    }

    /// Tells one worker; what its inbox has no room for waits here, in order.
    pub fn tell(&mut self, worker: usize, message: ToWorker) {
        if self.backlog.is_empty() {
            match self.mailboxes[worker].inbox.push(message) {
                Ok(()) => self.wakers[worker].ring(),
                Err(message) => self.backlog.push_back((worker, message)),
            }
        } else {
            self.backlog.push_back((worker, message));
        }
    }

    /// Tells every worker.
    pub fn tell_all(&mut self, message: impl Fn() -> ToWorker) {
        for worker in 0..self.count() {
            self.tell(worker, message());
        }
    }

    /// Moves what waits into the inboxes; true if nothing waits any longer.
    pub fn deliver_backlog(&mut self) -> bool {
        while let Some((worker, message)) = self.backlog.pop_front() {
            if let Err(message) = self.mailboxes[worker].inbox.push(message) {
                self.backlog.push_front((worker, message));
                return false;
            }
            self.wakers[worker].ring();
        }
        true
    }

    /// An error if a worker ended although nobody told it to.
    pub fn check_alive(&self) -> anyhow::Result<()> {
        match self.threads.iter().position(JoinHandle::is_finished) {
            Some(worker) => {
                bail!("worker {worker} ended unexpectedly: see the lines above; restart samepath")
            }
            None => Ok(()),
        }
    }

    /// Tells all workers to stop and gives back their rings, to be closed by the caller.
    pub fn stop(mut self) -> Vec<XskIo> {
        self.backlog.clear();
        for (mailbox, waker) in self.mailboxes.iter().zip(&self.wakers) {
            // A full inbox drains within a few turns; the worker also takes Stop after it.
            let mut message = ToWorker::Stop;
            while let Err(back) = mailbox.inbox.push(message) {
                message = back;
                waker.ring();
                std::thread::yield_now();
            }
            waker.ring();
        }
        let rings = self.threads.into_iter().filter_map(|thread| thread.join().ok()).collect();
        // Until here a worker that does not end could still starve its core.
        drop(self.watchdog);
        rings
    }
}

/// Where and how a worker runs.
struct Place {
    core: Option<usize>,
    sched: Sched,
    own: Arc<Scheduling>,
    filter: Option<WorkerFilter>,
}

fn start_one(
    parts: WorkerParts<XskIo>,
    place: Place,
    forwards: Option<SharedWords>,
    clock: Clock,
) -> anyhow::Result<JoinHandle<XskIo>> {
    let index = parts.index;
    std::thread::Builder::new()
        .name(format!("sp-worker-{index}"))
        .spawn(move || {
            if let Some(id) = place.core {
                core_affinity::set_for_current(core_affinity::CoreId { id });
            }
            // The memory of the session shard is touched first by the core that uses it.
            let worker = Worker::new(parts);
            place.own.thread.store(xsk::thread_id(), Relaxed);
            if place.sched == Sched::Fifo
                && let Err(error) = xsk::set_policy(0, Policy::Fifo(FIFO_PRIORITY))
            {
                tracing::warn!("worker {index} is an ordinary thread, --sched fifo was refused: {error}");
            }
            // Before the first packet; the kernel took it on another thread.
            if let Some(Err(error)) = place.filter.map(|filter| filter.apply()) {
                tracing::warn!("worker {index} may make any system call: {error:#}");
            }
            match forwards {
                Some(words) => worker.with_forwards(words).run(clock),
                None => worker.run(clock),
            }
        })
        .with_context(|| format!("worker {index} cannot be started: raise the limit of threads (ulimit -u)"))
}
