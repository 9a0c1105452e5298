//! What the search begins with: for every target some inputs that get far, made here.

use samepath::replicate::message::{self, Claim};
use samepath_dataplane::clock::NowMs;
use samepath_dataplane::flow::{Direction, FlowKey, Generation, NodeId, key_bytes, proto};
use samepath_dataplane::session::{Role, Session, State};
use samepath_dataplane::wire::record::Record;

use crate::lab::packets::{ACK, Body, FIN, RST, SYN, Segment, Sent};

use super::worker::Pair;

/// A seed's name and bytes.
pub type Seed = (String, Vec<u8>);

/// The seeds of a target; none for a name that is no target.
pub fn of(target: &str) -> Vec<Seed> {
    let all = match target {
        "packet" => {
            frames().into_iter().flat_map(|frame| [0, 1].map(|side| prefixed(&[side], &frame))).collect()
        }
        "tunnel" => {
            let whole = tunnel_packets();
            let changed = (0..whole.len() as u8).map(|packet| vec![1, packet, 0, 70, 1, 0, 0, 0]);
            whole.iter().map(|frame| prefixed(&[0, 0, 0], frame)).chain(changed).collect()
        }
        "worker" => steps(),
        "replication" => streams(),
        "membership" => datagrams(),
        "operator" => lines(),
        _ => Vec::new(),
    };
    all.into_iter()
        .enumerate()
        .map(|(at, bytes): (usize, Vec<u8>)| (format!("seed-{at:02}"), bytes))
        .collect()
}

fn prefixed(prefix: &[u8], rest: &[u8]) -> Vec<u8> {
    [prefix, rest].concat()
}

fn with_length(bytes: &[u8]) -> Vec<u8> {
    prefixed(&(bytes.len() as u16).to_be_bytes(), bytes)
}

fn segment(flags: u8, seq: u32, ack: u32) -> Body {
    Body::Tcp(Segment { flags, seq, ack, length: 0 })
}

fn sent(from_client: bool, body: Body) -> Sent {
    Sent { id: 1, flow: 1, from_client, body }
}

/// Ethernet, tags, IP of both versions, extension headers, fragments, errors.
fn frames() -> Vec<Vec<u8>> {
    let tcp = sent(true, segment(ACK, 1, 1)).to_frame();
    let udp = sent(false, Body::Udp).to_frame();
    let tags = |tags: &[u8]| [&tcp[..12], tags, &tcp[12..]].concat();
    let protocol = |number: u8, payload: &[u8]| {
        let mut frame = [&udp[..34], payload].concat();
        frame[17] = 20 + payload.len() as u8;
        frame[23] = number;
        frame
    };
    let fragment = |field: u16| {
        let mut frame = udp.clone();
        frame[20..22].copy_from_slice(&field.to_be_bytes());
        frame
    };
    let quoting = protocol(proto::ICMP, &[&[3, 4, 0, 0, 0, 0, 5, 0], &udp[14..42]].concat());
    let sctp = protocol(proto::SCTP, &[4, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 8, 1, 2, 3, 4]);
    let mut all = vec![
        tags(&[0x81, 0, 0, 7]),
        tags(&[0x88, 0xa8, 0, 9, 0x81, 0, 0, 7]),
        fragment(0x2000),
        fragment(0x0001),
        protocol(proto::ICMP, &[8, 0, 0, 0, 0, 1, 0, 1]),
        protocol(47, &[0, 0, 8, 0]),
        quoting,
        sctp,
        ipv6(proto::TCP, &tcp[34..]),
        ipv6(proto::UDP, &udp[34..]),
        ipv6(proto::ICMPV6, &[128, 0, 0, 0, 0, 1, 0, 1]),
        ipv6(0, &[&[proto::UDP, 0, 1, 4, 0, 0, 0, 0], &udp[34..]].concat()),
        ipv6(44, &[&[proto::UDP, 0, 0, 1, 0, 0, 0, 9], &udp[34..]].concat()),
        ipv6(proto::ICMPV6, &[&[1, 4, 0, 0, 0, 0, 0, 0], &ipv6(proto::UDP, &udp[34..42])[14..]].concat()),
    ];
    all.extend([tcp, udp]);
    all
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0];
    frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    frame.extend_from_slice(&[next, 64]);
    for host in [1, 2] {
        frame.extend_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
    }
    frame.extend_from_slice(payload);
    frame
}

/// Hello, Query, FirstPacket and Redirect as true workers send them.
pub fn tunnel_packets() -> Vec<Vec<u8>> {
    let mut pair = Pair::new();
    for flow in 0..8 {
        pair.send(0, Sent { flow, ..sent(true, segment(SYN, 1, 0)) });
        pair.send(1, Sent { flow, ..sent(false, segment(SYN | ACK, 1, 2)) });
        pair.send(0, Sent { flow, ..sent(true, Body::Udp) });
    }
    let mut crossed = std::mem::take(&mut pair.crossed);
    crossed.dedup_by_key(|packet| packet.len());
    crossed.truncate(12);
    crossed
}

