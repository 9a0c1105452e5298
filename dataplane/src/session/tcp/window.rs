//! Does a segment fit the windows of its two ends, and what do we learn from it.
//!
//! ```text
//!        sent and acknowledged      sent            may be sent            may not
//!  ----+-------------------------+---------------+--------------------+------------->
//!      |                         highest ACK     sender.end           sender.max_end
//!      sender.end - receiver.max_window (II)                          (I)
//! ```
//!
//! I. `seq` is not beyond `sender.max_end`. II. the segment ends not before `sender.end` minus the largest
//! window of the receiver. III. what it acknowledges has been sent. IV. it does not acknowledge what was
//! acknowledged longer than a window ago. I and III are widened by `reordering`.

use crate::flow::Direction;
use crate::session::tcp::{
    FLAG_LIBERAL, FLAG_SACK, FLAG_SCALE, FLAG_UNACKNOWLEDGED, MAX_SCALE, TcpEnd, TcpTracking,
};
use crate::wire::tcp::{ACK, FIN, RST, SYN, TcpSegment};

/// How far below the receiver's end an acknowledgement may lie whatever the window: one unscaled window
/// and a segment. Lower: late duplicates of a connection with small windows are refused; higher: more
/// numbers for someone who guesses.
pub(super) const OLD_ACK: u32 = 66_000;

/// Most bytes by which the two directions may overtake each other: they reach the Owner through
/// different nodes, some 100 µs apart, and 300 µs at 100 Gbit/s are 3.75 MB.
pub(super) const REORDERED: u32 = 4 << 20;

/// Largest window there is (RFC 7323).
const MAX_WINDOW: u32 = 0xffff << MAX_SCALE;

/// Largest payload of one segment: how much shorter a repeated SYN may be that leaves its data away
/// (RFC 7413).
const MAX_PAYLOAD: u32 = 0xffff;

/// How far below its sender's end a SYN counts as a late copy of the present connection's. Lower: a copy
/// that comes after much data passes for a new connection; higher: a new connection passes for a copy
/// (one in 4096 of those that both ends begin without closing the old one).
const LATE_SYN: u32 = 1 << 20;

/// Whether a segment fits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Fit {
    /// It does, or nothing is known that it could contradict.
    Inside,
    /// It does not.
    Outside,
}

/// True if `a` is later than `b`, modulo 2^32.
#[inline(always)]
pub fn is_after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// Sequence number behind a segment; SYN and FIN count as a byte each.
pub fn end_of(segment: &TcpSegment) -> u32 {
    let flags = u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & FIN != 0);
    segment.seq.wrapping_add(segment.payload).wrapping_add(flags)
}

/// A segment's numbers as they are compared.
struct Numbers {
    seq: u32,
    end: u32,
    ack: u32,
    /// The highest byte it acknowledges, selectively or not.
    sack: u32,
    /// Bytes.
    window: u32,
}

impl TcpTracking {
    /// Checks a segment against what is known and learns from it. [`Fit::Outside`] leaves the tracking
    /// in a state that must be thrown away or given to [`TcpTracking::believe`].
    pub fn observe(&mut self, direction: Direction, segment: &TcpSegment) -> Fit {
        let (sender, receiver) = self.sides(direction);
        if segment.flags & SYN != 0 {
            learn_syn(sender, receiver, segment);
        } else {
            learn_midstream(sender, receiver, segment);
        }
        let numbers = numbers_of(sender, receiver, segment);
        if is_inside(sender, receiver, &numbers) {
            advance(sender, receiver, &numbers, segment.flags & ACK != 0);
            Fit::Inside
        } else if sender.has(FLAG_LIBERAL) {
            self.believe(direction, segment);
            Fit::Inside
        } else {
            Fit::Outside
        }
    }

    /// Follows a segment that is outside the window but let through: only forward.
    pub fn believe(&mut self, direction: Direction, segment: &TcpSegment) {
        let (sender, receiver) = self.sides(direction);
        let numbers = numbers_of(sender, receiver, segment);
        if is_after(numbers.end, sender.max_end) {
            sender.max_end = numbers.end;
        }
        if segment.flags & ACK != 0 && is_after(numbers.sack, receiver.max_end) {
            receiver.max_end = numbers.sack;
        }
        advance(sender, receiver, &numbers, segment.flags & ACK != 0);
    }

