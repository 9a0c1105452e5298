//! From verdict to frame: the one match, without a wildcard arm, that ends a packet's life on this core.

use std::net::IpAddr;

use crate::clock::NowMs;
use crate::decide::Arrival;
use crate::flow::{Direction, Generation, NodeId};
use crate::limits::HOP_BUDGET;
use crate::mailbox::FromWorker;
use crate::route::Resolution;
use crate::session::table::Slot;
use crate::verdict::{DropReason, Verdict};
use crate::wire::layout::Layout;
use crate::wire::packet::L4;
use crate::wire::tcp::SYN;
use crate::wire::tunnel::{TaggedFlow, TunnelKind, TunnelOption};
use crate::wire::{addresses, ethernet, rewrite};
use crate::worker::{Job, Work, Worker};
use crate::xsk::Io;

/// Why no next hop can be used now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoHop {
    /// The kernel was asked; hold the packet.
    Wait,
    /// There is none.
    Drop(DropReason),
}

/// A tunnel verdict's parts.
#[derive(Clone, Copy)]
pub(crate) struct Carry {
    kind: TunnelKind,
    to: NodeId,
    owner: NodeId,
    generation: Generation,
}

impl<I: Io> Worker<I> {
    /// Carries a verdict out.
    pub(crate) fn carry_out(&mut self, verdict: Verdict, job: Job<I::Frame>, slot: Option<Slot>, now: NowMs) {
        self.see_verdict(verdict, &job);
        match verdict {
            Verdict::Forward => {
                self.count_detour(&job);
                self.forward(job, slot, now);
            }
            Verdict::Service(number) => {
                self.count_detour(&job);
                self.serve(job, number, slot, now);
            }
            Verdict::Tunnel { kind, to, owner, generation } => {
                self.offer_forward(kind, &job, slot);
                self.tunnel(job, Carry { kind, to, owner, generation }, now);
            }
            Verdict::Reject(reason) => self.reject(job, reason, now),
            Verdict::Drop(reason) => self.drop_frame(job.frame, reason),
        }
    }

    pub(crate) fn forward(&mut self, mut job: Job<I::Frame>, slot: Option<Slot>, now: NowMs) {
        let layout = Layout { inner_off: 0, ..job.packet.layout };
        if job.packet.layout.inner_off > 0 {
            self.io.shrink_front(&mut job.frame, usize::from(job.packet.layout.inner_off));
        }
        if job.packet.ttl <= 1 {
            return self.undeliverable(job.frame, layout, DropReason::TtlExpired, now);
        }
        self.clamp_mss(&mut job, &layout);
        let Some(destination) = addresses::destination(self.io.bytes(&job.frame), &layout) else {
            return self.drop_frame(job.frame, DropReason::BadMetadata);
        };
        // An ICMP error goes its own way, not that of the flow it belongs to.
        let slot = slot.filter(|_| !matches!(job.packet.l4, L4::IcmpError));
        let cached = job.hop.or_else(|| slot.and_then(|slot| self.cached_hop(slot, job.packet.direction)));
        let found = match cached {
            Some(hop) => Ok(hop),
            None => self.find_hop(destination, layout.flow_hash),
        };
        match found {
            Ok(hop) => {
                self.remember_hop(slot, job.packet.direction, hop);
                self.send_by_hop(job.frame, &layout, hop, now);
            }
            Err(NoHop::Wait) => self.hold(job.frame, layout, destination, now),
            Err(NoHop::Drop(reason)) => self.undeliverable(job.frame, layout, reason, now),
        }
    }

    /// The ends of a connection agree on segments that the cluster link carries.
    fn clamp_mss(&mut self, job: &mut Job<I::Frame>, layout: &Layout) {
        let limit = self.ports.mss_clamp[usize::from(layout.is_ipv6())];
        let opens = matches!(job.packet.l4, L4::Tcp(segment) if segment.flags & SYN != 0);
        if limit != 0 && opens && job.packet.fragment.is_none() {
            let clamped = rewrite::clamp_mss(self.io.bytes_mut(&mut job.frame), layout, limit);
            self.counters.mss_clamped.add(u64::from(clamped));
        }
    }

    pub(crate) fn cached_hop(&self, slot: Slot, direction: Direction) -> Option<u32> {
        self.shard.table.hop(slot, direction, self.paths)
    }

    fn remember_hop(&mut self, slot: Option<Slot>, direction: Direction, next_hop: u32) {
        if let Some(slot) = slot {
            self.shard.table.set_hop(slot, direction, self.paths, next_hop);
        }
    }

    /// Where a packet to `destination` goes next; asks the kernel if its link address is unknown.
    pub(crate) fn find_hop(&self, destination: IpAddr, flow_hash: u32) -> Result<u32, NoHop> {
        match self.snapshots.routes.resolve(destination, flow_hash) {
            Resolution::Send(hop) => Ok(hop),
            Resolution::Unresolved { ifindex, address } => {
                // With a full outbox the next packet to this neighbour asks again.
                let _ = self.mailbox.outbox.push(FromWorker::Unresolved { ifindex, address });
                Err(NoHop::Wait)
            }
            Resolution::NoRoute | Resolution::Local | Resolution::Elsewhere => {
                Err(NoHop::Drop(DropReason::NoRoute))
            }
            Resolution::Refused => Err(NoHop::Drop(DropReason::RouteRefused)),
        }
    }

