//! Whatever is sent again, changed, cut or made up on the cluster link: nothing of it is accepted, and each is counted.

mod cluster;

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::{Cluster, Core, INSIDE, OUTSIDE, hosts, lone_settings, udp};
use samepath_dataplane::flow::{Generation, NodeId};
use samepath_dataplane::verdict::DropReason;
use samepath_dataplane::wire::tunnel::{self, TunnelKind, TunnelOption};
use samepath_dataplane::xsk::Waker;

/// Packets sent on the cluster link.
const PACKETS: usize = 1_000_000;
/// Where the Geneve header and our option's data begin in a packet over IPv4, and where the inner frame.
const GENEVE: usize = 42;
const OPTION: usize = 54;
const INNER: usize = 90;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// A cluster in which every kind of packet has crossed, and what crossed to node 2.
fn recorded() -> (Cluster, Vec<Vec<u8>>) {
    let mut cluster = Cluster::new();
    for director in 1..=3 {
        for number in 0..8 {
            let (client, server) = hosts(director, number);
            cluster.establish(client, server);
            cluster.arrive(2, INSIDE, &udp((client, 7), (server, 53)));
            cluster.settle();
            cluster.arrive(3, OUTSIDE, &udp((server, 53), (client, 7)));
            cluster.settle();
        }
    }
    let to_node_2 = cluster.tunnelled.iter().filter(|bytes| bytes[33] == 2).cloned().collect::<Vec<_>>();
    for kind in [TunnelKind::Query, TunnelKind::FirstPacket, TunnelKind::Redirect] {
        let is_kind = |bytes: &Vec<u8>| tunnel::parse(bytes, INNER).unwrap().option.kind == kind;
        assert!(to_node_2.iter().any(is_kind), "no {kind:?} among what was recorded");
    }
    (cluster, to_node_2)
}

/// One packet that no honest node sent.
fn made_up(recorded: &[Vec<u8>], random: &mut Random, way: usize) -> Vec<u8> {
    let mut bytes = recorded[random.below(recorded.len())].clone();
    match way {
        // Sent again as it was.
        0 => {}
        // One bit from Geneve on is another.
        1 => {
            let at = GENEVE + random.below(bytes.len() - GENEVE);
            bytes[at] ^= 1 << random.below(8);
        }
        // Cut.
        2 => bytes.truncate(random.below(bytes.len())),
        // A number that was never there, and a tag that is guessed.
        _ => {
            bytes[OPTION + 18] = [1, random.below(256) as u8][random.below(2)];
            bytes[OPTION + 19] = random.below(256) as u8;
            (OPTION + 20..INNER).for_each(|at| bytes[at] = random.below(256) as u8);
        }
    }
    bytes
}

#[test]
fn of_a_million_packets_nobody_sent_none_is_accepted() {
    let (mut cluster, recorded) = recorded();
    let before = cluster.sessions(2);
    let drops =
        |cluster: &Cluster| DropReason::ALL.iter().map(|&why| cluster.drops(2, why)).collect::<Vec<_>>();
    let (drops_before, rx_before) = (drops(&cluster), cluster.node(2).counters.rx.get());
    cluster.delivered.clear();
    cluster.crossings.clear();
    let (mut random, mut arrived, mut again) = (Random(1), 0, 0);
    for number in 0..PACKETS {
        let way = number % 4;
        let bytes = made_up(&recorded, &mut random, way);
        let taken = cluster.inject(2, &bytes);
        arrived += u64::from(taken);
        again += u64::from(taken && way == 0);
        if number % 256 == 255 {
            cluster.settle();
        }
    }
    cluster.settle();
    assert_eq!(cluster.delivered, [], "a packet went on");
    assert_eq!(cluster.crossings, [], "a packet was answered");
    assert_eq!(cluster.sessions(2), before, "a session or claim is another");
    let dropped: BTreeMap<_, _> = DropReason::ALL
        .iter()
        .zip(drops(&cluster).iter().zip(&drops_before))
        .map(|(&why, (after, before))| (why.name(), after - before))
        .filter(|(_, count)| *count > 0)
        .collect();
    println!("{PACKETS} sent, {arrived} reached the worker: {dropped:?}");
    assert_eq!(cluster.node(2).counters.rx.get() - rx_before, arrived);
    assert_eq!(dropped.values().sum::<u64>(), arrived, "each is counted once: {dropped:?}");
    assert_eq!(again, PACKETS as u64 / 4);
    assert!(dropped["tunnel_replay"] >= again, "{dropped:?}");
    for why in
        ["tunnel_tag", "tunnel_key", "tunnel_peer", "tunnel_cluster", "tunnel_unknown", "tunnel_malformed"]
    {
        assert!(dropped.get(why).is_some_and(|&count| count > 0), "{why}: {dropped:?}");
    }
    cluster.check_accounts();
}

fn option(kind: TunnelKind) -> TunnelOption {
    TunnelOption {
        kind,
        hops: 1,
        zone: 1,
        ingress: NodeId(2),
        owner: NodeId(1),
        generation: Generation(1),
        epoch: 1,
        sender: NodeId(2),
    }
}

fn cores() -> [Core; 2] {
    let wakers = [Arc::new(Waker::new().unwrap()), Arc::new(Waker::new().unwrap())];
    Core::pair(&wakers, [true, true], &lone_settings())
}

fn settle(cores: &mut [Core; 2]) {
    while cores.iter_mut().map(Core::turn).fold(false, |any, moved| any | moved) {}
}

fn replays(cores: &[Core; 2]) -> u64 {
    cores.iter().map(|core| core.drops(DropReason::TunnelReplay)).sum()
}

#[test]
fn a_hello_counts_once_whichever_core_receives_it() {
    let mut cores = cores();
    let frame = tunnel::hello_frame([2; 6], [4; 6]);
    for (core, counter) in [(0, 1), (1, 1), (1, 2), (0, 2), (1, 2)] {
        cores[core].arrive_tunnelled(&option(TunnelKind::Hello), &frame, counter);
        settle(&mut cores);
    }
    assert_eq!(cores[0].counters.hello_rx.get() + cores[1].counters.hello_rx.get(), 2);
    assert_eq!(replays(&cores), 3);
    cluster::check_frames(&cores);
}

#[test]
fn a_packet_counts_once_whichever_core_receives_it() {
    let mut cores = cores();
    for number in 0..100_u16 {
        let (client, server) = hosts(1, usize::from(number));
        let packet = udp((client, 1000 + number), (server, 53));
        for core in [0, 1, 0, 1] {
            cores[core].arrive_tunnelled(&option(TunnelKind::FirstPacket), &packet, u64::from(number) + 1);
            settle(&mut cores);
        }
    }
    let sent: usize = cores.iter().map(|core| core.sent().len()).sum();
    assert_eq!((sent, replays(&cores)), (100, 300));
    cluster::check_frames(&cores);
}
