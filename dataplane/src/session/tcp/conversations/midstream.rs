//! Connections whose beginning was not seen: picked up, or taken over with a replica.

use super::{FIRST, Run, after_handshake, run, step};
use crate::flow::Direction;
use crate::session::samples;
use crate::session::tcp::{TcpEnd, TcpTracking};

const MIDSTREAM: Run = Run { midstream: true, loose_window: false };

#[test]
fn answer_first_because_the_first_packet_was_lost() {
    run(
        MIDSTREAM,
        "server SYN-ACK seq 0 ack 1 window 65160 scale 9 sack -> SYN_RECV 60s
         server ACK seq 1 ack 1 -> SYN_RECV
         client ACK seq 1 ack 1 window 502 -> ESTABLISHED
         client ACK seq 1 ack 1 len 100 -> ESTABLISHED
         server ACK seq 1 ack 101 len 1000 window 128 -> ESTABLISHED
         client ACK seq 101 ack 1 sacked 1001 -> ESTABLISHED
         client ACK seq 900000000 ack 1 len 10 -> drop tcp_window
         client FIN-ACK seq 101 ack 1001 -> FIN_WAIT",
    );
    // Without scaling the window is exact.
    run(
        MIDSTREAM,
        "server SYN-ACK seq 0 ack 1 window 1000 -> SYN_RECV
         client ACK seq 1 ack 1 window 1000 -> ESTABLISHED
         server ACK seq 1 ack 1 len 1000 window 1000 -> ESTABLISHED
         server ACK seq 2002 ack 1 len 1 window 1000 -> drop tcp_window",
    );
    // The SYN is repeated and then both handshakes are known.
    run(
        MIDSTREAM,
        "server SYN-ACK seq 0 ack 1 window 65160 scale 9 sack -> SYN_RECV
         client SYN seq 0 window 64240 scale 2 sack -> SYN_RECV unmoved
         server SYN-ACK seq 0 ack 1 window 65160 scale 9 sack -> SYN_RECV
         client ACK seq 1 ack 1 window 502 -> ESTABLISHED",
    );
}

#[test]
fn picked_up_in_the_middle() {
    run(
        MIDSTREAM,
        "client ACK seq 0 ack 0 len 100 window 502 -> ESTABLISHED 300s
         server ACK seq 0 ack 100 window 502 -> ESTABLISHED 432000s
         server ACK seq 5000000 ack 100 len 1000 window 502 -> ESTABLISHED
         client ACK seq 100 ack 5001000 -> ESTABLISHED
         client ACK seq 500000000 ack 5001000 len 10 -> ESTABLISHED
         server ACK seq 5001000 ack 500000010 -> ESTABLISHED
         client FIN-ACK seq 500000010 ack 5001000 -> FIN_WAIT
         server FIN-ACK seq 5001000 ack 500000011 -> LAST_ACK
         client ACK seq 500000011 ack 5001001 -> TIME_WAIT",
    );
    // The server is heard first.
    run(
        MIDSTREAM,
        "server ACK seq 0 ack 0 len 1000 window 502 -> ESTABLISHED
         client ACK seq 0 ack 1000 window 502 -> ESTABLISHED
         client RST seq 0 -> CLOSE",
    );
}

#[test]
fn picked_up_while_closing() {
    run(
        MIDSTREAM,
        "client FIN-ACK seq 0 ack 0 -> FIN_WAIT 120s
         server ACK seq 0 ack 1 -> CLOSE_WAIT
         client FIN-ACK seq 0 ack 0 -> CLOSE_WAIT
         server FIN-ACK seq 0 ack 1 -> LAST_ACK
         client ACK seq 1 ack 1 -> TIME_WAIT",
    );
}

#[test]
fn a_reset_begins_nothing() {
    run(MIDSTREAM, "client RST seq 0 -> drop no_session");
    run(MIDSTREAM, "server RST-ACK seq 0 ack 1 -> drop no_session");
    run(MIDSTREAM, "client SYN-FIN seq 0 -> drop tcp_flags");
}

#[test]
fn a_wild_reset_does_not_end_a_picked_up_connection() {
    run(
        MIDSTREAM,
        "client ACK seq 0 ack 0 len 100 window 502 -> ESTABLISHED
         server ACK seq 0 ack 100 window 502 -> ESTABLISHED
         server RST seq 2000000000 -> drop tcp_window
         server RST seq 500 -> ESTABLISHED 10s
         server ACK seq 0 ack 100 len 10 -> ESTABLISHED 300s",
    );
}

/// What survives replication: scales and flags.
fn replica(tcp: TcpTracking) -> TcpTracking {
    TcpTracking {
        ends: tcp.ends.map(|end| TcpEnd { scale: end.scale, flags: end.flags, ..TcpEnd::default() }),
    }
}

