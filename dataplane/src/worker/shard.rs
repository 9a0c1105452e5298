//! One core's sessions with their timers, and the one place where a [`Change`] becomes true.

use std::sync::atomic::Ordering::Relaxed;

use super::Worker;
use crate::clock::NowMs;
use crate::decide::{Arrival, Decision};
use crate::flow::Generation;
use crate::forwards::Forwards;
use crate::limits::HALF_OPEN_BACKLOG;
use crate::mailbox::FromWorker;
use crate::session::table::{Progress, SessionTable, Slot};
use crate::session::wheel::Wheel;
use crate::session::{Change, Role, Session};
use crate::settings::Backup;
use crate::verdict::DropReason;
use crate::wire::record::Record;
use crate::wire::tunnel::TunnelKind;
use crate::xsk::Io;

/// Sessions, timers, and how many of them control has yet to hear of.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) table: SessionTable,
    pub(crate) wheel: Wheel,
    pub(crate) dirty: u64,
    /// What the XDP program redirects by itself; withdrawn wherever a session ends or moves.
    pub(crate) forwards: Forwards,
}

impl Shard {
    /// Room for `capacity` sessions, of which `percent` may be such that give way.
    pub(crate) fn new(capacity: usize, percent: u8, now: NowMs) -> Self {
        Self {
            table: SessionTable::sharing(capacity, percent),
            wheel: Wheel::new(capacity, now),
            dirty: 0,
            forwards: Forwards::default(),
        }
    }

    pub(crate) fn has_dirty(&self) -> bool {
        self.dirty > 0
    }

    /// Removes a session with its timer.
    pub(crate) fn remove(&mut self, slot: Slot) -> Session {
        self.wheel.cancel(slot);
        let session = self.table.remove(slot);
        self.withdraw_forward(&session.key);
        self.dirty -= u64::from(session.dirty);
        session
    }

    /// Puts a session in place of another one.
    pub(crate) fn replace(&mut self, slot: Slot, session: Session) {
        self.dirty -= u64::from(self.table.get(slot).dirty);
        self.dirty += u64::from(session.dirty);
        self.wheel.schedule(slot, session.expires);
        let old = self.table.replace(slot, &session);
        self.withdraw_forward_if_moved(&old, &session);
    }
}

