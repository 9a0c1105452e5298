//! JSON names, filters, rows, tables.

use serde_json::{Value, json};

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::cluster::director::{DirectorHash, DirectorKey};
use samepath_dataplane::cluster::view::{Member, View};
use samepath_dataplane::counters::Counters;
use samepath_dataplane::flow::{Direction, FlowKey, Generation, NodeId, key_bytes};
use samepath_dataplane::session::{self, Session, State};
use samepath_dataplane::verdict::DropReason;

use super::api::{Aggregation, Document, Reply, Request, Role, SessionRow, Stats, Status};
use super::{Filter, director, filter, sessions, tables};

fn document(reply: Reply) -> Value {
    serde_json::to_value(Document::from(reply)).unwrap()
}

fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// A TCP session from a high address to a low one, so that its origin is against the canonical order.
fn session() -> Session {
    let src = (key_bytes("10.9.0.1".parse().unwrap()), 40_000);
    let dst = (key_bytes("10.0.0.2".parse().unwrap()), 80);
    let (key, origin) = FlowKey::new(src, dst, 6, (7, 0));
    assert_eq!(origin, Direction::HiToLo);
    Session {
        key,
        role: session::Role::Owner,
        state: State::TcpEstablished,
        origin,
        dirty: false,
        owner: NodeId(1),
        mark: 0,
        admission: Default::default(),
        generation: Generation(2),
        version: 1,
        tcp: Default::default(),
        created: NowMs(1_000),
        expires: NowMs(11_500),
        timeout_ms: 10_000,
        packets: 3,
        bytes: 180,
    }
}

fn row() -> SessionRow {
    SessionRow::of(&session(), NowMs(6_000))
}

#[test]
fn a_session_row_has_the_promised_names_and_is_seen_from_its_originator() {
    let value = document(Reply::sessions(vec![row()]));
    assert_eq!(value["schema"], 1);
    assert_eq!(
        value["sessions"][0],
        json!({
            "proto": "tcp", "src": "10.9.0.1", "dst": "10.0.0.2", "sport": 40_000, "dport": 80,
            "vlan": 7, "state": "ESTABLISHED", "role": "owner", "owner": 1, "generation": 2,
            "age_s": 5, "timeout_s": 6, "packets": 3, "bytes": 180
        })
    );
    let mut tagged = row();
    tagged.inner_vlan = 9;
    assert_eq!(document(Reply::sessions(vec![tagged]))["sessions"][0]["inner_vlan"], 9);
}

#[test]
fn a_session_line_has_the_shape_of_conntrack() {
    assert_eq!(
        sessions::line(&row()),
        "tcp      6 6 ESTABLISHED src=10.9.0.1 dst=10.0.0.2 sport=40000 dport=80 vlan=7 packets=3 bytes=180 role=owner owner=1 generation=2 age=5"
    );
}

#[test]
fn stats_have_the_promised_names() {
    let mut stats = Stats::default();
    stats.replication.insert("2".into(), Default::default());
    stats.add_worker(0, 0, &Counters::default());
    let value = document(Reply::Stats(Box::new(stats)));
    for name in ["rx", "tx", "drops", "verdicts", "xdp", "rings", "hello", "held", "workers"] {
        assert!(value.get(name).is_some(), "{name}");
    }
    assert_eq!(
        names(&value["tunnel"]),
        [
            "first_packet_rx",
            "first_packet_tx",
            "gather_rx",
            "gather_tx",
            "query_rx",
            "query_tx",
            "redirect_rx",
            "redirect_tx",
            "redirect_tx_xdp",
            "redirect_tx_xdp_bytes",
            "rejected"
        ]
    );
    for role in ["owner", "backup", "claim"] {
        assert_eq!(value["sessions"][role], 0);
    }
    assert_eq!(names(&value["frames"]), ["free", "hand", "kernel", "total"]);
    assert_eq!(
        names(&value["replication"]["2"]),
        ["acked", "dirty", "lag_ms", "lag_records", "resent", "sent"]
    );
    assert_eq!(names(&value["rings"]), ["fill_empty", "rx_dropped", "rx_ring_full", "tx_invalid"]);
    for reason in DropReason::ALL {
        assert_eq!(value["drops"][reason.name()], 0, "{}", reason.name());
    }
}

