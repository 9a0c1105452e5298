//! The shell around the machine: one UDP socket, a task per connection, the handle control holds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use quinn::{ClientConfig, Connection, Endpoint, VarInt};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use samepath_dataplane::clock::{Clock, NowMs};
use samepath_dataplane::flow::{FlowKey, Generation, NodeId};
use samepath_dataplane::keyring::PeerKey;
use samepath_dataplane::wire::record::Record;

use super::arrivals::{ArrivalStats, Arrivals, Overruns};
use super::endpoint::{self, Tls};
use super::event::{BulkRoom, PeerEvent, PeerStats};
use super::hello::{Identity, Versions};
use super::limits::{EVENTS, FLUSH_MS, LINGER_MS};
use super::machine::{Machine, Side};
use super::message::Claim;
use super::refusal::{By, Ending, LEAVING, OTHER_KEYS, SUPERSEDED};
use super::{NodeKeys, ReplicateConfig, StartError, accept, dial};

/// Replication with all peers. Dropped without [`Replicator::close`], peers find out by themselves.
#[derive(Debug)]
pub struct Replicator {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    /// Of the port's socket.
    overruns: Overruns,
    /// Aborted when dropped.
    _tasks: JoinSet<()>,
}

/// What the tasks of one replicator share. The lock is never held across a wait.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) identity: Identity,
    /// What dialling takes from the node's keys.
    pub(super) client: ArcSwap<ClientConfig>,
    idle_timeout_ms: u32,
    pub(super) peers: BTreeMap<NodeId, PeerLink>,
    pub(super) arrivals: Arc<Arrivals>,
    clock: Clock,
    machine: Mutex<Machine>,
    /// The machine may have events.
    news: Notify,
    /// Something was acknowledged.
    progress: Notify,
}

/// What wakes the task that sends to one peer, and the connections with it.
#[derive(Debug)]
pub(super) struct PeerLink {
    pub(super) address: SocketAddr,
    /// There may be something to send.
    pub(super) wake: Notify,
    /// The connection leads to a process that is gone.
    pub(super) redial: Notify,
    /// By [`Side`].
    connections: Mutex<[Option<Connection>; 2]>,
}

impl PeerLink {
    /// Ends the connection the peer dialled; it dials again.
    fn end_accepted(&self) {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(accepted) = &connections[Side::Receiving as usize] {
            accepted.close(VarInt::from_u32(SUPERSEDED), OTHER_KEYS);
        }
    }
}

impl Shared {
    pub(super) fn machine(&self) -> MutexGuard<'_, Machine> {
        // A panic elsewhere does not make the machine's state wrong: it has no partial steps.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> NowMs {
        self.clock.now()
    }

    /// To be called after anything that may have made events or acknowledgements.
    pub(super) fn notice(&self) {
        self.news.notify_one();
        self.progress.notify_one();
    }

    /// Remembers the connection in use and closes the one it replaces.
    pub(super) fn adopt(&self, peer: NodeId, side: Side, connection: Connection) {
        let Some(link) = self.peers.get(&peer) else { return };
        let mut connections = link.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = connections[side as usize].replace(connection) {
            old.close(VarInt::from_u32(SUPERSEDED), b"a newer connection replaces this one");
        }
    }

    /// Records why a connection ended.
    pub(super) fn concluded(&self, side: Side, peer: Option<NodeId>, address: SocketAddr, ending: Ending) {
        match (ending, peer) {
            (Ending::Refused(by, reason), _) => {
                tracing::debug!(%address, reason, "connection refused");
                let mut machine = self.machine();
                machine.refused(side, peer, address, (by, reason), self.now());
            }
            (Ending::Leaving, Some(peer)) => self.machine().left(peer),
            (Ending::Leaving | Ending::Lost, _) => {}
        }
        self.notice();
    }

    fn rtt_ms(&self, peer: NodeId) -> Option<f64> {
        let link = self.peers.get(&peer)?;
        let connections = link.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = connections[Side::Sending as usize].as_ref()?;
        Some(connection.rtt().as_secs_f64() * 1000.0)
    }
}

