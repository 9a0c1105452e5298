//! Two machines and a link between them that holds some frames, delivers them in order, and can be
//! cut at any moment, losing what is on it: what a QUIC stream does over a lossy network.

use std::collections::VecDeque;

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::flow::NodeId;

use super::{identity, record};
use crate::replicate::event::{BulkRoom, PeerEvent, PeerStats};
use crate::replicate::hello::Identity;
use crate::replicate::limits::PAGE_WINDOW;
use crate::replicate::machine::{Link, Machine, Side};
use crate::replicate::message::{Malformed, Message};
use crate::replicate::refusal::{By, Refusal};

pub const A: NodeId = NodeId(1);
pub const B: NodeId = NodeId(2);

/// Frames a direction of the link holds before its sender has to wait.
const ROOM: usize = 4;

/// Node A sends records to node B.
pub struct Pair {
    pub now: NowMs,
    pub a: Machine,
    pub b: Machine,
    pub link: Option<Wires>,
    /// What B's consumer has not yet taken.
    pub received: VecDeque<PeerEvent>,
}

pub struct Wires {
    at_a: Link,
    at_b: Link,
    there: VecDeque<Vec<u8>>,
    back: VecDeque<Vec<u8>>,
}

pub fn machine(identity: Identity, peer: NodeId, capacity: usize) -> Machine {
    Machine::new(identity, &[(peer, "10.0.0.9:6082".parse().unwrap())], capacity)
}

impl Pair {
    pub fn new(capacity: usize) -> Self {
        let (a, b) = (machine(identity(1), B, capacity), machine(identity(2), A, capacity));
        Self { now: NowMs(1000), a, b, link: None, received: VecDeque::new() }
    }

    /// A dials B. A link that B still believes in stays with B until the Hello of the new one.
    pub fn connect(&mut self) {
        let (at_a, at_b) = (self.a.dialled(B), self.b.accepted(A));
        let (there, back) = (VecDeque::new(), VecDeque::new());
        self.link = Some(Wires { at_a, at_b, there, back });
    }

    /// The link breaks; what is on it is lost. B may notice late or never.
    pub fn cut(&mut self, b_notices: bool) {
        if let Some(wires) = self.link.take() {
            self.a.closed(wires.at_a, self.now);
            if b_notices {
                self.b.closed(wires.at_b, self.now);
            }
        }
    }

    /// A puts a frame on the link, if it has one and there is room.
    pub fn a_sends(&mut self) -> bool {
        let Some(wires) = &mut self.link else { return false };
        if wires.there.len() == ROOM {
            return false;
        }
        let frame = self.a.poll_message(wires.at_a, self.now);
        wires.there.extend(frame.clone());
        frame.is_some()
    }

    pub fn b_sends(&mut self) -> bool {
        let Some(wires) = &mut self.link else { return false };
        self.b.handle_timeout(wires.at_b, self.now);
        let frame = self.b.poll_message(wires.at_b, self.now);
        wires.back.extend(frame.clone());
        frame.is_some()
    }

    /// B takes a frame off the link.
    pub fn b_takes(&mut self) -> Result<bool, Refusal> {
        let Some(wires) = &mut self.link else { return Ok(false) };
        let Some(frame) = wires.there.pop_front() else { return Ok(false) };
        let message = Message::decode(&frame[4..]).unwrap();
        self.received.extend(self.b.handle_message(wires.at_b, message, self.now)?);
        Ok(true)
    }

    pub fn a_takes(&mut self) -> Result<bool, Refusal> {
        let Some(wires) = &mut self.link else { return Ok(false) };
        let Some(frame) = wires.back.pop_front() else { return Ok(false) };
        let message = Message::decode(&frame[4..]).unwrap();
        assert_eq!(self.a.handle_message(wires.at_a, message, self.now)?, None);
        Ok(true)
    }

    /// Runs until nothing moves any more, time included.
    pub fn settle(&mut self) -> Result<(), Refusal> {
        loop {
            let moved = [self.a_sends(), self.b_takes()?, self.b_sends(), self.a_takes()?];
            if moved != [false; 4] {
                continue;
            }
            match self.link.as_ref().and_then(|wires| self.b.poll_timeout(wires.at_b)) {
                Some(due) => self.now = self.now.max(due),
                None => return Ok(()),
            }
        }
    }

    fn a_events(&mut self) -> Vec<PeerEvent> {
        std::iter::from_fn(|| self.a.poll_event()).collect()
    }

