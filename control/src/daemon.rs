//! `samepath run`: the control thread. It starts the node in order, then carries messages between the
//! workers, the peers, the kernel's routes and the operator, and stops the node in order.
//!
//! ```text
//! workers ◄── inbox ── control ◄──► peers (QUIC)
//!    │                  ▲  ▲  ▲
//!    └──── outbox ──────┘  │  └── operator socket
//!                          └───── kernel routes (netlink)
//! ```

mod answers;
mod drain;
mod duty;
mod exchange;
mod explained;
mod followers;
mod forwarder;
mod inquiries;
mod keys;
mod members;
mod membership;
mod policy;
mod rings;
mod services;
mod start;
mod tunnel_keys;
mod walks;
mod watches;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use samepath_bpf::Steering;
use samepath_dataplane::clock::{Clock, NowMs};
use samepath_dataplane::cluster::director::DirectorKey;
use samepath_dataplane::cluster::view::View;
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::route::Routes;
use samepath_dataplane::service::Services;
use samepath_dataplane::settings::Settings;
use samepath_dataplane::xsk::{FrameDepot, Registration};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::landlock::Confinement;
use crate::log::Log;
use crate::membership::Membership;
use crate::membership::etcd::Etcd;
use crate::nic::{self, Nic};
use crate::operator::OperatorRequest;
use crate::replicate::{PeerEvent, Replicator};
use crate::routes::{Mirrored, RouteMirror};
use crate::stall::{Pulse, StallGuard};
use crate::systemd::{self, SignsOfLife};
use crate::tunnel_keys::TunnelKeys;
use crate::workers::Workers;
use drain::Draining;
use duty::Duty;
use followers::Followers;
use forwarder::Forwarding;
use inquiries::Inquiries;
use keys::KeysInUse;
use policy::InForceHere;
use walks::Walks;
use watches::Watches;

/// How often the workers' outboxes are looked at while there is traffic, and while there is none.
/// A worker never makes a system call to tell control something.
const BUSY_TICK: Duration = Duration::from_millis(1);
const IDLE_TICK: Duration = Duration::from_millis(5);

/// How long a node that leaves still works after it has said so: peers do not ask it any more, as former Director or
/// for what is on its way, a few milliseconds after they heard it.
const FAREWELL: Duration = Duration::from_millis(200);

/// A running node.
struct Node {
    config: Config,
    log: Log,
    clock: Clock,
    started: NowMs,
    director_key: DirectorKey,
    nics: Vec<Nic>,
    steering: Steering,
    forwarding: Forwarding,
    registrations: Vec<Registration>,
    depot: FrameDepot,
    frames: u64,
    huge_pages: bool,
    warnings: Vec<String>,
    workers: Workers,
    mirror: RouteMirror,
    routes: Arc<Routes>,
    replicator: Replicator,
    events: mpsc::Receiver<PeerEvent>,
    requests: mpsc::Receiver<OperatorRequest>,
    membership: Membership,
    tunnel_keys: TunnelKeys,
    etcd: Option<Etcd>,
    stall: StallGuard,
    signs_of_life: SignsOfLife,
    /// Of each worker: whether it had a chance to hear anybody.
    pulses: Vec<Pulse>,
    view: Arc<View>,
    settings: Arc<Settings>,
    services: Arc<Services>,
    policy: InForceHere,
    keys: KeysInUse,
    confinement: Confinement,
    walks: Walks,
    inquiries: Inquiries,
    watches: Watches,
    followers: Followers,
    duty: Duty,
    refusals: Vec<(Option<NodeId>, String)>,
    /// When the members were last looked at.
    watched: NowMs,
    ready: bool,
    joined: bool,
    draining: Option<Draining>,
    /// Since when it is none of the members all agree on.
    apart_since: Option<NowMs>,
    /// When sessions were last offered to peers.
    offered: NowMs,
    /// The operator told it to end.
    leaving: bool,
}

