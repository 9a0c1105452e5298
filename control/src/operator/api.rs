//! Requests and replies, with the JSON names other programs rely on.
//!
//! A request is `{"command": "status"}` and so on; a reply is `{"schema": 1, "kind": "status", …}`.
//! New fields may appear in any version of the schema; a field that changes its meaning raises it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::drain::Drain;
use super::events::{FollowOrder, Followed};
use super::filter::Filter;
use super::symmetry::{NodeDetours, Symmetry};
use super::trace::Trace;
use super::watch::{WatchOrder, Watched};
use super::why::{Flow, Why};
use crate::replicate::{ArrivalStats, Discard};

/// Version of the names and meanings in this file.
pub const SCHEMA: u32 = 1;

/// What an operator can ask of the daemon.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// → [`Reply::Status`].
    Status,
    /// → [`Reply::Members`].
    Members,
    /// The sessions that match → [`Reply::Sessions`].
    Sessions {
        /// Which ones.
        #[serde(default)]
        filter: Filter,
    },
    /// How many sessions match → [`Reply::Count`].
    SessionsCount {
        /// Which ones.
        #[serde(default)]
        filter: Filter,
    },
    /// → [`Reply::Stats`].
    Stats,
    /// Who is Director of a flow → [`Reply::Director`].
    Director {
        /// One end's address.
        src: IpAddr,
        /// The other end's address, of the same IP version.
        dst: IpAddr,
        /// IANA protocol number; these three matter for `--director-hash five-tuple` only.
        #[serde(default)]
        proto: u8,
        /// Port at `src`.
        #[serde(default)]
        sport: u16,
        /// Port at `dst`.
        #[serde(default)]
        dport: u16,
    },
    /// What happens to a packet of a flow, and why → [`Reply::Why`].
    Why {
        /// The packet.
        flow: Flow,
        /// Ask this node alone.
        #[serde(default)]
        here: bool,
    },
    /// Which pairs of prefixes arrive at another node than their Owner → [`Reply::Symmetry`].
    Symmetry {
        /// Pairs listed at most.
        limit: usize,
        /// What this node alone has counted → [`Reply::Detours`].
        #[serde(default)]
        here: bool,
    },
    /// Write down what happens to packets that match, and tell what was seen since the last time; asked again and again →
    /// [`Reply::Watched`].
    Watch(WatchOrder),
    /// Tell what became of sessions since the last time; asked again and again → [`Reply::Followed`].
    Follow(FollowOrder),
    /// What is logged, and something else from now on → [`Reply::Log`].
    Log {
        /// As `--log` has it; null: only tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        filter: Option<String>,
    },
    /// Switch aggregation on or off → [`Reply::Aggregation`].
    Aggregation {
        /// Bring flows to their Owner.
        on: bool,
    },
    /// The policy in force and what its rules counted → [`Reply::Policy`].
    Policy,
    /// Read the policy file again → [`Reply::Policy`].
    PolicyReload,
    /// Hand all sessions over and take no new flows, or say how far that is → [`Reply::Drain`].
    Drain,
    /// Take flows again → [`Reply::Drain`].
    Undrain,
    /// Stop the daemon, if it is drained → [`Reply::Drain`].
    Leave,
}

impl Request {
    /// Whether it changes what the daemon does (such requests are logged).
    pub fn changes_something(&self) -> bool {
        match self {
            Request::Aggregation { .. } | Request::PolicyReload | Request::Undrain | Request::Leave => true,
            Request::Log { filter } => filter.is_some(),
            // Asked again and again for its progress; the daemon says itself when it begins.
            Request::Drain => false,
            Request::Status
            | Request::Members
            | Request::Sessions { .. }
            | Request::SessionsCount { .. }
            | Request::Stats
            | Request::Why { .. }
            // The daemon says itself when it begins.
            | Request::Watch(_)
            | Request::Follow(_)
            | Request::Symmetry { .. }
            | Request::Policy
            | Request::Director { .. } => false,
        }
    }
}

