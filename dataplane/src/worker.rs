//! START HERE: one core's loop. It reads top to bottom as a packet's life: receive, parse, (hand over),
//! look up, decide, apply, carry out, flush. Every name in it is a file.
//!
//! A worker owns its shard of the session table, its timers, counters and frames; nothing on this path
//! takes a lock, and nothing is allocated once the vectors here have reached their size.

mod admission;
mod allowance;
mod detours;
mod events;
mod explain;
mod fast_path;
mod former;
mod forwarder;
mod fragments;
mod hand_over;
mod handoff;
mod held;
mod hello;
mod housekeeping;
mod idle;
mod meter;
mod outward;
mod oversize;
mod ownership;
mod prompt;
mod refresh;
mod reject;
mod replica;
mod service;
mod shard;
mod walks;
mod watch;

use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::NowMs;
use crate::cluster::view::View;
use crate::counters::Counters;
use crate::decide::{Arrival, Decision, Surroundings, decide, through_service};
use crate::detours::Detours;
use crate::floods::Rate;
use crate::flow::{Direction, FlowKey};
use crate::keyring::Keyring;
use crate::limits::{LOGS_PER_S, MAX_NODES, MAX_PORTS, REJECTS_PER_S, TIMERS_PER_TURN};
use crate::mailbox::Mailbox;
use crate::policy::InForce;
use crate::route::Routes;
use crate::service::Services;
use crate::session::table::Slot;
use crate::session::{Change, Session, track};
use crate::settings::Settings;
use crate::tuning::Tuning;
use crate::verdict::{DropReason, Verdict};
use crate::wire::flow_hash::{FlowHasher, core_of};
use crate::wire::layout::Layout;
use crate::wire::packet::Packet;
use crate::wire::tunnel::TunnelKey;
use crate::wire::{addresses, tunnel};
use crate::xsk::Io;

pub(crate) use crate::carry_out::NoHop;
use allowance::Allowance;
pub use events::Following;
use fast_path::FastPath;
use former::FormerView;
use fragments::Trains;
pub use handoff::{Handoff, Work};
use held::Held;
use idle::Rest;
use meter::Meter;
pub(crate) use outward::Outward;
use shard::Shard;
use walks::Walks;
pub use watch::Watching;

/// What a worker must know of the interfaces.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Zone number of each data interface, by port index.
    pub zones: [u8; MAX_PORTS],
    /// Receive queues of each interface, by port index; 0 = no such port.
    pub queues: [u32; MAX_PORTS],
    /// Index of the cluster link.
    pub cluster_link: u8,
    /// IP MTU of the cluster link, bytes.
    pub cluster_link_mtu: u32,
    /// Largest TCP segment that ends may agree on, IPv4 and IPv6, bytes; 0 = any.
    pub mss_clamp: [u16; 2],
    /// Time between Hello messages to each peer, ms.
    pub hello_interval_ms: u64,
}

impl Ports {
    /// Number of the zone of a data interface.
    #[inline(always)]
    pub(crate) fn zone_of(&self, port: u8) -> u8 {
        self.zones[usize::from(port) % MAX_PORTS]
    }
}

/// Snapshots published by control, adopted between bursts.
#[derive(Debug)]
pub struct Snapshots {
    /// Live members.
    pub view: Arc<View>,
    /// Where packets go.
    pub routes: Arc<Routes>,
    /// What the operator set.
    pub settings: Arc<Settings>,
    /// Which flows may begin.
    pub policy: Arc<InForce>,
}

/// A parsed packet with its frame, on its way through one core.
#[derive(Debug)]
pub struct Job<F> {
    pub(crate) frame: F,
    pub(crate) packet: Packet,
    pub(crate) arrival: Arrival,
    /// The flow as it stands in the packet itself (a fragment's has no ports): what the tunnel tag covers.
    pub(crate) wire_flow: (FlowKey, Direction),
    /// Where it leaves, if that was asked before anything was decided.
    pub(crate) hop: Option<u32>,
}

