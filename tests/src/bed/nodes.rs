//! Starting, stopping and asking the nodes of a bed.

use std::ffi::OsString;
use std::net::IpAddr;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::plan::{self, CLUSTER_ID, Family, NODES};
use super::{Bed, Service};
use crate::cli::{Cli, Session, Stats};
use crate::node::Node;
use crate::wait;

/// How long the nodes may take to see each other as members.
const MEMBERS: Duration = Duration::from_secs(20);

/// Options for tests that count crossings: former Directors are asked for half a second only, see
/// [`Bed::wait_settled`].
pub const SETTLE_SOON: [&str; 2] = ["--former-directors-ms", "500"];

/// Longer than nodes that start together move duty, and former Directors are asked after that ([`SETTLE_SOON`]).
const SETTLED: Duration = Duration::from_secs(4);

/// How long a node may take to end after it has left.
const LEFT: Duration = Duration::from_secs(10);

impl Bed {
    /// All flags of `samepath run` for a node of this bed, each followed by its value. Flags in `extra`
    /// (each followed by its value) take the place of those of the same name.
    pub fn flags(&self, number: u8, extra: &[&str]) -> Vec<OsString> {
        let family = self.shape.cluster_family;
        let mut flags: Vec<OsString> = Vec::new();
        let mut flag = |name: &str, value: OsString| {
            if !extra.contains(&name) {
                flags.extend([name.into(), value]);
            }
        };
        flag("--node-id", number.to_string().into());
        flag("--cluster-id", CLUSTER_ID.to_string().into());
        flag("--data", "inside=inside".into());
        flag("--data", "outside=outside".into());
        flag("--cluster-link", "cluster".into());
        flag("--cluster-address", plan::cluster_address(family, number).to_string().into());
        for peer in (1..=NODES).filter(|&peer| peer != number) {
            flag("--peer", format!("{peer}={}", plan::cluster_address(family, peer)).into());
        }
        flag("--keys", self.keys.clone().into());
        flag("--workers", self.shape.workers.to_string().into());
        flag("--xdp-mode", "native".into());
        flag("--forwarder", self.shape.forwarder.name().into());
        flag("--control-socket", self.socket(number).into());
        flags.extend(extra.iter().map(Into::into));
        flags
    }

    /// Starts a node with [`Bed::flags`] and waits until it is ready.
    pub fn start_node(&mut self, number: u8, extra: &[&str]) -> Result<()> {
        self.launch_node(number, extra)?;
        self.wait_ready(number)
    }

    /// Waits until a launched node is ready.
    pub fn wait_ready(&mut self, number: u8) -> Result<()> {
        self.node_mut(number)?.wait_ready().with_context(|| format!("node {number}"))?;
        self.node_mut(number)?.received_before = Some(self.open_books(number)?);
        Ok(())
    }

    /// Starts a node and does not wait.
    pub fn launch_node(&mut self, number: u8, extra: &[&str]) -> Result<()> {
        self.launch_node_under(number, extra, &[])
    }

    /// [`Bed::launch_node`] by way of a program, for example `["env", "NAME=value"]`, which must become samepath (exec).
    pub fn launch_node_under(&mut self, number: u8, extra: &[&str], under: &[&str]) -> Result<()> {
        self.make_keys()?;
        let service = self.spawn_samepath_under(number, extra, under)?;
        let node = Node::new(service, &self.socket(number))?;
        self.nodes[usize::from(number) - 1] = Some(node);
        Ok(())
    }

    /// Starts all nodes with the same extra flags and waits until each is ready and sees all members.
    pub fn start_nodes(&mut self, extra: &[&str]) -> Result<()> {
        for number in 1..=NODES {
            self.launch_node(number, extra)?;
        }
        for number in 1..=NODES {
            self.wait_ready(number)?;
        }
        self.wait_members(NODES)
    }

