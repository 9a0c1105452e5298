//! The lab over many seeds, and the seeds that have shown real bugs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use samepath_tests::lab;

/// Seeds of every `make test`.
const SEEDS: u64 = 1_500;

fn play(seeds: &[u64]) {
    for &seed in seeds {
        if let Err(failure) = lab::run(seed, false) {
            panic!("{failure}");
        }
    }
}

#[test]
fn the_promises_hold_in_1500_seeds() {
    let next = AtomicU64::new(1);
    let failures = Mutex::new(Vec::new());
    let takeovers = AtomicU64::new(0);
    let conflicts = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let seed @ ..=SEEDS = next.fetch_add(1, Relaxed) {
                    match lab::run(seed, false) {
                        Ok(outcome) => {
                            takeovers.fetch_add(outcome.takeovers, Relaxed);
                            conflicts.fetch_add(outcome.conflicts, Relaxed);
                        }
                        Err(failure) => failures.lock().expect("no thread panics").push(failure.to_string()),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panics");
    assert!(failures.is_empty(), "{} seeds fail:\n{}", failures.len(), failures.join("\n"));
    // The mix of faults is worth its time only if it meets them.
    let (takeovers, conflicts) = (takeovers.into_inner(), conflicts.into_inner());
    assert!(takeovers > 750 && conflicts > 375, "{takeovers} takeovers, {conflicts} conflicts");
}

#[test]
fn a_seed_is_the_same_every_time() {
    for seed in [3, 16, 31] {
        let [one, other] = [(); 2].map(|()| lab::run(seed, false).expect("it keeps the promises"));
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
    }
}

/// Duty moved while a record was late: a second Owner, or a reply dropped.
#[test]
fn the_former_director_is_asked() {
    play(&[5, 13, 26, 41, 59, 65]);
}

/// Duty moved twice among nodes that become ready, and another node had come to it by another way.
#[test]
fn all_former_directors_are_asked() {
    play(&[134, 404]);
}

/// The Director granted a takeover to a node that was just asking about the same flow itself.
#[test]
fn two_questions_that_cross_have_one_answer() {
    play(&[295, 133]);
}

/// A takeover was granted and the answer lost, while the Owner thought dead lived on.
#[test]
fn a_grant_not_taken_up_does_not_outlive_the_owner() {
    play(&[31, 222, 456, 496]);
}

/// The grant was lost, and the Owner began with the lower generation it knew of.
#[test]
fn a_director_believes_the_owner_its_claim_names() {
    play(&[3064, 3814]);
}

/// A Query came back to the node that had asked: it granted the flow to itself and tunnelled to nobody.
#[test]
fn a_node_does_not_tunnel_to_itself() {
    play(&[323]);
}

/// The new Owner had seen less of the handshake, or of the windows, than the old one.
#[test]
fn the_winner_of_two_owners_learns_what_the_loser_saw() {
    play(&[24, 144, 169, 189, 345, 376, 482]);
}

/// The only node that still knew a flow was neither its Director nor on its path.
#[test]
fn a_session_nobody_owns_is_adopted() {
    play(&[466, 544]);
}

/// An Owner that restarted began anew with the generation its peers remembered.
#[test]
fn what_an_owner_said_last_is_what_it_has() {
    play(&[28, 30, 42, 99]);
}

/// An Owner had seen only the SYN; another one, now gone, what followed: it dropped the client's segments for good.
#[test]
fn an_owner_learns_that_a_connection_was_opened_elsewhere() {
    play(&[384, 771, 1515]);
}

/// As before, but only the client spoke to the new Owner, once, and was then silent for long.
#[test]
fn an_owner_believes_a_client_that_another_owner_has_heard() {
    play(&[2825]);
}

/// A node granted a flow to another while it was granted the same flow itself.
#[test]
fn two_grants_that_cross_have_two_generations() {
    play(&[1886]);
}

/// A node began a flow because the new Director supposed that it was its Owner; a third had been granted it.
#[test]
fn a_supposed_owner_outranks_a_grant_nobody_took_up() {
    play(&[592]);
}

/// The one node that knew a flow was the last of many, and waited as many seconds before it owned the flow.
#[test]
fn the_last_of_many_nodes_does_not_wait_long() {
    play(&[386, 2639]);
}

/// A late record of an Owner thought dead undid the grant of its flow, whose generation was then given a second time.
#[test]
fn a_generation_is_granted_once() {
    play(&[9442]);
}
