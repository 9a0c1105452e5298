//! Hands flows that live elsewhere to the XDP program ([`crate::forwards`]), and takes them back.

use super::{Job, Worker};
use crate::decide::Arrival;
use crate::flow::{FlowKey, proto};
use crate::forwards::{Forward, Forwards, Offered, SharedWords, redirect_option};
use crate::limits::{FORWARD_AFTER, FORWARD_DISPLACE};
use crate::session::table::Slot;
use crate::session::{Role, Session};
use crate::wire::packet::{L4, Packet};
use crate::wire::tunnel::{self, TunnelKind};
use crate::xsk::Io;

use super::shard::Shard;

impl<I: Io> Worker<I> {
    /// This worker shares `words` with the XDP program and publishes flows there.
    #[must_use]
    pub fn with_forwards(mut self, words: SharedWords) -> Self {
        self.shard.forwards = Forwards::new(words, self.hasher, self.index, self.handoff.workers());
        self
    }

    /// A packet is about to be redirected: every so many packets its flow is offered to the XDP program.
    pub(crate) fn offer_forward(&mut self, kind: TunnelKind, job: &Job<I::Frame>, slot: Option<Slot>) {
        let (Some(slot), true) = (slot, self.shard.forwards.is_on()) else { return };
        let session = self.shard.table.get(slot);
        let (packets, is_elsewhere) = (session.packets, session.role != Role::Owner);
        let from_data = job.arrival == Arrival::Data && kind == TunnelKind::Redirect;
        if packets % FORWARD_AFTER != 0 || !from_data || !is_elsewhere || !is_forwardable(&job.packet) {
            return;
        }
        let Some(forward) = self.forward_of(&job.packet, session) else { return };
        // An entry of another flow that is idle must not hold the place for ever, one in use not lose it often.
        let displace = packets % FORWARD_DISPLACE == 0;
        let way = (packets / FORWARD_DISPLACE) as usize;
        match self.shard.forwards.offer(&forward, displace.then_some(way)) {
            Offered::Published => self.counters.forwards_published.add(1),
            Offered::Refused => self.counters.forwards_refused.add(1),
            Offered::Known => {}
        }
    }

    fn forward_of(&self, packet: &Packet, session: &Session) -> Option<Forward> {
        let (view, settings) = (&self.snapshots.view, &self.snapshots.settings);
        let peer = view.peers.iter().position(|peer| peer.node == session.owner && peer.ends.is_some())?;
        let port = packet.layout.port;
        let zone = self.ports.zones[usize::from(port) % self.ports.zones.len()];
        let option = redirect_option(view, session.owner, session.generation, zone);
        let (key, direction) = (packet.key, packet.direction);
        Some(Forward {
            epoch: view.epoch,
            peer: u8::try_from(peer).ok()?,
            zone,
            port,
            generation: session.generation,
            key,
            direction,
            tag: tunnel::tag_of(&option, &settings.tunnel_key, settings.cluster, &key, direction),
        })
    }
}

/// Protocols and packets whose flow the XDP program names as the worker does, and whose layer 4 it checks.
fn is_forwardable(packet: &Packet) -> bool {
    let read = !matches!(packet.key.proto(), proto::ICMP | proto::ICMPV6 | proto::SCTP);
    packet.fragment.is_none() && read && matches!(packet.l4, L4::Tcp(_) | L4::Udp | L4::Other)
}

impl Shard {
    /// A session ends: its packets are this worker's business again.
    pub(super) fn withdraw_forward(&mut self, key: &FlowKey) {
        self.forwards.withdraw(key);
    }

    /// A session's record changes: what was published of it holds only while Owner and generation stay.
    pub(super) fn withdraw_forward_if_moved(&mut self, old: &Session, new: &Session) {
        let same = (old.owner, old.generation) == (new.owner, new.generation) && new.role != Role::Owner;
        if !same {
            self.forwards.withdraw(&old.key);
        }
    }
}