/// One core's worker.
#[derive(Debug)]
pub struct Worker<I: Io> {
    pub(crate) index: usize,
    pub(crate) io: I,
    pub(crate) ports: Ports,
    pub(crate) hasher: FlowHasher,
    pub(crate) snapshots: Snapshots,
    pub(crate) services: Arc<Services>,
    /// Number of the routes and the policy that remembered next hops hold under.
    pub(crate) paths: u32,
    /// Answers to rejected packets, and events for the log, that may be sent now.
    rejects: Allowance,
    /// ICMP errors that may be sent now; `None`: none ever.
    errors: Option<Allowance>,
    logs: Allowance,
    /// Keys of what comes through the tunnel.
    keyring: Keyring,
    /// Headers and keys of what goes into it.
    pub(crate) outward: Outward,
    /// The view before the present one.
    former: Option<FormerView>,
    pub(crate) shard: Shard,
    trains: Trains<Job<I::Frame>>,
    meter: Meter,
    detours: Detours,
    pub(crate) held: Held<I::Frame>,
    walks: Walks,
    pub(crate) handoff: Handoff<I::Frame>,
    pub(crate) mailbox: Mailbox,
    pub(crate) counters: Arc<Counters>,
    pub(crate) next_hello: NowMs,
    /// Packets taken from one ring per turn.
    batch: usize,
    rest: Rest,
    /// Frames are still in transmit rings.
    sending: bool,
    pub(crate) stopping: Option<NowMs>,
    owner_died: Vec<housekeeping::Death>,
    pub(crate) removal_lost: bool,
    /// Not before then the table is walked for sessions that peers have not been told of.
    pub(crate) next_announcing: NowMs,
    refresh: refresh::Refresh,
    /// The node hands its sessions over: one that a peer then owns is no conflict.
    pub(crate) draining: bool,
    pub(crate) due: Vec<Slot>,
    burst: Vec<I::Frame>,
    fast: FastPath,
    /// Somebody looks on.
    watching: Option<Box<Watching>>,
    /// Somebody follows sessions.
    following: Option<Box<Following>>,
}

/// What a worker is made of.
#[derive(Debug)]
pub struct WorkerParts<I: Io> {
    /// Its number, 0-based.
    pub index: usize,
    /// Its rings.
    pub io: I,
    /// The node's interfaces.
    pub ports: Ports,
    /// The node's flow hash (per-boot seed).
    pub hasher: FlowHasher,
    /// First snapshots.
    pub snapshots: Snapshots,
    /// Sessions this worker may hold.
    pub sessions_max: usize,
    /// Rings to and from the other workers.
    pub handoff: Handoff<I::Frame>,
    /// Rings to and from control.
    pub mailbox: Mailbox,
    /// Its counters.
    pub counters: Arc<Counters>,
    /// How it uses its core.
    pub tuning: Tuning,
    /// The present.
    pub now: NowMs,
}

impl<I: Io> Worker<I> {
    /// Puts a worker together; this is where its memory is allocated.
    pub fn new(parts: WorkerParts<I>) -> Self {
        let mut worker = Self {
            index: parts.index,
            io: parts.io,
            ports: parts.ports,
            hasher: parts.hasher,
            snapshots: parts.snapshots,
            services: Arc::default(),
            paths: 1,
            rejects: Allowance::new(Rate::even(REJECTS_PER_S)),
            errors: parts.tuning.icmp.map(|rate| Allowance::new(rate.share(parts.handoff.workers()))),
            logs: Allowance::new(Rate::even(LOGS_PER_S)),
            keyring: Keyring::default(),
            outward: Outward::new(parts.index),
            former: None,
            shard: Shard::new(parts.sessions_max, parts.tuning.floods.half_open_percent, parts.now),
            trains: Trains::default(),
            meter: Meter::new(parts.tuning.floods, parts.handoff.workers()),
            detours: Detours::new(parts.tuning.detours),
            held: Held::default(),
            walks: Walks::default(),
            handoff: parts.handoff,
            mailbox: parts.mailbox,
            counters: parts.counters,
            next_hello: NowMs(0),
            batch: parts.tuning.batch,
            rest: Rest::new(parts.tuning.idle),
            sending: false,
            stopping: None,
            owner_died: Vec::with_capacity(MAX_NODES),
            removal_lost: false,
            next_announcing: NowMs(0),
            refresh: refresh::Refresh::default(),
            draining: false,
            due: Vec::with_capacity(TIMERS_PER_TURN),
            burst: Vec::with_capacity(parts.tuning.batch * MAX_PORTS),
            fast: FastPath::new(parts.tuning.batch * MAX_PORTS),
            watching: None,
            following: None,
        };
        worker.renew_outward();
        worker
    }

