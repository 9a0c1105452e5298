//! What is told to who follows sessions, by three whole workers in one thread.

mod cluster;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use cluster::{ACK, Cluster, INSIDE, OUTSIDE, SYN, hosts, lone_settings, tcp, udp};
use samepath_dataplane::events::{Event, Events, FOLLOWERS_MAX, Fate, Wanted};
use samepath_dataplane::flow::{FlowKey, NodeId, key_bytes, proto};
use samepath_dataplane::limits::{EVENTS_AT_ONCE, EVENTS_WAITING};
use samepath_dataplane::mailbox::ToWorker;
use samepath_dataplane::session::{Role, State};
use samepath_dataplane::settings::Settings;
use samepath_dataplane::watch::{End, Filter, Known};
use samepath_dataplane::worker::Following;

const FIN: u8 = 1;
const RST: u8 = 4;

/// All nodes tell `wanted`, by follower.
fn follow(cluster: &mut Cluster, wanted: &[Wanted]) -> Vec<Arc<Events>> {
    let mut all = [None; FOLLOWERS_MAX];
    all.iter_mut().zip(wanted).for_each(|(place, one)| *place = Some(*one));
    let rings: Vec<Arc<Events>> = (1..=3)
        .map(|id| {
            let events = Arc::new(Events::default());
            cluster.node(id).tell(ToWorker::Follow(Some(Box::new(Following::new(events.clone(), 7, &all)))));
            events
        })
        .collect();
    cluster.settle();
    assert!(rings.iter().all(|events| events.adopted.get() == 7));
    rings
}

fn told(events: &Events) -> Vec<Event> {
    std::iter::from_fn(|| events.take()).collect()
}

fn lost(events: &Events) -> u64 {
    events.lost.iter().map(|lost| lost.get()).sum()
}

/// What a follower who began with an empty table takes for its contents.
#[derive(Default)]
struct Believed {
    sessions: HashMap<FlowKey, Known>,
    told: usize,
    /// Sessions that began anew without an end: they had given way.
    anew: usize,
}

impl Believed {
    fn hear(&mut self, events: &Events) {
        assert_eq!(lost(events), 0);
        for event in told(events) {
            self.told += 1;
            let Event { session, fate, .. } = event;
            let present = Known::from(&session);
            let before = match fate {
                Fate::Began => self.sessions.insert(session.key, present),
                Fate::Changed(_) => self.sessions.insert(session.key, present),
                Fate::Ended => self.sessions.remove(&session.key),
            };
            match fate {
                Fate::Began => self.anew += usize::from(before.is_some()),
                Fate::Changed(was) => assert_eq!(before, Some(was), "{event:?}"),
                Fate::Ended => assert_eq!(before, Some(present), "{event:?}"),
            }
        }
    }

    fn check(&self, cluster: &mut Cluster, id: u16) {
        let sessions = cluster.sessions(id);
        let real: HashMap<_, _> =
            sessions.iter().map(|session| (session.key, Known::from(session))).collect();
        let wrong = real.iter().find(|(key, known)| self.sessions.get(key) != Some(known));
        assert_eq!(wrong, None, "node {id}");
        let counters = &cluster.node(id).counters;
        let evicted = [&counters.sessions_evicted, &counters.backups_evicted, &counters.claims_evicted];
        let gave_way: u64 = evicted.iter().map(|counter| counter.get()).sum();
        assert_eq!(self.sessions.len() + self.anew - real.len(), gave_way as usize, "node {id}");
    }
}

#[test]
fn a_connection_is_told_from_its_beginning_to_its_end() {
    let mut cluster = Cluster::new();
    let rings = follow(&mut cluster, &[Wanted::default()]);
    let (client, server) = hosts(2, 0);
    cluster.establish(client, server);
    let owner = told(&rings[0]);
    assert_eq!((owner[0].fate, owner[0].followers, owner[0].set), (Fate::Began, 1, 7));
    let states: Vec<State> = owner.iter().map(|event| event.session.state).collect();
    assert_eq!(states, [State::TcpSynSent, State::TcpSynRecv, State::TcpEstablished]);
    assert!(matches!(owner[2].fate, Fate::Changed(was) if was.state == State::TcpSynRecv));
    let roles: Vec<Role> = told(&rings[1]).iter().map(|event| event.session.role).collect();
    assert_eq!(roles[..2], [Role::Claim, Role::Backup], "the Director granted it, then heard of it");
    // Packets in step change nothing that is told.
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), ACK, 101, 501));
    cluster.settle();
    assert!(told(&rings[0]).is_empty());
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), RST, 101, 0));
    cluster.settle();
    cluster.pass(60_000);
    let end = told(&rings[0]);
    assert_eq!(end.last().map(|event| (event.fate, event.session.packets)), Some((Fate::Ended, 5)));
    assert!(rings.iter().skip(1).all(|events| told(events).last().unwrap().fate == Fate::Ended));
}

#[test]
fn with_aggregation_off_sessions_are_told_as_well() {
    let mut cluster = Cluster::with(Settings { aggregation: false, ..lone_settings() });
    let rings = follow(&mut cluster, &[Wanted::default()]);
    let (client, server) = hosts(2, 0);
    cluster.arrive(1, INSIDE, &udp((client, 7), (server, 9)));
    cluster.settle();
    cluster.arrive(1, OUTSIDE, &udp((server, 9), (client, 7)));
    cluster.settle();
    cluster.pass(300_000);
    let fates: Vec<_> = told(&rings[0]).iter().map(|event| (event.fate, event.session.state)).collect();
    let [(Fate::Began, State::UdpUnreplied), (Fate::Changed(_), State::UdpReplied), (Fate::Ended, _)] =
        fates.as_slice()
    else {
        panic!("{fates:?}");
    };
    assert!(told(&rings[1]).is_empty());
}

