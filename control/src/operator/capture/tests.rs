//! Files are read by another program's reader.

use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};

use super::*;
use crate::operator::watch::{FlowSeen, OutSeen};
use crate::operator::why::Said;

fn seen(reason: Option<&'static str>) -> Seen {
    let flow = FlowSeen {
        proto: "tcp".into(),
        src: "10.1.0.10".parse().unwrap(),
        sport: 4000,
        dst: "10.2.0.10".parse().unwrap(),
        dport: 80,
        vlan: 0,
    };
    let left = reason.is_none();
    Seen {
        at_ns: 1_700_000_000_123_456_789,
        packet: "00000000000000ff".into(),
        interface: "inside".into(),
        queue: Some(1),
        length: 60,
        flow: Some(flow),
        said: left.then(|| Said { verdict: "forward".into(), ..Said::default() }),
        outcome: if left { "left" } else { "dropped" }.into(),
        reason: reason.map(Into::into),
        out: left.then(|| OutSeen { interface: "outside".into(), queue: 0, pieces: 1, length: 58 }),
        frame: Some(STANDARD.encode([1; 60])),
        frame_left: left.then(|| STANDARD.encode([2; 58])),
        ..Seen::default()
    }
}

#[test]
fn packets_have_interface_direction_time_and_a_comment_with_the_reason() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let order = CaptureOrder {
        filter: PacketFilter::default(),
        file: file.path().into(),
        count: 10,
        snap: 4096,
        slots: 1,
        timeout: None,
    };
    let mut writer = Writer::open(&order).unwrap();
    writer.packet(&seen(None)).unwrap();
    writer.packet(&seen(Some("policy_denied"))).unwrap();
    let missed = NodeWatched { missed_full: 2, missed_rate: 3, ..NodeWatched::default() };
    writer.finish(&missed).unwrap();
    let mut reader = PcapNgReader::new(std::fs::File::open(file.path()).unwrap()).unwrap();
    let (mut packets, mut interfaces, mut statistics) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.unwrap().into_owned() {
            Block::EnhancedPacket(packet) => packets.push(packet),
            Block::InterfaceDescription(interface) => interfaces.push(format!("{interface:?}")),
            Block::InterfaceStatistics(told) => statistics.push(format!("{told:?}")),
            other => panic!("{other:?}"),
        }
    }
    assert!(interfaces[0].contains("\"inside\"") && interfaces[1].contains("\"outside\""), "{interfaces:?}");
    let told: Vec<_> = packets
        .iter()
        .map(|packet| {
            let flags = packet.options.iter().find_map(|option| match option {
                EnhancedPacketOption::Flags(flags) => Some(*flags),
                _ => None,
            });
            (packet.interface_id, packet.original_len, packet.data[0], flags)
        })
        .collect();
    assert_eq!(told, [(0, 60, 1, Some(1)), (1, 58, 2, Some(2)), (0, 60, 1, Some(1))]);
    assert!(packets.iter().all(|packet| packet.timestamp == Duration::from_nanos(1_700_000_000_123_456_789)));
    let comment = |at: usize| match &packets[at].options[0] {
        EnhancedPacketOption::Comment(text) => text.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(comment(0).starts_with("verdict: forward; arrives by inside, queue 1;"), "{}", comment(0));
    assert!(comment(2).starts_with("verdict: drop (policy_denied);"), "{}", comment(2));
    assert!(
        statistics[0].contains("missed 5 packets") && statistics[0].contains("IsbOsDrop(5)"),
        "{statistics:?}"
    );
}
