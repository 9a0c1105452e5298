//! SCTP: the state of an association by the chunks that pass (RFC 9260), as nf_conntrack has it.
//!
//! Verification tags are learned in the handshake and kept in [`TcpTracking`]: `ends[direction].end` is
//! the tag of packets in that direction. A chunk that ends an association is believed only with a tag that
//! is known; with another one it goes through, for its receiver to judge, and the state stays.

use crate::flow::{Direction, proto};
use crate::session::record::{Session, State};
use crate::session::tcp::TcpTracking;
use crate::session::timeouts::Timeouts;
use crate::session::track::{Begun, Follow};
use crate::settings::Settings;
use crate::verdict::DropReason;
use crate::wire::sctp::chunk;

/// True for a chunk that may be the first of a flow: INIT, whose verification tag is 0
/// (RFC 9260 section 8.5.1).
pub fn may_begin(kind: u8, tag: u32) -> bool {
    kind == chunk::INIT && tag == 0
}

/// Begins an association with a packet's chunk.
pub fn begin(
    kind: u8,
    tag: u32,
    direction: Direction,
    midstream: bool,
    timeouts: &Timeouts,
) -> Result<Begun, DropReason> {
    let other = direction.reversed();
    let (state, origin) = match kind {
        _ if may_begin(kind, tag) => (State::SctpCookieWait, direction),
        chunk::INIT => return Err(DropReason::SctpState),
        _ if !midstream => return Err(DropReason::NoSession),
        chunk::ABORT | chunk::SHUTDOWN_COMPLETE => return Err(DropReason::NoSession),
        chunk::INIT_ACK => (State::SctpCookieWait, other),
        chunk::COOKIE_ECHO => (State::SctpCookieEchoed, direction),
        chunk::COOKIE_ACK => (State::SctpEstablished, other),
        chunk::SHUTDOWN => (State::SctpShutdown, direction),
        chunk::SHUTDOWN_ACK => (State::SctpShutdownAck, other),
        _ => (State::SctpEstablished, direction),
    };
    let mut tcp = TcpTracking::default();
    tcp.learn_tag(kind, tag, direction);
    Ok(Begun { state, tcp, timeout_ms: timeouts.of(state, proto::SCTP), origin })
}

/// Follows an association through a packet's chunk.
pub fn follow(
    session: &Session,
    kind: u8,
    tag: u32,
    direction: Direction,
    settings: &Settings,
) -> Result<Follow, DropReason> {
    if kind == chunk::INIT && tag != 0 {
        return Err(DropReason::SctpState);
    }
    let mut tcp = session.tcp;
    if !tcp.believes(kind, tag, direction) {
        return Ok(Follow::unmoved(session, tcp, false));
    }
    let by_originator = direction == session.origin;
    let Some(state) = next(session.state, kind, by_originator) else {
        return Ok(Follow::Reopen);
    };
    if is_handshake(session.state) {
        tcp.learn_tag(kind, tag, direction);
    }
    Ok(Follow::Update {
        state,
        tcp,
        timeout_ms: settings.timeouts.of(state, proto::SCTP),
        replicate: state != session.state,
        window_exceeded: false,
        refresh: true,
    })
}

/// The state after a chunk; `None` if it begins the association anew.
fn next(state: State, kind: u8, by_originator: bool) -> Option<State> {
    use State::{
        SctpClosed, SctpCookieEchoed, SctpCookieWait, SctpEstablished, SctpShutdown, SctpShutdownAck,
    };
    Some(match (kind, state) {
        (chunk::INIT, SctpClosed) => return None,
        (chunk::ABORT, _) => SctpClosed,
        // Both ends may have sent INIT (RFC 9260 section 5.2.1), so either may echo first.
        (chunk::COOKIE_ECHO, SctpCookieWait) => SctpCookieEchoed,
        (chunk::COOKIE_ACK, SctpCookieEchoed) => SctpEstablished,
        (chunk::SHUTDOWN, SctpEstablished) => SctpShutdown,
        (chunk::SHUTDOWN_ACK, SctpShutdown) => SctpShutdownAck,
        (chunk::SHUTDOWN_COMPLETE, SctpShutdownAck) => SctpClosed,
        (_, SctpCookieWait | SctpCookieEchoed | SctpEstablished) => state,
        (_, SctpShutdown | SctpShutdownAck | SctpClosed) => state,
        // The state was not known (a claim): take the chunk's word for it.
        (chunk::INIT, _) => return None,
        (chunk::INIT_ACK, _) => SctpCookieWait,
        (chunk::COOKIE_ECHO, _) if by_originator => SctpCookieEchoed,
        _ => SctpEstablished,
    })
}