    /// Without the fast path every packet goes the long way; for tests that compare the two.
    pub fn without_fast_path(mut self) -> Self {
        self.fast.is_on = false;
        self
    }

    /// One turn of the loop; true if there was work.
    pub fn turn(&mut self, now: NowMs) -> bool {
        self.counters.turns.add(1);
        let messages = self.take_messages(now);
        let packets = self.receive(now) + self.take_handed_over(now);
        let timers = self.housekeep(now);
        self.sending = self.io.flush();
        self.publish_gauges();
        messages || packets > 0 || timers
    }

    fn receive(&mut self, now: NowMs) -> usize {
        self.io.receive(self.batch, &mut self.burst);
        let received = self.burst.len();
        self.run_burst(false, now);
        received
    }

    /// Parses a frame and works on it if this core owns its flow; otherwise its owner gets it. `counted`:
    /// another core received it and gave it to this one, which owns its flow. `opened`: it came through the
    /// tunnel and [`Keyring::open`] has said that it may.
    fn admit(&mut self, frame: I::Frame, counted: bool, opened: bool, now: NowMs) {
        let (metadata, bytes) = self.io.view(&frame);
        let layout = Layout::from_metadata(metadata);
        if layout.is_hello() {
            return self.take_hello(frame, &layout, now);
        }
        if !counted {
            self.counters.rx.add(1);
            self.counters.rx_bytes.add(bytes.len() as u64);
            let core = core_of(layout.flow_hash, self.handoff.workers());
            if core != self.index {
                let work = Work::Packet { frame, queue: self.queue_in_hand() };
                return self.hand_over(core, work, now);
            }
        }
        match self.read(&frame, layout, opened) {
            Ok((packet, arrival)) => {
                let wire_flow = (packet.key, packet.direction);
                let job = Job { frame, packet, arrival, wire_flow, hop: None };
                // A whole packet is where it belongs; a fragment was steered by its addresses alone.
                match job.packet.fragment {
                    None => self.process(job, now),
                    Some(fragment) => self.place_fragment(job, fragment, now),
                }
            }
            Err(reason) => self.drop_frame(frame, reason),
        }
    }

    fn read(
        &mut self,
        frame: &I::Frame,
        layout: Layout,
        opened: bool,
    ) -> Result<(Packet, Arrival), DropReason> {
        let Self { io, keyring, snapshots, .. } = self;
        let bytes = io.bytes(frame);
        let inner = bytes.get(usize::from(layout.inner_off)..).ok_or(DropReason::BadMetadata)?;
        let packet = Packet::read(inner, layout)?;
        if !layout.is_tunnel() {
            return Ok((packet, Arrival::Data));
        }
        let received = tunnel::parse(bytes, usize::from(layout.inner_off))?;
        if !opened {
            known_sender(snapshots, bytes, &received)?;
            let right = |key: &TunnelKey| received.verify(key, &packet.key, packet.direction);
            keyring.open(received.option.sender, &received.seal, right)?;
        }
        Ok((packet, Arrival::Tunnel(received.option)))
    }

    fn hand_over(&mut self, core: usize, work: Work<I::Frame>, now: NowMs) {
        match self.handoff.give(core, work) {
            Ok(()) => {
                self.counters.handoff_tx.add(1);
                self.see_hand_over(core);
            }
            Err(work) => {
                let frame = work.into_frame();
                self.see_no_room(&frame, now);
                self.drop_frame(frame, DropReason::HandoffFull);
            }
        }
    }

    /// [`Worker::work_on`], told to who follows sessions.
    fn process(&mut self, job: Job<I::Frame>, now: NowMs) {
        if self.following.is_some() {
            return self.process_followed(job, now);
        }
        self.work_on(job, now);
    }

    #[cold]
    #[inline(never)]
    fn process_followed(&mut self, job: Job<I::Frame>, now: NowMs) {
        let key = job.packet.key;
        self.telling(&key, now, |worker| worker.work_on(job, now));
    }

