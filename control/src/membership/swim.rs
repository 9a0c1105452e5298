//! SWIM, by the crate foca, behind the verbs of this house. It carries rows to nodes that its sender cannot reach
//! itself, and has its own opinion of who is there.

use std::collections::{BTreeMap, VecDeque};
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foca::{
    AccumulatingRuntime, BroadcastHandler, Codec, Foca, Invalidates, Member, PeriodicParams, PostcardCodec,
};
use foca::{State, Timer};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::flow::NodeId;

use super::row::{Identity, Row, VERSION};

/// Kind of a datagram that carries a packet of foca.
pub const SWIM: u8 = 1;

/// Longest packet foca makes and takes: with the two bytes in front it fits a QUIC datagram on a path of 1,280
/// bytes (RFC 9000 section 14).
const PACKET: usize = 1100;

/// Members asked to probe one that did not answer, and members a gossip goes to.
const HELPERS: usize = 3;

/// How often an update is passed on by each node that has it.
const PASSED_ON: u8 = 6;

/// How long a dead identity is remembered. A node that restarts has a later one, so this only bounds how long
/// late gossip of it is recognised as such.
const REMEMBERED: Duration = Duration::from_secs(3600);

impl foca::Identity for Identity {
    type Addr = u16;

    fn renew(&self) -> Option<Self> {
        Some(Self { renewals: self.renewals.wrapping_add(1), ..*self })
    }

    fn addr(&self) -> u16 {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self > adversary
    }
}

/// Names a row in foca's backlog: the newer one of a node takes the place of the older.
#[derive(Debug)]
struct RowKey {
    node: u16,
    age: (u64, u32),
}

impl Invalidates for RowKey {
    fn invalidates(&self, other: &Self) -> bool {
        self.node == other.node && self.age >= other.age
    }
}

/// Rows that came, for the machine; foca keeps what passes them on.
#[derive(Clone, Debug, Default)]
struct Rows {
    newest: BTreeMap<u16, (u64, u32)>,
    came: Arc<Mutex<Vec<Row>>>,
}

/// A broadcast that is no row.
#[derive(Debug, thiserror::Error)]
#[error("a broadcast that is no row")]
struct NoRow;

impl BroadcastHandler<Identity> for Rows {
    type Key = RowKey;
    type Error = NoRow;

    fn receive_item(&mut self, data: &[u8], _: Option<&Identity>) -> Result<Option<RowKey>, NoRow> {
        let row = Row::decode(data).ok_or(NoRow)?;
        let (node, age) = (row.identity.node, row.age());
        if self.newest.get(&node).is_some_and(|&newest| age <= newest) {
            return Ok(None);
        }
        self.newest.insert(node, age);
        self.came.lock().unwrap_or_else(PoisonError::into_inner).push(row);
        Ok(Some(RowKey { node, age }))
    }
}

/// See the file's first lines.
pub struct Swim {
    foca: Foca<Identity, PostcardCodec, SmallRng, Rows>,
    rows: Rows,
    runtime: AccumulatingRuntime<Identity>,
    timers: Vec<(NowMs, Timer<Identity>)>,
    out: VecDeque<(NodeId, Vec<u8>)>,
}

impl std::fmt::Debug for Swim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Swim").field("identity", self.foca.identity()).finish_non_exhaustive()
    }
}

impl Swim {
    /// Nobody is known yet. `timeout_ms`: what detection shall take; `seed`: of the choice whom to probe.
    pub fn new(identity: Identity, timeout_ms: u64, seed: u64) -> Self {
        let rows = Rows::default();
        let rng = SmallRng::seed_from_u64(seed);
        let config = config(timeout_ms);
        let foca = Foca::with_custom_broadcast(identity, config, rng, PostcardCodec, rows.clone());
        Self { foca, rows, runtime: AccumulatingRuntime::new(), timers: Vec::new(), out: VecDeque::new() }
    }

    /// This node as it is called now.
    pub fn identity(&self) -> Identity {
        *self.foca.identity()
    }

