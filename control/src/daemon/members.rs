//! The answer to `samepath members`.

use foca::State;
use samepath_dataplane::flow::NodeId;

use super::Node;
use crate::membership::PeerState;
use crate::operator::api::{Member, Members};

/// As `members` shows it: the first half of the digest.
fn version_text(version: u32) -> String {
    if version == 0 { String::new() } else { format!("{version:08x}") }
}

impl Node {
    pub(super) fn members(&self) -> Members {
        let mut members = vec![self.own_line()];
        for (peer, state) in self.config.peers.iter().zip(self.membership.evidence().peers()) {
            members.push(self.peer_line(state, peer.address.to_string()));
        }
        members.sort_by_key(|member| member.node);
        let epoch = self.view.epoch;
        let adopted = self.workers.counters().iter().all(|one| one.view_epoch.get() == u64::from(epoch));
        let standing = self.membership.standing();
        Members {
            epoch,
            adopted,
            agreed: standing.agreed.iter().map(|node| node.0).collect(),
            quorate: standing.quorate,
            membership: match self.etcd.as_ref().map(|etcd| etcd.exchange(self.membership.own_row()).1) {
                None => "swim".into(),
                Some(true) => "etcd".into(),
                Some(false) => "etcd (away)".into(),
            },
            timeout_ms: self.config.peer_timeout_ms,
            members,
        }
    }

    fn own_line(&self) -> Member {
        let me = self.config.node;
        Member {
            node: me.0,
            address: self.config.cluster_address.to_string(),
            live: true,
            is_self: true,
            state: if self.membership.is_agreed() { "member".into() } else { "apart".into() },
            weight: self.view.my_weight(),
            connected: true,
            last_heard_ms: None,
            detected_ms: None,
            swim: None,
            sync: if self.ready { "whole".into() } else { "waiting".into() },
            buckets: self.view.director.share(me),
            policy: Some(version_text(self.policy.version())),
            refused: None,
        }
    }

    fn peer_line(&self, state: &PeerState, address: String) -> Member {
        let now = self.now();
        let opinion = self.membership.opinion(state.node).map(|opinion| match opinion {
            State::Alive => "alive".into(),
            State::Suspect => "suspect".into(),
            State::Down => "down".into(),
        });
        Member {
            node: state.node.0,
            address,
            live: self.view.is_live(state.node),
            is_self: false,
            state: self.state_of(state).into(),
            weight: state.weight,
            connected: state.connected,
            last_heard_ms: (state.last_heard.0 > 0).then(|| now.since(state.last_heard)),
            detected_ms: state.detected_ms,
            swim: opinion,
            sync: self.sync_of(state.node, state.synced).into(),
            buckets: self.view.director.share(state.node),
            policy: self.membership.policy_of(state.node).map(version_text),
            refused: state.refused.clone(),
        }
    }

    fn state_of(&self, peer: &PeerState) -> &'static str {
        let agreed = self.membership.standing().agreed.contains(&peer.node);
        match () {
            () if peer.refused.is_some() => "refused",
            () if peer.leaving => "left",
            () if peer.suppressed => "flapping",
            () if peer.live && agreed => "member",
            () if peer.live || agreed => "apart",
            () if peer.heard => "not admitted",
            () if peer.last_heard.0 > 0 => "dead",
            () => "never heard",
        }
    }

    /// How far this node and a peer have each other's sessions.
    fn sync_of(&self, node: NodeId, theirs_here: bool) -> &'static str {
        let towards = self.replicator.stats().into_iter().find(|peer| peer.peer == node);
        match towards {
            Some(peer) if !peer.connected => "none",
            Some(peer) if peer.syncing => "sending",
            Some(_) if !theirs_here => "receiving",
            Some(_) => "whole",
            None => "none",
        }
    }
}