/// What the daemon answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reply {
    /// The node as a whole.
    Status(Box<Status>),
    /// All configured nodes.
    Members(Members),
    /// Sessions; the daemon answers with all at once, the server sends them in pages.
    Sessions(Sessions),
    /// How many sessions there are.
    Count(Count),
    /// Counters.
    Stats(Box<Stats>),
    /// Who is Director and why.
    Director(Director),
    /// Pairs of prefixes whose packets make a detour.
    Symmetry(Box<Symmetry>),
    /// What one node has counted of them.
    Detours(NodeDetours),
    /// What happens to a packet of a flow.
    Why(Box<Why>),
    /// What was seen of packets.
    Watched(Box<Watched>),
    /// What became of sessions.
    Followed(Followed),
    /// Packets step by step; `samepath trace --json` prints it, no daemon sends it.
    Trace(Box<Trace>),
    /// What is logged.
    Log(LogReply),
    /// Aggregation as it is now.
    Aggregation(Aggregation),
    /// The policy in force.
    Policy(PolicyReply),
    /// How far the node's drain is.
    Drain(Drain),
    /// The request was not carried out.
    Error(Refusal),
}

impl Reply {
    /// A refusal with its sentence.
    pub fn error(sentence: impl Into<String>) -> Self {
        Reply::Error(Refusal { error: sentence.into() })
    }

    /// All sessions that matched.
    pub fn sessions(sessions: Vec<SessionRow>) -> Self {
        Reply::Sessions(Sessions { sessions, more: false })
    }
}

/// A reply as it is on the socket.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The reply.
    #[serde(flatten)]
    pub reply: Reply,
}

impl From<Reply> for Document {
    fn from(reply: Reply) -> Self {
        Self { schema: SCHEMA, reply }
    }
}

/// Why a request was not carried out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Refusal {
    /// A sentence.
    pub error: String,
}

/// Reply to [`Request::Status`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// This node's number.
    pub node: u16,
    /// Cluster id.
    pub cluster: u32,
    /// Version of the program.
    pub version: String,
    /// Takes its part: workers run, peers' sessions have arrived (or were waited for long enough), and
    /// nothing of `obstacles` is in the way.
    pub ready: bool,
    /// Why it takes no flows, a sentence each.
    pub obstacles: Vec<String>,
    /// Whether it hands its sessions over, and how far that is.
    pub drain: Drain,
    /// Flows are brought to their Owner.
    pub aggregation: bool,
    /// Digest of the policy in force; empty: none, every flow is allowed.
    pub policy: String,
    /// The node's certificate, and the CAs it believes.
    pub keys: Keys,
    /// Who redirects packets of established flows now: `xdp` or `worker`.
    pub forwarder: Cow<'static, str>,
    /// Epoch of the present view.
    pub epoch: u32,
    /// Live members, this node included, ascending.
    pub members: Vec<u16>,
    /// Worker threads.
    pub workers: usize,
    /// Each of them: where and how it runs.
    pub scheduling: Vec<Scheduling>,
    /// Packet memory is in huge pages.
    pub huge_pages: bool,
    /// What confines the daemon's files: `ABI N` of Landlock, `absent` (the kernel does not) or `off`.
    pub landlock: String,
    /// Interfaces in port order.
    pub interfaces: Vec<Interface>,
    /// Services by name.
    pub services: Vec<ServiceRow>,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// The keys in use, in [`Status`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Keys {
    /// Common name of the CA that signed this node's certificate.
    pub issuer: String,
    /// The certificate's last day, `YYYY-MM-DD`, UTC.
    pub valid_until: String,
    /// CAs whose signature on a peer's certificate counts.
    pub cas: usize,
}

