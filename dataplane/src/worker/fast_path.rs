//! The fast path: a packet that is plainly in step with a session, in as few instructions as that takes.
//!
//! It decides nothing that [`crate::decide`] would decide otherwise. What is not plain in every respect goes
//! the long way, in its turn, so packets of a flow never overtake each other:
//!
//! ```text
//! every packet of the burst: read it; if it is plain: hash its flow, ask for the bucket   ┐ memory is asked
//! every plain packet       : compare tags, ask for the session's line                     ┘ for ahead
//! every packet, in order   : plain and in step? ── yes ─► write the session, rewrite the packet, send
//!                                               └─ no ──► `Worker::admit`: parse, place, decide, carry out
//! ```
//!
//! A test runs the same traffic with and without it and compares everything that can be seen.

use super::Worker;
use crate::clock::NowMs;
use crate::route::LinkHop;
use crate::session::table::{Found, PlainRules, Slot};
use crate::verdict::DropReason;
use crate::wire::flow_hash::core_of;
use crate::wire::layout::{FLAG_IPV6, Layout};
use crate::wire::plain::Plain;
use crate::wire::rewrite;
use crate::xsk::Io;

/// What was read of a packet of the burst: the plain part of it, and where its session may be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Glance {
    /// The packet is plain; otherwise nothing else here means anything.
    is_plain: bool,
    plain: Plain,
    found: Found,
    /// Bytes of the frame.
    length: u32,
}

/// Packets of the fast path since the counters were last written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    packets: u64,
    bytes: u64,
    /// Handed to another core for sending.
    handed: u64,
    handed_bytes: u64,
}

impl<I: Io> Worker<I> {
    /// Works on the frames in `burst`, in order. `counted`: another core has counted them as received.
    pub(super) fn run_burst(&mut self, counted: bool, now: NowMs) {
        let mut burst = std::mem::take(&mut self.burst);
        let mut glances = std::mem::take(&mut self.glances);
        if glances.len() < burst.len() {
            glances.resize(burst.len(), Glance::default());
        }
        for (frame, glance) in burst.iter().zip(&mut glances) {
            glance.is_plain = self.glance(frame, counted, glance).is_some();
        }
        for glance in glances[..burst.len()].iter_mut().filter(|glance| glance.is_plain) {
            self.shard.table.glance_at(&mut glance.found);
        }
        for (frame, glance) in burst.drain(..).zip(&glances) {
            let left = if glance.is_plain { self.try_fast(frame, glance, now) } else { Some(frame) };
            if let Some(frame) = left {
                self.admit(frame, counted, now);
            }
        }
        self.write_tally(counted);
        (self.burst, self.glances) = (burst, glances);
    }

    /// Reads a frame if it is a plain packet of a flow of this core; `None` if it is not.
    #[inline(always)]
    fn glance(&self, frame: &I::Frame, counted: bool, glance: &mut Glance) -> Option<()> {
        let (metadata, bytes) = self.io.view(frame);
        let layout = Layout::from_metadata(metadata);
        if layout.flags & !FLAG_IPV6 != 0 {
            return None;
        }
        if !counted && core_of(layout.flow_hash, self.handoff.workers()) != self.index {
            return None;
        }
        glance.length = bytes.len() as u32;
        glance.plain.read(bytes, &layout)?;
        self.shard.table.begin_plain(&glance.plain, &mut glance.found);
        Some(())
    }

    /// Forwards the packet if this node owns its flow and it is in step; gives it back otherwise.
    #[inline(always)]
    fn try_fast(&mut self, mut frame: I::Frame, glance: &Glance, now: NowMs) -> Option<I::Frame> {
        let Some((hop, sooner)) = self.follow(glance, now) else { return Some(frame) };
        if let Some((slot, expires)) = sooner {
            self.shard.wheel.schedule_no_later(slot, expires);
        }
        let bytes = self.io.bytes_mut(&mut frame);
        rewrite::decrement_ttl_of_plain(bytes, usize::from(glance.plain.l3_off), glance.plain.ipv6);
        rewrite::set_macs(bytes, hop.destination_mac, hop.source_mac);
        self.tally.packets += 1;
        self.tally.bytes += u64::from(glance.length);
        self.send_fast(hop.port, frame, glance.length);
        None
    }

    /// Follows the packet's session if this node owns it and nothing is unusual: where the packet leaves,
    /// and the session's new end if that came closer.
    #[inline(always)]
    fn follow(&mut self, glance: &Glance, now: NowMs) -> Option<(LinkHop, Option<(Slot, NowMs)>)> {
        let Self { shard, snapshots, ports, .. } = self;
        let plain = &glance.plain;
        let slot = shard.table.confirm(&glance.found, &plain.ends)?;
        let (routes, timeouts) = (&*snapshots.routes, &snapshots.settings.timeouts);
        let rules = PlainRules { timeouts, routes: routes.generation, now };
        let leave = |hop| {
            let hop = routes.hop(hop)?;
            let fits = u32::from(plain.l3_length) <= hop.mtu;
            (fits && hop.port != ports.cluster_link).then_some(*hop)
        };
        let (hop, sooner) = shard.table.follow_plain(slot, plain, glance.length, &rules, leave)?;
        Some((hop, sooner.map(|expires| (slot, expires))))
    }

    #[inline(always)]
    fn send_fast(&mut self, port: u8, frame: I::Frame, length: u32) {
        if self.io.can_send(port) {
            if let Err(frame) = self.io.send(port, frame) {
                self.not_sent_here(length);
                self.drop_frame(frame, DropReason::TxRingFull);
            }
        } else {
            self.not_sent_here(length);
            self.send(port, frame);
        }
    }

    fn not_sent_here(&mut self, length: u32) {
        self.tally.handed += 1;
        self.tally.handed_bytes += u64::from(length);
    }

    #[inline]
    fn write_tally(&mut self, counted: bool) {
        let tally = std::mem::take(&mut self.tally);
        if !counted {
            self.counters.rx.add(tally.packets);
            self.counters.rx_bytes.add(tally.bytes);
        }
        self.counters.forward.add(tally.packets);
        self.counters.tx.add(tally.packets - tally.handed);
        self.counters.tx_bytes.add(tally.bytes - tally.handed_bytes);
    }
}
