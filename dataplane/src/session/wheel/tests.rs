//! The wheel against a plain map of times.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SLOTS: usize = 40;

/// One thing done to a wheel.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// Slot, milliseconds from now (negative: in the past).
    Schedule(u32, i64),
    ScheduleNoLater(u32, i64),
    Cancel(u32),
    /// Milliseconds, timers touched.
    Advance(u64, usize),
}

/// Times on every scale of the wheel.
fn distance() -> impl Strategy<Value = i64> {
    prop_oneof![
        -200..200_i64,
        0..10_000_i64,
        0..600_000_i64,
        0..100_000_000_i64,
        432_000_000..1_300_000_000_i64,
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    let slot = 0..SLOTS as u32;
    prop_oneof![
        4 => (slot.clone(), distance()).prop_map(|(slot, ms)| Deed::Schedule(slot, ms)),
        2 => (slot.clone(), distance()).prop_map(|(slot, ms)| Deed::ScheduleNoLater(slot, ms)),
        1 => slot.prop_map(Deed::Cancel),
        4 => (distance(), 0..60_usize)
            .prop_map(|(ms, budget)| Deed::Advance(ms.unsigned_abs(), budget)),
    ]
}

/// A wheel and when each timer must be due.
struct Pair {
    wheel: Wheel,
    model: BTreeMap<u32, u64>,
    now: u64,
}

impl Pair {
    fn schedule(&mut self, slot: u32, ms: i64, no_later: bool) {
        let at = self.now.saturating_add_signed(ms);
        if no_later {
            self.wheel.schedule_no_later(Slot(slot), NowMs(at));
            // Within one tick the earlier of two times is not told apart.
            let known = self.model.get(&slot).copied();
            if known
                .is_none_or(|known| known.div_ceil(TICK_MS) > at.div_ceil(TICK_MS).max(self.wheel.current))
            {
                self.model.insert(slot, at);
            }
        } else {
            self.wheel.schedule(Slot(slot), NowMs(at));
            self.model.insert(slot, at);
        }
    }

    fn advance(&mut self, ms: u64, budget: usize) -> Result<(), TestCaseError> {
        self.now += ms;
        let mut due = Vec::new();
        let done = self.wheel.advance(NowMs(self.now), budget, &mut due);
        prop_assert!(due.len() <= budget);
        for slot in due {
            let at = self.model.remove(&slot.0);
            prop_assert!(at.is_some_and(|at| at <= self.now), "{slot:?} of {at:?} at {}", self.now);
        }
        if done {
            let late = self.model.values().filter(|&&at| at + TICK_MS <= self.now).count();
            prop_assert_eq!(late, 0, "at {}: {:?}", self.now, self.model);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_early_late_or_lost(
        start in prop_oneof![0..10_000_u64, Just(1000), (u64::from(u32::MAX) - 5000) * 64..1 << 40],
        deeds in proptest::collection::vec(deed(), 0..80),
    ) {
        let wheel = Wheel::new(SLOTS, NowMs(start));
        let mut pair = Pair { wheel, model: BTreeMap::new(), now: start };
        for deed in deeds {
            match deed {
                Deed::Schedule(slot, ms) => pair.schedule(slot, ms, false),
                Deed::ScheduleNoLater(slot, ms) => pair.schedule(slot, ms, true),
                Deed::Cancel(slot) => {
                    pair.wheel.cancel(Slot(slot));
                    pair.model.remove(&slot);
                }
                Deed::Advance(ms, budget) => pair.advance(ms, budget)?,
            }
            prop_assert_eq!(pair.wheel.len(), pair.model.len());
        }
        // In the end every timer is given out.
        for _ in 0..20 {
            pair.advance(100_000_000, 1000)?;
        }
        prop_assert!(pair.model.is_empty() && pair.wheel.is_empty(), "{:?}", pair.model);
    }
}

#[test]
fn five_days_and_far_beyond() {
    for seconds in [1_u64, 4, 5, 262, 263, 16_777, 16_778, 432_000, 1_073_741, 2_592_000, 9_000_000] {
        let start = NowMs(1_234_567);
        let mut wheel = Wheel::new(1, start);
        let at = start.plus(seconds * 1000);
        wheel.schedule(Slot(0), at);
        let mut due = Vec::new();
        assert!(wheel.advance(NowMs(at.0 - 1), 100, &mut due));
        assert!(due.is_empty(), "{seconds} s is early");
        assert!(wheel.advance(at.plus(TICK_MS), 100, &mut due));
        assert_eq!(due, [Slot(0)], "{seconds} s is late");
        assert!(wheel.is_empty());
    }
}

#[test]
fn many_timers_of_one_moment_come_out_within_the_budget() {
    const MANY: usize = 100_000;
    let start = NowMs(1000);
    let mut wheel = Wheel::new(MANY, start);
    let at = start.plus(432_000_000);
    for slot in 0..MANY as u32 {
        wheel.schedule(Slot(slot), at);
    }
    let mut due = Vec::new();
    let mut calls = 0;
    while !wheel.advance(at.plus(TICK_MS), 500, &mut due) {
        calls += 1;
        assert!(due.len() <= 500 * calls);
    }
    assert_eq!(due.len(), MANY);
    // Down four levels at most, and out.
    assert!(calls <= 4 * MANY / 500, "{calls} calls");
    due.sort_unstable();
    due.dedup();
    assert_eq!(due.len(), MANY, "each once");
}

#[test]
fn a_timer_brought_forward_and_one_put_off() {
    let mut wheel = Wheel::new(2, NowMs(0));
    wheel.schedule(Slot(0), NowMs(432_000_000));
    wheel.schedule_no_later(Slot(0), NowMs(10_000));
    wheel.schedule(Slot(1), NowMs(10_000));
    wheel.schedule_no_later(Slot(1), NowMs(432_000_000));
    let mut due = Vec::new();
    assert!(wheel.advance(NowMs(9_000), 10, &mut due) && due.is_empty());
    assert!(wheel.advance(NowMs(10_064), 10, &mut due));
    due.sort_unstable();
    assert_eq!(due, [Slot(0), Slot(1)]);
    wheel.cancel(Slot(0));
    wheel.cancel(Slot(0));
    assert_eq!(wheel.len(), 0, "cancelling what is not set is nothing");
}