/// Opens, closes, resets and leaves half open, at all nodes.
fn traffic(cluster: &mut Cluster, round: usize) {
    for n in 0..12 {
        let (client, server) = hosts(1 + (n % 3) as u16, round * 12 + n);
        cluster.establish(client, server);
        let (from, to) = ((client, 1000), (server, 80));
        match n % 4 {
            0 => cluster.arrive(1, INSIDE, &tcp(from, to, RST, 101, 0)),
            1 => {
                cluster.arrive(1, INSIDE, &tcp(from, to, FIN | ACK, 101, 501));
                cluster.settle();
                cluster.arrive(3, OUTSIDE, &tcp(to, from, FIN | ACK, 501, 102));
            }
            2 => cluster.arrive(2, INSIDE, &udp((client, 5), (server, 53))),
            _ => cluster.arrive(2, INSIDE, &tcp((client, 2000), (server, 80), SYN, 1, 0)),
        }
        cluster.settle();
    }
}

#[test]
fn what_is_told_adds_up_to_what_is_in_the_tables() {
    let mut cluster = Cluster::new();
    let rings = follow(&mut cluster, &[Wanted::default()]);
    let mut believed: Vec<Believed> = (0..3).map(|_| Believed::default()).collect();
    let mut check = |cluster: &mut Cluster, ids: &[u16]| {
        for &id in ids {
            let at = usize::from(id) - 1;
            believed[at].hear(&rings[at]);
            believed[at].check(cluster, id);
        }
        believed.iter().map(|one| one.told).sum::<usize>()
    };
    traffic(&mut cluster, 0);
    check(&mut cluster, &[1, 2, 3]);
    // Two nodes find out that one is dead, own what it owned, and hear of it again.
    cluster.set_live(&[1, 3]);
    traffic(&mut cluster, 1);
    cluster.pass(30_000);
    check(&mut cluster, &[1, 3]);
    cluster.set_live(&[1, 2, 3]);
    traffic(&mut cluster, 2);
    check(&mut cluster, &[1, 2, 3]);
    // A bulk sync that confirms nothing.
    cluster.node(3).tell(ToWorker::Sweep { owner: NodeId(1), mark: 9 });
    cluster.settle();
    check(&mut cluster, &[1, 2, 3]);
    // A flood: half-open ones give way, which is counted.
    for burst in 0..40_u8 {
        for n in 0..250_u8 {
            let source = (Ipv4Addr::new(10, 1, burst, n), 40);
            cluster.arrive(1, INSIDE, &udp(source, (Ipv4Addr::new(10, 2, 0, 1), 50)));
        }
        cluster.settle();
        cluster.pass(500);
        check(&mut cluster, &[1, 2, 3]);
    }
    assert!(cluster.node(1).counters.sessions_evicted.get() > 1000);
    cluster.drain(2);
    check(&mut cluster, &[1, 2, 3]);
    // Time ends all of them.
    cluster.pass(500_000);
    let events = check(&mut cluster, &[1, 2, 3]);
    assert!(events > 20_000, "{events}");
}

#[test]
fn each_follower_is_told_what_it_wants_and_losses_are_its_own() {
    let mut cluster = Cluster::new();
    let (client, server) = hosts(1, 0);
    let dns = End { port: Some(53), ..End::default() };
    let client_end = End { prefix: key_bytes(client.into()), length: 128, port: None };
    let flow = |from, to| Filter { proto: Some(proto::UDP), from, to, ..Filter::default() };
    let wanted = [
        Wanted { flow: flow(client_end, dns), ..Wanted::default() },
        // The originator is not the server.
        Wanted { flow: flow(dns, client_end), ..Wanted::default() },
        Wanted { role: Some(Role::Backup), ..Wanted::default() },
        Wanted { state: Some(State::UdpReplied), owner: Some(NodeId(1)), ..Wanted::default() },
    ];
    let rings = follow(&mut cluster, &wanted);
    cluster.arrive(1, INSIDE, &udp((client, 7), (server, 53)));
    cluster.arrive(1, OUTSIDE, &udp((server, 53), (client, 7)));
    cluster.settle();
    let [one, two] =
        [0, 1].map(|at| told(&rings[at]).iter().map(|event| event.followers).collect::<Vec<_>>());
    assert_eq!(one, [0b0001, 0b1001], "begun, answered");
    assert!(two.iter().all(|bits| bits & 0b0111 == 0b0101), "{two:?}");
    // More than the ring takes, and more than a second's worth.
    let many = EVENTS_WAITING.max(EVENTS_AT_ONCE as usize) + 100;
    for n in 0..many as u16 {
        cluster.arrive(1, INSIDE, &udp((client, n), (server, 53)));
        cluster.settle();
    }
    let lost: Vec<u64> = rings[0].lost.iter().map(|lost| lost.get()).collect();
    assert!(lost[0] >= 100 && lost[1..] == [0; 7], "{lost:?}");
    // Nobody follows any longer.
    told(&rings[0]);
    cluster.node(1).tell(ToWorker::Follow(None));
    cluster.settle();
    cluster.arrive(1, INSIDE, &udp((client, 60_000), (server, 53)));
    cluster.settle();
    assert!(told(&rings[0]).is_empty() && Arc::strong_count(&rings[0]) == 1);
}