    /// Look up, ask the policy, decide, apply, carry out.
    fn work_on(&mut self, mut job: Job<I::Frame>, now: NowMs) {
        let slot = self.shard.table.find(&job.packet.key);
        let mut session = slot.map(|slot| self.shard.table.get(slot));
        let gate = match self.gate(&job, slot.zip(session.as_mut()), now) {
            Ok(gate) => gate,
            Err(verdict) => return self.carry_out(verdict, job, None, now),
        };
        if slot.is_none() && job.arrival == Arrival::Data {
            // A packet this node could not forward begins nothing and asks nobody.
            let hop = self.could_forward(&job);
            match hop.and_then(|hop| self.meter(&job.packet, now).map(|()| hop)) {
                Ok(hop) => job.hop = hop,
                Err(reason) => return self.undeliverable(job.frame, job.packet.layout, reason, now),
            }
        }
        let Snapshots { view, policy, settings, .. } = &self.snapshots;
        let former = self.former.as_ref().map_or(&[][..], |former| former.at(now));
        let settings = if gate.is_plain() { settings } else { policy.settings(gate.terms, gate.local) };
        let (services, from_service) = (&*self.services, self.service_it_came_from(&job));
        let around =
            Surroundings { view, former, settings, allowed: gate.allowed, services, from_service, now };
        let decision = decide(&job.packet, &job.arrival, session.as_ref(), &around);
        self.count_decision(&job.arrival, &decision);
        let Decision { verdict, change, .. } = self.admit_owner(decision, &gate, &job, slot, now);
        let verdict = through_service(verdict, service_after(&change, session.as_ref()), from_service);
        self.count_from_service(&job, from_service);
        match self.apply(change, slot, job.packet.length, now) {
            Ok(slot) => self.carry_out(verdict, job, slot, now),
            Err(reason) => self.carry_out(Verdict::Drop(reason), job, None, now),
        }
    }

    /// Packets that may begin a flow are counted; others begin nothing.
    fn meter(&mut self, packet: &Packet, now: NowMs) -> Result<(), DropReason> {
        match track::may_begin(packet) {
            true => self.meter.admit(&packet.key, packet.direction, now),
            false => Ok(()),
        }
    }

    /// The packet's next hop, if its link address is known; an error if it could not leave this node.
    fn could_forward(&self, job: &Job<I::Frame>) -> Result<Option<u32>, DropReason> {
        if job.packet.ttl <= 1 {
            return Err(DropReason::TtlExpired);
        }
        let destination = addresses::destination(self.io.bytes(&job.frame), &job.packet.layout)
            .ok_or(DropReason::BadMetadata)?;
        self.could_reach(destination, job.packet.layout.flow_hash)
    }

    /// A packet to `destination` could leave this node: by which hop, if its link address is known.
    fn could_reach(&self, destination: IpAddr, flow_hash: u32) -> Result<Option<u32>, DropReason> {
        match self.snapshots.routes.resolve(destination, flow_hash) {
            crate::route::Resolution::NoRoute
            | crate::route::Resolution::Elsewhere
            | crate::route::Resolution::Local => Err(DropReason::NoRoute),
            crate::route::Resolution::Refused => Err(DropReason::RouteRefused),
            crate::route::Resolution::Send(hop) => Ok(Some(hop)),
            crate::route::Resolution::Unresolved { .. } => Ok(None),
        }
    }

    /// Ends a frame's life with a reason.
    pub(crate) fn drop_frame(&mut self, frame: I::Frame, reason: DropReason) {
        self.counters.dropped(reason);
        self.see_drop(reason);
        self.io.recycle(frame);
    }
}

/// The service of a session as it is after a change, 0 for none.
fn service_after(change: &Change, known: Option<&Session>) -> u8 {
    match change {
        Change::Put { session, .. } => session.admission.service,
        Change::None | Change::Update { .. } | Change::Remove => {
            known.map_or(0, |session| session.admission.service)
        }
    }
}

/// The packet must be of this cluster, the sender's number belong to the address it came from, and it may speak for
/// itself only.
fn known_sender(snapshots: &Snapshots, bytes: &[u8], received: &tunnel::Received) -> Result<(), DropReason> {
    if received.cluster != snapshots.settings.cluster {
        return Err(DropReason::TunnelCluster);
    }
    if !received.option.is_of_its_sender() {
        return Err(DropReason::TunnelPeer);
    }
    let peer = snapshots.view.peer(received.option.sender).ok_or(DropReason::TunnelPeer)?;
    match addresses::tunnel_source(bytes) {
        Some(address) if address == peer.address => Ok(()),
        _ => Err(DropReason::TunnelPeer),
    }
}
