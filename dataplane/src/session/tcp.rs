//! TCP: the state of a connection seen from the middle, and whether a segment fits its windows.
//!
//! [`state`] says which flags a state admits and what comes next, [`window`] does the sequence
//! arithmetic, [`note`] remembers one segment. The rules are those of Linux conntrack
//! (<https://elixir.bootlin.com/linux/v6.12/source/net/netfilter/nf_conntrack_proto_tcp.c>) and of
//! G. van Rooij, "Real Stateful TCP Packet Filtering in IP Filter"; where samepath differs, the room's
//! README says why.

#[cfg(test)]
mod conversations;
#[cfg(test)]
mod honest;
pub mod in_step;
pub mod note;
pub mod reset;
pub mod state;
pub mod window;

use crate::flow::{Direction, Generation};
use crate::session::record::{Session, State};
use crate::session::timeouts::Timeouts;
use crate::session::track::{Begun, Follow};
use crate::settings::Settings;
use crate::verdict::DropReason;
use crate::wire::tcp::{ACK, TcpSegment};

use note::Note;
use state::{Admission, Kind, Side};
use window::Fit;

/// [`TcpEnd::flags`]: the end offered window scaling.
pub const FLAG_SCALE: u8 = 1;
/// [`TcpEnd::flags`]: the end understands SACK.
pub const FLAG_SACK: u8 = 2;
/// [`TcpEnd::flags`]: the end's history is not known (picked up, taken over): its segments outside the
/// window are believed, resets excepted.
pub const FLAG_LIBERAL: u8 = 4;
/// [`TcpEnd::flags`]: the end sent the first FIN.
pub const FLAG_CLOSED_FIRST: u8 = 8;
/// [`TcpEnd::flags`]: the end sent something that is not acknowledged yet.
pub const FLAG_UNACKNOWLEDGED: u8 = 16;

/// Largest window shift (RFC 7323 section 2.3); assumed where the true one is not known.
pub const MAX_SCALE: u8 = 14;

/// Repeats of one segment after which the connection counts as unanswered
/// (`net.netfilter.nf_conntrack_tcp_max_retrans`).
pub const MAX_REPEATS: u8 = 3;

/// Sequence tracking of both ends; 32 bytes. The default knows nothing of either end and learns from
/// the segments it sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpTracking {
    /// Index = [`Direction`] of the end's segments, as `usize`.
    pub ends: [TcpEnd; 2],
}

/// What is known of the segments one end sends. `scale` and `flags` are replicated; the rest is
/// learned anew after a takeover.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpEnd {
    /// Sequence number behind the last byte it sent.
    pub end: u32,
    /// Sequence number behind the last byte it may send: highest acknowledgement plus window.
    pub max_end: u32,
    /// Largest window it offered, scaled, bytes; 0 = none seen yet.
    pub max_window: u32,
    /// Shift of the windows it offers. Comes off the wire too: anything above [`MAX_SCALE`] counts as that.
    pub scale: u8,
    /// The `FLAG_` constants of this file.
    pub flags: u8,
    /// Half of the [`Note`], and whether `end` means anything; see [`note`].
    pub note: u16,
}

