//! Every number of queues and workers, and queues that are chosen well or badly, stand what one queue
//! and one worker stand.

use anyhow::{Result, ensure};
use samepath_tests::bed::plan::{Family, NODES};
use samepath_tests::bed::{Bed, SETTLE_SOON, Shape};
use samepath_tests::scenario::split_flow::SplitFlow;
use samepath_tests::scenario::{self, simultaneous, strict};

/// Exchanges of each kind per case: `strict.rs` has more.
const EXCHANGES: usize = 250;

/// Flows per case: `simultaneous.rs` has more.
const FLOWS: usize = 2_000;

/// Which queue the routers' frames reach a node by.
enum Queue {
    /// As the kernel chooses: by hash on the way there, by another one on the way back.
    Natural,
    /// All frames of both directions by the first queue: symmetric.
    AllFirst,
    /// Frames from the client's side by the first queue, from the server's side by the second: no flow has
    /// both directions in one.
    OnePerSide,
}

fn choose_queues(bed: &Bed, queue: &Queue) -> Result<()> {
    let (a, b) = match queue {
        Queue::Natural => return Ok(()),
        Queue::AllFirst => (0, 0),
        Queue::OnePerSide => (0, 1),
    };
    for number in 1..=NODES {
        bed.router_a().send_by_queue(&format!("n{number}"), a)?;
        bed.router_b().send_by_queue(&format!("n{number}"), b)?;
    }
    Ok(())
}

fn stands_everything(name: &str, queues: u32, workers: u32, queue: Queue) -> Result<()> {
    let shape = Shape { queues, workers, ..Shape::default() };
    let mut bed = Bed::new(&format!("queues-{name}"), shape)?;
    choose_queues(&bed, &queue)?;
    scenario::keep_from_hosts(&bed)?;
    let timeouts = ["--timeout", "udp=300", "--timeout", "tcp_syn_sent=300"];
    bed.start_nodes(&[&SETTLE_SOON[..], &timeouts].concat())?;
    SplitFlow { family: Family::V4, vlan: None, number: 1 }.run(&bed)?;
    SplitFlow { family: Family::V6, vlan: None, number: 2 }.run(&bed)?;
    SplitFlow { family: Family::V4, vlan: Some(100), number: 3 }.run(&bed)?;
    let server = strict::serve(&bed)?;
    bed.cut_replication()?;
    strict::exchange(&bed, &server, EXCHANGES)?;
    simultaneous::inject(&bed, FLOWS)?;
    bed.mend_replication()?;
    simultaneous::backed_up_everywhere(&bed, FLOWS)?;
    drop(server);
    every_worker_had_its_share(&bed)?;
    bed.finish()
}

/// Otherwise the case would be that of one worker: each must hold sessions, and packets must have been
/// handed from the core that received them to the one that owns their flow.
fn every_worker_had_its_share(bed: &Bed) -> Result<()> {
    for node in bed.running() {
        let workers = bed.stats(node)?.workers;
        ensure!(workers.len() == bed.shape().workers as usize, "node {node}: {workers:?}");
        if workers.len() == 1 {
            continue;
        }
        ensure!(workers.iter().all(|worker| worker.sessions > 0), "node {node}: {workers:?}");
        let sent: u64 = workers.iter().map(|worker| worker.handoff_tx).sum();
        let taken: u64 = workers.iter().map(|worker| worker.handoff_rx).sum();
        ensure!(sent > 0, "node {node} handed nothing over: {workers:?}");
        ensure!(sent == taken, "node {node} handed {sent} packets over and took {taken}");
    }
    Ok(())
}

#[test]
fn one_queue_two_workers() -> Result<()> {
    stands_everything("1-2", 1, 2, Queue::Natural)
}

#[test]
fn two_queues_one_worker() -> Result<()> {
    stands_everything("2-1", 2, 1, Queue::Natural)
}

#[test]
fn two_queues_two_workers() -> Result<()> {
    stands_everything("2-2", 2, 2, Queue::Natural)
}

#[test]
fn two_queues_two_workers_symmetric() -> Result<()> {
    stands_everything("2-2-symmetric", 2, 2, Queue::AllFirst)
}

#[test]
fn two_queues_two_workers_each_direction_by_another_queue() -> Result<()> {
    stands_everything("2-2-split", 2, 2, Queue::OnePerSide)
}
