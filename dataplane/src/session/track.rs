//! What a packet does to its session's state: the one door to the trackers of all protocols.
//!
//! Pure: a packet and what is known in, the new state out. Only the Owner calls [`begin`] and [`follow`].

use crate::flow::{Direction, proto};
use crate::session::record::{Session, State};
use crate::session::tcp::TcpTracking;
use crate::session::tcp::state::Kind;
use crate::session::{sctp, tcp};
use crate::settings::{Settings, TcpPickup};
use crate::verdict::DropReason;
use crate::wire::packet::{L4, Packet};

/// A new session's protocol part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begun {
    /// Its state.
    pub state: State,
    /// TCP and SCTP tracking; the default for other protocols.
    pub tcp: TcpTracking,
    /// Idle time, ms.
    pub timeout_ms: u32,
    /// The way the flow's first packet went: against this packet if it is an answer (SYN-ACK, echo reply)
    /// whose question was not seen.
    pub origin: Direction,
}

/// What a packet does to its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Follow {
    /// The packet goes on.
    Update {
        /// State after it.
        state: State,
        /// TCP and SCTP tracking after it.
        tcp: TcpTracking,
        /// Idle time of the state, ms.
        timeout_ms: u32,
        /// The state changed: peers must learn of it.
        replicate: bool,
        /// The segment is outside the window and goes on only because the operator allows it.
        window_exceeded: bool,
        /// The session lives on for `timeout_ms` from now. False: the packet proves nothing, `expires`
        /// stays as it is.
        refresh: bool,
    },
    /// It opens a closed connection or association again: call [`begin`] and make the session anew, with
    /// policy asked again since either end may be the one that opens.
    Reopen,
}

impl Follow {
    /// The packet goes on and proves nothing; `tcp` may carry a note.
    pub(super) fn unmoved(session: &Session, tcp: TcpTracking, window_exceeded: bool) -> Self {
        Self::Update {
            state: session.state,
            tcp,
            timeout_ms: session.timeout_ms,
            replicate: false,
            window_exceeded,
            refresh: false,
        }
    }

    fn moved(session: &Session, state: State, settings: &Settings) -> Self {
        Self::Update {
            state,
            tcp: session.tcp,
            timeout_ms: settings.timeouts.of(state, session.key.proto()),
            replicate: state != session.state,
            window_exceeded: false,
            refresh: true,
        }
    }
}

/// True if a packet that belongs to no known flow may be the first of one.
pub fn may_begin(packet: &Packet) -> bool {
    match packet.l4 {
        L4::Tcp(segment) => Kind::of(segment.flags) == Some(Kind::Syn),
        L4::Udp => true,
        L4::IcmpQuery { request } => request,
        L4::Sctp { chunk, tag } => sctp::may_begin(chunk, tag),
        // Redirects, advertisements and unknown messages belong to no conversation.
        L4::Other => !matches!(packet.key.proto(), proto::ICMP | proto::ICMPV6),
        L4::IcmpError | L4::None => false,
    }
}

/// As [`may_begin`]; with [`TcpPickup::Loose`] any TCP packet may.
pub fn could_begin(packet: &Packet, pickup: TcpPickup) -> bool {
    may_begin(packet) || pickup == TcpPickup::Loose && matches!(packet.l4, L4::Tcp(_))
}

/// Begins a session with a packet.
///
/// Without `midstream` only packets that [`may_begin`] do, others are refused with
/// [`DropReason::NoSession`]. With it (this node is the Owner and the session is lost, or
/// `--tcp-pickup loose`) also what comes later in a conversation, from either end; resets and aborts
/// still begin nothing.
pub fn begin(packet: &Packet, settings: &Settings, midstream: bool) -> Result<Begun, DropReason> {
    let timeouts = &settings.timeouts;
    let (state, origin) = match packet.l4 {
        L4::Tcp(segment) => return tcp::begin(&segment, packet.direction, midstream, timeouts),
        L4::Sctp { chunk, tag } => {
            return sctp::begin(chunk, tag, packet.direction, midstream, timeouts);
        }
        L4::Udp => (State::UdpUnreplied, packet.direction),
        L4::IcmpQuery { request: true } => (State::IcmpQuery, packet.direction),
        L4::IcmpQuery { request: false } if midstream => (State::IcmpQuery, packet.direction.reversed()),
        L4::Other if may_begin(packet) => (State::Generic, packet.direction),
        L4::IcmpQuery { .. } | L4::Other => return Err(DropReason::NoSession),
        L4::IcmpError => return Err(DropReason::IcmpErrorUnrelated),
        L4::None => return Err(DropReason::FragmentWithoutFirst),
    };
    let timeout_ms = timeouts.of(state, packet.key.proto());
    Ok(Begun { state, tcp: TcpTracking::default(), timeout_ms, origin })
}

