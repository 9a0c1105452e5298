//! The Director: one look-up per Query, one table per view; and the tunnel's header and tag.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::Criterion;
use samepath_benches::packets::{TCP_SYN, flow};
use samepath_benches::{CpuTime, criterion};
use samepath_dataplane::cluster::director::{Director, DirectorHash, DirectorKey};
use samepath_dataplane::cluster::view::Member;
use samepath_dataplane::flow::{Direction, Generation, NodeId};
use samepath_dataplane::wire::tunnel::{self, Seal, TunnelEnds, TunnelKey, TunnelKind, TunnelOption};

const KEY: DirectorKey = DirectorKey([3; 16]);

fn members(count: u16) -> Vec<Member> {
    (1..=count).map(|node| Member { node: NodeId(node), weight: 1 }).collect()
}

fn look_up(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("director/of a flow");
    for (name, hash) in [("ip-pair", DirectorHash::IpPair), ("five-tuple", DirectorHash::FiveTuple)] {
        let director = Director::new(&members(3), hash, &KEY);
        let flows: Vec<_> = (0..4096).map(|number| flow(number << 8)).collect();
        let mut next = flows.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| next.next().map(|flow| director.of(black_box(flow))));
        });
    }
    group.finish();
}

fn table(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("director/table of a view");
    group.sample_size(10);
    for count in [3, 16, 64] {
        let members = members(count);
        group.bench_function(format!("{count} members"), |bencher| {
            bencher.iter(|| Director::new(black_box(&members), DirectorHash::IpPair, &KEY));
        });
    }
    group.finish();
}

fn header(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("tunnel");
    let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let ends = TunnelEnds {
        source_mac: [2, 0, 0, 0, 0, 1],
        destination_mac: [2, 0, 0, 0, 0, 2],
        source: address("10.9.0.1"),
        destination: address("10.9.0.2"),
    };
    let option = TunnelOption {
        kind: TunnelKind::Redirect,
        hops: 1,
        zone: 1,
        ingress: NodeId(3),
        owner: NodeId(1),
        generation: Generation(1),
        epoch: 7,
        sender: NodeId(3),
    };
    let (key, flow) = (TunnelKey::new([5; 16]), flow(1));
    let outer = tunnel::overhead(&ends.destination);
    let mut frame = vec![0; outer];
    frame.extend(TCP_SYN);
    let emit = |frame: &mut [u8]| {
        let length = frame.len() - outer;
        tunnel::emit(
            &mut frame[..outer],
            length,
            &ends,
            7001,
            &option,
            &Seal { key: 1, stream: 0, counter: 1 },
            &key,
            &flow,
            Direction::LoToHi,
            0x1234_5678,
        );
    };
    group.bench_function("emit headers and tag", |bencher| bencher.iter(|| emit(black_box(&mut frame))));
    emit(&mut frame);
    group.bench_function("parse option", |bencher| {
        bencher.iter(|| tunnel::parse(black_box(&frame), outer));
    });
    let received = tunnel::parse(&frame, outer).expect("it was just written");
    assert!(received.verify(&key, &flow, Direction::LoToHi));
    group.bench_function("verify tag", |bencher| {
        bencher.iter(|| received.verify(&key, black_box(&flow), Direction::LoToHi));
    });
    group.finish();
}

fn main() {
    let mut criterion = criterion();
    look_up(&mut criterion);
    table(&mut criterion);
    header(&mut criterion);
    criterion.final_summary();
}