/// Plays `before`, keeps only what a backup has, plays `after`.
fn take_over(before: &str, after: &str) {
    let settings = samples::settings();
    for client in [Direction::LoToHi, Direction::HiToLo] {
        for first in FIRST {
            let mut session = None;
            for (part, rows) in [before, after].into_iter().enumerate() {
                if let (1, Some(session)) = (part, &mut session) {
                    let session: &mut crate::session::Session = session;
                    session.tcp = replica(session.tcp);
                }
                for row in rows.lines().map(str::trim).filter(|row| !row.is_empty()) {
                    let (said, expected) = row.split_once(" -> ").expect("a row has an arrow");
                    let packet = super::packet_of(said, client, first);
                    let seen = step(&mut session, &packet, &settings, false);
                    assert_eq!(seen, expected, "{row}, client {client:?}, first {first:?}");
                }
            }
        }
    }
}

#[test]
fn a_backup_goes_on_in_every_state() {
    let established = super::HANDSHAKE;
    let syn = "client SYN seq 0 window 64240 scale 7 sack -> SYN_SENT";
    let syn_ack = &format!("{syn}\nserver SYN-ACK seq 0 ack 1 window 65160 scale 9 -> SYN_RECV");
    let fin = &format!("{established}client FIN-ACK seq 1 ack 1 -> FIN_WAIT");
    let last = &format!("{fin}\nserver FIN-ACK seq 1 ack 2 -> LAST_ACK");
    for (before, after) in [
        (syn, "client SYN seq 0 window 64240 scale 7 sack -> SYN_SENT"),
        (
            syn,
            "server SYN-ACK seq 0 ack 1 window 65160 scale 9 sack -> SYN_RECV
             client ACK seq 1 ack 1 window 502 -> ESTABLISHED
             client ACK seq 900000000 ack 1 len 10 -> drop tcp_window",
        ),
        (syn, "server RST-ACK seq zero ack 1 -> CLOSE"),
        (
            syn,
            "client ACK seq 700000 ack 900000 len 10 -> SYN_SENT unmoved
             server ACK seq 900000 ack 700010 -> SYN_SENT unmoved
             client ACK seq 700010 ack 900000 -> ESTABLISHED
             server SYN seq 5 -> drop tcp_flags",
        ),
        (syn_ack, "server SYN seq 5 -> drop tcp_flags"),
        (syn_ack, "client ACK seq 1 ack 1 window 502 -> ESTABLISHED"),
        (syn_ack, "server SYN-ACK seq 0 ack 1 window 65160 scale 9 -> SYN_RECV unmoved"),
        (syn_ack, "client RST seq 1 -> CLOSE"),
        (
            established,
            "server ACK seq 30000 ack 1 len 1000 window 128 -> ESTABLISHED
             server ACK seq 1 ack 1 len 1000 window 128 -> ESTABLISHED
             client ACK seq 1 ack 2000 -> ESTABLISHED
             client ACK seq 1 ack 31000 -> ESTABLISHED
             client ACK seq 1 ack 31000 len 60000 -> ESTABLISHED
             server ACK seq 31000 ack 60001 -> ESTABLISHED",
        ),
        (
            established,
            "client RST seq 1 -> ESTABLISHED
             client ACK seq 1 ack 1 -> ESTABLISHED
             client RST seq 1 -> CLOSE",
        ),
        (established, "client FIN-ACK seq 1 ack 1 -> FIN_WAIT"),
        (
            fin,
            "client FIN-ACK seq 1 ack 1 -> FIN_WAIT
             server ACK seq 1 ack 2 -> CLOSE_WAIT",
        ),
        (fin, "server FIN-ACK seq 1 ack 2 -> LAST_ACK"),
        (last, "client ACK seq 2 ack 2 -> TIME_WAIT"),
        (last, "client RST seq 2 -> CLOSE"),
    ] {
        take_over(before, after);
    }
}

#[test]
fn a_replica_with_an_impossible_scale_is_harmless() {
    let mut tcp = TcpTracking::default();
    for end in &mut tcp.ends {
        (end.scale, end.flags) = (255, 255);
    }
    let packet = super::packet_of("client ACK seq 1 ack 1 window 65535", Direction::LoToHi, FIRST[0]);
    let mut session =
        samples::session_in(1, crate::session::Role::Owner, crate::session::State::TcpEstablished);
    session.tcp = tcp;
    let mut session = Some(session);
    assert_eq!(step(&mut session, &packet, &samples::settings(), false), "ESTABLISHED");
    assert_eq!(session.unwrap().tcp.ends[0].max_window, 65535 << 14);
}

#[test]
fn handshake_rows_are_sound() {
    after_handshake("client ACK seq 1 ack 1 -> ESTABLISHED");
}