    /// Rewrites the Ethernet header, decrements TTL, sends.
    pub(crate) fn send_by_hop(&mut self, mut frame: I::Frame, layout: &Layout, hop: u32, now: NowMs) {
        let hop = self.snapshots.routes.hop(hop).copied();
        // Users' packets leave by data interfaces; the cluster link carries the tunnel only.
        let Some(hop) = hop.filter(|hop| hop.port != self.ports.cluster_link) else {
            return self.undeliverable(frame, *layout, DropReason::NoRoute, now);
        };
        if u32::from(layout.l3_end.saturating_sub(layout.l3_off)) > hop.mtu {
            return self.too_big(frame, layout, hop, now);
        }
        let bytes = self.io.bytes_mut(&mut frame);
        if !rewrite::decrement_ttl(bytes, layout) {
            return self.drop_frame(frame, DropReason::TtlExpired);
        }
        rewrite::set_macs(bytes, hop.destination_mac, hop.source_mac);
        self.counters.forward.add(1);
        self.send(hop.port, frame);
    }

    pub(crate) fn tunnel(&mut self, mut job: Job<I::Frame>, carry: Carry, now: NowMs) {
        let crossings = match &job.arrival {
            Arrival::Data => 0,
            Arrival::Tunnel(option) => option.hops,
        };
        if crossings >= HOP_BUDGET {
            return self.drop_frame(job.frame, DropReason::HopBudget);
        }
        let outer = match self.outward.to(carry.to) {
            Ok(towards) => towards.length(),
            Err(reason) => return self.drop_frame(job.frame, reason),
        };
        if !self.fits_link(&job, outer) {
            return self.too_big_for_link(job, carry, outer, now);
        }
        if !self.make_room(&mut job, outer) {
            return self.drop_frame(job.frame, DropReason::ClusterLinkMtu);
        }
        let option = self.option(&job, carry, crossings + 1);
        let flow = TaggedFlow::new(&job.wire_flow.0, job.wire_flow.1);
        let bytes = self.io.bytes_mut(&mut job.frame);
        let inner_length = bytes.len() - outer;
        match self.outward.to(carry.to) {
            Ok(towards) => {
                towards.write(&mut bytes[..outer], inner_length, &option, &flow, job.packet.layout.flow_hash);
            }
            Err(reason) => return self.drop_frame(job.frame, reason),
        }
        self.count_tunnelled(carry.kind);
        self.send(self.ports.cluster_link, job.frame);
    }

    fn fits_link(&self, job: &Job<I::Frame>, outer: usize) -> bool {
        let inner = self.io.bytes(&job.frame).len() - usize::from(job.packet.layout.inner_off);
        inner + outer - ethernet::HEADER <= self.ports.cluster_link_mtu as usize
    }

    /// Makes the room in front of the inner packet exactly `outer` bytes; false if the frame is too small.
    fn make_room(&mut self, job: &mut Job<I::Frame>, outer: usize) -> bool {
        let present = usize::from(job.packet.layout.inner_off);
        if outer >= present {
            return outer == present || self.io.grow_front(&mut job.frame, outer - present);
        }
        self.io.shrink_front(&mut job.frame, present - outer);
        true
    }

    fn option(&self, job: &Job<I::Frame>, carry: Carry, hops: u8) -> TunnelOption {
        let me = self.snapshots.view.me;
        let (ingress, zone) = match &job.arrival {
            Arrival::Data => (me, self.ports.zone_of(job.packet.layout.port)),
            Arrival::Tunnel(option) => (option.ingress, option.zone),
        };
        TunnelOption {
            kind: carry.kind,
            hops,
            zone,
            ingress,
            owner: carry.owner,
            generation: carry.generation,
            epoch: self.snapshots.view.epoch,
            sender: me,
        }
    }

    fn count_tunnelled(&self, kind: TunnelKind) {
        match kind {
            TunnelKind::Query | TunnelKind::Lookup => self.counters.query_tx.add(1),
            TunnelKind::FirstPacket => self.counters.first_packet_tx.add(1),
            TunnelKind::Redirect => self.counters.redirect_tx.add(1),
            TunnelKind::Gather => self.counters.gather_tx.add(1),
            TunnelKind::Hello => {}
        }
    }

    /// Sends out of `port`: through a ring of this worker, or through that of another one.
    #[inline(always)]
    pub(crate) fn send(&mut self, port: u8, frame: I::Frame) {
        self.see_departure(port, &frame);
        if self.io.can_send(port) {
            return self.send_here(port, frame);
        }
        // Queue q is served by worker q modulo workers; this worker uses queue (index modulo queues).
        let queues = self.ports.queues[usize::from(port) % self.ports.queues.len()].max(1) as usize;
        let core = (self.index % queues) % self.handoff.workers();
        match self.handoff.give(core, Work::Send { port, frame }) {
            Ok(()) => self.counters.handoff_tx.add(1),
            Err(work) => self.drop_frame(work.into_frame(), DropReason::HandoffFull),
        }
    }

    /// Sends through a ring of this worker.
    pub(crate) fn send_here(&mut self, port: u8, frame: I::Frame) {
        let length = self.io.bytes(&frame).len() as u64;
        match self.io.send(port, frame) {
            Ok(()) => {
                self.counters.tx.add(1);
                self.counters.tx_bytes.add(length);
            }
            Err(frame) => self.drop_frame(frame, DropReason::TxRingFull),
        }
    }
}
