//! Two hosts that talk: small, honest ends with one segment under way at a time, sent again until it is
//! acknowledged.

use super::packets::{ACK, Body, FIN, SYN, Segment};
use super::random::Random;

/// An unanswered packet is sent again after so long, ms.
const AGAIN_MS: u64 = 250;

/// What a flow is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A TCP connection.
    Tcp,
    /// Questions and answers, from either end.
    Udp,
    /// A single datagram that nobody answers.
    One,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    /// Everything before it is acknowledged.
    acked: u32,
    /// Next to be sent; `acked` plus what is under way.
    next: u32,
    /// What is under way, to be sent again.
    under_way: Option<Segment>,
    sent_at: u64,
    expected: u32,
    is_open: bool,
    closed: bool,
}

/// A flow's two ends; index 0 is the client.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// What it is.
    pub kind: Kind,
    ends: [End; 2],
    /// When its first packet was sent.
    pub begun: Option<u64>,
    /// Both ends have heard of each other.
    pub answered: bool,
    /// Packets delivered to the client and to the server.
    pub heard: [u64; 2],
    /// An end has begun to close.
    pub closing: bool,
}

impl Conversation {
    /// Nothing was said yet.
    pub fn new(kind: Kind, random: &mut Random) -> Self {
        let ends = [0, 1].map(|_| {
            let first = random.within(1..1 << 30) as u32;
            End { acked: first, next: first, ..End::default() }
        });
        Self { kind, ends, begun: None, answered: false, heard: [0; 2], closing: false }
    }

    /// Both ends of a connection are open, and none has begun to close.
    pub fn is_established(&self) -> bool {
        self.ends.iter().all(|end| end.is_open) && !self.closing
    }

    /// Nothing waits for an acknowledgement.
    pub fn is_quiet(&self) -> bool {
        self.ends.iter().all(|end| end.under_way.is_none())
    }

    /// The client begins.
    pub fn begin(&mut self, now: u64) -> Option<Body> {
        if self.begun.is_some() {
            return None;
        }
        self.begun = Some(now);
        match self.kind {
            Kind::Tcp => self.put(0, SYN, 0, now),
            Kind::Udp | Kind::One => Some(Body::Udp),
        }
    }

    /// An end says something of its own accord, if it may.
    pub fn say(&mut self, end: usize, now: u64) -> Option<Body> {
        match self.kind {
            Kind::Udp if self.begun.is_some() => Some(Body::Udp),
            Kind::Tcp if self.ends[end].is_open && !self.closing => self.put(end, ACK, 10, now),
            _ => None,
        }
    }

    /// An end begins to close.
    pub fn close(&mut self, end: usize, now: u64) -> Option<Body> {
        let may = self.kind == Kind::Tcp && self.is_established() && self.is_quiet();
        if !may {
            return None;
        }
        self.closing = true;
        self.put(end, FIN | ACK, 0, now)
    }

    fn put(&mut self, end: usize, flags: u8, length: u32, now: u64) -> Option<Body> {
        let it = &mut self.ends[end];
        if it.under_way.is_some() || it.closed {
            return None;
        }
        let ack = if flags & ACK != 0 { it.expected } else { 0 };
        let segment = Segment { flags, seq: it.next, ack, length };
        it.next = it.next.wrapping_add(length + u32::from(flags & (SYN | FIN) != 0));
        it.under_way = Some(segment);
        it.closed = flags & FIN != 0;
        it.sent_at = now;
        Some(Body::Tcp(segment))
    }

    /// What an end sends again, if it is time.
    pub fn again(&mut self, end: usize, now: u64) -> Option<Body> {
        let it = &mut self.ends[end];
        if let Some(segment) = it.under_way.filter(|_| now >= it.sent_at + AGAIN_MS) {
            it.sent_at = now;
            let ack = if segment.flags & ACK != 0 { it.expected } else { 0 };
            return Some(Body::Tcp(Segment { ack, ..segment }));
        }
        None
    }

    /// A packet reached `end`; what it answers.
    pub fn hear(&mut self, end: usize, body: Body, now: u64) -> Option<Body> {
        self.heard[end] += 1;
        self.answered |= end == 0;
        match (self.kind, body) {
            (Kind::Tcp, Body::Tcp(segment)) => self.hear_segment(end, segment, now),
            // A question is answered by the server; the client just listens.
            (Kind::Udp, Body::Udp) if end == 1 => Some(Body::Udp),
            _ => None,
        }
    }

    fn hear_segment(&mut self, end: usize, segment: Segment, now: u64) -> Option<Body> {
        let it = &mut self.ends[end];
        if segment.flags & ACK != 0 && segment.ack == it.next {
            it.acked = it.next;
            it.under_way = None;
        }
        if segment.flags & SYN != 0 {
            return self.hear_syn(end, segment, now);
        }
        if !it.is_open && it.expected == 0 {
            return None;
        }
        it.is_open |= segment.flags & ACK != 0 && it.under_way.is_none();
        let covers = segment.length + u32::from(segment.flags & FIN != 0);
        if covers == 0 {
            return None;
        }
        if segment.seq == it.expected {
            it.expected = it.expected.wrapping_add(covers);
        }
        if segment.flags & FIN != 0 && !it.closed && it.under_way.is_none() {
            return self.put(end, FIN | ACK, 0, now);
        }
        Some(self.acknowledge(end))
    }

    fn hear_syn(&mut self, end: usize, segment: Segment, now: u64) -> Option<Body> {
        let it = &mut self.ends[end];
        let news = it.expected == 0;
        it.expected = if news { segment.seq.wrapping_add(1) } else { it.expected };
        if end == 1 {
            // A repeated SYN is answered by the repeated SYN-ACK of the timer.
            return if news { self.put(1, SYN | ACK, 0, now) } else { None };
        }
        it.is_open = true;
        Some(self.acknowledge(0))
    }

    fn acknowledge(&self, end: usize) -> Body {
        let it = &self.ends[end];
        Body::Tcp(Segment { flags: ACK, seq: it.next, ack: it.expected, length: 0 })
    }
}