/// What the loop woke up for.
enum Wake {
    Tick,
    Routes(Mirrored),
    Peer(PeerEvent),
    Request(OperatorRequest),
    Signal(&'static str),
    /// SIGHUP: read again what can be read again.
    Reload,
}

/// Signals the loop waits for.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Runs a node until it is told to stop. Errors are sentences for the operator.
pub fn run(config: Config, log: Log) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        // Before anything is attached, so that a signal while starting still stops in order.
        let signals = Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        };
        let mut node = Node::start(config, log).await?;
        systemd::ready();
        let outcome = node.serve(signals).await;
        systemd::stopping();
        node.stop().await;
        outcome
    })
}

impl Node {
    /// Carries messages until a signal comes.
    async fn serve(&mut self, mut signals: Signals) -> anyhow::Result<()> {
        tracing::info!(node = %self.config.node, workers = self.workers.count(), "samepath runs");
        let mut tick = BUSY_TICK;
        loop {
            match self.wake(tick, &mut signals).await {
                Wake::Tick => {}
                Wake::Routes(mirrored) => self.take_routes(mirrored)?,
                Wake::Peer(event) => self.take_event(event)?,
                Wake::Request(request) => self.answer(request)?,
                Wake::Reload => self.reload(),
                Wake::Signal(name) => {
                    tracing::info!("{name} received: samepath stops");
                    return Ok(());
                }
            }
            self.stall.vigil().control.fetch_add(1, Relaxed);
            let busy = self.carry_messages();
            self.watch_members()?;
            self.watch_hand_over();
            self.watch_inquiries();
            self.watch_watches()?;
            self.watch_followers();
            if self.leaving {
                tracing::info!("the operator told this node to leave: samepath stops");
                return Ok(());
            }
            self.watch_forwarder()?;
            self.workers.check_alive()?;
            let looked_on = self.inquiries.are_open() || self.watches.are_open() || self.followers.are_open();
            tick = if busy || looked_on { BUSY_TICK } else { IDLE_TICK };
        }
    }

    async fn wake(&mut self, tick: Duration, signals: &mut Signals) -> Wake {
        // While inboxes are full no more is taken from peers: QUIC's flow control holds them back.
        let room = self.workers.deliver_backlog();
        tokio::select! {
            biased;
            _ = signals.terminate.recv() => Wake::Signal("SIGTERM"),
            _ = signals.interrupt.recv() => Wake::Signal("SIGINT"),
            _ = signals.hangup.recv() => Wake::Reload,
            Some(request) = self.requests.recv() => Wake::Request(request),
            mirrored = self.mirror.changed() => Wake::Routes(mirrored),
            Some(event) = self.events.recv(), if room => Wake::Peer(event),
            () = tokio::time::sleep(tick) => Wake::Tick,
        }
    }

    /// SIGHUP: everything that can be read again is. What fails says so in the log and stays as it was.
    fn reload(&mut self) {
        tracing::info!("SIGHUP received: samepath reads its keys and its policy again");
        systemd::reloading();
        self.reload_keys();
        if self.config.policy.is_some() {
            let _ = self.reload_policy();
        }
        systemd::ready();
    }

    fn now(&self) -> NowMs {
        self.clock.now()
    }

    /// Stop order: no more packets in, what is in hand out, peers told, sockets closed, program gone. A node that leaves
    /// owns nothing; it tells its peers first and answers what they have asked it until then.
    async fn stop(mut self) {
        // From here on threads end, which is no standing still.
        drop(self.stall);
        let mut replicator = Some(self.replicator);
        if self.leaving
            && let Some(replicator) = replicator.take()
        {
            replicator.close().await;
            tokio::time::sleep(FAREWELL).await;
        }
        drop(self.signs_of_life);
        if let Err(error) = self.steering.unregister_all_sockets() {
            tracing::warn!("sockets stay registered until they are closed: {error}");
        }
        let mailboxes = self.workers.mailboxes().to_vec();
        let rings = self.workers.stop();
        // What the workers said last goes to the peers before they are told goodbye.
        if let Some(replicator) = replicator {
            for mailbox in &mailboxes {
                while let Some(message) = mailbox.outbox.pop() {
                    exchange::publish_last(&replicator, message);
                }
            }
            replicator.close().await;
        }
        drop(rings);
        if let Err(error) = self.steering.detach() {
            tracing::warn!("{error}");
        }
        nic::spread_as_before(&self.nics);
        tracing::info!("samepath stopped");
    }
}