    fn stats(&self) -> PeerStats {
        self.a.stats(self.now).remove(0)
    }

    /// Connects and carries out the bulk sync A asks for, with these flows as its sessions.
    fn sync(&mut self, flows: &[u16]) {
        self.connect();
        self.settle().unwrap();
        let events = self.a_events();
        let Some(PeerEvent::NeedBulk { sync, .. }) = events.last() else {
            panic!("expected NeedBulk, got {events:?}")
        };
        let records: Vec<_> = flows.iter().map(|&flow| record(flow, 1)).collect();
        let _ = self.a.bulk(B, *sync, &records);
        assert!(self.a.bulk_done(B, *sync));
        self.settle().unwrap();
    }

    fn flows(&mut self) -> Vec<u16> {
        let records = self.received.drain(..).filter_map(|event| match event {
            PeerEvent::Records { records, .. } => Some(records),
            _ => None,
        });
        records.flatten().map(|record| record.key.lo_port).collect()
    }
}

#[test]
fn first_contact_is_a_bulk_sync_then_changes_in_order() {
    let mut pair = Pair::new(1 << 12);
    pair.a.publish(&record(9, 1), pair.now);
    pair.connect();
    pair.settle().unwrap();
    assert_eq!(
        pair.a_events(),
        [PeerEvent::Connected { peer: B, boot_id: 0xb002 }, PeerEvent::NeedBulk { peer: B, sync: 1 }]
    );
    pair.a.publish(&record(1, 1), pair.now);
    assert_eq!(pair.a.bulk(B, 1, &[record(9, 1)]), BulkRoom::More);
    pair.a.publish(&record(2, 1), pair.now);
    assert!(pair.a.bulk_done(B, 1));
    pair.a.publish(&record(3, 1), pair.now);
    pair.settle().unwrap();
    let records = |flow| PeerEvent::Records { from: A, mark: 1, records: vec![record(flow, 1)] };
    let expected = [
        PeerEvent::BulkBegin { from: A, mark: 1 },
        records(1),
        records(9),
        records(2),
        PeerEvent::BulkEnd { from: A, mark: 1 },
        records(3),
    ];
    assert_eq!(pair.received, expected);
    let stats = pair.stats();
    assert_eq!((stats.sent, stats.acked, stats.lag_records), (4, 4, 0));
    assert!(!stats.syncing && stats.connected && stats.resent == 0);
    assert!(pair.b.stats(pair.now)[0].whole);
}

#[test]
fn reconnect_resumes_behind_what_was_acknowledged() {
    let mut pair = Pair::new(1 << 12);
    pair.sync(&[]);
    pair.received.clear();
    for flow in 0..10 {
        pair.a.publish(&record(flow, 1), pair.now);
    }
    pair.settle().unwrap();
    // These are on the link when it breaks.
    for flow in 10..20 {
        pair.a.publish(&record(flow, 1), pair.now);
    }
    assert!(pair.a_sends());
    pair.cut(true);
    pair.a.publish(&record(20, 1), pair.now);
    pair.now = pair.now.plus(500);
    assert_eq!((pair.stats().lag_records, pair.stats().lag_ms), (11, 500));
    assert_eq!(pair.a_events(), [PeerEvent::Lost { peer: B }]);
    pair.connect();
    pair.settle().unwrap();
    assert_eq!(pair.a_events(), [PeerEvent::Connected { peer: B, boot_id: 0xb002 }]);
    assert_eq!(pair.flows(), (0..=20).collect::<Vec<_>>());
    let stats = pair.stats();
    assert_eq!((stats.resent, stats.bulk_syncs, stats.acked), (10, 1, 21));
}

#[test]
fn lost_acknowledgement_is_made_good_without_a_second_delivery() {
    let mut pair = Pair::new(1 << 12);
    pair.sync(&[]);
    pair.received.clear();
    pair.a.publish(&record(1, 1), pair.now);
    assert!(pair.a_sends() && pair.b_takes().unwrap());
    pair.cut(false);
    assert_eq!(pair.stats().lag_records, 1);
    pair.connect();
    pair.settle().unwrap();
    assert_eq!(pair.flows(), [1]);
    assert_eq!((pair.stats().lag_records, pair.stats().resent), (0, 0));
}

