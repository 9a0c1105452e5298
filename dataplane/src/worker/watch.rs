//! Looking on: packets that match a filter go the long way, and what happens to them there is written down.
//!
//! The fast path decides nothing that the long way would decide otherwise, so what is seen is what would have happened.
//! Without filters none of this runs: the fast path asks once per burst, the long way where it decides, drops and sends.

use std::sync::Arc;

use super::allowance::Allowance;
use super::fast_path::Glance;
use super::{Job, Worker};
use crate::clock::{NowMs, wall_ns};
use crate::decide::Arrival;
use crate::floods::Rate;
use crate::limits::{WATCHED_AT_ONCE, WATCHED_PER_S};
use crate::verdict::{DropReason, Verdict};
use crate::watch::{Asked, CHUNK, Known, Marks, Outcome, Sighting, Visit, Watch, ones};
use crate::wire::flow_hash::core_of;
use crate::wire::layout::Layout;
use crate::wire::packet::Packet;
use crate::wire::tunnel;
use crate::xsk::Io;

/// What a worker that looks on keeps.
#[derive(Debug)]
pub struct Watching {
    /// Filters and slots.
    pub watch: Arc<Watch>,
    allowance: Allowance,
    /// The packet in hand, if it is watched.
    current: Option<Box<Sighting>>,
    /// Queue of the packet in hand.
    queue: Option<u16>,
    /// Queues of the packets other cores handed over in this turn, in order.
    handed_over: Vec<Option<u16>>,
}

impl Watching {
    /// To be given to a worker with [`crate::mailbox::ToWorker::Watch`].
    pub fn new(watch: Arc<Watch>) -> Self {
        let rate = Rate { per_second: WATCHED_PER_S, burst: WATCHED_AT_ONCE };
        Self {
            watch,
            allowance: Allowance::new(rate),
            current: None,
            queue: None,
            handed_over: Vec::with_capacity(crate::limits::BURST * 2),
        }
    }

    /// A slot for a packet that `filters` want; counts what is missed.
    fn slot(&mut self, filters: u8, now: NowMs) -> Option<Box<Sighting>> {
        let allowed = self.allowance.take(now);
        let slot = if allowed { self.watch.slot() } else { None };
        if slot.is_none() {
            for at in ones(u64::from(filters)) {
                self.watch.missed[at].count(1, allowed);
            }
        }
        slot
    }

    /// Packets that may be written down now, and whether more are not because of the slots.
    fn room(&self, now: NowMs) -> (usize, bool) {
        let (allowed, slots) = (self.allowance.left(now) as usize, self.watch.free());
        (allowed.min(slots), slots <= allowed)
    }

    /// Picks as many of a chunk's packets that filters want as there is `room` for, and counts what is missed.
    fn pick(&self, marks: &Marks, room: &mut usize, full: bool) -> u64 {
        let wanted = marks.any();
        let mut left = wanted;
        while left != 0 && *room > 0 {
            left &= left - 1;
            *room -= 1;
        }
        if left != 0 {
            self.watch.miss(marks, left, full);
        }
        wanted & !left
    }
}

/// How a packet comes to be worked on.
#[derive(Clone, Copy, Debug, Default)]
struct Came {
    queue: Option<u16>,
    handed_over: bool,
    waited: bool,
}

impl<I: Io> Worker<I> {
    /// Takes those plain packets of a burst that a filter wants, as many as may be written down, off the fast path.
    #[cold]
    #[inline(never)]
    pub(super) fn pick_watched(&mut self, glances: &mut [Glance], now: NowMs) {
        let Some(watching) = self.watching.as_deref_mut() else { return };
        let (mut room, full) = watching.room(now);
        for chunk in glances.chunks_mut(CHUNK) {
            let marks = watching.watch.mark_plain(
                chunk.iter().map(|glance| (glance.is_plain, &glance.plain)),
                |at| {
                    chunk[at].option.map_or_else(|| self.ports.zone_of(chunk[at].port), |option| option.zone)
                },
            );
            for at in ones(watching.pick(&marks, &mut room, full)) {
                chunk[at].is_fast = false;
            }
        }
    }

