//! What is written down while somebody looks on, by three whole workers in one thread.

mod cluster;

use std::sync::Arc;

use cluster::{ACK, Cluster, INSIDE, LINK, OUTSIDE, SYN, hosts, tcp, udp};
use samepath_dataplane::decide::Arrival;
use samepath_dataplane::flow::{NodeId, proto};
use samepath_dataplane::limits::{WATCHED_AT_ONCE, WATCHED_PER_S};
use samepath_dataplane::mailbox::ToWorker;
use samepath_dataplane::session::{Role, State};
use samepath_dataplane::verdict::{DropReason, Verdict};
use samepath_dataplane::watch::{Filter, Outcome, Visit, Watch};
use samepath_dataplane::wire::tunnel::TunnelKind::{FirstPacket, Query, Redirect};
use samepath_dataplane::worker::Watching;

/// Slots of each worker.
const SLOTS: usize = 16_384;

fn look(cluster: &mut Cluster, filters: &[Filter], slots: usize) -> Vec<Arc<Watch>> {
    let watches: Vec<Arc<Watch>> = (1..=3)
        .map(|id| {
            let watch = Arc::new(Watch::new(filters, 288, slots));
            cluster.node(id).tell(ToWorker::Watch(Some(Box::new(Watching::new(watch.clone())))));
            watch
        })
        .collect();
    cluster.settle();
    assert!(watches.iter().all(|watch| watch.adopted.get() == 1));
    watches
}

/// What a node has written down since the last time, frames checked.
fn seen(watch: &Watch) -> Vec<Visit> {
    let mut visits = Vec::new();
    while let Some(sighting) = watch.take() {
        let left = matches!(sighting.visit.outcome, Outcome::Left { .. });
        assert_eq!(sighting.arrived.len(), (sighting.visit.length as usize).min(288));
        assert_eq!(!sighting.left.is_empty(), left);
        visits.push(sighting.visit);
        watch.give_back(sighting);
    }
    visits
}

fn kind(visit: &Visit) -> Option<samepath_dataplane::wire::tunnel::TunnelKind> {
    match visit.arrival {
        Some(Arrival::Tunnel(option)) => Some(option.kind),
        _ => None,
    }
}

fn left_by(visit: &Visit) -> Option<u8> {
    match visit.outcome {
        Outcome::Left { port, pieces: 1, .. } => Some(port),
        _ => None,
    }
}

fn verdict(visit: &Visit) -> (Option<samepath_dataplane::wire::tunnel::TunnelKind>, u16) {
    match visit.verdict {
        Some(Verdict::Tunnel { kind, to, .. }) => (Some(kind), to.0),
        Some(Verdict::Forward) => (None, 0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_is_seen_step_by_step() {
    let mut cluster = Cluster::new();
    cluster.replication = false;
    let watches = look(&mut cluster, &[Filter::default()], SLOTS);
    let (client, server) = hosts(2, 0);
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), SYN, 100, 0));
    cluster.settle();
    let (one, two) = (seen(&watches[0]), seen(&watches[1]));
    let [asks, owns] = one.as_slice() else { panic!("{one:?}") };
    let [grants] = two.as_slice() else { panic!("{two:?}") };
    assert_eq!(
        (asks.port, kind(asks), verdict(asks), left_by(asks)),
        (INSIDE, None, (Some(Query), 2), Some(LINK))
    );
    assert_eq!((asks.before, asks.after, asks.director), (None, None, NodeId(2)));
    assert_eq!((kind(grants), verdict(grants)), (Some(Query), (Some(FirstPacket), 1)));
    assert_eq!(grants.after.map(|known| (known.role, known.owner)), Some((Role::Claim, NodeId(1))));
    assert_eq!((kind(owns), verdict(owns), left_by(owns)), (Some(FirstPacket), (None, 0), Some(OUTSIDE)));
    assert_eq!(owns.after.map(|known| (known.role, known.state)), Some((Role::Owner, State::TcpSynSent)));
    cluster.arrive(3, OUTSIDE, &tcp((server, 80), (client, 1000), SYN | ACK, 500, 101));
    cluster.settle();
    let [asks, passes, ends] = [2, 1, 0].map(|node: usize| seen(&watches[node])[0]);
    assert_eq!((asks.port, verdict(&asks)), (OUTSIDE, (Some(Query), 2)));
    assert_eq!((kind(&passes), verdict(&passes)), (Some(Query), (Some(Redirect), 1)));
    assert_eq!((kind(&ends), left_by(&ends)), (Some(Redirect), Some(INSIDE)));
    // A segment in step would have taken the fast path.
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), ACK, 101, 501));
    cluster.settle();
    let ack = seen(&watches[0])[0];
    assert_eq!((verdict(&ack), left_by(&ack)), ((None, 0), Some(OUTSIDE)));
    assert_eq!(ack.before.map(|known| known.role), Some(Role::Owner));
    assert_eq!(cluster.node(1).counters.fast_path.get(), 0);
    cluster.check_accounts();
}

