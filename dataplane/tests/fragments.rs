//! Packets whose fragments arrive at different nodes: delivered whole by one node, or dropped for the right reason.

mod cluster;
mod datagram;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use cluster::{Cluster, Core, INSIDE, OUTSIDE, check_frames, hosts, lone_settings, sound};
use datagram::{Datagram, Name, Random, Receiver, read};
use samepath_dataplane::limits::{FRAGMENTS_WAITING, FRAGMENTS_WAITING_PER_SOURCE};
use samepath_dataplane::policy::{Action, Match, Policy, Rule};
use samepath_dataplane::session::timeouts::Timeouts;
use samepath_dataplane::verdict::DropReason;
use samepath_dataplane::xsk::Waker;

/// Sum of a drop reason over all nodes.
fn dropped(cluster: &Cluster, reason: DropReason) -> u64 {
    (1..=3).map(|node| cluster.drops(node, reason)).sum()
}

fn waiting(cluster: &Cluster) -> u64 {
    cluster.nodes.iter().map(|node| node.counters.fragments_waiting.get()).sum()
}

/// Client and server of flow `nth`; every second one is IPv6.
fn ends(nth: usize) -> [(IpAddr, u16); 2] {
    let (low, ports) = (nth as u8 + 1, (4000 + nth as u16, 6000));
    if nth.is_multiple_of(2) {
        return [
            (Ipv4Addr::new(10, 1, 0, low).into(), ports.0),
            (Ipv4Addr::new(10, 2, 0, low).into(), ports.1),
        ];
    }
    let host = |net| Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, low.into());
    [(host(1).into(), ports.0), (host(2).into(), ports.1)]
}

/// A datagram of 1 to 64 kB each way for every flow.
fn datagrams(random: &mut Random, flows: usize) -> Vec<Datagram> {
    let one = |(nth, back): (usize, bool)| {
        let [client, server] = ends(nth);
        let (from, to) = if back { (server, client) } else { (client, server) };
        let payload = 1 + random.below(65_507);
        Datagram::new(from, to, random.below(1 << 16) as u32, payload)
    };
    (0..flows).flat_map(|nth| [(nth, false), (nth, true)]).map(one).collect()
}

fn name(datagram: &Datagram) -> Name {
    (datagram.from.0, datagram.to.0, datagram.id)
}

fn side(from: IpAddr) -> u8 {
    let inside = match from {
        IpAddr::V4(address) => address.octets()[1] == 1,
        IpAddr::V6(address) => address.segments()[1] == 1,
    };
    if inside { INSIDE } else { OUTSIDE }
}

/// Sends all fragments in any order, some twice, each to any node, while the nodes take their turns as they like.
fn scatter(cluster: &mut Cluster, random: &mut Random, datagrams: &[Datagram]) -> usize {
    let mut frames = Vec::new();
    let mut copies = 0;
    for datagram in datagrams {
        let part = 8 * (154 + random.below(30));
        for frame in datagram.fragments(part.min(1440)) {
            if random.below(20) == 0 {
                frames.push((side(datagram.from.0), frame.clone()));
                copies += 1;
            }
            frames.push((side(datagram.from.0), frame));
        }
    }
    random.shuffle(&mut frames);
    for (side, frame) in frames {
        cluster.arrive(1 + random.below(3) as u16, side, &frame);
        if random.below(3) == 0 {
            cluster.step(random.below(3));
        }
    }
    cluster.settle();
    copies
}

/// All are delivered whole, each flow by one node.
fn check_delivered(cluster: &Cluster, datagrams: &[Datagram], line: &str) {
    let (mut receiver, mut owners) = (Receiver::default(), HashMap::<_, HashSet<u16>>::new());
    for (node, _, frame) in &cluster.delivered {
        receiver.take(frame);
        let (name, ..) = read(frame);
        owners.entry(name).or_default().insert(*node);
    }
    for pair in datagrams.chunks(2) {
        let by: HashSet<u16> =
            pair.iter().flat_map(|one| owners.get(&name(one)).cloned().unwrap_or_default()).collect();
        assert_eq!(by.len(), 1, "{line}: both directions are forwarded by the Owner alone");
        for one in pair {
            let whole = receiver.whole(&name(one));
            assert!(whole.as_ref() == Some(&one.bytes), "{line}: {:?} is not whole", name(one));
        }
    }
}

#[test]
fn datagrams_are_whole_whichever_way_their_fragments_come() {
    let mut copies = 0;
    for seed in 0..18 {
        let random = &mut Random(seed);
        let mut cluster = Cluster::new();
        if seed % 3 == 2 {
            cluster.direct_by_five_tuple();
        }
        let flows = 1 + random.below(6);
        let datagrams = datagrams(random, flows);
        let sent_twice = scatter(&mut cluster, random, &datagrams);
        check_delivered(&cluster, &datagrams, &format!("seed {seed}"));
        cluster.pass(2_000);
        assert_eq!(waiting(&cluster), 0, "seed {seed}");
        cluster.check_accounts();
        let dropped: u64 = DropReason::ALL
            .iter()
            .filter(|&&reason| reason != DropReason::FragmentDuplicate)
            .map(|&reason| dropped(&cluster, reason))
            .sum();
        assert_eq!(dropped, 0, "seed {seed}: of what came only copies are dropped");
        copies += sent_twice as u64 - self::dropped(&cluster, DropReason::FragmentDuplicate);
    }
    assert!(copies < 18, "{copies} copies went on: only those of a first fragment, after all of its packet");
}

