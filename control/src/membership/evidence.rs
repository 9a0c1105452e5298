//! Whom this node hears. A peer is heard by its Hello, which travels through the tunnel, on the very path redirected
//! packets take; so a cut control channel silences nobody, and a cut tunnel does. It may be heard only after its
//! control channel has once agreed on key, hash and cluster.

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::counters::Told;
use samepath_dataplane::flow::NodeId;

/// What a death without a restart costs a peer. Above [`SUPPRESS`] it stays out until it is below [`REUSE`]; half is
/// forgiven every [`HALF_LIFE_MS`]. So the third death within some seconds keeps a peer out, for 10 s at most, and
/// one death every three seconds or less often never does.
const FLAP: u32 = 1_000;
const SUPPRESS: u32 = 2_500;
const REUSE: u32 = 1_250;
const WORST: u32 = 5_000;
const HALF_LIFE_MS: u64 = 5_000;

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
    /// The Director weight it last told.
    pub weight: u8,
    /// Its Hello is fresh.
    pub heard: bool,
    /// It says that it hears this node.
    pub hears_me: bool,
    /// It is heard and hears, may be, and is steady.
    pub live: bool,
    /// It comes and goes too often: kept out until it is steady.
    pub suppressed: bool,
    /// How long it was silent when it was last taken for dead, ms.
    pub detected_ms: Option<u64>,
    /// Time of its silence in which this node could not have heard it, ms.
    excused_ms: u64,
    penalty: (u32, NowMs),
}

impl PeerState {
    fn new(node: NodeId) -> Self {
        Self {
            node,
            admitted: false,
            connected: false,
            synced: false,
            refused: None,
            leaving: false,
            last_heard: NowMs(0),
            weight: 0,
            heard: false,
            hears_me: false,
            live: false,
            suppressed: false,
            detected_ms: None,
            excused_ms: 0,
            penalty: (0, NowMs(0)),
        }
    }

    fn silence(&self, now: NowMs) -> u64 {
        now.since(self.last_heard).saturating_sub(self.excused_ms)
    }

    fn penalty_at(&self, now: NowMs) -> u32 {
        let (penalty, at) = self.penalty;
        let halvings = now.since(at) as f64 / HALF_LIFE_MS as f64;
        (f64::from(penalty) * (-halvings).exp2()) as u32
    }

    fn judge(&mut self, limit_ms: u64, now: NowMs) {
        let (was_heard, silence) = (self.heard, self.silence(now));
        self.heard = self.last_heard.0 > 0 && silence <= limit_ms;
        if was_heard && !self.heard {
            self.detected_ms = Some(now.since(self.last_heard));
            if !self.leaving {
                self.penalty = ((self.penalty_at(now) + FLAP).min(WORST), now);
            }
        }
        let penalty = self.penalty_at(now);
        self.suppressed = penalty > if self.suppressed { REUSE } else { SUPPRESS };
        self.live = self.heard && self.hears_me && self.admitted && !self.leaving && !self.suppressed;
        if !self.live {
            self.synced &= self.admitted && self.connected;
        }
    }
}

/// All configured peers.
#[derive(Clone, Debug)]
pub struct Evidence {
    peers: Vec<PeerState>,
}

