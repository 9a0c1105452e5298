//! The table against a plain map, at and beyond its capacity.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::flow::{FlowKey, key_bytes, proto};
use crate::session::record::State;
use crate::session::samples::{key as ipv4, session_in as ipv4_session};
use crate::session::wheel::TICK_MS;

/// Flow number `n`: every third one is IPv6.
fn key(protocol: u8, n: u32) -> FlowKey {
    if !n.is_multiple_of(3) {
        return ipv4(protocol, n);
    }
    let client = std::net::Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(n) << 40 | u128::from(n));
    let server = std::net::Ipv6Addr::from(0x2001_0db8 << 96 | 0xff << 64);
    FlowKey::new((key_bytes(client.into()), n as u16), (key_bytes(server.into()), 80), protocol, (0, 0)).0
}

/// A session of flow `n`, with times as the table keeps them.
fn session_in(n: u32, role: Role, state: State) -> Session {
    let session = ipv4_session(n, role, state);
    kept(Session { key: key(proto::UDP, n), version: n, ..session })
}

/// A session as it comes back from the table.
fn kept(session: Session) -> Session {
    let owned = session.role == Role::Owner;
    Session {
        created: NowMs(session.created.0 / TICK_MS * TICK_MS),
        expires: NowMs(session.expires.0.next_multiple_of(TICK_MS)),
        mark: if owned { 0 } else { session.mark },
        ..session
    }
}

/// One thing done to a table; numbers name flows and slots, modulo what there is.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Insert(u32, Role, usize),
    Remove(u32),
    Replace(u32, Role, usize),
    /// Flow, state, length, times.
    Packets(u32, usize, u32, u8),
    Expires(u32, u64),
    Mark(u32, u16, bool),
    Hop(u32, bool, u32, u32),
    /// Look-up of all flows at once, then an insertion with what it found.
    Burst(u32, Role),
    Evict,
    Walk,
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Owner), Just(Role::Backup), Just(Role::Claim)]
}

fn deed() -> impl Strategy<Value = Deed> {
    let flow = 0..60_u32;
    let state = 0..State::ALL.len();
    prop_oneof![
        6 => (flow.clone(), role(), state.clone()).prop_map(|(n, r, s)| Deed::Insert(n, r, s)),
        4 => flow.clone().prop_map(Deed::Remove),
        2 => (flow.clone(), role(), state.clone()).prop_map(|(n, r, s)| Deed::Replace(n, r, s)),
        2 => (flow.clone(), state.clone(), 0..3000_u32, 1..40_u8).prop_map(|(n, s, l, t)| Deed::Packets(n, s, l, t)),
        1 => (flow.clone(), state, 60_000..70_000_u32, 1..3_u8).prop_map(|(n, s, l, t)| Deed::Packets(n, s, l, t)),
        1 => (flow.clone(), 0..1_000_000_u64).prop_map(|(n, at)| Deed::Expires(n, at)),
        1 => (flow.clone(), any::<u16>(), any::<bool>()).prop_map(|(n, m, d)| Deed::Mark(n, m, d)),
        1 => (flow.clone(), any::<bool>(), 0..3_u32, 65_530..65_540_u32)
            .prop_map(|(n, d, r, h)| Deed::Hop(n, d, r, h)),
        2 => (flow, role()).prop_map(|(n, r)| Deed::Burst(n, r)),
        1 => Just(Deed::Evict),
        1 => Just(Deed::Walk),
    ]
}

/// A table and the map that says what must be in it.
struct Pair {
    table: SessionTable,
    model: HashMap<FlowKey, Session>,
    /// Next hops by flow: routes, hop of each direction.
    hops: HashMap<FlowKey, (u32, [Option<u32>; 2])>,
}

