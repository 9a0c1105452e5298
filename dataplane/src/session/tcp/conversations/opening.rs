//! Handshakes.

use super::{Run, after_handshake, run, strict};

#[test]
fn three_way_handshake() {
    strict(
        "client SYN seq 0 window 64240 scale 7 sack -> SYN_SENT 120s
         server SYN-ACK seq 0 ack 1 window 65160 scale 7 sack -> SYN_RECV 60s
         client ACK seq 1 ack 1 window 502 -> ESTABLISHED 432000s",
    );
}

#[test]
fn first_packet_must_be_a_syn() {
    for row in [
        "client ACK seq 1 ack 1 -> drop no_session",
        "server SYN-ACK seq 0 ack 1 -> drop no_session",
        "client FIN-ACK seq 1 ack 1 -> drop no_session",
        "client RST seq 1 -> drop no_session",
        "client SYN-FIN seq 0 -> drop tcp_flags",
        "client SYN-RST seq 0 -> drop tcp_flags",
        "client FIN seq 0 -> drop tcp_flags",
        "client NONE seq 0 -> drop tcp_flags",
        "client SYN-ACK-FIN seq 0 -> drop tcp_flags",
    ] {
        strict(row);
    }
}

#[test]
fn repeated_syn_and_syn_ack_change_nothing() {
    strict(
        "client SYN seq 0 window 64240 scale 7 sack -> SYN_SENT
         client SYN seq 0 window 64240 scale 7 sack -> SYN_SENT
         server SYN-ACK seq 0 ack 1 window 65160 scale 7 sack -> SYN_RECV
         server SYN-ACK seq 0 ack 1 window 65160 scale 7 sack -> SYN_RECV
         client SYN seq 0 window 64240 scale 7 sack -> SYN_RECV unmoved
         server SYN-ACK seq 0 ack 1 window 65160 scale 7 sack -> SYN_RECV
         client ACK seq 1 ack 1 window 502 -> ESTABLISHED
         server ACK seq 1 ack 1 len 64000 window 509 -> ESTABLISHED
         server SYN-ACK seq 0 ack 1 window 65160 scale 7 sack -> ESTABLISHED unmoved",
    );
}

#[test]
fn syn_again_with_another_first_number() {
    strict(
        "client SYN seq 0 -> SYN_SENT
         client SYN seq -900000 -> SYN_SENT
         server SYN-ACK seq 0 ack 1 -> drop tcp_window
         server SYN-ACK seq 0 ack -899999 -> SYN_RECV
         client ACK seq -899999 ack 1 -> ESTABLISHED",
    );
}

#[test]
fn syn_with_data_and_again_without() {
    strict(
        "client SYN seq 0 len 500 -> SYN_SENT
         client SYN seq 0 -> SYN_SENT
         server SYN-ACK seq 0 ack 501 -> SYN_RECV
         client ACK seq 501 ack 1 -> ESTABLISHED",
    );
}

#[test]
fn syn_ack_must_answer_the_syn() {
    strict(
        "client SYN seq 0 -> SYN_SENT
         server SYN-ACK seq 0 ack 2 -> drop tcp_window
         server SYN-ACK seq 0 ack 4000000 -> drop tcp_window
         server SYN-ACK seq 0 ack -70000 -> drop tcp_window
         client SYN-ACK seq 0 ack 1 -> drop tcp_flags
         client FIN-ACK seq -1 ack 1 -> drop tcp_flags
         server FIN-ACK seq 1 ack 2 -> SYN_SENT unmoved
         server SYN-ACK seq 0 ack 1 -> SYN_RECV",
    );
}

#[test]
fn server_restarts_and_answers_the_repeated_syn_with_another_number() {
    strict(
        "client SYN seq 0 window 64240 scale 7 -> SYN_SENT
         server SYN-ACK seq 0 ack 1 window 65160 scale 7 -> SYN_RECV
         server SYN-ACK seq 9000000 ack 1 window 65160 scale 7 -> SYN_RECV
         client ACK seq 1 ack 9000001 window 502 -> ESTABLISHED
         server ACK seq 9000001 ack 1 len 1000 -> ESTABLISHED",
    );
}

#[test]
fn simultaneous_open() {
    strict(
        "client SYN seq 0 window 1000 scale 3 -> SYN_SENT
         server SYN seq 0 window 1000 scale 4 -> SYN_SENT2 120s
         server SYN seq 0 window 1000 scale 4 -> SYN_SENT2
         client SYN seq 0 window 1000 scale 3 -> SYN_SENT2
         client SYN-ACK seq 0 ack 1 window 1000 -> SYN_RECV
         server SYN-ACK seq 0 ack 1 window 1000 -> SYN_RECV
         server ACK seq 1 ack 1 window 1000 -> SYN_RECV
         client ACK seq 1 ack 1 window 1000 -> ESTABLISHED
         server ACK seq 1 ack 1 len 7000 window 1000 -> ESTABLISHED",
    );
}

