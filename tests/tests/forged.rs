//! What nodes tell each other, sent again, changed, cut and made up: nobody believes it, nobody is cut off by it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use samepath_tests::bed::plan::{self, CONTROL_PORT, End, Family, NODES};
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::capture::Frame;
use samepath_tests::frame::Way;
use samepath_tests::inlet::Inlet;
use samepath_tests::lab::random::Random;
use samepath_tests::scenario::kept::{Kept, Traffic, start_echo};
use samepath_tests::wait;

/// How long something may take to become true.
const SOON: Duration = Duration::from_secs(30);

/// Datagrams of one test; `SAMEPATH_FORGED` asks for more.
const DATAGRAMS: usize = 20_000;

/// Ethernet, IPv4, UDP.
const HEADERS: usize = 14 + 20 + 8;

/// A datagram of the control channel to node 1, once seen on the link.
struct Heard {
    way: Way,
    payload: Vec<u8>,
}

impl Heard {
    /// Of a captured frame; `None` if it is not for node 1.
    fn of(frame: &Frame) -> Option<Self> {
        let from = [2, 3].into_iter().find(|&node| frame.bytes[6..12] == End::Cluster(node).mac())?;
        let to_node_1 = frame.bytes[..6] == End::Cluster(1).mac();
        let port = |at: usize| u16::from_be_bytes([frame.bytes[at], frame.bytes[at + 1]]);
        let way = Way {
            from: End::Cluster(from),
            to: End::Cluster(1),
            vlan: None,
            source: (plan::cluster_address(Family::V4, from), port(34)),
            destination: (plan::cluster_address(Family::V4, 1), port(36)),
        };
        to_node_1.then(|| Self { way, payload: frame.bytes[HEADERS..].to_vec() })
    }

    /// Sent again as it was, with a bit changed, cut, or with a body (or all of it) made up.
    fn forged(&self, way: usize, random: &mut Random) -> Result<Vec<u8>> {
        let mut payload = self.payload.clone();
        let length = payload.len();
        let mut below = |limit: usize| random.within(0..limit.max(1) as u64) as usize;
        match way {
            0 => {}
            1 => payload[below(length)] ^= 1 << below(8),
            2 => payload.truncate(below(length)),
            // The header with the connection's name stays, and the key is guessed.
            3 => payload[length.min(16)..].fill_with(|| below(256) as u8),
            _ => payload.fill_with(|| below(256) as u8),
        }
        self.way.udp(&payload)
    }
}

fn datagrams() -> Result<usize> {
    match std::env::var("SAMEPATH_FORGED") {
        Ok(asked) => asked.parse().with_context(|| format!("SAMEPATH_FORGED={asked} is not a number")),
        Err(_) => Ok(DATAGRAMS),
    }
}

/// A session but for what changes with every packet: addresses and ports, state, role, Owner, generation.
type Known = (IpAddr, u16, u16, String, String, u16, u32);

/// What node 1 knows of flows.
fn known(bed: &Bed) -> Result<BTreeSet<Known>> {
    let rows = bed.sessions(1)?.into_iter();
    Ok(rows
        .map(|row| (row.src, row.sport, row.dport, row.state, row.role, row.owner, row.generation))
        .collect())
}

fn epochs(bed: &Bed) -> Result<Vec<u64>> {
    (1..=NODES).map(|node| bed.status(node)?["epoch"].as_u64().context("no epoch")).collect()
}

/// QUIC packets node 1 did not believe, by reason. Those without a key count when QUIC has come to all that arrived.
fn unbelieved(bed: &Bed) -> Result<BTreeMap<String, u64>> {
    let mut counts = bed.stats(1)?.control.discarded;
    counts.insert("keyless".into(), bed.stats(1)?.control.keyless);
    Ok(counts)
}

/// What of two counts came between them.
fn between(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    after.iter().map(|(reason, count)| (reason.clone(), count - before.get(reason).unwrap_or(&0))).collect()
}

/// Sends `count` forged datagrams to node 1.
fn forge(bed: &Bed, heard: &[Heard], count: usize) -> Result<()> {
    let mut inlet = Inlet::open((bed.switch(), "n1"), (bed.node_namespace(1), "cluster"))?;
    let mut random = Random::new(1);
    for number in 0..count {
        let one = &heard[random.within(0..heard.len() as u64) as usize];
        inlet.send(&one.forged(number % 5, &mut random)?)?;
    }
    inlet.wait_arrived()
}

#[test]
fn what_nobody_said_on_the_control_channel_is_not_believed_and_cuts_nobody_off() -> Result<()> {
    let count = datagrams()?;
    let mut bed = Bed::new("forged", Shape::default())?;
    let capture = bed.capture_cluster("control")?;
    bed.start_nodes(&[])?;
    bed.forward_via(2)?;
    bed.return_via(3)?;
    let ends = ([plan::client(Family::V4, 0)], [plan::server(Family::V4, 0)]);
    let _echo = start_echo(&bed, &ends.1)?;
    let traffic = Traffic { tcp: 40, udp: 0, ..Traffic::default() };
    let mut kept = Kept::open(&bed, (&ends.0, &ends.1), traffic)?;
    wait::until_true("node 1 has all sessions", SOON, || Ok(known(&bed)?.len() >= traffic.tcp))?;
    let heard = capture.finish(&format!("udp.port == {CONTROL_PORT}"))?;
    let heard: Vec<Heard> = heard.iter().filter_map(Heard::of).collect();
    // The long header of a handshake, and the short one of what comes after.
    for long in [true, false] {
        ensure!(heard.iter().any(|one| (one.payload[0] & 0x80 != 0) == long), "{} datagrams", heard.len());
    }
    let (flows, before, counted) = (known(&bed)?, epochs(&bed)?, unbelieved(&bed)?);
    let control = bed.stats(1)?.control;
    kept.mark()?;
    forge(&bed, &heard, count)?;
    ensure!(known(&bed)? == flows, "sessions changed: {:?}", known(&bed)?);
    ensure!(epochs(&bed)? == before, "members came or went: epochs {before:?}, {:?}", epochs(&bed)?);
    let told = kept.wait_for_calm()?;
    ensure!(told.broken.is_empty() && told.silent == 0, "{told:?}");
    // Each datagram that got into the port holds a packet or more. A beginning of a connection sent again is authentic and comes to nothing.
    let reasons = || Ok::<_, anyhow::Error>(between(&counted, &unbelieved(&bed)?));
    wait::until_true("each is counted by its reason", SOON, || {
        let now = bed.stats(1)?.control;
        let others = now.failed - control.failed + now.overrun - control.overrun;
        Ok(reasons()?.values().sum::<u64>() + others >= count as u64)
    })?;
    let reasons = reasons()?;
    for reason in ["malformed", "connection", "tag", "replay", "keyless"] {
        ensure!(reasons[reason] > 0, "none for {reason}: {reasons:?}");
    }
    // Who is believed still is heard: new flows have their backups.
    drop(kept);
    let _kept = Kept::open(&bed, (&ends.0, &ends.1), traffic)?;
    wait::until_true("node 1 hears of new sessions", SOON, || {
        Ok(known(&bed)?.difference(&flows).count() >= traffic.tcp)
    })?;
    let overrun = bed.stats(1)?.control.overrun - control.overrun;
    println!(
        "{count} datagrams made of {}: none believed, {reasons:?}, {overrun} found no room",
        heard.len()
    );
    bed.finish()
}
