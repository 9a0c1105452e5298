//! The fast path: a packet that is plainly in step with a session, in as few instructions as that takes.
//!
//! It decides nothing that [`crate::decide`] would decide otherwise. What is not plain in every respect goes
//! the long way, in its turn, so packets of a flow never overtake each other:
//!
//! ```text
//! every packet of the burst: read it; if it is plain: hash its flow, ask for the bucket   ┐ memory is asked
//! every plain packet       : compare tags, ask for the session's line                     ┘ for ahead
//! every packet, in order   : plain, and known here?
//!                              own session, in step ────► write the session, rewrite the packet, send  (local.rs)
//!                              another live node's ─────► put the tunnel header in front, send       (redirect.rs)
//!                              anything else ───────────► `Worker::admit`: parse, place, decide, carry out
//! ```
//!
//! A test runs the same traffic with and without it and compares everything that can be seen.

mod local;
mod redirect;

use super::Worker;
use crate::clock::NowMs;
use crate::session::Role;
use crate::session::table::{Found, Name};
use crate::wire::addresses;
use crate::wire::flow_hash::core_of;
use crate::wire::layout::{FLAG_IPV6, FLAG_TUNNEL, Layout};
use crate::wire::plain::Plain;
use crate::wire::tunnel::{self, TunnelOption};
use crate::xsk::Io;

/// What was read of a packet of the burst: the plain part of it, and where its session may be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Glance {
    /// The packet is plain; otherwise nothing else here means anything.
    pub(super) is_plain: bool,
    /// It is, and nobody wants to see what happens to it.
    pub(super) is_fast: bool,
    /// Its place in the burst.
    pub(super) at: u16,
    pub(super) plain: Plain,
    name: Name,
    found: Found,
    /// Bytes of the (inner) frame.
    length: u32,
    /// Bytes in front of it; 0 outside the tunnel.
    inner_off: u16,
    /// Index of the interface it arrived on.
    pub(super) port: u8,
    flow_hash: u32,
    /// What the tunnel said, opened; `None` outside the tunnel.
    pub(super) option: Option<TunnelOption>,
}

/// Packets of the fast path since the counters were last written.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    forwarded: u64,
    redirected: u64,
    /// Of (inner) frames.
    bytes: u64,
    /// Of outer headers that packets came with, and left with.
    outer_in: u64,
    outer_out: u64,
    queries: u64,
    redirects: u64,
    /// Dropped, or handed to another core for sending.
    not_sent: u64,
    not_sent_bytes: u64,
}

/// What the fast path keeps from burst to burst.
#[derive(Debug)]
pub(super) struct FastPath {
    glances: Vec<Glance>,
    tally: Tally,
    /// Off in tests that compare both ways.
    pub(super) is_on: bool,
}

impl FastPath {
    pub(super) fn new(burst: usize) -> Self {
        let glances = Self::with_room_for(burst, Vec::new());
        Self { glances, tally: Tally::default(), is_on: true }
    }

    /// Glances for a burst of `burst` packets, each with its number.
    fn with_room_for(burst: usize, mut glances: Vec<Glance>) -> Vec<Glance> {
        glances.extend((glances.len()..burst).map(|at| Glance { at: at as u16, ..Glance::default() }));
        glances
    }
}

impl<I: Io> Worker<I> {
    /// Works on the frames in `burst`, in order. `counted`: another core has counted them as received.
    pub(super) fn run_burst(&mut self, counted: bool, now: NowMs) {
        let mut burst = std::mem::take(&mut self.burst);
        let mut glances = std::mem::take(&mut self.fast.glances);
        if glances.len() < burst.len() {
            glances = FastPath::with_room_for(burst.len(), glances);
        }
        self.glance_at(&burst, &mut glances, counted);
        if self.watching.is_some() {
            self.pick_watched(&mut glances[..burst.len()], now);
        }
        for (frame, glance) in burst.drain(..).zip(&glances) {
            let left = if glance.is_fast { self.try_fast(frame, glance, now) } else { Some(frame) };
            match left {
                None => {}
                Some(frame) if self.watching.is_some() => self.admit_watched(frame, counted, glance, now),
                Some(frame) => self.admit(frame, counted, glance.is_plain, now),
            }
        }
        self.forget_queues(counted);
        self.write_tally(counted);
        (self.burst, self.fast.glances) = (burst, glances);
    }

    /// Reads the frames of a burst and asks for their sessions' memory. Once in the program: copies of it, or of what sends,
    /// would be inlined less.
    #[inline(never)]
    fn glance_at(&mut self, burst: &[I::Frame], glances: &mut [Glance], counted: bool) {
        // With one worker, or handed over: this core's.
        let steered = counted || self.handoff.workers() == 1;
        for (frame, glance) in burst.iter().zip(&mut *glances) {
            glance.is_plain = self.fast.is_on && self.glance(frame, steered, glance).is_some();
            glance.is_fast = glance.is_plain;
        }
        let plain = glances[..burst.len()].iter_mut().filter(|glance| glance.is_plain);
        self.shard.table.glance_all(plain.map(|glance| &mut glance.found));
    }