/// Follows a session through a packet of its flow.
///
/// The packet's direction counts, not its key: a first fragment, whose key has no ports, may be given
/// with the session that its ports name. A later fragment keeps its session alive. An ICMP error belongs
/// to the session it quotes and changes nothing.
pub fn follow(session: &Session, packet: &Packet, settings: &Settings) -> Result<Follow, DropReason> {
    match packet.l4 {
        L4::Tcp(segment) => tcp::follow(session, &segment, packet.direction, settings),
        L4::Sctp { chunk, tag } => sctp::follow(session, chunk, tag, packet.direction, settings),
        L4::Udp if session.state == State::UdpReplied || packet.direction != session.origin => {
            Ok(Follow::moved(session, State::UdpReplied, settings))
        }
        L4::Udp => Ok(Follow::moved(session, State::UdpUnreplied, settings)),
        L4::IcmpQuery { .. } => Ok(Follow::moved(session, State::IcmpQuery, settings)),
        L4::Other => Ok(Follow::moved(session, State::Generic, settings)),
        L4::None => Ok(Follow::moved(session, session.state, settings)),
        L4::IcmpError => Ok(Follow::unmoved(session, session.tcp, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::samples::{packet, session, settings};
    use crate::wire::tcp::{ACK, FIN, RST, SYN, TcpSegment};

    const THERE: Direction = Direction::HiToLo;
    const BACK: Direction = Direction::LoToHi;

    fn tcp(flags: u8) -> L4 {
        L4::Tcp(TcpSegment { flags, ..TcpSegment::default() })
    }

    #[test]
    fn what_may_begin_a_flow() {
        let rows = [
            ("a SYN does", proto::TCP, tcp(SYN), true),
            ("a SYN with ECN bits does", proto::TCP, tcp(SYN | 0xc0), true),
            ("a SYN-ACK answers", proto::TCP, tcp(SYN | ACK), false),
            ("a SYN with RST is nonsense", proto::TCP, tcp(SYN | RST), false),
            ("a SYN with FIN is nonsense", proto::TCP, tcp(SYN | FIN), false),
            ("an ACK goes on", proto::TCP, tcp(ACK), false),
            ("a datagram does", proto::UDP, L4::Udp, true),
            ("an echo request does", proto::ICMP, L4::IcmpQuery { request: true }, true),
            ("an echo reply answers", proto::ICMP, L4::IcmpQuery { request: false }, false),
            ("an ICMP redirect is no query", proto::ICMP, L4::Other, false),
            ("an unknown ICMPv6 message is no query", proto::ICMPV6, L4::Other, false),
            ("an ICMP error belongs to what it quotes", proto::UDP, L4::IcmpError, false),
            ("INIT does", proto::SCTP, L4::Sctp { chunk: 1, tag: 0 }, true),
            ("INIT with a tag is nonsense", proto::SCTP, L4::Sctp { chunk: 1, tag: 9 }, false),
            ("SCTP data goes on", proto::SCTP, L4::Sctp { chunk: 0, tag: 9 }, false),
            ("GRE does", 47, L4::Other, true),
            ("a later fragment follows its first", proto::UDP, L4::None, false),
        ];
        for (line, protocol, l4, expected) in rows {
            let packet = packet(protocol, THERE, l4);
            assert_eq!(may_begin(&packet), expected, "{line}");
            let begun = begin(&packet, &settings(), false);
            assert_eq!(begun.is_ok(), expected, "{line}: {begun:?}");
            assert!(begun.is_err() || begun.is_ok_and(|begun| begun.origin == THERE), "{line}");
        }
    }

    #[test]
    fn why_a_packet_begins_nothing() {
        let rows = [
            (L4::IcmpError, proto::UDP, DropReason::IcmpErrorUnrelated),
            (L4::None, proto::UDP, DropReason::FragmentWithoutFirst),
            (L4::IcmpQuery { request: false }, proto::ICMP, DropReason::NoSession),
            (L4::Other, proto::ICMP, DropReason::NoSession),
            (tcp(ACK), proto::TCP, DropReason::NoSession),
            (tcp(SYN | FIN), proto::TCP, DropReason::TcpFlags),
        ];
        for (l4, protocol, reason) in rows {
            assert_eq!(begin(&packet(protocol, THERE, l4), &settings(), false), Err(reason));
        }
    }

    #[test]
    fn answers_begin_midstream_and_turn_the_origin() {
        for (protocol, l4, state) in [
            (proto::TCP, tcp(SYN | ACK), State::TcpSynRecv),
            (proto::ICMP, L4::IcmpQuery { request: false }, State::IcmpQuery),
            (proto::SCTP, L4::Sctp { chunk: 2, tag: 9 }, State::SctpCookieWait),
        ] {
            let begun = begin(&packet(protocol, BACK, l4), &settings(), true).unwrap();
            assert_eq!((begun.state, begun.origin), (state, THERE));
        }
    }

    /// Follows and says (state, idle seconds, replicate, refresh).
    fn after(known: &mut Session, direction: Direction, l4: L4) -> (State, u32, bool, bool) {
        let packet = packet(known.key.proto(), direction, l4);
        let outcome = follow(known, &packet, &settings());
        let Ok(Follow::Update { state, tcp, timeout_ms, replicate, refresh, window_exceeded: false }) =
            outcome
        else {
            panic!("{outcome:?}")
        };
        (known.state, known.tcp, known.timeout_ms) = (state, tcp, timeout_ms);
        (state, timeout_ms / 1000, replicate, refresh)
    }

    fn begun(protocol: u8, l4: L4) -> Session {
        let packet = packet(protocol, THERE, l4);
        session(packet.key, &begin(&packet, &settings(), false).unwrap())
    }

    #[test]
    fn udp_is_unreplied_until_the_other_end_speaks() {
        let mut udp = begun(proto::UDP, L4::Udp);
        assert_eq!((udp.state, udp.timeout_ms), (State::UdpUnreplied, 30_000));
        assert_eq!(after(&mut udp, THERE, L4::Udp), (State::UdpUnreplied, 30, false, true));
        assert_eq!(after(&mut udp, BACK, L4::Udp), (State::UdpReplied, 120, true, true));
        assert_eq!(after(&mut udp, BACK, L4::Udp), (State::UdpReplied, 120, false, true));
        assert_eq!(after(&mut udp, THERE, L4::Udp), (State::UdpReplied, 120, false, true));
    }

    #[test]
    fn echo_and_other_protocols_only_live_on() {
        let mut echo = begun(proto::ICMP, L4::IcmpQuery { request: true });
        let reply = L4::IcmpQuery { request: false };
        assert_eq!(after(&mut echo, BACK, reply), (State::IcmpQuery, 30, false, true));
        let mut gre = begun(47, L4::Other);
        assert_eq!(after(&mut gre, BACK, L4::Other), (State::Generic, 600, false, true));
    }

    #[test]
    fn fragments_keep_a_session_and_errors_do_not() {
        let mut tcp_session = begun(proto::TCP, tcp(SYN));
        let before = tcp_session;
        assert_eq!(after(&mut tcp_session, BACK, L4::IcmpError), (State::TcpSynSent, 120, false, false));
        assert_eq!(after(&mut tcp_session, THERE, L4::None), (State::TcpSynSent, 120, false, true));
        assert_eq!(tcp_session, before);
    }

    #[test]
    fn a_claim_becomes_what_its_packet_says() {
        for (protocol, l4, state) in [
            (proto::TCP, tcp(SYN), State::TcpSynSent),
            (proto::TCP, tcp(ACK), State::TcpEstablished),
            (proto::UDP, L4::Udp, State::UdpUnreplied),
            (proto::ICMP, L4::IcmpQuery { request: true }, State::IcmpQuery),
            (47, L4::Other, State::Generic),
        ] {
            let mut claim = begun(proto::UDP, L4::Udp);
            claim.key = packet(protocol, THERE, l4).key;
            claim.state = State::Claimed;
            let (seen, _, replicate, refresh) = after(&mut claim, THERE, l4);
            assert_eq!((seen, replicate, refresh), (state, true, true));
        }
    }
}
