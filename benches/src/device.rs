//! Devices under test: samepath, and what somebody would take instead of it.

mod bare;
mod cluster;
mod conntrackd;
mod kernel;
mod node;
mod redirect;
mod testpmd;

use std::fmt;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::generator::{Generator, Kind, Pace, Stream, Way};
use crate::rig::{self, Counters, DEVICE_CORE, Entrance, NODES, Policy, Rig, Thread};

pub use bare::{COMMAND as FORWARD_BARE, forward as forward_bare};
pub use cluster::Cluster;
pub use conntrackd::Conntrackd;
pub(crate) use conntrackd::configuration as conntrackd_configuration;
pub use node::NodePlan;

/// Interrupt of the ingress at most this long after the first packet.
const COALESCE_NS: u64 = 20_000;

/// Packets per second while sessions are opened: far below what any device loses at.
const OPENING_RATE: f64 = 60_000.0;

/// The same where nobody else needs the generator's core: half of what the slowest device makes of new flows.
const BEGINNING_RATE: f64 = 150_000.0;

/// Times everything that opens a flow is sent.
const OPENING_ATTEMPTS: u32 = 8;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Peer {
    /// `samepath run`, everything on, with two more nodes that hold backups of every session.
    Samepath,
    /// The same, a cluster of one.
    SamepathAlone,
    /// A cluster of one with NAPI on the other core.
    SamepathSplit,
    /// Of the three nodes, one that is not the Owner: its workers tunnel.
    SamepathTunnel,
    /// The same, with `--forwarder xdp`.
    SamepathTunnelXdp,
    /// The dataplane's own rings and loop, the logic taken out.
    Bare,
    /// The kernel's routing.
    Kernel,
    /// The kernel's routing and a stateful nft ruleset.
    Conntrack,
    /// The same, and out through a VXLAN tunnel.
    ConntrackVxlan,
    /// XDP that rewrites and redirects, without a session: the upper limit.
    Redirect,
    /// dpdk-testpmd in io mode over the af_xdp driver, everything on one core.
    Testpmd,
    /// The same with NAPI on the other core.
    TestpmdSplit,
}

impl Peer {
    /// Every peer.
    pub const ALL: [Peer; 12] = [
        Peer::Samepath,
        Peer::SamepathAlone,
        Peer::SamepathSplit,
        Peer::SamepathTunnel,
        Peer::SamepathTunnelXdp,
        Peer::Bare,
        Peer::Kernel,
        Peer::Conntrack,
        Peer::ConntrackVxlan,
        Peer::Redirect,
        Peer::Testpmd,
        Peer::TestpmdSplit,
    ];

    /// Its name in tables, JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Samepath => "samepath",
            Peer::SamepathAlone => "samepath-alone",
            Peer::SamepathSplit => "samepath-split",
            Peer::SamepathTunnel => "samepath-tunnel",
            Peer::SamepathTunnelXdp => "samepath-tunnel-xdp",
            Peer::Bare => "bare-af-xdp",
            Peer::Kernel => "kernel",
            Peer::Conntrack => "conntrack",
            Peer::ConntrackVxlan => "conntrack-vxlan",
            Peer::Redirect => "xdp-redirect",
            Peer::Testpmd => "testpmd",
            Peer::TestpmdSplit => "testpmd-split",
        }
    }

    /// The kernel makes packets of frames, so GRO may work on them.
    fn is_kernel(self) -> bool {
        matches!(self, Peer::Kernel | Peer::Conntrack | Peer::ConntrackVxlan)
    }

    /// Its NAPI runs beside the generator.
    fn is_split(self) -> bool {
        matches!(self, Peer::SamepathSplit | Peer::TestpmdSplit)
    }

    /// Keeps sessions, so that flows have to be opened first.
    pub fn keeps_sessions(self) -> bool {
        self.is_samepath() || matches!(self, Peer::Conntrack | Peer::ConntrackVxlan)
    }

    fn is_samepath(self) -> bool {
        matches!(
            self,
            Peer::Samepath
                | Peer::SamepathAlone
                | Peer::SamepathSplit
                | Peer::SamepathTunnel
                | Peer::SamepathTunnelXdp
        )
    }

    /// How its node is run, if it is samepath.
    pub fn plan(self, flows: u64) -> Option<NodePlan> {
        let plan = NodePlan::new(flows);
        match self {
            Peer::SamepathAlone | Peer::SamepathSplit => Some(plan),
            Peer::Samepath | Peer::SamepathTunnel => Some(plan.in_cluster_of(NODES)),
            Peer::SamepathTunnelXdp => Some(plan.in_cluster_of(NODES).with(&["--forwarder", "xdp"])),
            _ => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Peer::ALL.map(Peer::name).join(", ");
        let found = Peer::ALL.into_iter().find(|peer| peer.name() == text);
        found.ok_or_else(|| format!("`{text}` is no peer: there are {}", names()))
    }
}

/// What keeps a device running; it ends with the drop.
#[derive(Debug)]
enum Running {
    Cluster(Cluster),
    Program(samepath_tests::bed::Service),
    Kernel(kernel::Ruleset),
    Redirect(redirect::Redirect),
}

