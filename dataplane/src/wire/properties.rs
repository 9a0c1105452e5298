//! Properties of arbitrary and of mutated bytes: whatever arrives gets an answer, and what is written
//! can be read.

use proptest::prelude::*;

use crate::flow::{Direction, FlowKey, Generation, NodeId};
use crate::session::State;
use crate::wire::flow_hash::FlowHasher;
use crate::wire::layout::Layout;
use crate::wire::packet::{L4, Packet};
use crate::wire::record::{Record, TcpReplica};
use crate::wire::tunnel::{self, Received, Seal, TunnelEnds, TunnelKey, TunnelKind, TunnelOption, overhead};
use crate::wire::{rewrite, samples};

fn any_flow() -> impl Strategy<Value = (FlowKey, Direction)> {
    let mapped = any::<[u8; 4]>().prop_map(|octets| crate::flow::key_bytes(octets.into()));
    let ends = prop_oneof![
        (mapped.clone(), mapped),
        (any::<[u8; 16]>(), any::<[u8; 16]>())
            .prop_filter("mapped", |(a, b)| { a[..2] != [0, 0] || b[..2] != [0, 0] }),
    ];
    (ends, any::<(u16, u16)>(), any::<u8>(), any::<(u16, u16)>())
        .prop_map(|((a, b), ports, proto, vlans)| FlowKey::new((a, ports.0), (b, ports.1), proto, vlans))
}

fn any_seal() -> impl Strategy<Value = Seal> {
    any::<(u8, u8, u64)>().prop_map(|(key, stream, counter)| Seal { key, stream, counter })
}

fn any_option() -> impl Strategy<Value = TunnelOption> {
    let kinds = prop::sample::select(vec![
        TunnelKind::Query,
        TunnelKind::FirstPacket,
        TunnelKind::Redirect,
        TunnelKind::Hello,
        TunnelKind::Lookup,
        TunnelKind::Gather,
    ]);
    (kinds, any::<[u8; 2]>(), any::<[u16; 3]>(), any::<[u32; 2]>()).prop_map(
        |(kind, [hops, zone], [ingress, owner, sender], [generation, epoch])| TunnelOption {
            kind,
            hops,
            zone,
            ingress: NodeId(ingress),
            owner: NodeId(owner),
            generation: Generation(generation),
            epoch,
            sender: NodeId(sender),
        },
    )
}

fn any_ends() -> impl Strategy<Value = TunnelEnds> {
    let macs = any::<([u8; 6], [u8; 6])>();
    let addresses = prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (a.into(), b.into())),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (a.into(), b.into())),
    ];
    (macs, addresses).prop_map(|((source_mac, destination_mac), (source, destination))| TunnelEnds {
        source_mac,
        destination_mac,
        source,
        destination,
    })
}

fn any_record() -> impl Strategy<Value = Record> {
    let identity = (any_flow(), 1..=u16::MAX, any::<[u32; 5]>());
    let rest = (any::<bool>(), prop::sample::select(State::ALL.to_vec()), any::<[[u8; 2]; 2]>(), any::<u8>());
    (identity, rest).prop_map(
        |(((key, origin), owner, numbers), (remove, state, [scale, flags], admitted))| Record {
            remove,
            key,
            owner: NodeId(owner),
            generation: Generation(numbers[0]),
            version: numbers[1],
            state,
            origin,
            tcp: TcpReplica { scale, flags },
            age_s: numbers[2],
            timeout_s: numbers[3],
            admitted,
            service: owner as u8 & 0x0f,
            policy: numbers[4],
        },
    )
}

/// A frame of the samples with some bytes overwritten and its end cut off or extended.
fn mutated_frame() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let cut = prop_oneof![3 => Just(usize::MAX), 1 => 0..120_usize];
    let tail = prop::collection::vec(any::<u8>(), 0..8);
    (prop::sample::select(samples::all()), edits, cut, tail).prop_map(|(mut frame, edits, cut, tail)| {
        for (at, value) in edits {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        frame.truncate(cut);
        frame.extend(tail);
        frame
    })
}