    /// A peer is there: it said so itself.
    pub fn meet(&mut self, peer: Identity, now: NowMs) {
        let known = self
            .foca
            .iter_membership_state()
            .any(|member| *member.id() >= peer && member.id().node == peer.node);
        if !known {
            // Foca refuses only what contradicts what it knows, and then knows better.
            let _ = self.foca.apply_many(std::iter::once(Member::alive(peer)), true, &mut self.runtime);
            self.collect(now);
        }
    }

    /// Passes a row on, this node's or another's.
    pub fn pass_on(&mut self, row: &Row) {
        // A row that is not newer than one passed on is refused, as it should be.
        let _ = self.foca.add_broadcast(&row.encode());
    }

    /// Takes a packet of foca from a peer; false if it is none, or not the peer's own.
    pub fn handle_message(&mut self, from: NodeId, packet: &[u8], now: NowMs) -> bool {
        let header = Codec::<Identity>::decode_header(&mut PostcardCodec, packet);
        if !header.is_ok_and(|header| header.src.node == from.0) {
            return false;
        }
        let taken = self.foca.handle_data(packet, &mut self.runtime).is_ok();
        self.collect(now);
        taken
    }

    /// Timers that are due.
    pub fn handle_timeout(&mut self, now: NowMs) {
        loop {
            self.timers.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
            if self.timers.first().is_none_or(|(due, _)| *due > now) {
                return;
            }
            let (_, timer) = self.timers.remove(0);
            // What foca objects to is a timer that came too late; it goes on with the next one.
            let _ = self.foca.handle_timer(timer, &mut self.runtime);
            self.collect(now);
        }
    }

    /// This node did not run for so long: whoever seems silent had no chance to be heard meanwhile.
    pub fn excuse(&mut self, ms: u64) {
        for (due, _) in &mut self.timers {
            *due = due.plus(ms);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<NowMs> {
        self.timers.iter().map(|(due, _)| *due).min()
    }

    /// The next datagram to send.
    pub fn poll_message(&mut self) -> Option<(NodeId, Vec<u8>)> {
        self.out.pop_front()
    }

    /// Rows that came and are newer than those before.
    pub fn came(&mut self) -> Vec<Row> {
        std::mem::take(&mut *self.rows.came.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What SWIM thinks of a node; `None` if it has not heard of it.
    pub fn opinion(&self, node: NodeId) -> Option<State> {
        let mut all = self.foca.iter_membership_state();
        all.find(|member| member.id().node == node.0).map(Member::state)
    }

    fn collect(&mut self, now: NowMs) {
        while let Some((to, packet)) = self.runtime.to_send() {
            let mut datagram = Vec::with_capacity(2 + packet.len());
            datagram.extend_from_slice(&[VERSION, SWIM]);
            datagram.extend_from_slice(&packet);
            self.out.push_back((NodeId(to.node), datagram));
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.timers.push((now.plus(after.as_millis() as u64), timer));
        }
        // Its opinion is asked when it is needed.
        while self.runtime.to_notify().is_some() {}
    }
}

/// Suspicion after one period, death after as much again at most, so that together with choosing whom to probe it
/// is about the time asked for.
fn config(timeout_ms: u64) -> foca::Config {
    let period = Duration::from_millis((timeout_ms / 4).max(10));
    let some = |number| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
    let every = |frequency| Some(PeriodicParams { frequency, num_members: some(HELPERS) });
    foca::Config {
        probe_period: period,
        probe_rtt: period / 3,
        num_indirect_probes: some(HELPERS),
        max_transmissions: NonZeroU8::new(PASSED_ON).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: period,
        remove_down_after: Some(REMEMBERED),
        max_packet_size: some(PACKET),
        notify_down_members: true,
        periodic_announce: every(Duration::from_secs(5)),
        periodic_announce_to_down_members: every(Duration::from_secs(2)),
        periodic_gossip: every(period),
    }
}