/// A device under test, ready to forward.
#[derive(Debug)]
pub struct Device {
    peer: Peer,
    running: Running,
    threads: Vec<Thread>,
}

impl Device {
    /// Makes `peer` the device under test, with room for `flows` sessions.
    pub fn start(rig: &Rig, peer: Peer, flows: u64) -> Result<Self> {
        match peer.plan(flows) {
            Some(plan) => Self::start_node(rig, peer, &plan),
            None => Self::start_as(rig, peer, |rig| match peer {
                Peer::Bare => bare::start(rig).map(Running::Program),
                Peer::Conntrack => kernel::Ruleset::stateful(rig).map(Running::Kernel),
                Peer::ConntrackVxlan => kernel::Ruleset::stateful_and_tunnel(rig).map(Running::Kernel),
                Peer::Redirect => redirect::Redirect::start(rig).map(Running::Redirect),
                Peer::Testpmd | Peer::TestpmdSplit => testpmd::start(rig).map(Running::Program),
                _ => Ok(Running::Kernel(kernel::Ruleset::none())),
            }),
        }
    }

    /// A node run as `plan` says, with the other nodes of its cluster.
    pub fn start_node(rig: &Rig, peer: Peer, plan: &NodePlan) -> Result<Self> {
        Self::start_as(rig, peer, |rig| Cluster::start(rig, plan).map(Running::Cluster))
    }

    fn start_as(rig: &Rig, peer: Peer, run: impl FnOnce(&Rig) -> Result<Running>) -> Result<Self> {
        for &receiver in rig.receivers() {
            rig.interface(receiver).set_gro(peer.is_kernel())?;
            rig.interface(receiver).defer_interrupts(COALESCE_NS)?;
        }
        let running = run(rig)?;
        // After the start: a veth has a NAPI context only with an XDP program or GRO.
        for &receiver in rig.receivers() {
            rig.interface(receiver).set_threaded(true)?;
        }
        let mut device = Self { peer, running, threads: Vec::new() };
        device.arrange_threads(rig)?;
        Ok(device)
    }

    /// Puts every thread of the device where it belongs.
    fn arrange_threads(&mut self, rig: &Rig) -> Result<()> {
        let mut napi = Vec::new();
        for receiver in rig.receivers() {
            let threads = rig::kernel_threads(&format!("napi/{receiver}-"))?;
            if threads.is_empty() {
                bail!("{receiver} has no NAPI thread: is threaded NAPI missing in this kernel?");
            }
            napi.extend(threads);
        }
        let split = self.peer.is_split();
        for thread in &napi {
            thread.pin(if split { rig::GENERATOR_CORE } else { DEVICE_CORE })?;
            // Beside the generator, which never sleeps, it must come first.
            thread.schedule(if split { Policy::Fifo } else { Policy::Other })?;
        }
        self.threads = if split { Vec::new() } else { napi };
        if let Some(process) = self.process() {
            for thread in rig::of_process(process)? {
                thread.pin(DEVICE_CORE)?;
                // testpmd never blocks: above NAPI it would starve it.
                if is_worker(&thread) {
                    thread.schedule(Policy::Fifo)?;
                }
                self.threads.push(thread);
            }
        }
        Ok(())
    }

    fn process(&mut self) -> Option<u32> {
        match &mut self.running {
            Running::Cluster(cluster) => Some(cluster.device_mut().service().pid()),
            Running::Program(service) => Some(service.pid()),
            Running::Kernel(_) | Running::Redirect(_) => None,
        }
    }

    /// What it is.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// CPU time it has used, ns.
    pub fn cpu_ns(&self) -> u64 {
        self.threads.iter().map(Thread::cpu_ns).sum()
    }

    /// CPU time of each thread, ns.
    pub fn cpu_by_thread(&self) -> Vec<(String, u64)> {
        self.threads.iter().map(|thread| (thread.name().to_owned(), thread.cpu_ns())).collect()
    }

    /// Packets forwarded, from the counters of its interfaces.
    pub fn forwarded(&self, counters: &Counters) -> u64 {
        match self.peer {
            Peer::Redirect | Peer::SamepathTunnelXdp => counters.taken(Entrance::Both),
            Peer::SamepathTunnel | Peer::ConntrackVxlan => counters.left() + counters.tunnelled(),
            _ => counters.left(),
        }
    }

    /// Its cluster, if it is samepath.
    pub fn cluster(&self) -> Option<&Cluster> {
        match &self.running {
            Running::Cluster(cluster) => Some(cluster),
            Running::Program(_) | Running::Kernel(_) | Running::Redirect(_) => None,
        }
    }

