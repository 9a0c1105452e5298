//! Sequence numbers inside and outside the window.

use super::{Run, after_handshake, run, strict};

#[test]
fn a_transfer() {
    after_handshake(
        "client ACK seq 1 ack 1 len 300 window 502 -> ESTABLISHED 300s
         server ACK seq 1 ack 301 window 128 -> ESTABLISHED 432000s
         server ACK seq 1 ack 301 len 1448 window 128 -> ESTABLISHED 300s
         server ACK seq 1449 ack 301 len 1448 window 128 -> ESTABLISHED
         client ACK seq 301 ack 2897 window 502 -> ESTABLISHED 432000s
         server ACK seq 2897 ack 301 len 1448 window 128 -> ESTABLISHED 300s
         client ACK seq 301 ack 4345 window 502 -> ESTABLISHED",
    );
}

#[test]
fn every_bound_has_an_outside() {
    // Windows: the client's 502 << 7 = 64256 bytes, the server's first 65160, not scaled.
    const OPEN: &str = "
        client ACK seq 1 ack 1 len 100 window 502 -> ESTABLISHED
        server ACK seq 1 ack 101 len 100 window 128 -> ESTABLISHED
    ";
    for row in [
        // I: beyond what the other end allows (128 << 9 from 101, once more for an ACK unseen).
        "client ACK seq 101 ack 101 len 100 -> ESTABLISHED",
        "client ACK seq 65637 ack 101 len 1 -> ESTABLISHED",
        "client ACK seq 131173 ack 101 len 1 -> ESTABLISHED",
        "client ACK seq 131174 ack 101 len 1 -> drop tcp_window",
        "client ACK seq 900000000 ack 101 len 100 -> drop tcp_window",
        // II: before the oldest byte that may still be repeated (65536 below 101).
        "client ACK seq -66000 ack 101 len 566 -> ESTABLISHED",
        "client ACK seq -66000 ack 101 len 564 -> drop tcp_window",
        // III: acknowledges what cannot have been sent.
        "client ACK seq 101 ack 101 -> ESTABLISHED",
        "client ACK seq 101 ack 64257 -> ESTABLISHED",
        "client ACK seq 101 ack 64258 -> drop tcp_window",
        "client ACK seq 101 ack 101 sacked 90000000 -> drop tcp_window",
        // IV: acknowledges what was acknowledged long ago.
        "client ACK seq 101 ack -65899 -> ESTABLISHED",
        "client ACK seq 101 ack -65900 -> drop tcp_window",
    ] {
        after_handshake(&format!("{OPEN}{row}"));
    }
}

#[test]
fn selective_acknowledgements() {
    // Bytes 1 … 1000 are lost, 1001 … 2000 arrived.
    after_handshake(
        "server ACK seq 1 ack 1 len 1000 -> ESTABLISHED
         server ACK seq 1001 ack 1 len 1000 -> ESTABLISHED
         client ACK seq 1 ack 1 sacked 2001 -> ESTABLISHED 300s
         client ACK seq 1 ack 1 sacked 2001 -> ESTABLISHED 300s
         server ACK seq 1 ack 1 len 1000 -> ESTABLISHED
         client ACK seq 1 ack 2001 -> ESTABLISHED 432000s",
    );
    // Without SACK permitted the option means nothing.
    strict(
        "client SYN seq 0 -> SYN_SENT
         server SYN-ACK seq 0 ack 1 -> SYN_RECV
         client ACK seq 1 ack 1 sacked 90000000 -> ESTABLISHED",
    );
}

#[test]
fn data_before_the_ack_that_opens_the_window() {
    // The client's windows are 2000 bytes. Its ACK of 2001 is still on its way to the Owner when the
    // data it allows arrive there.
    strict(
        "client SYN seq 0 window 2000 -> SYN_SENT
         server SYN-ACK seq 0 ack 1 window 2000 -> SYN_RECV
         client ACK seq 1 ack 1 window 2000 -> ESTABLISHED
         server ACK seq 1 ack 1 len 2000 window 2000 -> ESTABLISHED
         server ACK seq 2001 ack 1 len 1000 window 2000 -> ESTABLISHED
         server ACK seq 3001 ack 1 len 1000 window 2000 -> ESTABLISHED
         server ACK seq 8001 ack 1 len 1000 window 2000 -> drop tcp_window
         client ACK seq 1 ack 2001 window 2000 -> ESTABLISHED
         client ACK seq 1 ack 4001 window 2000 -> ESTABLISHED",
    );
}