/// An interface in [`Status`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Name in the kernel.
    pub name: String,
    /// Zone, of a service its name; empty on the cluster link.
    pub zone: String,
    /// `data`, `service` or `cluster-link`.
    pub role: Cow<'static, str>,
    /// Index in the kernel.
    pub ifindex: u32,
    /// Queues bound.
    pub queues: u32,
    /// `native` or `generic`.
    pub xdp_mode: String,
    /// Packets reach user space without a copy.
    pub zero_copy: bool,
    /// Where both directions of a flow arrive: `symmetric` (one queue), `asymmetric` (two), `one-queue`,
    /// or `unknown`.
    pub rss: Cow<'static, str>,
    /// The link is there (of data interfaces; debounced).
    pub up: bool,
    /// Drivers say when they must be woken.
    pub need_wakeup: bool,
    /// `off`, `on`, or `no effect`: asked for, and no packet came by a device that can be polled.
    pub busy_poll: Cow<'static, str>,
}

/// A service in [`Status`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceRow {
    /// Its name.
    pub name: String,
    /// The node's end of its link.
    pub interface: String,
    /// Address of the other end.
    pub via: String,
    /// `proxy` or `inspect`.
    pub mode: Cow<'static, str>,
    /// Its interface has carrier and its neighbour answers.
    pub up: bool,
}

/// Packets of a service in [`Stats`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceCount {
    /// Sent to it.
    pub to: u64,
    /// Received from it.
    pub from: u64,
}

/// A worker in [`Status`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Scheduling {
    /// Its index.
    pub worker: usize,
    /// The core it is pinned to.
    pub core: usize,
    /// Its policy in the kernel, now: `fifo` or `other`; `gone` if the thread is.
    pub policy: Cow<'static, str>,
    /// What it does without work: `spin`, `adaptive` or `sleep`.
    pub idle: Cow<'static, str>,
    /// Ordinary for some seconds, because it starved its core.
    pub demoted: bool,
}

/// Reply to [`Request::Members`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Members {
    /// Number of this node's present view, the same on all members once they agree.
    pub epoch: u32,
    /// Every worker uses that view already.
    pub adopted: bool,
    /// The members all agree on, ascending.
    pub agreed: Vec<u16>,
    /// `swim`, `etcd`, or `etcd (away)`.
    pub membership: Cow<'static, str>,
    /// They are as many as `--quorum` asks for.
    pub quorate: bool,
    /// Silence after which a node is dead, ms.
    pub timeout_ms: u64,
    /// All configured nodes, this one included, ascending.
    pub members: Vec<Member>,
}

/// A node in [`Members`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Its number.
    pub node: u16,
    /// Its cluster address.
    pub address: String,
    /// It is in the present view.
    pub live: bool,
    /// `member`; `apart`: heard here, but not by all or not hearing all; `flapping`: kept out until it is
    /// steady; `not admitted`, `refused`, `left`, `dead`, `never heard`.
    pub state: Cow<'static, str>,
    /// It is the node that answers.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// Its share of Director duty.
    pub weight: u8,
    /// The control channel to it is up.
    pub connected: bool,
    /// Since its last Hello, ms; null: never heard, or this node.
    pub last_heard_ms: Option<u64>,
    /// How long it was silent when it was last taken for dead, ms; null: it never was.
    pub detected_ms: Option<u64>,
    /// SWIM's own opinion: `alive`, `suspect` or `down`; null: none.
    pub swim: Option<Cow<'static, str>>,
    /// `whole`: each has the other's sessions; `sending` to it, `receiving` from it; `none`: no control channel.
    /// Of this node: `whole` or `waiting`.
    pub sync: Cow<'static, str>,
    /// Director buckets it holds in the present view.
    pub buckets: usize,
    /// The first half of its policy's digest; empty: none; null: not told.
    pub policy: Option<String>,
    /// Why its control channel is refused, null if it is not.
    pub refused: Option<String>,
}

/// Reply to [`Request::Policy`] and [`Request::PolicyReload`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyReply {
    /// The file; empty: none, every flow is allowed.
    pub file: String,
    /// Names its contents: the same on all nodes with the same rules.
    pub digest: String,
    /// How often a policy was loaded since the start.
    pub loads: u64,
    /// What holds for flows that no rule matches.
    pub default: String,
    /// The rules in order.
    pub rules: Vec<PolicyRule>,
    /// Packets that no rule matched.
    pub default_packets: u64,
    /// Sessions that began so.
    pub default_flows: u64,
    /// Why the last reload changed nothing; null if it did not fail.
    pub failed: Option<String>,
}

