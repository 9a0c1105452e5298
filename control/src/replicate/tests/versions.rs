//! Releases of different age: recorded bytes of version 1, and a node of the next version against this one.

use std::collections::VecDeque;
use std::sync::Arc;

use quinn::{RecvStream, SendStream};
use samepath_dataplane::clock::NowMs;
use samepath_dataplane::flow::{FlowKey, Generation, NodeId, proto};
use samepath_dataplane::session::State;
use samepath_dataplane::wire::record::Record;

use super::link::{A, B, machine};
use super::nodes::{Ca, Net, Node, on_one_thread, until};
use super::{identity, record};
use crate::replicate::event::PeerEvent;
use crate::replicate::hello::{Hello, Identity, Versions};
use crate::replicate::machine::Machine;
use crate::replicate::message::{self, Ack, Claim, Message, VERSION};
use crate::replicate::{BulkRoom, tls};

const NEXT: Versions = Versions { lowest: VERSION as u16, highest: VERSION as u16 + 1 };

fn recorded() -> Vec<(&'static str, Vec<u8>)> {
    let lines = include_str!("version_1.txt").lines().filter(|line| !line.starts_with('#'));
    let byte = |hex: &[u8]| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap();
    lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, hex)| (name, hex.as_bytes().chunks(2).map(byte).collect()))
        .collect()
}

/// The records in the recording: one TCP over IPv4, the end of one UDP over IPv6.
fn recorded_records() -> [Record; 2] {
    let v4 = |octets: [u8; 4]| std::net::Ipv4Addr::from(octets).to_ipv6_mapped().octets();
    let v6 = |address: &str| address.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let (tcp, _) = FlowKey::new((v4([10, 0, 0, 1]), 4000), (v4([192, 0, 2, 9]), 80), proto::TCP, (7, 9));
    let (udp, origin) =
        FlowKey::new((v6("2001:db8::1"), 53), (v6("2001:db8:ffff::2"), 5353), proto::UDP, (0, 0));
    let first = Record {
        key: tcp,
        owner: NodeId(258),
        generation: Generation(0x0304_0506),
        version: 0x0708_090a,
        origin: origin.reversed(),
        tcp: samepath_dataplane::wire::record::TcpReplica { scale: [7, 14], flags: [0x41, 0x42] },
        age_s: 0x1112_1314,
        timeout_s: 432_000,
        policy: 0x2122_2324,
        ..record(1, 1)
    };
    let second = Record {
        remove: true,
        key: udp,
        version: 2,
        state: State::from_wire(17).unwrap(),
        origin,
        age_s: 0,
        timeout_s: 0,
        ..record(1, 1)
    };
    [first, second]
}

#[test]
fn recorded_bytes_of_version_1_are_read() {
    let [tcp, udp] = recorded_records();
    let claim = Claim { key: tcp.key, generation: tcp.generation };
    let messages = [
        Message::BulkBegin { sync: 3, after: 12 },
        Message::Page { sync: 3, records: vec![tcp] },
        Message::Records { first: 13, records: vec![tcp, udp] },
        Message::BulkEnd { sync: 3 },
        Message::ClaimChecks(vec![claim]),
        Message::ClaimsDenied(vec![claim]),
        Message::HandOver(vec![tcp]),
        Message::Ack(Ack { sequence: 14, sync: 3, pages: 2 }),
    ];
    let recorded = recorded();
    let Ok(Message::Hello(hello)) = Message::decode(&recorded[0].1[4..]) else { panic!("a Hello") };
    assert_eq!(hello.versions, Versions { lowest: 1, highest: 1 });
    assert_eq!((hello.node, hello.cluster, hello.boot_id, hello.held.sequence), (A, 7, 0xb001, 12));
    assert_eq!(recorded.len(), 1 + messages.len());
    for ((name, bytes), message) in recorded[1..].iter().zip(messages) {
        assert_eq!(Message::decode(&bytes[4..]), Ok(message), "{name}");
    }
}

