//! Captures nobody here wrote, sent into a data interface and into the cluster link of a running node:
//! it goes on, and every frame is counted.

#[path = "captures/files.rs"]
mod files;

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use samepath_tests::bed::plan::{self, CLUSTER_ID, End, Family, TUNNEL_PORT};
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::frame::Way;
use samepath_tests::inlet::Inlet;

/// The shortest frame the kernel lets out: an Ethernet header.
const SHORTEST: usize = 14;

/// What the tunnel puts in front of a frame: Ethernet, IPv4, UDP, Geneve, option.
const TUNNEL: usize = 14 + 20 + 8 + 8 + 4 + OPTION_DATA;

/// What our option of the tunnel carries (docs/protocol.md).
const OPTION_DATA: usize = 36;

/// One way into node 1.
struct Road<'a> {
    interface: &'static str,
    /// Largest frame the link carries, Ethernet header included.
    longest: usize,
    inlet: Inlet<'a>,
    too_long: usize,
    too_short: usize,
}

impl<'a> Road<'a> {
    fn open(bed: &'a Bed, interface: &'static str) -> Result<Self> {
        let (from, longest) = match interface {
            "inside" => (bed.router_a(), 1514),
            _ => (bed.switch(), plan::CLUSTER_MTU as usize + 14),
        };
        let inlet = Inlet::open((from, "n1"), (bed.node_namespace(1), interface))?;
        Ok(Self { interface, longest, inlet, too_long: 0, too_short: 0 })
    }

    fn send(&mut self, frame: &[u8]) -> Result<()> {
        if frame.len() > self.longest {
            self.too_long += 1;
        } else if frame.len() < SHORTEST {
            self.too_short += 1;
        } else {
            self.inlet.send(frame)?;
        }
        Ok(())
    }

    fn close(mut self) -> Result<()> {
        self.inlet.wait_arrived()?;
        println!(
            "{}: {} frames sent, {} too long for the link, {} too short to send",
            self.interface,
            self.inlet.sent(),
            self.too_long,
            self.too_short
        );
        ensure!(self.inlet.sent() > 1000, "too few frames to mean anything");
        Ok(())
    }
}

/// The frame as if it were meant for this interface.
fn addressed_to(frame: &[u8], end: End) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame.len() >= SHORTEST {
        frame[..6].copy_from_slice(&end.mac());
    }
    frame
}

/// The frame inside a tunnel packet from node 2 to node 1, whose tag nobody made, under every key there could be.
fn tunnelled(frame: &[u8], number: u64) -> Result<Vec<u8>> {
    // Query, FirstPacket, Redirect and Hello in turn.
    let kind = 1 + (number % 4) as u8;
    let ends = |node| SocketAddr::new(plan::cluster_address(Family::V4, node), TUNNEL_PORT);
    let way = Way {
        from: End::Cluster(2),
        to: End::Cluster(1),
        vlan: None,
        source: (ends(2).ip(), 50_000),
        destination: (ends(1).ip(), TUNNEL_PORT),
    };
    let mut payload = vec![(4 + OPTION_DATA) as u8 / 4, 0, 0x65, 0x58];
    payload.extend_from_slice(&(CLUSTER_ID << 8).to_be_bytes());
    payload.extend_from_slice(&[0xff, 0x53, 0x01, (OPTION_DATA / 4) as u8]);
    let mut option = [0; OPTION_DATA];
    (option[0], option[1], option[2], option[17], option[18]) = (3, kind, 1, 2, (number / 4) as u8);
    // Ingress and Owner: whoever sends this kind of packet.
    (option[5], option[7]) = (2, 2);
    option[20..28].copy_from_slice(&number.to_be_bytes());
    payload.extend_from_slice(&option);
    payload.extend_from_slice(frame);
    way.udp(&payload)
}

#[test]
fn a_running_node_stands_every_capture_and_counts_every_frame() -> Result<()> {
    let Some(folder) = files::folder("replay into a running node") else { return Ok(()) };
    let mut bed = Bed::new("replay", Shape::default())?;
    bed.start_nodes(&[])?;
    let mut data = Road::open(&bed, "inside")?;
    let mut cluster = Road::open(&bed, "cluster")?;
    let mut outcome = Ok(());
    let totals = files::each_frame(&folder, |name, number, frame| {
        if outcome.is_ok() {
            outcome = replay(&mut data, &mut cluster, frame)
                .map_err(|error| error.context(format!("{name} frame {number}")));
        }
    })?;
    outcome?;
    print(&totals);
    data.close()?;
    cluster.close()?;
    let stats = bed.stats(1)?;
    println!("drops: {:?}", stats.drops.iter().filter(|(_, n)| **n > 0).collect::<Vec<_>>());
    for reason in ["tunnel_key", "tunnel_tag"] {
        ensure!(stats.dropped_for(reason) > 100, "forged tunnel packets did not get as far as {reason}");
    }
    for node in bed.running() {
        ensure!(bed.status(node)?["ready"] == true, "node {node} is not ready any more");
    }
    bed.wait_members(plan::NODES)?;
    bed.finish()
}

fn replay(data: &mut Road<'_>, cluster: &mut Road<'_>, frame: &[u8]) -> Result<()> {
    data.send(frame)?;
    data.send(&addressed_to(frame, End::Inside(1)))?;
    cluster.send(&addressed_to(frame, End::Cluster(1)))?;
    if frame.len() + TUNNEL > cluster.longest {
        cluster.too_long += 1;
        return Ok(());
    }
    cluster.send(&tunnelled(frame, data.inlet.sent())?)
}

fn print(totals: &files::Totals) {
    println!("{} frames in {} files with Ethernet", totals.frames, totals.ethernet_files);
    println!(
        "skipped: files of other link types {:?}, {} frames of others; read up to an error: {}",
        totals.other_files,
        totals.other_frames,
        totals.broken_files.len()
    );
}
