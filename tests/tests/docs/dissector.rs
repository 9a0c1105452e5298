//! `docs/wireshark/samepath.lua` against tunnel packets as nodes write them, shown by tshark.

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use pcap_file::pcap::{PcapPacket, PcapWriter};
use samepath_dataplane::flow::{Direction, FlowKey, Generation, NodeId};
use samepath_dataplane::wire::tunnel::{
    HELLO_ETHERTYPE, Seal, TunnelEnds, TunnelKey, TunnelKind, TunnelOption, emit, overhead,
};
use samepath_tests::artifacts;

/// Fields of the option that are shown, in this order.
const FIELDS: &str = "kind hops zone ingress owner generation epoch sender key stream counter version";

fn option(kind: TunnelKind) -> TunnelOption {
    TunnelOption {
        kind,
        hops: 2,
        zone: 3,
        ingress: NodeId(4),
        owner: NodeId(500),
        generation: Generation(600_000),
        epoch: 70_000,
        sender: NodeId(8),
    }
}

fn frame(kind: TunnelKind, source: &str, destination: &str) -> Vec<u8> {
    let ends = TunnelEnds {
        source_mac: [2, 0, 0, 0, 0, 1],
        destination_mac: [2, 0, 0, 0, 0, 2],
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    };
    let inner = [&[0; 12][..], &HELLO_ETHERTYPE.to_be_bytes()].concat();
    let mut frame = vec![0; overhead(&ends.destination)];
    let seal = Seal { key: 9, stream: 130, counter: 1 << 40 };
    let (flow, key) = (FlowKey::default(), TunnelKey::new([1; 16]));
    emit(&mut frame, inner.len(), &ends, 7, &option(kind), &seal, &key, &flow, Direction::LoToHi, 0);
    frame.extend(inner);
    frame
}

fn decoded(frames: &[Vec<u8>]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tunnel.pcap");
    let mut writer = PcapWriter::new(File::create(&path).unwrap()).unwrap();
    for frame in frames {
        let packet = PcapPacket::new(Duration::ZERO, frame.len() as u32, frame);
        writer.write_packet(&packet).unwrap();
    }
    drop(writer);
    let script = artifacts::workspace().join("docs/wireshark/samepath.lua");
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&path).arg("-X").arg(format!("lua_script:{}", script.display()));
    tshark.args(["-T", "fields", "-E", "separator=,"]);
    for field in FIELDS.split(' ') {
        tshark.args(["-e", &format!("samepath.{field}")]);
    }
    let output = tshark.output().expect("tshark (Debian package tshark)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_kind_is_shown_field_by_field() {
    let kinds = [TunnelKind::Query, TunnelKind::FirstPacket, TunnelKind::Redirect, TunnelKind::Hello];
    for (source, destination) in [("10.1.0.1", "10.1.0.2"), ("fd00::1", "fd00::2")] {
        let shown = decoded(&kinds.map(|kind| frame(kind, source, destination)));
        let expected = kinds.map(|kind| {
            let counter = 1_u64 << 40;
            format!("{},2,3,4,500,600000,70000,8,9,130,{counter},3", kind as u8)
        });
        assert_eq!(shown, expected);
    }
}

#[test]
fn another_version_is_not_taken_apart() {
    let mut other = frame(TunnelKind::Query, "10.1.0.1", "10.1.0.2");
    other[54] = 9;
    assert_eq!(decoded(&[other]), [",,,,,,,,,,,9"]);
}