#[test]
fn refused_by_the_server() {
    strict(
        "client SYN seq 0 -> SYN_SENT
         server RST-ACK seq zero ack 1 window 0 -> CLOSE 10s
         client SYN seq 7777 -> reopen SYN_SENT",
    );
    strict(
        "client SYN seq 0 -> SYN_SENT
         server RST seq 1 -> drop tcp_window
         server RST-ACK seq zero ack 2 -> drop tcp_window
         server RST-ACK seq zero ack -500000 -> drop tcp_window
         server SYN-ACK seq 0 ack 1 -> SYN_RECV
         client RST seq 1 -> CLOSE",
    );
}

#[test]
fn the_servers_news_overtake_the_clients() {
    // The client's ACK reaches the Owner before the SYN-ACK that it answers.
    strict(
        "client SYN seq 0 window 64240 -> SYN_SENT
         client ACK seq 1 ack 1 -> SYN_SENT unmoved
         client ACK seq 1 ack 1 len 300 -> SYN_SENT unmoved
         client ACK seq 301 ack 1 len 300 -> SYN_SENT unmoved
         client FIN-ACK seq 601 ack 1 -> SYN_SENT unmoved
         client ACK seq 0 ack 1 -> drop tcp_flags
         client ACK seq 4194306 ack 1 -> drop tcp_flags
         server SYN-ACK seq 0 ack 1 window 65160 -> SYN_RECV
         server ACK seq 1 ack 301 len 100 window 65160 -> SYN_RECV
         client ACK seq 602 ack 101 -> ESTABLISHED",
    );
    // The server's first flight before the ACK that completes the handshake: the SYN offered a window.
    strict(
        "client SYN seq 0 window 64240 scale 7 -> SYN_SENT
         server SYN-ACK seq 0 ack 1 window 65160 scale 7 -> SYN_RECV
         server ACK seq 1 ack 1 len 1460 window 500 -> SYN_RECV
         server ACK seq 1461 ack 1 len 1460 window 500 -> SYN_RECV
         server ACK seq 13141 ack 1 len 1460 window 500 -> SYN_RECV
         client ACK seq 1 ack 14601 window 502 -> ESTABLISHED",
    );
    // The ACK of that flight overtakes the flight itself; the SYN's window bounds what it can cover.
    for (ack, verdict) in [("64241", "ESTABLISHED"), ("64242", "drop tcp_window")] {
        strict(&format!(
            "client SYN seq 0 window 64240 scale 7 -> SYN_SENT
             server SYN-ACK seq 0 ack 1 window 65160 scale 7 -> SYN_RECV
             client ACK seq 1 ack {ack} window 502 -> {verdict}"
        ));
    }
}

#[test]
fn peers_with_different_options() {
    // Only one end scales: nobody does (RFC 7323), so the window field means bytes.
    strict(
        "client SYN seq 0 window 1000 scale 7 -> SYN_SENT
         server SYN-ACK seq 0 ack 1 window 1000 -> SYN_RECV
         client ACK seq 1 ack 1 window 1000 -> ESTABLISHED
         server ACK seq 1 ack 1 len 100 window 1000 -> ESTABLISHED
         server ACK seq 4000 ack 1 len 100 window 1000 -> drop tcp_window",
    );
    strict(
        "client SYN seq 0 window 1000 scale 7 -> SYN_SENT
         server SYN-ACK seq 0 ack 1 window 1000 scale 7 -> SYN_RECV
         client ACK seq 1 ack 1 window 1000 -> ESTABLISHED
         server ACK seq 4000 ack 1 len 100 window 1000 -> ESTABLISHED",
    );
}

#[test]
fn urgent_data_and_flags_without_meaning() {
    after_handshake(
        "client ACK-URG seq 1 ack 1 len 10 -> ESTABLISHED
         client SYN-FIN-ACK seq 1 ack 1 -> drop tcp_flags
         client FIN-RST seq 1 ack 1 -> drop tcp_flags
         client RST-ACK-URG seq 1 ack 1 -> drop tcp_flags
         client NONE seq 1 -> drop tcp_flags
         client FIN-ACK-URG seq 11 ack 1 -> FIN_WAIT",
    );
}

#[test]
fn loose_window_lets_a_wrong_syn_ack_through() {
    run(
        Run { loose_window: true, ..Run::default() },
        "client SYN seq 0 -> SYN_SENT
         server SYN-ACK seq 0 ack 500000 -> SYN_RECV exceeded
         client FIN-ACK seq 1 ack 1 -> FIN_WAIT exceeded",
    );
}
