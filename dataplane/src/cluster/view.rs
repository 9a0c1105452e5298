//! The view: epoch, live members, Director buckets, where each peer's tunnel ends. Immutable.

use crate::cluster::director::{Director, DirectorHash, DirectorKey};
use crate::flow::{FlowKey, NodeId};
use crate::keyring::PeerKey;
use crate::wire::tunnel::TunnelEnds;

/// A live member and its share of Director duty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Member {
    /// Its number.
    pub node: NodeId,
    /// Its share, 1..=16; 0 takes no Director duty.
    pub weight: u8,
}

/// Where a configured peer's tunnel ends, live or not.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its number.
    pub node: NodeId,
    /// Its cluster address.
    pub address: std::net::IpAddr,
    /// Outer headers towards it; `None` until its link address is known.
    pub ends: Option<TunnelEnds>,
    /// The key it gave this node to speak with; `None` until it did.
    pub key: Option<PeerKey>,
    /// This node hears it: Hello messages to it say so.
    pub heard: bool,
}

/// Epoch and live members, with everything workers derive from them.
#[derive(Clone, Debug)]
pub struct View {
    /// Number of the view, the same on all members once they agree.
    pub epoch: u32,
    /// This node.
    pub me: NodeId,
    /// Live members, this node included, ascending.
    pub members: Vec<Member>,
    /// All configured peers.
    pub peers: Vec<Peer>,
    /// Who directs which bucket.
    pub director: Director,
    /// The members are enough (`--quorum`): flows may begin.
    pub quorate: bool,
}

impl View {
    /// Builds a view; `members` must contain `me`.
    pub fn new(
        epoch: u32,
        me: NodeId,
        mut members: Vec<Member>,
        peers: Vec<Peer>,
        hash: DirectorHash,
        key: &DirectorKey,
    ) -> Self {
        members.sort_unstable();
        let director = Director::new(&members, hash, key);
        Self { epoch, me, members, peers, director, quorate: true }
    }

    /// True if `node` is live.
    pub fn is_live(&self, node: NodeId) -> bool {
        self.members.iter().any(|member| member.node == node)
    }

    /// This node's own share of Director duty.
    pub fn my_weight(&self) -> u8 {
        self.weight_of(self.me)
    }

    /// A node's share of Director duty; 0 if it is not live, not ready, or drains.
    pub fn weight_of(&self, node: NodeId) -> u8 {
        self.members.iter().find(|member| member.node == node).map_or(0, |member| member.weight)
    }

    /// The peer with this number.
    pub fn peer(&self, node: NodeId) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.node == node)
    }

    /// The Director of a flow in this view.
    pub fn director_of(&self, key: &FlowKey) -> NodeId {
        self.director.of(key)
    }
}
