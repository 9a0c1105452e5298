//! Tunnel packets of a real node, recorded on the switch, to be sent again at any rate.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use pcap_file::pcap::PcapReader;
use samepath_tests::bed::Service;
use samepath_tests::wait;

use crate::forwarder::{ForwarderKeys, InnerFlow};
use crate::generator::{Generator, Recorded, Stream};
use crate::rig::{Rig, switch_port};

/// Packets per second while recording: what dumpcap certainly follows.
const RATE: f64 = 20_000.0;

/// Addresses and ports of the inner packet, which is 60 octets long and stands at the end.
fn inner_flow(frame: &[u8]) -> Option<InnerFlow> {
    let inner = frame.len().checked_sub(60)?;
    let mut flow = [0; 12];
    flow.copy_from_slice(frame.get(inner + 26..inner + 38)?);
    Some(flow)
}

/// Sends one packet of each of the stream's flows into node `number` and keeps what it tunnels to the device:
/// one frame per flow that it has published for its XDP program.
pub fn record(rig: &Rig, number: u8, stream: &Stream, keys: &ForwarderKeys) -> Result<Vec<Recorded>> {
    let file = rig.runtime().join("recording.pcap");
    let mut command = rig.generator.command("dumpcap");
    command.args(["-q", "-P", "-p", "-B", "64", "-f", "udp dst port 6081 and greater 120", "-w"]).arg(&file);
    command.args(["-i", &switch_port(number)]);
    let mut service = Service::start(rig.prefix(), rig.logs(), "dumpcap", &mut command)?;
    wait::until_true("dumpcap records", Duration::from_secs(5), || {
        Ok(fs::metadata(&file).is_ok_and(|metadata| metadata.len() > 0))
    })
    .map_err(|error| error.context(service.log_tail()))?;
    // dumpcap opens its file a moment before it listens.
    std::thread::sleep(Duration::from_millis(300));
    let once = Stream::once(stream.kind, stream.reverse, stream.flows, RATE, &stream.way);
    Generator::send(rig, once.from_flow(stream.first_flow))?;
    std::thread::sleep(Duration::from_millis(1500));
    service.signal(Signal::SIGINT)?;
    service.wait(Duration::from_secs(10))?;
    let frames: Vec<Recorded> = read(&file)?
        .into_iter()
        .filter_map(|(flow, bytes)| Some(Recorded { bytes, secret: *keys.secrets.get(&flow)? }))
        .collect();
    if (frames.len() as u64) < stream.flows * 95 / 100 {
        let published = keys.secrets.len();
        bail!(
            "{} of {} flows were recorded on their way through node {number}, which has published {published}",
            frames.len(),
            stream.flows
        );
    }
    Ok(frames)
}

/// One frame per flow.
fn read(path: &std::path::Path) -> Result<BTreeMap<InnerFlow, Vec<u8>>> {
    let mut reader = PcapReader::new(File::open(path)?).context("dumpcap's file")?;
    let mut frames = BTreeMap::new();
    while let Some(packet) = reader.next_packet() {
        let frame = packet?.data.into_owned();
        if let Some(flow) = inner_flow(&frame) {
            frames.insert(flow, frame);
        }
    }
    Ok(frames)
}
