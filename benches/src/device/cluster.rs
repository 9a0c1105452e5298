//! The node under test with the other nodes of its cluster: real daemons on the generator's core.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use samepath_tests::cli::{Cli, Stats};
use samepath_tests::netns::Namespace;
use samepath_tests::node::Node;
use samepath_tests::{program, wait};

use super::node::{NodePlan, launch};
use super::{Opening, Traffic};
use crate::generator::Way;
use crate::rig::{self, Rig};

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

    /// CPU time of node `number` so far, ns: of its workers, and of all its other threads.
    pub fn cpu_ns(&mut self, number: u8) -> Result<(u64, u64)> {
        let process = self.nodes[usize::from(number) - 1].service().pid();
        let (mut workers, mut others) = (0, 0);
        for thread in rig::of_process(process)? {
            let sum = if thread.name().starts_with("sp-worker") { &mut workers } else { &mut others };
            *sum += thread.cpu_ns();
        }
        Ok((workers, others))
    }

    /// SIGKILL to the node under test.
    pub fn kill_device(&mut self) -> Result<()> {
        self.nodes[0].kill()
    }

    /// The namespace of another node.
    pub fn namespace(&self, number: u8) -> &Namespace {
        &self.namespaces[usize::from(number) - 2]
    }

    /// The command line of node `number`.
    pub fn cli(&self, number: u8) -> &Cli {
        self.nodes[usize::from(number) - 1].cli()
    }

    /// Counters of node `number`.
    pub fn stats(&self, number: u8) -> Result<Stats> {
        self.cli(number).ask("stats")
    }

    /// `samepath aggregation on|off` on all nodes.
    pub fn set_aggregation(&self, on: bool) -> Result<()> {
        let word = if on { "on" } else { "off" };
        self.nodes.iter().try_for_each(|node| node.cli().run(&["aggregation", word]).map(drop))
    }

    /// The way into `inside` of node `number`.
    pub fn way_into(&self, rig: &Rig, number: u8) -> Result<Way> {
        match number {
            1 => rig.into_ingress(),
            other => rig.into_node(other, self.namespace(other)),
        }
    }

    /// Opens flows at node `number`, which becomes their Owner, and waits until all others hold backups.
    pub fn open_at(
        &self,
        rig: &Rig,
        number: u8,
        traffic: Traffic,
        first_flow: u64,
        flows: u64,
    ) -> Result<()> {
        let owned = || Ok(self.stats(number)?.sessions.owner);
        Opening::whole(traffic).send(&self.way_into(rig, number)?, rig, first_flow, flows, owned)?;
        self.wait_backed_up()
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
            // A bench may have killed one.
            if node.service().ended()?.is_none() {
                node.stop()?;
            }
        }
        for namespace in &self.namespaces {
            program::run(std::process::Command::new("ip").args(["netns", "delete", namespace.name()]))?;
        }
        Ok(())
    }
}
