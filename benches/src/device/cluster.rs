//! The node under test with the other nodes of its cluster: real daemons on the generator's core.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use samepath_tests::cli::{Cli, Stats};
use samepath_tests::netns::Namespace;
use samepath_tests::node::Node;
use samepath_tests::{program, wait};

use super::node::{NodePlan, launch};
use crate::rig::Rig;

/// How long the nodes may take to see each other.
const MEMBERS: Duration = Duration::from_secs(15);

/// How long backups of all sessions may take to arrive.
const BACKED_UP: Duration = Duration::from_secs(60);

/// Running nodes; the first is the one under test.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    namespaces: Vec<Namespace>,
}

impl Cluster {
    /// Starts all nodes of `plan` and waits until each is ready and sees all others.
    pub fn start(rig: &Rig, plan: &NodePlan) -> Result<Self> {
        let mut cluster = Self { nodes: Vec::new(), namespaces: Vec::new() };
        for number in 2..=plan.nodes() {
            cluster.namespaces.push(rig.add_node(number)?);
        }
        cluster.nodes.push(launch(rig, &rig.device, plan)?);
        for (namespace, number) in cluster.namespaces.iter().zip(2..) {
            cluster.nodes.push(launch(rig, namespace, &plan.of_node(number))?);
        }
        for node in &mut cluster.nodes {
            node.wait_ready()?;
        }
        cluster.wait_members()?;
        Ok(cluster)
    }

    fn wait_members(&self) -> Result<()> {
        for node in &self.nodes {
            wait::until_true("all nodes see each other", MEMBERS, || {
                let answer: serde_json::Value = node.cli().json(&["members"])?;
                let members = answer["members"].as_array().context("no members in the answer")?;
                let live = members.iter().filter(|member| member["live"] == true).count();
                ensure!(live == self.nodes.len(), "a node sees {live} members");
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// The node under test.
    pub fn device_mut(&mut self) -> &mut Node {
        &mut self.nodes[0]
    }

    /// Every node, the one under test first.
    pub fn nodes_mut(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    /// The command line of node `number`.
    pub fn cli(&self, number: u8) -> &Cli {
        self.nodes[usize::from(number) - 1].cli()
    }

    /// Counters of node `number`.
    pub fn stats(&self, number: u8) -> Result<Stats> {
        self.cli(number).ask("stats")
    }

    /// Waits until every change of every node has been acknowledged by every other.
    pub fn wait_backed_up(&self) -> Result<()> {
        wait::until_true("all sessions are backed up", BACKED_UP, || {
            for number in 1..=self.nodes.len() as u8 {
                for (peer, state) in self.stats(number)?.replication {
                    ensure!(
                        state.lag_records == 0 && state.dirty == 0,
                        "node {number} owes node {peer} {} records",
                        state.lag_records + state.dirty
                    );
                }
            }
            Ok(true)
        })
    }

    /// Ends all nodes and removes the namespaces of the others.
    pub fn stop(mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.stop()?;
        }
        for namespace in &self.namespaces {
            program::run(std::process::Command::new("ip").args(["netns", "delete", namespace.name()]))?;
        }
        Ok(())
    }
}
