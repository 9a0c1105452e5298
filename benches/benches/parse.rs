//! From bytes to a packet: all of it in user space (`Layout::parse`, what the XDP program does for
//! the worker), and what is left to the worker (`Layout::from_metadata`, `Packet::read`).

use std::hint::black_box;

use samepath_benches::criterion;
use samepath_benches::packets::{TCP_SYN, UDP_V6, flow};
use samepath_dataplane::wire::flow_hash::FlowHasher;
use samepath_dataplane::wire::layout::Layout;
use samepath_dataplane::wire::packet::Packet;

fn main() {
    let mut criterion = criterion();
    let hasher = FlowHasher::new(0x0123_4567_89ab_cdef);
    let mut group = criterion.benchmark_group("parse");
    for (name, frame) in [("TCP over IPv4", &TCP_SYN[..]), ("UDP over IPv6", &UDP_V6[..])] {
        let layout = Layout::parse(frame, 0, &hasher).expect("a plain packet");
        let metadata = layout.to_metadata();
        group.bench_function(format!("{name}/Layout::parse"), |bencher| {
            bencher.iter(|| Layout::parse(black_box(frame), 0, &hasher));
        });
        group.bench_function(format!("{name}/from_metadata and read"), |bencher| {
            bencher.iter(|| Packet::read(black_box(frame), Layout::from_metadata(black_box(&metadata))));
        });
    }
    let key = flow(1);
    group.bench_function("flow hash", |bencher| bencher.iter(|| hasher.hash(black_box(&key))));
    group.finish();
    criterion.final_summary();
}
