//! One peer's place in the replication log, and its bulk sync: the sending half of the machine.

use std::collections::VecDeque;

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::keyring::PeerKey;
use samepath_dataplane::wire::record::Record;

use super::event::{BulkRoom, PeerEvent};
use super::hello::Hello;
use super::limits::{
    CLAIMS, FRAME_BYTES, FRAME_CLAIMS, FRAME_RECORDS, HANDED_OVER, PAGE_WINDOW, RECORD_MAX, TEXTS,
};
use super::log::Log;
use super::message::{self, Ack, Claim};

/// Records handed over in one frame: of any family they fit into [`FRAME_BYTES`].
const HANDED_OVER_FRAME: usize = FRAME_BYTES / RECORD_MAX;

/// What this node still has to tell one peer.
#[derive(Debug)]
pub struct Sender {
    peer: NodeId,
    phase: Phase,
    /// The link in use; messages of others are late.
    pub link: Option<u32>,
    /// The peer's boot id at its last Hello.
    pub boot_id: u64,
    down_since: NowMs,
    /// Next sequence number to send.
    cursor: u64,
    acked: u64,
    /// Beyond the highest sequence number ever sent.
    top: u64,
    /// The peer can go on behind `acked` when it comes back: the log keeps what it needs.
    kept: bool,
    sync: Option<Sync>,
    syncs: u32,
    /// A bulk sync is wanted, after the one under way if there is one.
    stale: bool,
    checks: VecDeque<Claim>,
    denied: VecDeque<Claim>,
    handed_over: VecDeque<Record>,
    key: Option<PeerKey>,
    /// Frames of operators' questions and answers.
    texts: VecDeque<Vec<u8>>,
    claims_dropped: u64,
    resent: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Down,
    /// Connected; our Hello is still to be said, or its answer to come.
    Greeting {
        said: bool,
    },
    Live,
}

/// A bulk sync under way. Pages and changes leave in the order the consumer gave them: a page must
/// neither overtake an older change nor be overtaken by the end of a session it shows alive.
#[derive(Debug)]
struct Sync {
    id: u32,
    begun: bool,
    steps: VecDeque<Step>,
    /// Steps sent and acknowledged.
    sent: u32,
    acked: u32,
    /// The consumer was told to wait.
    full: bool,
    ended: bool,
}

#[derive(Debug)]
struct Step {
    /// Changes below this sequence number go first.
    at: u64,
    frame: Vec<u8>,
}

impl Sync {
    fn outstanding(&self) -> u32 {
        self.steps.len() as u32 + (self.sent - self.acked)
    }
}

impl Sender {
    /// A peer not yet connected.
    pub fn new(peer: NodeId, now: NowMs) -> Self {
        Self {
            peer,
            phase: Phase::Down,
            link: None,
            boot_id: 0,
            down_since: now,
            cursor: 1,
            acked: 0,
            top: 1,
            kept: false,
            sync: None,
            syncs: 0,
            stale: false,
            checks: VecDeque::new(),
            denied: VecDeque::new(),
            handed_over: VecDeque::new(),
            key: None,
            texts: VecDeque::new(),
            claims_dropped: 0,
            resent: 0,
        }
    }

    /// A connection stands.
    pub fn up(&mut self, link: u32) {
        self.link = Some(link);
        self.phase = Phase::Greeting { said: false };
    }

    /// The connection is gone; true if records went over it.
    pub fn down(&mut self, now: NowMs) -> bool {
        let was_live = self.is_live();
        self.phase = Phase::Down;
        self.link = None;
        self.down_since = now;
        self.sync = None;
        self.checks.clear();
        self.denied.clear();
        self.handed_over.clear();
        self.key = None;
        self.texts.clear();
        was_live
    }

    /// Hellos are exchanged and no new ones are due.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// The peer has answered with a Hello that fits: goes on behind what it holds, or from scratch.
    /// False if no Hello was due.
    pub fn greeted(
        &mut self,
        hello: &Hello,
        boot_id: u64,
        log: &Log,
        events: &mut VecDeque<PeerEvent>,
    ) -> bool {
        if self.phase != (Phase::Greeting { said: true }) {
            return false;
        }
        self.phase = Phase::Live;
        self.boot_id = hello.boot_id;
        events.push_back(PeerEvent::Connected { peer: self.peer, boot_id: hello.boot_id });
        let held = hello.held;
        let in_log = (log.first()..=log.next()).contains(&held.sequence.saturating_add(1));
        if held.boot_id == boot_id && held.whole && in_log && !self.stale {
            self.acked = held.sequence;
            self.cursor = held.sequence + 1;
            self.kept = true;
        } else {
            self.begin_sync(log, events);
        }
        true
    }

