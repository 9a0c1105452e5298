//! Fragments: all of one packet meet at one node and one core, which knows from the first one whose flow they are.
//!
//! ```text
//! data interface ── meet here? ── no: Gather to the node that directs their addresses
//!                   └ yes, or Gather ──► new bytes? ── no: dropped (copy, overlap, …)
//!                                        └ first came? ── no: waits
//!                                                         └ yes ──► the flow's core: process
//! Redirect, FirstPacket, … (met elsewhere) ──► first came? ─┘
//! ```
//!
//! That node is the Director of the addresses without ports, so both directions and all nodes agree about it. What it
//! passes on keeps its order; a node that gets it asks only whose flow it is.

mod coverage;
mod slab;
mod train;

use super::{Job, Work, Worker};
use crate::clock::NowMs;
use crate::decide::Arrival;
use crate::limits::FRAGMENT_LEAST;
use crate::verdict::DropReason;
use crate::wire::flow_hash::core_of;
use crate::wire::layout::Layout;
use crate::wire::packet::{Fragment, L4};
use crate::wire::tunnel::TunnelKind;
use crate::xsk::Io;

pub(super) use train::Trains;
use train::{Duty, Exit, Step};

impl<I: Io> Worker<I> {
    /// Finds the flow of a fragment, or lets it wait for the one that knows.
    pub(super) fn place_fragment(&mut self, job: Job<I::Frame>, fragment: Fragment, now: NowMs) {
        // An error is about the flow it quotes, all of which is in the first fragment.
        if job.packet.l4 == L4::IcmpError {
            return self.process(job, now);
        }
        let duty = self.duty(&job);
        if matches!(&job.arrival, Arrival::Tunnel(option) if option.kind == TunnelKind::Gather) {
            self.counters.gather_rx.add(1);
        }
        if let Err(reason) = sound(fragment, duty) {
            return self.drop_frame(job.frame, reason);
        }
        match self.trains.follow(&job.packet, fragment, duty, now) {
            Step::Go(ports) => self.send_to_its_core(job, ports, now),
            Step::Ask => self.process(job, now),
            Step::Wait(train) => self.trains.wait(train, job, now),
            Step::End(reason) => self.drop_frame(job.frame, reason),
        }
        self.let_go(now);
    }

    /// What this node has to do with the fragments of a packet.
    fn duty(&self, job: &Job<I::Frame>) -> Duty {
        match &job.arrival {
            Arrival::Tunnel(option) if option.kind == TunnelKind::Gather && option.hops == 1 => Duty::Meet,
            Arrival::Tunnel(_) => Duty::Follow,
            Arrival::Data if self.service_it_came_from(job) != 0 => Duty::Follow,
            Arrival::Data => {
                let view = &self.snapshots.view;
                let here =
                    !self.snapshots.settings.aggregation || view.director_of(&job.packet.key) == view.me;
                if here { Duty::Meet } else { Duty::Pass }
            }
        }
    }

    fn send_to_its_core(&mut self, mut job: Job<I::Frame>, ports: (u16, u16), now: NowMs) {
        let (key, direction) = job.packet.key_with(ports);
        let core = core_of(self.hasher.hash(&key), self.handoff.workers());
        if core != self.index {
            return self.hand_over(core, Work::Fragment { frame: job.frame, ports }, now);
        }
        (job.packet.key, job.packet.direction) = (key, direction);
        self.process(job, now);
    }

    /// A fragment whose flow another core has found: `ports` are its train's, source and destination.
    pub(super) fn take_fragment(&mut self, frame: I::Frame, ports: (u16, u16), now: NowMs) {
        let layout = Layout::from_metadata(self.io.view(&frame).0);
        self.watch_handed_over(&frame, now);
        // The core that found the flow has opened it.
        match self.read(&frame, layout, true) {
            Ok((mut packet, arrival)) => {
                let wire_flow = (packet.key, packet.direction);
                (packet.key, packet.direction) = packet.key_with(ports);
                self.process(Job { frame, packet, arrival, wire_flow, hop: None }, now);
            }
            Err(reason) => self.drop_frame(frame, reason),
        }
        self.end_visit();
    }

    /// Those that wait no longer: their first came, or they are lost.
    fn let_go(&mut self, now: NowMs) {
        while let Some((job, exit)) = self.trains.leaving() {
            self.watch_again(&job.frame, job.packet.layout, now);
            match exit {
                Exit::Go(ports) => self.send_to_its_core(job, ports, now),
                Exit::End(reason) => self.drop_frame(job.frame, reason),
            }
            self.end_visit();
        }
    }

    /// Drops what waited too long.
    pub(super) fn expire_fragments(&mut self, now: NowMs) {
        if self.trains.waiting() > 0 {
            self.trains.expire(now);
            self.let_go(now);
        }
    }

    /// The node stops: nothing waits any longer.
    pub(super) fn give_up_fragments(&mut self) {
        while let Some(job) = self.trains.give_up() {
            self.drop_frame(job.frame, DropReason::Stopping);
        }
    }

    pub(super) fn waiting_fragments(&self) -> usize {
        self.trains.waiting()
    }
}

/// What can be said of a fragment by itself. Where it has met others that was said.
fn sound(fragment: Fragment, duty: Duty) -> Result<(), DropReason> {
    let Fragment { more, offset, length, .. } = fragment;
    if duty != Duty::Meet {
        return Ok(());
    }
    let beyond = u32::from(offset) + u32::from(length) > u32::from(u16::MAX);
    if length == 0 || beyond || more && length % 8 != 0 {
        return Err(DropReason::Malformed);
    }
    if more && length < FRAGMENT_LEAST {
        return Err(DropReason::FragmentTiny);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
