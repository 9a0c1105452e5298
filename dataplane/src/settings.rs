//! What an operator may set that the packet path reads. Immutable; a change is a new snapshot.

use crate::clock::NowMs;
use crate::flow::{Generation, NodeId};
use crate::session::Session;
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

/// When peers are told of a session that is new. Until then its Director's claim stands for it, so that packets find
/// their Owner; if the Owner dies before, the flow begins anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Backup {
    /// At once.
    #[default]
    Immediate,
    /// When both ends have spoken.
    Established,
    /// When it has lived for so long, ms.
    After(u64),
}

/// Shortest and longest pause between two walks for sessions that have come of age, ms.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 50..=5_000;

/// The highest version of a session that is surely the first of its flow: a SYN and its answer. A connection that begins
/// anew in the place of one that has ended has a higher one, and peers know its flow.
const FIRST_VERSIONS: u32 = 2;

impl Backup {
    /// True if peers need not hear of this session's change yet. Of one that has had another Owner they know already.
    pub fn waits(self, session: &Session, now: NowMs) -> bool {
        session.generation <= Generation(1)
            && match self {
                Backup::Immediate => false,
                Backup::Established => session.state.is_half_open() && session.version <= FIRST_VERSIONS,
                Backup::After(ms) => now.since(session.created) < ms,
            }
    }

    /// True if peers have never heard of the session, because it waits.
    pub fn is_secret(self, session: &Session, now: NowMs) -> bool {
        session.version <= FIRST_VERSIONS && self.waits(session, now)
    }

    /// Pause between two walks along the table for sessions that peers have not been told of, ms. Sessions come of age
    /// without a packet; nothing else can wait for a walk.
    pub fn pause_ms(self) -> u64 {
        match self {
            Backup::Immediate | Backup::Established => 0,
            Backup::After(ms) => (ms / 4).clamp(*PAUSE_MS.start(), *PAUSE_MS.end()),
        }
    }
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
    /// When peers are told of new sessions.
    pub backup: Backup,
    /// How long after Director duty has moved the former Director is asked about flows the new one does not know, ms.
    pub former_directors_ms: u64,
    /// Within how long peers are told again of every session that lasts, ms; 0: never.
    pub refresh_ms: u64,
}