    /// Learns what a late SYN-ACK of this connection acknowledges and offers; its numbers are known.
    pub fn hear_again(&mut self, direction: Direction, syn_ack: &TcpSegment) {
        let (sender, receiver) = self.sides(direction);
        let numbers = numbers_of(sender, receiver, syn_ack);
        if is_inside(sender, receiver, &numbers) {
            advance(sender, receiver, &numbers, true);
        }
    }

    /// Whether a reset lies where its sender may send; `None` if nothing is known of the sender.
    pub fn reset_fit(&self, direction: Direction, segment: &TcpSegment) -> Option<Fit> {
        let sender = &self.ends[direction as usize];
        let receiver = &self.ends[direction.reversed() as usize];
        if !sender.is_known() {
            return None;
        }
        let mut numbers = numbers_of(sender, receiver, segment);
        // A reset occupies no sequence space, whatever text it carries (RFC 9293 section 3.5.3).
        numbers.end = numbers.seq;
        Some(if is_inside(sender, receiver, &numbers) { Fit::Inside } else { Fit::Outside })
    }

    /// Whether a segment with sequence number `seq` may be on its way from `direction`: it was sent, and not acknowledged
    /// longer than a window ago (RFC 5927 section 4.1). [`Fit::Inside`] if nothing is known of the sender.
    pub fn quote_fit(&self, direction: Direction, seq: u32) -> Fit {
        let sender = &self.ends[direction as usize];
        let receiver = &self.ends[direction.reversed() as usize];
        if !sender.is_known() || sender.has(FLAG_LIBERAL) {
            return Fit::Inside;
        }
        let oldest = sender.end.wrapping_sub(receiver.max_window.max(OLD_ACK));
        if is_after(seq, sender.end) || is_after(oldest, seq) { Fit::Outside } else { Fit::Inside }
    }

    /// True for a SYN that is more likely a late copy of this connection's than a new one's.
    pub fn is_late_syn(&self, direction: Direction, syn: &TcpSegment) -> bool {
        let sender = &self.ends[direction as usize];
        sender.is_known() && sender.end.wrapping_sub(end_of(syn)) <= LATE_SYN
    }

    fn sides(&mut self, direction: Direction) -> (&mut TcpEnd, &mut TcpEnd) {
        let [lo, hi] = &mut self.ends;
        match direction {
            Direction::LoToHi => (lo, hi),
            Direction::HiToLo => (hi, lo),
        }
    }
}

/// Bytes a window field stands for.
fn scaled(end: &TcpEnd, segment: &TcpSegment) -> u32 {
    let shift = if segment.flags & SYN != 0 { 0 } else { end.scale.min(MAX_SCALE) };
    u32::from(segment.window) << shift
}

/// A SYN or SYN-ACK says where its end begins. A repeated one changes nothing, also when it leaves away
/// the data that the first one had; one with other numbers replaces it (nothing was agreed yet).
fn learn_syn(sender: &mut TcpEnd, receiver: &mut TcpEnd, segment: &TcpSegment) {
    let end = end_of(segment);
    let repeated = sender.is_known() && sender.end.wrapping_sub(end) <= MAX_PAYLOAD;
    if repeated && sender.max_window != 0 {
        return;
    }
    sender.set_known();
    (sender.end, sender.max_end) = (end, end);
    sender.max_window = u32::from(segment.window).max(1);
    sender.scale = segment.scale.map_or(0, |scale| scale.min(MAX_SCALE));
    sender.flags = if segment.scale.is_some() { FLAG_SCALE } else { 0 };
    if segment.sack_permitted {
        sender.flags |= FLAG_SACK;
    }
    if segment.flags & ACK != 0 && !receiver.is_known() {
        learn_originator(receiver, segment);
    }
    if receiver.is_known() {
        // RFC 7323 section 2.2: scaling counts only if both SYNs offer it.
        if !(sender.has(FLAG_SCALE) && receiver.has(FLAG_SCALE)) {
            (sender.scale, receiver.scale) = (0, 0);
        }
        // The receiver's SYN offered a window, so data may follow before anything else is heard of it.
        sender.max_end = end.wrapping_add(receiver.max_window);
    }
}

/// A SYN-ACK tells about the SYN that we never saw: what it acknowledges, and that options which it
/// carries were offered.
fn learn_originator(originator: &mut TcpEnd, syn_ack: &TcpSegment) {
    originator.set_known();
    (originator.end, originator.max_end) = (syn_ack.ack, syn_ack.ack);
    if syn_ack.scale.is_some() && !originator.has(FLAG_SCALE) {
        originator.scale = MAX_SCALE;
        originator.flags |= FLAG_SCALE;
    }
    if syn_ack.sack_permitted {
        originator.flags |= FLAG_SACK;
    }
}

