//! The protocol on three whole workers in one thread: who owns, who forwards, what crosses the link.

mod cluster;

use cluster::{ACK, Cluster, Crossing, INSIDE, OUTSIDE, SYN, hosts, lone_settings, tcp, udp};
use samepath_dataplane::flow::{Generation, NodeId};
use samepath_dataplane::mailbox::ToWorker;
use samepath_dataplane::session::wheel::TICK_MS;
use samepath_dataplane::session::{Role, Session, State};
use samepath_dataplane::settings::Settings;
use samepath_dataplane::verdict::DropReason;
use samepath_dataplane::wire::record::Record;
use samepath_dataplane::wire::tunnel::TunnelKind::{FirstPacket, Query, Redirect};
use samepath_dataplane::wire::tunnel::TunnelOption;

fn crossing(from: u16, to: u16, kind: samepath_dataplane::wire::tunnel::TunnelKind) -> Crossing {
    Crossing { from, to, kind }
}

fn roles(cluster: &mut Cluster) -> Vec<Option<(Role, u16, u32)>> {
    (1..=3)
        .map(|id| {
            let sessions = cluster.sessions(id);
            assert!(sessions.len() <= 1, "one flow, one session");
            sessions.first().map(|one| (one.role, one.owner.0, one.generation.0))
        })
        .collect()
}

#[test]
fn first_packet_goes_to_the_director_and_back_and_the_ingress_owns() {
    let mut cluster = Cluster::new();
    let (client, server) = hosts(2, 0);
    cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 53)));
    cluster.settle();
    assert_eq!(cluster.crossings, [crossing(1, 2, Query), crossing(2, 1, FirstPacket)]);
    assert_eq!(cluster.delivered.len(), 1);
    assert_eq!((cluster.delivered[0].0, cluster.delivered[0].1), (1, OUTSIDE));
    assert_eq!(
        roles(&mut cluster),
        [Some((Role::Owner, 1, 1)), Some((Role::Backup, 1, 1)), Some((Role::Backup, 1, 1))]
    );
    cluster.check_accounts();
}

#[test]
fn a_reply_before_the_backup_goes_by_the_director_to_the_owner() {
    let mut cluster = Cluster::new();
    cluster.replication = false;
    let (client, server) = hosts(2, 0);
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), SYN, 100, 0));
    cluster.settle();
    cluster.crossings.clear();
    cluster.arrive(3, OUTSIDE, &tcp((server, 80), (client, 1000), SYN | ACK, 500, 101));
    cluster.settle();
    assert_eq!(cluster.crossings, [crossing(3, 2, Query), crossing(2, 1, Redirect)]);
    assert_eq!(
        (cluster.delivered[1].0, cluster.delivered[1].1),
        (1, INSIDE),
        "the Owner sends it to the client"
    );
    assert_eq!(roles(&mut cluster), [Some((Role::Owner, 1, 1)), Some((Role::Claim, 1, 1)), None]);
    cluster.check_accounts();
}

#[test]
fn with_the_backup_in_place_a_reply_goes_straight_to_the_owner() {
    let mut cluster = Cluster::new();
    let (client, server) = hosts(2, 0);
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), SYN, 100, 0));
    cluster.settle();
    cluster.crossings.clear();
    cluster.arrive(3, OUTSIDE, &tcp((server, 80), (client, 1000), SYN | ACK, 500, 101));
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), ACK, 101, 501));
    cluster.settle();
    assert_eq!(cluster.crossings, [crossing(3, 1, Redirect)]);
    let owned = cluster.sessions(1);
    assert!(matches!(owned[0].state, State::TcpSynRecv | State::TcpEstablished));
    cluster.check_accounts();
}

#[test]
fn a_tunnelled_packet_is_forwarded_as_it_arrived_but_for_ttl_and_link_addresses() {
    let mut cluster = Cluster::new();
    let (client, server) = hosts(2, 0);
    let sent = udp((client, 1000), (server, 53));
    cluster.arrive(1, INSIDE, &sent);
    cluster.settle();
    let got = &cluster.delivered[0].2;
    assert_eq!(got[14..22], sent[14..22]);
    assert_eq!(got[22], sent[22] - 1, "TTL");
    assert_eq!(got[26..], sent[26..]);
}