    fn begin_sync(&mut self, log: &Log, events: &mut VecDeque<PeerEvent>) {
        self.syncs += 1;
        self.cursor = log.next();
        self.acked = log.next() - 1;
        self.kept = true;
        self.stale = false;
        self.sync = Some(Sync {
            id: self.syncs,
            begun: false,
            steps: VecDeque::new(),
            sent: 0,
            acked: 0,
            full: false,
            ended: false,
        });
        events.push_back(PeerEvent::NeedBulk { peer: self.peer, sync: self.syncs });
    }

    /// What the log says is not all that happened: a bulk sync must make it good.
    pub fn resync(&mut self) {
        self.stale = true;
    }

    /// The peer has handed on what it acknowledges. False if it cannot have got that far.
    pub fn acknowledged(&mut self, ack: Ack, events: &mut VecDeque<PeerEvent>) -> bool {
        if ack.sequence >= self.cursor {
            return false;
        }
        self.acked = self.acked.max(ack.sequence);
        let Some(sync) = self.sync.as_mut().filter(|sync| sync.id == ack.sync) else {
            return true;
        };
        if ack.pages > sync.sent {
            return false;
        }
        sync.acked = sync.acked.max(ack.pages);
        if sync.ended && sync.outstanding() == 0 {
            self.sync = None;
        } else if sync.full && sync.outstanding() <= PAGE_WINDOW / 2 {
            sync.full = false;
            events.push_back(PeerEvent::BulkMore { peer: self.peer, sync: sync.id });
        }
        true
    }

    /// The next frame to send, if any.
    pub fn poll(
        &mut self,
        log: &Log,
        hello: impl FnOnce() -> Hello,
        events: &mut VecDeque<PeerEvent>,
    ) -> Option<Vec<u8>> {
        match self.phase {
            Phase::Down | Phase::Greeting { said: true } => return None,
            Phase::Greeting { said: false } => {
                self.phase = Phase::Greeting { said: true };
                return Some(message::hello(&hello()));
            }
            Phase::Live => {}
        }
        if let Some(key) = self.key.take() {
            return Some(message::tunnel_key(&key));
        }
        if let Some(text) = self.texts.pop_front() {
            return Some(text);
        }
        if let Some(claims) = next_claims(&mut self.checks) {
            return Some(message::claim_checks(&claims));
        }
        if let Some(claims) = next_claims(&mut self.denied) {
            return Some(message::claims_denied(&claims));
        }
        if !self.handed_over.is_empty() {
            let count = self.handed_over.len().min(HANDED_OVER_FRAME);
            let records: Vec<Record> = self.handed_over.drain(..count).collect();
            return Some(message::hand_over(&records));
        }
        if self.cursor < log.first() || (self.stale && self.sync.is_none()) {
            self.begin_sync(log, events);
        }
        let mut until = log.next();
        if let Some(sync) = &mut self.sync {
            if !sync.begun {
                sync.begun = true;
                return Some(message::bulk_begin(sync.id, self.cursor - 1));
            }
            if let Some(step) = sync.steps.front() {
                until = step.at;
            }
            if self.cursor >= until
                && let Some(step) = sync.steps.pop_front()
            {
                sync.sent += 1;
                return Some(step.frame);
            }
        }
        let run = log.run(self.cursor, until)?;
        self.cursor += u64::from(run.count);
        let again = self.top.saturating_sub(run.first).min(run.count.into());
        self.resent += again;
        self.top = self.top.max(self.cursor);
        Some(message::changes(run.first, run.count, run.bytes))
    }

    /// Takes a page of the bulk sync, to be sent behind the changes before `next`.
    pub fn bulk(&mut self, sync: u32, records: &[Record], next: u64) -> BulkRoom {
        let Some(sync) = self.open_sync(sync) else {
            return BulkRoom::Over;
        };
        let mut encoded = Vec::new();
        let mut count = 0;
        let mut cut = |encoded: &mut Vec<u8>, count: &mut u16| {
            sync.steps.push_back(Step { at: next, frame: message::page(sync.id, *count, encoded) });
            encoded.clear();
            *count = 0;
        };
        for record in records {
            record.encode(&mut encoded);
            count += 1;
            if usize::from(count) == FRAME_RECORDS || encoded.len() + RECORD_MAX > FRAME_BYTES {
                cut(&mut encoded, &mut count);
            }
        }
        if count > 0 {
            cut(&mut encoded, &mut count);
        }
        sync.full = sync.outstanding() >= PAGE_WINDOW;
        if sync.full { BulkRoom::Full } else { BulkRoom::More }
    }

