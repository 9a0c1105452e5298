//! Which peers are live. A peer is judged by its Hello, which travels through the tunnel, on the very
//! path redirected packets take; so a cut control channel does not change the view, and a cut tunnel
//! does. It is admitted only after its control channel has once agreed on key, hash and cluster.

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::cluster::view::Member;
use samepath_dataplane::counters::Counters;
use samepath_dataplane::flow::NodeId;

/// The daemon looks every few milliseconds. Pauses shorter than this are the scheduler's business.
const SLEPT_MS: u64 = 100;

/// What is known of one configured peer.
#[derive(Clone, Debug)]
pub struct PeerState {
    /// Its number.
    pub node: NodeId,
    /// Its control channel has agreed on key, hash and cluster.
    pub admitted: bool,
    /// The control channel is open now.
    pub connected: bool,
    /// A bulk sync from this peer is complete since it was last admitted.
    pub synced: bool,
    /// Why it was refused, or refused this node.
    pub refused: Option<String>,
    /// It said that it leaves; forgotten when it is admitted again.
    pub leaving: bool,
    /// Its last Hello.
    pub last_heard: NowMs,
    /// A Hello of it came within the timeout.
    pub heard: bool,
    /// It said that it hears this node.
    pub hears_me: bool,
    /// The Director weight it last told.
    pub weight: u8,
    /// In the present view.
    pub live: bool,
}

/// All configured peers.
#[derive(Clone, Debug)]
pub struct Liveness {
    peers: Vec<PeerState>,
    timeout_ms: u64,
    /// When [`Liveness::observe`] was last called.
    observed: NowMs,
    /// When this node last went on after it had not observed for long: silence before that is its own fault.
    resumed: NowMs,
}

impl Liveness {
    /// Nobody is live yet. `timeout_ms`: silence after which a peer is dead.
    pub fn new(peers: impl IntoIterator<Item = NodeId>, timeout_ms: u64) -> Self {
        let peers = peers
            .into_iter()
            .map(|node| PeerState {
                node,
                admitted: false,
                connected: false,
                synced: false,
                refused: None,
                leaving: false,
                last_heard: NowMs(0),
                heard: false,
                hears_me: false,
                weight: 0,
                live: false,
            })
            .collect();
        Self { peers, timeout_ms, observed: NowMs(0), resumed: NowMs(0) }
    }

    /// All peers.
    pub fn peers(&self) -> &[PeerState] {
        &self.peers
    }

    /// One peer.
    pub fn peer(&self, node: NodeId) -> Option<&PeerState> {
        self.peers.iter().find(|peer| peer.node == node)
    }

    fn peer_mut(&mut self, node: NodeId) -> Option<&mut PeerState> {
        self.peers.iter_mut().find(|peer| peer.node == node)
    }

    /// The control channel to a peer has just been opened.
    pub fn connected(&mut self, node: NodeId) {
        if let Some(peer) = self.peer_mut(node) {
            peer.leaving = false;
        }
        self.is_connected(node);
    }

    /// The control channel to a peer is open: what an earlier attempt was refused for is over.
    pub fn is_connected(&mut self, node: NodeId) {
        if let Some(peer) = self.peer_mut(node).filter(|peer| !peer.leaving) {
            peer.admitted = true;
            peer.connected = true;
            peer.refused = None;
        }
    }

    /// The control channel to a peer is gone; the view does not change for it.
    pub fn disconnected(&mut self, node: NodeId) {
        if let Some(peer) = self.peer_mut(node) {
            peer.connected = false;
        }
    }

    /// A bulk sync from a peer is complete.
    pub fn synced(&mut self, node: NodeId) {
        if let Some(peer) = self.peer_mut(node) {
            peer.synced = true;
        }
    }

    /// A peer refused this node or was refused: it is no member until the control channel agrees.
    pub fn refused(&mut self, node: NodeId, reason: String) {
        if let Some(peer) = self.peer_mut(node) {
            peer.admitted = false;
            peer.connected = false;
            peer.refused = Some(reason);
        }
    }

    /// A peer said goodbye.
    pub fn leaving(&mut self, node: NodeId) {
        if let Some(peer) = self.peer_mut(node) {
            peer.leaving = true;
            peer.admitted = false;
            peer.connected = false;
        }
    }

    /// A peer has begun anew: until it is heard again it takes no duty, and its sessions are not here.
    pub fn restarted(&mut self, node: NodeId) {
        if let Some(peer) = self.peer_mut(node) {
            peer.weight = 0;
            peer.synced = false;
        }
    }