    /// Reads a frame if it is a plain packet of a flow of this core; `None` if it is not. `steered`: its flow
    /// is known to be.
    #[inline(always)]
    fn glance(&mut self, frame: &I::Frame, steered: bool, glance: &mut Glance) -> Option<()> {
        let (metadata, bytes) = self.io.view(frame);
        let layout = Layout::from_metadata(metadata);
        if layout.flags & !(FLAG_IPV6 | FLAG_TUNNEL) != 0 {
            return None;
        }
        if !steered && core_of(layout.flow_hash, self.handoff.workers()) != self.index {
            return None;
        }
        (glance.port, glance.flow_hash) = (layout.port, layout.flow_hash);
        if layout.flags & FLAG_TUNNEL != 0 {
            return self.glance_inside(frame, glance);
        }
        (glance.inner_off, glance.option) = (0, None);
        glance.length = bytes.len() as u32;
        glance.plain.read(bytes, metadata)?;
        glance.name = self.shard.table.begin_plain(&glance.plain, &mut glance.found);
        Some(())
    }

    /// As [`Worker::glance`], of a tunnel packet: its option is read, and it is opened last of all.
    #[inline(never)]
    fn glance_inside(&mut self, frame: &I::Frame, glance: &mut Glance) -> Option<()> {
        let Self { io, keyring, snapshots, shard, .. } = self;
        let (metadata, bytes) = io.view(frame);
        let layout = Layout::from_metadata(metadata);
        let inner_off = usize::from(layout.inner_off);
        let inner = bytes.get(inner_off..)?;
        glance.plain.read(inner, metadata)?;
        glance.name = shard.table.begin_plain(&glance.plain, &mut glance.found);
        let received = tunnel::parse_plain(bytes, inner_off)?;
        let sender = snapshots.view.peer(received.sender())?.address;
        let ours = received.cluster() == snapshots.settings.cluster;
        let option = received.option().filter(tunnel::TunnelOption::is_of_its_sender)?;
        if !ours || !addresses::is_tunnel_source(bytes, sender) {
            return None;
        }
        keyring.open(option.sender, &received.seal(), |key| received.verify(key, &glance.plain)).ok()?;
        glance.length = inner.len() as u32;
        (glance.inner_off, glance.option) = (layout.inner_off, Some(option));
        Some(())
    }

    /// Sends the packet on if its session says plainly where; gives it back otherwise.
    #[inline(always)]
    fn try_fast(&mut self, frame: I::Frame, glance: &Glance, now: NowMs) -> Option<I::Frame> {
        match self.shard.table.confirm(&glance.name, &glance.found, &glance.plain.ends) {
            Some(slot) if self.shard.table.role(slot) == Role::Owner => {
                self.forward_fast(frame, glance, slot, now)
            }
            Some(slot) => self.redirect_fast(frame, glance, slot),
            None => self.try_elsewhere(frame, glance, now),
        }
    }

    /// [`Worker::try_fast`] of a flow that is not where the glance saw it.
    #[inline(never)]
    fn try_elsewhere(&mut self, frame: I::Frame, glance: &Glance, now: NowMs) -> Option<I::Frame> {
        let table = &self.shard.table;
        match table.find_again(&glance.name, &glance.found, &glance.plain.ends) {
            Some(slot) if table.role(slot) == Role::Owner => self.forward_fast(frame, glance, slot, now),
            Some(slot) => self.redirect_fast(frame, glance, slot),
            None => Some(frame),
        }
    }

    #[inline(always)]
    fn send_fast(&mut self, port: u8, frame: I::Frame, length: u64) {
        if let Err(frame) = self.io.send(port, frame) {
            self.not_sent_here(port, frame, length);
        }
    }

    #[cold]
    #[inline(never)]
    fn not_sent_here(&mut self, port: u8, frame: I::Frame, length: u64) {
        self.fast.tally.not_sent += 1;
        self.fast.tally.not_sent_bytes += length;
        if self.io.can_send(port) {
            self.drop_frame(frame, crate::verdict::DropReason::TxRingFull);
        } else {
            self.send(port, frame);
        }
    }

    fn write_tally(&mut self, counted: bool) {
        let tally = std::mem::take(&mut self.fast.tally);
        let counters = &self.counters;
        let packets = tally.forwarded + tally.redirected;
        if !counted {
            counters.rx.add(packets);
            counters.rx_bytes.add(tally.bytes + tally.outer_in);
        }
        counters.fast_path.add(packets);
        counters.forward.add(tally.forwarded);
        counters.redirect_tx.add(tally.redirected);
        counters.query_rx.add(tally.queries);
        counters.redirect_rx.add(tally.redirects);
        counters.tx.add(packets - tally.not_sent);
        counters.tx_bytes.add(tally.bytes + tally.outer_out - tally.not_sent_bytes);
    }
}
