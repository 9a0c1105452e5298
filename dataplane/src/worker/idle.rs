//! The loop around [`Worker::turn`], and what happens when a turn finds nothing: look again or sleep.
//!
//! A worker that shares its core with NAPI must sleep in `poll` when it has no work: while it looks
//! again and again the packets it waits for cannot be received. So `adaptive` looks again only where
//! that has paid lately. See `docs/decisions/0010-scheduling.md`.

use super::Worker;
use crate::clock::{Clock, NowMs};
use crate::mailbox::FromWorker;
use crate::tuning::Idle;
use crate::xsk::Io;

/// Longest sleep, ms: bounds how late timers and Hello messages can be.
const SLEEP_MS: u32 = 10;

/// Longest sleep while frames are being sent or walks are under way, ms.
const SOON_MS: u32 = 1;

/// How long `adaptive` looks for work before it sleeps, µs. Lower: more of the sleeps a spin could have
/// saved, each with its wake-up of 5 to 50 µs; higher: more time burnt before a sleep that comes anyway.
const SPIN_US: u64 = 20;

/// After so many spins in vain that follow each other the pause between spins no longer doubles: at
/// most one sleep in 1024 is then preceded by a spin (2 % of a core at 1000 sleeps a second is 0.002 %).
const PAUSE_MAX: u32 = 1024;

/// What a worker does after a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    Turn,
    Sleep,
}

/// Decides between looking again and sleeping.
#[derive(Debug)]
pub(super) struct Rest {
    idle: Idle,
    empty_turns: u32,
    /// When the present spin began, µs.
    spinning_since: Option<u64>,
    /// Sleeps until the next spin is tried.
    pause: u32,
    /// Length of the last pause.
    pauses: u32,
}

impl Rest {
    pub(super) fn new(idle: Idle) -> Self {
        Self { idle, empty_turns: 0, spinning_since: None, pause: 0, pauses: 0 }
    }

    /// After a turn that found work, or did not. `now_us` is asked only while spinning.
    pub(super) fn after(&mut self, busy: bool, now_us: impl FnOnce() -> u64) -> Next {
        if busy {
            self.empty_turns = 0;
            if self.spinning_since.take().is_some() {
                self.pauses = 0;
            }
            return Next::Turn;
        }
        self.empty_turns = self.empty_turns.saturating_add(1);
        match self.idle {
            Idle::Spin => Next::Turn,
            // A second look costs less than a sleep that ends at once.
            _ if self.empty_turns < 2 => Next::Turn,
            Idle::Sleep => Next::Sleep,
            Idle::Adaptive => self.spin(now_us),
        }
    }

    fn spin(&mut self, now_us: impl FnOnce() -> u64) -> Next {
        if self.pause > 0 {
            self.pause -= 1;
            return Next::Sleep;
        }
        let now = now_us();
        let since = *self.spinning_since.get_or_insert(now);
        if now.saturating_sub(since) < SPIN_US {
            return Next::Turn;
        }
        self.spinning_since = None;
        self.pauses = (self.pauses * 2).clamp(1, PAUSE_MAX);
        self.pause = self.pauses;
        Next::Sleep
    }
}

impl<I: Io> Worker<I> {
    /// Runs until control says stop; returns the rings so that they can be closed in the right order.
    pub fn run(mut self, clock: Clock) -> I {
        let mut began = clock.moment();
        loop {
            let now = began.now;
            let busy = self.turn(now);
            if self.may_end(now) {
                self.give_up_frames();
                // The outbox may be full of changes nobody takes any more; then control sees the thread end.
                let _ = self.mailbox.outbox.push(FromWorker::Stopped);
                return self.io;
            }
            match self.rest.after(busy, || clock.micros()) {
                Next::Turn => {}
                Next::Sleep => self.sleep(now),
            }
            // A turn ends where the next one begins: the clock is looked at once. After one that found work is no sleep.
            let ended = clock.moment();
            if busy {
                self.counters.busy_ns.add(ended.ns - began.ns);
            }
            began = ended;
        }
    }

    fn sleep(&mut self, now: NowMs) {
        let waker = self.handoff.my_waker();
        waker.about_to_sleep();
        if self.mailbox.inbox.is_empty() && self.handoff.is_empty() {
            self.counters.sleeps.add(1);
            let soon = self.sending || self.has_to_tell(now) || self.walks.pending();
            self.io.wait(&waker, if soon { SOON_MS } else { SLEEP_MS });
        }
        waker.awake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns until the next sleep, with turns of 1 µs.
    fn turns_until_sleep(rest: &mut Rest, clock: &mut u64) -> u32 {
        for turns in 1..10_000 {
            *clock += 1;
            let now = *clock;
            if rest.after(false, || now) == Next::Sleep {
                return turns;
            }
        }
        10_000
    }

    #[test]
    fn sleep_looks_once_more_and_spin_never_sleeps() {
        let mut clock = 0;
        assert_eq!(turns_until_sleep(&mut Rest::new(Idle::Sleep), &mut clock), 2);
        assert_eq!(turns_until_sleep(&mut Rest::new(Idle::Spin), &mut clock), 10_000);
    }

    #[test]
    fn adaptive_spins_for_its_time_and_then_ever_less_often() {
        let (mut rest, mut clock) = (Rest::new(Idle::Adaptive), 0);
        let first = u64::from(turns_until_sleep(&mut rest, &mut clock));
        assert!((SPIN_US..SPIN_US + 3).contains(&first), "{first}");
        let sleeps = 10_000;
        let mut spins = 0;
        for _ in 0..sleeps {
            // A packet wakes it, then nothing.
            assert_eq!(rest.after(true, || unreachable!()), Next::Turn);
            spins += u32::from(turns_until_sleep(&mut rest, &mut clock) > 2);
        }
        assert!((10..25).contains(&spins), "{spins} spins in {sleeps} sleeps");
    }

    #[test]
    fn adaptive_goes_on_spinning_where_it_pays() {
        let (mut rest, mut clock) = (Rest::new(Idle::Adaptive), 0);
        for _ in 0..1000 {
            for _ in 0..5 {
                clock += 1;
                assert_eq!(rest.after(false, || clock), Next::Turn, "packets come every 5 µs");
            }
            assert_eq!(rest.after(true, || unreachable!()), Next::Turn);
        }
        // Failures make it pause; the first success ends that.
        for _ in 0..100 {
            turns_until_sleep(&mut rest, &mut clock);
        }
        assert!(rest.pauses > 1);
        while rest.pause > 0 {
            turns_until_sleep(&mut rest, &mut clock);
        }
        assert_eq!((rest.after(true, || clock), rest.after(false, || clock)), (Next::Turn, Next::Turn));
        assert_eq!((rest.after(false, || clock), rest.after(true, || clock)), (Next::Turn, Next::Turn));
        assert_eq!(rest.pauses, 0);
    }
}
