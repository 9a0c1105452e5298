//! Replicators over real QUIC in one process.

use std::time::{Duration, Instant};

use samepath_dataplane::flow::{Generation, NodeId};

use super::nodes::{Ca, Net, Node, on_one_thread, until};
use super::record;
use super::relay::Relay;
use crate::replicate::limits::EVENTS;
use crate::replicate::{PeerEvent, ReplicateConfig};

async fn two_nodes() -> (Node, Node) {
    let (net, ca) = (Net::new(), Ca::new("cluster"));
    let mut a = Node::start(net.config(&ca, 1, &[1, 2]));
    let mut b = Node::start(net.config(&ca, 2, &[1, 2]));
    until("both whole", &mut [&mut a, &mut b], |nodes| nodes.iter().all(|n| n.is_whole())).await;
    (a, b)
}

/// Node 1 reaches node 2 through a relay; node 2 reaches node 1 directly.
struct Relayed {
    net: Net,
    ca: Ca,
    relay: Relay,
}

impl Relayed {
    async fn new() -> Self {
        let (net, ca) = (Net::new(), Ca::new("cluster"));
        let mut listen = net.address(2);
        listen.set_port(7001);
        let mut from = net.address(1);
        from.set_port(7002);
        let relay = Relay::start(listen, from, net.address(2)).await;
        Self { net, ca, relay }
    }

    fn config(&self, node: u16, idle_timeout_ms: u32) -> ReplicateConfig {
        let mut config = self.net.config(&self.ca, node, &[1, 2]);
        config.idle_timeout_ms = idle_timeout_ms;
        if node == 1 {
            config.peers[0].1.set_port(7001);
        }
        config
    }
}

#[test]
fn records_arrive_in_order_exactly_once_at_every_peer() {
    on_one_thread(async {
        let (net, ca) = (Net::new(), Ca::new("cluster"));
        let start = |node| Node::start(net.config(&ca, node, &[1, 2, 3]));
        let (mut a, mut b, mut c) = (start(1), start(2), start(3));
        let mut nodes = [&mut a, &mut b, &mut c];
        until("all whole", &mut nodes, |nodes| nodes.iter().all(|node| node.is_whole())).await;
        for version in 1..=30 {
            for node in &mut nodes {
                for flow in 0..100 {
                    node.put(flow, version);
                }
                node.work();
            }
            tokio::task::yield_now().await;
        }
        until("9,000 records at two peers each", &mut nodes, |nodes| {
            nodes.iter().all(|node| node.history.len() >= 6000)
        })
        .await;
        until("acknowledged", &mut nodes, |nodes| {
            let lag = |node: &&mut Node| node.replicator.stats().iter().map(|s| s.lag_records).sum::<u64>();
            nodes.iter().map(lag).sum::<u64>() == 0
        })
        .await;
        for (node, own) in nodes.iter().zip(1..) {
            for peer in (1..=3).filter(|&peer| peer != own) {
                let came: Vec<_> = node.history.iter().filter(|(from, ..)| *from == NodeId(peer)).collect();
                let expected: Vec<_> = (1..=30)
                    .flat_map(|version| (0..100).map(move |flow| (NodeId(peer), flow, version)))
                    .collect();
                assert!(came.into_iter().eq(&expected), "node {own} of node {peer}");
                let stats = node.stats(peer);
                assert_eq!((stats.sent, stats.acked, stats.resent), (3000, 3000, 0));
                assert_eq!((stats.bulk_syncs, stats.received), (1, 3000));
                assert!(stats.rtt_ms.is_some_and(|ms| ms > 0.0 && ms < 1000.0));
            }
        }
    });
}

#[test]
fn peer_that_restarts_gets_a_bulk_sync_and_its_old_sessions_go() {
    on_one_thread(async {
        let (net, ca) = (Net::new(), Ca::new("cluster"));
        let mut a = Node::start(net.config(&ca, 1, &[1, 2]));
        let mut b = Node::start(net.config(&ca, 2, &[1, 2]));
        (0..5000).for_each(|flow| a.put(flow, 1));
        (0..3000).for_each(|flow| b.put(flow, 1));
        until("tables at both", &mut [&mut a, &mut b], |[a, b]| {
            a.is_whole() && b.is_whole() && a.backups_of(2) == b.owned && b.backups_of(1) == a.owned
        })
        .await;
        drop(b);
        until("A misses B", &mut [&mut a], |[a]| !a.stats(2).connected).await;
        (0..100).for_each(|flow| a.remove(flow));
        (200..300).for_each(|flow| a.put(flow, 2));
        let mut b = Node::restart(|| net.config(&ca, 2, &[1, 2])).await;
        b.put(77, 9);
        until("tables at both again", &mut [&mut a, &mut b], |[a, b]| {
            a.is_whole() && b.is_whole() && a.backups_of(2) == b.owned && b.backups_of(1) == a.owned
        })
        .await;
        assert_eq!(a.backups_of(2).len(), 1);
        assert_eq!(b.backups_of(1).len(), 4900);
        assert_eq!(a.stats(2).bulk_syncs, 2);
    });
}

