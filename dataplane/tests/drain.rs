//! A node drains: its sessions move to peers, and nothing of their traffic is lost.

mod cluster;

use cluster::{ACK, Cluster, INSIDE, OUTSIDE, hosts, tcp, udp};
use samepath_dataplane::session::{Role, Session};
use samepath_dataplane::verdict::DropReason;

fn owners(cluster: &mut Cluster, node: u16) -> Vec<Session> {
    let mut sessions = cluster.sessions(node);
    sessions.retain(|one| one.role == Role::Owner);
    sessions
}

#[test]
fn sessions_move_to_their_directors_and_their_packets_pass_all_the_while() {
    let mut cluster = Cluster::new();
    let flows: Vec<_> = (0..30).map(|nth| hosts(1 + nth as u16 % 3, nth)).collect();
    for &(client, server) in &flows {
        cluster.establish(client, server);
    }
    let all = owners(&mut cluster, 1).len();
    assert_eq!(all, 30);
    cluster.delivered.clear();
    cluster.drain(1);
    // Packets of both directions while it moves: after every turn of every node.
    for &(client, server) in &flows {
        cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), ACK, 101, 501));
        cluster.arrive(3, OUTSIDE, &tcp((server, 80), (client, 1000), ACK, 501, 101));
        for index in 0..3 {
            cluster.step(index);
        }
    }
    cluster.settle();
    for id in 1..=3 {
        for reason in DropReason::ALL {
            assert_eq!(cluster.drops(id, *reason), 0, "node {id} drops for {reason:?}");
        }
    }
    assert_eq!(cluster.delivered.len(), 60, "no packet is lost");
    assert_eq!(owners(&mut cluster, 1), [], "nothing is left");
    let moved: Vec<Session> = [2, 3].into_iter().flat_map(|node| owners(&mut cluster, node)).collect();
    assert_eq!(moved.len(), 30);
    assert!(moved.iter().all(|one| one.generation.0 == 2), "one generation higher");
    assert_eq!(cluster.node(1).counters.handed_over.get(), 30);
    assert_eq!(cluster.node(1).counters.conflicts_lost.get(), 0, "a drain is no conflict");
    cluster.check_accounts();
}

#[test]
fn flows_that_begin_at_a_draining_node_belong_to_their_directors() {
    let mut cluster = Cluster::new();
    cluster.drain(1);
    for nth in 0..20 {
        let (client, server) = hosts(1 + nth as u16 % 3, nth);
        cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 53)));
    }
    cluster.settle();
    assert_eq!(cluster.delivered.len(), 20, "they are served");
    assert_eq!(owners(&mut cluster, 1), []);
    assert_eq!(owners(&mut cluster, 2).len() + owners(&mut cluster, 3).len(), 20);
    cluster.check_accounts();
}

#[test]
fn a_session_nobody_can_take_stays_and_is_offered_again() {
    let mut cluster = Cluster::new();
    let (client, server) = hosts(2, 0);
    cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 53)));
    cluster.settle();
    cluster.replication = false;
    cluster.drain(1);
    cluster.settle();
    assert_eq!(owners(&mut cluster, 1).len(), 1, "the offer was lost");
    cluster.replication = true;
    cluster.drain(1);
    cluster.settle();
    assert_eq!(owners(&mut cluster, 1), []);
    assert_eq!(owners(&mut cluster, 2).len() + owners(&mut cluster, 3).len(), 1);
}

#[test]
fn a_dead_owners_flow_that_a_draining_node_meets_is_taken_over_by_its_director() {
    let mut cluster = Cluster::new();
    let (client, server) = hosts(2, 0);
    cluster.arrive(3, INSIDE, &udp((client, 1000), (server, 53)));
    cluster.settle();
    cluster.set_live(&[1, 2]);
    cluster.drain(1);
    cluster.delivered.clear();
    cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 53)));
    cluster.settle();
    assert_eq!(cluster.delivered.len(), 1);
    assert_eq!(owners(&mut cluster, 2).len(), 1);
    assert_eq!(owners(&mut cluster, 1), []);
}