impl Pair {
    fn insert(&mut self, session: Session) -> Result<(), TestCaseError> {
        if self.model.contains_key(&session.key) {
            return Ok(());
        }
        let outcome = self.table.insert(&session);
        if self.model.len() == self.table.capacity() {
            prop_assert_eq!(outcome, Err(TableFull));
        } else {
            let slot = outcome.map_err(|full| TestCaseError::fail(full.to_string()))?;
            prop_assert!(slot.index() < self.table.capacity());
            self.model.insert(session.key, session);
        }
        Ok(())
    }

    fn evict(&mut self) -> Result<(), TestCaseError> {
        let capacity = self.table.capacity();
        let giving_way = self.model.values().filter(|session| session.state.gives_way()).count();
        prop_assert_eq!(self.table.yielding(), giving_way);
        let victim = self.table.victim();
        match victim {
            Some(slot) => {
                let session = self.table.remove(slot);
                prop_assert!(session.state.gives_way());
                prop_assert_eq!(self.model.remove(&session.key), Some(session));
                self.hops.remove(&session.key);
            }
            None if capacity <= EVICTION_PROBES => prop_assert_eq!(giving_way, 0),
            None => {}
        }
        Ok(())
    }

    /// A flow's slot and what the model knows of it.
    fn known(&self, n: u32) -> Option<(Slot, Session)> {
        let key = key(proto::UDP, n);
        Some((self.table.find(&key)?, self.model[&key]))
    }

    fn packets(&mut self, n: u32, state: State, length: u32, times: u8) -> Result<(), TestCaseError> {
        let Some((slot, mut session)) = self.known(n) else { return Ok(()) };
        let before = session.expires;
        session.packets += u64::from(times);
        session.bytes += u64::from(times) * u64::from(length);
        let replicate = length.is_multiple_of(2);
        session.version += u32::from(replicate);
        if replicate || state != session.state {
            session.timeout_ms = (length * 64).next_multiple_of(1000);
        }
        session.state = state;
        session.tcp.ends[0].end = length;
        session.expires = NowMs(u64::from(length) * 64);
        let (expires, tcp) = (session.expires, session.tcp);
        self.model.insert(session.key, session);
        let progress = Progress { state, tcp, expires, timeout_ms: length * 64, replicate };
        prop_assert_eq!(self.table.progress(slot, &progress), expires < before);
        for _ in 0..times {
            self.table.count_packet(slot, length);
        }
        let tracked = self.table.tracked(slot);
        prop_assert_eq!((tracked.state, tracked.tcp), (state, tcp));
        Ok(())
    }

    fn hop(&mut self, n: u32, higher: bool, routes: u32, hop: u32) -> Result<(), TestCaseError> {
        let direction = if higher { Direction::HiToLo } else { Direction::LoToHi };
        let Some((slot, session)) = self.known(n) else { return Ok(()) };
        if session.role == Role::Owner {
            let known = self.hops.entry(session.key).or_insert((routes, [None; 2]));
            if known.0 != routes {
                *known = (routes, [None; 2]);
            }
            known.1[direction as usize] = (hop < 65_535).then_some(hop);
        }
        self.table.set_hop(slot, direction, routes, hop);
        Ok(())
    }

    /// What a burst finds is what single look-ups find, before and after an insertion.
    fn burst(&mut self, n: u32, role: Role) -> Result<(), TestCaseError> {
        let keys: Vec<FlowKey> = (0..64).map(|other| key(proto::UDP, (n + other) % 64)).collect();
        let mut burst = [(Name::default(), Found::default()); 64];
        begin_all(&self.table, &keys, &mut burst);
        let confirm = |table: &SessionTable, at: usize| {
            table.settle(&burst[at].0, &burst[at].1, &name::addresses(&keys[at]))
        };
        for (at, key) in keys.iter().enumerate() {
            prop_assert_eq!(confirm(&self.table, at), self.table.find(key));
        }
        if self.table.find(&keys[0]).is_none() && self.table.len() < self.table.capacity() {
            let session = session_in(n % 64, role, State::Generic);
            let slot = self.table.insert(&session).map_err(|full| TestCaseError::fail(full.to_string()))?;
            prop_assert_eq!(confirm(&self.table, 0), Some(slot));
            self.model.insert(session.key, session);
        }
        for (at, key) in keys.iter().enumerate() {
            prop_assert_eq!(confirm(&self.table, at), self.table.find(key));
        }
        Ok(())
    }

