//! Answers to the operator.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use samepath_bpf::PortRole;
use samepath_dataplane::mailbox::ToWorker;
use samepath_dataplane::settings::Settings;
use samepath_dataplane::xsk::{Policy, Registration};

use super::Node;
use super::walks::Errand;
use crate::operator::OperatorRequest;
use crate::operator::api::{
    Aggregation, Count, Interface, Replication, Reply, Request, Rings, Scheduling, Stats, Status,
};
use crate::operator::director;
use crate::operator::drain::Stage;
use crate::replicate::PeerStats;

impl Node {
    /// Answers, or begins to find out.
    pub(super) fn answer(
        &mut self,
        OperatorRequest { request, reply }: OperatorRequest,
    ) -> anyhow::Result<()> {
        let answer = match request {
            Request::Status => Reply::Status(Box::new(self.status())),
            Request::Members => Reply::Members(self.members()),
            Request::Stats => Reply::Stats(Box::new(self.stats())),
            Request::Policy => Reply::Policy(self.policy.reply()),
            Request::PolicyReload => self.reload_policy(),
            Request::Director { src, dst, proto, sport, dport } => {
                director::answer(&self.view, (src, sport), (dst, dport), proto)
                    .map_or_else(Reply::error, Reply::Director)
            }
            Request::Log { filter } => self.log.set(filter.as_deref()).map_or_else(Reply::error, Reply::Log),
            Request::Aggregation { on } => Reply::Aggregation(self.set_aggregation(on)?),
            Request::Drain => self.begin_drain()?.map_or_else(Reply::error, Reply::Drain),
            Request::Undrain => Reply::Drain(self.end_drain()?),
            Request::Leave => self.leave(),
            Request::Sessions { filter } => {
                self.begin_walk(Errand::List { filter, rows: Vec::new(), reply });
                return Ok(());
            }
            Request::Follow(order) => self.follow(&order),
            Request::Watch(order) if order.here => self.watch_here(order)?,
            request @ (Request::Why { .. } | Request::Symmetry { .. } | Request::Watch(_)) => {
                self.begin_inquiry(request, reply)?;
                return Ok(());
            }
            Request::SessionsCount { filter } => {
                self.begin_walk(Errand::Count { filter, count: Count::default(), reply });
                return Ok(());
            }
        };
        // An operator who hung up needs no answer.
        drop(reply.send(answer));
        Ok(())
    }

    fn set_aggregation(&mut self, on: bool) -> anyhow::Result<Aggregation> {
        if self.settings.aggregation != on {
            self.settings = Arc::new(Settings { aggregation: on, ..(*self.settings).clone() });
            self.set_forwarder()?;
            let settings = self.settings.clone();
            self.workers.tell_all(|| ToWorker::Settings(settings.clone()));
            self.publish_policy();
        }
        Ok(Aggregation { node: self.config.node.0, aggregation: on })
    }

    fn leave(&mut self) -> Reply {
        let drain = self.drain();
        if drain.stage != Stage::Drained {
            return Reply::error(
                "the node is not drained: `samepath leave` does both, SIGTERM stops it as it is",
            );
        }
        self.leaving = true;
        Reply::Drain(drain)
    }

    fn status(&self) -> Status {
        Status {
            node: self.config.node.0,
            cluster: self.config.cluster,
            version: env!("CARGO_PKG_VERSION").into(),
            ready: self.takes_flows() && self.membership.is_agreed() && self.view.quorate,
            obstacles: self.obstacles(),
            drain: self.drain(),
            aggregation: self.settings.aggregation,
            policy: self.policy.digest(),
            keys: self.keys.status(),
            forwarder: self.forwarder_now().name().into(),
            epoch: self.view.epoch,
            members: self.view.members.iter().map(|member| member.node.0).collect(),
            workers: self.workers.count(),
            scheduling: self.scheduling(),
            huge_pages: self.huge_pages,
            landlock: self.confinement.name(),
            interfaces: self.interfaces(),
            services: self.service_rows(),
            uptime_s: self.now().since(self.started) / 1000,
            warnings: self.warnings(),
        }
    }

