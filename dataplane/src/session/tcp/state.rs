//! Which segments a state admits, and the state that follows. Pure: a segment is its kind and side.

use crate::flow::Direction;
use crate::session::record::State;
use crate::wire::tcp::{ACK, FIN, RST, SYN, URG};

/// What a segment says by its flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// SYN.
    Syn,
    /// SYN and ACK.
    SynAck,
    /// FIN and ACK.
    Fin,
    /// ACK, with or without data.
    Ack,
    /// RST, with or without ACK.
    Reset,
}

impl Kind {
    /// `None` for combinations that no TCP sends. PSH, ECE and CWR mean nothing here.
    pub fn of(flags: u8) -> Option<Self> {
        const SYN_URG: u8 = SYN | URG;
        const SYN_ACK: u8 = SYN | ACK;
        const RST_ACK: u8 = RST | ACK;
        const FIN_ACK: u8 = FIN | ACK;
        const FIN_ACK_URG: u8 = FIN | ACK | URG;
        const ACK_URG: u8 = ACK | URG;
        match flags & (FIN | SYN | RST | ACK | URG) {
            SYN | SYN_URG => Some(Self::Syn),
            SYN_ACK => Some(Self::SynAck),
            RST | RST_ACK => Some(Self::Reset),
            FIN_ACK | FIN_ACK_URG => Some(Self::Fin),
            ACK | ACK_URG => Some(Self::Ack),
            _ => None,
        }
    }
}

/// Who sent a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The end that sent the first SYN.
    Originator,
    /// The other one.
    Responder,
}

impl Side {
    /// The side that sends in `direction`.
    pub fn of(direction: Direction, origin: Direction) -> Self {
        if direction == origin { Self::Originator } else { Self::Responder }
    }
}

/// What may happen to a segment before its numbers are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It belongs here if it fits the windows.
    Check,
    /// It goes through and changes nothing: the ends may know better than we do, and their answer tells.
    Pass,
    /// It begins the connection anew.
    Reopen,
    /// No state of the two ends allows it.
    Refuse,
}

/// Looks at flags and state. `expected`: the numbers are those the handshake waits for; of a SYN: they are this
/// connection's own.
pub fn admission(state: State, side: Side, kind: Kind, expected: bool) -> Admission {
    use State::{TcpClose, TcpSynRecv, TcpSynSent, TcpSynSent2, TcpTimeWait};
    match (kind, state, side) {
        // A first or repeated SYN, or the second one of a simultaneous open.
        (Kind::Syn, TcpSynSent | TcpSynSent2, _) => Admission::Check,
        // A late copy: a new connection begins with a higher number (RFC 9293 section 3.6.1).
        (Kind::Syn, TcpTimeWait, _) if expected => Admission::Pass,
        // RFC 9293 section 3.6.1: a new SYN may reopen a closed connection; either end may be first.
        (Kind::Syn, TcpTimeWait | TcpClose, _) => Admission::Reopen,
        // Perhaps the originator restarted and we hold a dead connection.
        (Kind::Syn, _, Side::Originator) => Admission::Pass,
        // It would open a connection in the direction that policy did not let begin.
        (Kind::Syn, _, Side::Responder) => Admission::Refuse,
        (Kind::SynAck, TcpSynSent, Side::Originator) => Admission::Refuse,
        (Kind::SynAck, TcpSynSent | TcpSynSent2, _) => Admission::Check,
        // Repeated, or from a responder that restarted meanwhile.
        (Kind::SynAck, TcpSynRecv, Side::Responder) if expected => Admission::Check,
        (Kind::SynAck, _, _) => Admission::Pass,
        // Only who got the SYN knows its number: the SYN-ACK went by another node.
        (Kind::Fin | Kind::Ack, TcpSynSent | TcpSynSent2, Side::Responder) if expected => Admission::Check,
        // The responder may hold an older connection and answer the SYN with a challenge.
        (Kind::Fin | Kind::Ack, TcpSynSent | TcpSynSent2, Side::Responder) => Admission::Pass,
        // The SYN-ACK is still on its way to us through another node, or went by one that is gone.
        (Kind::Fin | Kind::Ack, TcpSynSent | TcpSynSent2, Side::Originator) if expected => Admission::Pass,
        (Kind::Fin | Kind::Ack, TcpSynSent | TcpSynSent2, Side::Originator) => Admission::Refuse,
        // Resets have rules of their own, see `reset`.
        (Kind::Fin | Kind::Ack | Kind::Reset, _, _) => Admission::Check,
    }
}

/// What the closing states ask once a segment was observed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closing {
    /// The sender of this segment sent the first FIN.
    pub by_sender: bool,
    /// All the receiver of this segment has sent is acknowledged.
    pub receiver_acknowledged: bool,
    /// All the sender of this segment has sent is acknowledged.
    pub sender_acknowledged: bool,
}

/// The state after a segment that was admitted and fits.
pub fn next(state: State, side: Side, kind: Kind, closing: &Closing) -> State {
    use State::{
        TcpClose, TcpCloseWait, TcpEstablished, TcpFinWait, TcpLastAck, TcpSynRecv, TcpSynSent, TcpSynSent2,
        TcpTimeWait,
    };
    match (kind, state) {
        (Kind::Syn, _) if side == Side::Responder => TcpSynSent2,
        (Kind::Syn, _) => state,
        (Kind::SynAck, _) => TcpSynRecv,
        (Kind::Reset, _) => TcpClose,
        (Kind::Fin, TcpSynSent | TcpSynSent2 | TcpSynRecv | TcpEstablished) => TcpFinWait,
        // The first FIN again.
        (Kind::Fin, TcpFinWait | TcpCloseWait) if closing.by_sender => state,
        (Kind::Fin, TcpFinWait | TcpCloseWait) => TcpLastAck,
        (Kind::Ack, TcpSynSent | TcpSynSent2) => TcpSynRecv,
        (Kind::Ack, TcpSynRecv) if side == Side::Originator => TcpEstablished,
        // Only the ACK that covers the FIN counts; others were overtaken by it.
        (Kind::Ack, TcpFinWait) if !closing.by_sender && closing.receiver_acknowledged => TcpCloseWait,
        (Kind::Ack, TcpLastAck) if closing.receiver_acknowledged && closing.sender_acknowledged => {
            TcpTimeWait
        }
        (Kind::Fin | Kind::Ack, _) => state,
    }
}

/// True for the states of a TCP connection.
pub fn is_tcp(state: State) -> bool {
    (State::TcpSynSent as u8..=State::TcpClose as u8).contains(&(state as u8))
}

/// True while the responder has not agreed to anything.
pub fn is_unanswered(state: State) -> bool {
    matches!(state, State::TcpSynSent | State::TcpSynSent2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_combinations_of_flags_are_valid() {
        let valid: Vec<u8> = (0..64).filter(|&flags| Kind::of(flags).is_some()).collect();
        let without_push: Vec<u8> = valid.iter().copied().filter(|flags| flags & 8 == 0).collect();
        assert_eq!(without_push, [2, 4, 16, 17, 18, 20, 34, 48, 49]);
        assert_eq!(valid.len(), 18, "PSH makes no difference");
        assert_eq!(Kind::of(SYN | 0xc0), Some(Kind::Syn), "nor do ECE and CWR");
    }

    #[test]
    fn tcp_states_are_the_first_nine() {
        let states: Vec<_> = State::ALL.iter().filter(|state| is_tcp(**state)).collect();
        assert_eq!(states.len(), 9);
        assert_eq!(states.last(), Some(&&State::TcpClose));
    }
}