    /// Waits until every running node counts `count` live members, all of them agree on who directs how
    /// many buckets, and their workers use that view. Before that two nodes may name different Directors,
    /// and flows that begin then may be granted twice.
    pub fn wait_members(&self, count: u8) -> Result<()> {
        wait::until_true(&format!("all nodes agree on {count} members"), MEMBERS, || {
            let views = self.running().into_iter().map(|number| self.adopted_view(number));
            let views: Vec<_> = views.collect::<Result<_>>()?;
            ensure!(
                views.iter().all(|view| view.len() == usize::from(count) && *view == views[0]),
                "live nodes and their buckets, as each node has them: {views:?}"
            );
            Ok(true)
        })
    }

    /// Waits until Directors decide alone: for some seconds after duty has moved, as it does when a cluster starts,
    /// they ask the former ones about flows they do not know, which is one crossing more. For nodes started with
    /// [`SETTLE_SOON`].
    pub fn wait_settled(&self) -> Result<()> {
        wait::until_true("no former Director is asked any more", SETTLED + MEMBERS, || {
            let running = self.running().into_iter();
            let uptimes =
                running.map(|number| Ok(self.cli(number)?.ask::<Value>("status")?["uptime_s"].as_u64()));
            let uptimes = uptimes.collect::<Result<Vec<_>>>()?;
            ensure!(uptimes.iter().all(|&up| up >= Some(SETTLED.as_secs())), "up for {uptimes:?} s");
            Ok(true)
        })
    }

    /// Starts `samepath run` in a node's namespace without taking charge, for tests that expect it to fail.
    pub fn spawn_samepath(&self, number: u8, extra: &[&str]) -> Result<Service> {
        self.spawn_samepath_under(number, extra, &[])
    }

