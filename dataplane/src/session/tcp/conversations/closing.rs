//! FINs in every order, resets, and new connections on old ports.

use super::after_handshake;

#[test]
fn client_closes_first() {
    after_handshake(
        "client FIN-ACK seq 1 ack 1 -> FIN_WAIT 120s
         server ACK seq 1 ack 2 -> CLOSE_WAIT 60s
         server ACK seq 1 ack 2 len 1000 -> CLOSE_WAIT
         client ACK seq 2 ack 1001 -> CLOSE_WAIT
         server FIN-ACK seq 1001 ack 2 -> LAST_ACK 30s
         client ACK seq 2 ack 1002 -> TIME_WAIT 120s
         client ACK seq 2 ack 1002 -> TIME_WAIT
         server FIN-ACK seq 1001 ack 2 -> TIME_WAIT",
    );
}

#[test]
fn server_closes_first_with_fin_and_ack_in_one() {
    after_handshake(
        "server FIN-ACK seq 1 ack 1 -> FIN_WAIT
         client FIN-ACK seq 1 ack 2 -> LAST_ACK
         server ACK seq 2 ack 2 -> TIME_WAIT",
    );
}

#[test]
fn both_fins_cross() {
    after_handshake(
        "client FIN-ACK seq 1 ack 1 -> FIN_WAIT
         server FIN-ACK seq 1 ack 1 -> LAST_ACK
         server ACK seq 2 ack 2 -> LAST_ACK
         client ACK seq 2 ack 2 -> TIME_WAIT",
    );
}

#[test]
fn a_fin_and_the_others_ack_cross() {
    // The server's ACK of old data was on its way when the client's FIN passed.
    after_handshake(
        "client ACK seq 1 ack 1 len 100 -> ESTABLISHED
         client FIN-ACK seq 101 ack 1 -> FIN_WAIT
         server ACK seq 1 ack 101 -> FIN_WAIT
         server ACK seq 1 ack 102 -> CLOSE_WAIT",
    );
    // The FIN overtakes the data before it.
    after_handshake(
        "server FIN-ACK seq 2921 ack 1 -> FIN_WAIT
         server ACK seq 1 ack 1 len 1460 -> FIN_WAIT
         server ACK seq 1461 ack 1 len 1460 -> FIN_WAIT
         client ACK seq 1 ack 1461 -> FIN_WAIT
         client ACK seq 1 ack 2922 -> CLOSE_WAIT",
    );
    // The last ACK overtakes the FIN it answers: only the FIN's own ACK ends it.
    after_handshake(
        "client FIN-ACK seq 1 ack 1 -> FIN_WAIT
         server ACK seq 1 ack 2 -> CLOSE_WAIT
         client ACK seq 2 ack 2 -> CLOSE_WAIT
         server FIN-ACK seq 1 ack 2 -> LAST_ACK
         client ACK seq 2 ack 2 -> TIME_WAIT",
    );
}

#[test]
fn repeated_fins() {
    after_handshake(
        "client FIN-ACK seq 1 ack 1 -> FIN_WAIT
         client FIN-ACK seq 1 ack 1 -> FIN_WAIT
         server ACK seq 1 ack 2 -> CLOSE_WAIT
         client FIN-ACK seq 1 ack 1 -> CLOSE_WAIT
         server FIN-ACK seq 1 ack 2 -> LAST_ACK
         server FIN-ACK seq 1 ack 2 -> LAST_ACK
         client ACK seq 2 ack 2 -> TIME_WAIT",
    );
}

#[test]
fn exact_reset_closes_at_once() {
    after_handshake(
        "client ACK seq 1 ack 1 len 100 -> ESTABLISHED
         client RST seq 101 -> CLOSE 10s
         server ACK seq 1 ack 101 len 10 -> CLOSE 10s
         client RST seq 101 -> CLOSE",
    );
    after_handshake(
        "server RST-ACK seq 1 ack 1 -> CLOSE
         client SYN seq 9999 -> reopen SYN_SENT",
    );
    after_handshake("server RST-ACK seq 1 ack zero -> CLOSE");
}

#[test]
fn reset_within_the_window_is_left_to_its_receiver() {
    // It challenges: the session lives on.
    after_handshake(
        "client RST seq 1001 -> ESTABLISHED 10s
         server ACK seq 1 ack 1 -> ESTABLISHED 432000s
         client ACK seq 1 ack 1 len 5 -> ESTABLISHED 300s",
    );
    // The challenge is answered with an exact one.
    after_handshake(
        "client RST seq 1001 -> ESTABLISHED 10s
         server ACK seq 1 ack 1 -> ESTABLISHED
         client RST seq 1 -> CLOSE",
    );
}

#[test]
fn reset_outside_the_window_is_dropped() {
    after_handshake(
        "client RST seq 90000000 -> drop tcp_window
         client RST seq -90000000 -> drop tcp_window
         server RST-ACK seq 1 ack 90000000 -> drop tcp_window
         client FIN-ACK seq 1 ack 1 -> FIN_WAIT
         server RST seq 90000000 -> drop tcp_window
         server RST seq 1 -> CLOSE",
    );
}

#[test]
fn client_resets_data_that_arrives_after_its_close() {
    after_handshake(
        "client FIN-ACK seq 1 ack 1 -> FIN_WAIT
         server ACK seq 1 ack 2 len 1460 -> CLOSE_WAIT
         client RST seq 2 -> CLOSE",
    );
}

#[test]
fn syn_reopens_a_closed_connection() {
    const CLOSED: &str = "
        client FIN-ACK seq 1 ack 1 -> FIN_WAIT
        server FIN-ACK seq 1 ack 2 -> LAST_ACK
        client ACK seq 2 ack 2 -> TIME_WAIT
    ";
    after_handshake(&format!(
        "{CLOSED}
         client SYN seq 70000 window 64240 scale 7 -> reopen SYN_SENT 120s
         server SYN-ACK seq 90000 ack 70001 window 64240 scale 7 -> SYN_RECV
         client ACK seq 70001 ack 90001 -> ESTABLISHED"
    ));
    // A late copy of the first SYN is no new connection.
    after_handshake(&format!(
        "{CLOSED}
         client SYN seq 0 window 64240 scale 7 -> TIME_WAIT unmoved"
    ));
    // Either end may open the next one on the same ports; the caller asks policy again.
    after_handshake(&format!(
        "{CLOSED}
         server SYN seq 70000 -> reopen SYN_SENT
         client SYN-ACK seq 90000 ack 70001 -> SYN_RECV
         server ACK seq 70001 ack 90001 -> ESTABLISHED"
    ));
}

#[test]
fn syn_on_a_closing_connection_is_believed_when_the_server_agrees() {
    after_handshake(
        "client FIN-ACK seq 1 ack 1 -> FIN_WAIT
         server FIN-ACK seq 1 ack 2 -> LAST_ACK
         client SYN seq 70000 window 64240 scale 7 sack -> LAST_ACK unmoved
         server SYN-ACK seq 90000 ack 70001 window 64240 scale 7 sack -> SYN_RECV
         client ACK seq 70001 ack 90001 -> ESTABLISHED
         server ACK seq 90001 ack 70001 len 1000 -> ESTABLISHED",
    );
}
