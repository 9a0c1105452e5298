//! Whole replicators on loopback, each with a small consumer: sessions it owns, backups it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::sync::mpsc;

use samepath_dataplane::clock::Clock;
use samepath_dataplane::cluster::director::DirectorHash;
use samepath_dataplane::flow::NodeId;

use super::record;
use crate::keys::node_name;
use crate::replicate::{BulkRoom, NodeKeys, PeerEvent, PeerStats, ReplicateConfig, Replicator, StartError};

/// Runs a test as the daemon runs: everything on one thread.
pub fn on_one_thread(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// A CA and the keys it issues.
pub struct Ca {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self { certificate: params.self_signed(&key).unwrap(), key }
    }

    pub fn keys(&self, node: u16) -> NodeKeys {
        self.keys_until(node, 2100)
    }

    pub fn keys_until(&self, node: u16, year: i32) -> NodeKeys {
        let mut params = CertificateParams::new(vec![node_name(NodeId(node))]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.certificate, &self.key).unwrap();
        NodeKeys {
            cas: vec![self.certificate.der().clone()],
            node_cert_der: certificate.der().clone(),
            node_key_der: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        }
    }
}

/// Loopback addresses of one test.
#[derive(Clone, Copy)]
pub struct Net(u16);

impl Net {
    /// Other tests, and other runs on the same machine, have others.
    pub fn new() -> Self {
        static NETS: AtomicU16 = AtomicU16::new(0);
        let run = (std::process::id() as u16).wrapping_mul(64);
        Self(run.wrapping_add(NETS.fetch_add(1, Ordering::Relaxed)))
    }

    pub fn address(self, node: u16) -> SocketAddr {
        let [high, low] = self.0.to_be_bytes();
        (IpAddr::from([127, high, low, node as u8]), 6082).into()
    }

    /// What `node` of `nodes` is started with.
    pub fn config(self, ca: &Ca, node: u16, nodes: &[u16]) -> ReplicateConfig {
        static BOOTS: AtomicU64 = AtomicU64::new(1);
        let others = nodes.iter().filter(|&&other| other != node);
        ReplicateConfig {
            node: NodeId(node),
            cluster: 7,
            bind: self.address(node),
            peers: others.map(|&other| (NodeId(other), self.address(other))).collect(),
            keys: ca.keys(node),
            fingerprint: 0xf19e,
            director_hash: DirectorHash::IpPair,
            log_capacity: ReplicateConfig::LOG_CAPACITY,
            boot_id: BOOTS.fetch_add(1, Ordering::Relaxed),
            idle_timeout_ms: ReplicateConfig::IDLE_TIMEOUT_MS,
        }
    }
}

/// A replicator and its consumer.
pub struct Node {
    pub replicator: Replicator,
    pub events: mpsc::Receiver<PeerEvent>,
    /// Sessions owned: flow → version.
    pub owned: BTreeMap<u16, u32>,
    /// Sessions of peers: (owner, flow) → (version, mark).
    backups: BTreeMap<(NodeId, u16), (u32, u16)>,
    /// Changes and pages in the order they came: owner, flow, version.
    pub history: Vec<(NodeId, u16, u32)>,
    /// All other events.
    pub seen: Vec<PeerEvent>,
    /// Bulk syncs wanted: peer, sync, next flow; and whether there is room.
    walks: Vec<(NodeId, u32, u16, bool)>,
    /// Peers whose bulk sync is complete.
    pub synced: BTreeSet<NodeId>,
}

impl Node {
    pub fn start(config: ReplicateConfig) -> Self {
        Self::try_start(config).unwrap()
    }

    pub fn try_start(config: ReplicateConfig) -> Result<Self, StartError> {
        let (replicator, events) = Replicator::start(config, Clock::start())?;
        Ok(Self {
            replicator,
            events,
            owned: BTreeMap::new(),
            backups: BTreeMap::new(),
            history: Vec::new(),
            seen: Vec::new(),
            walks: Vec::new(),
            synced: BTreeSet::new(),
        })
    }

