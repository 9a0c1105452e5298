//! The segment that comes a thousand times: an ACK of an established connection whose two ends are known.

use super::note::KNOWN;
use super::window::{OLD_ACK, REORDERED, is_after};
use super::{FLAG_UNACKNOWLEDGED, MAX_REPEATS, MAX_SCALE, TcpEnd, TcpTracking};
use crate::flow::Direction;
use crate::session::timeouts::Timeouts;
use crate::wire::plain::Step;

/// More than any window (RFC 7323: less than 2^30 bytes) or payload is.
const FAR: u32 = 1 << 30;

/// Follows an established connection through a segment if it plainly fits: the idle time (ms) after it.
/// `None` says nothing, and nothing is changed: ask [`super::follow`], whose answer this is otherwise.
///
/// A segment that begins where the last one ended and acknowledges what has been sent fits by fewer
/// comparisons than any other: `out_of_order` has all of them.
#[inline(always)]
pub fn in_step(tcp: &mut TcpTracking, direction: Direction, step: &Step, timeouts: &Timeouts) -> Option<u32> {
    let (from, to) = (direction as usize, direction.reversed() as usize);
    let (sender, receiver) = (&tcp.ends[from], &tcp.ends[to]);
    let Step { seq, ack, payload, .. } = *step;
    let end = sender.end.wrapping_add(payload);
    let behind = receiver.end.wrapping_sub(ack);
    let room = sender.max_end.wrapping_sub(end);
    // Rules III and IV: `behind` is less than a window. Rules I and II: there is room, and nothing is so large
    // that a sum of two would pass for a negative number.
    let near = room | sender.max_window | receiver.max_window | payload;
    let next = payload == 0 || seq == sender.end;
    if sender.note & receiver.note & KNOWN == 0 || !next || behind >= sender.max_window || near >= FAR {
        return out_of_order(tcp, direction, step, timeouts);
    }
    let stuck = tcp.note_ack(direction, step) >= MAX_REPEATS || step.window == 0;
    let window = u32::from(step.window) << tcp.ends[from].scale.min(MAX_SCALE);
    let edge = ack.wrapping_add(window);
    let receiver = &mut tcp.ends[to];
    receiver.max_end = if is_after(edge, receiver.max_end) { edge } else { receiver.max_end };
    receiver.flags &= if behind == 0 { !FLAG_UNACKNOWLEDGED } else { u8::MAX };
    let waits = receiver.flags;
    let sender = &mut tcp.ends[from];
    sender.max_window = sender.max_window.max(window);
    sender.end = end;
    sender.flags |= if payload != 0 { FLAG_UNACKNOWLEDGED } else { 0 };
    let unanswered = (sender.flags | waits) & FLAG_UNACKNOWLEDGED != 0;
    Some(idle_time(timeouts, unanswered, stuck))
}

/// [`in_step`] of any segment. The comparisons are those of [`super::window`], written so that they need no
/// branches.
#[inline(never)]
fn out_of_order(
    tcp: &mut TcpTracking,
    direction: Direction,
    step: &Step,
    timeouts: &Timeouts,
) -> Option<u32> {
    let (from, to) = (direction as usize, direction.reversed() as usize);
    let (mut sender, mut receiver) = (tcp.ends[from], tcp.ends[to]);
    if !sender.is_known() || !receiver.is_known() || sender.max_window == 0 {
        return None;
    }
    let Step { ack, payload, .. } = *step;
    let seq = if payload == 0 { sender.end } else { step.seq };
    let end = seq.wrapping_add(payload);
    fits(&sender, &receiver, seq, end, ack).then_some(())?;
    // News of the receiver's room that only the whole tracker believes.
    if is_after(end, sender.max_end) {
        return None;
    }
    let window = u32::from(step.window) << sender.scale.min(MAX_SCALE);
    sender.max_window = sender.max_window.max(window);
    let new = is_after(end, sender.end);
    sender.end = if new { end } else { sender.end };
    sender.flags |= if new { FLAG_UNACKNOWLEDGED } else { 0 };
    let edge = ack.wrapping_add(window);
    receiver.max_end = if is_after(edge, receiver.max_end) { edge } else { receiver.max_end };
    receiver.end = if is_after(ack, receiver.end) { ack } else { receiver.end };
    let all = receiver.end == ack;
    receiver.flags &= if all { !FLAG_UNACKNOWLEDGED } else { u8::MAX };
    tcp.ends[from] = sender;
    tcp.ends[to] = receiver;
    let unanswered = (sender.flags | receiver.flags) & FLAG_UNACKNOWLEDGED != 0;
    let stuck = tcp.note_ack(direction, step) >= MAX_REPEATS || step.window == 0;
    Some(idle_time(timeouts, unanswered, stuck))
}

/// True if the four rules of [`super::window`] hold: I, II, III, IV.
#[inline(always)]
fn fits(sender: &TcpEnd, receiver: &TcpEnd, seq: u32, end: u32, ack: u32) -> bool {
    let upper = sender.max_end.wrapping_add(receiver.max_window.min(REORDERED));
    let lower = sender.end.wrapping_sub(receiver.max_window);
    let unseen = (receiver.max_end.wrapping_sub(receiver.end) as i32).max(0) as u32;
    let newest = receiver.end.wrapping_add(unseen.min(REORDERED));
    let oldest = receiver.end.wrapping_sub(sender.max_window.max(OLD_ACK));
    // Each difference is negative where its rule is broken.
    let differences = upper.wrapping_sub(seq)
        | end.wrapping_sub(lower)
        | newest.wrapping_sub(ack)
        | ack.wrapping_sub(oldest);
    differences as i32 >= 0
}

