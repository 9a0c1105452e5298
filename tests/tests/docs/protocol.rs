//! `docs/protocol.md` against the code: vectors, numbers, names.

use samepath::replicate::message::{Ack, Message};
use samepath_dataplane::cluster::director::{Director, DirectorHash, DirectorKey};
use samepath_dataplane::cluster::view::Member;
use samepath_dataplane::flow::{Direction, FlowKey, Generation, NodeId, key_bytes, proto};
use samepath_dataplane::keyring::PeerKey;
use samepath_dataplane::session::State;
use samepath_dataplane::wire::record::{Record, TcpReplica};
use samepath_dataplane::wire::tunnel::{self, Seal, TunnelEnds, TunnelKey, TunnelKind, TunnelOption};

use super::page::{Page, assert_same};

const KEY: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

fn protocol_page() -> Page {
    Page::read("docs/protocol.md")
}

fn end(address: &str, port: &str) -> ([u8; 16], u16) {
    (key_bytes(address.parse().unwrap()), port.parse().unwrap())
}

/// `TCP 10.0.0.1 4000 → 192.0.2.9 80`.
fn flow(text: &str, vlans: (u16, u16)) -> (FlowKey, Direction) {
    let [number, source, source_port, "→", destination, destination_port] =
        text.split_whitespace().collect::<Vec<_>>()[..]
    else {
        panic!("{text:?} is no flow")
    };
    let number = match number {
        "TCP" => proto::TCP,
        "UDP" => proto::UDP,
        "ICMP" => proto::ICMP,
        other => panic!("{other:?} is no protocol of this page"),
    };
    FlowKey::new(end(source, source_port), end(destination, destination_port), number, vlans)
}

fn members(weights: [u8; 3]) -> Vec<Member> {
    (1..).zip(weights).map(|(node, weight)| Member { node: NodeId(node), weight }).collect()
}

#[test]
fn director_vectors() {
    let rows = protocol_page().table("vectors:director");
    assert_eq!(rows.len(), 10);
    for row in rows {
        let mode = match row[1].as_str() {
            "ip-pair" => DirectorHash::IpPair,
            "five-tuple" => DirectorHash::FiveTuple,
            other => panic!("{other:?} is no mode"),
        };
        let (key, _) = flow(&row[0], (0, 0));
        let of = |weights| Director::new(&members(weights), mode, &DirectorKey(KEY));
        let (equal, weighted) = (of([1, 1, 1]), of([1, 4, 0]));
        let found = [
            format!("{:#06x}", equal.bucket(&key)),
            equal.of(&key).to_string(),
            weighted.of(&key).to_string(),
        ];
        assert_eq!(found, row[2..], "{} {}", row[0], row[1]);
    }
}

