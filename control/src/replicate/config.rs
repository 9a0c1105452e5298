//! What replication is started with, and why it may not start.

use std::net::{IpAddr, SocketAddr};

use samepath_dataplane::cluster::director::DirectorHash;
use samepath_dataplane::flow::NodeId;

use super::limits;
use super::tls::NodeKeys;

/// The control port unless told otherwise.
pub const DEFAULT_PORT: u16 = 6082;

/// See the fields.
#[derive(Debug)]
pub struct ReplicateConfig {
    /// This node.
    pub node: NodeId,
    /// Cluster id, 24 bits.
    pub cluster: u32,
    /// Cluster address and control port; bound for dialling and accepting.
    pub bind: SocketAddr,
    /// The other nodes and where they listen. One that holds `node` itself is refused.
    pub peers: Vec<(NodeId, SocketAddr)>,
    /// This node's TLS material.
    pub keys: NodeKeys,
    /// Fingerprint of the cluster's symmetric keys; peers must have the same.
    pub fingerprint: u64,
    /// Which parts of a flow choose its Director; peers must have the same.
    pub director_hash: DirectorHash,
    /// Changes kept for peers that have not acknowledged them, in records.
    pub log_capacity: usize,
    /// Random and not 0, drawn at every start.
    pub boot_id: u64,
    /// A connection that carries nothing for so long is lost, ms. Keep-alives are sent every
    /// tenth of it, at most [`limits::KEEP_ALIVE_MS`] apart.
    pub idle_timeout_ms: u32,
}

impl ReplicateConfig {
    /// Default of [`Self::log_capacity`].
    pub const LOG_CAPACITY: usize = limits::LOG_RECORDS;
    /// Default of [`Self::idle_timeout_ms`].
    pub const IDLE_TIMEOUT_MS: u32 = 2_000;

    /// Finds what cannot work whatever the network does.
    pub(super) fn check(&self) -> Result<(), StartError> {
        for (at, &(peer, address)) in self.peers.iter().enumerate() {
            if peer == self.node {
                return Err(StartError::PeerIsSelf { node: peer });
            }
            if self.peers[..at].iter().any(|&(other, _)| other == peer) {
                return Err(StartError::PeerTwice { peer });
            }
            if address.is_ipv4() != self.bind.is_ipv4() {
                return Err(StartError::Family { peer, address, own: self.bind.ip() });
            }
        }
        if self.boot_id == 0 {
            return Err(StartError::BootId);
        }
        Ok(())
    }
}

/// Why replication did not start: one sentence with the remedy.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the sentences say it")]
pub enum StartError {
    #[error(
        "control port {} on {} is in use: stop the program that holds it (see `ss -lunp`), or choose another with --control-port",
        address.port(), address.ip()
    )]
    PortInUse { address: SocketAddr },
    #[error(
        "{address} is not an address of this machine: give one that is with --cluster-address, or add it to the cluster link first"
    )]
    NotOurs { address: IpAddr },
    #[error("control port {} on {} cannot be opened: {cause}", address.port(), address.ip())]
    Bind { address: SocketAddr, cause: std::io::Error },
    #[error("{what} cannot be used ({cause}): make new keys with `samepath keys issue`")]
    Keys { what: &'static str, cause: String },
    #[error(
        "the keys belong to {}, but --node-id is {node}: give the --keys directory issued for this node with `samepath keys issue DIR --node {node}`",
        found.map_or("no node".to_owned(), |found| format!("node {found}"))
    )]
    OtherNode { node: NodeId, found: Option<NodeId> },
    #[error("--peer {node}=… is this node itself: list only the other nodes, or correct --node-id")]
    PeerIsSelf { node: NodeId },
    #[error("--peer {peer}=… is given twice: keep one address for each node")]
    PeerTwice { peer: NodeId },
    #[error(
        "--peer {peer}={address} and --cluster-address {own} are of different families: use IPv4 for both or IPv6 for both"
    )]
    Family { peer: NodeId, address: SocketAddr, own: IpAddr },
    #[error("the boot id is 0, which means none: draw another")]
    BootId,
}