fn is_handshake(state: State) -> bool {
    matches!(state, State::SctpCookieWait | State::SctpCookieEchoed)
}

impl TcpTracking {
    /// The handshake's packets carry the tags that both ends will use.
    fn learn_tag(&mut self, kind: u8, tag: u32, direction: Direction) {
        if matches!(kind, chunk::INIT_ACK | chunk::COOKIE_ECHO | chunk::COOKIE_ACK) {
            let end = &mut self.ends[direction as usize];
            end.end = tag;
            end.set_known();
        }
    }

    /// Whether a chunk may move the state: those that end an association need the tag of their direction,
    /// ABORT and SHUTDOWN-COMPLETE may reflect the other one (T bit, RFC 9260 section 8.5.1). A tag that
    /// was not learned proves nothing against a packet.
    fn believes(&self, kind: u8, tag: u32, direction: Direction) -> bool {
        let matches = |direction: Direction| {
            let end = &self.ends[direction as usize];
            !end.is_known() || end.end == tag
        };
        match kind {
            chunk::ABORT | chunk::SHUTDOWN_COMPLETE => matches(direction) || matches(direction.reversed()),
            chunk::SHUTDOWN | chunk::SHUTDOWN_ACK => matches(direction),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::samples;
    use crate::session::track;
    use crate::wire::packet::{L4, Packet};

    /// `client INIT 0 -> COOKIE_WAIT`: who, chunk, verification tag; then the state, `unmoved` (goes on,
    /// proves nothing), `reopen STATE` or `drop REASON`.
    fn conversation(midstream: bool, rows: &str) {
        for client in [Direction::LoToHi, Direction::HiToLo] {
            let mut session = None;
            for row in rows.lines().map(str::trim).filter(|row| !row.is_empty()) {
                let (said, expected) = row.split_once(" -> ").expect("a row has an arrow");
                let seen = step(&mut session, &packet_of(said, client), midstream);
                assert_eq!(seen, expected, "{row}, client {client:?}");
            }
        }
    }

    fn step(session: &mut Option<Session>, packet: &Packet, midstream: bool) -> String {
        let settings = samples::settings();
        let begin = |midstream| track::begin(packet, &settings, midstream);
        let Some(known) = session else {
            return match begin(midstream) {
                Ok(begun) => {
                    *session = Some(samples::session(packet.key, &begun));
                    begun.state.name().to_owned()
                }
                Err(reason) => format!("drop {}", reason.name()),
            };
        };
        match track::follow(known, packet, &settings) {
            Err(reason) => format!("drop {}", reason.name()),
            Ok(Follow::Reopen) => {
                *known = samples::session(packet.key, &begin(false).expect("what reopens may begin"));
                format!("reopen {}", known.state.name())
            }
            Ok(Follow::Update { state, tcp, replicate, refresh, timeout_ms, window_exceeded }) => {
                assert_eq!(replicate, state != known.state);
                assert!(!window_exceeded && (!refresh || timeout_ms == settings.timeouts.of(state, 132)));
                (known.state, known.tcp) = (state, tcp);
                format!("{}{}", state.name(), if refresh { "" } else { " unmoved" })
            }
        }
    }

    fn packet_of(said: &str, client: Direction) -> Packet {
        let words: Vec<&str> = said.split_whitespace().collect();
        let [who, kind, tag] = words[..] else { panic!("{said:?} has three words") };
        let direction = if who == "client" { client } else { client.reversed() };
        let chunk = match kind {
            "DATA" => 0,
            "INIT" => chunk::INIT,
            "INIT-ACK" => chunk::INIT_ACK,
            "HEARTBEAT" => 4,
            "ABORT" => chunk::ABORT,
            "SHUTDOWN" => chunk::SHUTDOWN,
            "SHUTDOWN-ACK" => chunk::SHUTDOWN_ACK,
            "COOKIE-ECHO" => chunk::COOKIE_ECHO,
            "COOKIE-ACK" => chunk::COOKIE_ACK,
            "SHUTDOWN-COMPLETE" => chunk::SHUTDOWN_COMPLETE,
            _ => panic!("{kind:?} is no chunk"),
        };
        let l4 = L4::Sctp { chunk, tag: tag.parse().expect("a tag") };
        samples::packet(proto::SCTP, direction, l4)
    }

    const ASSOCIATED: &str = "
        client INIT 0 -> COOKIE_WAIT
        server INIT-ACK 11 -> COOKIE_WAIT
        client COOKIE-ECHO 22 -> COOKIE_ECHOED
        server COOKIE-ACK 11 -> SCTP_ESTABLISHED
    ";

    fn associated(rows: &str) {
        conversation(false, &format!("{ASSOCIATED}{rows}"));
    }

    #[test]
    fn an_association_from_init_to_shutdown_complete() {
        associated(
            "client DATA 22 -> SCTP_ESTABLISHED
             server HEARTBEAT 11 -> SCTP_ESTABLISHED
             client SHUTDOWN 22 -> SHUTDOWN_SENT
             server DATA 11 -> SHUTDOWN_SENT
             server SHUTDOWN-ACK 11 -> SHUTDOWN_ACK_SENT
             client SHUTDOWN-COMPLETE 22 -> CLOSED
             client INIT 0 -> reopen COOKIE_WAIT",
        );
        associated("server SHUTDOWN 11 -> SHUTDOWN_SENT\nclient SHUTDOWN-ACK 22 -> SHUTDOWN_ACK_SENT");
    }

    #[test]
    fn only_init_with_tag_zero_begins() {
        for row in [
            "client INIT 5 -> drop sctp_state",
            "client DATA 5 -> drop no_session",
            "client COOKIE-ECHO 5 -> drop no_session",
            "server INIT-ACK 5 -> drop no_session",
            "client ABORT 5 -> drop no_session",
        ] {
            conversation(false, row);
        }
        associated("client INIT 5 -> drop sctp_state");
    }

    #[test]
    fn repeats_and_late_chunks_change_nothing() {
        conversation(
            false,
            "client INIT 0 -> COOKIE_WAIT
             client INIT 0 -> COOKIE_WAIT
             server INIT-ACK 11 -> COOKIE_WAIT
             server COOKIE-ACK 11 -> COOKIE_WAIT
             client COOKIE-ECHO 22 -> COOKIE_ECHOED
             server INIT-ACK 11 -> COOKIE_ECHOED
             client COOKIE-ECHO 22 -> COOKIE_ECHOED
             server COOKIE-ACK 11 -> SCTP_ESTABLISHED
             server COOKIE-ACK 11 -> SCTP_ESTABLISHED
             client SHUTDOWN-COMPLETE 22 -> SCTP_ESTABLISHED
             server SHUTDOWN-ACK 11 -> SCTP_ESTABLISHED
             client INIT 0 -> SCTP_ESTABLISHED",
        );
    }

    #[test]
    fn only_the_right_tag_ends_an_association() {
        associated(
            "client ABORT 23 -> SCTP_ESTABLISHED unmoved
             server SHUTDOWN 22 -> SCTP_ESTABLISHED unmoved
             client SHUTDOWN 11 -> SCTP_ESTABLISHED unmoved
             client ABORT 22 -> CLOSED",
        );
        // The T bit reflects the other end's tag.
        associated("server ABORT 22 -> CLOSED");
        conversation(false, "client INIT 0 -> COOKIE_WAIT\nserver ABORT 77 -> CLOSED");
    }

    #[test]
    fn picked_up_in_the_middle() {
        conversation(true, "server INIT-ACK 11 -> COOKIE_WAIT\nclient COOKIE-ECHO 22 -> COOKIE_ECHOED");
        conversation(
            true,
            "client COOKIE-ECHO 22 -> COOKIE_ECHOED\nserver COOKIE-ACK 11 -> SCTP_ESTABLISHED",
        );
        conversation(true, "server COOKIE-ACK 11 -> SCTP_ESTABLISHED\nserver ABORT 9 -> CLOSED");
        conversation(true, "client DATA 22 -> SCTP_ESTABLISHED\nclient SHUTDOWN 22 -> SHUTDOWN_SENT");
        conversation(
            true,
            "server SHUTDOWN-ACK 1 -> SHUTDOWN_ACK_SENT\nclient SHUTDOWN-COMPLETE 2 -> CLOSED",
        );
        conversation(true, "client ABORT 22 -> drop no_session");
        conversation(true, "client SHUTDOWN-COMPLETE 22 -> drop no_session");
    }

    #[test]
    fn a_claim_takes_the_chunks_word() {
        for (kind, expected) in [
            (chunk::INIT, None),
            (chunk::INIT_ACK, Some(State::SctpCookieWait)),
            (chunk::COOKIE_ECHO, Some(State::SctpCookieEchoed)),
            (0, Some(State::SctpEstablished)),
            (chunk::ABORT, Some(State::SctpClosed)),
        ] {
            assert_eq!(next(State::Claimed, kind, true), expected, "{kind}");
        }
    }
}