    /// Starts where a node has just stopped: its socket closes a moment later.
    pub async fn restart(config: impl Fn() -> ReplicateConfig) -> Self {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match Self::try_start(config()) {
                Err(StartError::PortInUse { .. }) if Instant::now() < deadline => {
                    tokio::task::yield_now().await;
                }
                result => return result.unwrap(),
            }
        }
    }

    pub fn put(&mut self, flow: u16, version: u32) {
        self.owned.insert(flow, version);
        self.replicator.publish(&record(flow, version));
    }

    pub fn remove(&mut self, flow: u16) {
        if let Some(version) = self.owned.remove(&flow) {
            let mut end = record(flow, version + 1);
            end.remove = true;
            self.replicator.publish(&end);
        }
    }

    /// Does what a consumer does with the events there are.
    pub fn work(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
        self.walk();
    }

    fn take(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Records { from, mark, records } => {
                for record in records {
                    let flow = record.key.lo_port;
                    self.history.push((from, flow, record.version));
                    if record.remove {
                        self.backups.remove(&(from, flow));
                    } else {
                        self.backups.insert((from, flow), (record.version, mark));
                    }
                }
                return;
            }
            PeerEvent::BulkEnd { from, mark } => {
                self.backups.retain(|&(owner, _), &mut (_, of)| owner != from || of == mark);
                self.synced.insert(from);
            }
            PeerEvent::BulkBegin { from, .. } => drop(self.synced.remove(&from)),
            PeerEvent::NeedBulk { peer, sync } => {
                self.walks.retain(|&(other, ..)| other != peer);
                self.walks.push((peer, sync, 0, true));
            }
            PeerEvent::BulkMore { peer, sync } => {
                for walk in &mut self.walks {
                    walk.3 |= (walk.0, walk.1) == (peer, sync);
                }
            }
            _ => {}
        }
        self.seen.push(event);
    }

    /// Pages for every peer that wants some.
    fn walk(&mut self) {
        let Self { walks, owned, replicator, .. } = self;
        walks.retain_mut(|(peer, sync, from, room)| {
            while *room {
                let page: Vec<_> = owned.range(*from..).take(256).collect();
                let records: Vec<_> = page.iter().map(|&(&flow, &version)| record(flow, version)).collect();
                let Some(&(&last, _)) = page.last() else {
                    replicator.bulk_done(*peer, *sync);
                    return false;
                };
                *from = last + 1;
                match replicator.bulk(*peer, *sync, &records) {
                    BulkRoom::More => {}
                    BulkRoom::Full => *room = false,
                    BulkRoom::Over => return false,
                }
            }
            true
        });
    }

    /// Backups of sessions `owner` has: flow → version.
    pub fn backups_of(&self, owner: u16) -> BTreeMap<u16, u32> {
        let of = self.backups.iter().filter(|((from, _), _)| *from == NodeId(owner));
        of.map(|(&(_, flow), &(version, _))| (flow, version)).collect()
    }

    /// Backups of sessions of any Owner.
    pub fn count_backups(&self) -> usize {
        self.backups.len()
    }

    pub fn stats(&self, peer: u16) -> PeerStats {
        let stats = self.replicator.stats();
        stats.into_iter().find(|stats| stats.peer == NodeId(peer)).unwrap()
    }

    /// Every peer's sessions are known here and this node's there.
    pub fn is_whole(&self) -> bool {
        let whole = |stats: &PeerStats| stats.connected && stats.whole && !stats.syncing;
        self.replicator.stats().iter().all(whole)
            && self.replicator.stats().iter().all(|stats| self.synced.contains(&stats.peer))
    }

    /// Reasons told so far.
    pub fn refusals(&self) -> Vec<&PeerEvent> {
        self.seen.iter().filter(|event| matches!(event, PeerEvent::Refused { .. })).collect()
    }
}

/// Lets the nodes work until `done`; fails after 20 s with what they saw.
pub async fn until<const N: usize>(
    what: &str,
    nodes: &mut [&mut Node; N],
    done: impl Fn(&[&mut Node; N]) -> bool,
) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        for node in nodes.iter_mut() {
            node.work();
        }
        if done(nodes) {
            return;
        }
        if Instant::now() > deadline {
            let seen: Vec<_> = nodes.iter().map(|node| (&node.seen, node.replicator.stats())).collect();
            panic!("waited in vain for: {what}; seen {seen:#?}");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