#[test]
fn with_aggregation_off_a_node_follows_what_it_sees() {
    let mut cluster = Cluster::new();
    cluster.set_aggregation(false);
    let random = &mut Random(1);
    let all = datagrams(random, 4);
    for one in &all {
        let mut fragments = one.fragments(1440);
        random.shuffle(&mut fragments);
        fragments.iter().for_each(|fragment| cluster.arrive(2, side(one.from.0), fragment));
    }
    cluster.settle();
    check_delivered(&cluster, &all, "aggregation off");
    assert_eq!(cluster.crossings, []);
}

#[test]
fn an_overlap_spoils_its_packet_and_no_other() {
    let [client, server] = ends(0);
    let (bad, good) = (Datagram::new(client, server, 7, 5000), Datagram::new(client, server, 8, 5000));
    let parts = bad.fragments(1440);
    // The order they come in, with one in between that lies over two others.
    let over = bad.fragment(2000, &bad.bytes[2000..3440], true);
    let rows: [(&str, Vec<&Vec<u8>>); 3] = [
        ("after the first", vec![&parts[0], &parts[1], &over, &parts[2], &parts[3]]),
        ("before the first", vec![&parts[3], &over, &parts[1], &parts[0], &parts[2]]),
        ("last of all", vec![&parts[0], &parts[2], &parts[3], &over, &parts[1]]),
    ];
    for (line, order) in rows {
        let mut cluster = Cluster::new();
        for (at, frame) in order.iter().enumerate() {
            cluster.arrive(1 + at as u16 % 3, INSIDE, frame);
            cluster.arrive(3 - at as u16 % 3, INSIDE, good.fragments(1440).get(at).unwrap_or(frame));
            cluster.settle();
        }
        let mut receiver = Receiver::default();
        cluster.delivered.iter().for_each(|(_, _, frame)| receiver.take(frame));
        assert!(receiver.whole(&name(&bad)).is_none(), "{line}");
        assert!(receiver.whole(&name(&good)) == Some(good.bytes.clone()), "{line}: another packet");
        let spoiled = dropped(&cluster, DropReason::FragmentOverlap);
        assert_eq!(spoiled as usize + receiver.count(&name(&bad)), 6, "{line}: the rest is dropped for it");
        assert!(spoiled > 1, "{line}");
        cluster.check_accounts();
    }
}

#[test]
fn fragments_that_no_honest_link_makes() {
    let [client, server] = ends(0);
    let one = Datagram::new(client, server, 7, 5000);
    let tcp_head = |data: &[u8]| {
        let mut frame = one.fragment(0, data, true);
        frame[23] = 6;
        sound(&mut frame);
        frame
    };
    let mut long_header = one.bytes[..48].to_vec();
    long_header[12] = 15 << 4;
    let rows = [
        ("a first with a part of the TCP header", tcp_head(&long_header), DropReason::FragmentTiny),
        ("a first with eight bytes", one.fragment(0, &one.bytes[..8], true), DropReason::FragmentTiny),
        ("one of eight bytes", one.fragment(80, &one.bytes[..8], true), DropReason::FragmentTiny),
        ("no multiple of eight", one.fragment(80, &one.bytes[..99], true), DropReason::Malformed),
        ("beyond 65,535 bytes", one.fragment(65_528, &one.bytes[..8], false), DropReason::Malformed),
        ("nothing at all", one.fragment(80, &[], false), DropReason::Malformed),
    ];
    for (line, frame, reason) in rows {
        let mut cluster = Cluster::new();
        cluster.arrive(1, INSIDE, &frame);
        cluster.settle();
        assert_eq!((cluster.delivered.len(), dropped(&cluster, reason)), (0, 1), "{line}");
        cluster.check_accounts();
    }
}

