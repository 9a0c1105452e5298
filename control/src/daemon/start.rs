//! Starting in order: what can be refused without touching anything first, then the XDP program, the
//! sockets, the workers, and only then packets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use samepath_bpf::{PortConfig, PortRole, Steering, SteeringConfig};
use samepath_dataplane::clock::Clock;
use samepath_dataplane::cluster::view::{Member, View};
use samepath_dataplane::limits::MAX_PORTS;
use samepath_dataplane::mailbox::ToWorker;
use samepath_dataplane::settings::Settings;
use samepath_dataplane::tuning::Tuning;
use samepath_dataplane::wire::flow_hash::FlowHasher;
use samepath_dataplane::worker::Ports;
use samepath_dataplane::xsk::Opened;
use tokio::sync::mpsc;

use super::duty::Duty;
use super::forwarder::Forwarding;
use super::inquiries::Inquiries;
use super::keys::KeysInUse;
use super::policy::InForceHere;
use super::walks::Walks;
use super::{Node, membership, rings, services};
use crate::config::{Config, Forwarder, XdpMode, narrow_link, tunnel_overhead};
use crate::keys::ClusterKeys;
use crate::landlock::Confinement;
use crate::log::Log;
use crate::membership::etcd::Etcd;
use crate::membership::{Membership, MembershipConfig};
use crate::metrics;
use crate::nic::{self, Nic};
use crate::operator::OperatorSocket;
use crate::replicate::{NodeKeys, ReplicateConfig, Replicator};
use crate::routes::{PortLink, RouteMirror};
use crate::stall::{Pulse, StallGuard};
use crate::systemd::SignsOfLife;
use crate::tunnel_keys::TunnelKeys;
use crate::watchdog;
use crate::workers::{Workers, WorkersPlan};

/// Operator requests waiting for the loop.
const REQUESTS: usize = 32;

impl Node {
    pub(super) async fn start(config: Config, log: Log) -> anyhow::Result<Self> {
        crate::capabilities::require()?;
        let clock = Clock::start();
        let keys = ClusterKeys::load(&config.keys, config.node)?;
        let mut nics = nic::find(&config)?;
        let socket = OperatorSocket::bind(&config.control_socket)?;
        let scraped = match config.metrics {
            Some(address) => Some(metrics::bind(address).await?),
            None => None,
        };
        let (replicator, events) = start_replication(&config, &keys, clock)?;
        let links = nics.iter().map(|nic| PortLink { port: nic.port, ifindex: nic.ifindex }).collect();
        let mut mirror = RouteMirror::start(links)?;
        let first = mirror.changed().await;
        nic::fill_links(&mut nics, &first.links)?;

        let seed = random_u64()?;
        let mut steering = load_steering(&config, &mut nics, seed)?;
        steering.set_own_addresses(&first.own_addresses)?;
        nic::spread(&config, &mut nics);
        let opened = rings::open(&config, &nics)?;
        let Opened { workers: rings, registrations, depot, frames, huge_pages, mut warnings } = opened;
        let (data, link) = mtus(&nics);
        warnings.extend(narrow_link(&config, data, link));

        let forwarding = Forwarding::start(config.forwarder, &mut steering, &nics, clock.now())?;
        let settings = Arc::new(settings(&config));
        let policy = InForceHere::start(&config, rings.len())?;
        let peers = membership::peers(&config, &first.routes, (nics.len() - 1) as u8);
        let me = Member { node: config.node, weight: 0 };
        let director_key = keys.director_key();
        let view = View::new(1, config.node, vec![me], peers, config.director_hash, &director_key);
        let view = Arc::new(view);
        let services = Arc::new(services::of(&config, &nics, &first.routes, &first.links));
        let given = watchdog::given_cores();
        // Nothing is opened below, and no thread has been started above.
        let confinement = Confinement::enter(&config);
        let mut workers = Workers::start(WorkersPlan {
            rings,
            ports: ports(&config, &nics),
            hasher: FlowHasher::new(seed),
            view: view.clone(),
            routes: first.routes.clone(),
            settings: settings.clone(),
            policies: policy.for_workers(&settings),
            sessions_max: config.sessions_max,
            cores: cores(&config),
            given,
            sched: config.tuning.sched,
            tuning: Tuning {
                batch: config.tuning.batch,
                idle: config.tuning.idle,
                floods: config.floods,
                icmp: config.icmp_rate,
                detours: config.detours,
            },
            seccomp: config.seccomp,
            clock,
            forwards: forwarding.words(&steering),
        })?;
        workers.tell_all(|| ToWorker::Services(services.clone()));
        for socket in &registrations {
            steering.register_socket(socket.port, socket.queue, socket.fd)?;
        }
        let (sender, requests) = mpsc::channel(REQUESTS);
        if let Some(listener) = scraped {
            tokio::task::spawn_local(metrics::serve(listener, sender.clone()));
        }
        tokio::task::spawn_local(socket.serve(sender));
        let stall = StallGuard::start(workers.counters().to_vec(), config.peer_timeout_ms / 2, clock)?;
        let mut node = Self {
            started: clock.now(),
            membership: Membership::new(membership_config(&config)?),
            tunnel_keys: TunnelKeys::new(config.tunnel_rekey_s * 1000, random_u64()? as u8),
            pulses: workers.counters().iter().map(|_| Pulse::new(clock.now().0)).collect(),
            etcd: start_etcd(&config)?,
            signs_of_life: SignsOfLife::start(stall.shared())?,
            stall,
            frames: u64::from(frames),
            huge_pages,
            warnings,
            director_key,
            nics,
            steering,
            forwarding,
            registrations,
            depot,
            workers,
            mirror,
            routes: first.routes,
            replicator,
            events,
            requests,
            view,
            settings,
            services,
            policy,
            keys: KeysInUse::new(&keys),
            confinement,
            walks: Walks::default(),
            watches: Default::default(),
            followers: Default::default(),
            inquiries: Inquiries::default(),
            duty: Duty::default(),
            refusals: Vec::new(),
            watched: clock.now(),
            ready: false,
            joined: false,
            draining: None,
            apart_since: None,
            offered: clock.now(),
            leaving: false,
            config,
            log,
            clock,
        };
        node.membership.set_policy(node.policy.version());
        node.set_forwarder()?;
        node.keep_resolved();
        Ok(node)
    }
}