#[test]
fn log_that_overflows_means_a_bulk_sync() {
    for connected in [true, false] {
        let mut pair = Pair::new(64);
        pair.sync(&[]);
        if !connected {
            pair.cut(true);
        }
        for flow in 0..100 {
            pair.a.publish(&record(flow, 1), pair.now);
        }
        assert!(pair.a.log_len() <= 64);
        if !connected {
            pair.connect();
        }
        pair.settle().unwrap();
        let events = pair.a_events();
        assert_eq!(events.last(), Some(&PeerEvent::NeedBulk { peer: B, sync: 2 }));
        assert!(pair.received.contains(&PeerEvent::BulkBegin { from: A, mark: 2 }));
    }
}

#[test]
fn restart_of_either_end_means_a_bulk_sync_with_a_fresh_mark() {
    let mut pair = Pair::new(64);
    pair.sync(&[1, 2]);
    pair.cut(true);
    pair.a = machine(Identity { boot_id: 0xc001, ..identity(1) }, B, 64);
    pair.sync(&[3]);
    assert_eq!(pair.received.back(), Some(&PeerEvent::BulkEnd { from: A, mark: 2 }));
    pair.cut(true);
    pair.b = machine(Identity { boot_id: 0xc002, ..identity(2) }, A, 64);
    pair.sync(&[3]);
    assert_eq!(pair.received.back(), Some(&PeerEvent::BulkEnd { from: A, mark: 1 }));
}

#[test]
fn interrupted_bulk_sync_starts_again_and_the_old_walk_is_void() {
    let mut pair = Pair::new(64);
    pair.connect();
    pair.settle().unwrap();
    assert_eq!(pair.a.bulk(B, 1, &[record(1, 1)]), BulkRoom::More);
    pair.settle().unwrap();
    pair.cut(true);
    assert_eq!(pair.a.bulk(B, 1, &[record(2, 1)]), BulkRoom::Over);
    pair.connect();
    pair.settle().unwrap();
    assert_eq!(pair.a_events().last(), Some(&PeerEvent::NeedBulk { peer: B, sync: 2 }));
    assert_eq!(pair.a.bulk(B, 1, &[record(2, 1)]), BulkRoom::Over);
    assert!(!pair.a.bulk_done(B, 1));
    assert!(pair.a.bulk_done(B, 2));
    pair.settle().unwrap();
    assert_eq!(pair.received.back(), Some(&PeerEvent::BulkEnd { from: A, mark: 2 }));
}

#[test]
fn bulk_pages_wait_for_acknowledgements() {
    let mut pair = Pair::new(64);
    pair.connect();
    pair.settle().unwrap();
    pair.a_events();
    let mut pages = 1;
    while pair.a.bulk(B, 1, &[record(pages, 1)]) == BulkRoom::More {
        pages += 1;
    }
    assert_eq!(u32::from(pages), PAGE_WINDOW);
    assert_eq!(pair.a.bulk_room(B, 1), BulkRoom::Full);
    pair.settle().unwrap();
    assert_eq!(pair.a_events(), [PeerEvent::BulkMore { peer: B, sync: 1 }]);
    assert_eq!(pair.a.bulk_room(B, 1), BulkRoom::More);
}

#[test]
fn acknowledgements_keep_each_other_company_but_not_for_long() {
    let mut pair = Pair::new(1 << 12);
    pair.sync(&[]);
    let begin = pair.now;
    for flow in 0..5 {
        pair.a.publish(&record(flow, 1), pair.now);
        assert!(pair.a_sends() && pair.b_takes().unwrap());
        assert!(!pair.b_sends(), "acknowledged too soon");
    }
    pair.settle().unwrap();
    assert_eq!(pair.stats().acked, 5);
    assert!((1..=50).contains(&pair.now.since(begin)));
}

#[test]
fn log_is_empty_while_all_acknowledge_and_grows_for_a_peer_that_may_come_back() {
    let mut pair = Pair::new(1 << 14);
    for flow in 0..5000 {
        pair.a.publish(&record(flow, 1), pair.now);
    }
    assert!(pair.a.log_len() <= 1024, "kept {} for a peer never seen", pair.a.log_len());
    pair.sync(&[]);
    for flow in 0..5000 {
        pair.a.publish(&record(flow, 1), pair.now);
        pair.settle().unwrap();
    }
    assert!(pair.a.log_len() <= 1024, "kept {} though acknowledged", pair.a.log_len());
    pair.cut(true);
    for flow in 0..5000 {
        pair.a.publish(&record(flow, 1), pair.now);
    }
    assert!(pair.a.log_len() >= 5000);
}

