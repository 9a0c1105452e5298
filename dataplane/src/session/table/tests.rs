//! The table against a plain map, at and beyond its capacity.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::flow::proto;
use crate::session::record::State;
use crate::session::samples::{key, session_in};

/// One thing done to a table; numbers name flows and slots, modulo what there is.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Insert(u32, Role, usize),
    Remove(u32),
    Replace(u32, Role, usize),
    Touch(u32),
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
        2 => (flow.clone(), role(), state).prop_map(|(n, r, s)| Deed::Replace(n, r, s)),
        2 => flow.prop_map(Deed::Touch),
        1 => Just(Deed::Evict),
        1 => Just(Deed::Walk),
    ]
}

/// A table and the map that says what must be in it.
struct Pair {
    table: SessionTable,
    model: HashMap<FlowKey, Session>,
}

impl Pair {
    fn insert(&mut self, session: Session) -> Result<(), TestCaseError> {
        if self.model.contains_key(&session.key) {
            return Ok(());
        }
        let outcome = self.table.insert(session);
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
        let victim = self.table.half_open_victim();
        let half_open = self.model.values().filter(|session| session.state.is_half_open()).count();
        match victim {
            Some(slot) => {
                let session = self.table.remove(slot);
                prop_assert!(session.state.is_half_open());
                prop_assert_eq!(self.model.remove(&session.key), Some(session));
            }
            None if capacity <= EVICTION_PROBES => prop_assert_eq!(half_open, 0),
            None => {}
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
                }
            }
            Deed::Replace(n, role, state) => {
                let session = session_in(n, role, State::ALL[state]);
                if let Some(slot) = self.table.find(&session.key) {
                    let old = self.table.replace(slot, session);
                    prop_assert_eq!(self.model.insert(session.key, session), Some(old));
                }
            }
            Deed::Touch(n) => {
                if let Some(slot) = self.table.find(&key(proto::UDP, n)) {
                    self.table.get_mut(slot).packets += 1;
                    let session = self.table.get(slot);
                    self.model.entry(session.key).and_modify(|known| known.packets += 1);
                }
            }
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
        for n in 0..60 {
            let key = key(proto::UDP, n);
            let found = self.table.find(&key).map(|slot| *self.table.get(slot));
            prop_assert_eq!(found, self.model.get(&key).copied());
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
        let mut pair = Pair { table: SessionTable::new(capacity), model: HashMap::new() };
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
            table.insert(session_in(n, Role::Owner, state)).unwrap();
        }
        let extra = session_in(capacity as u32, Role::Owner, state);
        assert_eq!(table.insert(extra), Err(TableFull));
        assert_eq!(table.count(Role::Owner), capacity, "a refusal is not counted");
        assert_eq!(table.find(&extra.key), None);
    }
}

#[test]
fn victims_take_turns_and_are_half_open() {
    let mut table = SessionTable::new(1000);
    for n in 0..1000 {
        let state = if n % 100 == 7 { State::TcpSynSent } else { State::TcpEstablished };
        table.insert(session_in(n, Role::Owner, state)).unwrap();
    }
    let turns = 1000_usize.div_ceil(EVICTION_PROBES) + 10;
    let mut victims: Vec<Slot> = (0..turns).filter_map(|_| table.half_open_victim()).collect();
    assert!(victims.iter().all(|&slot| table.get(slot).state == State::TcpSynSent));
    victims.sort_unstable();
    victims.dedup();
    assert_eq!(victims.len(), 10, "each is found in one round");
}

#[test]
fn no_victim_among_established_sessions_and_claims() {
    let mut table = SessionTable::new(8);
    for (n, state) in [State::TcpEstablished, State::Claimed, State::Generic].into_iter().enumerate() {
        table.insert(session_in(n as u32, Role::Owner, state)).unwrap();
    }
    assert_eq!(table.half_open_victim(), None);
    assert_eq!(SessionTable::new(0).half_open_victim(), None);
}

#[test]
fn churn_at_full_load_leaves_no_trace() {
    // Twice this is a power of two: the index is as full as it gets.
    const CAPACITY: u32 = 1 << 15;
    let mut table = SessionTable::new(CAPACITY as usize);
    for n in 0..CAPACITY {
        table.insert(session_in(n, Role::Owner, State::UdpReplied)).unwrap();
    }
    let fresh = table.index.longest_run();
    let mut random = 88_172_645_463_325_252_u64;
    for n in CAPACITY..CAPACITY * 50 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        table.remove(Slot((random % u64::from(CAPACITY)) as u32));
        table.insert(session_in(n, Role::Owner, State::UdpReplied)).unwrap();
    }
    let worn = table.index.longest_run();
    assert!(fresh.max(worn) < 150, "runs of {fresh} and {worn} places");
    let found = (0..CAPACITY as usize).filter_map(|n| table.occupied(n)).all(|slot| {
        let key = table.get(slot).key;
        table.find(&key) == Some(slot)
    });
    assert!(found, "every session is found");
}