#[test]
fn cut_longer_than_the_idle_timeout_resumes_without_a_bulk_sync() {
    on_one_thread(async {
        let relayed = Relayed::new().await;
        let mut a = Node::start(relayed.config(1, 300));
        let mut b = Node::start(relayed.config(2, 300));
        until("both whole", &mut [&mut a, &mut b], |n| n.iter().all(|n| n.is_whole())).await;
        for cut in 1..=3 {
            // On their way when the cut comes.
            (0..2000).for_each(|flow| a.put(flow, cut * 2));
            relayed.relay.cut(true);
            until("A notices", &mut [&mut a, &mut b], |[a, _]| !a.stats(2).connected).await;
            (0..2000).for_each(|flow| a.put(flow, cut * 2 + 1));
            let lag = a.stats(2);
            assert!(lag.lag_records >= 2000 && lag.rtt_ms.is_none(), "{lag:?}");
            relayed.relay.cut(false);
            until("B has all", &mut [&mut a, &mut b], |[a, b]| {
                b.backups_of(1) == a.owned && a.stats(2).lag_records == 0
            })
            .await;
        }
        let expected = (2..=7).flat_map(|version| (0..2000).map(move |f| (f, version)));
        let came = b.history.iter().map(|&(_, flow, version)| (flow, version));
        assert!(came.eq(expected), "in order, exactly once");
        assert_eq!(a.stats(2).bulk_syncs, 1);
        let lost = a.seen.iter().filter(|event| matches!(event, PeerEvent::Lost { .. })).count();
        assert_eq!(lost, 3);
    });
}

#[test]
fn log_that_overflows_while_a_peer_is_away_means_a_bulk_sync() {
    on_one_thread(async {
        let relayed = Relayed::new().await;
        let mut config = relayed.config(1, 300);
        config.log_capacity = 64;
        let mut a = Node::start(config);
        let mut b = Node::start(relayed.config(2, 300));
        until("both whole", &mut [&mut a, &mut b], |n| n.iter().all(|n| n.is_whole())).await;
        relayed.relay.cut(true);
        until("A notices", &mut [&mut a, &mut b], |[a, _]| !a.stats(2).connected).await;
        (0..3000).for_each(|flow| a.put(flow, 1));
        (0..500).for_each(|flow| a.remove(flow));
        assert!(a.replicator.log_len() <= 64);
        assert!(a.stats(2).lag_records >= 3500);
        relayed.relay.cut(false);
        until("B has all", &mut [&mut a, &mut b], |[a, b]| a.is_whole() && b.backups_of(1) == a.owned).await;
        assert_eq!(a.stats(2).bulk_syncs, 2);
    });
}

#[test]
fn peer_that_crashed_and_restarted_is_redialled_before_the_idle_timeout() {
    on_one_thread(async {
        let relayed = Relayed::new().await;
        let mut a = Node::start(relayed.config(1, 60_000));
        let mut b = Node::start(relayed.config(2, 60_000));
        a.put(5, 1);
        until("both whole", &mut [&mut a, &mut b], |n| n.iter().all(|n| n.is_whole())).await;
        // Its last words never arrive: to A the connection looks alive.
        relayed.relay.cut(true);
        drop(b);
        let mut b = Node::restart(|| relayed.config(2, 60_000)).await;
        relayed.relay.cut(false);
        until("B has all", &mut [&mut a, &mut b], |[a, b]| a.is_whole() && b.backups_of(1) == a.owned).await;
    });
}

#[test]
fn lost_change_means_a_bulk_sync_of_every_peer() {
    on_one_thread(async {
        let (mut a, mut b) = two_nodes().await;
        a.put(1, 1);
        until("B has it", &mut [&mut a, &mut b], |[a, b]| b.backups_of(1) == a.owned).await;
        a.owned.clear();
        a.owned.insert(2, 1);
        a.replicator.resync_all();
        a.replicator.resync_all();
        until("B has what A has", &mut [&mut a, &mut b], |[a, b]| a.is_whole() && b.backups_of(1) == a.owned)
            .await;
        assert_eq!(a.stats(2).bulk_syncs, 2);
    });
}

