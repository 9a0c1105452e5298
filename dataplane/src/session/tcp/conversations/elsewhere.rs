//! The SYN was seen here, and what followed by another Owner that is gone.

use super::strict;

#[test]
fn the_server_acknowledges_the_syn_whose_answer_was_not_seen() {
    strict(
        "client SYN seq 0 window 64240 scale 7 sack -> SYN_SENT
         server ACK seq 1 ack 1 len 100 window 500 -> SYN_RECV 60s
         client ACK seq 1 ack 101 window 502 -> ESTABLISHED 432000s
         server ACK seq 101 ack 1 sacked 1001 window 500 -> ESTABLISHED
         client ACK seq 1 ack 101 len 1400 window 502 -> ESTABLISHED
         client RST seq 900000000 -> drop tcp_window
         client FIN-ACK seq 1401 ack 101 -> FIN_WAIT",
    );
    // What it sends again is older than what the client has long acknowledged.
    strict(
        "client SYN seq 0 window 64240 scale 7 -> SYN_SENT
         server ACK seq 1 ack 1 len 100 -> SYN_RECV
         client ACK seq 1 ack 900000000 -> ESTABLISHED
         server ACK seq 900000000 ack 1 len 100 -> ESTABLISHED",
    );
    // Windows may be scaled if the SYN offered it.
    for (offer, verdict) in [("scale 7", "ESTABLISHED"), ("", "drop tcp_window")] {
        strict(&format!(
            "client SYN seq 0 window 1000 {offer} -> SYN_SENT
             server ACK seq 1 ack 1 window 1000 -> SYN_RECV
             client ACK seq 1 ack 1 window 1000 -> ESTABLISHED
             server RST seq 5000 -> {verdict}"
        ));
    }
}

#[test]
fn the_server_closes_before_its_answer_was_seen() {
    strict(
        "client SYN seq 0 -> SYN_SENT
         server FIN-ACK seq 1 ack 1 -> FIN_WAIT 120s
         client FIN-ACK seq 1 ack 2 -> LAST_ACK
         server ACK seq 2 ack 2 -> TIME_WAIT",
    );
}

#[test]
fn the_late_syn_ack_changes_nothing() {
    strict(
        "client SYN seq 0 window 64240 scale 7 -> SYN_SENT
         client ACK seq 1 ack 1 -> SYN_SENT unmoved
         server ACK seq 1 ack 1 len 100 -> SYN_RECV
         server SYN-ACK seq 0 ack 1 window 65160 scale 7 -> SYN_RECV
         client ACK seq 1 ack 101 -> ESTABLISHED
         server SYN-ACK seq 0 ack 1 window 65160 scale 7 -> ESTABLISHED unmoved",
    );
}

#[test]
fn both_ends_are_further_than_the_syn() {
    // The client goes on where the server says it is: had this been a challenge, it had reset.
    strict(
        "client SYN seq 0 window 64240 scale 7 -> SYN_SENT
         client ACK seq 41 ack 9 len 10 -> SYN_SENT unmoved
         server ACK seq 9 ack 41 len 10 -> SYN_SENT unmoved
         client ACK seq 51 ack 19 -> SYN_SENT unmoved
         client ACK seq 41 ack 19 len 10 -> ESTABLISHED 300s
         server ACK seq 19 ack 51 -> ESTABLISHED 432000s
         client ACK seq 51 ack 19 -> ESTABLISHED",
    );
    // However far, and whatever the SYN was: it may be that of an older connection of the same ports.
    strict(
        "client SYN seq 0 -> SYN_SENT
         client ACK seq 900000000 ack 1 -> drop tcp_flags
         server ACK seq 700000000 ack 900000000 -> SYN_SENT unmoved
         client ACK seq 899999999 ack 700000000 -> drop tcp_flags
         client ACK seq 900000000 ack 700000000 len 10 -> ESTABLISHED
         server ACK seq 700000000 ack 900000010 -> ESTABLISHED",
    );
    strict(
        "client SYN seq 0 -> SYN_SENT
         server FIN-ACK seq 7000 ack 9000000 -> SYN_SENT unmoved
         client FIN-ACK seq 9000000 ack 7001 -> FIN_WAIT",
    );
}

#[test]
fn a_challenge_is_no_proof() {
    // RFC 5961: the server has an older connection and says where it is. Only its client agrees with that.
    strict(
        "client SYN seq 0 -> SYN_SENT
         server ACK seq 4000000 ack 3000000 -> SYN_SENT unmoved
         client SYN seq 0 -> SYN_SENT
         server ACK seq 4000000 ack 3000000 -> SYN_SENT unmoved
         client ACK seq 2999999 ack 4000000 -> SYN_SENT unmoved
         client SYN seq 3000000 -> SYN_SENT
         server ACK seq 4000000 ack 3000000 -> SYN_SENT unmoved
         client RST seq 3000000 -> CLOSE
         client SYN seq 0 -> reopen SYN_SENT",
    );
    // One beyond the SYN is no acknowledgement of it, one before neither.
    strict(
        "client SYN seq 0 -> SYN_SENT
         server ACK seq 500 ack 2 -> SYN_SENT unmoved
         server ACK seq 500 ack 0 -> SYN_SENT unmoved
         server SYN-ACK seq 0 ack 1 -> SYN_RECV",
    );
}