    /// Whether a page of this sync would be sent without waiting for acknowledgements.
    pub fn bulk_room(&mut self, sync: u32) -> BulkRoom {
        self.bulk(sync, &[], 0)
    }

    /// No further pages. False if that sync is over.
    pub fn bulk_done(&mut self, sync: u32, next: u64) -> bool {
        let Some(sync) = self.open_sync(sync) else {
            return false;
        };
        sync.ended = true;
        sync.steps.push_back(Step { at: next, frame: message::bulk_end(sync.id) });
        true
    }

    fn open_sync(&mut self, id: u32) -> Option<&mut Sync> {
        self.sync.as_mut().filter(|sync| sync.id == id && !sync.ended)
    }

    /// A question for the peer, if it is connected.
    pub fn check(&mut self, claim: Claim) {
        self.claims_dropped += u64::from(!push_claim(&mut self.checks, self.phase, claim));
    }

    /// A denial for the peer, if it is connected.
    pub fn deny(&mut self, claim: Claim) {
        self.claims_dropped += u64::from(!push_claim(&mut self.denied, self.phase, claim));
    }

    /// A session for the peer to own, if it is connected and there is room; else the caller offers again.
    pub fn hand_over(&mut self, record: &Record) {
        if self.is_live() && self.handed_over.len() < HANDED_OVER {
            self.handed_over.push_back(*record);
        }
    }

    /// A key for the peer to speak with, if it is connected; else the caller gives it when it is.
    pub fn give_key(&mut self, key: PeerKey) {
        if self.is_live() {
            self.key = Some(key);
        }
    }

    /// A question or an answer for the peer. False, and it is dropped, if the peer is not connected or too much waits.
    pub fn say(&mut self, frame: Vec<u8>) -> bool {
        let room = self.is_live() && self.texts.len() < TEXTS;
        if room {
            self.texts.push_back(frame);
        }
        room
    }

    /// Sequence number of the oldest change the log must keep for this peer.
    pub fn needs(&self) -> Option<u64> {
        self.kept.then_some(self.acked + 1)
    }

    /// The log has forgotten everything below `first`.
    pub fn forgotten(&mut self, first: u64) {
        // A connected peer gets a bulk sync at its next poll; one that is away, when it is back.
        self.kept &= self.acked + 1 >= first;
    }

    /// Everything published was acknowledged, or nothing can be while the peer is away.
    pub fn is_flushed(&self, log: &Log) -> bool {
        let idle = self.checks.is_empty() && self.denied.is_empty() && self.handed_over.is_empty();
        !self.is_live() || (idle && self.acked + 1 == log.next())
    }

    /// Last sequence numbers sent and acknowledged.
    pub fn progress(&self) -> (u64, u64) {
        (self.cursor.max(self.top) - 1, self.acked)
    }

    /// Changes not acknowledged and the age of the oldest, ms.
    pub fn lag(&self, log: &Log, now: NowMs) -> (u64, u64) {
        let records = log.next() - 1 - self.acked;
        if records == 0 {
            return (0, 0);
        }
        let away = if self.phase == Phase::Down { now.since(self.down_since) } else { 0 };
        (records, log.age_ms(self.acked + 1, now).max(away))
    }

    /// Records resent, bulk syncs begun, claims dropped.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.resent, self.syncs.into(), self.claims_dropped)
    }

    /// A bulk sync is under way.
    pub fn is_syncing(&self) -> bool {
        self.sync.is_some() || self.stale
    }
}

fn push_claim(queue: &mut VecDeque<Claim>, phase: Phase, claim: Claim) -> bool {
    let room = phase == Phase::Live && queue.len() < CLAIMS;
    if room {
        queue.push_back(claim);
    }
    room
}

fn next_claims(queue: &mut VecDeque<Claim>) -> Option<Vec<Claim>> {
    let count = queue.len().min(FRAME_CLAIMS);
    (count > 0).then(|| queue.drain(..count).collect())
}
