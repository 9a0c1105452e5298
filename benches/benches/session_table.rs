//! Look-ups in one core's session table, one flow after the other in random order, as a worker does
//! them today (no batching, no prefetch), with the first touch of the session found.

use std::hint::black_box;

use criterion::Criterion;
use samepath_benches::packets::flow;
use samepath_benches::{CpuTime, criterion};
use samepath_dataplane::clock::NowMs;
use samepath_dataplane::flow::{Direction, FlowKey, Generation, NodeId};
use samepath_dataplane::session::table::SessionTable;
use samepath_dataplane::session::tcp::TcpTracking;
use samepath_dataplane::session::{Role, Session, State};

fn session(key: FlowKey) -> Session {
    Session {
        key,
        role: Role::Owner,
        state: State::TcpEstablished,
        origin: Direction::LoToHi,
        dirty: false,
        owner: NodeId(1),
        mark: 0,
        generation: Generation(1),
        version: 1,
        tcp: TcpTracking::default(),
        hops: Default::default(),
        created: NowMs(1),
        expires: NowMs(432_000_000),
        timeout_ms: 432_000_000,
        packets: 0,
        bytes: 0,
    }
}

/// Numbers `0..count` (a power of two) in an order no prefetcher guesses.
fn shuffled(count: u32) -> impl Iterator<Item = u32> {
    let mut at = 1u32;
    std::iter::repeat_with(move || {
        at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (at >> 4) % count
    })
}

fn look_up(criterion: &mut Criterion<CpuTime>, sessions: u32) {
    let mut table = SessionTable::new(sessions as usize);
    for number in 0..sessions {
        table.insert(session(flow(number))).expect("there is room");
    }
    let mut group = criterion.benchmark_group("session_table/find and touch");
    let mut known = shuffled(sessions);
    group.bench_function(format!("known, {sessions} sessions"), |bencher| {
        bencher.iter(|| {
            let slot = table.find(black_box(&flow(known.next().unwrap_or(0))));
            slot.map(|slot| table.get(slot).expires)
        });
    });
    let mut unknown = shuffled(sessions);
    group.bench_function(format!("unknown, {sessions} sessions"), |bencher| {
        bencher.iter(|| table.find(black_box(&flow(sessions + unknown.next().unwrap_or(0)))));
    });
    group.finish();
}

fn main() {
    println!("a session record has {} bytes", size_of::<Session>());
    let mut criterion = criterion();
    for sessions in [1 << 10, 1 << 16, 1 << 20] {
        look_up(&mut criterion, sessions);
    }
    criterion.final_summary();
}