#[test]
fn simultaneous_first_packets_from_both_ends_get_one_owner() {
    let mut cluster = Cluster::new();
    for nth in 0..200 {
        let (client, server) = hosts(1 + nth as u16 % 3, nth);
        cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 53)));
        cluster.arrive(3, OUTSIDE, &udp((server, 53), (client, 1000)));
        cluster.arrive(2, INSIDE, &udp((client, 1000), (server, 53)));
    }
    cluster.settle();
    assert_eq!(cluster.delivered.len(), 600, "no packet is lost");
    let owners: usize =
        (1..=3).map(|id| cluster.sessions(id).iter().filter(|one| one.role == Role::Owner).count()).sum();
    assert_eq!(owners, 200);
    cluster.check_accounts();
}

#[test]
fn aggregation_off_drops_the_stray_reply_and_says_why() {
    let mut cluster = Cluster::new();
    cluster.set_aggregation(false);
    let (client, server) = hosts(2, 0);
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), SYN, 100, 0));
    cluster.arrive(3, OUTSIDE, &tcp((server, 80), (client, 1000), SYN | ACK, 500, 101));
    cluster.settle();
    assert_eq!(cluster.crossings, [], "off costs nothing");
    assert_eq!(cluster.drops(3, DropReason::NoSession), 1);
    assert_eq!(roles(&mut cluster), [Some((Role::Owner, 1, 1)), None, None]);
    cluster.set_aggregation(true);
    assert_eq!(roles(&mut cluster)[2], Some((Role::Backup, 1, 1)), "switched on, Owners tell what they have");
    cluster.check_accounts();
}

#[test]
fn a_segment_nobody_knows_is_no_first_packet() {
    let mut cluster = Cluster::new();
    let (client, server) = hosts(2, 0);
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), ACK, 100, 7));
    cluster.settle();
    assert_eq!(cluster.crossings, [crossing(1, 2, Query)]);
    assert_eq!(cluster.drops(2, DropReason::NoSession), 1);
    assert_eq!(roles(&mut cluster), [None, None, None]);
    cluster.check_accounts();
}

#[test]
fn the_ingress_takes_over_when_the_owner_dies_and_generations_rise() {
    let mut cluster = Cluster::new();
    let (client, server) = hosts(2, 0);
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), SYN, 100, 0));
    cluster.arrive(3, OUTSIDE, &tcp((server, 80), (client, 1000), SYN | ACK, 500, 101));
    cluster.settle();
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), ACK, 101, 501));
    cluster.settle();
    cluster.set_live(&[2, 3]);
    cluster.delivered.clear();
    cluster.arrive(3, OUTSIDE, &tcp((server, 80), (client, 1000), ACK, 501, 101));
    cluster.settle();
    assert_eq!(cluster.delivered.len(), 1, "the flow goes on");
    let now = cluster.sessions(3);
    assert_eq!((now[0].role, now[0].owner, now[0].generation), (Role::Owner, NodeId(3), Generation(2)));
    assert_eq!(now[0].state, State::TcpEstablished);
    let backup = cluster.sessions(2);
    assert_eq!(
        (backup[0].role, backup[0].owner, backup[0].generation),
        (Role::Backup, NodeId(3), Generation(2))
    );
    assert_eq!(cluster.node(3).counters.takeovers.get(), 1);
}

/// A TCP connection through nodes 1 (its Owner) and 3, established and backed up everywhere.
fn established(cluster: &mut Cluster, director: u16) -> (std::net::Ipv4Addr, std::net::Ipv4Addr) {
    let (client, server) = hosts(director, 0);
    cluster.establish(client, server);
    assert_eq!(roles(cluster)[0], Some((Role::Owner, 1, 1)));
    cluster.delivered.clear();
    cluster.crossings.clear();
    (client, server)
}