impl TcpEnd {
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Begins a connection with a segment: a SYN, or with `midstream` also a SYN-ACK (the other end began)
/// or anything later but a reset.
pub fn begin(
    segment: &TcpSegment,
    direction: Direction,
    midstream: bool,
    timeouts: &Timeouts,
) -> Result<Begun, DropReason> {
    let kind = Kind::of(segment.flags).ok_or(DropReason::TcpFlags)?;
    let (state, origin) = match kind {
        Kind::Syn => (State::TcpSynSent, direction),
        Kind::SynAck if midstream => (State::TcpSynRecv, direction.reversed()),
        Kind::Ack if midstream => (State::TcpEstablished, direction),
        Kind::Fin if midstream => (State::TcpFinWait, direction),
        Kind::SynAck | Kind::Ack | Kind::Fin | Kind::Reset => return Err(DropReason::NoSession),
    };
    let mut tcp = TcpTracking::default();
    if matches!(kind, Kind::Ack | Kind::Fin) {
        for end in &mut tcp.ends {
            end.scale = MAX_SCALE;
            end.flags = FLAG_SACK;
        }
    }
    // Nothing is known yet, so whatever it says fits.
    let _ = tcp.observe(direction, segment);
    let sender = &mut tcp.ends[direction as usize];
    match kind {
        Kind::Fin => sender.flags |= FLAG_CLOSED_FIRST | FLAG_UNACKNOWLEDGED,
        // Whoever sends a lone ACK must not get a session for days.
        Kind::Ack => sender.flags |= FLAG_UNACKNOWLEDGED,
        Kind::Syn | Kind::SynAck | Kind::Reset => {}
    }
    Ok(Begun { state, tcp, timeout_ms: tcp.timeout_ms(state, timeouts), origin })
}

/// Follows a connection through one segment.
pub fn follow(
    session: &Session,
    segment: &TcpSegment,
    direction: Direction,
    settings: &Settings,
) -> Result<Follow, DropReason> {
    let kind = Kind::of(segment.flags).ok_or(DropReason::TcpFlags)?;
    if !state::is_tcp(session.state) {
        return adopt(session, segment, direction, settings);
    }
    if kind == Kind::Reset {
        return reset::follow(session, segment, direction, settings);
    }
    let mut tcp = session.tcp;
    let side = Side::of(direction, session.origin);
    let mut before = session.state;
    if kind == Kind::SynAck && tcp.resync(direction, segment) {
        before = State::TcpSynSent;
    }
    let unanswered = state::is_unanswered(before);
    // Both ends speak of a connection that is not the one whose SYN is known, or of what became of that one.
    let further = matches!(kind, Kind::Ack | Kind::Fin);
    if unanswered && further && tcp.note().is_challenge_answered_by(direction, segment.seq) {
        return adopt(session, segment, direction, settings);
    }
    let originator = &tcp.ends[session.origin as usize];
    let expected = match (side, kind) {
        (_, Kind::Syn) => tcp.is_late_syn(direction, segment),
        (Side::Responder, _) => originator.is_known() && segment.ack == originator.end,
        (Side::Originator, _) => {
            !originator.is_known() || segment.seq.wrapping_sub(originator.end) <= window::REORDERED
        }
    };
    // A former Owner may have seen the answer, and this end need not say anything again for long.
    let has_moved = session.generation > Generation(1);
    if unanswered && further && has_moved && side == Side::Originator && expected {
        return adopt(session, segment, direction, settings);
    }
    match state::admission(before, side, kind, expected) {
        Admission::Reopen => Ok(Follow::Reopen),
        Admission::Refuse => Err(DropReason::TcpFlags),
        Admission::Pass => {
            tcp.note_passed(before, side, kind, direction, segment);
            Ok(Follow::unmoved(session, tcp, false))
        }
        Admission::Check => {
            if unanswered && further {
                tcp.assume_syn_ack(direction);
            }
            let window_exceeded = match tcp.observe(direction, segment) {
                Fit::Inside => false,
                Fit::Outside if settings.tcp_loose_window => {
                    tcp.believe(direction, segment);
                    true
                }
                Fit::Outside => return Err(DropReason::TcpWindow),
            };
            tcp.note_checked(kind, direction, segment);
            let state = state::next(before, side, kind, &tcp.closing(direction));
            if before != state && state == State::TcpFinWait {
                tcp.ends[direction as usize].flags |= FLAG_CLOSED_FIRST;
            }
            Ok(Follow::Update {
                state,
                tcp,
                timeout_ms: tcp.timeout_ms(state, &settings.timeouts),
                replicate: state != session.state,
                window_exceeded,
                refresh: true,
            })
        }
    }
}

/// A session whose TCP state is not known (it was a claim, or the ends are further than what was seen) takes the
/// segment's word for it.
fn adopt(
    session: &Session,
    segment: &TcpSegment,
    direction: Direction,
    settings: &Settings,
) -> Result<Follow, DropReason> {
    let begun = begin(segment, direction, true, &settings.timeouts)?;
    Ok(Follow::Update {
        state: begun.state,
        tcp: begun.tcp,
        timeout_ms: begun.timeout_ms,
        replicate: begun.state != session.state,
        window_exceeded: false,
        refresh: true,
    })
}

impl TcpTracking {
    /// Idle time of `state`, cut short while something is unanswered, ms.
    fn timeout_ms(&self, state: State, timeouts: &Timeouts) -> u32 {
        let mut timeout_ms = timeouts.of(state, crate::flow::proto::TCP);
        if let Note::Segment { repeats, window_closed, .. } = self.note()
            && (repeats >= MAX_REPEATS || window_closed)
        {
            timeout_ms = timeout_ms.min(timeouts.tcp_max_retrans);
        }
        if self.ends.iter().any(|end| end.has(FLAG_UNACKNOWLEDGED)) {
            timeout_ms = timeout_ms.min(timeouts.tcp_unacknowledged);
        }
        timeout_ms
    }