    /// [`Worker::admit`] of a packet that the fast path did not take, or may not.
    #[cold]
    #[inline(never)]
    pub(super) fn admit_watched(&mut self, frame: I::Frame, counted: bool, glance: &Glance, now: NowMs) {
        let queue = self.queue_of(usize::from(glance.at), counted);
        // Not so a plain one that nobody wants, or that there was no room for, and that the fast path gave back.
        if !glance.is_fast {
            self.begin_to_watch(&frame, (queue, counted), now);
        }
        self.admit(frame, counted, glance.is_plain, now);
        self.end_visit();
    }

    /// The packets that other cores handed over have been worked on.
    #[inline(always)]
    pub(super) fn forget_queues(&mut self, counted: bool) {
        if let Some(watching) = self.watching.as_mut().filter(|_| counted) {
            watching.handed_over.clear();
        }
    }

    fn queue_of(&mut self, at: usize, counted: bool) -> Option<u16> {
        let watching = self.watching.as_mut()?;
        let handed_over = || watching.handed_over.get(at).copied().flatten();
        let queue = if counted { handed_over() } else { self.io.queue_of(at) };
        watching.queue = queue;
        queue
    }

    /// Watches the packet from here on, if a filter wants it.
    fn begin_to_watch(&mut self, frame: &I::Frame, (queue, handed_over): (Option<u16>, bool), now: NowMs) {
        let layout = Layout::from_metadata(self.io.view(frame).0);
        let elsewhere = !handed_over && core_of(layout.flow_hash, self.handoff.workers()) != self.index;
        // A packet of another core is watched there.
        if !layout.is_hello() && !elsewhere {
            self.begin_visit(frame, Came { queue, handed_over, waited: false }, now);
        }
    }

    /// Begins to write down what happens to a packet, if a filter wants it; one that is being watched is told first.
    fn begin_visit(&mut self, frame: &I::Frame, came: Came, now: NowMs) -> bool {
        let layout = Layout::from_metadata(self.io.view(frame).0);
        self.begin_visit_at(frame, layout, came, now)
    }

    fn begin_visit_at(&mut self, frame: &I::Frame, layout: Layout, came: Came, now: NowMs) -> bool {
        self.end_visit();
        let bytes = self.io.bytes(frame);
        let inner_off = usize::from(layout.inner_off);
        let packet = bytes.get(inner_off..).and_then(|inner| Packet::read(inner, layout).ok());
        let arrival = match layout.is_tunnel() && inner_off > 0 {
            true => tunnel::parse(bytes, inner_off).ok().map(|received| Arrival::Tunnel(received.option)),
            false => Some(Arrival::Data),
        };
        let zone = match &arrival {
            Some(Arrival::Tunnel(option)) => option.zone,
            _ => self.ports.zone_of(layout.port),
        };
        let Some(watching) = &mut self.watching else { return false };
        let wanted = match &packet {
            Some(packet) => watching.watch.wanted(&Asked::of(packet, zone)),
            None => watching.watch.wanted_unread(),
        };
        if wanted == 0 {
            return false;
        }
        let Some(mut slot) = watching.slot(wanted, now) else { return false };
        watching.watch.keep(&mut slot.arrived, bytes);
        slot.left.clear();
        slot.visit = Visit {
            filters: wanted,
            at_ns: wall_ns(),
            port: layout.port,
            queue: came.queue,
            arrival,
            waited: came.waited,
            handed_over: came.handed_over,
            length: bytes.len() as u32,
            inner_off: layout.inner_off,
            l3_off: layout.l3_off,
            ..Visit::default()
        };
        if let Some(packet) = &packet {
            let visit = &mut slot.visit;
            (visit.key, visit.direction) = (packet.key, packet.direction);
            (visit.l4, visit.fragment) = (Some(packet.l4), packet.fragment);
            visit.director = self.snapshots.view.director_of(&packet.key);
            visit.before =
                self.shard.table.find(&packet.key).map(|slot| Known::from(&self.shard.table.get(slot)));
        }
        watching.current = Some(slot);
        true
    }

    /// Tells what happened to the packet in hand, if it is watched.
    pub(super) fn end_visit(&mut self) {
        let Some(watching) = &mut self.watching else { return };
        let Some(mut sighting) = watching.current.take() else { return };
        let table = &self.shard.table;
        sighting.visit.after = table.find(&sighting.visit.key).map(|slot| Known::from(&table.get(slot)));
        watching.watch.tell(sighting);
    }