/// The first segment seen of an end whose SYN we did not see is taken at its word.
fn learn_midstream(sender: &mut TcpEnd, receiver: &mut TcpEnd, segment: &TcpSegment) {
    let window = scaled(sender, segment).max(1);
    if sender.max_window == 0 {
        sender.max_window = window;
    }
    if !sender.is_known() {
        sender.set_known();
        sender.end = end_of(segment);
        sender.max_end = sender.end.wrapping_add(window);
        sender.flags |= FLAG_LIBERAL;
        if sender.end != segment.seq {
            sender.flags |= FLAG_UNACKNOWLEDGED;
        }
    }
    if !receiver.is_known() && segment.flags & ACK != 0 {
        receiver.set_known();
        (receiver.end, receiver.max_end) = (segment.ack, segment.ack);
        receiver.flags |= FLAG_LIBERAL;
    }
}

fn numbers_of(sender: &TcpEnd, receiver: &TcpEnd, segment: &TcpSegment) -> Numbers {
    let reset = segment.flags & RST != 0;
    // Some stacks send RST with ACK set and nothing acknowledged.
    let acknowledges = segment.flags & ACK != 0 && !(reset && segment.ack == 0);
    let ack = if acknowledges { segment.ack } else { receiver.end };
    // The receiver's SYN is what allows the sender to send SACK.
    let selective = acknowledges && receiver.has(FLAG_SACK) && is_after(segment.sack_end, ack);
    let sack = if selective { segment.sack_end } else { ack };
    let end = end_of(segment);
    // Without data only the acknowledgement counts: keep-alives and window probes use old numbers. What
    // a SYN says of its sender has been learned already.
    let no_data = (end == segment.seq && !reset) || segment.flags & SYN != 0;
    let (seq, end) = if no_data { (sender.end, sender.end) } else { (segment.seq, end) };
    Numbers { seq, end, ack, sack, window: scaled(sender, segment) }
}

/// Bytes of leeway where `window` allows so many: the other direction's news may still be on its way.
fn reordering(window: u32) -> u32 {
    window.min(REORDERED)
}

fn is_inside(sender: &TcpEnd, receiver: &TcpEnd, numbers: &Numbers) -> bool {
    // An ACK that opens the window once more may not have been seen yet.
    let upper = sender.max_end.wrapping_add(reordering(receiver.max_window));
    let lower = sender.end.wrapping_sub(receiver.max_window);
    // Data that the receiver was allowed to send may not have been seen yet, or only its first fragment.
    let unseen = if is_after(receiver.max_end, receiver.end) {
        receiver.max_end.wrapping_sub(receiver.end)
    } else {
        0
    };
    let newest_ack = receiver.end.wrapping_add(reordering(unseen));
    let oldest_ack = receiver.end.wrapping_sub(sender.max_window.max(OLD_ACK));
    !is_after(numbers.seq, upper)
        && !is_after(lower, numbers.end)
        && !is_after(numbers.sack, newest_ack)
        && !is_after(oldest_ack, numbers.sack)
}

/// Takes over a segment's numbers.
fn advance(sender: &mut TcpEnd, receiver: &mut TcpEnd, numbers: &Numbers, acknowledges: bool) {
    sender.max_window = sender.max_window.max(numbers.window);
    if is_after(numbers.end, sender.end) {
        // It began inside the window and reaches beyond: the receiver has more room than we knew.
        if is_after(numbers.end, sender.max_end) && !is_after(numbers.seq, sender.max_end) {
            let beyond = numbers.end.wrapping_sub(sender.max_end);
            receiver.max_window = receiver.max_window.saturating_add(beyond).min(MAX_WINDOW);
        }
        sender.end = numbers.end;
        sender.flags |= FLAG_UNACKNOWLEDGED;
    }
    if !acknowledges {
        return;
    }
    let edge = numbers.ack.wrapping_add(numbers.window);
    if is_after(edge, receiver.max_end) {
        receiver.max_end = edge;
    }
    if is_after(numbers.sack, receiver.end) {
        receiver.end = numbers.sack;
    }
    if !is_after(receiver.end, numbers.ack) {
        receiver.flags &= !FLAG_UNACKNOWLEDGED;
    }
}