    /// Opens `flows` flows in both directions, so that what follows is established: at another node if the
    /// device shall tunnel, otherwise at the device. Then cuts the cluster link of a device that tunnels.
    pub fn open_flows(&self, rig: &Rig, traffic: Traffic, flows: u64) -> Result<()> {
        if !self.peer.keeps_sessions() {
            return Ok(());
        }
        match self.peer {
            Peer::SamepathTunnel | Peer::SamepathTunnelXdp => {
                self.cluster_of_it()?.open_at(rig, 2, traffic, 0, flows)?;
                rig.cut_cluster_link()
            }
            Peer::Samepath | Peer::SamepathAlone | Peer::SamepathSplit => {
                self.cluster_of_it()?.open_at(rig, 1, traffic, 0, flows)
            }
            _ => {
                Opening::whole(traffic)
                    .send(&rig.into_ingress()?, rig, 0, flows, || kernel::sessions(rig))?;
                if self.peer == Peer::ConntrackVxlan { rig.cut_cluster_link() } else { Ok(()) }
            }
        }
    }

    /// Begins `flows` flows, all that their memory is taken for: one packet each. Only for a device without others on
    /// the generator's core.
    pub fn begin_flows(&self, rig: &Rig, traffic: Traffic, flows: u64) -> Result<()> {
        Opening::first(traffic).send(&rig.into_ingress()?, rig, 0, flows, || self.sessions(rig))
    }

    /// Its cluster, to be asked for its processes or killed.
    pub fn cluster_mut(&mut self) -> Result<&mut Cluster> {
        match &mut self.running {
            Running::Cluster(cluster) => Ok(cluster),
            _ => bail!("{} is not samepath", self.peer),
        }
    }

    fn cluster_of_it(&self) -> Result<&Cluster> {
        self.cluster().with_context(|| format!("{} is not samepath", self.peer))
    }

    /// Sessions it holds.
    pub fn sessions(&self, rig: &Rig) -> Result<u64> {
        match &self.running {
            Running::Cluster(cluster) => Ok(cluster.stats(1)?.sessions.owner),
            Running::Kernel(_) => kernel::sessions(rig),
            Running::Program(_) | Running::Redirect(_) => Ok(0),
        }
    }

    /// Ends it.
    pub fn stop(self, rig: &Rig) -> Result<()> {
        rig.join_cluster_link()?;
        for &receiver in rig.receivers() {
            rig.interface(receiver).set_threaded(false)?;
        }
        match self.running {
            Running::Cluster(cluster) => cluster.stop(),
            Running::Program(service) => {
                drop(service);
                Ok(())
            }
            Running::Kernel(ruleset) => ruleset.remove(rig),
            Running::Redirect(redirect) => {
                drop(redirect);
                Ok(())
            }
        }
    }
}

/// Packets that open flows, and how they are sent.
struct Opening {
    packets: Vec<(Kind, bool)>,
    rate: f64,
    pace: Pace,
}

impl Opening {
    /// All that makes a flow established.
    fn whole(traffic: Traffic) -> Self {
        Self { packets: traffic.opening(), rate: OPENING_RATE, pace: Pace::Bursts }
    }

    /// The first packet of each flow, from a generator that has its core to itself.
    fn first(traffic: Traffic) -> Self {
        Self { packets: vec![traffic.opening()[0]], rate: BEGINNING_RATE, pace: Pace::Spinning }
    }

    /// Sends it until nearly all of the flows are held as `count` sees it: a paced generator may still lose a packet.
    fn send(
        mut self,
        way: &Way,
        rig: &Rig,
        first_flow: u64,
        flows: u64,
        count: impl Fn() -> Result<u64>,
    ) -> Result<()> {
        let (before, mut opened) = (count()?, 0);
        for _ in 0..OPENING_ATTEMPTS {
            for &(kind, reverse) in &self.packets {
                let stream = Stream::once(kind, reverse, flows, self.rate, way).from_flow(first_flow);
                Generator::send(rig, Stream { pace: self.pace, ..stream })?;
                sleep(Duration::from_millis(100));
            }
            opened = count()? - before;
            if opened >= flows * 98 / 100 {
                return Ok(());
            }
            // What asks another node on the generator's core takes as long as that core lets it.
            if opened < flows * 9 / 10 {
                self.rate /= 2.0;
            }
        }
        // What is missing opens with its first packet of the measurement.
        ensure!(
            opened >= flows * 9 / 10,
            "{opened} of {flows} sessions are there after {OPENING_ATTEMPTS} attempts"
        );
        Ok(())
    }
}

/// Threads that move packets and block when there are none, and cannot ask for a policy themselves. The
/// daemon's workers are told by `--sched`.
fn is_worker(thread: &Thread) -> bool {
    thread.name().starts_with(bare::THREAD)
}

/// What flows consist of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traffic {
    /// UDP datagrams.
    Udp,
    /// Segments of established TCP connections.
    Tcp,
}

impl Traffic {
    /// Packets that open a flow: what, and whether from the server.
    fn opening(self) -> Vec<(Kind, bool)> {
        match self {
            Traffic::Udp => vec![(Kind::Udp, false), (Kind::Udp, true)],
            Traffic::Tcp => vec![(Kind::TcpSyn, false), (Kind::TcpSynAck, true), (Kind::TcpAck, false)],
        }
    }

    /// Packets of an open flow.
    pub fn steady(self) -> Kind {
        match self {
            Traffic::Udp => Kind::Udp,
            Traffic::Tcp => Kind::TcpAck,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Traffic::Udp => "udp",
            Traffic::Tcp => "tcp",
        }
    }
}