#[test]
fn counters_of_workers_add_up() {
    let (one, two) = (Counters::default(), Counters::default());
    one.rx.add(10);
    two.rx.add(5);
    one.tx.add(9);
    two.hello_tx.add(2);
    one.dropped(DropReason::NoSession);
    two.dropped(DropReason::TunnelTag);
    two.dropped(DropReason::TunnelReplay);
    two.frames_hand.set(4);
    let mut stats = Stats::default();
    stats.add_worker(0, 2, &one);
    stats.add_worker(1, 3, &two);
    assert_eq!((stats.rx, stats.tx, stats.hello.tx, stats.frames.hand), (15, 9, 2, 4));
    assert_eq!(stats.drops["no_session"], 1);
    assert_eq!(stats.tunnel.rejected["tunnel_tag"], 1);
    let of_tunnel = |reason: &&DropReason| reason.name().starts_with("tunnel_");
    assert_eq!(
        names(&serde_json::to_value(&stats.tunnel.rejected).unwrap()).len(),
        DropReason::ALL.iter().filter(of_tunnel).count()
    );
    assert_eq!(stats.verdicts["drop"], 3);
    assert_eq!(stats.workers.iter().map(|w| (w.core, w.dropped)).collect::<Vec<_>>(), [(2, 1), (3, 2)]);
}

