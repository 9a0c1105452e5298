//! The only way a session changes. Three readers: the local table, the replication outbox, the tests.

use crate::clock::NowMs;
use crate::session::record::{Session, State};
use crate::session::tcp::TcpTracking;

/// What a decision does to the session of its flow.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Change {
    /// Nothing.
    None,
    /// A record is made or replaced as a whole (new flow, claim, takeover, conflict lost).
    Put {
        /// The record as it shall be.
        session: Session,
        /// Peers must learn of it.
        replicate: bool,
    },
    /// A packet was processed by the Owner.
    Update {
        /// State after the packet.
        state: State,
        /// TCP tracking after the packet.
        tcp: TcpTracking,
        /// When the session ends unless packets come.
        expires: NowMs,
        /// Idle time of the state, ms.
        timeout_ms: u32,
        /// Peers must learn of it (the state changed).
        replicate: bool,
    },
    /// The record goes; peers must learn of it if this node owned it.
    Remove,
}