/// A rule in [`PolicyReply`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyRule {
    /// Its name.
    pub name: String,
    /// `allow`, `deny`, `reject` or `service NAME`.
    pub action: Cow<'static, str>,
    /// Where it stands in the file.
    pub line: usize,
    /// Packets it was the answer for: first packets, and every packet it refused.
    pub packets: u64,
    /// Sessions it let begin.
    pub flows: u64,
}

/// Reply to [`Request::Sessions`], or one page of it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Sessions {
    /// The rows.
    pub sessions: Vec<SessionRow>,
    /// Another page follows.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
}

/// One session; see [`super::sessions`] for how it is made of a record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionRow {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `sctp`, … or the number where there is no name.
    pub proto: Cow<'static, str>,
    /// The originator's address.
    pub src: IpAddr,
    /// The responder's address.
    pub dst: IpAddr,
    /// The originator's port (ICMP queries: the identifier, in both ports; 0 where there is none).
    pub sport: u16,
    /// The responder's port.
    pub dport: u16,
    /// Outer VLAN id, 0 for untagged.
    pub vlan: u16,
    /// Inner VLAN id, absent for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub inner_vlan: u16,
    /// Name of the state.
    pub state: Cow<'static, str>,
    /// What the answering node is to the flow.
    pub role: Role,
    /// The node that processes the flow.
    pub owner: u16,
    /// How often ownership was granted.
    pub generation: u32,
    /// Seconds since it began.
    pub age_s: u64,
    /// Seconds until it ends unless packets come.
    pub timeout_s: u64,
    /// Packets processed by the answering node.
    pub packets: u64,
    /// Their bytes, Ethernet header included.
    pub bytes: u64,
}

/// What a node is to a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It processes the flow.
    Owner,
    /// It holds a copy.
    Backup,
    /// It granted the flow to the Owner, whose record has not arrived yet.
    Claim,
}

impl Role {
    /// Its JSON name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::Backup => "backup",
            Role::Claim => "claim",
        }
    }
}

/// Reply to [`Request::SessionsCount`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Count {
    /// All that matched.
    pub count: u64,
    /// Those this node owns.
    pub owner: u64,
    /// Those it backs up.
    pub backup: u64,
    /// Those it granted.
    pub claim: u64,
}

/// Reply to [`Request::Stats`]: totals of all workers since the start.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Packets to and from each service, by its name.
    pub services: BTreeMap<String, ServiceCount>,
    /// Packets taken from the rings.
    pub rx: u64,
    /// Packets sent.
    pub tx: u64,
    /// Bytes taken from the rings.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Dropped packets by reason; every reason is listed.
    pub drops: BTreeMap<String, u64>,
    /// Packets by verdict: forward, query, first_packet, redirect, gather, reject, drop.
    pub verdicts: BTreeMap<String, u64>,
    /// ICMP errors of the node's own.
    pub answers: Answers,
    /// Fragments made beyond one for each packet that was cut; part of `tx`, not of `rx`.
    pub fragments_made: u64,
    /// Ends of proxied connections asked where they are because their Owner died; part of `tx`, not of `rx`.
    pub prompted: u64,
    /// SYNs whose maximum segment size was lowered.
    pub mss_clamped: u64,
    /// What crossed the cluster link.
    pub tunnel: Tunnel,
    /// Flows handed to the XDP program.
    pub forwards: Forwards,
    /// Sessions now in the tables, and what became of others.
    pub sessions: SessionCounts,
    /// Packet memory.
    pub frames: Frames,
    /// Replication by peer number.
    pub replication: BTreeMap<String, Replication>,
    /// Frames the XDP program saw, by outcome.
    pub xdp: BTreeMap<String, u64>,
    /// What the kernel could not put into or take from the rings (XDP_STATISTICS).
    pub rings: Rings,
    /// Signs of life between peers.
    pub hello: Hello,
    /// What arrived at the control port.
    pub control: ControlPort,
    /// Packets now waiting for a neighbour's link address, or for a first fragment.
    pub held: u64,
    /// Those that wait for a first fragment.
    pub fragments_waiting: u64,
    /// Session changes sent to control again after an overflow.
    pub resent: u64,
    /// Sessions now waiting to be sent to control again.
    pub dirty: u64,
    /// TCP segments outside the window that were let through.
    pub tcp_window_loose: u64,
    /// Events of rules with `log` that were not told: too many at once.
    pub logs_lost: u64,
    /// Each worker by itself.
    pub workers: Vec<Worker>,
}

