//! Resets: the one segment that a stranger most likes to invent (RFC 5961 section 3).

use crate::flow::Direction;
use crate::session::record::{Session, State};
use crate::session::tcp::note::Note;
use crate::session::tcp::state::{Side, is_unanswered};
use crate::session::tcp::window::Fit;
use crate::session::track::Follow;
use crate::settings::Settings;
use crate::verdict::DropReason;
use crate::wire::tcp::{ACK, TcpSegment};

/// How far below the originator's end a reset may acknowledge its SYN: the SYN's data may be ignored.
const SYN_DATA: u32 = 0xffff;

/// What a reset does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effect {
    /// The connection is over.
    Close,
    /// Its receiver may take it or challenge it; what follows shows which. Without anything following
    /// the session ends as if closed.
    Doubt,
    /// It is not from its sender.
    Outside,
}

/// Follows a connection through a reset.
///
/// An established connection closes at once only if the reset carries exactly the next sequence number.
/// A reset elsewhere in the window goes through with the state kept and the idle time of a closed
/// connection, so that a challenge ACK (RFC 5961) keeps the session.
pub fn follow(
    session: &Session,
    segment: &TcpSegment,
    direction: Direction,
    settings: &Settings,
) -> Result<Follow, DropReason> {
    let mut tcp = session.tcp;
    let state = match effect(session, segment, direction) {
        Effect::Close => State::TcpClose,
        Effect::Doubt => session.state,
        Effect::Outside if settings.tcp_loose_window => {
            return Ok(Follow::unmoved(session, tcp, true));
        }
        Effect::Outside => return Err(DropReason::TcpWindow),
    };
    tcp.set_note(Note::Nothing);
    Ok(Follow::Update {
        state,
        tcp,
        timeout_ms: settings.timeouts.tcp_close,
        replicate: state != session.state,
        window_exceeded: false,
        refresh: true,
    })
}

fn effect(session: &Session, segment: &TcpSegment, direction: Direction) -> Effect {
    let tcp = &session.tcp;
    let note = tcp.note();
    let acknowledges = segment.flags & ACK != 0;
    // It answers a SYN or a challenge that went through unbelieved: the old connection is gone.
    if acknowledges && note.is_syn_answered_by(direction, segment.ack)
        || note.is_challenge_answered_by(direction, segment.seq)
    {
        return Effect::Close;
    }
    if is_unanswered(session.state)
        && Side::of(direction, session.origin) == Side::Responder
        && !tcp.ends[direction as usize].is_known()
    {
        return refusal(session, segment);
    }
    let exact = segment.seq == tcp.ends[direction as usize].end;
    match tcp.reset_fit(direction, segment) {
        Some(Fit::Outside) => Effect::Outside,
        Some(Fit::Inside) if exact || session.state != State::TcpEstablished => Effect::Close,
        None if session.state != State::TcpEstablished => Effect::Close,
        Some(Fit::Inside) | None => Effect::Doubt,
    }
}

/// In SYN-SENT a reset counts only if it acknowledges the SYN (RFC 9293 section 3.10.7.3).
fn refusal(session: &Session, segment: &TcpSegment) -> Effect {
    let originator = &session.tcp.ends[session.origin as usize];
    let acknowledges = segment.flags & ACK != 0;
    let close = originator.end.wrapping_sub(segment.ack) <= SYN_DATA || !originator.is_known();
    if acknowledges && close { Effect::Close } else { Effect::Outside }
}
