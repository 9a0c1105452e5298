//! The session record, one per flow and node.

use crate::clock::NowMs;
use crate::flow::{Direction, FlowKey, Generation, NodeId};
use crate::session::admission::Admission;
use crate::session::tcp::TcpTracking;

/// What this node is to the flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Role {
    /// This node processes the flow.
    Owner = 0,
    /// Another node does; this is its replicated record.
    Backup = 1,
    /// This node, as Director, granted the flow to another node, whose record has not arrived yet.
    Claim = 2,
}

macro_rules! states {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal;)+) => {
        /// State of a session, all protocols in one space so that the record and the wire need one byte.
        /// Names are those of `conntrack -L`; timeouts are in [`crate::session::timeouts`].
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum State { $($(#[doc = $doc])+ $variant = $number),+ }

        impl State {
            /// Every state.
            pub const ALL: &'static [State] = &[$(State::$variant),+];

            /// The name shown by `samepath sessions`.
            pub fn name(self) -> &'static str {
                match self { $(State::$variant => $name),+ }
            }

            /// The state with this wire number.
            pub fn from_wire(number: u8) -> Option<State> {
                match number { $($number => Some(State::$variant),)+ _ => None }
            }
        }
    };
}

states! {
    /// SYN seen from the originator.
    TcpSynSent = 1, "SYN_SENT";
    /// SYN seen from both ends (simultaneous open, RFC 9293 section 3.5).
    TcpSynSent2 = 2, "SYN_SENT2";
    /// SYN-ACK seen from the responder.
    TcpSynRecv = 3, "SYN_RECV";
    /// Handshake complete.
    TcpEstablished = 4, "ESTABLISHED";
    /// First FIN seen.
    TcpFinWait = 5, "FIN_WAIT";
    /// First FIN acknowledged.
    TcpCloseWait = 6, "CLOSE_WAIT";
    /// Second FIN seen.
    TcpLastAck = 7, "LAST_ACK";
    /// Second FIN acknowledged.
    TcpTimeWait = 8, "TIME_WAIT";
    /// Reset seen.
    TcpClose = 9, "CLOSE";
    /// UDP, only one end has spoken.
    UdpUnreplied = 16, "UNREPLIED";
    /// UDP, both ends have spoken.
    UdpReplied = 17, "ASSURED";
    /// ICMP echo or another ICMP query.
    IcmpQuery = 24, "ICMP";
    /// SCTP INIT seen.
    SctpCookieWait = 32, "COOKIE_WAIT";
    /// SCTP COOKIE-ECHO seen.
    SctpCookieEchoed = 33, "COOKIE_ECHOED";
    /// SCTP association complete.
    SctpEstablished = 34, "SCTP_ESTABLISHED";
    /// SCTP SHUTDOWN seen.
    SctpShutdown = 35, "SHUTDOWN_SENT";
    /// SCTP SHUTDOWN-ACK seen.
    SctpShutdownAck = 36, "SHUTDOWN_ACK_SENT";
    /// SCTP association ended.
    SctpClosed = 37, "CLOSED";
    /// Any other protocol.
    Generic = 48, "GENERIC";
    /// A claim: nothing is known of the flow but its Owner.
    Claimed = 63, "CLAIMED";
}

impl State {
    /// True while only the originator has spoken: evicted first when the table is full.
    pub fn is_half_open(self) -> bool {
        matches!(
            self,
            State::TcpSynSent
                | State::TcpSynSent2
                | State::TcpSynRecv
                | State::UdpUnreplied
                | State::SctpCookieWait
                | State::SctpCookieEchoed
        )
    }

    /// True if the session gives way to a new one: half open, of a protocol that never says that both ends agree, over,
    /// or a mere claim. What its ends send later begins it again, or was of no use any more.
    pub fn gives_way(self) -> bool {
        let is_over = matches!(self, State::TcpTimeWait | State::TcpClose | State::SctpClosed);
        let is_loose = matches!(self, State::IcmpQuery | State::Generic | State::Claimed);
        self.is_half_open() || is_over || is_loose
    }
}

/// What following a packet needs of a session, and all that the common path reads of one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tracked {
    /// What this node is to the flow.
    pub role: Role,
    /// Protocol state.
    pub state: State,
    /// The way the first packet went.
    pub origin: Direction,
    /// TCP and SCTP tracking of both ends.
    pub tcp: TcpTracking,
}

/// What a node remembers of a flow, as a value. `session/table/line.rs` says how it lies in memory.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Session {
    /// The flow.
    pub key: FlowKey,
    /// What this node is to it.
    pub role: Role,
    /// Protocol state.
    pub state: State,
    /// The way the first packet went.
    pub origin: Direction,
    /// Changed since control last took it (outbox was full): to be sent again.
    pub dirty: bool,
    /// The node that processes the flow.
    pub owner: NodeId,
    /// Mark of the last bulk sync that confirmed this backup (mark and sweep); an Owner's is 0.
    pub mark: u16,
    /// What the policy made of it.
    pub admission: Admission,
    /// How often ownership was granted.
    pub generation: Generation,
    /// Counts the Owner's replicated changes within one generation.
    pub version: u32,
    /// TCP sequence tracking of both ends; unused by other protocols.
    pub tcp: TcpTracking,
    /// When the session began (here or, by its replicated age, at its Owner); kept in ticks of the timer wheel.
    pub created: NowMs,
    /// When the Owner ends it unless packets come; for a claim, when the Owner is asked next. Kept in ticks
    /// of the timer wheel, rounded up.
    pub expires: NowMs,
    /// Idle time of the state when it was entered, ms; kept in whole seconds.
    pub timeout_ms: u32,
    /// Packets processed here.
    pub packets: u64,
    /// Their bytes, Ethernet header included.
    pub bytes: u64,
}

impl Session {
    /// True if (generation, owner, version) of `self` beats `other`: the rule for records that meet.
    pub fn is_newer_than(&self, other: &Session) -> bool {
        (self.generation, self.owner, self.version) > (other.generation, other.owner, other.version)
    }
}
