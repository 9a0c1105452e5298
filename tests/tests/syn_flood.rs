//! A flood of SYNs from random sources: who has a connection keeps it, who wants one gets it, memory is flat and
//! nobody is taken for dead.

use anyhow::{Result, ensure};
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::scenario::flood::{self, Size};

/// Less than the flood makes, so that it has to push itself out; more than the users need.
fn sessions(size: Size) -> String {
    (4 * (size.tcp + size.udp)).max(32_768).to_string()
}

#[test]
fn a_flood_of_syns_is_not_noticed_by_those_who_have_connections_and_hardly_by_others() -> Result<()> {
    let size = Size::asked()?;
    let mut bed = Bed::new("floods", Shape::default())?;
    bed.start_nodes(&["--sessions-max", &sessions(size)])?;
    let outcome = flood::play(&mut bed, size)?;
    let flood::Outcome { flood, told, new, resident, evicted, epochs } = &outcome;
    let silence = |sorted: &[f64]| sorted.last().copied().unwrap_or(0.0);
    println!(
        "{} SYNs at {:.0}/s for {} s beside {} conversations: broken {}, stalled {}, silent {}, longest silence {:.0} ms \
         (TCP) {:.0} ms (UDP); new connections {} of {} {:?}; evicted {evicted:?}; resident KiB {resident:?}; epochs {epochs:?}",
        flood.0,
        flood.1,
        size.seconds,
        told.tcp + told.udp_silence_ms.len(),
        told.broken.values().sum::<usize>(),
        told.stalled,
        told.silent,
        silence(&told.tcp_silence_ms),
        silence(&told.udp_silence_ms),
        new.ok,
        new.attempted,
        new.errors,
    );
    ensure!(told.tcp == size.tcp && told.broken.is_empty() && told.stalled == 0, "live flows: {told:?}");
    ensure!(new.ok * 100 >= new.attempted * 95, "new connections: {new:?}");
    ensure!(evicted.iter().all(|&count| count > 0), "the flood must push itself out everywhere: {evicted:?}");
    ensure!(epochs.iter().all(|(before, after)| before == after), "members came and went: epochs {epochs:?}");
    for (node, (filled, full)) in (1..).zip(resident) {
        ensure!(*full <= filled + filled / 10, "node {node} grew from {filled} to {full} KiB");
    }
    bed.stop_nodes()?;
    bed.remove()
}
