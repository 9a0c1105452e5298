//! TCP conversations as the Owner sees them, one line per segment.
//!
//! `client SYN seq 0 window 64240 scale 7 sack -> SYN_SENT`: who, flags, then in any order `seq`, `ack`,
//! `sacked`, `len` (bytes), `window`, `scale`, `sack`. Sequence numbers count from the sender's first one,
//! acknowledgements from the other end's. Behind the arrow: the state, then any of `unmoved` (goes on, proves
//! nothing), `exceeded` (outside the window, let through), `300s` (idle time); or `drop REASON`;
//! or `reopen STATE`. Every line also checks that peers are told exactly when the state changes.
//! Every conversation runs from both ends' point of view and across the wrap of sequence numbers.

mod closing;
mod doubt;
mod elsewhere;
mod midstream;
mod opening;
mod windows;

use crate::flow::{Direction, proto};
use crate::session::record::{Session, State};
use crate::session::samples;
use crate::session::track::{Begun, Follow, begin, follow, may_begin};
use crate::settings::Settings;
use crate::verdict::DropReason;
use crate::wire::packet::{L4, Packet};
use crate::wire::tcp::{ACK, FIN, RST, SYN, TcpSegment, URG};

/// First sequence numbers of client and server: small, about to wrap, beyond the sign.
const FIRST: [(u32, u32); 4] =
    [(100, 5000), (u32::MAX - 40, u32::MAX), (0x7fff_fff0, 0x8000_0010), (0, 0xffff_0000)];

/// How a conversation is run.
#[derive(Clone, Copy, Default)]
struct Run {
    midstream: bool,
    loose_window: bool,
}

/// A handshake with scaling (client 7, server 9) and SACK; rows may follow on it.
const HANDSHAKE: &str = "
    client SYN seq 0 window 64240 scale 7 sack -> SYN_SENT
    server SYN-ACK seq 0 ack 1 window 65160 scale 9 sack -> SYN_RECV
    client ACK seq 1 ack 1 window 502 -> ESTABLISHED
";

fn strict(rows: &str) {
    run(Run::default(), rows);
}

fn after_handshake(rows: &str) {
    strict(&format!("{HANDSHAKE}{rows}"));
}

fn run(how: Run, rows: &str) {
    for client in [Direction::LoToHi, Direction::HiToLo] {
        for first in FIRST {
            conversation(how, rows, client, first);
        }
    }
}

fn conversation(how: Run, rows: &str, client: Direction, first: (u32, u32)) {
    let mut settings = samples::settings();
    settings.tcp_loose_window = how.loose_window;
    let mut session = None;
    let lines: Vec<&str> = rows.lines().map(str::trim).filter(|row| !row.is_empty()).collect();
    assert!(!lines.is_empty(), "a conversation has rows");
    for (number, row) in lines.iter().enumerate() {
        let (said, expected) = row.split_once(" -> ").expect("a row has an arrow");
        let packet = packet_of(said, client, first);
        let seen = step(&mut session, &packet, &settings, how.midstream);
        let idle_s = session.map_or(0, |session| session.timeout_ms / 1000);
        // The idle time counts only where a row names it.
        let seen = if expected.ends_with('s') && expected.contains(|c: char| c.is_ascii_digit()) {
            format!("{seen} {idle_s}s")
        } else {
            seen
        };
        assert_eq!(seen, expected, "row {}: {row}\nclient is {client:?}, first {first:?}", number + 1);
    }
}

