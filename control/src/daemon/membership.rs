//! Views: who is live, who directs, where tunnels end.

use std::sync::Arc;

use anyhow::bail;
use samepath_dataplane::cluster::view::{Peer, View};
use samepath_dataplane::mailbox::ToWorker;
use samepath_dataplane::wire::tunnel::TunnelEnds;

use super::Node;
use crate::config::Config;
use crate::routes::Mirrored;

/// The configured peers with their tunnel ends as the routes have them now.
pub(super) fn peers(
    config: &Config,
    routes: &samepath_dataplane::route::Routes,
    cluster_port: u8,
) -> Vec<Peer> {
    config
        .peers
        .iter()
        .map(|peer| {
            let macs = routes.tunnel_next_hop(cluster_port, peer.address);
            let ends = macs.map(|(source_mac, destination_mac)| TunnelEnds {
                source_mac,
                destination_mac,
                source: config.cluster_address,
                destination: peer.address,
            });
            Peer { node: peer.node, address: peer.address, ends, heard: false }
        })
        .collect()
}

impl Node {
    /// Takes new routes: workers get them, tunnel ends and own addresses follow.
    pub(super) fn take_routes(&mut self, mirrored: Mirrored) -> anyhow::Result<()> {
        self.steering.set_own_addresses(&mirrored.own_addresses)?;
        self.observe_links(&mirrored.links);
        self.routes = mirrored.routes;
        let routes = self.routes.clone();
        self.workers.tell_all(|| ToWorker::Routes(routes.clone()));
        self.keep_resolved();
        let peers = self.with_heard(peers(&self.config, &self.routes, self.cluster_port()));
        let moved = peers.iter().zip(&self.view.peers).any(|(new, old)| new.ends != old.ends);
        if moved {
            let view = View { epoch: self.view.epoch + 1, peers, ..(*self.view).clone() };
            self.publish_view(view)?;
        }
        Ok(())
    }

    pub(super) fn cluster_port(&self) -> u8 {
        self.nics.last().map_or(0, |nic| nic.port)
    }

    /// Gateways and peers are resolved before they are needed.
    pub(super) fn keep_resolved(&mut self) {
        let mut wanted = self.routes.gateways();
        wanted.extend(self.config.peers.iter().filter_map(|peer| self.routes.next_hop(peer.address, 0)));
        self.mirror.keep_resolved(wanted);
    }

    fn publish_view(&mut self, view: View) -> anyhow::Result<()> {
        self.view = Arc::new(view);
        self.set_forwarder()?;
        let view = self.view.clone();
        self.workers.tell_all(|| ToWorker::View(view.clone()));
        Ok(())
    }

    /// Follows the peers' Hello messages and sync states; publishes a view when something changed.
    pub(super) fn watch_members(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        for peer in self.replicator.stats() {
            if peer.connected {
                self.liveness.is_connected(peer.peer);
                self.refusals.retain(|(node, _)| *node != Some(peer.peer));
            }
            if peer.whole {
                self.liveness.synced(peer.peer);
            }
        }
        let counters = self.workers.counters().to_vec();
        let mut changed = self.liveness.observe(counters.iter().map(AsRef::as_ref), now);
        let grace_over = now.since(self.started) > self.config.join_grace_ms;
        changed |= self.watch_duty();
        if !self.ready && self.liveness.is_ready(grace_over) {
            self.ready = true;
            changed = true;
            tracing::info!("ready: sessions of all live peers are here");
        }
        if changed {
            self.renew_view()?;
        }
        self.give_up_if_refused(grace_over)
    }

    /// The peers, with what is known of whom this node hears.
    fn with_heard(&self, mut peers: Vec<Peer>) -> Vec<Peer> {
        for peer in &mut peers {
            peer.heard = self.liveness.peer(peer.node).is_some_and(|state| state.heard);
        }
        peers
    }

    pub(super) fn renew_view(&mut self) -> anyhow::Result<()> {
        let weight = if self.takes_flows() { self.config.director_weight } else { 0 };
        let members = self.liveness.members(self.config.node, weight);
        let before: Vec<_> = self.view.members.iter().map(|member| member.node).collect();
        let view = View::new(
            self.view.epoch + 1,
            self.config.node,
            members,
            self.with_heard(self.view.peers.clone()),
            self.config.director_hash,
            &self.director_key,
        );
        let after: Vec<_> = view.members.iter().map(|member| member.node).collect();
        if before != after {
            tracing::info!(epoch = view.epoch, members = ?after.iter().map(|node| node.0).collect::<Vec<_>>(), "members changed");
        }
        self.publish_view(view)
    }

    /// This node may become Director and Owner of flows.
    pub(super) fn takes_flows(&self) -> bool {
        self.ready && self.draining.is_none() && !self.duty.links_down
    }

    /// A starting node that every peer it reached refused does not run beside them: two nodes with one
    /// number, another key or another hash would split flows silently.
    fn give_up_if_refused(&mut self, grace_over: bool) -> anyhow::Result<()> {
        self.joined |= self.liveness.peers().iter().any(|peer| peer.connected);
        if self.joined || !grace_over {
            return Ok(());
        }
        if let Some((_, reason)) = self.refusals.first() {
            bail!("{reason}");
        }
        // Alone, but nobody objected.
        self.joined = true;
        Ok(())
    }
}
