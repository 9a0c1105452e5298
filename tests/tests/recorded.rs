//! What was recorded on the cluster link, sent again, whole or with a bit flipped: nobody believes it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use samepath_tests::bed::plan::{End, Family};
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::capture::Frame;
use samepath_tests::inlet::Inlet;
use samepath_tests::lab::random::Random;
use samepath_tests::scenario::steady::Steady;
use samepath_tests::wait;
use serde_json::Value;

/// Traffic that is recorded.
const RECORDED: Duration = Duration::from_millis(600);

/// How long what was sent may take to arrive, and to be looked at.
const SOON: Duration = Duration::from_secs(10);

/// Longer than a node that is believed again needs to be a member (`--peer-timeout-ms` is 800).
const BELIEVED: Duration = Duration::from_millis(1600);

/// Datagrams of the control channel with a bit flipped.
const FLIPPED: usize = 2_560;

/// Where an IPv4 packet's UDP checksum and payload are in a frame without VLAN tags and IP options.
const UDP_CHECKSUM: usize = 14 + 20 + 6;
const UDP_PAYLOAD: usize = 14 + 20 + 8;

/// A port of the switch that leads to node 1.
struct Wire<'a>(Inlet<'a>);

impl<'a> Wire<'a> {
    fn open(bed: &'a Bed) -> Result<Self> {
        Inlet::open((bed.switch(), "n1"), (bed.node_namespace(1), "cluster")).map(Self)
    }

    /// Sends frames and waits until all have arrived.
    fn send<'b>(&mut self, frames: impl IntoIterator<Item = &'b [u8]>) -> Result<()> {
        frames.into_iter().try_for_each(|frame| self.0.send(frame))?;
        self.0.wait_arrived()
    }
}

/// Tunnel packets node 1 has refused, whatever the reason.
fn refused(bed: &Bed) -> Result<u64> {
    let drops = bed.stats(1)?.drops;
    Ok(drops
        .iter()
        .filter(|(reason, _)| reason.starts_with("tunnel_") || *reason == "bad_metadata")
        .map(|(_, n)| n)
        .sum())
}

/// Number, state, connected.
type Member = (Value, Value, Value);

/// What must not change for what is sent: epoch and members, as node 1 sees them.
fn members(bed: &Bed) -> Result<(Value, Vec<Member>)> {
    let members = bed.members(1)?;
    let rows = members["members"].as_array().context("no members")?.iter();
    let rows = rows.map(|row| (row["node"].clone(), row["state"].clone(), row["connected"].clone()));
    Ok((members["epoch"].clone(), rows.collect()))
}

fn to_node_1(frames: &[Frame], port: u16, from: u8) -> Vec<&[u8]> {
    let ends = (End::Cluster(1).mac(), End::Cluster(from).mac());
    let frames = frames.iter().map(|frame| frame.bytes.as_slice());
    frames
        .filter(|bytes| {
            bytes.len() > UDP_PAYLOAD
                && bytes[..12] == [ends.0, ends.1].concat()
                && bytes[36..38] == port.to_be_bytes()
        })
        .collect()
}

/// A bed under traffic, and what crossed its cluster link since before the nodes were there.
fn recorded(name: &str, display_filter: &str) -> Result<(Bed, Vec<Frame>, Steady)> {
    let mut bed = Bed::new(name, Shape::default())?;
    let capture = bed.capture_cluster(name)?;
    bed.start_nodes(&[])?;
    let traffic = Steady::begin(&bed, Family::V4)?;
    std::thread::sleep(RECORDED);
    Ok((bed, capture.finish(display_filter)?, traffic))
}

#[test]
fn recorded_frames_open_nothing_and_keep_no_dead_node_alive() -> Result<()> {
    let (mut bed, frames, traffic) = recorded("recorded", "udp.dstport == 6081 || udp.dstport == 6082")?;
    traffic.end()?.nothing_broke()?;
    bed.kill_node(2)?;
    bed.wait_members(2)?;
    wait::until_true("its control channel is given up", SOON, || Ok(members(&bed)?.1[1].2 == false))?;
    let before = members(&bed)?;
    let refused_before = refused(&bed)?;

    let mut wire = Wire::open(&bed)?;
    let mut tunnelled = 0;
    for from in [2, 3] {
        let tunnel = to_node_1(&frames, 6081, from);
        ensure!(tunnel.len() > 20, "{} tunnel packets of node {from} were recorded", tunnel.len());
        tunnelled += tunnel.len() as u64;
        wire.send(tunnel)?;
        let control = to_node_1(&frames, 6082, from);
        ensure!(control.len() > 20, "{} datagrams of node {from} were recorded", control.len());
        wire.send(control)?;
    }
    wait::until_true("each recorded tunnel packet is counted as refused", SOON, || {
        let refused = refused(&bed)? - refused_before;
        ensure!(refused == tunnelled, "{refused} of {tunnelled}");
        Ok(true)
    })?;
    let since = Instant::now();
    wait::until_true("node 2 stays dead", BELIEVED * 2, || {
        ensure!(members(&bed)? == before, "{:?} became {:?}", before, members(&bed)?);
        Ok(since.elapsed() > BELIEVED)
    })?;
    println!(
        "{tunnelled} tunnel packets refused: {:?}",
        bed.stats(1)?.drops.iter().filter(|(_, n)| **n > 0).collect::<Vec<_>>()
    );
    bed.finish()
}

#[test]
fn datagrams_with_a_bit_flipped_do_not_disturb_the_control_channel() -> Result<()> {
    let (bed, frames, traffic) = recorded("flipped", "udp.dstport == 6082")?;
    // The handshakes are among them: the capture began before the nodes.
    let originals = [2, 3].map(|from| to_node_1(&frames, 6082, from)).concat();
    let before = members(&bed)?;
    let mut random = Random::new(1);
    let mut below = |limit: usize| random.within(0..limit as u64) as usize;
    let mut wire = Wire::open(&bed)?;
    for _ in 0..FLIPPED {
        let mut frame = originals[below(originals.len())].to_vec();
        // 0: no checksum (RFC 768), so that it is QUIC that has to see it.
        frame[UDP_CHECKSUM..UDP_PAYLOAD].fill(0);
        let at = UDP_PAYLOAD + below(frame.len() - UDP_PAYLOAD);
        frame[at] ^= 1 << below(8);
        wire.0.send(&frame)?;
    }
    wire.0.wait_arrived()?;
    ensure!(members(&bed)? == before, "{before:?} became {:?}", members(&bed)?);
    traffic.end()?.nothing_was_lost()?;
    wait::until_true("sessions go on being replicated", SOON, || {
        let replication = bed.stats(1)?.replication;
        ensure!(
            replication.len() == 2 && replication.values().all(|peer| peer.lag_records == 0),
            "{replication:?}"
        );
        Ok(true)
    })?;
    println!("{} datagrams with a bit flipped", wire.0.sent());
    bed.finish()
}
