//! The shell around the mirror: waits for the kernel, for requests and for time to pass, publishes.

use std::future::{Future, pending};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use samepath_dataplane::clock::{Clock, NowMs};
use samepath_dataplane::route::Routes;
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use super::message::Fact;
use super::mirror::{Effect, Mirror};
use super::probes::Probes;
use super::socket::{self, Notifications, Received};
use super::{Mirrored, PortLink};

/// How long changes are collected before they are published, ms: a routing daemon's burst becomes one
/// snapshot, a human notices nothing.
const COLLECT_MS: u64 = 15;

/// Share of control's time that building snapshots or listing may take: one part in this many.
const DUTY: u64 = 10;

/// A link that changes state is notified before the kernel has removed its routes. One listing is
/// made at once, another after this time, ms, when the kernel is done for certain.
const SETTLE_MS: u64 = 1_000;

/// How often neighbours are looked after, ms.
const LOOK_AFTER_MS: u64 = 1_000;

/// Facts kept while a listing is made, to be applied to its result. More are as good as a lost
/// message: the listing is made again.
const LATE_MAX: usize = 100_000;

/// How long to wait before a broken socket is opened again, ms.
const REOPEN_MS: u64 = 1_000;

/// What others want of the follower.
pub struct Wishes {
    /// Neighbours packets wait for: (interface index, address).
    pub resolve: mpsc::Receiver<(u32, IpAddr)>,
    /// Neighbours to keep resolved besides the gateways of routes.
    pub keep: watch::Receiver<Vec<(u32, IpAddr)>>,
}

type Listing = Pin<Box<dyn Future<Output = io::Result<Mirror>> + Send>>;

/// Keeps a mirror current and publishes its snapshots.
pub struct Follower {
    ports: Arc<[PortLink]>,
    clock: Clock,
    notifications: Option<Notifications>,
    wishes: Wishes,
    published: watch::Sender<Option<Mirrored>>,
    mirror: Mirror,
    /// A listing being made, and what was told since it began.
    listing: Option<(Listing, NowMs)>,
    late: Vec<Fact>,
    probes: Probes,
    routes: Arc<Routes>,
    /// When to do what; `None`: not needed.
    list_at: Option<NowMs>,
    settle_at: Option<NowMs>,
    publish_at: Option<NowMs>,
    look_after_at: NowMs,
    reopen_at: Option<NowMs>,
    /// Not before this, so that snapshots do not eat control's time.
    publish_not_before: NowMs,
    list_not_before: NowMs,
}

impl Follower {
    /// `notifications` must have been opened before, so that nothing is missed.
    pub fn new(
        ports: Vec<PortLink>,
        notifications: Notifications,
        wishes: Wishes,
        published: watch::Sender<Option<Mirrored>>,
    ) -> Self {
        let clock = Clock::start();
        let now = clock.now();
        Self {
            mirror: Mirror::new(&ports),
            ports: ports.into(),
            clock,
            notifications: Some(notifications),
            wishes,
            published,
            listing: None,
            late: Vec::new(),
            probes: Probes::default(),
            routes: Arc::new(Routes::default()),
            list_at: Some(now),
            settle_at: None,
            publish_at: None,
            look_after_at: now,
            reopen_at: None,
            publish_not_before: now,
            list_not_before: now,
        }
    }

