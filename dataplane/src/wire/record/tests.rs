use super::*;
use crate::flow::proto;

fn key(source: (&str, u16), destination: (&str, u16), proto: u8) -> FlowKey {
    let end = |(address, port): (&str, u16)| (key_bytes(address.parse().unwrap()), port);
    FlowKey::new(end(source), end(destination), proto, (7, 9)).0
}

fn ipv4_record() -> Record {
    Record {
        remove: false,
        key: key(("10.0.0.1", 4000), ("192.0.2.9", 80), proto::TCP),
        owner: NodeId(0x0102),
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
    }
}

fn ipv6_record() -> Record {
    let key = key(("2001:db8::2", 53), ("2001:db8::1", 5353), proto::UDP);
    Record { key, remove: true, origin: Direction::LoToHi, ..ipv4_record() }
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

#[test]
fn literal_bytes() {
    #[rustfmt::skip]
    let expected = [
        1, 48, 4, 4, 1, 2, 0, 0,
        3, 4, 5, 6, 7, 8, 9, 10, 0x11, 0x12, 0x13, 0x14, 0, 6, 0x97, 0x80, 0x21, 0x22, 0x23, 0x24,
        7, 14, 0x41, 0x42,
        6, 0, 0x90, 7, 0x0f, 0xa0, 0, 80,
        10, 0, 0, 1, 192, 0, 2, 9,
    ];
    assert_eq!(encoded(&ipv4_record()), expected);
    let ipv6 = encoded(&ipv6_record());
    assert_eq!(ipv6[..4], [1, 72, 3, 4]);
    assert_eq!(ipv6[40..56], key_bytes("2001:db8::1".parse().unwrap()));
}

#[test]
fn a_service_is_where_earlier_records_have_a_zero() {
    let record = Record { service: 5, ..ipv4_record() };
    let mut bytes = encoded(&record);
    assert_eq!(bytes[6..8], [0, 5]);
    // What later releases may say beside it is passed over.
    bytes[7] |= 0xf0;
    let read = Record::decode(&mut &bytes[..]).unwrap();
    assert_eq!(read, record);
    let session = read.to_session(NowMs(5_000), 1);
    assert_eq!(session.admission.service, 5);
    assert_eq!(Record::of(&session, NowMs(5_000)).service, 5);
}

#[test]
fn small_enough() {
    assert!(encoded(&ipv4_record()).len() <= 64, "the promise of the design for IPv4");
    assert_eq!(encoded(&ipv4_record()).len(), 48);
    assert_eq!(encoded(&ipv6_record()).len(), 72);
}

#[test]
fn a_row_of_records_comes_back() {
    let mut bytes = Vec::new();
    ipv4_record().encode(&mut bytes);
    ipv6_record().encode(&mut bytes);
    let mut rest = &bytes[..];
    assert_eq!(Record::decode(&mut rest), Ok(ipv4_record()));
    assert_eq!(Record::decode(&mut rest), Ok(ipv6_record()));
    assert!(rest.is_empty());
    assert_eq!(Record::decode(&mut rest), Err(RecordError::CutShort { have: 0, need: 2 }));
}

#[test]
fn fields_of_later_releases_are_skipped() {
    let mut bytes = encoded(&ipv4_record());
    bytes.extend([0xaa; 5]);
    bytes[1] = 53;
    bytes[2] |= 0xf0;
    ipv6_record().encode(&mut bytes);
    let mut rest = &bytes[..];
    assert_eq!(Record::decode(&mut rest), Ok(ipv4_record()));
    assert_eq!(Record::decode(&mut rest), Ok(ipv6_record()));
}

#[test]
fn what_is_refused_and_why() {
    let refused = [
        (0, 2, RecordError::Version(2)),
        (0, 0, RecordError::Version(0)),
        (1, 47, RecordError::Length { length: 47, need: 48 }),
        (1, 2, RecordError::Length { length: 2, need: 48 }),
        (1, 0, RecordError::Length { length: 0, need: 48 }),
        (1, 49, RecordError::CutShort { have: 48, need: 49 }),
        (2, FLAG_IPV6, RecordError::Length { length: 48, need: 72 }),
        (3, 0, RecordError::State(0)),
        (3, 255, RecordError::State(255)),
        (40, 193, RecordError::Flow),
    ];
    for (at, value, error) in refused {
        let mut bytes = encoded(&ipv4_record());
        bytes[at] = value;
        let mut rest = &bytes[..];
        assert_eq!(Record::decode(&mut rest), Err(error), "byte {at} = {value}");
        assert_eq!(rest.len(), 48, "nothing is taken on an error");
    }
    let mut nobody = encoded(&ipv4_record());
    nobody[4..6].fill(0);
    assert_eq!(Record::decode(&mut &nobody[..]), Err(RecordError::Owner));
    let mut disguised = encoded(&ipv6_record());
    let ends = (ipv4_record().key.lo, ipv4_record().key.hi);
    disguised[40..56].copy_from_slice(&ends.0);
    disguised[56..72].copy_from_slice(&ends.1);
    assert_eq!(Record::decode(&mut &disguised[..]), Err(RecordError::Flow));
}

#[test]
fn every_state_comes_back() {
    for &state in State::ALL {
        let record = Record { state, ..ipv4_record() };
        assert_eq!(Record::decode(&mut &encoded(&record)[..]), Ok(record));
    }
}

#[test]
fn a_session_becomes_a_backup_with_its_ages() {
    let owner = ipv4_record().to_session(NowMs(10_000_000_000), 0);
    let owner = Session {
        role: Role::Owner,
        created: NowMs(40_000),
        expires: NowMs(100_500),
        packets: 9,
        tcp: TcpTracking {
            ends: [
                TcpEnd { end: 5, max_end: 6, max_window: 7, scale: 8, flags: 1, note: 3 },
                TcpEnd { end: 9, max_end: 10, max_window: 11, scale: 12, flags: 2, note: 4 },
            ],
        },
        ..owner
    };
    let record = Record::of(&owner, NowMs(60_000));
    assert_eq!((record.age_s, record.timeout_s, record.remove), (20, 41, false));
    assert_eq!(record.tcp, TcpReplica { scale: [8, 12], flags: [1, 2] });

    let backup = record.to_session(NowMs(1_000_000), 77);
    assert_eq!((backup.role, backup.mark, backup.packets), (Role::Backup, 77, 0));
    assert_eq!((backup.created, backup.expires), (NowMs(980_000), NowMs(1_041_000)));
    assert_eq!(backup.timeout_ms, 41_000);
    let [lo, hi] = backup.tcp.ends;
    assert_eq!((lo.scale, lo.flags, hi.scale, hi.flags), (8, 1, 12, 2));
    let unknown = (lo.end, lo.max_end, lo.max_window, lo.note);
    assert_eq!(unknown, (0, 0, 0, 0), "windows are learned anew");
    assert_eq!(
        (backup.key, backup.owner, backup.generation, backup.version, backup.origin),
        (owner.key, owner.owner, owner.generation, owner.version, owner.origin)
    );
    assert_eq!(Record::of(&backup, NowMs(1_000_000)), record);
}

#[test]
fn the_end_of_a_session() {
    let session = ipv4_record().to_session(NowMs(5_000), 1);
    let record = Record::remove_of(&session);
    assert!(record.remove);
    assert_eq!((record.key, record.version), (session.key, session.version));
    let mut bytes = encoded(&record);
    assert_eq!(bytes[2] & FLAG_REMOVE, FLAG_REMOVE);
    bytes[2] &= !FLAG_REMOVE;
    assert!(!Record::decode(&mut &bytes[..]).unwrap().remove);
}

#[test]
fn ages_beyond_the_clock_stop_at_its_start() {
    let record = Record { age_s: u32::MAX, timeout_s: u32::MAX, ..ipv4_record() };
    let session = record.to_session(NowMs(1_000), 0);
    assert_eq!(session.created, NowMs(0));
    assert_eq!(session.timeout_ms, u32::MAX);
}