/// What arrived at the control port, in [`Stats`], in QUIC packets (RFC 9000).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ControlPort {
    /// All of them: `taken`, `keyless` and `discarded` together.
    pub packets: u64,
    /// Those that were authentic and new.
    pub taken: u64,
    /// Those that were not believed, by reason; every reason is listed.
    pub discarded: BTreeMap<String, u64>,
    /// Those QUIC has no key for (any more), or has not come to yet.
    pub keyless: u64,
    /// Connections accepted that came to no agreement: handshake, certificate, address.
    pub failed: u64,
    /// Datagrams the kernel had no room for; none of `packets`.
    pub overrun: u64,
}

impl From<ArrivalStats> for ControlPort {
    fn from(stats: ArrivalStats) -> Self {
        let ArrivalStats { packets, taken, discarded, keyless, failed, overrun } = stats;
        let named = Discard::ALL.iter().map(|why| why.name().to_owned()).zip(discarded);
        Self { packets, taken, discarded: named.collect(), keyless, failed, overrun }
    }
}

/// ICMP errors of the node's own, in [`Stats`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Answers {
    /// Time Exceeded.
    pub time_exceeded: u64,
    /// Destination Unreachable, but for those of the policy.
    pub unreachable: u64,
    /// Fragmentation Needed and Packet Too Big.
    pub too_big: u64,
    /// Those that `--icmp-rate` kept back.
    pub suppressed: u64,
}

/// Tunnel counters in [`Stats`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tunnel {
    /// Packets sent to their Director.
    pub query_tx: u64,
    /// Queries received.
    pub query_rx: u64,
    /// First packets returned to their ingress.
    pub first_packet_tx: u64,
    /// First packets that came back.
    pub first_packet_rx: u64,
    /// Packets sent to their Owner, by workers and by the XDP program.
    pub redirect_tx: u64,
    /// Those sent by the XDP program.
    pub redirect_tx_xdp: u64,
    /// Their bytes, outer headers included.
    pub redirect_tx_xdp_bytes: u64,
    /// Redirects received.
    pub redirect_rx: u64,
    /// Fragments sent to where those of their packet meet.
    pub gather_tx: u64,
    /// Fragments received because those of their packet meet here.
    pub gather_rx: u64,
    /// Tunnel packets refused, by drop reason (also in `drops`).
    pub rejected: BTreeMap<String, u64>,
}

/// Flow directions handed to the XDP program, in [`Stats`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Forwards {
    /// Entries made.
    pub published: u64,
    /// Entries taken back.
    pub withdrawn: u64,
    /// Entries there was no room for.
    pub refused: u64,
}