/// The bytes a line of hexadecimal digits and blanks stands for.
fn bytes_of(line: &str) -> Vec<u8> {
    let digits: String = line.split_whitespace().collect();
    assert_eq!(digits.len() % 2, 0, "{line:?}");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn tunnel_vector() {
    let page = protocol_page();
    let (key, direction) = flow("TCP 10.0.0.1 4000 → 192.0.2.9 80", (0, 0));
    let ends = TunnelEnds {
        source_mac: [2; 6],
        destination_mac: [4; 6],
        source: "10.1.0.1".parse().unwrap(),
        destination: "10.1.0.2".parse().unwrap(),
    };
    let option = TunnelOption {
        kind: TunnelKind::Redirect,
        hops: 2,
        zone: 3,
        ingress: NodeId(0x0102),
        owner: NodeId(0x0304),
        generation: Generation(0x0506_0708),
        epoch: 0x090a_0b0c,
        sender: NodeId(0x0d0e),
    };
    let mut outer = vec![0; tunnel::overhead(&ends.destination)];
    for (stream, name) in [(0x10, "worker"), (0x90, "XDP")] {
        let seal = Seal { key: 0x0f, stream, counter: 0x1112_1314_1516_1718 };
        tunnel::emit(
            &mut outer,
            74,
            &ends,
            0xab_cdef,
            &option,
            &seal,
            &TunnelKey::new(KEY),
            &key,
            direction,
            0,
        );
        let line = page.block("vectors:tunnel").lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(outer[50..], bytes_of(line), "{name}");
    }
    assert_eq!(direction as u8, 0);
    for overhead in ["90 bytes over IPv4", "110 bytes over IPv6"] {
        assert!(page.text().contains(overhead));
    }
    assert_eq!(tunnel::overhead(&"10.0.0.1".parse().unwrap()), 90);
    assert_eq!(tunnel::overhead(&"fd00::1".parse().unwrap()), 110);
}

#[test]
fn record_vector() {
    let (key, _) = flow("TCP 10.0.0.1 4000 → 192.0.2.9 80", (7, 9));
    let record = Record {
        remove: false,
        key,
        owner: NodeId(258),
        generation: Generation(0x0304_0506),
        version: 0x0708_090a,
        state: State::TcpEstablished,
        origin: Direction::HiToLo,
        tcp: TcpReplica { scale: [7, 14], flags: [0x41, 0x42] },
        age_s: 0x1112_1314,
        timeout_s: 432_000,
        admitted: 0,
        service: 0,
        policy: 0x2122_2324,
    };
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    let page = protocol_page();
    assert_eq!(bytes, bytes_of(page.block("vectors:record").lines().last().unwrap()));
}

#[test]
fn numbers_of_the_states() {
    let page: Vec<(String, String)> = protocol_page()
        .table("table:states")
        .iter()
        .flat_map(|row| row.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect::<Vec<_>>())
        .filter(|(number, _)| !number.is_empty())
        .collect();
    let code: Vec<_> =
        State::ALL.iter().map(|state| ((*state as u8).to_string(), state.name().to_owned())).collect();
    assert_same("states (number, name)", &page, &code);
}

/// Names as on the page; a new kind of message does not compile here.
fn name(message: &Message) -> &'static str {
    match message {
        Message::Hello(_) => "Hello",
        Message::Records { .. } => "Records",
        Message::BulkBegin { .. } => "BulkBegin",
        Message::Page { .. } => "Page",
        Message::BulkEnd { .. } => "BulkEnd",
        Message::Ack(_) => "Ack",
        Message::ClaimChecks(_) => "ClaimChecks",
        Message::ClaimsDenied(_) => "ClaimsDenied",
        Message::HandOver(_) => "HandOver",
        Message::TunnelKey(_) => "TunnelKey",
        Message::Question { .. } => "Question",
        Message::Answer { .. } => "Answer",
        Message::Unknown(_) => "unknown",
    }
}

#[test]
fn numbers_of_the_messages() {
    let hello = Message::decode(&[[2, 1].as_slice(), &[0; 52]].concat()).unwrap();
    let messages = [
        hello,
        Message::Records { first: 1, records: Vec::new() },
        Message::BulkBegin { sync: 1, after: 0 },
        Message::Page { sync: 1, records: Vec::new() },
        Message::BulkEnd { sync: 1 },
        Message::Ack(Ack::default()),
        Message::ClaimChecks(Vec::new()),
        Message::ClaimsDenied(Vec::new()),
        Message::HandOver(Vec::new()),
        Message::TunnelKey(Box::new(PeerKey { id: 1, key: TunnelKey::new(KEY) })),
        Message::Question { number: 1, text: Vec::new() },
        Message::Answer { number: 1, text: Vec::new() },
    ];
    let code: Vec<_> =
        messages.iter().map(|message| (message.kind().to_string(), name(message).to_owned())).collect();
    let page: Vec<_> =
        protocol_page().table("table:messages").iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_same("messages (kind, name)", &page, &code);
    let kinds = (1..=u8::MAX)
        .filter_map(|number| Some(format!("{number} {:?}", TunnelKind::from_wire(number)?)))
        .collect::<Vec<_>>()
        .join(", ");
    assert!(protocol_page().text().contains(&format!("| kind | {kinds} |")), "{kinds}");
}
