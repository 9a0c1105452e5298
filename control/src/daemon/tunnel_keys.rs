//! Joins [`crate::tunnel_keys`] to the workers and the peers.

use samepath_dataplane::flow::NodeId;
use samepath_dataplane::keyring::{OpenKey, PeerKey};
use samepath_dataplane::mailbox::ToWorker;

use super::Node;
use super::start::random;
use crate::tunnel_keys::Order;

impl Node {
    /// A peer gave this node a key to speak with: workers use it, and what the XDP program tags by itself is void.
    pub(super) fn take_tunnel_key(&mut self, from: NodeId, key: PeerKey) -> anyhow::Result<()> {
        if self.tunnel_keys.handle_given(from, key) {
            self.membership.touch();
            self.publish_standing()?;
        }
        Ok(())
    }

    /// Gives keys to peers and replaces those that are old.
    pub(super) fn watch_tunnel_keys(&mut self) {
        let taken = self.workers.counters().iter().map(|one| one.tunnel_keys.get()).min();
        self.tunnel_keys.handle_timeout(taken.unwrap_or(0), self.clock.now(), random_key);
        while let Some(order) = self.tunnel_keys.poll_order() {
            match order {
                Order::Take(peer, key) => {
                    self.workers.tell_all(|| ToWorker::TakeKey(OpenKey::new(peer, key.clone())));
                }
                Order::Forget(peer, id) => self.workers.tell_all(|| ToWorker::ForgetKey { peer, id }),
                Order::Tell(peer, key) => self.replicator.give_key(peer, key),
            }
        }
    }
}

/// A key nobody can guess.
pub(super) fn random_key() -> [u8; 16] {
    random().expect("the start has read random numbers from this kernel")
}
