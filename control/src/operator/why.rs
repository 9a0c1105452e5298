//! `samepath why`: what is asked of a flow, what one node says of it, and the answer of all.

mod show;
mod story;

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::api::{Reply, SessionRow};
pub(super) use show::print;
pub use story::merge;

/// A packet of a flow, as it is asked about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// IANA protocol number.
    pub proto: u8,
    /// Where the packet comes from.
    pub src: IpAddr,
    /// Its port; of an ICMP query the identifier.
    #[serde(default)]
    pub sport: u16,
    /// Where it goes.
    pub dst: IpAddr,
    /// Its port; of an ICMP query the identifier.
    #[serde(default)]
    pub dport: u16,
    /// Outer VLAN id, 0 for untagged.
    #[serde(default)]
    pub vlan: u16,
    /// Inner VLAN id, 0 for none.
    #[serde(default)]
    pub inner_vlan: u16,
    /// Zone it arrives in; absent: that of the interface by which the node that is asked reaches `src`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Node it arrives at; absent: the node that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<u16>,
}

/// Reply to [`super::Request::Why`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Why {
    /// What was asked, zone and ingress filled in.
    pub flow: Flow,
    /// The flow's bucket.
    pub bucket: u16,
    /// Its Director.
    pub director: u16,
    /// Who would direct it if the Director died; null: nobody else.
    pub successor: Option<u16>,
    /// The node that owns the flow, by its own word or, if it does not answer, by that of others; null: nobody does.
    pub owner: Option<u16>,
    /// Generation of its ownership.
    pub generation: Option<u32>,
    /// Nodes that hold a copy of the Owner's session.
    pub backups: Vec<u16>,
    /// All nodes that answered name the same Director and the same Owner.
    pub agreed: bool,
    /// Where the packet goes, node by node.
    pub path: Vec<Step>,
    /// All of it in sentences.
    pub story: Vec<String>,
    /// What each node says.
    pub nodes: Vec<NodeWhy>,
    /// Nodes that did not answer.
    pub silent: Vec<Silent>,
}

/// A node on the packet's way and what it does with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Step {
    /// The node.
    pub node: u16,
    /// What it does.
    #[serde(flatten)]
    pub said: Said,
}

/// A node that did not answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Silent {
    /// The node.
    pub node: u16,
    /// Why.
    pub reason: Cow<'static, str>,
}

/// What one node says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NodeWhy {
    /// The node.
    pub node: u16,
    /// Epoch of its view.
    pub epoch: u32,
    /// The flow's bucket.
    pub bucket: u16,
    /// Members in the order in which they would be Director of it, the Director first.
    pub candidates: Vec<u16>,
    /// The former Director that it would ask about what it does not know; null: none.
    pub former: Option<u16>,
    /// It brings flows to their Owner.
    pub aggregation: bool,
    /// What it knows of the flow; null: nothing.
    pub session: Option<SessionRow>,
    /// What its policy says of the flow; null: it has none.
    pub policy: Option<RuleSaid>,
    /// What happens to the packet if it arrives here: the next one of a flow that this node knows, else a first one.
    pub arrives: Said,
    /// The same of a packet that is not the first one of its flow; null: the node knows the flow.
    pub later: Option<Said>,
    /// What happens to it if the ingress asks this node about it; null: this node is the ingress.
    pub asked: Option<Said>,
    /// The same if the policy lets it begin nothing, so that only an Owner is looked for.
    pub looked_up: Option<Said>,
    /// What happens to it if this node is granted the flow; null: the node knows the flow.
    pub granted: Option<Said>,
    /// Where it would leave.
    pub way: WaySaid,
}

/// What a policy says of a flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RuleSaid {
    /// Name of the rule; null: none matches, the default holds.
    pub rule: Option<String>,
    /// Where it stands in the file; 0: the default.
    pub line: usize,
    /// `allow`, `deny`, `reject` or `service NAME`.
    pub action: String,
    /// Names the policy.
    pub digest: String,
}

/// A verdict.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Said {
    /// `forward`, `service`, `query`, `lookup`, `first_packet`, `redirect`, `reject` or `drop`.
    pub verdict: Cow<'static, str>,
    /// The node that gets it through the tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u16>,
    /// Generation that is told with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// Why it is dropped or rejected, a name of `stats`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// The service that gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// Where a packet leaves a node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WaySaid {
    /// The interface; null: it cannot leave.
    pub interface: Option<String>,
    /// The neighbour that gets it: a gateway, or its destination.
    pub neighbour: Option<IpAddr>,
    /// The neighbour's link address; null: not known yet.
    pub mac: Option<String>,
    /// Largest IP packet that may leave there, bytes.
    pub mtu: Option<u32>,
    /// Why it cannot leave, or has to wait.
    pub obstacle: Option<Cow<'static, str>>,
}

impl NodeWhy {
    /// What a peer says, taken out of its reply; nothing if it speaks for another node.
    pub fn of_reply(reply: Reply, from: u16) -> Option<Self> {
        match reply {
            Reply::Why(why) => why.nodes.into_iter().next().filter(|node| node.node == from),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