fn start_replication(
    config: &Config,
    keys: &ClusterKeys,
    clock: Clock,
) -> anyhow::Result<(Replicator, mpsc::Receiver<crate::replicate::PeerEvent>)> {
    let replicate = ReplicateConfig {
        node: config.node,
        cluster: config.cluster,
        bind: SocketAddr::new(config.cluster_address, config.control_port),
        peers: config.peers.iter().map(|peer| (peer.node, config.control_endpoint(peer))).collect(),
        keys: NodeKeys::from(keys),
        fingerprint: keys.fingerprint().0,
        director_hash: config.director_hash,
        log_capacity: ReplicateConfig::LOG_CAPACITY,
        boot_id: random_u64()?.max(1),
        idle_timeout_ms: ReplicateConfig::IDLE_TIMEOUT_MS,
    };
    Ok(Replicator::start(replicate, clock)?)
}

fn start_etcd(config: &Config) -> anyhow::Result<Option<Etcd>> {
    let endpoints = config.etcd.clone();
    let start = || Etcd::start(endpoints, config.cluster, config.node, config.peer_timeout_ms);
    (!config.etcd.is_empty()).then(start).transpose()
}

fn membership_config(config: &Config) -> anyhow::Result<MembershipConfig> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(MembershipConfig {
        node: config.node,
        peers: config.peers.iter().map(|peer| peer.node).collect(),
        started: since_1970.as_millis() as u64,
        timeout_ms: config.peer_timeout_ms,
        hello_interval_ms: config.hello_interval_ms,
        quorum: config.quorum,
        seed: random_u64()?,
    })
}

fn load_steering(config: &Config, nics: &mut [Nic], seed: u64) -> anyhow::Result<Steering> {
    let mut steering = Steering::load(&SteeringConfig {
        seed,
        on_crash: config.on_crash,
        forwarder: config.forwarder == Forwarder::Xdp,
    })?;
    let peers: Vec<_> = config.peers.iter().map(|peer| peer.address).collect();
    steering.set_peers(&peers)?;
    let pass: Vec<_> = config.pass.iter().map(|rule| (rule.proto, rule.port)).collect();
    steering.set_pass_list(&pass)?;
    for nic in nics {
        let port = PortConfig {
            index: nic.port,
            ifname: nic.name.clone(),
            ifindex: nic.ifindex,
            mac: nic.mac,
            role: nic.role,
        };
        let attached = steering.attach(port, config.xdp_mode, config.replace)?;
        nic.xdp_mode = attached.name().into();
        if nic.xdp_mode == "generic" && config.xdp_mode == XdpMode::BestEffort {
            tracing::warn!(
                "{} runs XDP in generic mode: slow, and packets above the MTU (GSO) are lost; use a driver with native XDP or set --xdp-mode native to refuse",
                nic.name
            );
        }
    }
    Ok(steering)
}

/// Of the data interfaces the largest MTU, and that of the cluster link, bytes.
fn mtus(nics: &[Nic]) -> (u32, u32) {
    let (link, data): (Vec<&Nic>, Vec<&Nic>) = nics.iter().partition(|nic| nic.role == PortRole::ClusterLink);
    let largest = |nics: Vec<&Nic>| nics.iter().map(|nic| nic.mtu).max();
    (largest(data).unwrap_or(0), largest(link).unwrap_or(1500))
}

fn ports(config: &Config, nics: &[Nic]) -> Ports {
    let mut zones = [0; MAX_PORTS];
    let mut queues = [0; MAX_PORTS];
    for nic in nics {
        zones[usize::from(nic.port)] = nic.zone_number;
        queues[usize::from(nic.port)] = nic.queues;
    }
    let link = nics.iter().find(|nic| nic.role == PortRole::ClusterLink);
    let (largest, cluster_link_mtu) = mtus(nics);
    let overhead = tunnel_overhead(config.cluster_address);
    Ports {
        zones,
        queues,
        cluster_link: link.map_or(0, |nic| nic.port),
        cluster_link_mtu,
        mss_clamp: config.mss_clamp.of(largest, cluster_link_mtu.saturating_sub(overhead)),
        hello_interval_ms: config.hello_interval_ms,
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        node: config.node,
        cluster: config.cluster,
        aggregation: config.aggregation,
        tcp_pickup: config.tcp_pickup,
        tcp_loose_window: config.tcp_loose_window,
        timeouts: config.timeouts,
        backup: config.backup,
        former_directors_ms: config.former_directors_ms,
        refresh_ms: config.refresh_s * 1000,
    }
}

/// `--cores`, or the first cores the process may use.
fn cores(config: &Config) -> Vec<usize> {
    if !config.cores.is_empty() {
        return config.cores.clone();
    }
    core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect()
}

fn random_u64() -> anyhow::Result<u64> {
    Ok(u64::from_ne_bytes(random()?))
}

/// Numbers nobody can guess, from the kernel.
pub(super) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context("the kernel's random numbers cannot be read")?;
    Ok(bytes)
}
