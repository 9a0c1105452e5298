//! Views: who is live, who directs, where tunnels end.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::bail;
use samepath_dataplane::clock::NowMs;
use samepath_dataplane::cluster::view::{Peer, View};
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::mailbox::ToWorker;
use samepath_dataplane::wire::tunnel::TunnelEnds;

use super::Node;
use crate::config::Config;
use crate::routes::Mirrored;

/// A worker that has not turned for so long, ms, hears nobody: five times its longest sleep.
const WORKER_LATE_MS: u64 = 50;

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
            Peer { node: peer.node, address: peer.address, ends, key: None, heard: false }
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
        self.follow_services(&mirrored.links);
        self.keep_resolved();
        let peers = self.with_heard(peers(&self.config, &self.routes, self.cluster_port()));
        let moved = peers.iter().zip(&self.view.peers).any(|(new, old)| new.ends != old.ends);
        if moved {
            self.view = Arc::new(View { peers, ..(*self.view).clone() });
            self.membership.touch();
            self.publish_standing()?;
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
        wanted.extend(self.service_neighbours());
        self.mirror.keep_resolved(wanted);
    }

    fn publish_view(&mut self, view: View) -> anyhow::Result<()> {
        self.view = Arc::new(view);
        self.set_forwarder()?;
        let view = self.view.clone();
        self.workers.tell_all(|| ToWorker::View(view.clone()));
        Ok(())
    }

    /// Follows the peers' Hello messages, datagrams and sync states; publishes a view when something changed.
    pub(super) fn watch_members(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        for peer in self.replicator.stats() {
            if peer.connected {
                self.membership.evidence_mut().is_connected(peer.peer);
                self.refusals.retain(|(node, _)| *node != Some(peer.peer));
            }
            if peer.whole {
                self.membership.evidence_mut().synced(peer.peer);
            }
        }
        self.excuse_stalls(now);
        self.hear();
        self.watch_tunnel_keys();
        self.read_registry(now);
        self.watch_duty();
        self.renew_view()?;
        while let Some((to, datagram)) = self.membership.poll_message() {
            self.replicator.send_datagram(to, datagram);
        }
        let grace_over = now.since(self.started) > self.config.join_grace_ms;
        // A worker takes its memory before its first turn, which is long for millions of sessions.
        let running = self.workers.counters().iter().all(|one| one.view_epoch.get() > 0);
        // Who does not hear a member yet, and said that it takes flows, could displace it.
        let met = self.membership.is_agreed() || grace_over;
        if !self.ready && running && met && self.membership.evidence().is_ready(grace_over) {
            self.ready = true;
            tracing::info!("ready: sessions of all live peers are here");
        }
        self.give_up_if_refused(grace_over)
    }

    /// What the workers heard.
    fn hear(&mut self) {
        let counters = self.workers.counters();
        for peer in &self.config.peers {
            let heard = counters.iter().filter_map(|one| one.last_heard(peer.node)).max();
            if let Some((at, told)) = heard {
                self.membership.handle_hello(peer.node, NowMs(at), told);
                self.tunnel_keys.handle_heard(peer.node, told.key, self.clock.now());
            }
        }
    }

    /// What etcd holds, if there is one. While it is away what was read last stays true.
    fn read_registry(&mut self, now: NowMs) {
        let Some(etcd) = &self.etcd else { return };
        let (registry, reachable) = etcd.exchange(self.membership.own_row());
        if let Some(registry) = registry.filter(|_| reachable) {
            self.membership.handle_registry(&registry, now);
        }
    }

    /// While a worker stands still the Hellos in its rings are not heard: nobody else is to blame.
    fn excuse_stalls(&mut self, now: NowMs) {
        let beats = self.workers.counters().iter().map(|one| one.turns.get());
        let silent = self.pulses.iter_mut().zip(beats).map(|(pulse, beats)| pulse.look(beats, now.0)).max();
        let since = now.since(std::mem::replace(&mut self.watched, now));
        if silent.is_some_and(|ms| ms > WORKER_LATE_MS) {
            self.membership.excuse(since);
        }
    }

    /// The peers, with what is known of whom this node hears and what it speaks to them with.
    fn with_heard(&self, mut peers: Vec<Peer>) -> Vec<Peer> {
        for peer in &mut peers {
            peer.key = self.tunnel_keys.held(peer.node).cloned();
            peer.heard = self.membership.evidence().peer(peer.node).is_some_and(|state| state.heard);
        }
        peers
    }

    /// Judges the members now, and publishes a view if anything changed.
    pub(super) fn renew_view(&mut self) -> anyhow::Result<()> {
        let weight = if self.takes_flows() { self.config.director_weight } else { 0 };
        self.membership.set_weight(weight);
        let now = self.now();
        self.membership.handle_timeout(now);
        self.publish_standing()
    }

    pub(super) fn publish_standing(&mut self) -> anyhow::Result<()> {
        let Some(standing) = self.membership.poll_standing() else { return Ok(()) };
        let numbers = |nodes: &mut dyn Iterator<Item = NodeId>| nodes.map(|node| node.0).collect::<Vec<_>>();
        let before = numbers(&mut self.view.members.iter().map(|member| member.node));
        let after = numbers(&mut standing.members.iter().map(|member| member.node));
        let mut view = View::new(
            standing.epoch,
            self.config.node,
            standing.members,
            self.with_heard(self.view.peers.clone()),
            self.config.director_hash,
            &self.director_key,
        );
        view.quorate = standing.quorate;
        if before != after || view.quorate != self.view.quorate {
            let agreed = numbers(&mut standing.agreed.iter().copied());
            tracing::info!(epoch = view.epoch, members = ?after, ?agreed, quorate = view.quorate, "members changed");
        }
        self.publish_view(view)
    }

    /// This node may become Director and Owner of flows.
    pub(super) fn takes_flows(&self) -> bool {
        self.ready && self.draining.is_none() && !self.duty.links_down && !self.is_stalled()
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stall.vigil().stalled.load(Relaxed)
    }

    /// Why this node takes no flows, a sentence each.
    pub(super) fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        let mut note = |holds: bool, sentence: &str| {
            if holds {
                obstacles.push(sentence.to_owned());
            }
        };
        note(!self.ready, "sessions of live peers have not all arrived yet");
        note(self.draining.is_some(), "it drains: `samepath undrain` takes it back");
        note(
            self.is_stalled(),
            "a worker or the control thread stood still: look for what keeps its core busy",
        );
        note(
            !self.membership.is_agreed(),
            "it does not hear all members, or they do not hear it: compare `samepath members` on all nodes, look at the cluster link",
        );
        note(
            !self.membership.standing().quorate,
            "fewer members than --quorum are live: flows that are not known yet are refused (no_quorum)",
        );
        obstacles.extend(self.duty.warning());
        obstacles
    }

    /// A starting node that every peer it reached refused does not run beside them: two nodes with one
    /// number, another key or another hash would split flows silently.
    fn give_up_if_refused(&mut self, grace_over: bool) -> anyhow::Result<()> {
        self.joined |= self.membership.evidence().peers().iter().any(|peer| peer.connected);
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