/// Reads a frame in every way there is; what `read` accepts must also be rewritable.
fn exercise(frame: &[u8], hasher: &FlowHasher) {
    let layouts = [Layout::parse(frame, 1, hasher), Layout::parse_inner(frame, 82, 1, hasher)];
    for layout in layouts.into_iter().flatten().filter(|layout| !layout.is_hello()) {
        assert_eq!(Layout::from_metadata(&layout.to_metadata()), layout);
        let Ok(packet) = Packet::read(frame, layout) else { continue };
        assert_eq!(packet.fragment.is_some(), layout.is_fragment());
        if packet.fragment.is_none() {
            assert_eq!(hasher.hash(&packet.key), layout.flow_hash);
        } else if packet.l4 != L4::IcmpError {
            assert_eq!(hasher.hash_without_ports(&packet.key), layout.flow_hash);
        }
        let mut forwarded = frame.to_vec();
        assert_eq!(rewrite::decrement_ttl(&mut forwarded, &layout), packet.ttl > 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_get_an_answer(
        frame in prop::collection::vec(any::<u8>(), 0..200),
        metadata: [u8; 24],
        inner_off: usize,
    ) {
        exercise(&frame, &FlowHasher::new(7));
        let _answer = Packet::read(&frame, Layout::from_metadata(&metadata));
        let _answer = tunnel::parse(&frame, inner_off);
        let _answer = tunnel::parse(&frame, inner_off % 200);
        let _answer = Record::decode(&mut &frame[..]);
    }

    #[test]
    fn mutated_frames_get_an_answer(frame in mutated_frame(), metadata: [u8; 24]) {
        exercise(&frame, &FlowHasher::new(7));
        let _answer = Packet::read(&frame, Layout::from_metadata(&metadata));
    }

    #[test]
    fn mutated_metadata_gets_an_answer(
        frame in prop::sample::select(samples::all()),
        at in 4..24_usize,
        value: u8,
    ) {
        let layout = Layout::parse(&frame, 1, &FlowHasher::new(7)).unwrap();
        let mut metadata = layout.to_metadata();
        metadata[at] = value;
        let _answer = Packet::read(&frame, Layout::from_metadata(&metadata));
    }

    #[test]
    fn flow_hash_is_symmetric(
        seed: u64,
        a: ([u8; 16], u16),
        b: ([u8; 16], u16),
        proto_vlans: u32,
    ) {
        let hasher = FlowHasher::new(seed);
        let there = hasher.hash_parts((&a.0, a.1), (&b.0, b.1), proto_vlans);
        let back = hasher.hash_parts((&b.0, b.1), (&a.0, a.1), proto_vlans);
        prop_assert_eq!(there, back);
    }

    #[test]
    fn tunnel_headers_come_back(
        ends in any_ends(),
        option in any_option(),
        seal in any_seal(),
        cluster in 0..1_u32 << 24,
        key: [u8; 16],
        (flow, direction) in any_flow(),
        entropy: u32,
    ) {
        let mut outer = vec![0xee; overhead(&ends.destination)];
        let key = TunnelKey::new(key);
        tunnel::emit(
            &mut outer, 60, &ends, cluster, &option, &seal, &key, &flow, direction, entropy,
        );
        let received: Received = tunnel::parse(&outer, outer.len()).unwrap();
        prop_assert_eq!((received.option, received.seal), (option, seal));
        prop_assert_eq!(received.cluster, cluster);
        prop_assert!(received.verify(&key, &flow, direction));
    }

    #[test]
    fn tag_covers_the_whole_flow(
        option in any_option(),
        seal in any_seal(),
        (flow, direction) in any_flow(),
        bit in 0..320_usize,
    ) {
        let ends = TunnelEnds {
            source_mac: [2; 6],
            destination_mac: [4; 6],
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 2].into(),
        };
        let key = TunnelKey::new([9; 16]);
        let mut outer = [0; 90];
        tunnel::emit(&mut outer, 60, &ends, 5, &option, &seal, &key, &flow, direction, 0);
        let received = tunnel::parse(&outer, 90).unwrap();
        let mut other = flow;
        match bit {
            0..128 => other.lo[bit / 8] ^= 1 << (bit % 8),
            128..256 => other.hi[bit / 8 - 16] ^= 1 << (bit % 8),
            256..272 => other.lo_port ^= 1 << (bit - 256),
            272..288 => other.hi_port ^= 1 << (bit - 272),
            _ => other.proto_vlans ^= 1 << (bit - 288),
        }
        prop_assert!(!received.verify(&key, &other, direction));
    }

    #[test]
    fn records_come_back(record in any_record(), tail in prop::collection::vec(any::<u8>(), 0..9)) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        bytes.extend(&tail);
        let mut rest = &bytes[..];
        prop_assert_eq!(Record::decode(&mut rest), Ok(record));
        prop_assert_eq!(rest, &tail[..]);
    }

    #[test]
    fn mutated_records_get_an_answer(
        record in any_record(),
        at: prop::sample::Index,
        value: u8,
        cut: prop::sample::Index,
    ) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Ok(read) = Record::decode(&mut &bytes[..]) {
            let mut again = Vec::new();
            read.encode(&mut again);
            prop_assert_eq!(Record::decode(&mut &again[..]), Ok(read));
        }
        let cut = cut.index(bytes.len());
        prop_assert!(Record::decode(&mut &bytes[..cut]).is_err());
    }
}
