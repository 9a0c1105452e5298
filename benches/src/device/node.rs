//! samepath itself.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use samepath_tests::bed::Service;
use samepath_tests::netns::Namespace;
use samepath_tests::node::Node;
use samepath_tests::{artifacts, program};

use crate::rig::{CLUSTER, DEVICE_CORE, GENERATOR_CORE, INGRESS, NODES, Rig, cluster_address};

/// Idle time of UDP flows and of established TCP flows: no session may end while it is measured.
const TIMEOUTS: [&str; 3] = ["udp=900", "udp_stream=900", "tcp_unacknowledged=900"];

/// How a node of the cluster is run.
#[derive(Clone, Debug)]
pub struct NodePlan {
    number: u8,
    nodes: u8,
    sessions: u64,
    peer_timeout_ms: u32,
    extra: Vec<String>,
    /// Flags of one node alone, and its number.
    extra_of: Vec<(u8, String)>,
}

impl NodePlan {
    /// The device under test, alone, with room for `flows` sessions.
    pub fn new(flows: u64) -> Self {
        Self {
            number: 1,
            nodes: 1,
            sessions: (flows * 5 / 4).max(65_536),
            peer_timeout_ms: 60_000,
            extra: Vec::new(),
            extra_of: Vec::new(),
        }
    }

    /// As one of `nodes` nodes.
    pub fn in_cluster_of(self, nodes: u8) -> Self {
        Self { nodes, ..self }
    }

    /// With room for exactly so many sessions.
    pub fn with_room_for(self, sessions: u64) -> Self {
        Self { sessions, ..self }
    }

    /// How many nodes the cluster has.
    pub fn nodes(&self) -> u8 {
        self.nodes
    }

    /// For another node of the same cluster.
    pub fn of_node(&self, number: u8) -> Self {
        Self { number, ..self.clone() }
    }

    /// In which silence means death after `milliseconds`.
    pub fn with_peer_timeout(self, milliseconds: u32) -> Self {
        Self { peer_timeout_ms: milliseconds, ..self }
    }

    /// With more flags.
    pub fn with(mut self, flags: &[&str]) -> Self {
        self.extra.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// With more flags for node `number` alone.
    pub fn with_for(mut self, number: u8, flags: &[&str]) -> Self {
        self.extra_of.extend(flags.iter().map(|&flag| (number, flag.to_owned())));
        self
    }

    /// Core of all its threads.
    fn core(&self) -> usize {
        if self.number == 1 { DEVICE_CORE } else { GENERATOR_CORE }
    }

    fn arguments(&self, rig: &Rig) -> Vec<String> {
        let mut arguments: Vec<String> = Vec::new();
        let mut flag = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        let (inside, outside, cluster) = if self.number == 1 {
            (INGRESS, rig.egress(), CLUSTER)
        } else {
            ("inside", "outside", "cluster")
        };
        flag("--node-id", self.number.to_string());
        flag("--cluster-id", "7001".into());
        flag("--data", format!("inside={inside}"));
        flag("--data", format!("outside={outside}"));
        flag("--cluster-link", cluster.into());
        flag("--cluster-address", cluster_address(self.number).to_string());
        for peer in (1..=self.nodes).filter(|&peer| peer != self.number) {
            flag("--peer", format!("{peer}={}", cluster_address(peer)));
        }
        flag("--keys", rig.runtime().join("keys").display().to_string());
        flag("--workers", "1".into());
        flag("--cores", self.core().to_string());
        // Alone, a node that shares its core with NAPI needs it; the others share theirs with everything.
        flag("--sched", if self.number == 1 { "fifo" } else { "other" }.into());
        // The cluster link is cut while a node tunnels, and it must not be taken for dead meanwhile.
        flag("--peer-timeout-ms", self.peer_timeout_ms.to_string());
        flag("--sessions-max", self.sessions.to_string());
        // The generator's flows are heard from one end only, which counts as half open.
        flag("--half-open-max", "100".into());
        flag("--join-grace-ms", "1000".into());
        flag("--control-socket", self.socket(rig).display().to_string());
        for timeout in TIMEOUTS {
            flag("--timeout", timeout.into());
        }
        arguments.extend(self.extra.iter().cloned());
        let own = self.extra_of.iter().filter(|(number, _)| *number == self.number);
        arguments.extend(own.map(|(_, flag)| flag.clone()));
        arguments
    }

    fn socket(&self, rig: &Rig) -> PathBuf {
        rig.runtime().join(format!("n{}.sock", self.number))
    }
}

/// Makes the keys of a cluster of `nodes` nodes, once per rig.
pub fn keys(rig: &Rig, nodes: u8) -> Result<PathBuf> {
    let folder = rig.runtime().join("keys");
    if folder.exists() {
        return Ok(folder);
    }
    let samepath = artifacts::samepath()?;
    program::run(Command::new(&samepath).args(["keys", "init"]).arg(&folder))?;
    for number in 1..=nodes {
        let mut issue = Command::new(&samepath);
        issue.args(["keys", "issue"]).arg(&folder);
        program::run(issue.args(["--node", &number.to_string()]))?;
    }
    Ok(folder)
}

/// Starts a node in `namespace`, all its threads on its core. It need not be ready.
pub fn launch(rig: &Rig, namespace: &Namespace, plan: &NodePlan) -> Result<Node> {
    keys(rig, NODES)?;
    let mut command = namespace.command("taskset");
    command.args(["-c", &plan.core().to_string()]).arg(artifacts::samepath()?);
    command.arg("run").args(plan.arguments(rig));
    // The bench's own variables (SAMEPATH_BIN) are none of the daemon's.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SAMEPATH_") {
            command.env_remove(name);
        }
    }
    let name = format!("node{}", plan.number);
    let service = Service::start(rig.prefix(), rig.logs(), &name, &mut command)?;
    Node::new(service, &plan.socket(rig))
}
