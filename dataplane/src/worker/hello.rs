//! Hello: a small tunnel message to every configured peer, so that liveness is judged on the very path
//! redirected packets take. Its generation field carries the sender's Director weight, 0 while it is
//! not ready for Director duty, its zone field whether the sender hears the addressee (a link that carries
//! packets one way only is no link), its epoch field the epoch of the sender's view.

use std::sync::atomic::Ordering::Relaxed;

use super::{Work, Worker, known_sender};
use crate::clock::NowMs;
use crate::counters::Told;
use crate::flow::{Direction, FlowKey, Generation, NodeId};
use crate::limits::MAX_WEIGHT;
use crate::verdict::DropReason;
use crate::wire::layout::Layout;
use crate::wire::tunnel::{self, TaggedFlow, TunnelKey, TunnelKind, TunnelOption};
use crate::xsk::Io;

impl<I: Io> Worker<I> {
    /// A Hello ends here, whatever it says. Whatever queue it came by, the first worker takes it, so that it knows one
    /// that it has seen.
    pub(super) fn take_hello(&mut self, frame: I::Frame, layout: &Layout, now: NowMs) {
        if self.index != 0 {
            return match self.handoff.give(0, Work::Packet { frame, queue: None }) {
                Ok(()) => self.counters.handoff_tx.add(1),
                Err(work) => {
                    self.counters.rx.add(1);
                    self.drop_frame(work.into_frame(), DropReason::HandoffFull);
                }
            };
        }
        match self.read_hello(&frame, layout) {
            Ok((sender, told)) => {
                self.counters.hello_rx.add(1);
                self.counters.heard_from(sender, told, now.0);
                self.io.recycle(frame);
            }
            Err(reason) => {
                self.counters.rx.add(1);
                self.drop_frame(frame, reason);
            }
        }
    }

    fn read_hello(&mut self, frame: &I::Frame, layout: &Layout) -> Result<(NodeId, Told), DropReason> {
        let Self { io, keyring, snapshots, .. } = self;
        let bytes = io.bytes(frame);
        let received = tunnel::parse(bytes, usize::from(layout.inner_off))?;
        known_sender(snapshots, bytes, &received)?;
        let TunnelOption { kind, zone, owner, generation, epoch, sender, .. } = received.option;
        if kind != TunnelKind::Hello {
            return Err(DropReason::TunnelUnknown);
        }
        let right = |key: &TunnelKey| received.verify(key, &FlowKey::default(), Direction::LoToHi);
        keyring.open(sender, &received.seal, right)?;
        let weight = generation.0.min(u32::from(MAX_WEIGHT)) as u8;
        let hears_me = zone != 0 && owner == snapshots.settings.node;
        Ok((sender, Told { weight, hears_me, epoch, key: received.seal.key }))
    }

    /// Sends a Hello to every peer when it is time; the first worker does it for the node.
    pub(super) fn say_hello(&mut self, now: NowMs) {
        if self.index != 0 || now < self.next_hello {
            return;
        }
        self.next_hello = now.plus(self.ports.hello_interval_ms);
        if self.counters.silent.load(Relaxed) {
            return;
        }
        let view = self.snapshots.view.clone();
        for peer in &view.peers {
            if let Some(ends) = &peer.ends {
                self.send_hello(ends, peer.node, peer.heard);
            }
        }
    }

    fn send_hello(&mut self, ends: &tunnel::TunnelEnds, to: NodeId, heard: bool) {
        // A peer without a key is told nothing: it would not believe it.
        let Ok(outer) = self.outward.to(to).map(|towards| towards.length()) else { return };
        let inner = tunnel::hello_frame(ends.source_mac, ends.destination_mac);
        let Some(mut frame) = self.io.allocate(outer + inner.len()) else { return };
        let settings = &self.snapshots.settings;
        let option = TunnelOption {
            kind: TunnelKind::Hello,
            hops: 1,
            zone: heard.into(),
            ingress: settings.node,
            owner: to,
            generation: Generation(u32::from(self.snapshots.view.my_weight())),
            epoch: self.snapshots.view.epoch,
            sender: settings.node,
        };
        let bytes = self.io.bytes_mut(&mut frame);
        let (head, body) = bytes.split_at_mut(outer);
        body.copy_from_slice(&inner);
        let flow = TaggedFlow::new(&FlowKey::default(), Direction::LoToHi);
        if let Ok(towards) = self.outward.to(to) {
            towards.write(head, inner.len(), &option, &flow, u32::from(settings.node.0));
        }
        match self.io.send(self.ports.cluster_link, frame) {
            Ok(()) => self.counters.hello_tx.add(1),
            // The ring is full of users' packets; the next Hello comes soon.
            Err(frame) => self.io.recycle(frame),
        }
    }
}