/// A connection from beginning to end through both nodes, and what disturbs it.
fn steps() -> Vec<Vec<u8>> {
    let through =
        |node: u8, what: u8, flags: u8, seq: u8, ack: u8| vec![node << 7 | 3, what, flags, seq, ack];
    let connection = [
        through(0, 1, SYN, 1, 0),
        through(1, 9, SYN | ACK, 1, 2),
        through(0, 1, ACK, 2, 2),
        through(1, 0x69, ACK, 2, 2),
        through(0, 1, FIN | ACK, 2, 5),
        through(1, 9, FIN | ACK, 5, 3),
        through(0, 1, ACK, 3, 6),
        vec![7, 200],
    ];
    let whole = connection.concat();
    let lost = [vec![6], whole.clone(), vec![6]].concat();
    let flipped = [vec![5, 0, 60, 1], whole.clone()].concat();
    let udp = [through(0, 0x11, 0, 0, 0), through(1, 0x19, 0, 0, 0), vec![7, 255]].concat();
    let reset = [through(1, 2, SYN, 1, 0), through(0, 10, RST, 0, 2)].concat();
    let mut all = vec![whole, lost, flipped, udp, reset];
    all.extend(frames().iter().map(|frame| prefixed(&[0, 0], &with_length(frame))));
    all.extend(tunnel_packets().iter().take(6).map(|frame| prefixed(&[0x81], &with_length(frame))));
    all.push([&[2][..], &[0; 24], &with_length(&sent(true, Body::Udp).to_frame())].concat());
    all
}

fn record(ipv6: bool, state: State) -> Record {
    let ends: [std::net::IpAddr; 2] = if ipv6 {
        ["2001:db8::1".parse(), "2001:db8::2".parse()].map(|one| one.expect("an address"))
    } else {
        [[10, 1, 0, 1].into(), [10, 2, 0, 1].into()]
    };
    let key = FlowKey::new((key_bytes(ends[0]), 1000), (key_bytes(ends[1]), 80), proto::TCP, (0, 7)).0;
    let session = Session {
        key,
        role: Role::Owner,
        state,
        origin: Direction::HiToLo,
        dirty: false,
        owner: NodeId(2),
        mark: 0,
        admission: Default::default(),
        generation: Generation(1),
        version: 3,
        tcp: Default::default(),
        created: NowMs(0),
        expires: NowMs(90_000),
        timeout_ms: 90_000,
        packets: 0,
        bytes: 0,
    };
    Record::of(&session, NowMs(60_000))
}

fn streams() -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    for &state in State::ALL {
        record((state as u8).is_multiple_of(2), state).encode(&mut records);
    }
    let claim = Claim { key: record(false, State::UdpReplied).key, generation: Generation(1) };
    // Behind the length field a frame has on the wire.
    let frame = |bytes: Vec<u8>| with_length(&bytes[4..]);
    let count = State::ALL.len() as u16;
    let session = [
        frame(message::bulk_begin(1, 0)),
        frame(message::page(1, count, &records)),
        frame(message::changes(1, count, &records)),
        frame(message::bulk_end(1)),
        frame(message::claim_checks(&[claim, claim])),
        frame(message::claims_denied(&[claim])),
        frame(message::hand_over(&[record(true, State::TcpEstablished)])),
    ];
    let ack = frame(message::ack(Default::default()));
    vec![prefixed(&[0], &records), prefixed(&[1], &session.concat()), prefixed(&[2], &ack)]
}

fn datagrams() -> Vec<Vec<u8>> {
    use samepath::membership::row::{Identity, Row};
    let row = |node: u16, renewals| {
        let identity = Identity { node, started: 9, renewals };
        Row { identity, count: 3, epoch: 4, hears: vec![NodeId(1), NodeId(3)], policy: None, serves: None }
    };
    let rows = [row(2, 0), row(3, 1)]
        .map(|row| prefixed(&[(row.identity.node - 2) as u8], &with_length(&row.encode())));
    let mut all = vec![prefixed(&[0], &rows.concat())];
    // What SWIM itself says once it has met somebody.
    let config = samepath::membership::MembershipConfig {
        node: NodeId(2),
        peers: vec![NodeId(1)],
        started: 9,
        timeout_ms: 800,
        hello_interval_ms: 100,
        quorum: 0,
        seed: 2,
    };
    let mut other = samepath::membership::Membership::new(config);
    let me = Row { identity: Identity { node: 1, started: 1, renewals: 0 }, ..row(1, 0) };
    other.handle_message(NodeId(1), &me.encode(), NowMs(1_000));
    let mut said = vec![0];
    for step in 0..40 {
        other.handle_timeout(NowMs(1_000 + step * 50));
        while let Some((_, datagram)) = other.poll_message() {
            said.extend(prefixed(&[0], &with_length(&datagram)));
        }
    }
    all.push(said);
    let answer = br#"{"header":{"revision":"17"},"kvs":[{"key":"L3M=","value":"AQIAAwAAAAAAAAAJAAAAAAAEAAAABQEAAQ=="}],"count":"1"}"#;
    all.push(prefixed(&[1], answer));
    all
}

fn lines() -> Vec<Vec<u8>> {
    let lines = [
        r#"{"command":"status"}"#,
        r#"{"command":"members"}"#,
        r#"{"command":"stats"}"#,
        r#"{"command":"sessions","filter":{"proto":6,"src":"10.0.0.0/8","dst":"2001:db8::/32","sport":1,"dport":80,"state":"established","role":"owner","owner":1,"vlan":7,"limit":10}}"#,
        r#"{"command":"sessions_count"}"#,
        r#"{"command":"director","src":"10.0.0.1","dst":"192.0.2.9","proto":6,"sport":1,"dport":2}"#,
        r#"{"command":"aggregation","on":false}"#,
        r#"{"command":"log","filter":"info,samepath=debug"}"#,
        r#"{"command":"follow","id":7,"filter":{"proto":17,"role":"owner"},"end":true}"#,
        r#"{"command":"drain"}"#,
        r#"{"command":"undrain"}"#,
        r#"{"command":"leave"}"#,
    ];
    lines.iter().map(|line| line.as_bytes().to_vec()).collect()
}
