//! `--backup`: peers are told of new sessions late, and packets find their Owner all the same.

mod cluster;

use std::net::Ipv4Addr;

use cluster::{ACK, Cluster, INSIDE, OUTSIDE, SYN, lone_settings, tcp, udp};
use samepath_dataplane::session::{Role, State};
use samepath_dataplane::settings::{Backup, Settings};
use samepath_dataplane::verdict::DropReason;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);
const FLOWS: u32 = 60;

fn client(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a01_0001 + n)
}

fn cluster(backup: Backup) -> Cluster {
    Cluster::with(Settings { backup, ..lone_settings() })
}

/// Backups that each node but the first holds.
fn backups(cluster: &mut Cluster) -> Vec<usize> {
    (2..=3).map(|id| cluster.sessions(id).iter().filter(|one| one.role == Role::Backup).count()).collect()
}

fn syns(cluster: &mut Cluster) {
    for n in 0..FLOWS {
        cluster.arrive(1, INSIDE, &tcp((client(n), 1000), (SERVER, 80), SYN, 100, 0));
    }
    cluster.settle();
}

#[test]
fn half_open_sessions_cost_peers_nothing_and_established_ones_are_backed_up() {
    let mut cluster = cluster(Backup::Established);
    syns(&mut cluster);
    cluster.pass(3_000);
    assert_eq!(backups(&mut cluster), [0, 0], "peers were told of half-open sessions");
    assert!(cluster.node(1).counters.put_off.get() >= u64::from(FLOWS));
    // The answer reaches another node, which asks the Director: nobody has a backup.
    cluster.delivered.clear();
    for n in 0..FLOWS {
        cluster.arrive(3, OUTSIDE, &tcp((SERVER, 80), (client(n), 1000), SYN | ACK, 500, 101));
    }
    cluster.settle();
    assert_eq!(cluster.delivered.len(), FLOWS as usize);
    for n in 0..FLOWS / 2 {
        cluster.arrive(1, INSIDE, &tcp((client(n), 1000), (SERVER, 80), ACK, 101, 501));
    }
    cluster.settle();
    assert_eq!(backups(&mut cluster), [FLOWS as usize / 2; 2]);
    let known = cluster.sessions(2);
    assert!(
        known.iter().filter(|one| one.role == Role::Backup).all(|one| one.state == State::TcpEstablished)
    );
    cluster.check_accounts();
}

#[test]
fn udp_is_backed_up_with_its_first_answer() {
    let mut cluster = cluster(Backup::Established);
    for n in 0..FLOWS {
        cluster.arrive(1, INSIDE, &udp((client(n), 1000), (SERVER, 53)));
    }
    cluster.settle();
    assert_eq!(backups(&mut cluster), [0, 0]);
    for n in 0..FLOWS {
        cluster.arrive(2, OUTSIDE, &udp((SERVER, 53), (client(n), 1000)));
    }
    cluster.settle();
    assert_eq!(backups(&mut cluster), [FLOWS as usize; 2]);
    assert_eq!(cluster.sessions(1).iter().filter(|one| one.role == Role::Owner).count(), FLOWS as usize);
}

#[test]
fn sessions_are_backed_up_at_an_age_without_a_packet_of_theirs() {
    let mut cluster = cluster(Backup::After(2_000));
    for n in 0..FLOWS {
        cluster.establish(client(n), SERVER);
    }
    // Half of them end young, by a reset.
    for n in 0..FLOWS / 2 {
        cluster.arrive(1, INSIDE, &tcp((client(n), 1000), (SERVER, 80), 4, 101, 0));
    }
    cluster.settle();
    cluster.pass(1_000);
    assert_eq!(backups(&mut cluster), [0, 0], "peers were told too early");
    cluster.pass(3_000);
    let old_enough = |id, cluster: &mut Cluster| {
        let all = cluster.sessions(id);
        all.iter().filter(|one| one.role == Role::Backup && one.state == State::TcpEstablished).count()
    };
    for id in 2..=3 {
        assert_eq!(old_enough(id, &mut cluster), FLOWS as usize / 2, "node {id}");
    }
    assert_eq!(cluster.node(1).counters.dirty.get(), 0);
}

#[test]
fn what_waits_dies_with_its_owner_and_what_is_told_of_does_not() {
    let mut cluster = cluster(Backup::After(2_000));
    cluster.establish(client(0), SERVER);
    cluster.pass(5_000);
    cluster.establish(client(1), SERVER);
    cluster.set_live(&[2, 3]);
    cluster.settle();
    cluster.delivered.clear();
    for n in 0..2 {
        cluster.arrive(2, INSIDE, &tcp((client(n), 1000), (SERVER, 80), ACK, 101, 501));
        cluster.settle();
    }
    assert_eq!(cluster.delivered.len(), 1, "the elder goes on, the younger is unknown");
    let refused: u64 = (2..=3).map(|id| cluster.drops(id, DropReason::NoSession)).sum();
    assert_eq!(refused, 1);
}

#[test]
fn a_connection_in_the_place_of_an_ended_one_is_told_of_at_once_and_leaves_nothing_behind() {
    for backup in [Backup::Established, Backup::After(1_000)] {
        let mut settings = Settings { backup, ..lone_settings() };
        settings.timeouts.set("tcp_syn_recv", 2).unwrap();
        let mut cluster = Cluster::with(settings);
        cluster.establish(client(0), SERVER);
        cluster.pass(3_000);
        cluster.arrive(1, INSIDE, &tcp((client(0), 1000), (SERVER, 80), 4, 101, 0));
        cluster.settle();
        cluster.arrive(1, INSIDE, &tcp((client(0), 1000), (SERVER, 80), SYN, 9_000, 0));
        cluster.settle();
        assert_eq!(backups(&mut cluster), [1, 1], "{backup:?}");
        // The answer at another node finds the Owner by the record that is there.
        cluster.delivered.clear();
        cluster.arrive(3, OUTSIDE, &tcp((SERVER, 80), (client(0), 1000), SYN | ACK, 7_000, 9_001));
        cluster.settle();
        assert_eq!(cluster.delivered.len(), 1, "{backup:?}");
        // The client says nothing more.
        cluster.pass(5_000);
        assert_eq!(cluster.sessions(1).len(), 0, "{backup:?}");
        assert_eq!(backups(&mut cluster), [0, 0], "{backup:?}: a copy of what is gone stayed");
    }
}