#[test]
fn a_flood_of_fragments_takes_no_more_than_its_room() {
    let mut cluster = Cluster::new();
    let (client, server) = hosts(2, 0);
    let (client, server) = ((client.into(), 4000), (server.into(), 6000));
    // One source, then very many, all with fragments whose first never comes.
    for round in 0..2 {
        for id in 0..3_000_u32 {
            let low = (id / 250) as u8;
            let source: IpAddr =
                if round == 0 { client.0 } else { Ipv4Addr::new(10, 1, low, id as u8).into() };
            let one = Datagram::new((source, 1), server, id, 2_000);
            cluster.arrive(1 + (id % 3) as u16, INSIDE, &one.fragments(1440)[1]);
            if id.is_multiple_of(50) {
                cluster.settle();
            }
            for node in &cluster.nodes {
                let waiting = node.counters.fragments_waiting.get();
                let most = if round == 0 { FRAGMENTS_WAITING_PER_SOURCE.into() } else { FRAGMENTS_WAITING };
                assert!(waiting <= most as u64, "{waiting} wait at node {}", node.id);
            }
        }
        cluster.settle();
        cluster.check_accounts();
        let (reason, more) = match round {
            0 => (DropReason::FragmentSourceFull, 2_500),
            _ => (DropReason::FragmentBufferFull, 1_000),
        };
        assert!(dropped(&cluster, reason) > more, "{} {}", reason.name(), dropped(&cluster, reason));
        // Others are not shut out.
        let honest = Datagram::new((Ipv4Addr::new(10, 1, 200, 1).into(), 9), server, 5 + round, 60_000);
        let mut fragments = honest.fragments(1440);
        fragments.reverse();
        for (at, fragment) in fragments.iter().enumerate() {
            cluster.arrive(1 + at as u16 % 3, INSIDE, fragment);
        }
        cluster.settle();
        let mut receiver = Receiver::default();
        cluster.delivered.drain(..).for_each(|(_, _, frame)| receiver.take(&frame));
        assert!(receiver.whole(&name(&honest)) == Some(honest.bytes.clone()), "round {round}");
        cluster.pass(2_000);
        assert_eq!(waiting(&cluster), 0, "what waits is dropped in time");
    }
    assert!(dropped(&cluster, DropReason::FragmentWithoutFirst) > 0);
    cluster.check_accounts();
}

#[test]
fn too_many_packets_in_fragments_push_out_the_eldest() {
    let mut cluster = Cluster::new();
    cluster.set_aggregation(false);
    let [client, server] = ends(0);
    let early = Datagram::new(client, server, 1, 2_000).fragments(1440);
    cluster.arrive(1, INSIDE, &early[1]);
    for id in 2..5_000 {
        let head = &Datagram::new(client, server, id, 2_000).fragments(1440)[0];
        cluster.arrive(1, INSIDE, head);
    }
    cluster.settle();
    assert_eq!(cluster.drops(1, DropReason::FragmentTrainsFull), 1);
    cluster.check_accounts();
}

/// From inside UDP to port 6000 may begin.
fn policy() -> Arc<Policy> {
    let matches =
        vec![Match { protocols: vec![17], destination_ports: vec![6000..=6000], ..Match::default() }];
    let action = Action::Allow;
    let rule = Rule {
        zones: 1 << 1,
        source: vec![],
        destination: vec![],
        matches,
        action,
        terms: 0,
        local: false,
        log: false,
    };
    Arc::new(Policy::new((1, 1), &[rule], Action::Deny, &[Timeouts::default()], 2).unwrap())
}

#[test]
fn the_policy_holds_for_fragments() {
    for seed in 0..3 {
        let mut cluster = Cluster::new();
        cluster.set_policy(&policy());
        let random = &mut Random(seed);
        let all = datagrams(random, 3);
        let back: Vec<_> = all.iter().skip(1).step_by(2).cloned().collect();
        scatter(&mut cluster, random, &back);
        cluster.pass(2_000);
        assert_eq!(cluster.delivered.len(), 0, "nobody may begin from outside");
        assert!((1..=3).all(|node| cluster.sessions(node).is_empty()), "and nothing is left of it");
        assert!(dropped(&cluster, DropReason::PolicyDenied) >= 3);

        let there: Vec<_> = all.iter().step_by(2).cloned().collect();
        scatter(&mut cluster, random, &there);
        let answers: Vec<_> = back.iter().map(|one| Datagram { id: one.id ^ 1, ..one.clone() }).collect();
        scatter(&mut cluster, random, &answers);
        let pairs: Vec<_> = there.into_iter().zip(answers).flat_map(|(one, two)| [one, two]).collect();
        check_delivered(&cluster, &pairs, "allowed, and its answers");
        cluster.check_accounts();
    }
}

#[test]
fn a_train_may_arrive_at_any_core_of_a_node() {
    for seed in 0..5 {
        let random = &mut Random(seed);
        let wakers = [Arc::new(Waker::new().unwrap()), Arc::new(Waker::new().unwrap())];
        let mut cores = Core::pair(&wakers, [true, true], &lone_settings());
        let all = datagrams(random, 4);
        let mut frames: Vec<_> = all
            .iter()
            .flat_map(|one| one.fragments(1440).into_iter().map(|frame| (side(one.from.0), frame)))
            .collect();
        random.shuffle(&mut frames);
        for (side, frame) in &frames {
            cores[random.below(2)].arrive(*side, frame);
            cores[random.below(2)].turn();
        }
        while cores.iter_mut().map(Core::turn).fold(false, |any, moved| any | moved) {}
        let mut receiver = Receiver::default();
        cores.iter().flat_map(Core::sent).for_each(|(_, frame)| receiver.take(frame));
        for one in &all {
            assert!(receiver.whole(&name(one)) == Some(one.bytes.clone()), "seed {seed}: {:?}", name(one));
        }
        check_frames(&cores);
    }
}