    fn apply(&mut self, deed: Deed) -> Result<(), TestCaseError> {
        match deed {
            Deed::Insert(n, role, state) => self.insert(session_in(n, role, State::ALL[state]))?,
            Deed::Remove(n) => {
                if let Some(slot) = self.table.find(&key(proto::UDP, n)) {
                    let session = self.table.remove(slot);
                    prop_assert_eq!(self.model.remove(&session.key), Some(session));
                    self.hops.remove(&session.key);
                }
            }
            Deed::Replace(n, role, state) => {
                let session = session_in(n, role, State::ALL[state]);
                if let Some(slot) = self.table.find(&session.key) {
                    let old = self.table.replace(slot, &session);
                    self.hops.remove(&session.key);
                    prop_assert_eq!(self.model.insert(session.key, session), Some(old));
                }
            }
            Deed::Packets(n, state, length, times) => self.packets(n, State::ALL[state], length, times)?,
            Deed::Expires(n, at) => {
                if let Some((slot, mut session)) = self.known(n) {
                    self.table.set_expires(slot, NowMs(at));
                    session.expires = NowMs(at.next_multiple_of(TICK_MS));
                    self.model.insert(session.key, session);
                }
            }
            Deed::Mark(n, mark, dirty) => {
                if let Some((slot, mut session)) = self.known(n) {
                    session.mark = if session.role == Role::Owner { 0 } else { mark };
                    session.dirty = dirty;
                    self.model.insert(session.key, session);
                    self.table.set_mark(slot, mark);
                    self.table.set_dirty(slot, dirty);
                }
            }
            Deed::Hop(n, higher, routes, hop) => self.hop(n, higher, routes, hop)?,
            Deed::Burst(n, role) => self.burst(n, role)?,
            Deed::Evict => self.evict()?,
            Deed::Walk => {
                let walked: Vec<Slot> =
                    (0..self.table.capacity()).filter_map(|n| self.table.occupied(n)).collect();
                prop_assert_eq!(walked.len(), self.model.len());
            }
        }
        Ok(())
    }

