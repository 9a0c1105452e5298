//! Rejecting: a packet's sender is told that it may not pass.

use std::net::IpAddr;

use super::{Job, NoHop, Worker};
use crate::clock::NowMs;
use crate::flow::address_of;
use crate::verdict::DropReason;
use crate::wire::answer::{Answer, Refused};
use crate::wire::layout::Layout;
use crate::xsk::Io;

impl<I: Io> Worker<I> {
    /// Sends RST or ICMP in the packet's place; drops it for `reason` if that cannot be.
    pub(crate) fn reject(&mut self, job: Job<I::Frame>, reason: DropReason, now: NowMs) {
        let Some(answer) = self.answer_to(&job).filter(|_| self.rejects.take(now)) else {
            return self.drop_frame(job.frame, reason);
        };
        let Some(mut frame) = self.io.allocate(answer.length()) else {
            return self.drop_frame(job.frame, reason);
        };
        let inner_off = usize::from(job.packet.layout.inner_off);
        // The packet is read while its answer is written, and both are this worker's frames.
        let mut refused = [0; Answer::QUOTE_MAX];
        let refused = answer.quote(self.io.bytes(&job.frame), inner_off, &mut refused);
        answer.write(refused, self.io.bytes_mut(&mut frame));
        self.io.recycle(job.frame);
        self.counters.rejected.add(1);
        self.send_answer(frame, &job.packet.layout, &answer, now);
    }

    fn answer_to(&self, job: &Job<I::Frame>) -> Option<Answer> {
        let packet = &job.packet;
        let inner = self.io.bytes(&job.frame).get(usize::from(packet.layout.inner_off)..)?;
        let (to, flow_hash) = (packet.key.source(packet.direction).0, packet.layout.flow_hash);
        let source = self.snapshots.routes.own_address_towards(to, flow_hash);
        Answer::new(&Refused { packet, frame: inner, own: source })
    }

    fn send_answer(&mut self, frame: I::Frame, layout: &Layout, answer: &Answer, now: NowMs) {
        let layout = answer.layout(layout);
        let to: IpAddr = address_of(&answer.destination);
        match self.find_hop(to, layout.flow_hash) {
            Ok(hop) => self.send_by_hop(frame, &layout, hop),
            Err(NoHop::Wait) => self.hold(frame, layout, to, now),
            Err(NoHop::Drop(reason)) => self.drop_frame(frame, reason),
        }
    }
}
