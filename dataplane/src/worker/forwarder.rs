//! Hands flows that live elsewhere to the XDP program ([`crate::forwards`]), and takes them back.

use super::{Job, Worker};
use crate::decide::Arrival;
use crate::flow::{Direction, FlowKey, proto};
use crate::forwards::{Forward, Forwards, Offered, SharedWords, redirect_option};
use crate::keyring::PeerKey;
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

    /// A packet is about to be redirected: now and then its flow is offered to the XDP program.
    pub(crate) fn offer_forward(&mut self, kind: TunnelKind, job: &Job<I::Frame>, slot: Option<Slot>) {
        let from_data = job.arrival == Arrival::Data && kind == TunnelKind::Redirect;
        if let Some(slot) = slot.filter(|_| from_data && is_forwardable(&job.packet)) {
            self.offer_direction(slot, job.packet.layout.port, job.packet.direction);
        }
    }

    /// Packets of one direction of a flow that arrive on `port` are redirected, and one was just counted: at
    /// least at every sixteenth the XDP program is offered to do it.
    #[inline(always)]
    pub(super) fn offer_direction(&mut self, slot: Slot, port: u8, direction: Direction) {
        if self.shard.forwards.is_on() && self.shard.table.has_counted_up(slot) {
            self.offer(slot, port, direction);
        }
    }

    #[cold]
    fn offer(&mut self, slot: Slot, port: u8, direction: Direction) {
        let session = self.shard.table.get(slot);
        let Some(forward) = self.forward_of(&session, port, direction) else { return };
        // An entry of another flow that is idle must not hold the place for ever, one in use not lose it often.
        let offers = session.packets / FORWARD_AFTER;
        let displace = offers.is_multiple_of(FORWARD_DISPLACE);
        let way = (offers / FORWARD_DISPLACE) as usize;
        match self.shard.forwards.offer(&forward, displace.then_some(way)) {
            Offered::Published => self.counters.forwards_published.add(1),
            Offered::Refused => self.counters.forwards_refused.add(1),
            Offered::Known => {}
        }
    }

    fn forward_of(&self, session: &Session, port: u8, direction: Direction) -> Option<Forward> {
        let (view, settings) = (&self.snapshots.view, &self.snapshots.settings);
        if session.role == Role::Owner || session.packets == 0 {
            return None;
        }
        let peer = view.peers.iter().position(|peer| peer.node == session.owner && peer.ends.is_some())?;
        let PeerKey { id, key: tunnel_key } = view.peers[peer].key.as_ref()?;
        let zone = self.ports.zone_of(port);
        let option = redirect_option(view, session.owner, session.generation, zone);
        let key = session.key;
        Some(Forward {
            epoch: view.epoch,
            peer: u8::try_from(peer).ok()?,
            zone,
            port,
            generation: session.generation,
            key,
            direction,
            secret: tunnel::forwarder_secret(&option, (*id, tunnel_key), settings.cluster, &key, direction),
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