    fn interfaces(&self) -> Vec<Interface> {
        self.nics
            .iter()
            .map(|nic| Interface {
                name: nic.name.clone(),
                zone: nic.zone.clone(),
                role: match nic.role {
                    PortRole::Data => "data".into(),
                    PortRole::ClusterLink => "cluster-link".into(),
                    PortRole::Service => "service".into(),
                },
                ifindex: nic.ifindex,
                queues: nic.queues,
                xdp_mode: nic.xdp_mode.clone(),
                zero_copy: self.sockets(nic.port).all(|socket| socket.zero_copy),
                rss: if nic.queues == 1 { "one-queue".into() } else { nic.rss.name().into() },
                up: self.duty.is_up(&nic.name),
                need_wakeup: self.config.tuning.need_wakeup,
                busy_poll: self.busy_poll(nic.port).into(),
            })
            .collect()
    }

    fn sockets(&self, port: u8) -> impl Iterator<Item = &Registration> {
        self.registrations.iter().filter(move |socket| socket.port == port)
    }

    fn busy_poll(&self, port: u8) -> &'static str {
        match self.config.tuning.busy_poll_usecs {
            0 => "off",
            _ if self.sockets(port).any(Registration::can_busy_poll) => "on",
            _ => "no effect",
        }
    }

    fn scheduling(&self) -> Vec<Scheduling> {
        let schedulings = self.workers.schedulings().iter().enumerate();
        schedulings
            .map(|(worker, scheduling)| Scheduling {
                worker,
                core: self.workers.core(worker),
                policy: match scheduling.policy() {
                    Some(Policy::Fifo(_)) => "fifo".into(),
                    Some(Policy::Other) => "other".into(),
                    None => "gone".into(),
                },
                idle: self.config.tuning.idle.name().into(),
                demoted: scheduling.demoted.load(Relaxed),
            })
            .collect()
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.config.warnings.clone();
        warnings.extend(self.forwarding.state().1.map(Into::into));
        warnings.extend(self.warnings.iter().cloned());
        warnings.extend(self.policy.failed().map(|why| format!("the last policy was not taken: {why}")));
        warnings.extend(self.keys.warnings());
        warnings.extend(self.refusals.iter().map(|(_, reason)| reason.clone()));
        warnings.extend(self.service_warnings());
        for nic in self.nics.iter().filter(|nic| nic.xdp_mode == "generic") {
            warnings.push(format!(
                "{} runs XDP in generic mode: slow, and packets above the MTU are lost",
                nic.name
            ));
        }
        warnings
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for (index, counters) in self.workers.counters().iter().enumerate() {
            stats.add_worker(index, self.workers.core(index), counters);
        }
        for (worker, scheduling) in stats.workers.iter_mut().zip(self.workers.schedulings()) {
            worker.demotions = scheduling.demotions.load(Relaxed);
        }
        stats.frames.total = self.frames;
        stats.frames.free += self.depot.len() as u64;
        stats.services = self.service_counts();
        stats.rings = self.rings();
        stats.control = self.replicator.arrivals().into();
        match self.steering.counters() {
            Ok(outcomes) => {
                stats.xdp = outcomes.into_iter().map(|(name, count)| (name.into(), count)).collect();
            }
            Err(error) => tracing::warn!("{error}"),
        }
        match self.steering.redirected_bytes() {
            Ok(bytes) => stats.add_redirected(bytes),
            Err(error) => tracing::warn!("{error}"),
        }
        let peers = self.replicator.stats();
        stats.sessions.at_risk = match self.settings.aggregation {
            true => at_risk(stats.sessions.owner, stats.dirty, &peers),
            false => stats.sessions.owner,
        };
        stats.replication = peers
            .into_iter()
            .map(|peer| {
                let row = Replication {
                    sent: peer.sent,
                    acked: peer.acked,
                    lag_records: peer.lag_records,
                    lag_ms: peer.lag_ms,
                    dirty: stats.dirty,
                    resent: peer.resent + stats.resent,
                };
                (peer.peer.to_string(), row)
            })
            .collect();
        stats
    }

    fn rings(&self) -> Rings {
        let mut rings = Rings::default();
        for counted in self.registrations.iter().map(|socket| socket.statistics()) {
            rings.rx_dropped += counted.rx_dropped;
            rings.rx_ring_full += counted.rx_ring_full;
            rings.fill_empty += counted.fill_ring_empty;
            rings.tx_invalid += counted.tx_invalid;
        }
        rings
    }
}

/// Of `owned` sessions those that no connected peer has as they are now; changes of one session count each, up to all.
fn at_risk(owned: u64, dirty: u64, peers: &[PeerStats]) -> u64 {
    let in_step = peers.iter().filter(|peer| peer.connected && !peer.syncing);
    in_step.map(|peer| peer.lag_records + dirty).min().map_or(owned, |waiting| waiting.min(owned))
}