    /// [`Bed::spawn_samepath`] by way of a program, as in [`Bed::launch_node_under`].
    pub fn spawn_samepath_under(&self, number: u8, extra: &[&str], under: &[&str]) -> Result<Service> {
        let mut command = self.rights.command(self.node_namespace(number))?;
        command.args(under).arg(self.rights.program()).arg("run").args(self.flags(number, extra));
        // The tests' own variables (SAMEPATH_BIN, …) are none of the daemon's.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SAMEPATH_") {
                command.env_remove(name);
            }
        }
        self.start_service(&format!("node{number}"), &mut command)
    }

    /// Path of a node's operator socket.
    pub fn socket(&self, number: u8) -> std::path::PathBuf {
        self.runtime.join(format!("n{number}.sock"))
    }

    /// SIGTERM to a node; how it ended.
    pub fn stop_node(&mut self, number: u8) -> Result<ExitStatus> {
        let mut node = self.take_node(number)?;
        node.stop().with_context(|| format!("node {number}"))
    }

    /// `samepath leave` on a node, which must end it with 0.
    pub fn leave_node(&mut self, number: u8) -> Result<()> {
        self.cli(number)?.run(&["leave"])?;
        let status = self.ended(number)?;
        ensure!(status.success(), "node {number} ended with {status}");
        Ok(())
    }

    /// SIGTERM to all running nodes; each must end with 0.
    pub fn stop_nodes(&mut self) -> Result<()> {
        for number in self.running() {
            let status = self.stop_node(number)?;
            ensure!(status.success(), "node {number} ended with {status}");
        }
        Ok(())
    }

    /// Waits for the end of a node that was told to leave; how it ended.
    pub fn ended(&mut self, number: u8) -> Result<ExitStatus> {
        let mut node = self.take_node(number)?;
        node.service().wait(LEFT)
    }

    /// Number of a node's process.
    pub fn process(&mut self, number: u8) -> Result<u32> {
        Ok(self.node_mut(number)?.service().pid())
    }

    /// SIGKILL to a node.
    pub fn kill_node(&mut self, number: u8) -> Result<()> {
        self.take_node(number)?.kill()
    }

    /// A signal to a node's process.
    pub fn signal_node(&mut self, number: u8, signal: Signal) -> Result<()> {
        self.node_mut(number)?.service().signal(signal)
    }

    /// Numbers of the nodes that were started and not stopped.
    pub fn running(&self) -> Vec<u8> {
        (1..=NODES).filter(|&number| self.nodes[usize::from(number) - 1].is_some()).collect()
    }

    /// `samepath stats` of a node.
    pub fn stats(&self, number: u8) -> Result<Stats> {
        self.cli(number)?.json(&["stats"])
    }

    /// `samepath sessions` of a node.
    pub fn sessions(&self, number: u8) -> Result<Vec<Session>> {
        let mut answer: Value = self.cli(number)?.json(&["sessions"])?;
        Ok(serde_json::from_value(answer["sessions"].take())?)
    }

    /// `samepath status` of a node.
    pub fn status(&self, number: u8) -> Result<Value> {
        self.cli(number)?.json(&["status"])
    }

    /// `samepath members` of a node.
    pub fn members(&self, number: u8) -> Result<Value> {
        self.cli(number)?.json(&["members"])
    }

    /// `samepath aggregation on|off` on all running nodes.
    pub fn set_aggregation(&self, on: bool) -> Result<()> {
        let word = if on { "on" } else { "off" };
        self.running()
            .into_iter()
            .try_for_each(|number| self.cli(number)?.run(&["aggregation", word]).map(drop))
    }

    /// The first pair of client and server address whose Director is `node`, as the nodes say it.
    pub fn director_on(&self, node: u8, family: Family) -> Result<(IpAddr, IpAddr)> {
        let asked = *self.running().first().context("no node runs")?;
        for client in 0..self.shape.addresses {
            for server in 0..self.shape.addresses {
                let pair = (plan::client(family, client), plan::server(family, server));
                if self.director(asked, pair.0, pair.1)? == node {
                    return Ok(pair);
                }
            }
        }
        bail!("none of the bed's address pairs has its Director on node {node}")
    }

    /// The Director of a pair of addresses, as `asked` says it.
    pub fn director(&self, asked: u8, source: IpAddr, destination: IpAddr) -> Result<u8> {
        let pair = [source.to_string(), destination.to_string()];
        let answer: Value = self.cli(asked)?.json(&["director", &pair[0], &pair[1]])?;
        let number = answer["director"].as_u64().context("no director in the answer")?;
        Ok(u8::try_from(number)?)
    }

    /// A running node's command line.
    pub fn cli(&self, number: u8) -> Result<&Cli> {
        let node = self.nodes[usize::from(number) - 1].as_ref();
        Ok(node.with_context(|| format!("node {number} does not run"))?.cli())
    }

    /// See [`Node::received_before`].
    pub(super) fn books(&self, number: u8) -> Result<u64> {
        let node = self.nodes[usize::from(number) - 1].as_ref();
        let opened = node.and_then(|node| node.received_before);
        opened.with_context(|| format!("node {number} never became ready"))
    }

    /// Live nodes with their buckets, as a node's workers have them.
    fn adopted_view(&self, number: u8) -> Result<Vec<(u64, u64)>> {
        let answer = self.members(number)?;
        ensure!(answer["adopted"] == Value::Bool(true), "node {number}'s workers use an older view");
        let members = answer["members"].as_array().context("no members in the answer")?;
        Ok(members
            .iter()
            .filter(|member| member["live"] == Value::Bool(true))
            .filter_map(|member| Some((member["node"].as_u64()?, member["buckets"].as_u64()?)))
            .collect())
    }

    fn node_mut(&mut self, number: u8) -> Result<&mut Node> {
        let node = self.nodes[usize::from(number) - 1].as_mut();
        node.with_context(|| format!("node {number} does not run"))
    }

    fn take_node(&mut self, number: u8) -> Result<Node> {
        let node = self.nodes[usize::from(number) - 1].take();
        node.with_context(|| format!("node {number} does not run"))
    }
}
