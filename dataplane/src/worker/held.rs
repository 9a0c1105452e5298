//! Packets that wait until the kernel has resolved their next hop.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::Worker;
use crate::clock::NowMs;
use crate::limits::{HELD_MS, HELD_PACKETS};
use crate::verdict::DropReason;
use crate::wire::layout::Layout;
use crate::xsk::Io;

/// Bounded, oldest first.
#[derive(Debug)]
pub(crate) struct Held<F> {
    packets: VecDeque<HeldPacket<F>>,
}

#[derive(Debug)]
struct HeldPacket<F> {
    frame: F,
    layout: Layout,
    destination: IpAddr,
    until: NowMs,
}

impl<F> Default for Held<F> {
    fn default() -> Self {
        Self { packets: VecDeque::with_capacity(HELD_PACKETS) }
    }
}

impl<F> Held<F> {
    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }
}

impl<I: Io> Worker<I> {
    /// Keeps a packet until its neighbour is known.
    pub(crate) fn hold(&mut self, frame: I::Frame, layout: Layout, destination: IpAddr, now: NowMs) {
        if self.held.packets.len() >= HELD_PACKETS {
            return self.drop_frame(frame, DropReason::HoldFull);
        }
        let until = now.plus(HELD_MS);
        self.held.packets.push_back(HeldPacket { frame, layout, destination, until });
    }

    /// New routes: every held packet is tried again, in order.
    pub(crate) fn retry_held(&mut self, now: NowMs) {
        for _ in 0..self.held.packets.len() {
            let Some(packet) = self.held.packets.pop_front() else { break };
            self.watch_again(&packet.frame, packet.layout, now);
            if packet.until <= now {
                self.undeliverable(packet.frame, packet.layout, DropReason::NeighbourUnresolved, now);
                self.end_visit();
                continue;
            }
            match self.find_hop(packet.destination, packet.layout.flow_hash) {
                Ok(hop) => self.send_by_hop(packet.frame, &packet.layout, hop, now),
                Err(super::NoHop::Wait) => self.held.packets.push_back(packet),
                Err(super::NoHop::Drop(reason)) => {
                    self.undeliverable(packet.frame, packet.layout, reason, now)
                }
            }
            self.end_visit();
        }
    }

    /// Drops packets that waited too long.
    pub(crate) fn expire_held(&mut self, now: NowMs) {
        while self.held.packets.front().is_some_and(|packet| packet.until <= now) {
            let Some(packet) = self.held.packets.pop_front() else { break };
            self.watch_again(&packet.frame, packet.layout, now);
            self.undeliverable(packet.frame, packet.layout, DropReason::NeighbourUnresolved, now);
            self.end_visit();
        }
    }

    /// The node stops: nothing waits any longer.
    pub(crate) fn give_up_frames(&mut self) {
        while let Some(packet) = self.held.packets.pop_front() {
            self.drop_frame(packet.frame, DropReason::Stopping);
        }
        self.give_up_fragments();
        while let Some(work) = self.handoff.take() {
            self.drop_frame(work.into_frame(), DropReason::Stopping);
        }
        self.publish_gauges();
    }
}
