//! Which keys this node and each peer speak to each other with in the tunnel. No sockets, no clock.
//!
//! Who receives makes the key: this node draws one for each peer, its workers take it into use, and only then the
//! peer is told, over the control channel that both certificates authenticate. So a packet under it is from that
//! peer, and nothing is lost when keys change. A key is for one process of the peer: one that starts again
//! counts anew and gets another.
//!
//! ```text
//! connected, or time is over ──► drawn ──► workers have it ──► told ──► heard under it ──► the old one is forgotten
//! ```

use std::collections::{BTreeMap, VecDeque};

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::keyring::PeerKey;
use samepath_dataplane::wire::tunnel::TunnelKey;

/// How long the former key still opens after the peer was first heard under the new one, ms: until every packet
/// under the old one has left its rings and queues.
pub const GRACE_MS: u64 = 5_000;

/// What is to be done, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Workers open packets of the peer with this key too.
    Take(NodeId, PeerKey),
    /// They open nothing with it any longer.
    Forget(NodeId, u8),
    /// The peer is told to speak with it.
    Tell(NodeId, PeerKey),
}

/// See the file's first lines.
#[derive(Debug)]
pub struct TunnelKeys {
    rekey_ms: u64,
    /// Number of the first key of each peer.
    first: u8,
    given: BTreeMap<NodeId, Given>,
    /// What peers gave this node.
    held: BTreeMap<NodeId, PeerKey>,
    orders: VecDeque<Order>,
    /// Keys that workers were told to take.
    takes: u64,
}

/// What this node gave one peer.
#[derive(Debug)]
struct Given {
    /// The peer's process it is for.
    boot_id: u64,
    key: PeerKey,
    since: NowMs,
    /// Number among [`TunnelKeys::takes`].
    take: u64,
    connected: bool,
    told: bool,
    /// When the peer was first heard under it.
    heard: Option<NowMs>,
    /// The one before, while it still opens.
    former: Option<u8>,
}

impl TunnelKeys {
    /// No keys yet. `rekey_ms`: how long a key is used. `first`: another number than that of the last start, so that what
    /// peers still send under keys of before it is known for that.
    pub fn new(rekey_ms: u64, first: u8) -> Self {
        let (given, held) = (BTreeMap::new(), BTreeMap::new());
        Self { rekey_ms, first, given, held, orders: VecDeque::new(), takes: 0 }
    }

    /// The control channel to a peer's process stands. `random` draws a key.
    pub fn handle_connected(
        &mut self,
        peer: NodeId,
        boot_id: u64,
        now: NowMs,
        random: impl FnOnce() -> [u8; 16],
    ) {
        if let Some(given) = self.given.get_mut(&peer).filter(|given| given.boot_id == boot_id) {
            // What was told may not have arrived.
            (given.connected, given.told) = (true, false);
            return;
        }
        let mut id = self.first;
        if let Some(old) = self.given.remove(&peer) {
            id = old.key.id.wrapping_add(1);
            let gone = old.former.into_iter().chain([old.key.id]);
            self.orders.extend(gone.map(|id| Order::Forget(peer, id)));
        }
        self.draw(peer, boot_id, id, now, random());
    }

    fn draw(&mut self, peer: NodeId, boot_id: u64, id: u8, now: NowMs, random: [u8; 16]) {
        let key = PeerKey { id, key: TunnelKey::new(random) };
        self.takes += 1;
        self.orders.push_back(Order::Take(peer, key.clone()));
        let (since, take) = (now, self.takes);
        let fresh =
            Given { boot_id, key, since, take, connected: true, told: false, heard: None, former: None };
        self.given.insert(peer, fresh);
    }

    /// The control channel to a peer is gone. The tunnel goes on with the keys there are.
    pub fn handle_lost(&mut self, peer: NodeId) {
        if let Some(given) = self.given.get_mut(&peer) {
            given.connected = false;
        }
    }

    /// A peer has given this node a key to speak with; true if it is a new one.
    pub fn handle_given(&mut self, from: NodeId, key: PeerKey) -> bool {
        self.held.insert(from, key.clone()) != Some(key)
    }

    /// A peer's last Hello was said under key number `id`.
    pub fn handle_heard(&mut self, peer: NodeId, id: u8, now: NowMs) {
        if let Some(given) = self.given.get_mut(&peer)
            && given.key.id == id
            && given.told
        {
            given.heard.get_or_insert(now);
        }
    }