impl Replicator {
    /// Opens the control port and begins to dial and to accept. The receiver gets what peers say;
    /// while it is not read, peers are held back. To be called inside a tokio runtime.
    pub fn start(
        config: ReplicateConfig,
        clock: Clock,
    ) -> Result<(Self, mpsc::Receiver<PeerEvent>), StartError> {
        config.check()?;
        let arrivals = Arc::new(Arrivals::default());
        let Tls { endpoint, client, overruns } = endpoint::open(&config, &arrivals)?;
        let identity = Identity {
            node: config.node,
            cluster: config.cluster,
            director_hash: config.director_hash,
            fingerprint: config.fingerprint,
            boot_id: config.boot_id,
            started: clock.now(),
            versions: Versions::SPOKEN,
        };
        let link = |&(peer, address): &(NodeId, SocketAddr)| {
            let (wake, redial) = (Notify::new(), Notify::new());
            (peer, PeerLink { address, wake, redial, connections: Mutex::default() })
        };
        let shared = Arc::new(Shared {
            identity,
            client: ArcSwap::from_pointee(client),
            idle_timeout_ms: config.idle_timeout_ms,
            peers: config.peers.iter().map(link).collect(),
            arrivals,
            clock,
            machine: Mutex::new(Machine::new(identity, &config.peers, config.log_capacity)),
            news: Notify::new(),
            progress: Notify::new(),
        });
        let (events, receiver) = mpsc::channel(EVENTS);
        let mut tasks = JoinSet::new();
        tasks.spawn(announce(shared.clone(), events.clone()));
        tasks.spawn(accept::serve(shared.clone(), endpoint.clone(), events));
        for &(peer, _) in &config.peers {
            tasks.spawn(dial::keep(shared.clone(), endpoint.clone(), peer));
        }
        Ok((Self { shared, endpoint, overruns, _tasks: tasks }, receiver))
    }

    /// Takes other keys of the same node into use: every connection is made anew under them, one after the
    /// other in both directions, and goes on where the one before it was acknowledged.
    ///
    /// Errors: the keys are another node's or unusable; nothing has changed then.
    pub fn renew_keys(&self, keys: &NodeKeys) -> Result<(), StartError> {
        let Shared { identity, idle_timeout_ms, arrivals, .. } = &*self.shared;
        let (client, server) = endpoint::configs(identity.node, keys, *idle_timeout_ms, arrivals)?;
        self.shared.client.store(Arc::new(client));
        self.endpoint.set_server_config(Some(server));
        for link in self.shared.peers.values() {
            link.redial.notify_one();
            link.end_accepted();
        }
        Ok(())
    }

    /// Sends a change to all peers. Never waits: what a peer has not acknowledged is kept in the
    /// log, and a peer the log has outrun gets a bulk sync.
    pub fn publish(&self, record: &Record) {
        self.publish_all(std::slice::from_ref(record));
    }

    /// As [`Self::publish`], in this order.
    pub fn publish_all(&self, records: &[Record]) {
        let now = self.shared.now();
        let mut machine = self.shared.machine();
        for record in records {
            machine.publish(record, now);
        }
        drop(machine);
        self.wake_all();
    }

    /// A change was lost before it could be published: every peer gets a bulk sync, once for any
    /// number of such calls while one is under way.
    pub fn resync_all(&self) {
        self.shared.machine().resync_all();
        self.wake_all();
    }

    /// Sessions this node owns, in answer to [`PeerEvent::NeedBulk`]. Must be called, together with
    /// [`Self::publish`], in the order the sessions were seen in: a page must not show alive what
    /// has been published as removed.
    pub fn bulk(&self, peer: NodeId, sync: u32, records: &[Record]) -> BulkRoom {
        let room = self.shared.machine().bulk(peer, sync, records);
        self.wake(peer);
        room
    }

    /// Whether the sync wants pages now; after `Full`, [`PeerEvent::BulkMore`] will come.
    pub fn bulk_room(&self, peer: NodeId, sync: u32) -> BulkRoom {
        self.shared.machine().bulk_room(peer, sync)
    }

    /// All sessions were given to [`Self::bulk`]. False if that sync is over.
    pub fn bulk_done(&self, peer: NodeId, sync: u32) -> bool {
        let taken = self.shared.machine().bulk_done(peer, sync);
        self.wake(peer);
        taken
    }

    /// Asks the Owner a claim names whether it still owns the flow. Best effort: not repeated, and
    /// nothing while the peer is away.
    pub fn claim_check(&self, to: NodeId, key: FlowKey, generation: Generation) {
        self.shared.machine().claim_check(to, Claim { key, generation });
        self.wake(to);
    }

