//! Segments that cannot be right as we see it, but the ends may know better.

use super::{after_handshake, strict};

#[test]
fn invented_syn_does_not_kill_a_connection() {
    after_handshake(
        "client SYN seq 5000000 -> ESTABLISHED unmoved
         server ACK seq 1 ack 1 -> ESTABLISHED
         client ACK seq 1 ack 1 len 100 -> ESTABLISHED
         server ACK seq 1 ack 101 -> ESTABLISHED
         server SYN seq 5000000 -> drop tcp_flags
         client SYN-ACK seq 5 ack 5 -> ESTABLISHED unmoved",
    );
}

#[test]
fn client_restarts_and_the_server_challenges() {
    // RFC 9293 section 3.5.1: the challenge makes the client reset the old connection, then it tries again.
    after_handshake(
        "client ACK seq 1 ack 1 len 100 -> ESTABLISHED
         server ACK seq 1 ack 101 -> ESTABLISHED
         client SYN seq 5000000 -> ESTABLISHED unmoved
         server ACK seq 1 ack 101 -> ESTABLISHED
         client RST seq 101 -> CLOSE
         client SYN seq 5000000 -> reopen SYN_SENT
         server SYN-ACK seq 800 ack 5000001 -> SYN_RECV",
    );
}

#[test]
fn both_restart_and_agree() {
    after_handshake(
        "client SYN seq 5000000 window 1000 scale 2 sack -> ESTABLISHED unmoved
         server SYN-ACK seq 7000000 ack 5000001 window 2000 scale 3 sack -> SYN_RECV 60s
         client ACK seq 5000001 ack 7000001 window 1000 -> ESTABLISHED
         server ACK seq 7000001 ack 5000001 len 4000 -> ESTABLISHED
         client ACK seq 5000001 ack 7004001 window 1000 -> ESTABLISHED
         client ACK seq 1 ack 1 len 10 -> drop tcp_window",
    );
}

#[test]
fn late_copies_of_the_handshake_change_nothing() {
    // Taken for a new handshake they would forget 3000 bytes and their window of 10.
    strict(
        "client SYN seq 0 window 10 -> SYN_SENT
         server SYN-ACK seq 0 ack 1 window 10 -> SYN_RECV
         client ACK seq 1 ack 1 len 10 window 10 -> ESTABLISHED
         server ACK seq 1 ack 11 len 10 window 3000 -> ESTABLISHED
         client ACK seq 11 ack 11 len 3000 window 10 -> ESTABLISHED
         client SYN seq 0 window 10 -> ESTABLISHED unmoved
         server SYN-ACK seq 0 ack 1 window 10 -> ESTABLISHED unmoved
         server ACK seq 11 ack 3011 window 3000 -> ESTABLISHED
         client ACK seq 3011 ack 11 len 3000 window 10 -> ESTABLISHED",
    );
}

#[test]
fn syn_ack_that_answers_another_syn_changes_nothing() {
    after_handshake(
        "client SYN seq 5000000 -> ESTABLISHED unmoved
         server SYN-ACK seq 7000000 ack 5000002 -> ESTABLISHED unmoved
         client ACK seq 1 ack 1 len 100 -> ESTABLISHED",
    );
}

#[test]
fn server_restarted_and_refuses_the_new_syn() {
    after_handshake(
        "client SYN seq 5000000 -> ESTABLISHED unmoved
         server RST-ACK seq zero ack 5000001 -> CLOSE
         client SYN seq 6000000 -> reopen SYN_SENT",
    );
    // Refusing some other SYN proves nothing.
    after_handshake(
        "client SYN seq 5000000 -> ESTABLISHED unmoved
         server RST-ACK seq 90000000 ack 6000001 -> drop tcp_window",
    );
}

#[test]
fn server_still_holds_a_connection_we_forgot() {
    strict(
        "client SYN seq 0 -> SYN_SENT
         server ACK seq 4000000 ack 3000000 -> SYN_SENT unmoved
         client RST seq 2999999 -> drop tcp_window
         client RST seq 3000000 -> CLOSE 10s
         client SYN seq 0 -> reopen SYN_SENT
         server SYN-ACK seq 0 ack 1 -> SYN_RECV",
    );
}

#[test]
fn unanswered_repeats_shorten_the_idle_time() {
    after_handshake(
        "client ACK seq 1 ack 1 len 100 -> ESTABLISHED 300s
         server ACK seq 1 ack 101 -> ESTABLISHED 432000s
         client ACK seq 100 ack 1 -> ESTABLISHED 432000s
         client ACK seq 100 ack 1 -> ESTABLISHED 432000s
         client ACK seq 100 ack 1 -> ESTABLISHED 432000s
         client ACK seq 100 ack 1 -> ESTABLISHED 300s
         client ACK seq 100 ack 1 -> ESTABLISHED 300s
         server ACK seq 1 ack 101 -> ESTABLISHED 432000s",
    );
}

#[test]
fn a_closed_window_shortens_the_idle_time() {
    after_handshake(
        "client ACK seq 1 ack 1 window 0 -> ESTABLISHED 300s
         server ACK seq 1 ack 1 len 1 -> ESTABLISHED 300s
         client ACK seq 1 ack 2 window 0 -> ESTABLISHED 300s
         client ACK seq 1 ack 2 window 10 -> ESTABLISHED 432000s",
    );
}