#[test]
fn slow_consumer_holds_the_sender_back_and_loses_nothing() {
    on_one_thread(async {
        let (mut a, mut b) = two_nodes().await;
        let total = 400_000;
        for n in 0..total {
            a.replicator.publish(&record((n % 60_000) as u16, n));
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while b.events.len() < EVENTS {
            assert!(Instant::now() < deadline, "B's queue holds {}", b.events.len());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let held = a.stats(2);
        assert!(held.connected && held.lag_records > 100_000, "{held:?}");
        until("B has all", &mut [&mut a, &mut b], |[_, b]| b.history.len() as u32 >= total).await;
        assert!(b.history.iter().map(|&(.., version)| version).eq(0..total));
        until("acknowledged", &mut [&mut a, &mut b], |[a, _]| a.stats(2).lag_records == 0).await;
        assert_eq!((a.stats(2).bulk_syncs, a.stats(2).resent), (1, 0));
    });
}

#[test]
fn bulk_sync_of_a_large_table_while_it_changes() {
    on_one_thread(async {
        let (net, ca) = (Net::new(), Ca::new("cluster"));
        let mut a = Node::start(net.config(&ca, 1, &[1, 2]));
        a.owned = (0..50_000).map(|flow| (flow, 1)).collect();
        let mut b = Node::start(net.config(&ca, 2, &[1, 2]));
        let mut flow = 0;
        let deadline = Instant::now() + Duration::from_secs(20);
        while !(a.is_whole() && b.is_whole()) {
            assert!(Instant::now() < deadline, "{:?}", a.stats(2));
            for _ in 0..50 {
                flow = (flow + 7919) % 50_000;
                if a.owned.contains_key(&(flow as u16)) {
                    a.remove(flow as u16);
                } else {
                    a.put(flow as u16, 2);
                }
            }
            a.work();
            b.work();
            tokio::task::yield_now().await;
        }
        until("B has all", &mut [&mut a, &mut b], |[a, b]| b.backups_of(1) == a.owned).await;
        let more = a.seen.iter().filter(|event| matches!(event, PeerEvent::BulkMore { .. })).count();
        assert!(more > 10, "pages were held back {more} times");
        assert_eq!(a.stats(2).bulk_syncs, 1);
    });
}

#[test]
fn claims_are_asked_about_and_denied() {
    on_one_thread(async {
        let (mut a, mut b) = two_nodes().await;
        let key = record(5, 1).key;
        a.replicator.claim_check(NodeId(2), key, Generation(3));
        b.replicator.claim_denied(NodeId(1), key, Generation(3));
        until("both came", &mut [&mut a, &mut b], |[a, b]| {
            let denied = |event: &PeerEvent| {
                matches!(event, PeerEvent::ClaimsDenied { from: NodeId(2), claims }
                    if claims[..] == [crate::replicate::Claim { key, generation: Generation(3) }])
            };
            let asked = |event: &PeerEvent| {
                matches!(event, PeerEvent::ClaimChecks { from: NodeId(1), claims }
                    if claims[..] == [crate::replicate::Claim { key, generation: Generation(3) }])
            };
            a.seen.iter().any(denied) && b.seen.iter().any(asked)
        })
        .await;
    });
}

#[test]
fn node_that_leaves_says_so_when_everything_is_acknowledged() {
    on_one_thread(async {
        let (mut a, mut b) = two_nodes().await;
        (0..5000).for_each(|flow| a.put(flow, 1));
        let owned = a.owned.clone();
        let leave = a.replicator.close();
        let watch = async {
            until("B hears it", &mut [&mut b], |[b]| {
                b.seen.contains(&PeerEvent::Leaving { from: NodeId(1) })
                    && b.seen.contains(&PeerEvent::Lost { peer: NodeId(1) })
            })
            .await;
        };
        let (flushed, ()) = tokio::join!(leave, watch);
        assert!(flushed);
        assert_eq!(b.backups_of(1), owned);
        let leaving = |event: &&PeerEvent| matches!(event, PeerEvent::Leaving { .. });
        assert_eq!(b.seen.iter().filter(leaving).count(), 1);
        assert!(b.refusals().is_empty());
    });
}

#[test]
fn leaving_does_not_wait_for_a_peer_that_does_not_answer() {
    on_one_thread(async {
        let (a, b) = two_nodes().await;
        for n in 0..200_000 {
            a.replicator.publish(&record(1, n));
        }
        // B's consumer reads nothing.
        let begin = Instant::now();
        assert!(!a.replicator.close().await);
        assert!(begin.elapsed() < Duration::from_secs(5), "took {:?}", begin.elapsed());
        drop(b);
    });
}

#[test]
fn throughput() {
    on_one_thread(async {
        let (mut a, mut b) = two_nodes().await;
        let total: u32 = 1_000_000;
        let begin = Instant::now();
        let (mut came, mut next) = (0, 0);
        while came < total {
            for _ in 0..1024.min(total - next) {
                a.replicator.publish(&record(next as u16, next));
                next += 1;
            }
            tokio::task::yield_now().await;
            a.work();
            while let Ok(event) = b.events.try_recv() {
                if let PeerEvent::Records { records, .. } = event {
                    came += records.len() as u32;
                }
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "{came} of {total}");
        }
        let rate = f64::from(total) / begin.elapsed().as_secs_f64();
        println!("{rate:.0} records/s, both ends on one thread");
    });
}