    /// What the closing states ask of the two ends; `direction` is that of the segment just observed.
    fn closing(&self, direction: Direction) -> state::Closing {
        let (sender, receiver) = (&self.ends[direction as usize], &self.ends[direction.reversed() as usize]);
        state::Closing {
            by_sender: sender.has(FLAG_CLOSED_FIRST),
            receiver_acknowledged: !receiver.has(FLAG_UNACKNOWLEDGED),
            sender_acknowledged: !sender.has(FLAG_UNACKNOWLEDGED),
        }
    }

    /// A SYN-ACK that answers a SYN which did not fit the connection known here: both ends agree on a
    /// new connection, so the SYN was right. Forgets what was known of them; false if it is not that.
    fn resync(&mut self, direction: Direction, segment: &TcpSegment) -> bool {
        let note = self.note();
        let Note::Syn { from, scale, sack, .. } = note else { return false };
        if !note.is_syn_answered_by(direction, segment.ack) {
            return false;
        }
        let syn = TcpSegment {
            flags: crate::wire::tcp::SYN,
            seq: segment.ack.wrapping_sub(1),
            window: u16::MAX,
            scale,
            sack_permitted: sack,
            ..TcpSegment::default()
        };
        *self = Self::default();
        let _ = self.observe(from, &syn);
        true
    }

    /// A SYN-ACK was sent that we did not see, and perhaps more: the options that the SYN allows count as offered.
    fn assume_syn_ack(&mut self, from: Direction) {
        let offered = self.ends[from.reversed() as usize].flags & (FLAG_SCALE | FLAG_SACK);
        let responder = &mut self.ends[from as usize];
        if responder.is_known() {
            return;
        }
        responder.flags = offered;
        responder.scale = if offered & FLAG_SCALE != 0 { MAX_SCALE } else { 0 };
        self.ends[from.reversed() as usize].flags |= FLAG_LIBERAL;
    }

    /// Remembers a segment that went through without being believed.
    fn note_passed(
        &mut self,
        state: State,
        side: Side,
        kind: Kind,
        direction: Direction,
        segment: &TcpSegment,
    ) {
        match (kind, side) {
            (Kind::Syn, _) if self.is_late_syn(direction, segment) => {}
            (Kind::SynAck, _) if self.is_late_syn(direction, segment) => {
                self.hear_again(direction, segment);
            }
            (Kind::Syn, Side::Originator) => self.set_note(Note::Syn {
                from: direction,
                end: note::low_bits(window::end_of(segment)),
                scale: segment.scale,
                sack: segment.sack_permitted,
            }),
            (Kind::Ack | Kind::Fin, Side::Responder) if state::is_unanswered(state) => {
                self.set_note(Note::challenge(direction, segment.ack));
            }
            _ => {}
        }
    }

    /// Remembers a segment that was believed.
    fn note_checked(&mut self, kind: Kind, direction: Direction, segment: &TcpSegment) {
        if kind != Kind::Ack {
            return self.set_note(Note::Nothing);
        }
        let fingerprint = note::fingerprint(segment);
        let repeats = match self.note() {
            Note::Segment { from, fingerprint: last, repeats, .. }
                if from == direction && last == fingerprint =>
            {
                repeats.saturating_add(1).min(MAX_REPEATS)
            }
            _ => 0,
        };
        let window_closed = segment.flags & ACK != 0 && segment.window == 0;
        self.set_note(Note::Segment { from: direction, fingerprint, repeats, window_closed });
    }
}
