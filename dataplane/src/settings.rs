//! What an operator may set that the packet path reads. Immutable; a change is a new snapshot.

use crate::flow::NodeId;
use crate::session::timeouts::Timeouts;

/// What a TCP packet without SYN may do when nobody knows its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TcpPickup {
    /// It is dropped.
    #[default]
    Strict,
    /// It begins a session, as after a restart without peers.
    Loose,
}

/// What the packet path reads of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node.
    pub node: NodeId,
    /// Cluster id, the Geneve VNI (24 bits).
    pub cluster: u32,
    /// Whether flows are brought to their Owner; off: every node owns what it sees.
    pub aggregation: bool,
    /// See [`TcpPickup`].
    pub tcp_pickup: TcpPickup,
    /// Accept TCP segments outside the window (they are counted all the same).
    pub tcp_loose_window: bool,
    /// Idle times after which the Owner ends a session.
    pub timeouts: Timeouts,
    /// How long after Director duty has moved the former Director is asked about flows the new one does not know, ms.
    pub former_directors_ms: u64,
}