#[test]
fn a_drop_has_its_reason_and_what_no_filter_wants_keeps_its_way() {
    let mut cluster = Cluster::new();
    let filters = [
        Filter { proto: Some(proto::UDP), ..Filter::default() },
        Filter { zone: Some(9), ..Filter::default() },
    ];
    let watches = look(&mut cluster, &filters, SLOTS);
    let (client, server) = hosts(2, 0);
    cluster.establish(client, server);
    let before = cluster.node(1).counters.fast_path.get();
    cluster.arrive(1, INSIDE, &tcp((client, 1000), (server, 80), ACK, 101, 501));
    cluster.settle();
    assert_eq!(cluster.node(1).counters.fast_path.get(), before + 1);
    assert!(watches.iter().all(|watch| seen(watch).is_empty()));
    // Nobody knows the way to this network.
    cluster.arrive(1, INSIDE, &udp((client, 7), ([203, 0, 113, 1].into(), 9)));
    cluster.settle();
    let dropped = seen(&watches[0]);
    let [one] = dropped.as_slice() else { panic!("{dropped:?}") };
    let told = one.answered || one.outcome == Outcome::Dropped(DropReason::NoRoute);
    assert!(told && one.filters == 1, "{one:?}");
}

#[test]
fn what_finds_no_slot_or_is_too_much_is_counted_and_goes_on() {
    let mut cluster = Cluster::new();
    let (client, server) = hosts(1, 0);
    let watches = look(&mut cluster, &[Filter::default()], 2);
    let datagram = udp((client, 7), (server, 9));
    for _ in 0..5 {
        cluster.arrive(1, INSIDE, &datagram);
    }
    cluster.settle();
    let missed = &watches[0].missed[0];
    assert_eq!((seen(&watches[0]).len(), missed.full.get(), missed.over_rate.get()), (2, 3, 0));
    assert_eq!(cluster.delivered.len(), 5);
    // Emptied each time, until a second's worth is used up.
    let most = WATCHED_AT_ONCE as usize + 100;
    let mut written = 0;
    for _ in 0..most {
        cluster.arrive(1, INSIDE, &datagram);
        cluster.settle();
        written += seen(&watches[0]).len();
    }
    assert_eq!(missed.over_rate.get() as usize, most - written);
    assert!(written < WATCHED_AT_ONCE as usize && written > WATCHED_AT_ONCE as usize - 10, "{written}");
    cluster.pass(1000 * u64::from(WATCHED_AT_ONCE) / u64::from(WATCHED_PER_S) + 1);
    cluster.arrive(1, INSIDE, &datagram);
    cluster.settle();
    assert_eq!(seen(&watches[0]).len(), 1, "and again later");
    cluster.check_accounts();
}

#[test]
fn nobody_looks_on_any_longer() {
    let mut cluster = Cluster::new();
    let watches = look(&mut cluster, &[Filter::default()], SLOTS);
    (1..=3).for_each(|id| cluster.node(id).tell(ToWorker::Watch(None)));
    cluster.settle();
    let (client, server) = hosts(1, 0);
    cluster.arrive(1, INSIDE, &udp((client, 7), (server, 9)));
    cluster.settle();
    assert!(watches.iter().all(|watch| Arc::strong_count(watch) == 1 && seen(watch).is_empty()));
}
