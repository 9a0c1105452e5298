//! What `samepath trace` and `samepath capture` ask of nodes, and what a node has seen.
//!
//! Whoever looks on draws a number and asks again and again under it; a node that is not asked for a while stops to look.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::why::{Said, Silent};

/// Bytes of each frame that are enough to know it again on another node: outer headers, and 128 of the packet.
pub const SNAP_LEAST: u16 = 288;

/// Bytes of the largest frame.
pub const SNAP_MOST: u16 = 4096;

/// Slots between a worker and control unless the operator says otherwise.
pub const SLOTS: u32 = 1024;

/// Most slots: with whole frames 128 MiB for each worker.
pub const SLOTS_MOST: u32 = 16_384;

/// Which packets an operator wants to see; absent parts always hold.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PacketFilter {
    /// IANA protocol number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proto: Option<u8>,
    /// Where they come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<IpNet>,
    /// Where they go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst: Option<IpNet>,
    /// Port at `src`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sport: Option<u16>,
    /// Port at `dst`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
    /// Outer VLAN id, 0 for untagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Name of the zone they arrived in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Not those the other way.
    pub one_way: bool,
}

/// A request to look on, and to tell what was seen since.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchOrder {
    /// Drawn by who looks on.
    pub id: u64,
    /// Which packets.
    #[serde(default)]
    pub filter: PacketFilter,
    /// Bytes of each frame that are kept, [`SNAP_LEAST`] to [`SNAP_MOST`].
    #[serde(default = "snap")]
    pub snap: u16,
    /// Slots between each worker and control, 1 to [`SLOTS_MOST`].
    #[serde(default = "slots")]
    pub slots: u32,
    /// Tell the frames themselves; of the node that is asked only.
    #[serde(default)]
    pub frames: bool,
    /// By node: the number of the last packet that arrived, which need not be kept any longer.
    #[serde(default)]
    pub arrived: Vec<(u16, u64)>,
    /// Look on no longer.
    #[serde(default)]
    pub end: bool,
    /// Ask this node alone.
    #[serde(default)]
    pub here: bool,
}

fn snap() -> u16 {
    SNAP_LEAST
}

fn slots() -> u32 {
    SLOTS
}

impl WatchOrder {
    /// The number of the last packet of `node` that arrived.
    pub fn arrived_from(&self, node: u16) -> u64 {
        self.arrived.iter().filter(|(from, _)| *from == node).map(|(_, number)| *number).max().unwrap_or(0)
    }
}

/// Reply to [`super::Request::Watch`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Watched {
    /// What each node has seen.
    pub nodes: Vec<NodeWatched>,
    /// Nodes that did not answer.
    pub silent: Vec<Silent>,
}

/// What one node has seen.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct NodeWatched {
    /// The node.
    pub node: u16,
    /// All its workers look.
    pub looks: bool,
    /// Packets that matched and were not written down, because nobody had taken earlier ones.
    pub missed_full: u64,
    /// Packets that matched and were not written down, because a worker writes down so many per second only.
    pub missed_rate: u64,
    /// More were seen than there was room for in this reply.
    pub more: bool,
    /// What was seen, oldest first.
    pub seen: Vec<Seen>,
}

/// One packet at one core, from arrival to departure.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// Counts what this node tells under this order, from 1.
    pub number: u64,
    /// When it arrived, ns since 1970 by this node's clock.
    pub at_ns: u64,
    /// The worker.
    pub worker: u16,
    /// The same for the same packet on all nodes.
    pub packet: String,
    /// Interface it arrived on.
    pub interface: String,
    /// Its queue; null: not known, or it had waited here.
    pub queue: Option<u16>,
    /// Zone of that interface.
    pub zone: String,
    /// The interface leads to a service.
    pub from_service: bool,
    /// Another core of this node received it.
    pub handed_over: bool,
    /// It had been here before, and waited.
    pub waited: bool,
    /// Bytes of the frame, outer headers included.
    pub length: u32,
    /// How it came through the tunnel; null: it did not.
    pub tunnel: Option<TunnelSeen>,
    /// Its flow; null: it cannot be read.
    pub flow: Option<FlowSeen>,
    /// What its layer 4 says, for example `SYN ACK`.
    pub says: String,
    /// Director of its flow.
    pub director: u16,
    /// What this node knew of the flow; null: nothing.
    pub before: Option<KnownSeen>,
    /// What it knew afterwards; null: nothing.
    pub after: Option<KnownSeen>,
    /// The verdict; null: it did not come to that.
    pub said: Option<Said>,
    /// Its sender was told why it cannot go on.
    pub answered: bool,
    /// `left`, `waits`, `dropped`, or `handed_over` to another core.
    pub outcome: Cow<'static, str>,
    /// Why it was dropped, a name of `stats`.
    pub reason: Option<Cow<'static, str>>,
    /// Where it left.
    pub out: Option<OutSeen>,
    /// The frame as it arrived, base64, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// The frame as it left, base64, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame_left: Option<String>,
}

/// What a tunnel packet said of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TunnelSeen {
    /// `query`, `lookup`, `first_packet`, `redirect` or `gather`.
    pub kind: Cow<'static, str>,
    /// The node that sent it.
    pub sender: u16,
    /// The node at which the packet arrived.
    pub ingress: u16,
    /// The Owner it names, 0 for none.
    pub owner: u16,
    /// Generation of the claim it names.
    pub generation: u32,
    /// How often the packet has crossed the cluster link.
    pub crossings: u8,
    /// Epoch of the sender's view.
    pub epoch: u32,
}

/// A flow in the direction of a packet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FlowSeen {
    /// Name or number of the protocol.
    pub proto: Cow<'static, str>,
    /// Where it comes from.
    pub src: IpAddr,
    /// Its port; 0 where there is none.
    pub sport: u16,
    /// Where it goes.
    pub dst: IpAddr,
    /// Its port.
    pub dport: u16,
    /// Outer VLAN id, 0 for untagged.
    pub vlan: u16,
}

/// What a node knows of a flow.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KnownSeen {
    /// `owner`, `backup` or `claim`.
    pub role: Cow<'static, str>,
    /// The Owner.
    pub owner: u16,
    /// How often ownership was granted.
    pub generation: u32,
    /// Name of the state.
    pub state: Cow<'static, str>,
}

/// Where a packet left.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OutSeen {
    /// The interface.
    pub interface: String,
    /// Its queue.
    pub queue: u16,
    /// Frames: more than one if it was cut.
    pub pieces: u16,
    /// Bytes of the first one.
    pub length: u32,
}
