//! Devices under test: samepath, and what somebody would take instead of it.

mod bare;
mod cluster;
mod kernel;
mod node;
mod redirect;
mod testpmd;

use std::fmt;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::generator::{Generator, Kind, Stream};
use crate::rig::{self, Counters, DEVICE_CORE, INGRESS, NODES, Policy, Rig, Thread};

pub use bare::{COMMAND as FORWARD_BARE, forward as forward_bare};
pub use cluster::Cluster;
pub use node::NodePlan;

/// Interrupt of the ingress at most this long after the first packet.
const COALESCE_NS: u64 = 20_000;

/// Packets per second while sessions are opened: far below what any device loses at.
const OPENING_RATE: f64 = 250_000.0;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Peer {
    /// `samepath run`, everything on, with two more nodes that hold backups of every session.
    Samepath,
    /// The same, a cluster of one.
    SamepathAlone,
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
    pub const ALL: [Peer; 9] = [
        Peer::Samepath,
        Peer::SamepathAlone,
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

    /// Keeps sessions, so that flows have to be opened first.
    pub fn keeps_sessions(self) -> bool {
        matches!(self, Peer::Samepath | Peer::SamepathAlone | Peer::Conntrack | Peer::ConntrackVxlan)
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
        let ingress = rig.interface(INGRESS);
        ingress.set_gro(peer.is_kernel())?;
        ingress.defer_interrupts(COALESCE_NS)?;
        let running = match peer {
            Peer::Samepath => {
                Running::Cluster(Cluster::start(rig, &NodePlan::new(flows).in_cluster_of(NODES))?)
            }
            Peer::SamepathAlone => Running::Cluster(Cluster::start(rig, &NodePlan::new(flows))?),
            Peer::Bare => Running::Program(bare::start(rig)?),
            Peer::Kernel => Running::Kernel(kernel::Ruleset::none()),
            Peer::Conntrack => Running::Kernel(kernel::Ruleset::stateful(rig)?),
            Peer::ConntrackVxlan => Running::Kernel(kernel::Ruleset::stateful_and_tunnel(rig)?),
            Peer::Redirect => Running::Redirect(redirect::Redirect::start(rig)?),
            Peer::Testpmd | Peer::TestpmdSplit => Running::Program(testpmd::start(rig)?),
        };
        // After the start: a veth has a NAPI context only with an XDP program or GRO.
        ingress.set_threaded(true)?;
        let mut device = Self { peer, running, threads: Vec::new() };
        device.arrange_threads()?;
        Ok(device)
    }

    /// Puts every thread of the device where it belongs.
    fn arrange_threads(&mut self) -> Result<()> {
        let napi = rig::kernel_threads(&format!("napi/{INGRESS}-"))?;
        if napi.is_empty() {
            bail!("{INGRESS} has no NAPI thread: is threaded NAPI missing in this kernel?");
        }
        let split = self.peer == Peer::TestpmdSplit;
        for thread in &napi {
            thread.pin(if split { rig::GENERATOR_CORE } else { DEVICE_CORE })?;
            thread.schedule(Policy::Other)?;
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
            Peer::Redirect => counters.taken(),
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

    /// Opens `flows` flows in both directions, so that what follows is established; repeated until the
    /// device holds nearly all of them, because a paced generator may still lose a packet.
    pub fn open_flows(&self, rig: &Rig, traffic: Traffic, flows: u64) -> Result<()> {
        if !self.peer.keeps_sessions() {
            return Ok(());
        }
        for _ in 0..3 {
            for (kind, reverse) in traffic.opening() {
                Generator::send(rig, Stream::once(kind, reverse, flows, OPENING_RATE))?;
                sleep(Duration::from_millis(50));
            }
            if self.sessions(rig)? >= flows * 98 / 100 {
                return self.cluster().map_or(Ok(()), Cluster::wait_backed_up);
            }
        }
        bail!("{} holds {} of {flows} sessions after three attempts", self.peer, self.sessions(rig)?)
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
        rig.interface(INGRESS).set_threaded(false)?;
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

/// Threads that move packets and block when there are none.
fn is_worker(thread: &Thread) -> bool {
    thread.name().starts_with("sp-worker") || thread.name().starts_with(bare::THREAD)
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
