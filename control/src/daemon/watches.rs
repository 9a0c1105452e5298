//! Who looks on (`samepath trace`, `samepath capture`): filters go to the workers, what these write down is kept until it
//! is fetched, and whoever does not fetch for a while is forgotten.

mod words;

use std::collections::VecDeque;
use std::sync::Arc;

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::flow::key_bytes;
use samepath_dataplane::mailbox::ToWorker;
use samepath_dataplane::watch::{End, FILTERS_MAX, Filter, Missed, Watch};
use samepath_dataplane::worker::Watching;

use super::Node;
use crate::operator::api::Reply;
use crate::operator::watch::{
    NodeWatched, PacketFilter, SLOTS_MOST, SNAP_LEAST, SNAP_MOST, Seen, WatchOrder, Watched,
};

/// How long a node looks on without being asked, ms. Lower: a short stall ends a trace; higher: workers look longer than
/// somebody is interested whose program was killed.
pub(super) const LEASE_MS: u64 = 5_000;

/// Packets kept for one who looks on, and bytes of their frames: what is seen between two questions, while one of all
/// nodes may take a second.
const KEPT: usize = 8_192;
const KEPT_BYTES: usize = 32 << 20;

/// Bytes of one reply to an operator, and to a peer, whose control channel carries 32 KiB at once.
pub(super) const REPLY_BYTES: usize = 1 << 20;
pub(super) const PEER_REPLY_BYTES: usize = 24 << 10;

/// Those who look on.
#[derive(Default)]
pub(super) struct Watches {
    open: Vec<Open>,
    /// Filters and slots the workers have; the last one is the newest, the others are emptied.
    sets: Vec<Set>,
}

/// One who looks on.
struct Open {
    order: WatchOrder,
    filter: Filter,
    kept: VecDeque<(usize, Seen)>,
    kept_bytes: usize,
    number: u64,
    missed_full: u64,
    missed_rate: u64,
    due: NowMs,
}

/// What the workers look for.
struct Set {
    /// Whose the filters are, by bit.
    ids: Vec<u64>,
    /// By worker.
    watches: Vec<Arc<Watch>>,
    /// What was missed by the last look, by worker and filter.
    missed: Vec<[(u64, u64); FILTERS_MAX]>,
}

impl Set {
    fn looks(&self) -> bool {
        self.watches.iter().all(|watch| watch.adopted.get() != 0)
    }

    /// The workers have given it back: nothing more will come.
    fn is_over(&self) -> bool {
        self.looks() && self.watches.iter().all(|watch| Arc::strong_count(watch) == 1)
    }
}

impl Watches {
    /// Somebody looks on.
    pub(super) fn are_open(&self) -> bool {
        !self.open.is_empty()
    }
}

impl Node {
    /// Begins to look, goes on, or ends; the answer says what was seen since, in `bytes` bytes at most.
    pub(super) fn watch(&mut self, order: WatchOrder, bytes: usize) -> anyhow::Result<Reply> {
        let due = self.now().plus(LEASE_MS);
        self.take_sightings();
        let id = order.id;
        if !self.watches.open.iter().any(|open| open.order.id == id) {
            if order.end {
                return Ok(Reply::Watched(Box::default()));
            }
            match self.open_watch(&order, due) {
                Ok(open) => self.watches.open.push(open),
                Err(sentence) => return Ok(Reply::error(sentence)),
            }
            let sentence = if order.frames { "frames of packets are captured" } else { "packets are traced" };
            tracing::info!(filter = ?order.filter, "{sentence}");
            self.set_watches()?;
        }
        let node = self.config.node.0;
        let looks = self.watches.sets.last().is_some_and(Set::looks);
        let mut told = NodeWatched { node, looks, ..NodeWatched::default() };
        if let Some(open) = self.watches.open.iter_mut().find(|open| open.order.id == id) {
            open.due = due;
            open.forget(order.arrived_from(node));
            open.tell(&mut told, bytes);
        }
        if order.end {
            self.watches.open.retain(|open| open.order.id != id);
            self.set_watches()?;
        }
        Ok(Reply::Watched(Box::new(Watched { nodes: vec![told], silent: Vec::new() })))
    }

    /// As [`Node::watch`], for an operator of this node.
    pub(super) fn watch_here(&mut self, order: WatchOrder) -> anyhow::Result<Reply> {
        self.watch(order, REPLY_BYTES)
    }

    fn open_watch(&self, order: &WatchOrder, due: NowMs) -> Result<Open, String> {
        if self.watches.open.len() >= FILTERS_MAX {
            return Err(format!("{FILTERS_MAX} operators look on already: wait until one of them ends"));
        }
        if !(SNAP_LEAST..=SNAP_MOST).contains(&order.snap) {
            return Err(format!("snap is from {SNAP_LEAST} to {SNAP_MOST} bytes; write one of these"));
        }
        if !(1..=SLOTS_MOST).contains(&order.slots) {
            return Err(format!("slots is from 1 to {SLOTS_MOST}; write one of these"));
        }
        let filter = self.packet_filter(&order.filter)?;
        Ok(Open {
            order: order.clone(),
            filter,
            kept: VecDeque::new(),
            kept_bytes: 0,
            number: 0,
            missed_full: 0,
            missed_rate: 0,
            due,
        })
    }

