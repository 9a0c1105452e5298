//! Telling a packet's sender that it may not or cannot pass.

use std::net::IpAddr;

use super::{Job, NoHop, Worker};
use crate::clock::NowMs;
use crate::flow::address_of;
use crate::route::Resolution;
use crate::verdict::DropReason;
use crate::wire::answer::{Answer, Complaint, Refused};
use crate::wire::layout::Layout;
use crate::wire::packet::Packet;
use crate::xsk::Io;

impl<I: Io> Worker<I> {
    /// The policy rejects a packet: RST or ICMP in its place; drops it for `reason` if that cannot be.
    pub(crate) fn reject(&mut self, job: Job<I::Frame>, reason: DropReason, now: NowMs) {
        self.answer(job.frame, &job.packet, (Complaint::Prohibited, reason), now);
    }

    /// A packet that cannot be forwarded for `reason` is answered if its sender is to know, else dropped.
    pub(crate) fn undeliverable(&mut self, frame: I::Frame, layout: Layout, reason: DropReason, now: NowMs) {
        let complaint = match reason {
            DropReason::TtlExpired => Complaint::TimeExceeded,
            DropReason::NoRoute => Complaint::NoRoute,
            DropReason::NeighbourUnresolved => Complaint::HostUnreachable,
            _ => return self.drop_frame(frame, reason),
        };
        self.complain(frame, layout, (complaint, reason), now);
    }

    /// ICMP in a packet's place; drops it for the reason if that cannot be.
    pub(crate) fn complain(
        &mut self,
        frame: I::Frame,
        layout: Layout,
        (complaint, reason): (Complaint, DropReason),
        now: NowMs,
    ) {
        let inner = self.io.bytes(&frame).get(usize::from(layout.inner_off)..);
        match inner.and_then(|inner| Packet::read(inner, layout).ok()) {
            Some(packet) if !self.is_for_me(&packet) => {
                self.answer(frame, &packet, (complaint, reason), now);
            }
            _ => self.drop_frame(frame, reason),
        }
    }

    /// The node's own address, or a broadcast address of its subnets: never answered (RFC 1122 section 3.2.2).
    fn is_for_me(&self, packet: &Packet) -> bool {
        let destination = packet.key.destination(packet.direction).0;
        self.snapshots.routes.resolve(destination, packet.layout.flow_hash) == Resolution::Local
    }

    fn answer(
        &mut self,
        frame: I::Frame,
        packet: &Packet,
        (complaint, reason): (Complaint, DropReason),
        now: NowMs,
    ) {
        let answer = self.answer_to(&frame, packet, complaint);
        let Some(answer) = answer.filter(|_| self.may_answer(complaint, now)) else {
            return self.drop_frame(frame, reason);
        };
        let Some(mut told) = self.io.allocate(answer.length()) else {
            return self.drop_frame(frame, reason);
        };
        let inner_off = usize::from(packet.layout.inner_off);
        // The packet is read while its answer is written, and both are this worker's frames.
        let mut refused = [0; Answer::QUOTE_MAX];
        let refused = answer.quote(self.io.bytes(&frame), inner_off, &mut refused);
        answer.write(refused, self.io.bytes_mut(&mut told));
        self.io.recycle(frame);
        self.count_answer(complaint);
        self.see_answer();
        self.send_answer(told, &packet.layout, &answer, now);
    }

    fn may_answer(&mut self, complaint: Complaint, now: NowMs) -> bool {
        if complaint == Complaint::Prohibited {
            return self.rejects.take(now);
        }
        let may = self.errors.as_mut().is_some_and(|errors| errors.take(now));
        self.counters.answers_suppressed.add(u64::from(!may));
        may
    }

    fn count_answer(&self, complaint: Complaint) {
        let counters = &self.counters;
        counters.rejected.add(1);
        match complaint {
            Complaint::Prohibited => {}
            Complaint::TimeExceeded => counters.told_time_exceeded.add(1),
            Complaint::NoRoute | Complaint::HostUnreachable => counters.told_unreachable.add(1),
            Complaint::TooBig(_) => counters.told_too_big.add(1),
        }
    }

    fn answer_to(&self, frame: &I::Frame, packet: &Packet, complaint: Complaint) -> Option<Answer> {
        let inner = self.io.bytes(frame).get(usize::from(packet.layout.inner_off)..)?;
        let (to, flow_hash) = (packet.key.source(packet.direction).0, packet.layout.flow_hash);
        let own = self.snapshots.routes.own_address_towards(to, flow_hash);
        Answer::new(&Refused { complaint, packet, frame: inner, own })
    }

    fn send_answer(&mut self, frame: I::Frame, layout: &Layout, answer: &Answer, now: NowMs) {
        let layout = answer.layout(layout);
        let to: IpAddr = address_of(&answer.destination);
        match self.find_hop(to, layout.flow_hash) {
            Ok(hop) => self.send_by_hop(frame, &layout, hop, now),
            Err(NoHop::Wait) => self.hold(frame, layout, to, now),
            Err(NoHop::Drop(reason)) => self.drop_frame(frame, reason),
        }
    }
}