/// Session counters in [`Stats`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionCounts {
    /// Now owned.
    pub owner: u64,
    /// Now backed up.
    pub backup: u64,
    /// Claims now held.
    pub claim: u64,
    /// Of those owned: no connected peer has them as they are now, so they would be lost or set back if this node died.
    pub at_risk: u64,
    /// Begun as Owner.
    pub created: u64,
    /// Ended by their idle time.
    pub expired: u64,
    /// Now in the table that give way to new ones: half open, heard from one end only, over, claims.
    pub yielding: u64,
    /// Own ones that gave way to new ones.
    pub evicted: u64,
    /// Backups that gave way to new sessions.
    pub backups_evicted: u64,
    /// Claims that gave way to new sessions.
    pub claims_evicted: u64,
    /// Records of peers that found no room.
    pub backups_refused: u64,
    /// Told again because their turn had come.
    pub refreshed: u64,
    /// Insertions for which others had to move within the table.
    pub crowded: u64,
    /// Insertions refused although slots were free.
    pub unplaced: u64,
    /// Announcements of half-open ones put off because peers are behind.
    pub put_off: u64,
    /// Claims granted as Director.
    pub claims_granted: u64,
    /// Ended because the present policy allows them no longer.
    pub ended: u64,
    /// Taken over from dead Owners.
    pub takeovers: u64,
    /// Sessions a peer owns now because this node drained.
    pub handed_over: u64,
    /// Sessions taken from a peer that drained.
    pub handed_in: u64,
    /// Given up because another Owner's record was newer.
    pub conflicts_lost: u64,
}

/// Packet memory in [`Stats`]; `free + kernel + hand` is `total`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Frames {
    /// All frames.
    pub total: u64,
    /// Ready for use, in workers' stocks and the common depot.
    pub free: u64,
    /// In the kernel's rings.
    pub kernel: u64,
    /// Taken from a ring and not yet given to one.
    pub hand: u64,
}

/// Replication towards one peer in [`Stats`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Replication {
    /// Records sent.
    pub sent: u64,
    /// Records the peer acknowledged.
    pub acked: u64,
    /// Records not yet acknowledged.
    pub lag_records: u64,
    /// Age of the oldest of these, ms.
    pub lag_ms: u64,
    /// Sessions waiting to be sent again.
    pub dirty: u64,
    /// Records sent again.
    pub resent: u64,
}

/// Ring counters in [`Stats`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rings {
    /// Dropped by the kernel for other reasons.
    pub rx_dropped: u64,
    /// Dropped because a receive ring was full.
    pub rx_ring_full: u64,
    /// Times a fill ring was empty.
    pub fill_empty: u64,
    /// Transmit descriptors the kernel refused.
    pub tx_invalid: u64,
}

/// Hello counters in [`Stats`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// Accepted from peers.
    pub rx: u64,
    /// Sent.
    pub tx: u64,
}

/// One worker in [`Stats`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Worker {
    /// Its index.
    pub worker: usize,
    /// The core it is pinned to.
    pub core: usize,
    /// Packets taken from the rings.
    pub rx: u64,
    /// Packets sent.
    pub tx: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Packets handed to other workers.
    pub handoff_tx: u64,
    /// Packets received from other workers.
    pub handoff_rx: u64,
    /// Sessions now in its table, all roles.
    pub sessions: u64,
    /// Packets of its that took the fast path.
    pub fast_path: u64,
    /// Keys of peers it has taken into use.
    pub tunnel_keys: u64,
    /// Epoch of the view it uses.
    pub view_epoch: u64,
    /// Turns of its loop.
    pub turns: u64,
    /// Times it slept.
    pub sleeps: u64,
    /// Time of the turns that found work, ns.
    pub busy_ns: u64,
    /// Times it was made ordinary because it starved its core.
    pub demotions: u64,
}

/// Reply to [`Request::Director`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Director {
    /// One end, as asked.
    pub src: IpAddr,
    /// The other end, as asked.
    pub dst: IpAddr,
    /// The flow's bucket.
    pub bucket: u16,
    /// The Director.
    pub director: u16,
    /// Members in the order in which they would be Director of this bucket, the Director first.
    pub candidates: Vec<u16>,
    /// `ip-pair` or `five-tuple`.
    pub mode: Cow<'static, str>,
    /// Epoch of the view that was asked.
    pub epoch: u32,
    /// All of it in a sentence.
    pub why: String,
}

/// Reply to [`Request::Log`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogReply {
    /// The filter in use now.
    pub filter: String,
    /// The filter in use before; the same if nothing was to be changed.
    pub before: String,
}

/// Reply to [`Request::Aggregation`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Aggregation {
    /// The node that answers.
    pub node: u16,
    /// Aggregation is on now.
    pub aggregation: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u16) -> bool {
    *value == 0
}