#[test]
fn a_table_of_stats_has_the_names_of_the_document_and_no_zeros_among_reasons() {
    let counters = Counters::default();
    counters.dropped(DropReason::NoSession);
    counters.dropped(DropReason::TunnelTag);
    let mut stats = Stats::default();
    stats.add_worker(0, 0, &counters);
    let mut out = Vec::new();
    tables::print(&Reply::Stats(Box::new(stats.clone())), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let first = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let printed: Vec<String> = text.lines().take_while(|line| !line.is_empty()).skip(1).map(first).collect();
    for name in ["rx", "hello.tx", "verdicts.forward", "sessions.at_risk", "drops.no_session"] {
        assert!(printed.iter().any(|printed| printed == name), "{name}: {text}");
    }
    assert!(printed.contains(&"tunnel.rejected.tunnel_tag".to_owned()), "{text}");
    assert!(!text.contains("table_full"), "{text}");
    let document = document(Reply::Stats(Box::new(stats)));
    for name in printed {
        let value = name.split('.').fold(&document, |value, part| &value[part]);
        assert!(value.is_u64(), "{name} is not in the document");
    }
}

#[test]
fn filters_hold_all_or_nothing() {
    let matching = Filter {
        proto: Some(6),
        src: Some(filter::prefix("10.9.0.0/16").unwrap()),
        dst: Some(filter::prefix("10.0.0.2").unwrap()),
        sport: Some(40_000),
        dport: Some(80),
        state: Some("established".into()),
        role: Some(Role::Owner),
        owner: Some(1),
        vlan: Some(7),
        limit: None,
    };
    assert!(matching.matches(&row()));
    assert!(Filter::default().matches(&row()));
    let all = matching.clone();
    let others = [
        Filter { proto: Some(17), ..all.clone() },
        Filter { src: Some(filter::prefix("10.8.0.0/16").unwrap()), ..all.clone() },
        Filter { dst: Some(filter::prefix("10.9.0.1").unwrap()), ..all.clone() },
        Filter { sport: Some(80), ..all.clone() },
        Filter { dport: Some(40_000), ..all.clone() },
        Filter { state: Some("CLOSE".into()), ..all.clone() },
        Filter { role: Some(Role::Backup), ..all.clone() },
        Filter { owner: Some(2), ..all.clone() },
        Filter { vlan: Some(0), ..all },
    ];
    for other in others {
        assert!(!other.matches(&row()), "{other:?}");
    }
    assert!(filter::prefix("10.0.0.0/33").is_err());
    let two = Filter { limit: Some(2), ..Filter::default() };
    assert!(!two.is_full(1) && two.is_full(2) && !matching.is_full(usize::MAX));
}

#[test]
fn requests_are_what_the_documentation_says() {
    for (text, request) in [
        (r#"{"command":"status"}"#, Request::Status),
        (r#"{"command":"sessions"}"#, Request::Sessions { filter: Filter::default() }),
        (
            r#"{"command":"sessions_count","filter":{"proto":17}}"#,
            Request::SessionsCount { filter: Filter { proto: Some(17), ..Filter::default() } },
        ),
        (r#"{"command":"aggregation","on":false}"#, Request::Aggregation { on: false }),
        (
            r#"{"command":"director","src":"10.0.0.1","dst":"10.0.0.2"}"#,
            Request::Director {
                src: "10.0.0.1".parse().unwrap(),
                dst: "10.0.0.2".parse().unwrap(),
                proto: 0,
                sport: 0,
                dport: 0,
            },
        ),
    ] {
        assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
        let back = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&back).unwrap(), request);
    }
    for text in [
        r#"{"command":"reboot"}"#,
        r#"{"command":"sessions","filter":{"porto":17}}"#,
        r#"{"command":"aggregation"}"#,
        "[]",
    ] {
        assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
    }
}

#[test]
fn the_director_is_explained() {
    let members = [1, 2, 3].map(|node| Member { node: NodeId(node), weight: 1 });
    let view = View::new(5, NodeId(1), members.to_vec(), vec![], DirectorHash::IpPair, &DirectorKey([1; 16]));
    let (src, dst) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    let there = director::answer(&view, (src, 1), (dst, 2), 6).unwrap();
    let back = director::answer(&view, (dst, 2), (src, 1), 6).unwrap();
    assert_eq!((there.director, there.bucket), (back.director, back.bucket));
    assert_eq!(there.candidates[0], there.director);
    let mut all = there.candidates.clone();
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3]);
    assert!(there.why.contains(&format!("bucket {}", there.bucket)), "{}", there.why);
    assert!(there.why.ends_with(&format!("node {} would be next", there.candidates[1])));
    let alone = vec![Member { node: NodeId(1), weight: 1 }];
    let view = View::new(6, NodeId(1), alone, vec![], DirectorHash::IpPair, &DirectorKey([1; 16]));
    let only = director::answer(&view, (src, 1), (dst, 2), 6).unwrap();
    assert!(only.why.ends_with("which node 1 holds as the only member in epoch 6"), "{}", only.why);
    let mixed = director::answer(&view, (src, 1), ("fd00::1".parse().unwrap(), 2), 6);
    assert!(mixed.unwrap_err().contains("not of one IP version"));
}

#[test]
fn tables_align_and_hide_zero_reasons() {
    let mut stats = Stats::default();
    let counters = Counters::default();
    counters.rx.add(1_234);
    counters.dropped(DropReason::NoSession);
    stats.add_worker(0, 0, &counters);
    let mut out = Vec::new();
    tables::print(&Reply::Stats(Box::new(stats)), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("drops.no_session"), "{text}");
    assert!(!text.contains("drops.malformed"), "{text}");
    let ends: Vec<usize> = text.lines().take_while(|line| !line.is_empty()).map(str::len).collect();
    assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{text}");

    let mut out = Vec::new();
    let status = Status { node: 1, uptime_s: 3_700, members: vec![1, 2], ..Status::default() };
    tables::print(&Reply::Status(Box::new(status)), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("NOT READY") && text.contains("up 1 h 1 min"), "{text}");
    let aggregation = Aggregation { node: 3, aggregation: false };
    assert_eq!(
        document(Reply::Aggregation(aggregation)),
        json!({"schema": 1, "kind": "aggregation", "node": 3, "aggregation": false})
    );
}
