//! What this node holds of one peer's records: the receiving half of the machine.

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::wire::record::Record;

use super::event::PeerEvent;
use super::hello::{Held, Hello};
use super::limits::{ACK_DELAY_MS, ACK_RECORDS, SEQUENCE_MAX};
use super::message::{self, Ack, Malformed, Message};

/// One peer's records, as far as they have been handed to the consumer.
#[derive(Debug)]
pub struct Receiver {
    peer: NodeId,
    /// The link in use; messages of others are late.
    pub link: Option<u32>,
    held: Held,
    answer_due: bool,
    mark: u16,
    sync: u32,
    pages: u32,
    unacked: u64,
    ack_due: Option<NowMs>,
    ack_now: bool,
    /// It said that it leaves.
    leaving: bool,
}

impl Receiver {
    /// A peer nothing is known of.
    pub fn new(peer: NodeId) -> Self {
        Self {
            peer,
            link: None,
            held: Held::default(),
            answer_due: false,
            mark: 0,
            sync: 0,
            pages: 0,
            unacked: 0,
            ack_due: None,
            ack_now: false,
            leaving: false,
        }
    }

    /// A Hello that fits came over `link`, which replaces the one before. True if the peer has begun anew since its
    /// last Hello: what it owned then it owns no more.
    pub fn greeted(&mut self, hello: &Hello, link: u32) -> bool {
        let restarted = self.held.boot_id != 0 && self.held.boot_id != hello.boot_id;
        if self.held.boot_id != hello.boot_id {
            self.held = Held { boot_id: hello.boot_id, ..Held::default() };
        }
        self.link = Some(link);
        self.answer_due = true;
        self.sync = 0;
        self.leaving = false;
        self.acked();
        restarted
    }

    /// The connection is gone.
    pub fn down(&mut self) {
        self.link = None;
        self.answer_due = false;
        self.acked();
    }

    /// What is held; said in every Hello.
    pub fn held(&self) -> Held {
        self.held
    }

    /// The peer leaves; true the first time.
    pub fn leaves(&mut self) -> bool {
        !std::mem::replace(&mut self.leaving, true)
    }

    /// Takes a message and gives what the consumer must get, which from then on counts as handed over.
    pub fn handle(&mut self, message: Message, now: NowMs) -> Result<Option<PeerEvent>, Malformed> {
        let kind = message.kind();
        let from = self.peer;
        match message {
            Message::Records { first, records } => self.changes(first, records, kind, now),
            Message::BulkBegin { after, .. } if after > SEQUENCE_MAX => Err(Malformed::Order(kind)),
            Message::BulkBegin { sync, after } => {
                self.mark = self.mark.checked_add(1).unwrap_or(1);
                self.sync = sync;
                self.pages = 0;
                self.held.sequence = after;
                self.held.whole = false;
                self.ack_now = true;
                Ok(Some(PeerEvent::BulkBegin { from, mark: self.mark }))
            }
            Message::Page { sync, records } => {
                self.step(sync, kind)?;
                Ok(Some(PeerEvent::Records { from, mark: self.mark, records }))
            }
            Message::BulkEnd { sync } => {
                self.step(sync, kind)?;
                self.held.whole = true;
                Ok(Some(PeerEvent::BulkEnd { from, mark: self.mark }))
            }
            Message::ClaimChecks(claims) => Ok(Some(PeerEvent::ClaimChecks { from, claims })),
            Message::ClaimsDenied(claims) => Ok(Some(PeerEvent::ClaimsDenied { from, claims })),
            Message::HandOver(records) => Ok(Some(PeerEvent::HandOver { from, mark: self.mark, records })),
            Message::TunnelKey(key) => Ok(Some(PeerEvent::TunnelKey { from, key })),
            Message::Question { number, text } => Ok(Some(PeerEvent::Question { from, number, text })),
            Message::Answer { number, text } => Ok(Some(PeerEvent::Answer { from, number, text })),
            Message::Unknown(_) => Ok(None),
            Message::Hello(_) | Message::Ack(_) => Err(Malformed::Order(kind)),
        }
    }

    fn changes(
        &mut self,
        first: u64,
        mut records: Vec<Record>,
        kind: u8,
        now: NowMs,
    ) -> Result<Option<PeerEvent>, Malformed> {
        let expected = self.held.sequence + 1;
        let in_sync = self.held.whole || self.sync != 0;
        if !in_sync || first == 0 || first > expected {
            return Err(Malformed::Order(kind));
        }
        let known = (expected - first).min(records.len() as u64) as usize;
        records.drain(..known);
        if records.is_empty() {
            return Ok(None);
        }
        let count = records.len() as u64;
        self.held.sequence += count;
        self.unacked += count;
        self.ack_now |= self.unacked >= ACK_RECORDS;
        self.ack_due.get_or_insert(now.plus(ACK_DELAY_MS));
        Ok(Some(PeerEvent::Records { from: self.peer, mark: self.mark, records }))
    }

    /// A page, or the end, of the sync under way.
    fn step(&mut self, sync: u32, kind: u8) -> Result<(), Malformed> {
        if sync == 0 || sync != self.sync || self.held.whole {
            return Err(Malformed::Order(kind));
        }
        self.pages += 1;
        self.ack_now = true;
        Ok(())
    }

    /// The time `poll_timeout` named has come.
    pub fn handle_timeout(&mut self, now: NowMs) {
        self.ack_now |= self.ack_due.is_some_and(|due| due <= now);
    }

    /// When the acknowledgement is due.
    pub fn poll_timeout(&self) -> Option<NowMs> {
        self.ack_due.filter(|_| !self.ack_now)
    }

    /// The next frame to send, if any.
    pub fn poll(&mut self, hello: impl FnOnce() -> Hello) -> Option<Vec<u8>> {
        if std::mem::take(&mut self.answer_due) {
            return Some(message::hello(&hello()));
        }
        if !self.ack_now {
            return None;
        }
        self.acked();
        let sequence = self.held.sequence;
        Some(message::ack(Ack { sequence, sync: self.sync, pages: self.pages }))
    }

    fn acked(&mut self) {
        self.ack_now = false;
        self.ack_due = None;
        self.unacked = 0;
    }
}
