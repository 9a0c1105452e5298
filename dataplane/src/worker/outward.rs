//! What stands in front of tunnel packets to each peer, and the numbers they bear. Every packet of this worker into
//! the tunnel gets its number here.

use crate::cluster::view::View;
use crate::flow::NodeId;
use crate::keyring::PeerKey;
use crate::settings::Settings;
use crate::verdict::DropReason;
use crate::wire::tunnel::{Outer, Seal, TaggedFlow, TunnelOption};

/// All configured peers.
#[derive(Debug, Default)]
pub(crate) struct Outward {
    stream: u8,
    peers: Vec<Towards>,
}

/// One peer.
#[derive(Debug)]
pub(crate) struct Towards {
    node: NodeId,
    live: bool,
    /// `None` while its link address is not known.
    outer: Option<Outer>,
    /// What it has given this node to speak with.
    key: Option<PeerKey>,
    stream: u8,
    /// Packets sent under this key.
    sent: u64,
}

impl Outward {
    /// Of worker `index`.
    pub(super) fn new(index: usize) -> Self {
        Self { stream: index as u8, peers: Vec::new() }
    }

    /// View or settings changed. Whoever has the same key as before is counted on.
    pub(super) fn renew(&mut self, view: &View, settings: &Settings) {
        let stream = self.stream;
        let mut before = std::mem::take(&mut self.peers);
        self.peers.extend(view.peers.iter().map(|peer| {
            let old = before.iter_mut().find(|old| old.node == peer.node);
            let (known, sent) = old.map_or((None, 0), |old| (old.key.take(), old.sent));
            let (key, sent) = match &peer.key {
                Some(key) if known.as_ref() != Some(key) => (Some(key.clone()), 0),
                _ => (known, sent),
            };
            let outer = peer.ends.as_ref().map(|ends| Outer::new(ends, settings.cluster));
            Towards { node: peer.node, live: view.is_live(peer.node), outer, key, stream, sent }
        }));
    }

    /// A live peer that can be spoken to.
    #[inline(always)]
    pub(crate) fn live(&mut self, node: NodeId) -> Option<&mut Towards> {
        let peer = self.peers.iter_mut().find(|peer| peer.node == node)?;
        (peer.live && peer.outer.is_some() && peer.key.is_some()).then_some(peer)
    }

    /// Any peer that can be spoken to, or why it cannot.
    pub(crate) fn to(&mut self, node: NodeId) -> Result<&mut Towards, DropReason> {
        let peer = self.peers.iter_mut().find(|peer| peer.node == node);
        match peer.filter(|peer| peer.outer.is_some()) {
            None => Err(DropReason::PeerUnresolved),
            Some(peer) if peer.key.is_none() => Err(DropReason::PeerKeyless),
            Some(peer) => Ok(peer),
        }
    }
}

impl Towards {
    /// Bytes in front of a packet.
    #[inline(always)]
    pub(crate) fn length(&self) -> usize {
        self.outer.as_ref().map_or(0, Outer::length)
    }

    /// Writes the headers of the next packet into exactly [`Self::length`] bytes.
    ///
    /// # Panics
    /// If the length is another one.
    #[inline(always)]
    pub(crate) fn write(
        &mut self,
        outer: &mut [u8],
        inner_len: usize,
        option: &TunnelOption,
        flow: &TaggedFlow,
        entropy: u32,
    ) {
        let (Some(headers), Some(PeerKey { id, key })) = (&self.outer, &self.key) else {
            unreachable!("a peer that cannot be spoken to is not given out")
        };
        self.sent += 1;
        let seal = Seal { key: *id, stream: self.stream, counter: self.sent };
        headers.write(outer, inner_len, option, &seal, key, flow, entropy);
    }
}