#[test]
fn flows_of_an_owner_that_restarts_get_their_director_as_owner_and_go_on() {
    let mut cluster = Cluster::new();
    let (client, server) = established(&mut cluster, 2);
    cluster.restart(1);
    assert_eq!(
        roles(&mut cluster),
        [Some((Role::Backup, 2, 2)), Some((Role::Owner, 2, 2)), Some((Role::Backup, 2, 2))]
    );
    cluster.arrive(3, OUTSIDE, &tcp((server, 80), (client, 1000), ACK, 501, 101));
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), ACK, 101, 501));
    cluster.settle();
    assert_eq!(cluster.delivered.len(), 2, "both directions go on: {:?}", cluster.crossings);
    cluster.check_accounts();
}

#[test]
fn a_director_that_knows_nothing_grants_a_flow_whose_ingress_knows_its_dead_owner() {
    let mut cluster = Cluster::new();
    let (client, server) = established(&mut cluster, 2);
    // Node 2 begins anew and has its duty back before anybody told it of sessions; then node 1 dies.
    cluster.replication = false;
    cluster.restart(2);
    cluster.set_live(&[2, 3]);
    cluster.delivered.clear();
    cluster.crossings.clear();
    cluster.arrive(3, OUTSIDE, &tcp((server, 80), (client, 1000), ACK, 501, 101));
    cluster.settle();
    assert_eq!(cluster.crossings, [crossing(3, 2, Query), crossing(2, 3, FirstPacket)]);
    assert_eq!(cluster.delivered.len(), 1, "a segment in the middle of a connection goes on");
    let now = cluster.sessions(3);
    assert_eq!(
        (now[0].role, now[0].generation, now[0].state),
        (Role::Owner, Generation(2), State::TcpEstablished)
    );
}

#[test]
fn the_last_word_of_a_dead_owner_is_learned_but_does_not_undo_the_grant_of_its_flow() {
    let mut cluster = Cluster::new();
    let (client, server) = established(&mut cluster, 2);
    let last = cluster.sessions(1)[0];
    let last = Session { version: last.version + 1, state: State::TcpFinWait, ..last };
    cluster.replication = false;
    cluster.set_live(&[2, 3]);
    cluster.arrive(3, OUTSIDE, &tcp((server, 80), (client, 1000), ACK, 501, 101));
    cluster.settle();
    let record = Record::of(&last, cluster.now);
    cluster.node(2).tell(ToWorker::Apply { record, mark: 1 });
    cluster.settle();
    let claim = cluster.sessions(2)[0];
    assert_eq!((claim.role, claim.owner, claim.generation), (Role::Claim, NodeId(3), Generation(2)));
    assert_eq!(claim.state, State::TcpFinWait);
    // The new Owner dies before anybody heard of it: its generation was given once.
    cluster.set_live(&[2]);
    cluster.arrive(2, INSIDE, &tcp((client, 1000), (server, 80), ACK, 101, 501));
    cluster.settle();
    assert_eq!(roles(&mut cluster)[1], Some((Role::Owner, 2, 3)));
}

#[test]
fn idle_flows_of_a_dead_owner_are_adopted_by_their_directors() {
    let mut cluster = Cluster::new();
    established(&mut cluster, 2);
    cluster.set_live(&[2, 3]);
    cluster.pass(9_000);
    assert!(cluster.sessions(2).iter().chain(&cluster.sessions(3)).all(|one| one.role == Role::Backup));
    cluster.pass(2_000);
    let owners: Vec<_> = [2, 3].into_iter().flat_map(|id| cluster.sessions(id)).collect();
    assert_eq!(owners.iter().filter(|one| one.role == Role::Owner).count(), 1, "{owners:?}");
    assert!(owners.iter().all(|one| one.generation == Generation(2) && one.owner != NodeId(1)), "{owners:?}");
}

#[test]
fn no_node_may_ask_for_a_flow_in_the_name_of_another() {
    let mut cluster = Cluster::new();
    let (client, server) = hosts(2, 0);
    let packet = udp((client, 1000), (server, 53));
    let option = |ingress| TunnelOption {
        kind: Query,
        hops: 1,
        zone: 1,
        ingress: NodeId(ingress),
        owner: NodeId(0),
        generation: Generation(0),
        epoch: 1,
        sender: NodeId(1),
    };
    cluster.tunnel(1, &option(3), &packet);
    assert_eq!(cluster.sessions(2), [], "node 3 was granted a flow it did not ask for");
    assert_eq!(cluster.drops(2, DropReason::TunnelPeer), 1);
    cluster.tunnel(1, &option(1), &packet);
    assert_eq!(cluster.sessions(2)[0].owner, NodeId(1), "in its own name it may");
    cluster.check_accounts();
}