impl<I: Io> Worker<I> {
    /// Every session of this core as it stands, without asking through the mailbox; for the simulation.
    pub fn sessions(&self) -> impl Iterator<Item = Session> + '_ {
        let table = &self.shard.table;
        (0..table.capacity()).filter_map(|index| table.occupied(index)).map(|slot| table.get(slot))
    }

    pub(crate) fn count_decision(&self, arrival: &Arrival, decision: &Decision) {
        if let Arrival::Tunnel(option) = arrival {
            match option.kind {
                TunnelKind::Query | TunnelKind::Lookup => self.counters.query_rx.add(1),
                TunnelKind::FirstPacket => self.counters.first_packet_rx.add(1),
                TunnelKind::Redirect => self.counters.redirect_rx.add(1),
                // Counted when it came: it may have waited since.
                TunnelKind::Gather | TunnelKind::Hello => {}
            }
        }
        if decision.takeover {
            self.counters.takeovers.add(1);
        }
        if decision.window_exceeded {
            self.counters.tcp_window_loose.add(1);
        }
    }

    /// Makes a change true and tells control if peers must know. Gives the flow's slot.
    pub(crate) fn apply(
        &mut self,
        change: Change,
        slot: Option<Slot>,
        length: u32,
        now: NowMs,
    ) -> Result<Option<Slot>, DropReason> {
        let (slot, replicate) = match (change, slot) {
            (Change::None, slot) => (slot, false),
            (Change::Put { session, replicate }, slot) => (Some(self.put(slot, session, now)?), replicate),
            (Change::Update { state, tcp, expires, timeout_ms, replicate }, Some(slot)) => {
                let progress = Progress { state, tcp, expires, timeout_ms, replicate };
                // A shorter idle time must not wait for the timer set for the longer one.
                if self.shard.table.progress(slot, &progress) {
                    self.shard.wheel.schedule_no_later(slot, expires);
                }
                (Some(slot), replicate)
            }
            (Change::Remove, Some(slot)) => {
                self.end(slot, now);
                (None, false)
            }
            (Change::Update { .. } | Change::Remove, None) => (None, false),
        };
        if let Some(slot) = slot {
            self.shard.table.count_packet(slot, length);
            if replicate {
                self.announce(slot, now);
            }
        }
        Ok(slot)
    }

    fn put(&mut self, slot: Option<Slot>, session: Session, now: NowMs) -> Result<Slot, DropReason> {
        let was_owner = slot.is_some_and(|slot| self.shard.table.role(slot) == Role::Owner);
        let slot = match slot {
            Some(slot) => {
                self.shard.replace(slot, session);
                slot
            }
            None => self.insert(session, now)?,
        };
        match session.role {
            Role::Owner if !was_owner => self.counters.sessions_created.add(1),
            Role::Claim => self.counters.claims_granted.add(1),
            Role::Owner | Role::Backup => {}
        }
        Ok(slot)
    }

    /// Inserts a session. When the table is full, or so much of it as may be half open, the eldest session that gives
    /// way makes room; established ones stay.
    pub(crate) fn insert(&mut self, session: Session, now: NowMs) -> Result<Slot, DropReason> {
        let table = &self.shard.table;
        let is_full = table.len() >= table.capacity();
        if is_full || session.state.gives_way() && table.has_share_used_up() {
            match self.shard.table.victim() {
                Some(victim) => self.evict(victim, now),
                None if is_full => return Err(DropReason::TableFull),
                None => {}
            }
        }
        let slot = self.shard.table.insert(&session).map_err(|_| DropReason::TableFull)?;
        self.shard.wheel.schedule(slot, session.expires);
        Ok(slot)
    }

    fn evict(&mut self, victim: Slot, now: NowMs) {
        match self.shard.table.role(victim) {
            Role::Owner => self.counters.sessions_evicted.add(1),
            Role::Backup => self.counters.backups_evicted.add(1),
            Role::Claim => self.counters.claims_evicted.add(1),
        }
        self.end(victim, now);
    }

    /// Ends a session; peers learn of it if this node owned it.
    pub(crate) fn end(&mut self, slot: Slot, now: NowMs) {
        let session = self.shard.remove(slot);
        // One whose beginning was put off is nobody's business.
        let untold = session.dirty && session.version <= 1 && session.generation <= Generation(1)
            || self.snapshots.settings.backup.is_secret(&session, now);
        if session.role == Role::Owner && !untold && !session.admission.local && self.replicates() {
            let gone = FromWorker::Changed(Record::remove_of(&session));
            if self.mailbox.outbox.push(gone).is_err() {
                self.removal_lost = true;
            }
        }
    }

    /// Tells control of a session this node owns; if control lags, the session is marked and sent later.
    pub(crate) fn announce(&mut self, slot: Slot, now: NowMs) {
        if !self.replicates() {
            return;
        }
        let session = self.shard.table.get(slot);
        if session.admission.local {
            return;
        }
        let waits = self.snapshots.settings.backup.waits(&session, now);
        let put_off = waits || session.state.gives_way() && self.is_behind();
        if put_off {
            self.counters.put_off.add(1);
        }
        if waits && self.snapshots.settings.backup == Backup::Established {
            // The packet that ends its waiting announces it.
            return;
        }
        let changed = || FromWorker::Changed(self.record_of(&session, now));
        let told = !put_off && self.mailbox.outbox.push(changed()).is_ok();
        self.shard.dirty += u64::from(!told && !session.dirty);
        self.shard.dirty -= u64::from(told && session.dirty);
        if told && session.dirty {
            self.counters.resent.add(1);
        }
        self.shard.table.set_dirty(slot, !told);
    }

    /// True if sessions wait to be told of and it is time to look for them.
    pub(super) fn has_to_tell(&self, now: NowMs) -> bool {
        self.shard.has_dirty() && now >= self.next_announcing
    }

    /// True while peers, or control, are so far behind that only sessions that matter are announced at once. A session
    /// that gives way waits, or is over before: its Director's claim stands for it.
    pub(super) fn is_behind(&self) -> bool {
        let outbox = &self.mailbox.outbox;
        outbox.len() > outbox.capacity() / HALF_OPEN_BACKLOG || self.counters.lagging.load(Relaxed)
    }

    /// What peers are told of a session this node owns.
    pub(crate) fn record_of(&self, session: &Session, now: NowMs) -> Record {
        let policy = &self.snapshots.policy.policy;
        let judged = session.admission.policy == policy.number;
        Record { policy: if judged { policy.version } else { 0 }, ..Record::of(session, now) }
    }

    /// True if there is anybody to replicate to.
    pub(crate) fn replicates(&self) -> bool {
        self.snapshots.settings.aggregation && !self.snapshots.view.peers.is_empty()
    }
}