    /// Runs until the handle is dropped.
    pub async fn run(mut self) {
        loop {
            self.do_what_is_due();
            let wait = Duration::from_millis(self.next_deadline().since(self.clock.now()));
            tokio::select! {
                received = receive(self.notifications.as_ref()) => self.take_in(received),
                listed = finish(&mut self.listing) => self.adopt(listed),
                wanted = self.wishes.resolve.recv() => match wanted {
                    Some((ifindex, address)) => self.resolve(ifindex, address),
                    None => return,
                },
                kept = self.wishes.keep.changed() => match kept {
                    Ok(()) => self.keep(),
                    Err(_) => return,
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn do_what_is_due(&mut self) {
        let now = self.clock.now();
        if is_due(&mut self.reopen_at, now) {
            self.reopen(now);
        }
        if is_due(&mut self.settle_at, now) {
            self.list_soon(now);
        }
        let can_list = self.listing.is_none() && self.notifications.is_some();
        if can_list && is_due(&mut self.list_at, now) {
            let ports = Arc::clone(&self.ports);
            self.listing = Some((Box::pin(async move { socket::list(&ports).await }), now));
        }
        if is_due(&mut self.publish_at, now) {
            self.publish();
        }
        if now >= self.look_after_at {
            self.look_after_neighbours(now);
        }
    }

    fn next_deadline(&self) -> NowMs {
        let can_list = self.listing.is_none() && self.notifications.is_some();
        let list_at = self.list_at.filter(|_| can_list);
        [list_at, self.settle_at, self.publish_at, self.reopen_at]
            .into_iter()
            .flatten()
            .fold(self.look_after_at, NowMs::min)
    }

    fn take_in(&mut self, received: io::Result<Received>) {
        let now = self.clock.now();
        match received {
            Ok(Received::Facts(facts)) => {
                for fact in facts {
                    self.take_in_fact(fact, now);
                }
            }
            Ok(Received::Lost) => {
                debug!("netlink notifications were lost; listing everything anew");
                self.list_soon(now);
            }
            Err(error) => {
                warn!(%error, "the netlink socket failed; opening it again");
                self.notifications = None;
                self.listing = None;
                self.late.clear();
                self.reopen_at = Some(now.plus(REOPEN_MS));
            }
        }
    }

    fn take_in_fact(&mut self, fact: Fact, now: NowMs) {
        if self.listing.is_some() {
            if self.late.len() < LATE_MAX {
                self.late.push(fact.clone());
            } else {
                self.list_soon(now);
            }
        }
        let effect = self.mirror.apply(fact);
        self.react(effect, now);
    }

    fn react(&mut self, effect: Effect, now: NowMs) {
        if effect >= Effect::Changed {
            self.publish_soon(now);
        }
        if effect == Effect::Outdated {
            self.list_soon(now);
            self.settle_at = Some(now.plus(SETTLE_MS));
        }
    }

    /// A listing replaces the mirror; what was told since it began is applied once more, so that a
    /// change the listing had just passed is not lost.
    fn adopt(&mut self, listed: io::Result<Mirror>) {
        let now = self.clock.now();
        let late = std::mem::take(&mut self.late);
        let began = self.listing.take().map_or(now, |(_, began)| began);
        self.list_not_before = now.plus(now.since(began) * DUTY);
        match listed {
            Ok(mut mirror) => {
                let outdated = late.into_iter().map(|fact| mirror.apply(fact)).max();
                let first = self.published.borrow().is_none();
                if first || !mirror.says_the_same_as(&self.mirror) {
                    self.publish_soon(now);
                }
                self.mirror = mirror;
                self.react(outdated.unwrap_or(Effect::None), now);
            }
            Err(error) => {
                warn!(%error, "the kernel's routes could not be listed; trying again");
                self.list_at = Some(now.plus(REOPEN_MS));
            }
        }
    }

    fn resolve(&mut self, ifindex: u32, address: IpAddr) {
        if self.probes.ask(&self.mirror, ifindex, address, self.clock.now()) {
            self.probe(ifindex, address);
        }
    }

    fn keep(&mut self) {
        self.probes.keep(self.wishes.keep.borrow_and_update().clone());
        self.look_after_at = self.clock.now();
    }

    fn publish(&mut self) {
        let began = self.clock.now();
        if self.published.borrow().is_none() && (self.listing.is_some() || self.list_at.is_some()) {
            // Half a picture would make workers drop packets.
            return;
        }
        let generation = match self.published.borrow().as_ref() {
            Some(mirrored) => mirrored.routes.generation.wrapping_add(1).max(1),
            None => 1,
        };
        let mirrored = self.mirror.snapshot(generation);
        self.routes = Arc::clone(&mirrored.routes);
        self.published.send_replace(Some(mirrored));
        let now = self.clock.now();
        self.publish_not_before = now.plus(now.since(began) * DUTY);
        self.look_after_at = now;
    }

    fn look_after_neighbours(&mut self, now: NowMs) {
        self.look_after_at = now.plus(LOOK_AFTER_MS);
        for (ifindex, address) in self.probes.due(&self.mirror, &self.routes, now) {
            self.probe(ifindex, address);
        }
    }

    fn probe(&self, ifindex: u32, address: IpAddr) {
        let Some(notifications) = &self.notifications else { return };
        if let Err(error) = notifications.probe(ifindex, address) {
            debug!(%error, ifindex, %address, "the kernel could not be asked for a neighbour");
        }
    }

    fn reopen(&mut self, now: NowMs) {
        match Notifications::open() {
            Ok(notifications) => {
                self.notifications = Some(notifications);
                self.list_at = Some(now);
            }
            Err(error) => {
                warn!(%error, "the netlink socket could not be opened; trying again");
                self.reopen_at = Some(now.plus(REOPEN_MS));
            }
        }
    }

    fn publish_soon(&mut self, now: NowMs) {
        let at = now.plus(COLLECT_MS).max(self.publish_not_before);
        self.publish_at.get_or_insert(at);
    }

    fn list_soon(&mut self, now: NowMs) {
        let at = now.plus(COLLECT_MS).max(self.list_not_before);
        self.list_at.get_or_insert(at);
    }
}

fn is_due(at: &mut Option<NowMs>, now: NowMs) -> bool {
    at.take_if(|at| now >= *at).is_some()
}

async fn receive(notifications: Option<&Notifications>) -> io::Result<Received> {
    match notifications {
        Some(notifications) => notifications.receive().await,
        None => pending().await,
    }
}

async fn finish(listing: &mut Option<(Listing, NowMs)>) -> io::Result<Mirror> {
    match listing {
        Some((listing, _)) => listing.await,
        None => pending().await,
    }
}