#[test]
fn a_claim_is_asked_about_and_forgotten_only_when_the_owner_denies_it() {
    let mut cluster = Cluster::new();
    cluster.replication = false;
    let (client, server) = hosts(2, 0);
    cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 53)));
    cluster.settle();
    cluster.pass(3_600_000);
    assert_eq!(cluster.sessions(1), [], "the Owner aged its session");
    assert_eq!(cluster.sessions(2).len(), 1, "cut off from its Owner a claim does not lapse");
    cluster.replication = true;
    cluster.pass(31_000);
    assert_eq!(cluster.sessions(2), [], "the Owner denied it");
}

#[test]
fn only_the_owner_ages_and_its_delete_ends_the_backups() {
    let mut cluster = Cluster::new();
    let (client, server) = hosts(2, 0);
    cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 53)));
    cluster.settle();
    for _ in 0..10 {
        cluster.pass(20_000);
        cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 53)));
        cluster.settle();
    }
    assert_eq!(roles(&mut cluster)[2], Some((Role::Backup, 1, 1)), "kept though it saw no packet for 200 s");
    cluster.pass(32_000);
    assert_eq!(roles(&mut cluster), [None, None, None]);
}

#[test]
fn a_backup_that_was_told_no_time_is_left_keeps_no_worker_busy() {
    let mut cluster = Cluster::new();
    established(&mut cluster, 2);
    // On a tick of the timer wheel, where "now" is due at once.
    let now = cluster.now.0;
    cluster.pass(now.next_multiple_of(TICK_MS) - now);
    let owned = cluster.sessions(1)[0];
    let record = Record { version: owned.version + 1, timeout_s: 0, ..Record::of(&owned, cluster.now) };
    cluster.node(3).tell(ToWorker::Apply { record, mark: 1 });
    // Gives up if the nodes do not come to rest.
    cluster.settle();
    assert_eq!(roles(&mut cluster)[2], Some((Role::Backup, 1, 1)), "only the Owner ends it");
}

#[test]
fn two_owners_that_meet_are_settled_by_generation_then_node_id() {
    let mut cluster = Cluster::new();
    cluster.replication = false;
    let (client, server) = hosts(2, 0);
    // Both sides of a partition own the flow.
    cluster.set_aggregation(false);
    cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 53)));
    cluster.arrive(3, OUTSIDE, &udp((server, 53), (client, 1000)));
    cluster.settle();
    cluster.replication = true;
    cluster.set_aggregation(true);
    let after = roles(&mut cluster);
    assert_eq!(after[0], Some((Role::Backup, 3, 1)), "the lower node id lost");
    assert_eq!(after[2], Some((Role::Owner, 3, 1)));
    cluster.crossings.clear();
    cluster.arrive(1, INSIDE, &udp((client, 1000), (server, 53)));
    cluster.settle();
    assert_eq!(cluster.crossings, [crossing(1, 3, Redirect)], "the loser forwards");
    assert_eq!(cluster.node(1).counters.conflicts_lost.get(), 1);
}

#[test]
fn a_backup_that_was_lost_is_there_again_within_the_refresh_interval() {
    let mut cluster = Cluster::with(Settings { refresh_ms: 10_000, ..lone_settings() });
    // Nothing of this connection reaches a peer, as if none had room.
    cluster.replication = false;
    let (client, server) = hosts(2, 0);
    cluster.establish(client, server);
    cluster.replication = true;
    cluster.pass(1_000);
    assert_ne!(roles(&mut cluster)[2], Some((Role::Backup, 1, 1)), "nobody has told node 3 yet");
    cluster.pass(19_000);
    assert_eq!(
        roles(&mut cluster),
        [Some((Role::Owner, 1, 1)), Some((Role::Backup, 1, 1)), Some((Role::Backup, 1, 1))]
    );
    assert!(cluster.node(1).counters.refreshed.get() >= 1);
}