#[test]
fn claims_reach_a_connected_peer_only() {
    let mut pair = Pair::new(64);
    let claim = crate::replicate::Claim {
        key: record(5, 1).key,
        generation: samepath_dataplane::flow::Generation(4),
    };
    pair.a.claim_check(B, claim);
    assert_eq!(pair.stats().claims_dropped, 1);
    pair.sync(&[]);
    pair.received.clear();
    pair.a.claim_check(B, claim);
    pair.a.claim_check(B, claim);
    pair.a.claim_denied(B, claim);
    pair.settle().unwrap();
    let expected = [
        PeerEvent::ClaimChecks { from: A, claims: vec![claim, claim] },
        PeerEvent::ClaimsDenied { from: A, claims: vec![claim] },
    ];
    assert_eq!(pair.received, expected);
}

#[test]
fn disagreement_is_refused_on_hello() {
    let mut pair = Pair::new(64);
    pair.b = machine(Identity { cluster: 8, ..identity(2) }, A, 64);
    pair.connect();
    let refusal = pair.settle().unwrap_err();
    assert_eq!(refusal, Refusal::Cluster { me: B, peer: A, clusters: (8, 7) });
    assert!(pair.a_events().is_empty() && pair.received.is_empty());
}

#[test]
fn refusals_are_told_once_per_reason() {
    let mut pair = Pair::new(64);
    let address = "10.0.0.9:7".parse().unwrap();
    for reason in ["one", "one", "two", "two", "one"] {
        let refusal = (By::Them, reason.to_owned());
        pair.a.refused(Side::Sending, Some(B), address, refusal, pair.now);
    }
    assert_eq!(pair.a_events().len(), 3);
    assert_eq!(pair.stats().refused.as_deref(), Some("one"));
    pair.sync(&[]);
    assert_eq!(pair.stats().refused, None);
    for second in 0..20 {
        let now = pair.now.plus(second * 1000);
        pair.a.refused(Side::Receiving, None, address, (By::Us, "who".to_owned()), now);
    }
    assert_eq!(pair.a_events().len(), 2);
}

#[test]
fn frames_out_of_order_are_refused_not_believed() {
    let mut pair = Pair::new(64);
    let link = pair.b.accepted(A);
    let hello = identity(1).hello(Default::default(), pair.now);
    let mut say = |message| pair.b.handle_message(link, message, pair.now);
    assert_eq!(say(Message::Hello(hello)), Ok(None));
    let early = Message::Records { first: 1, records: vec![record(1, 1)] };
    let order = |kind| Err(Refusal::Malformed { me: B, peer: A, cause: Malformed::Order(kind) });
    assert_eq!(say(early), order(2));
    assert_eq!(say(Message::Page { sync: 1, records: vec![] }), order(4));
    assert!(say(Message::BulkBegin { sync: 1, after: 5 }).is_ok());
    let gap = Message::Records { first: 7, records: vec![record(1, 1)] };
    assert_eq!(say(gap), order(2));
    assert_eq!(say(Message::BulkEnd { sync: 2 }), order(5));
    assert_eq!(say(Message::Unknown(77)), Ok(None));
    assert_eq!(say(Message::Hello(hello)), order(1));
}

#[test]
fn late_frames_of_a_replaced_connection_are_ignored() {
    let mut pair = Pair::new(64);
    let (old, new) = (pair.b.accepted(A), pair.b.accepted(A));
    let hello = Message::Hello(identity(1).hello(Default::default(), pair.now));
    let records = Message::Records { first: 1, records: vec![record(1, 1)] };
    for (link, message) in [
        (old, hello.clone()),
        (old, Message::BulkBegin { sync: 1, after: 0 }),
        (new, hello),
        (new, Message::BulkBegin { sync: 2, after: 0 }),
    ] {
        pair.b.handle_message(link, message, pair.now).unwrap();
    }
    assert_eq!(pair.b.handle_message(old, records.clone(), pair.now), Ok(None));
    pair.b.closed(old, pair.now);
    let stats = pair.b.stats(pair.now).remove(0);
    assert!(stats.receiving && stats.received == 0, "{stats:?}");
    assert!(matches!(pair.b.handle_message(new, records, pair.now), Ok(Some(_))));
}
