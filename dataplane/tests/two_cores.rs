//! Two cores of one node over plain memory: any packet may arrive at any core, its flow lives on one.

mod cluster;

use std::sync::Arc;

use cluster::{Core, INSIDE, OUTSIDE, hosts, lone_settings, udp};
use samepath_dataplane::tuning::Tuning;
use samepath_dataplane::xsk::Waker;

/// Both cores of a node without peers; `sends` says which of them have rings to send by.
fn cores(sends: [bool; 2]) -> [Core; 2] {
    let wakers = [Arc::new(Waker::new().unwrap()), Arc::new(Waker::new().unwrap())];
    Core::pair(&wakers, sends, &lone_settings())
}

fn settle(cores: &mut [Core; 2]) {
    while cores.iter_mut().map(Core::turn).fold(false, |any, moved| any | moved) {}
}

fn sum(cores: &[Core; 2], value: impl Fn(&Core) -> u64) -> u64 {
    cores.iter().map(value).sum()
}

#[test]
fn both_directions_meet_on_one_core_wherever_they_arrive() {
    let mut cores = cores([true, true]);
    for port in 0..100u16 {
        let (client, server) = hosts(1, usize::from(port));
        cores[usize::from(port) % 2].arrive(INSIDE, &udp((client, port), (server, 53)));
        cores[1].arrive(OUTSIDE, &udp((server, 53), (client, port)));
    }
    settle(&mut cores);
    assert_eq!(sum(&cores, |core| core.counters.sessions_owner.get()), 100, "one session a flow");
    assert!(cores.iter().all(|core| core.counters.sessions_owner.get() > 20), "both cores have their share");
    assert_eq!(sum(&cores, |core| core.sent().len() as u64), 200);
    assert!(sum(&cores, |core| core.counters.handoff_tx.get()) > 50);
    cluster::check_frames(&cores);
}

#[test]
fn a_core_without_rings_sends_through_the_other() {
    let mut cores = cores([true, false]);
    for port in 0..100u16 {
        let (client, server) = hosts(1, usize::from(port));
        cores[0].arrive(INSIDE, &udp((client, port), (server, 53)));
    }
    settle(&mut cores);
    assert!(cores[1].counters.sessions_owner.get() > 20, "it works on its flows all the same");
    assert_eq!(cores[0].sent().len(), 100);
    assert_eq!(cores[1].sent().len(), 0);
    cluster::check_frames(&cores);
}

#[test]
fn a_turn_takes_a_batch_from_a_ring_and_no_more() {
    for batch in [1, 7, 64] {
        let wakers = [Arc::new(Waker::new().unwrap()), Arc::new(Waker::new().unwrap())];
        let tuning = Tuning { batch, ..Tuning::default() };
        let [mut core, _] = Core::tuned_pair(&wakers, [true, true], &lone_settings(), tuning);
        for port in 0..100u16 {
            let (client, server) = hosts(1, usize::from(port));
            core.arrive(INSIDE, &udp((client, port), (server, 53)));
        }
        core.turn();
        assert_eq!(core.counters.rx.get(), batch as u64);
        core.turn();
        assert_eq!(core.counters.rx.get(), (2 * batch as u64).min(100));
    }
}