#[test]
fn ack_of_data_not_seen_yet() {
    after_handshake(
        "client ACK seq 1 ack 30001 -> ESTABLISHED
         server ACK seq 1 ack 1 len 15000 -> ESTABLISHED
         server ACK seq 15001 ack 1 len 15000 -> ESTABLISHED
         client ACK seq 1 ack 30001 -> ESTABLISHED",
    );
    // Only the first fragment of a large segment has its numbers: 1480 bytes of 9000.
    after_handshake(
        "server ACK seq 1 ack 1 len 1480 -> ESTABLISHED
         client ACK seq 1 ack 9001 -> ESTABLISHED 432000s
         server ACK seq 9001 ack 1 len 1480 -> ESTABLISHED",
    );
}

#[test]
fn old_segments_overtaken_by_newer_ones() {
    after_handshake(
        "server ACK seq 2001 ack 1 len 1000 -> ESTABLISHED
         server ACK seq 1001 ack 1 len 1000 -> ESTABLISHED
         client ACK seq 1 ack 1 -> ESTABLISHED
         server ACK seq 1 ack 1 len 1000 -> ESTABLISHED
         client ACK seq 1 ack 3001 -> ESTABLISHED
         client ACK seq 1 ack 2001 -> ESTABLISHED",
    );
}

#[test]
fn window_probes_and_keep_alives() {
    after_handshake(
        "client ACK seq 1 ack 1 window 0 -> ESTABLISHED
         server ACK seq 1 ack 1 len 1 -> ESTABLISHED
         server ACK seq 0 ack 1 -> ESTABLISHED
         server ACK seq 0 ack 1 len 1 -> ESTABLISHED
         client ACK seq 1 ack 2 window 100 -> ESTABLISHED",
    );
}

#[test]
fn a_segment_across_the_edge_shows_more_room() {
    strict(
        "client SYN seq 0 window 1000 -> SYN_SENT
         server SYN-ACK seq 0 ack 1 window 1000 -> SYN_RECV
         client ACK seq 1 ack 1 window 1000 -> ESTABLISHED
         server ACK seq 1 ack 1 len 1500 -> ESTABLISHED
         server ACK seq 2501 ack 1 len 1 -> ESTABLISHED
         server ACK seq 2502 ack 1 len 1 -> drop tcp_window",
    );
}

#[test]
fn refused_segments_teach_nothing() {
    after_handshake(
        "client ACK seq 900000000 ack 1 len 100 -> drop tcp_window
         client ACK seq 900000100 ack 1 len 100 -> drop tcp_window
         client FIN-ACK seq 900000100 ack 1 -> drop tcp_window
         client ACK seq 1 ack 1 len 100 -> ESTABLISHED",
    );
}

#[test]
fn loose_window_lets_segments_through_and_says_so() {
    let loose = Run { loose_window: true, ..Run::default() };
    run(
        loose,
        "client SYN seq 0 -> SYN_SENT
         server SYN-ACK seq 0 ack 1 -> SYN_RECV
         client ACK seq 1 ack 1 -> ESTABLISHED
         client ACK seq 800000000 ack 1 len 100 -> ESTABLISHED exceeded
         server ACK seq 1 ack 800000100 len 100 -> ESTABLISHED
         client ACK seq 800000100 ack 700000000 -> ESTABLISHED exceeded
         server ACK seq 700000000 ack 800000100 len 10 -> ESTABLISHED
         server RST seq 1 -> ESTABLISHED exceeded unmoved
         client FIN-ACK seq -90000000 ack 1 -> FIN_WAIT exceeded",
    );
}