    fn agree(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.table.len(), self.model.len());
        prop_assert_eq!(self.table.is_empty(), self.model.is_empty());
        for role in [Role::Owner, Role::Backup, Role::Claim] {
            let expected = self.model.values().filter(|session| session.role == role).count();
            prop_assert_eq!(self.table.count(role), expected);
        }
        for n in 0..64 {
            let key = key(proto::UDP, n);
            let slot = self.table.find(&key);
            prop_assert_eq!(slot.map(|slot| self.table.get(slot)), self.model.get(&key).copied());
            let Some(slot) = slot else { continue };
            let session = self.model[&key];
            let elsewhere = (session.role != Role::Owner).then_some((session.owner, session.generation));
            prop_assert_eq!(self.table.owned_by(slot), elsewhere);
            for routes in 0..3 {
                let hops =
                    self.hops.get(&key).filter(|known| known.0 == routes).map_or([None; 2], |known| known.1);
                let known =
                    [Direction::LoToHi, Direction::HiToLo].map(|way| self.table.hop(slot, way, routes));
                prop_assert_eq!(known, hops);
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn table_agrees_with_a_map(
        capacity in prop_oneof![0..4_usize, 16..50_usize, Just(100)],
        deeds in proptest::collection::vec(deed(), 0..300),
    ) {
        let mut pair = Pair { table: SessionTable::new(capacity), model: HashMap::new(), hops: HashMap::new() };
        prop_assert_eq!(pair.table.capacity(), capacity);
        for deed in deeds {
            pair.apply(deed)?;
            pair.agree()?;
        }
    }
}

#[test]
fn capacity_is_exact() {
    for capacity in [0, 1, 7, 100, 5000] {
        let mut table = SessionTable::new(capacity);
        let state = State::UdpReplied;
        for n in 0..capacity as u32 {
            table.insert(&session_in(n, Role::Owner, state)).unwrap();
        }
        let extra = session_in(capacity as u32, Role::Owner, state);
        assert_eq!(table.insert(&extra), Err(TableFull));
        assert_eq!(table.count(Role::Owner), capacity, "a refusal is not counted");
        assert_eq!(table.find(&extra.key), None);
    }
}

#[test]
fn the_eldest_that_gives_way_is_the_victim() {
    let mut table = SessionTable::new(1000);
    let half_open = |n: u32| n % 100 == 7;
    for n in 0..1000 {
        let state = if half_open(n) { State::TcpSynSent } else { State::TcpEstablished };
        table.insert(&session_in(n, Role::Owner, state)).unwrap();
    }
    // One that is established meanwhile stays; one that is over comes last.
    for (n, state) in [(107, State::TcpEstablished), (3, State::TcpTimeWait)] {
        let slot = table.find(&key(proto::UDP, n)).unwrap();
        let session = table.get(slot);
        let Session { tcp, expires, timeout_ms, .. } = session;
        table.progress(slot, &Progress { state, tcp, expires, timeout_ms, replicate: false });
    }
    assert_eq!(table.yielding(), 10);
    let victims: Vec<u32> = (0..10)
        .map(|_| {
            let victim = table.victim().unwrap();
            table.remove(victim).version
        })
        .collect();
    assert_eq!(victims, [7, 207, 307, 407, 507, 607, 707, 807, 907, 3]);
    assert_eq!((table.victim(), table.yielding(), table.len()), (None, 0, 990));
}

#[test]
fn entries_left_behind_do_not_hide_those_that_give_way() {
    let mut table = SessionTable::new(400);
    let mut next = 0;
    let mut begin = |table: &mut SessionTable, state| {
        next += 1;
        table.insert(&session_in(next, Role::Owner, state)).unwrap()
    };
    let eldest = begin(&mut table, State::UdpUnreplied);
    for _ in 0..10_000 {
        let slot = begin(&mut table, State::TcpSynSent);
        let Session { tcp, expires, .. } = table.get(slot);
        let state = State::TcpEstablished;
        table.progress(slot, &Progress { state, tcp, expires, timeout_ms: 0, replicate: true });
        table.remove(slot);
    }
    assert_eq!((table.yielding(), table.victim()), (1, Some(eldest)));
}

#[test]
fn established_sessions_are_no_victims() {
    let mut table = SessionTable::new(8);
    let states = [State::TcpEstablished, State::TcpFinWait, State::UdpReplied, State::SctpEstablished];
    for (n, state) in states.into_iter().enumerate() {
        table.insert(&session_in(n as u32, Role::Owner, state)).unwrap();
    }
    assert_eq!(table.victim(), None);
    assert_eq!(SessionTable::new(0).victim(), None);
}

#[test]
fn churn_at_full_load_leaves_no_trace() {
    // Every slot in use, so the index is as full as it gets.
    const CAPACITY: u32 = 1 << 15;
    let mut table = SessionTable::new(CAPACITY as usize);
    for n in 0..CAPACITY {
        table.insert(&session_in(n, Role::Owner, State::UdpReplied)).unwrap();
    }
    let mut random = 88_172_645_463_325_252_u64;
    for n in CAPACITY..CAPACITY * 50 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        table.remove(Slot((random % u64::from(CAPACITY)) as u32));
        table.insert(&session_in(n, Role::Owner, State::UdpReplied)).unwrap();
    }
    assert_eq!(table.unplaced(), 0);
    let found = (0..CAPACITY as usize).filter_map(|n| table.occupied(n)).all(|slot| {
        let key = table.get(slot).key;
        table.find(&key) == Some(slot)
    });
    assert!(found, "every session is found");
}

#[test]
fn an_ipv4_session_takes_at_most_128_bytes() {
    const CAPACITY: usize = 1 << 16;
    let table = SessionTable::new(CAPACITY);
    let session = table.bytes().div_ceil(CAPACITY) + crate::session::wheel::BYTES_PER_SLOT;
    assert!(session <= 128, "{session} bytes");
}

#[test]
fn ipv6_flows_that_share_a_name_are_told_apart() {
    let mut table = SessionTable::new(10);
    let one = session_in(3, Role::Owner, State::Generic);
    let slot = table.insert(&one).unwrap();
    // As if the digest of other addresses were the same.
    table.long[slot.index()][0] ^= 1;
    assert_eq!(table.find(&one.key), None);
    let mut burst = [(Name::default(), Found::default())];
    begin_all(&table, &[one.key], &mut burst);
    assert_eq!(table.settle(&burst[0].0, &burst[0].1, &name::addresses(&one.key)), None);
    assert_ne!(table.get(slot).key, one.key);
    table.long[slot.index()][0] ^= 1;
    assert_eq!(table.find(&one.key), Some(slot));
}

#[test]
fn ages_and_ends_are_kept_for_years() {
    const DAY_MS: u64 = 86_400_000;
    let mut table = SessionTable::new(4);
    let at = |days: u64| NowMs((1 << 40) + days * DAY_MS);
    let old =
        kept(Session { created: at(0), expires: at(5), ..session_in(1, Role::Owner, State::TcpEstablished) });
    let slot = table.insert(&old).unwrap();
    let new =
        kept(Session { created: at(1400), expires: at(1400), ..session_in(2, Role::Owner, State::Generic) });
    table.insert(&new).unwrap();
    assert_eq!(table.get(slot), old);
    table.set_expires(slot, at(1430));
    assert_eq!(table.get(slot).expires, kept(Session { expires: at(1430), ..old }).expires);
}

/// The first two steps of a burst's look-up.
fn begin_all(table: &SessionTable, keys: &[FlowKey], burst: &mut [(Name, Found)]) {
    for (key, (name, found)) in keys.iter().zip(&mut *burst) {
        *name = table.name(key);
        table.begin(name, found);
    }
    table.glance_all(burst.iter_mut().map(|(_, found)| found));
}

/// Flows that are away from home, more than a burst remembers at once, are found like the others.
#[test]
fn bursts_find_flows_in_a_crowded_index() {
    let mut table = SessionTable::new(6000);
    // As if there was room for a third of them.
    table.index = Index::new(2000);
    let fits: Vec<FlowKey> = (0..6000)
        .map(|n| session_in(n, Role::Owner, State::Generic))
        .filter(|session| table.insert(session).is_ok())
        .map(|session| session.key)
        .collect();
    assert!(fits.len() > 3000, "{}", fits.len());
    for keys in fits.chunks(64) {
        let mut burst = [(Name::default(), Found::default()); 64];
        begin_all(&table, keys, &mut burst[..keys.len()]);
        for ((name, found), key) in burst[..keys.len()].iter().zip(keys) {
            let slot = table.settle(name, found, &name::addresses(key));
            assert!(slot.is_some() && slot == table.find(key));
        }
    }
}

#[test]
fn new_routes_forget_the_next_hops_of_both_directions() {
    let mut table = SessionTable::new(4);
    let slot = table.insert(&session_in(1, Role::Owner, State::Generic)).unwrap();
    let hops = |table: &SessionTable, routes| {
        [Direction::LoToHi, Direction::HiToLo].map(|direction| table.hop(slot, direction, routes))
    };
    assert_eq!(hops(&table, 0), [None; 2]);
    table.set_hop(slot, Direction::LoToHi, 1, 7);
    table.set_hop(slot, Direction::HiToLo, 1, 8);
    assert_eq!(hops(&table, 1), [Some(7), Some(8)]);
    assert_eq!(hops(&table, 2), [None; 2]);
    table.set_hop(slot, Direction::LoToHi, 2, 9);
    assert_eq!(hops(&table, 2), [Some(9), None]);
    // A number the line has no room for.
    table.set_hop(slot, Direction::LoToHi, 2, 65_535);
    assert_eq!(hops(&table, 2), [None; 2]);
    table.set_hop(slot, Direction::HiToLo, 2, 65_534);
    let backup = session_in(1, Role::Backup, State::Generic);
    table.replace(slot, &backup);
    assert_eq!(hops(&table, 2), [None; 2]);
    assert_eq!(table.owned_by(slot), Some((backup.owner, backup.generation)));
    table.set_hop(slot, Direction::LoToHi, 2, 5);
    assert_eq!(table.owned_by(slot), Some((backup.owner, backup.generation)), "an Owner's number is no hop");
}

#[test]
fn what_the_policy_made_of_a_session_is_kept() {
    let mut table = SessionTable::new(64);
    let admission = Admission { policy: 513, terms: 3, zone: 15, reversed: true, local: true, service: 0 };
    let owned = Session { admission, ..session_in(1, Role::Owner, State::UdpReplied) };
    let slot = table.insert(&owned).unwrap();
    assert_eq!(table.get(slot), owned);
    table.set_hop(slot, Direction::LoToHi, 7, 4);
    assert_eq!(table.hop(slot, Direction::LoToHi, 7), Some(4));
    let plain = |table: &SessionTable| table.lines[slot.index()].plain_hop(Direction::LoToHi, 7);
    assert_eq!(plain(&table), None, "a session with idle times of its own goes the long way");
    let other = Admission { policy: 514, terms: 0, ..admission };
    table.set_admission(slot, &other);
    assert_eq!(table.get(slot).admission, other);
    assert_eq!(table.hop(slot, Direction::LoToHi, 7), None, "judged anew, hops are looked up anew");
    table.set_hop(slot, Direction::LoToHi, 7, 4);
    assert_eq!(plain(&table), Some(4));
    // A backup has what its record tells, and an Owner's generation is not its number of terms.
    let backup =
        Session { generation: Generation(0x0a00_0007), ..session_in(1, Role::Backup, State::UdpReplied) };
    let backup = Session { admission: Admission::of_origin(other.origin()), ..backup };
    table.replace(slot, &backup);
    assert_eq!(table.get(slot), backup);
    table.set_admission(slot, &admission);
    assert_eq!(table.get(slot), backup, "a backup is not judged here");
}

#[test]
fn a_session_keeps_its_service_in_every_role_and_takes_no_fast_path() {
    let mut table = SessionTable::new(64);
    for role in [Role::Owner, Role::Backup, Role::Claim] {
        let admission = Admission { service: 15, zone: 3, ..Admission::default() };
        let session = Session { admission, bytes: 1 << 40, ..session_in(1, role, State::UdpReplied) };
        let slot = table.insert(&session).unwrap();
        (0..40).for_each(|_| table.count_packet(slot, 1500));
        table.set_hop(slot, Direction::LoToHi, 7, 4);
        assert_eq!(table.hop(slot, Direction::LoToHi, 7), None, "{role:?}");
        let expected = Session { packets: 40, bytes: (1 << 40) + 40 * 1500, ..session };
        assert_eq!(table.remove(slot), expected, "{role:?}");
    }
}

#[test]
fn every_table_has_a_hash_of_its_own() {
    let [one, other] = [(); 2].map(|()| SessionTable::new(64));
    let differs = |n: u32| {
        let hash = |table: &SessionTable| table.namer.hash(&table.name(&key(proto::UDP, n)));
        hash(&one) != hash(&other)
    };
    assert!((0..60).all(differs), "who knows the buckets of one table knows nothing of another");
}