    /// A packet that waited here goes on. `layout`: where everything is in it by now.
    pub(super) fn watch_again(&mut self, frame: &I::Frame, layout: Layout, now: NowMs) {
        if self.watching.is_some() {
            self.begin_visit_at(frame, layout, Came { waited: true, ..Came::default() }, now);
        }
    }

    /// A fragment whose flow another core has found.
    pub(super) fn watch_handed_over(&mut self, frame: &I::Frame, now: NowMs) {
        if self.watching.is_some() {
            self.begin_visit(frame, Came { handed_over: true, waited: true, ..Came::default() }, now);
        }
    }

    /// Queue of the packet in hand, for the core that gets it.
    #[inline(always)]
    pub(super) fn queue_in_hand(&self) -> Option<u16> {
        self.watching.as_ref().and_then(|watching| watching.queue)
    }

    /// Another core has handed a packet over.
    #[inline(always)]
    pub(super) fn note_queue(&mut self, queue: Option<u16>) {
        if let Some(watching) = &mut self.watching {
            watching.handed_over.push(queue);
        }
    }

    fn watched(&mut self) -> Option<&mut Sighting> {
        self.watching.as_mut()?.current.as_deref_mut()
    }

    /// It was decided what happens to the packet in hand.
    #[inline(always)]
    pub(crate) fn see_verdict(&mut self, verdict: Verdict, job: &Job<I::Frame>) {
        if self.watching.is_some() {
            self.note_verdict(verdict, job);
        }
    }

    #[cold]
    #[inline(never)]
    fn note_verdict(&mut self, verdict: Verdict, job: &Job<I::Frame>) {
        if let Some(sighting) = self.watched() {
            let visit = &mut sighting.visit;
            visit.verdict = Some(verdict);
            // Of a fragment the ports were not known before.
            (visit.key, visit.direction) = (job.packet.key, job.packet.direction);
        }
    }

    /// The packet in hand is dropped.
    #[inline(always)]
    pub(crate) fn see_drop(&mut self, reason: DropReason) {
        if self.watching.is_some() {
            self.note_outcome(Outcome::Dropped(reason));
        }
    }

    #[cold]
    #[inline(never)]
    fn note_outcome(&mut self, outcome: Outcome) {
        if let Some(sighting) = self.watched() {
            sighting.visit.outcome = outcome;
        }
    }

    /// The sender of the packet in hand is told why it cannot go on.
    pub(super) fn see_answer(&mut self) {
        if let Some(sighting) = self.watched() {
            sighting.visit.answered = true;
        }
    }

    /// The packet in hand is given to another core.
    #[inline(always)]
    pub(super) fn see_hand_over(&mut self, core: usize) {
        if self.watching.is_some() {
            self.note_outcome(Outcome::HandedTo(core as u16));
        }
    }

    /// Another core has no room for a packet that is not watched yet, because that core would do it.
    #[cold]
    pub(super) fn see_no_room(&mut self, frame: &I::Frame, now: NowMs) {
        if let Some(watching) = &self.watching
            && watching.current.is_none()
        {
            self.begin_visit(frame, Came { queue: self.queue_in_hand(), ..Came::default() }, now);
        }
    }

    /// The packet in hand, or an answer to it, leaves.
    #[inline(always)]
    pub(crate) fn see_departure(&mut self, port: u8, frame: &I::Frame) {
        if self.watching.is_some() {
            self.keep_departure(port, frame);
        }
    }

    #[cold]
    #[inline(never)]
    fn keep_departure(&mut self, port: u8, frame: &I::Frame) {
        let queues = self.ports.queues[usize::from(port) % self.ports.queues.len()].max(1) as usize;
        let queue = (self.index % queues) as u16;
        let Self { watching, io, .. } = self;
        let Some(Watching { watch, current: Some(sighting), .. }) = watching.as_deref_mut() else { return };
        let bytes = io.bytes(frame);
        sighting.visit.outcome = match sighting.visit.outcome {
            Outcome::Left { pieces, length, .. } => {
                Outcome::Left { port, queue, pieces: pieces.saturating_add(1), length }
            }
            _ => {
                watch.keep(&mut sighting.left, bytes);
                Outcome::Left { port, queue, pieces: 1, length: bytes.len() as u32 }
            }
        };
    }
}