#[inline(always)]
fn idle_time(timeouts: &Timeouts, unanswered: bool, stuck: bool) -> u32 {
    let timeout_ms = timeouts.tcp_established;
    if !unanswered && !stuck {
        return timeout_ms;
    }
    let limit = |applies: bool, limit: u32| if applies { limit } else { u32::MAX };
    timeout_ms.min(limit(stuck, timeouts.tcp_max_retrans)).min(limit(unanswered, timeouts.tcp_unacknowledged))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::proto;
    use crate::session::record::{Session, State};
    use crate::session::samples::{packet, session, settings};
    use crate::session::tcp::{FLAG_LIBERAL, FLAG_SACK, begin, follow};
    use crate::session::track::Follow;
    use crate::wire::packet::L4;
    use crate::wire::tcp::{ACK, PSH, SYN, TcpSegment};

    /// An end whose numbers lie near each other, known or not, liberal or not.
    fn end() -> impl Strategy<Value = TcpEnd> {
        let numbers = (0..4_u32, 0..3000_u32, prop_oneof![Just(0_u32), 1..70_000_u32, any::<u32>()]);
        (numbers, 0..16_u8, 0..32_u8, any::<u16>()).prop_map(|((wrap, room, window), scale, flags, note)| {
            TcpEnd {
                end: wrap.wrapping_sub(2).wrapping_mul(500),
                max_end: wrap.wrapping_sub(2).wrapping_mul(500).wrapping_add(room),
                max_window: window,
                scale,
                flags,
                note,
            }
        })
    }

    fn established(ends: [TcpEnd; 2]) -> Session {
        let syn = TcpSegment { flags: SYN, ..TcpSegment::default() };
        let packet = packet(proto::TCP, Direction::LoToHi, L4::Tcp(syn));
        let begun = begin(&syn, Direction::LoToHi, false, &settings().timeouts).unwrap();
        let mut known = session(packet.key, &begun);
        (known.state, known.tcp) = (State::TcpEstablished, TcpTracking { ends });
        known
    }

    proptest! {
        /// Whatever it answers is what the whole tracker answers, over several segments.
        #[test]
        fn its_answers_are_the_trackers(
            ends in [end(), end()],
            steps in proptest::collection::vec(
                (any::<bool>(), -3000..3000_i32, -3000..3000_i32, prop_oneof![Just(0_u16), any::<u16>()],
                    prop_oneof![Just(0_u32), 1..1500_u32], any::<bool>()), 1..6),
        ) {
            let mut known = established(ends);
            for (there, seq, ack, window, payload, again) in steps {
                let direction = if there { Direction::LoToHi } else { Direction::HiToLo };
                let step = Step { seq: seq as u32, ack: ack as u32, window, payload };
                for _ in 0..if again { 5 } else { 1 } {
                    let segment = TcpSegment {
                        flags: ACK | PSH, seq: step.seq, ack: step.ack, window, payload,
                        sack_end: step.ack, ..TcpSegment::default()
                    };
                    let whole = follow(&known, &segment, direction, &settings());
                    let mut tcp = known.tcp;
                    let in_step = in_step(&mut tcp, direction, &step, &settings().timeouts);
                    prop_assert!(in_step.is_some() || tcp == known.tcp);
                    if let Some(timeout_ms) = in_step {
                        prop_assert_eq!(whole, Ok(Follow::Update {
                            state: State::TcpEstablished, tcp, timeout_ms,
                            replicate: false, window_exceeded: false, refresh: true,
                        }));
                    }
                    if let Ok(Follow::Update { tcp, .. }) = whole {
                        known.tcp = tcp;
                    }
                }
            }
        }
    }

    #[test]
    fn an_ordinary_conversation_is_in_step() {
        let settings = settings();
        let end = |end| {
            let mut end =
                TcpEnd { end, max_end: end + 1000, max_window: 1000, flags: FLAG_SACK, ..TcpEnd::default() };
            end.set_known();
            end
        };
        let mut tcp = TcpTracking { ends: [end(100), end(500)] };
        for (direction, seq, ack, payload) in [
            (Direction::LoToHi, 100, 500, 10),
            (Direction::HiToLo, 500, 110, 20),
            (Direction::LoToHi, 110, 520, 0),
        ] {
            let step = Step { seq, ack, window: 1000, payload };
            let timeout_ms = in_step(&mut tcp, direction, &step, &settings.timeouts).unwrap();
            let expected = if payload == 0 { 432_000_000 } else { 300_000 };
            assert_eq!(timeout_ms, expected, "unanswered data shorten the idle time");
        }
        let far = Step { seq: 1_000_000_000, ack: 520, window: 1000, payload: 5 };
        assert_eq!(in_step(&mut tcp, Direction::LoToHi, &far, &settings.timeouts), None);
        tcp.ends[0].flags |= FLAG_LIBERAL;
        assert_eq!(
            in_step(&mut tcp, Direction::LoToHi, &far, &settings.timeouts),
            None,
            "asked of the tracker"
        );
    }
}