    /// Reads the workers' Hello records; true if a peer came, went, changed its weight or is heard (no more).
    pub fn observe<'a>(&mut self, counters: impl Iterator<Item = &'a Counters> + Clone, now: NowMs) -> bool {
        let mut changed = false;
        if self.observed.0 > 0 && now.since(self.observed) > (self.timeout_ms / 4).max(SLEPT_MS) {
            self.resumed = now;
        }
        self.observed = now;
        for peer in &mut self.peers {
            let heard = counters.clone().filter_map(|one| one.last_heard(peer.node)).max();
            let before = (peer.live, peer.heard, peer.weight);
            if let Some((at, weight, hears_me)) = heard {
                peer.last_heard = NowMs(at);
                peer.weight = weight;
                peer.hears_me = hears_me;
            }
            let since = if peer.heard { peer.last_heard.max(self.resumed) } else { peer.last_heard };
            peer.heard = since.0 > 0 && now.since(since) <= self.timeout_ms;
            peer.live = peer.admitted && !peer.leaving && peer.heard && peer.hears_me;
            if !peer.live {
                peer.synced &= peer.admitted && peer.connected;
            }
            changed |= before != (peer.live, peer.heard, if peer.live { peer.weight } else { before.2 });
        }
        changed
    }

    /// The members of the view: the live peers and this node.
    pub fn members(&self, me: NodeId, weight: u8) -> Vec<Member> {
        self.peers
            .iter()
            .filter(|peer| peer.live)
            .map(|peer| Member { node: peer.node, weight: peer.weight })
            .chain([Member { node: me, weight }])
            .collect()
    }

    /// True when every live peer's sessions are here, and either all peers are live or waiting for the
    /// missing ones is over.
    pub fn is_ready(&self, grace_over: bool) -> bool {
        let all_synced = self.peers.iter().filter(|peer| peer.live).all(|peer| peer.synced);
        let all_live = self.peers.iter().all(|peer| peer.live);
        all_synced && (all_live || grace_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_peers() -> Liveness {
        Liveness::new([NodeId(2), NodeId(3)], 1000)
    }

    #[test]
    fn a_peer_is_live_once_admitted_and_heard_and_dead_after_silence() {
        let mut liveness = two_peers();
        let counters = Counters::default();
        counters.heard_from(NodeId(2), 1, true, 5_000);
        assert!(liveness.observe([&counters].into_iter(), NowMs(5_100)), "it must be told that it is heard");
        assert!(liveness.members(NodeId(1), 1).len() == 1, "heard but not admitted");
        liveness.connected(NodeId(2));
        assert!(liveness.observe([&counters].into_iter(), NowMs(5_100)));
        assert_eq!(liveness.members(NodeId(1), 1).len(), 2);
        liveness.disconnected(NodeId(2));
        assert!(
            !liveness.observe([&counters].into_iter(), NowMs(5_200)),
            "a cut control channel changes nothing"
        );
        (5_250..6_000).step_by(50).for_each(|at| {
            assert!(!liveness.observe([&counters].into_iter(), NowMs(at)));
        });
        assert!(liveness.observe([&counters].into_iter(), NowMs(6_001)));
        assert_eq!(liveness.members(NodeId(1), 1).len(), 1);
    }

    #[test]
    fn a_peer_that_hears_nothing_is_dead_though_it_is_heard() {
        let mut liveness = two_peers();
        let counters = Counters::default();
        liveness.connected(NodeId(2));
        counters.heard_from(NodeId(2), 1, false, 5_000);
        assert!(liveness.observe([&counters].into_iter(), NowMs(5_100)), "it must be told that it is heard");
        assert!(liveness.peer(NodeId(2)).is_some_and(|peer| peer.heard && !peer.live));
        counters.heard_from(NodeId(2), 1, true, 5_200);
        assert!(liveness.observe([&counters].into_iter(), NowMs(5_300)));
        assert!(liveness.peer(NodeId(2)).is_some_and(|peer| peer.live));
    }

    #[test]
    fn a_node_that_slept_does_not_accuse_the_others_at_once() {
        let mut liveness = two_peers();
        let counters = Counters::default();
        liveness.connected(NodeId(2));
        counters.heard_from(NodeId(2), 1, true, 5_000);
        assert!(liveness.observe([&counters].into_iter(), NowMs(5_000)));
        assert!(
            !liveness.observe([&counters].into_iter(), NowMs(15_000)),
            "it has not looked for ten seconds"
        );
        (0..10).for_each(|step| {
            assert!(!liveness.observe([&counters].into_iter(), NowMs(15_100 + step * 100)));
        });
        assert!(
            liveness.observe([&counters].into_iter(), NowMs(16_100)),
            "but now it has looked long enough"
        );
    }

    #[test]
    fn a_refused_attempt_beside_an_open_channel_changes_nothing() {
        let mut liveness = two_peers();
        let counters = Counters::default();
        counters.heard_from(NodeId(2), 1, true, 5_000);
        liveness.connected(NodeId(2));
        liveness.refused(NodeId(2), "a stale attempt".into());
        liveness.is_connected(NodeId(2));
        assert!(liveness.observe([&counters].into_iter(), NowMs(5_100)));
        assert!(liveness.peer(NodeId(2)).is_some_and(|peer| peer.live && peer.refused.is_none()));
    }

    #[test]
    fn a_peer_that_left_is_admitted_again_only_by_a_new_channel() {
        let mut liveness = two_peers();
        let counters = Counters::default();
        counters.heard_from(NodeId(2), 1, true, 5_000);
        liveness.connected(NodeId(2));
        liveness.leaving(NodeId(2));
        liveness.is_connected(NodeId(2));
        liveness.observe([&counters].into_iter(), NowMs(5_100));
        assert!(liveness.members(NodeId(1), 1).len() == 1);
        liveness.connected(NodeId(2));
        assert!(liveness.observe([&counters].into_iter(), NowMs(5_100)));
    }

    #[test]
    fn ready_means_synced_with_every_live_peer() {
        let mut liveness = two_peers();
        let counters = Counters::default();
        counters.heard_from(NodeId(2), 1, true, 5_000);
        liveness.connected(NodeId(2));
        liveness.observe([&counters].into_iter(), NowMs(5_000));
        assert!(!liveness.is_ready(true), "live but not synced");
        liveness.synced(NodeId(2));
        assert!(!liveness.is_ready(false), "peer 3 may still come");
        assert!(liveness.is_ready(true));
    }
}