#[test]
fn the_highest_common_version_is_used() {
    let versions = |lowest, highest| Versions { lowest, highest };
    for (one, other, common) in [
        ((1, 1), (1, 1), Some(1)),
        ((1, 1), (1, 2), Some(1)),
        ((1, 2), (2, 3), Some(2)),
        ((1, 3), (1, 2), Some(2)),
        ((1, 1), (2, 3), None),
    ] {
        let (one, other) = (versions(one.0, one.1), versions(other.0, other.1));
        assert_eq!((one.common(other), other.common(one)), (common, common), "{one} and {other}");
    }
}

/// What a later release may add: fields behind every body, and in every record.
fn longer(frame: &[u8]) -> Vec<u8> {
    let mut body = frame[4..].to_vec();
    let first_record = match body[1] {
        2 => 12,
        4 => 8,
        9 => 4,
        _ => body.len(),
    };
    let mut at = first_record;
    while at < body.len() {
        let end = at + usize::from(body[at + 1]);
        body[at + 1] += 4;
        body[at + 2] |= 0x80;
        body.splice(end..end, [0xee; 4]);
        at = end + 4;
    }
    body.extend_from_slice(&[0x7f, 0xff, 0, 3, 1, 2, 3]);
    [(body.len() as u32).to_be_bytes().as_slice(), &body].concat()
}

/// Nodes 1 and 2 on a link that loses nothing, until nobody has anything to say: what node 2 got, and the version
/// of every frame but the Hellos.
fn talk(mut a: Machine, mut b: Machine) -> (Vec<PeerEvent>, Vec<u8>) {
    let now = NowMs(2000);
    let (at_a, at_b) = (a.dialled(B), b.accepted(A));
    let (mut got, mut said) = (Vec::new(), Vec::new());
    a.publish(&record(1, 1), now);
    loop {
        let there = a.poll_message(at_a, now);
        let back = b.poll_message(at_b, now);
        if there.is_none() && back.is_none() {
            return (got, said);
        }
        for frame in there.iter().chain(&back).filter(|frame| frame[5] != 1) {
            said.push(frame[4]);
        }
        let unknown = [VERSION, 200, 1, 2, 3];
        for frame in there.iter().flat_map(|frame| [longer(frame)[4..].to_vec(), unknown.to_vec()]) {
            got.extend(b.handle_message(at_b, Message::decode(&frame).unwrap(), now).unwrap());
        }
        for frame in back.iter().map(|frame| longer(frame)) {
            a.handle_message(at_a, Message::decode(&frame[4..]).unwrap(), now).unwrap();
        }
        let mut events = std::iter::from_fn(|| a.poll_event()).collect::<VecDeque<_>>();
        while let Some(event) = events.pop_front() {
            if let PeerEvent::NeedBulk { peer, sync } = event {
                assert_eq!(a.bulk(peer, sync, &[record(5, 3)]), BulkRoom::More);
                assert!(a.bulk_done(peer, sync));
                a.publish(&record(6, 1), now);
            }
        }
    }
}