/// Does with a packet what the Owner does and says what happened.
fn step(session: &mut Option<Session>, packet: &Packet, settings: &Settings, midstream: bool) -> String {
    let Some(known) = session else {
        assert!(!may_begin(packet) || begin(packet, settings, false).is_ok());
        return match begin(packet, settings, midstream) {
            Ok(begun) => {
                *session = Some(samples::session(packet.key, &begun));
                begun.state.name().to_owned()
            }
            Err(reason) => format!("drop {}", reason.name()),
        };
    };
    match follow(known, packet, settings) {
        Err(reason) => format!("drop {}", reason.name()),
        Ok(Follow::Reopen) => {
            let begun: Result<Begun, DropReason> = begin(packet, settings, false);
            let begun = begun.expect("what reopens may begin");
            *known = samples::session(packet.key, &begun);
            format!("reopen {}", begun.state.name())
        }
        Ok(Follow::Update { state, tcp, timeout_ms, replicate, window_exceeded, refresh }) => {
            assert_eq!(replicate, state != known.state, "peers are told of a new state only");
            assert!(refresh || (state == known.state && timeout_ms == known.timeout_ms));
            (known.state, known.tcp, known.timeout_ms) = (state, tcp, timeout_ms);
            let exceeded = if window_exceeded { " exceeded" } else { "" };
            let unmoved = if refresh { "" } else { " unmoved" };
            format!("{}{exceeded}{unmoved}", state.name())
        }
    }
}

fn packet_of(said: &str, client: Direction, first: (u32, u32)) -> Packet {
    let mut words = said.split_whitespace();
    let (direction, own, others) = match words.next() {
        Some("client") => (client, first.0, first.1),
        Some("server") => (client.reversed(), first.1, first.0),
        other => panic!("{other:?} is neither client nor server"),
    };
    let mut segment = TcpSegment { flags: flags_of(words.next()), window: 500, ..Default::default() };
    let mut sacked = None;
    while let Some(word) = words.next() {
        if word == "sack" {
            segment.sack_permitted = true;
            continue;
        }
        let argument = words.next().expect("a number follows");
        // "zero" is the number 0 itself, not the first sequence number.
        let relative = |base: u32| match argument {
            "zero" => 0,
            number => base.wrapping_add_signed(number.parse().expect("a sequence number")),
        };
        match word {
            "seq" => segment.seq = relative(own),
            "ack" => segment.ack = relative(others),
            "sacked" => sacked = Some(relative(others)),
            "len" => segment.payload = argument.parse().expect("bytes"),
            "window" => segment.window = argument.parse().expect("a window"),
            "scale" => segment.scale = Some(argument.parse().expect("a scale")),
            _ => panic!("{word:?} is no word of a row"),
        }
    }
    segment.sack_end = sacked.unwrap_or(segment.ack);
    samples::packet(proto::TCP, direction, L4::Tcp(segment))
}

fn flags_of(word: Option<&str>) -> u8 {
    word.expect("flags").split('-').fold(0, |flags, flag| {
        flags
            | match flag {
                "SYN" => SYN,
                "ACK" => ACK,
                "FIN" => FIN,
                "RST" => RST,
                "URG" => URG,
                "NONE" => 0,
                _ => panic!("{flag:?} is no flag"),
            }
    })
}

#[test]
#[should_panic(expected = "row 2")]
fn a_wrong_row_fails() {
    strict(
        "client SYN seq 0 -> SYN_SENT
         server SYN-ACK seq 0 ack 1 -> ESTABLISHED",
    );
}

#[test]
fn every_state_follows_every_combination_of_flags_without_panic() {
    let settings = samples::settings();
    for &state in State::ALL {
        for flags in 0..=255 {
            for direction in [Direction::LoToHi, Direction::HiToLo] {
                let mut session = samples::session_in(1, crate::session::Role::Owner, state);
                session.key = samples::key(proto::TCP, 1);
                let segment = TcpSegment { flags, ..Default::default() };
                let packet = samples::packet(proto::TCP, direction, L4::Tcp(segment));
                if let Ok(Follow::Update { state: next, replicate, .. }) =
                    follow(&session, &packet, &settings)
                {
                    assert_eq!(replicate, next != state);
                    assert!(super::state::is_tcp(next));
                }
            }
        }
    }
}
