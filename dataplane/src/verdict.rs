//! What happens to a packet, and why. One closed enum, one match that carries it out.

use crate::flow::{Generation, NodeId};
use crate::wire::tunnel::TunnelKind;

/// What happens to a packet.
#[must_use = "a packet without a verdict is a lost frame"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Route it: rewrite the Ethernet header, decrement TTL, send.
    Forward,
    /// To the service with this number: rewrite the Ethernet header, send. TTL stays.
    Service(u8),
    /// Carry it to another node.
    Tunnel {
        /// Query, FirstPacket or Redirect.
        kind: TunnelKind,
        /// The node that gets it.
        to: NodeId,
        /// Owner named in the tunnel option; `NodeId(0)` in a Query.
        owner: NodeId,
        /// Generation of the claim named in the tunnel option.
        generation: Generation,
    },
    /// Tell its sender that it may not pass, by RST or ICMP, in its place; if that cannot be, drop it for this
    /// reason.
    Reject(DropReason),
    /// End its life here.
    Drop(DropReason),
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $class:ident;)+) => {
        /// Why a packet was dropped. Every reason is a counter, `drops{reason}` in `samepath stats`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason { $($(#[doc = $doc])+ $variant),+ }

        impl DropReason {
            /// Every reason, in counter order.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant),+];

            /// The reason's name in `samepath stats`, metrics and docs.
            pub fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name),+ }
            }

            /// Whether operators should expect it.
            pub fn class(self) -> DropClass {
                match self { $(DropReason::$variant => DropClass::$class),+ }
            }

            /// What it means, for `samepath stats --help` and the docs test.
            pub fn explanation(self) -> &'static str {
                match self { $(DropReason::$variant => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
}

/// Two groups of drop reasons.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropClass {
    /// Caused by what arrived, or by policy.
    Traffic,
    /// A sign of overload, misconfiguration or a defect: should stay zero.
    ShouldBeZero,
}