#[test]
fn a_node_of_the_next_version_and_this_one_replicate_both_ways() {
    let newer = |node| Identity { versions: NEXT, ..identity(node) };
    assert_eq!(
        newer(1).check(B, &newer(2).hello(Default::default(), NowMs(1000))),
        Ok(VERSION + 1),
        "two newer ones use their own"
    );
    for (a, b) in [(newer(1), identity(2)), (identity(1), newer(2))] {
        let (got, said) = talk(machine(a, B, 64), machine(b, A, 64));
        assert!(said.len() > 4 && said.iter().all(|&version| version == VERSION), "{said:?}");
        let records: Vec<_> = got
            .iter()
            .filter_map(|event| match event {
                PeerEvent::Records { records, .. } => Some(records.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(records, [record(5, 3), record(6, 1)]);
        assert!(got.iter().any(|event| matches!(event, PeerEvent::BulkEnd { .. })));
    }
}

async fn say(send: &mut SendStream, frame: &[u8]) {
    send.write_all(frame).await.unwrap();
}

async fn hear(receive: &mut RecvStream) -> Vec<u8> {
    let mut length = [0; 4];
    receive.read_exact(&mut length).await.unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    receive.read_exact(&mut frame).await.unwrap();
    frame
}

/// Node 2, written by hand, dials node 1 and says this Hello.
async fn dial(
    net: Net,
    ca: &Ca,
    hello: &Hello,
) -> (quinn::Endpoint, quinn::Connection, SendStream, RecvStream) {
    let (client, _) = tls::configs(NodeId(2), &ca.keys(2)).unwrap();
    let endpoint = quinn::Endpoint::client(net.address(2)).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(client));
    let connection = endpoint.connect_with(config, net.address(1), "node-1.samepath").unwrap().await.unwrap();
    let (mut send, receive) = connection.open_bi().await.unwrap();
    say(&mut send, &longer(&message::hello(hello))).await;
    (endpoint, connection, send, receive)
}

fn hello_of(versions: Versions) -> Hello {
    Identity { versions, ..identity(2) }.hello(Default::default(), NowMs(1000))
}

#[test]
fn a_replicator_takes_the_records_of_a_newer_node() {
    on_one_thread(async {
        let (net, ca) = (Net::new(), Ca::new("cluster"));
        let mut a = Node::start(net.config(&ca, 1, &[1, 2]));
        let newer = async {
            let (endpoint, connection, mut send, mut receive) = dial(net, &ca, &hello_of(NEXT)).await;
            let Ok(Message::Hello(hello)) = Message::decode(&hear(&mut receive).await) else { panic!() };
            assert_eq!(hello.versions, Versions::SPOKEN);
            let encoded = |flow| {
                let mut bytes = Vec::new();
                record(flow, 1).encode(&mut bytes);
                bytes
            };
            for frame in [
                message::bulk_begin(1, 0),
                message::page(1, 1, &encoded(1)),
                message::bulk_end(1),
                message::changes(1, 1, &encoded(2)),
            ] {
                say(&mut send, &longer(&frame)).await;
                say(&mut send, &[0, 0, 0, 3, VERSION, 200, 9]).await;
            }
            loop {
                let frame = hear(&mut receive).await;
                assert_eq!(frame[0], VERSION);
                if Message::decode(&frame) == Ok(Message::Ack(Ack { sequence: 1, sync: 1, pages: 2 })) {
                    return (endpoint, connection);
                }
            }
        };
        tokio::pin!(newer);
        let mut nodes = [&mut a];
        let held = until("two backups", &mut nodes, |[a]| a.count_backups() == 2);
        let (_keeps_the_link, ()) = tokio::join!(newer, held);
    });
}

#[test]
fn no_common_version_is_refused_with_both_ranges() {
    on_one_thread(async {
        let (net, ca) = (Net::new(), Ca::new("cluster"));
        let mut a = Node::start(net.config(&ca, 1, &[1, 2]));
        let far = Versions { lowest: VERSION as u16 + 7, highest: VERSION as u16 + 9 };
        let words = [format!("version {}", Versions::SPOKEN), format!("version {far}")];
        let dialled = async {
            let (_endpoint, connection, ..) = dial(net, &ca, &hello_of(far)).await;
            connection.closed().await.to_string()
        };
        let mut nodes = [&mut a];
        let told = until("node 1 tells both ranges", &mut nodes, |[a]| {
            let refusals = format!("{:?}", a.refusals());
            words.iter().all(|words| refusals.contains(words))
        });
        let (reason, ()) = tokio::join!(dialled, told);
        assert!(words.iter().all(|words| reason.contains(words)), "{reason}");
    });
}