    /// Tells a Director that this node does not own the flow it asked about. Best effort.
    pub fn claim_denied(&self, to: NodeId, key: FlowKey, generation: Generation) {
        self.shared.machine().claim_denied(to, Claim { key, generation });
        self.wake(to);
    }

    /// Hands a session this node owns over to a peer. Best effort: whether it was taken, its new Owner's
    /// record tells.
    pub fn hand_over(&self, to: NodeId, record: &Record) {
        self.shared.machine().hand_over(to, record);
        self.wake(to);
    }

    /// Gives a peer a key to speak to this node with in the tunnel, if it is connected.
    pub fn give_key(&self, to: NodeId, key: PeerKey) {
        self.shared.machine().give_key(to, key);
        self.wake(to);
    }

    /// Asks a peer an operator's question; false if it cannot be asked now. [`PeerEvent::Answer`] brings the answer.
    pub fn question(&self, to: NodeId, number: u32, text: &[u8]) -> bool {
        let asked = self.shared.machine().question(to, number, text);
        self.wake(to);
        asked
    }

    /// Answers a peer's question, best effort.
    pub fn answer(&self, to: NodeId, number: u32, text: &[u8]) {
        self.shared.machine().answer(to, number, text);
        self.wake(to);
    }

    /// Every connected peer has acknowledged everything.
    pub fn is_flushed(&self) -> bool {
        self.shared.machine().is_flushed()
    }

    /// Sends a datagram to a peer, if it is connected: best effort.
    pub fn send_datagram(&self, to: NodeId, datagram: Vec<u8>) {
        let Some(link) = self.shared.peers.get(&to) else { return };
        let connections = link.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = &connections[Side::Sending as usize] {
            // Whatever is wrong with the connection, its own task finds out.
            let _ = connection.send_datagram(datagram.into());
        }
    }

    fn wake_all(&self) {
        for peer in self.shared.peers.values() {
            peer.wake.notify_one();
        }
    }

    fn wake(&self, peer: NodeId) {
        if let Some(peer) = self.shared.peers.get(&peer) {
            peer.wake.notify_one();
        }
    }

    /// What is known of each peer, ascending.
    pub fn stats(&self) -> Vec<PeerStats> {
        let mut stats = self.shared.machine().stats(self.shared.now());
        for peer in stats.iter_mut().filter(|peer| peer.connected) {
            peer.rtt_ms = self.shared.rtt_ms(peer.peer);
        }
        stats
    }

    /// What arrived at the control port.
    pub fn arrivals(&self) -> ArrivalStats {
        ArrivalStats { overrun: self.overruns.count(), ..self.shared.arrivals.stats() }
    }

    /// Changes that the connected peer furthest behind has not acknowledged.
    pub fn lag(&self) -> u64 {
        self.shared.machine().lag()
    }

    /// Records kept for peers that have not acknowledged them.
    pub fn log_len(&self) -> usize {
        self.shared.machine().log_len()
    }

    /// Where the control port is open.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Leaves the cluster: waits up to a second until the connected peers have acknowledged what
    /// was published, tells all that this node leaves, closes the port. True if all was acknowledged.
    pub async fn close(self) -> bool {
        let flushed = async {
            while !self.shared.machine().is_flushed() {
                self.shared.progress.notified().await;
            }
        };
        let flushed = timeout(Duration::from_millis(FLUSH_MS), flushed).await.is_ok();
        self.endpoint.close(VarInt::from_u32(LEAVING), b"leaving");
        // The packets that say so are sent by the endpoint's driver; nobody answers them if the
        // peer is gone, so this wait has an end too.
        let _ = timeout(Duration::from_millis(LINGER_MS), self.endpoint.wait_idle()).await;
        flushed
    }
}

/// Carries the machine's own events to the consumer, so that a slow consumer never stops a sender.
async fn announce(shared: Arc<Shared>, events: mpsc::Sender<PeerEvent>) {
    loop {
        let event = shared.machine().poll_event();
        match event {
            Some(event) => {
                if events.send(event).await.is_err() {
                    return;
                }
            }
            None => shared.news.notified().await,
        }
    }
}

/// The ending a refusal by this node means.
pub(super) fn refused_by_us(reason: &impl ToString) -> Ending {
    Ending::Refused(By::Us, reason.to_string())
}
