//! samepath itself.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use samepath_tests::bed::Service;
use samepath_tests::node::Node;
use samepath_tests::{artifacts, program};

use crate::rig::{CLUSTER, DEVICE_CORE, EGRESS, INGRESS, Rig};

/// Idle time of UDP flows and of established TCP flows: no session may end while it is measured.
const TIMEOUTS: [&str; 3] = ["udp=900", "udp_stream=900", "tcp_unacknowledged=900"];

/// How `samepath run` is called.
#[derive(Clone, Debug)]
pub struct NodePlan {
    sessions: u64,
    extra: Vec<String>,
}

impl NodePlan {
    /// A node with room for `flows` sessions.
    pub fn new(flows: u64) -> Self {
        Self { sessions: (flows * 5 / 4).max(65_536), extra: Vec::new() }
    }

    /// With more flags.
    pub fn with(mut self, flags: &[&str]) -> Self {
        self.extra.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    fn arguments(&self, rig: &Rig, socket: &std::path::Path) -> Vec<String> {
        let mut arguments: Vec<String> = ["--node-id", "1", "--cluster-id", "7001"].map(Into::into).into();
        let mut flag = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        flag("--data", format!("inside={INGRESS}"));
        flag("--data", format!("outside={EGRESS}"));
        flag("--cluster-link", CLUSTER.into());
        flag("--cluster-address", "10.9.0.1".into());
        flag("--keys", rig.runtime().join("keys").display().to_string());
        flag("--workers", "1".into());
        flag("--cores", DEVICE_CORE.to_string());
        flag("--sessions-max", self.sessions.to_string());
        flag("--join-grace-ms", "0".into());
        flag("--control-socket", socket.display().to_string());
        for timeout in TIMEOUTS {
            flag("--timeout", timeout.into());
        }
        arguments.extend(self.extra.iter().cloned());
        arguments
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

/// Starts the node under test and waits until it is ready.
pub fn start(rig: &Rig, plan: &NodePlan) -> Result<Node> {
    keys(rig, 3)?;
    let socket = rig.runtime().join("n1.sock");
    let mut command = rig.device.command(artifacts::samepath()?);
    command.arg("run").args(plan.arguments(rig, &socket));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SAMEPATH_") {
            command.env_remove(name);
        }
    }
    let service = Service::start(rig.prefix(), rig.logs(), "node1", &mut command)?;
    let mut node = Node::new(service, &socket)?;
    node.wait_ready()?;
    Ok(node)
}
