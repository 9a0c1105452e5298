//! Two honest ends with loss, repeats and reordering on both sides of the Owner: nothing they send may be
//! dropped, and the Owner must see the connection through to its end.

use std::collections::VecDeque;

use proptest::prelude::*;

use crate::flow::{Direction, proto};
use crate::session::record::State;
use crate::session::samples;
use crate::session::track::{Follow, begin, follow};
use crate::wire::packet::L4;
use crate::wire::tcp::{ACK, FIN, SYN, TcpSegment};

/// One end of the connection. Sequence numbers count from its SYN.
#[derive(Clone, Debug)]
struct End {
    first: u32,
    scale: u8,
    /// Bytes it wants to send; SYN and FIN come on top.
    wants: u32,
    next: u32,
    acknowledged: u32,
    /// Right edge the other end allows.
    edge: u32,
    /// What it received, in bytes from the other end's SYN: up to here, and ranges beyond.
    received: u32,
    beyond: Vec<(u32, u32)>,
    /// Right edge it has allowed; never taken back.
    allowed: u32,
    heard: bool,
}

impl End {
    fn new(first: u32, scale: u8, wants: u32) -> Self {
        Self {
            first,
            scale,
            wants,
            next: 0,
            acknowledged: 0,
            edge: 0,
            received: 0,
            beyond: Vec::new(),
            allowed: 0,
            heard: false,
        }
    }

    /// Number behind its FIN.
    fn last(&self) -> u32 {
        self.wants + 2
    }

    fn is_done(&self, other: &End) -> bool {
        self.acknowledged == self.last() && self.received == other.last()
    }

    /// A segment with the bytes `from..to` (0 is SYN, the last one FIN).
    fn segment(&mut self, from: u32, to: u32, other_first: u32, window: u32) -> TcpSegment {
        let syn = from == 0 && to > 0;
        let fin = to == self.last() && to > from;
        let shift = if syn { 0 } else { self.scale };
        // The window field rounds down and never moves the edge back.
        let offer = (self.allowed.max(self.received + window) - self.received) >> shift;
        let offer = offer.min(65535);
        self.allowed = self.allowed.max(self.received + (offer << shift));
        let ack = if self.heard { other_first.wrapping_add(self.received) } else { 0 };
        let sack = self.beyond.iter().map(|range| range.1).max();
        TcpSegment {
            flags: (u8::from(syn) * SYN) | (u8::from(fin) * FIN) | (u8::from(self.heard) * ACK),
            seq: self.first.wrapping_add(from),
            ack,
            window: offer as u16,
            payload: to - from - u32::from(syn) - u32::from(fin),
            scale: syn.then_some(self.scale),
            sack_permitted: syn,
            sack_end: sack.map_or(ack, |end| other_first.wrapping_add(end)),
        }
    }

    /// What it sends next: `again` from the oldest byte not acknowledged, otherwise new data if allowed,
    /// otherwise a bare ACK.
    fn send(&mut self, again: bool, size: u32, window: u32, other_first: u32) -> Option<TcpSegment> {
        let from = if again { self.acknowledged } else { self.next };
        let to = match from {
            0 => 1,
            _ if !self.heard || self.edge == 0 => return None,
            from => (from + size).min(self.last()).min(self.edge.max(from)),
        };
        self.next = self.next.max(to);
        Some(self.segment(from, to, other_first, window))
    }

    fn receive(&mut self, segment: &TcpSegment, other: &End) {
        let from = segment.seq.wrapping_sub(other.first);
        let length =
            segment.payload + u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & FIN != 0);
        self.heard = true;
        if length > 0 {
            self.beyond.push((from, from + length));
        }
        self.beyond.sort_unstable();
        for (start, end) in std::mem::take(&mut self.beyond) {
            if start <= self.received {
                self.received = self.received.max(end);
            } else {
                self.beyond.push((start, end));
            }
        }
        if segment.flags & ACK != 0 {
            self.acknowledged = self.acknowledged.max(segment.ack.wrapping_sub(self.first));
            let shift = if segment.flags & SYN != 0 { 0 } else { other.scale };
            let edge = segment.ack.wrapping_sub(self.first) + (u32::from(segment.window) << shift);
            self.edge = self.edge.max(edge);
        }
    }
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
struct Happening {
    /// Which end sends or whose segment arrives.
    who: usize,
    kind: u8,
    size: u32,
    window: u32,
    /// Which of the waiting segments overtakes the others.
    overtakes: usize,
    lost: bool,
}

fn happening() -> impl Strategy<Value = Happening> {
    let chosen = (0..2_usize, 0..8_u8, 1..3000_u32, 0..200_000_u32, 0..8_usize, 0..20_u8);
    chosen.prop_map(|(who, kind, size, window, overtakes, luck)| Happening {
        who,
        kind,
        size,
        window,
        overtakes,
        lost: luck == 0,
    })
}

