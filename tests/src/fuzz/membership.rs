//! The membership decoder: datagrams of peers, and what an etcd answers.

use samepath::membership::etcd::read_registry;
use samepath::membership::row::Row;
use samepath::membership::{Membership, MembershipConfig};
use samepath_dataplane::clock::NowMs;
use samepath_dataplane::counters::Told;
use samepath_dataplane::flow::NodeId;

use super::Bytes;

/// Datagrams or answers in one input: what foca forgets only after an hour must not count as a leak.
const MESSAGES: usize = 64;

/// The first byte says what follows: datagrams of nodes 2 to 5, each with its length, or one answer of etcd.
pub fn membership(input: &[u8]) {
    let mut bytes = Bytes(input);
    let mut machine = machine();
    let mut now = NowMs(1_000);
    for node in (2..=5).map(NodeId) {
        machine.evidence_mut().connected(node);
        machine.handle_hello(node, now, Told { weight: 1, hears_me: true, epoch: 1, key: 1 });
    }
    if bytes.byte().is_multiple_of(2) {
        for _ in 0..MESSAGES {
            if bytes.is_empty() {
                break;
            }
            let from = NodeId(2 + u16::from(bytes.byte() % 4));
            let datagram = bytes.string(1_500);
            if let Some(row) = Row::decode(datagram) {
                assert_eq!(Row::decode(&row.encode()), Some(row), "a row that was read is written as it was");
            }
            machine.handle_message(from, datagram, now);
            now = now.plus(20);
            turn(&mut machine, now);
        }
    } else if let Ok(answer) = serde_json::from_slice(bytes.0)
        && let Ok(registry) = read_registry(&answer)
    {
        machine.handle_registry(&registry, now);
        turn(&mut machine, now);
    }
    let standing = machine.standing();
    assert!(
        standing.members.iter().all(|one| (1..=5).contains(&one.node.0)),
        "only configured nodes are members"
    );
}

fn machine() -> Membership {
    Membership::new(MembershipConfig {
        node: NodeId(1),
        peers: (2..=5).map(NodeId).collect(),
        started: 1,
        timeout_ms: 800,
        hello_interval_ms: 100,
        quorum: 2,
        seed: 1,
    })
}

fn turn(machine: &mut Membership, now: NowMs) {
    machine.handle_timeout(now);
    machine.poll_standing();
    // As many as there may be waiting.
    let sent = std::iter::from_fn(|| machine.poll_message()).take(4096).count();
    assert!(sent < 4096, "one turn says no end of things");
}
