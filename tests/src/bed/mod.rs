//! A whole cluster in network namespaces: client, two routers, three nodes, cluster switch, server.

mod build;
mod conservation;
mod keys;
mod nodes;
mod paths;
pub mod plan;
mod replication;
mod rights;
pub mod service_port;
mod services;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use anyhow::{Context, Result, bail};

use crate::netns::Namespace;
use crate::node::Node;
use crate::{artifacts, interrupt, ledger};

use rights::Rights;

pub use conservation::Account;
pub use nodes::SETTLE_SOON;
pub use rights::{USER, Unit, program_for_all};
pub use service_port::{Kind, SERVICE_PORT};
pub use services::Service;

/// What may differ from bed to bed.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Queues of every interface.
    pub queues: u32,
    /// Addresses of the client, and of the server, in each family.
    pub addresses: u8,
    /// Workers of every node.
    pub workers: u32,
    /// IP version of the cluster link's tunnel and control connections.
    pub cluster_family: plan::Family,
    /// `--forwarder` of every node; with `xdp` the cluster switch takes redirected frames.
    pub forwarder: Forwarder,
}

/// Who tunnels packets of established flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forwarder {
    /// The XDP program.
    Xdp,
    /// The workers.
    Worker,
}

impl Forwarder {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Xdp, Self::Worker];

    /// The value of `--forwarder`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Worker => "worker",
        }
    }
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            queues: 1,
            addresses: 16,
            workers: 1,
            cluster_family: plan::Family::V4,
            forwarder: Forwarder::Worker,
        }
    }
}

/// The namespaces of a bed.
#[derive(Debug)]
struct Namespaces {
    client: Namespace,
    router_a: Namespace,
    router_b: Namespace,
    nodes: Vec<Namespace>,
    switch: Namespace,
    server: Namespace,
}

impl Namespaces {
    fn node(&self, number: u8) -> &Namespace {
        &self.nodes[usize::from(number) - 1]
    }

    fn all(&self) -> impl Iterator<Item = &Namespace> {
        [&self.client, &self.router_a, &self.router_b, &self.switch, &self.server]
            .into_iter()
            .chain(&self.nodes)
    }

    /// Every interface of the drawing, with its namespace.
    fn interfaces(&self) -> Vec<(&Namespace, String)> {
        let mut all = vec![
            (&self.client, String::from("eth0")),
            (&self.server, String::from("eth0")),
            (&self.router_a, String::from("client")),
            (&self.router_b, String::from("server")),
        ];
        for number in 1..=plan::NODES {
            for place in [&self.router_a, &self.router_b, &self.switch] {
                all.push((place, format!("n{number}")));
            }
            for interface in ["inside", "outside", "cluster"] {
                all.push((self.node(number), String::from(interface)));
            }
        }
        all
    }
}

/// A bed. Dropping it stops its processes and removes its namespaces.
#[derive(Debug)]
pub struct Bed {
    prefix: String,
    shape: Shape,
    namespaces: Namespaces,
    nodes: Vec<Option<Node>>,
    rights: Rights,
    keys: PathBuf,
    runtime: PathBuf,
    logs: PathBuf,
}

impl Bed {
    /// Builds a bed with forward path through node 1 and return path through node 3; no node runs yet.
    /// Needs root. Beds that died without cleaning up are removed first.
    pub fn new(name: &str, shape: Shape) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            bail!("the test bed makes network namespaces: run it as root, for example with sudo");
        }
        interrupt::undo_beds_on_signals()?;
        ledger::sweep_stale()?;
        let prefix = format!("sp{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let runtime = Path::new("/tmp").join(format!("samepath-bed-{prefix}"));
        let logs = artifacts::target()?.join("bed").join(name);
        ledger::open(&prefix)?;
        ledger::note_folder(&prefix, &runtime)?;
        let undo_on_error = UndoOnError { prefix: &prefix };
        for folder in [&runtime, &logs] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {folder:?}"))?;
        }
        let rights = Rights::prepare(&prefix, &runtime)?;
        let namespaces = build::build(&prefix, &shape)?;
        std::mem::forget(undo_on_error);
        let bed = Self {
            shape,
            namespaces,
            nodes: (0..plan::NODES).map(|_| None).collect(),
            rights,
            keys: runtime.join("keys"),
            runtime,
            logs,
            prefix,
        };
        bed.forward_via(1)?;
        bed.return_via(3)?;
        Ok(bed)
    }

    /// What this bed was built with.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Prefix of its namespaces' names.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Folder for logs and captures, under target/.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Folder for sockets, keys and scratch files; goes with the bed.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// The client's namespace.
    pub fn client(&self) -> &Namespace {
        &self.namespaces.client
    }

    /// The server's namespace.
    pub fn server(&self) -> &Namespace {
        &self.namespaces.server
    }

    /// The client-side router's namespace.
    pub fn router_a(&self) -> &Namespace {
        &self.namespaces.router_a
    }

    /// The server-side router's namespace.
    pub fn router_b(&self) -> &Namespace {
        &self.namespaces.router_b
    }

    /// The cluster switch's namespace; its ports are called like the nodes.
    pub fn switch(&self) -> &Namespace {
        &self.namespaces.switch
    }

    /// A node's namespace.
    pub fn node_namespace(&self, number: u8) -> &Namespace {
        self.namespaces.node(number)
    }

    /// Stops everything and removes it; an error names what is left.
    pub fn remove(mut self) -> Result<()> {
        self.nodes.clear();
        ledger::undo(&self.prefix)?;
        let left = ledger::namespaces(&self.prefix);
        if !left.is_empty() {
            bail!("namespaces left behind: {left:?}");
        }
        Ok(())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.nodes.clear();
        if let Err(error) = ledger::undo(&self.prefix) {
            eprintln!("{error:#}");
        }
    }
}

/// Removes a half-built bed.
struct UndoOnError<'a> {
    prefix: &'a str,
}

impl Drop for UndoOnError<'_> {
    fn drop(&mut self) {
        if let Err(error) = ledger::undo(self.prefix) {
            eprintln!("{error:#}");
        }
    }
}