/// The ends, what is on its way to the Owner, and the Owner's session.
struct World {
    ends: [End; 2],
    waiting: [VecDeque<TcpSegment>; 2],
    session: Option<crate::session::Session>,
}

impl World {
    fn send(&mut self, event: &Happening, again: bool) {
        let other_first = self.ends[1 - event.who].first;
        let end = &mut self.ends[event.who];
        if event.who == 1 && !end.heard {
            return;
        }
        if let Some(segment) = end.send(again, event.size, event.window, other_first) {
            self.waiting[event.who].push_back(segment);
        }
    }

    /// A segment reaches the Owner, and unless it is lost behind it the other end.
    fn arrive(&mut self, event: &Happening) -> Result<(), TestCaseError> {
        let waiting = &mut self.waiting[event.who];
        let Some(segment) = waiting.remove(event.overtakes.min(waiting.len().saturating_sub(1))) else {
            return Ok(());
        };
        let settings = samples::settings();
        let direction = if event.who == 0 { Direction::LoToHi } else { Direction::HiToLo };
        let packet = samples::packet(proto::TCP, direction, L4::Tcp(segment));
        match &mut self.session {
            None => {
                let begun = begin(&packet, &settings, false);
                let begun = begun.map_err(|reason| TestCaseError::fail(reason.name()))?;
                self.session = Some(samples::session(packet.key, &begun));
            }
            Some(session) => match follow(session, &packet, &settings) {
                Ok(Follow::Update { state, tcp, .. }) => (session.state, session.tcp) = (state, tcp),
                outcome => {
                    let why = format!("{outcome:?}: {segment:?}\n{session:?}\n{:?}", self.ends);
                    return Err(TestCaseError::fail(why));
                }
            },
        }
        if !event.lost {
            let [client, server] = &mut self.ends;
            if event.who == 0 {
                server.receive(&segment, client);
            } else {
                client.receive(&segment, server);
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let [client, server] = &self.ends;
        client.is_done(server) && server.is_done(client)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn honest_ends_are_never_dropped(
        first in any::<(u32, u32)>(),
        scales in (0..=14_u8, 0..=14_u8),
        wants in (0..40_000_u32, 0..40_000_u32),
        events in proptest::collection::vec(happening(), 0..600),
    ) {
        let ends = [End::new(first.0, scales.0, wants.0), End::new(first.1, scales.1, wants.1)];
        let mut world = World { ends, waiting: Default::default(), session: None };
        let start =
            Happening { who: 0, kind: 0, size: 1, window: 60_000, overtakes: 0, lost: false };
        world.send(&start, false);
        for event in &events {
            match event.kind {
                0..=1 => world.send(event, false),
                2 => world.send(event, true),
                _ => world.arrive(event)?,
            }
        }
        // The line becomes clean: whatever is left gets through, in order.
        for turn in 0..4000 {
            if world.is_done() {
                break;
            }
            let event = Happening { who: turn % 2, size: 1400, ..start };
            world.send(&event, turn % 4 < 2);
            while !world.waiting[event.who].is_empty() {
                world.arrive(&event)?;
            }
        }
        prop_assert!(world.is_done(), "the ends did not finish: {:?}", world.ends);
        // Two more bare ACKs, so that the Owner has seen the last one of each.
        for who in [0, 1, 0] {
            let event = Happening { who, ..start };
            world.send(&event, false);
            world.arrive(&event)?;
        }
        prop_assert_eq!(world.session.map(|session| session.state), Some(State::TcpTimeWait));
    }

    #[test]
    fn any_segments_in_any_state_get_a_verdict(
        state in 0..State::ALL.len(),
        ends in any::<[(u32, u32, u32, u8, u8, u16); 2]>(),
        segments in proptest::collection::vec(any::<(bool, u8, u32, u32, u16, u32, u32)>(), 1..40),
        loose in any::<bool>(),
    ) {
        let mut settings = samples::settings();
        settings.tcp_loose_window = loose;
        let mut session =
            samples::session_in(1, crate::session::Role::Owner, State::ALL[state]);
        session.tcp.ends = ends.map(|(end, max_end, max_window, scale, flags, note)| {
            super::TcpEnd { end, max_end, max_window, scale, flags, note }
        });
        for (forth, flags, seq, ack, window, payload, sack_end) in segments {
            let payload = payload & 0xffff;
            let segment = TcpSegment {
                flags, seq, ack, window, payload, sack_end, scale: None, sack_permitted: false,
            };
            let direction = if forth { Direction::LoToHi } else { Direction::HiToLo };
            let packet = samples::packet(proto::TCP, direction, L4::Tcp(segment));
            if let Ok(Follow::Update { state, tcp, .. }) = follow(&session, &packet, &settings) {
                (session.state, session.tcp) = (state, tcp);
            }
        }
    }
}