reasons! {
    /// Neither a session nor a claim exists, and the packet cannot begin a flow (TCP without SYN under `--tcp-pickup strict`, an echo reply).
    NoSession = "no_session", Traffic;
    /// The flow is new, and too few members are live to begin it (`--quorum`).
    NoQuorum = "no_quorum", Traffic;
    /// The flow is new, and its source prefix has begun too many (`--new-flow-rate-per-prefix`).
    PrefixRate = "prefix_rate", Traffic;
    /// The flow is new, and this node has begun too many (`--new-flow-rate`).
    NewFlowRate = "new_flow_rate", Traffic;
    /// The policy denies the flow.
    PolicyDenied = "policy_denied", Traffic;
    /// The policy rejects the flow and its sender was not told: too many answers were due, or it may have none.
    PolicyRejected = "policy_rejected", Traffic;
    /// The packet met a session that the present policy allows no longer, and ended it.
    PolicyEnded = "policy_ended", Traffic;
    /// TCP segment outside the window the session's two ends agreed on.
    TcpWindow = "tcp_window", Traffic;
    /// TCP flags that no state allows (for example SYN with FIN).
    TcpFlags = "tcp_flags", Traffic;
    /// SCTP chunk that the association's state does not allow.
    SctpState = "sctp_state", Traffic;
    /// A header is cut short or contradicts itself.
    Malformed = "malformed", Traffic;
    /// The checksum of the IPv4 header is wrong (RFC 1812 section 5.2.2).
    IpChecksum = "ip_checksum", Traffic;
    /// Source or destination address that no forwarded packet may carry (loopback, multicast source, IPv4-mapped IPv6).
    Martian = "martian", Traffic;
    /// TTL or hop limit is used up.
    TtlExpired = "ttl_expired", Traffic;
    /// No route to the destination.
    NoRoute = "no_route", Traffic;
    /// The route says blackhole, prohibit or unreachable.
    RouteRefused = "route_refused", Traffic;
    /// The next hop's link address did not become known in time.
    NeighbourUnresolved = "neighbour_unresolved", Traffic;
    /// The packet is larger than the outgoing interface's MTU.
    TooBig = "too_big", Traffic;
    /// A later fragment whose first one did not come within a second.
    FragmentWithoutFirst = "fragment_without_first", Traffic;
    /// A fragment that overlaps another one of its packet or contradicts its end, and what else comes of that packet.
    FragmentOverlap = "fragment_overlap", Traffic;
    /// A fragment whose bytes have come before.
    FragmentDuplicate = "fragment_duplicate", Traffic;
    /// A first fragment without the whole TCP or SCTP header, or one other than the last with fewer than 48 bytes.
    FragmentTiny = "fragment_tiny", Traffic;
    /// A fragment of a packet in more separate parts at once than are remembered.
    FragmentScattered = "fragment_scattered", Traffic;
    /// A fragment of a packet of which one could not wait for its first: too many of one source wait.
    FragmentSourceFull = "fragment_source_full", Traffic;
    /// A fragment of a packet of which one could not wait for its first any longer: too many wait.
    FragmentBufferFull = "fragment_buffer_full", Traffic;
    /// A fragment that waited for its first when too many packets came in fragments.
    FragmentTrainsFull = "fragment_trains_full", Traffic;
    /// The flow's service is down: its interface has no carrier, its neighbour is not known, or this node has no such service.
    ServiceDown = "service_down", Traffic;
    /// A proxy on another node had the flow, and its sender was not told of the end: too many resets were due, or it may have none.
    ServiceMoved = "service_moved", Traffic;
    /// An ICMP error that quotes no known flow.
    IcmpErrorUnrelated = "icmp_error_unrelated", Traffic;
    /// An ICMP error that quotes a TCP segment which was not sent, or was acknowledged long ago.
    IcmpErrorWindow = "icmp_error_window", Traffic;
    /// An ICMP error that tells a path MTU below 552 bytes (IPv4) or 1,280 (IPv6).
    IcmpErrorMtu = "icmp_error_mtu", Traffic;
    /// The session table is full and nothing half-open could be evicted.
    TableFull = "table_full", ShouldBeZero;
    /// The packet crossed the cluster link as often as allowed and still met no Owner.
    HopBudget = "hop_budget", ShouldBeZero;
    /// The peer a packet must go to has no known link address on the cluster link.
    PeerUnresolved = "peer_unresolved", ShouldBeZero;
    /// The packet with its tunnel header does not fit the cluster link's MTU.
    ClusterLinkMtu = "cluster_link_mtu", ShouldBeZero;
    /// Tunnel option of another version or of unknown kind.
    TunnelUnknown = "tunnel_unknown", ShouldBeZero;
    /// Tunnel option cut short, or Geneve header that contradicts itself.
    TunnelMalformed = "tunnel_malformed", ShouldBeZero;
    /// This node has no key yet for the peer a packet must go to.
    PeerKeyless = "peer_keyless", ShouldBeZero;
    /// Tunnel packet under a key that this node has not given its sender: of before a restart, or forged.
    TunnelKey = "tunnel_key", ShouldBeZero;
    /// Tunnel packet that was received before, or so late that this is not known.
    TunnelReplay = "tunnel_replay", ShouldBeZero;
    /// Tunnel tag does not match: the sender does not hold the key, or the packet was changed on its way.
    TunnelTag = "tunnel_tag", ShouldBeZero;
    /// Tunnel packet with another cluster's id in the VNI.
    TunnelCluster = "tunnel_cluster", ShouldBeZero;
    /// Tunnel packet from a node id that its address does not belong to.
    TunnelPeer = "tunnel_peer", ShouldBeZero;
    /// The ring to the core that owns the flow is full.
    HandoffFull = "handoff_full", ShouldBeZero;
    /// The outgoing interface's ring stayed full.
    TxRingFull = "tx_ring_full", ShouldBeZero;
    /// Too many packets already wait for neighbours.
    HoldFull = "hold_full", ShouldBeZero;
    /// The packet was still held or in a ring when the node stopped.
    Stopping = "stopping", Traffic;
    /// Metadata from the XDP program does not fit the frame.
    BadMetadata = "bad_metadata", ShouldBeZero;
}