    /// To be called often. `taken`: how many keys every worker has taken into use.
    pub fn handle_timeout(&mut self, taken: u64, now: NowMs, mut random: impl FnMut() -> [u8; 16]) {
        let mut due = Vec::new();
        for (&peer, given) in &mut self.given {
            if given.connected && !given.told && taken >= given.take {
                given.told = true;
                self.orders.push_back(Order::Tell(peer, given.key.clone()));
            }
            let Some(heard) = given.heard else { continue };
            if now.since(heard) >= GRACE_MS
                && let Some(former) = given.former.take()
            {
                self.orders.push_back(Order::Forget(peer, former));
            }
            if given.connected && given.former.is_none() && now.since(given.since) >= self.rekey_ms {
                due.push((peer, given.boot_id, given.key.id));
            }
        }
        for (peer, boot_id, old) in due {
            self.draw(peer, boot_id, old.wrapping_add(1), now, random());
            if let Some(given) = self.given.get_mut(&peer) {
                given.former = Some(old);
            }
        }
    }

    /// What is to be done next.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// What this node speaks to a peer with.
    pub fn held(&self, peer: NodeId) -> Option<&PeerKey> {
        self.held.get(&peer)
    }

    /// Numbers of the keys in use with a peer: the one it speaks with, and the one this node does.
    pub fn numbers(&self, peer: NodeId) -> (Option<u8>, Option<u8>) {
        (self.given.get(&peer).map(|given| given.key.id), self.held.get(&peer).map(|key| key.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(2);

    fn key(id: u8, random: u8) -> PeerKey {
        PeerKey { id, key: TunnelKey::new([random; 16]) }
    }

    fn orders(keys: &mut TunnelKeys, taken: u64, now: u64, random: u8) -> Vec<Order> {
        keys.handle_timeout(taken, NowMs(now), || [random; 16]);
        std::iter::from_fn(|| keys.poll_order()).collect()
    }

    fn agreed() -> TunnelKeys {
        let mut keys = TunnelKeys::new(60_000, 1);
        keys.handle_connected(PEER, 7, NowMs(1_000), || [1; 16]);
        assert_eq!(orders(&mut keys, 0, 1_000, 0), [Order::Take(PEER, key(1, 1))]);
        assert_eq!(orders(&mut keys, 1, 1_001, 0), [Order::Tell(PEER, key(1, 1))]);
        keys.handle_heard(PEER, 1, NowMs(1_010));
        assert_eq!(orders(&mut keys, 1, 60_999, 0), []);
        keys
    }

    #[test]
    fn the_peer_is_told_when_all_workers_have_the_key() {
        agreed();
    }

    #[test]
    fn a_key_is_replaced_without_a_gap() {
        let mut keys = agreed();
        assert_eq!(orders(&mut keys, 1, 61_000, 2), [Order::Take(PEER, key(2, 2))]);
        keys.handle_heard(PEER, 1, NowMs(61_001));
        assert_eq!(orders(&mut keys, 2, 61_002, 0), [Order::Tell(PEER, key(2, 2))]);
        assert_eq!(orders(&mut keys, 2, 200_000, 0), [], "until the peer is heard under it both open");
        keys.handle_heard(PEER, 2, NowMs(200_000));
        assert_eq!(orders(&mut keys, 2, 200_000 + GRACE_MS - 1, 0), []);
        let after = orders(&mut keys, 2, 200_000 + GRACE_MS, 3);
        assert_eq!(after, [Order::Forget(PEER, 1), Order::Take(PEER, key(3, 3))]);
    }

    #[test]
    fn a_cut_channel_changes_no_keys() {
        let mut keys = agreed();
        keys.handle_lost(PEER);
        assert_eq!(orders(&mut keys, 1, 500_000, 2), []);
        keys.handle_connected(PEER, 7, NowMs(500_001), || unreachable!("the process is the same"));
        let told = orders(&mut keys, 1, 500_002, 2);
        assert_eq!(told[0], Order::Tell(PEER, key(1, 1)), "it may not have arrived");
    }

    #[test]
    fn a_process_that_starts_again_gets_another_key_and_its_old_ones_open_nothing() {
        let mut keys = agreed();
        assert_eq!(orders(&mut keys, 1, 61_000, 2), [Order::Take(PEER, key(2, 2))]);
        keys.handle_connected(PEER, 8, NowMs(61_001), || [3; 16]);
        let after = orders(&mut keys, 2, 61_002, 0);
        assert_eq!(after, [Order::Forget(PEER, 1), Order::Forget(PEER, 2), Order::Take(PEER, key(3, 3))]);
    }

    #[test]
    fn what_a_peer_gave_is_held() {
        let mut keys = agreed();
        assert!(keys.handle_given(PEER, key(9, 9)));
        assert!(!keys.handle_given(PEER, key(9, 9)));
        assert!(keys.handle_given(PEER, key(10, 9)));
        assert_eq!(keys.numbers(PEER), (Some(1), Some(10)));
    }
}