    fn packet_filter(&self, filter: &PacketFilter) -> Result<Filter, String> {
        if let (Some(src), Some(dst)) = (filter.src, filter.dst)
            && src.addr().is_ipv4() != dst.addr().is_ipv4()
        {
            return Err(format!("{src} and {dst} are not of one IP version: correct one of them"));
        }
        let zone = match &filter.zone {
            None => None,
            Some(name) => Some(self.zone_number(name).ok_or_else(|| self.no_such_zone(name))?),
        };
        Ok(Filter {
            proto: filter.proto,
            from: end_of(filter.src, filter.sport),
            to: end_of(filter.dst, filter.dport),
            both_ways: !filter.one_way,
            vlan: filter.vlan,
            zone,
        })
    }

    /// Gives the workers the filters there are now.
    fn set_watches(&mut self) -> anyhow::Result<()> {
        let Watches { open, sets } = &mut self.watches;
        let filters: Vec<Filter> = open.iter().map(|open| open.filter).collect();
        let snap = open.iter().map(|open| open.order.snap).max().unwrap_or(SNAP_LEAST);
        let slots = open.iter().map(|open| open.order.slots).max().unwrap_or(1);
        let count = self.workers.count();
        let make = |_| Arc::new(Watch::new(&filters, snap.into(), slots as usize));
        let watches: Vec<Arc<Watch>> =
            if open.is_empty() { Vec::new() } else { (0..count).map(make).collect() };
        for worker in 0..count {
            let watching = watches.get(worker).map(|watch| Box::new(Watching::new(watch.clone())));
            self.workers.tell(worker, ToWorker::Watch(watching));
        }
        if !watches.is_empty() {
            let ids = open.iter().map(|open| open.order.id).collect();
            sets.push(Set { ids, missed: vec![Default::default(); watches.len()], watches });
        }
        // What the XDP program redirects by itself no worker sees.
        self.set_forwarder()
    }

    /// Takes what the workers wrote down, and forgets who does not ask any longer. To be called often while somebody looks
    /// on.
    pub(super) fn watch_watches(&mut self) -> anyhow::Result<()> {
        if self.watches.sets.is_empty() {
            return Ok(());
        }
        self.take_sightings();
        let now = self.now();
        let before = self.watches.open.len();
        self.watches.open.retain(|open| open.due > now);
        if self.watches.open.len() < before {
            self.set_watches()?;
        }
        Ok(())
    }

    fn take_sightings(&mut self) {
        let mut sets = std::mem::take(&mut self.watches.sets);
        for set in &mut sets {
            for worker in 0..set.watches.len() {
                self.take_from(set, worker);
            }
        }
        sets.retain(|set| !set.is_over());
        self.watches.sets = sets;
    }

    fn take_from(&mut self, set: &mut Set, worker: usize) {
        let watch = set.watches[worker].clone();
        while let Some(sighting) = watch.take() {
            for (bit, id) in set.ids.iter().enumerate() {
                if sighting.visit.filters >> bit & 1 == 0 {
                    continue;
                }
                let Some(at) = self.watches.open.iter().position(|open| open.order.id == *id) else {
                    continue;
                };
                let seen = self.seen(&sighting, worker, self.watches.open[at].order.frames);
                self.watches.open[at].keep(seen);
            }
            watch.give_back(sighting);
        }
        for ((id, Missed { full, over_rate }), known) in
            set.ids.iter().zip(&watch.missed).zip(&mut set.missed[worker])
        {
            let now = (full.get(), over_rate.get());
            if let Some(open) = self.watches.open.iter_mut().find(|open| open.order.id == *id) {
                open.missed_full += now.0 - known.0;
                open.missed_rate += now.1 - known.1;
            }
            *known = now;
        }
    }
}

/// One end of a flow as workers compare it.
pub(super) fn end_of(prefix: Option<ipnet::IpNet>, port: Option<u16>) -> End {
    let Some(prefix) = prefix else { return End { port, ..End::default() } };
    let mapped = if prefix.addr().is_ipv4() { 96 } else { 0 };
    End { prefix: key_bytes(prefix.network()), length: prefix.prefix_len() + mapped, port }
}

impl Open {
    /// Keeps what was seen until it is fetched, if there is room.
    fn keep(&mut self, mut seen: Seen) {
        let frames = [&seen.frame, &seen.frame_left];
        let bytes: usize = frames.into_iter().flatten().map(String::len).sum();
        if self.kept.len() >= KEPT || self.kept_bytes + bytes > KEPT_BYTES {
            self.missed_full += 1;
            return;
        }
        self.number += 1;
        seen.number = self.number;
        self.kept_bytes += bytes;
        self.kept.push_back((bytes, seen));
    }

    /// These have arrived.
    fn forget(&mut self, arrived: u64) {
        while self.kept.front().is_some_and(|(_, seen)| seen.number <= arrived) {
            let Some((bytes, _)) = self.kept.pop_front() else { return };
            self.kept_bytes -= bytes;
        }
    }

    /// Tells what is kept, as far as it fits.
    fn tell(&self, told: &mut NodeWatched, bytes: usize) {
        (told.missed_full, told.missed_rate) = (self.missed_full, self.missed_rate);
        let mut left = bytes;
        for (_, seen) in &self.kept {
            let size = serde_json::to_vec(seen).map_or(usize::MAX, |text| text.len() + 1);
            match left.checked_sub(size) {
                Some(rest) => left = rest,
                None => {
                    told.more = true;
                    return;
                }
            }
            told.seen.push(seen.clone());
        }
    }
}