impl Evidence {
    /// Nobody is heard yet.
    pub fn new(peers: impl IntoIterator<Item = NodeId>) -> Self {
        Self { peers: peers.into_iter().map(PeerState::new).collect() }
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

    /// The control channel to a peer is gone; nobody dies of it.
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

    /// A peer was started again: its deaths before do not count.
    pub fn forgive(&mut self, node: NodeId) {
        if let Some(peer) = self.peer_mut(node) {
            peer.penalty.0 = 0;
        }
    }

    /// A peer has begun anew: until it is heard again it takes no duty, and its sessions are not here.
    pub fn restarted(&mut self, node: NodeId) {
        self.forgive(node);
        if let Some(peer) = self.peer_mut(node) {
            peer.weight = 0;
            peer.synced = false;
        }
    }

    /// A Hello came at `at`, or the last one known did.
    pub fn heard(&mut self, node: NodeId, at: NowMs, told: Told) {
        if let Some(peer) = self.peer_mut(node)
            && at > peer.last_heard
        {
            peer.last_heard = at;
            peer.weight = told.weight;
            peer.hears_me = told.hears_me;
            peer.excused_ms = 0;
        }
    }

    /// This node did not run for so long: nobody's silence meanwhile counts.
    pub fn excuse(&mut self, ms: u64) {
        for peer in &mut self.peers {
            peer.excused_ms += ms;
        }
    }

    /// Judges all peers; `limit_ms`: how long each may be silent.
    pub fn judge(&mut self, limit_ms: impl Fn(NodeId) -> u64, now: NowMs) {
        for peer in &mut self.peers {
            peer.judge(limit_ms(peer.node), now);
        }
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

    const PEER: NodeId = NodeId(2);
    const HEARS: Told = Told { weight: 1, hears_me: true, epoch: 1, key: 1 };

    fn judged(evidence: &mut Evidence, now: u64) -> bool {
        evidence.judge(|_| 1000, NowMs(now));
        evidence.peer(PEER).is_some_and(|peer| peer.live)
    }

    fn heard() -> Evidence {
        let mut evidence = Evidence::new([PEER, NodeId(3)]);
        evidence.heard(PEER, NowMs(5_000), HEARS);
        evidence
    }

    #[test]
    fn a_peer_is_live_once_admitted_and_heard_and_dead_after_silence() {
        let mut evidence = heard();
        assert!(!judged(&mut evidence, 5_100), "heard but not admitted");
        evidence.connected(PEER);
        assert!(judged(&mut evidence, 5_100));
        evidence.disconnected(PEER);
        assert!(judged(&mut evidence, 5_900), "a cut control channel changes nothing");
        assert!(!judged(&mut evidence, 6_001));
        assert_eq!(evidence.peer(PEER).and_then(|peer| peer.detected_ms), Some(1_001));
    }

    #[test]
    fn silence_while_this_node_slept_is_excused_until_the_next_hello() {
        let mut evidence = heard();
        evidence.connected(PEER);
        evidence.excuse(10_000);
        assert!(judged(&mut evidence, 15_900));
        assert!(!judged(&mut evidence, 16_001), "but only so much");
        evidence.heard(PEER, NowMs(17_000), HEARS);
        assert!(judged(&mut evidence, 17_900));
        assert!(!judged(&mut evidence, 18_001));
    }

    #[test]
    fn a_refused_attempt_beside_an_open_channel_changes_nothing() {
        let mut evidence = heard();
        evidence.connected(PEER);
        evidence.refused(PEER, "a stale attempt".into());
        evidence.is_connected(PEER);
        assert!(judged(&mut evidence, 5_100));
        assert!(evidence.peer(PEER).is_some_and(|peer| peer.refused.is_none()));
    }

    #[test]
    fn a_peer_that_left_is_admitted_again_only_by_a_new_channel() {
        let mut evidence = heard();
        evidence.connected(PEER);
        evidence.leaving(PEER);
        evidence.is_connected(PEER);
        assert!(!judged(&mut evidence, 5_100));
        evidence.connected(PEER);
        assert!(judged(&mut evidence, 5_100));
    }

    /// Live or not, after deaths 2 s apart.
    fn flap(evidence: &mut Evidence, deaths: u64) -> bool {
        evidence.connected(PEER);
        for death in 0..deaths {
            let at = 5_000 + death * 2_000;
            evidence.heard(PEER, NowMs(at), HEARS);
            judged(evidence, at);
            judged(evidence, at + 1_500);
        }
        let at = 5_000 + deaths * 2_000;
        evidence.heard(PEER, NowMs(at), HEARS);
        judged(evidence, at)
    }

    #[test]
    fn a_peer_that_comes_and_goes_stays_out_until_it_is_steady() {
        assert!(flap(&mut heard(), 3), "some deaths are forgiven");
        let mut evidence = heard();
        assert!(!flap(&mut evidence, 8));
        let (begun, mut now) = (21_000, 21_000);
        while !judged(&mut evidence, now) {
            now += 100;
            evidence.heard(PEER, NowMs(now), HEARS);
            assert!(now < begun + 11_000, "10 s at most");
        }
        assert!(now > begun + 2_000, "{}", now - begun);
    }

    #[test]
    fn a_peer_that_hears_nothing_is_dead_though_it_is_heard() {
        let mut evidence = heard();
        evidence.connected(PEER);
        evidence.heard(PEER, NowMs(5_050), Told { hears_me: false, ..HEARS });
        assert!(!judged(&mut evidence, 5_100));
        assert!(evidence.peer(PEER).is_some_and(|peer| peer.heard));
        evidence.heard(PEER, NowMs(5_150), HEARS);
        assert!(judged(&mut evidence, 5_200));
    }

    #[test]
    fn a_restart_is_no_flap() {
        let mut evidence = heard();
        assert!(!flap(&mut evidence, 8));
        evidence.forgive(PEER);
        assert!(judged(&mut evidence, 21_100));
    }

    #[test]
    fn ready_means_synced_with_every_live_peer() {
        let mut evidence = heard();
        evidence.connected(PEER);
        judged(&mut evidence, 5_000);
        assert!(!evidence.is_ready(true), "live but not synced");
        evidence.synced(PEER);
        assert!(!evidence.is_ready(false), "peer 3 may still come");
        assert!(evidence.is_ready(true));
    }
}
