//! What replication tells its consumer, and what it shows of each peer.

use std::net::SocketAddr;

use samepath_dataplane::flow::NodeId;
use samepath_dataplane::keyring::PeerKey;
use samepath_dataplane::wire::record::Record;

use super::message::Claim;
use super::refusal::By;

/// Something the consumer must know. Those with records come in the order the peer sent them.
#[derive(Clone, PartialEq, Debug)]
pub enum PeerEvent {
    /// This node's records now reach the peer.
    Connected {
        /// The peer.
        peer: NodeId,
        /// Its process.
        boot_id: u64,
    },
    /// They no longer do. Attempts to connect go on.
    Lost {
        /// The peer.
        peer: NodeId,
    },
    /// The peer and this node may not talk; told once per reason. Attempts to connect go on.
    Refused {
        /// The peer, where it could be told.
        peer: Option<NodeId>,
        /// The other end.
        address: SocketAddr,
        /// One sentence with the remedy.
        reason: String,
        /// Who found fault.
        by: By,
    },
    /// Changes at `from`, or a page of its bulk sync, in order. At most a frame's worth.
    Records {
        /// Their sender.
        from: NodeId,
        /// The present bulk-sync mark of `from`; never 0.
        mark: u16,
        /// The records.
        records: Vec<Record>,
    },
    /// A bulk sync of `from` begins; what follows carries `mark`. An unfinished one is void.
    BulkBegin {
        /// Whose sessions come.
        from: NodeId,
        /// Counts the syncs from this peer, chosen here; never 0.
        mark: u16,
    },
    /// The bulk sync is complete: backups of `from` without `mark` are stale.
    BulkEnd {
        /// Whose sessions came.
        from: NodeId,
        /// As in the beginning.
        mark: u16,
    },
    /// The peer needs all sessions this node owns: walk them, call `bulk` and at last `bulk_done`.
    /// A walk for an earlier `sync` of this peer is void.
    NeedBulk {
        /// The peer.
        peer: NodeId,
        /// To be given to `bulk` and `bulk_done`.
        sync: u32,
    },
    /// There is room for further pages after `bulk` said there was none.
    BulkMore {
        /// The peer.
        peer: NodeId,
        /// The sync.
        sync: u32,
    },
    /// A Director asks whether this node still owns these flows.
    ClaimChecks {
        /// The Director.
        from: NodeId,
        /// The flows.
        claims: Vec<Claim>,
    },
    /// The Owner these claims name does not know the flows.
    ClaimsDenied {
        /// The Owner that is none.
        from: NodeId,
        /// The flows.
        claims: Vec<Claim>,
    },
    /// The peer runs again and has lost what it owned before. Told before anything it says now.
    Restarted {
        /// The peer.
        from: NodeId,
    },
    /// The peer drains: this node shall own these sessions.
    HandOver {
        /// Their Owner until now.
        from: NodeId,
        /// The present bulk-sync mark of `from`.
        mark: u16,
        /// The sessions.
        records: Vec<Record>,
    },
    /// The peer gives this node a key to speak to it with in the tunnel.
    TunnelKey {
        /// The peer.
        from: NodeId,
        /// The key.
        key: Box<PeerKey>,
    },
    /// An operator of the peer asks something.
    Question {
        /// The peer.
        from: NodeId,
        /// To be given back with the answer.
        number: u32,
        /// What is asked.
        text: Vec<u8>,
    },
    /// The peer answers a question of this node.
    Answer {
        /// The peer.
        from: NodeId,
        /// The question's.
        number: u32,
        /// What it says.
        text: Vec<u8>,
    },
    /// A datagram of the peer, whoever else's words it may carry.
    Datagram {
        /// Its sender.
        from: NodeId,
        /// What it says.
        bytes: bytes::Bytes,
    },
    /// The peer stops on purpose; what it had to say has been said.
    Leaving {
        /// The peer.
        from: NodeId,
    },
}

/// What `bulk` says to the walk that feeds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum BulkRoom {
    /// Go on.
    More,
    /// Taken; go on after [`PeerEvent::BulkMore`].
    Full,
    /// Not taken: that sync is over or was replaced. Stop the walk.
    Over,
}

/// What is known of one peer.
#[derive(Clone, PartialEq, Debug)]
pub struct PeerStats {
    /// The peer.
    pub peer: NodeId,
    /// Where it is dialled.
    pub address: SocketAddr,
    /// This node's records reach it.
    pub connected: bool,
    /// Its records reach this node.
    pub receiving: bool,
    /// Last sequence number sent to it, counted from this node's start.
    pub sent: u64,
    /// Last sequence number it acknowledged, or that its present bulk sync covers.
    pub acked: u64,
    /// Last sequence number of its records handed to the consumer, counted from its start.
    pub received: u64,
    /// Changes it has not acknowledged.
    pub lag_records: u64,
    /// Age of the oldest of them, ms.
    pub lag_ms: u64,
    /// Records sent to it more than once.
    pub resent: u64,
    /// Bulk syncs begun towards it.
    pub bulk_syncs: u64,
    /// One is under way.
    pub syncing: bool,
    /// Its own bulk sync towards this node is complete: all its sessions are known here.
    pub whole: bool,
    /// Claim messages to it that were dropped: no connection, or too many.
    pub claims_dropped: u64,
    /// Why the last attempt to talk was refused; `None` after one that was not.
    pub refused: Option<String>,
    /// Round trip of the connection to it, ms.
    pub rtt_ms: Option<f64>,
}
