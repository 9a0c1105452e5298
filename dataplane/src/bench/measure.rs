//! CPU time of a worker's turns.

use std::time::Duration;

use super::roles::Stage;
use crate::clock::{Clock, cpu_time};

/// How long a measurement lasts: until the first of both.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Bursts.
    pub turns: u32,
    /// CPU time inside turns.
    pub spent: Duration,
}

/// One measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lap {
    /// Packets that went through the worker.
    pub packets: u64,
    /// CPU time inside its turns.
    pub spent: Duration,
    /// CPU time of all, with the packets' arrival and departure.
    pub cpu: Duration,
    /// The same by the clock: longer if others took the core.
    pub elapsed: Duration,
}

impl Lap {
    /// Million packets per second of CPU time.
    pub fn mpps(&self) -> f64 {
        self.packets as f64 / self.spent.as_secs_f64() / 1e6
    }
}

/// Median, lowest and highest of several measurements.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    /// The middle one; of an even number the upper of the two.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
}

impl Rate {
    /// Of at least one.
    pub fn of(mut rates: Vec<f64>) -> Self {
        rates.sort_by(f64::total_cmp);
        let (lowest, highest) = (rates[0], rates[rates.len() - 1]);
        Self { median: rates[rates.len() / 2], lowest, highest }
    }
}

/// Looks at the clock one after the other, of which the shortest counts.
const LOOKS: usize = 100;

/// What a look at the clock costs: two of them measure a turn, and about one of both lies in between.
fn cost_of_a_look() -> Duration {
    let looks = (0..LOOKS).map(|_| {
        let start = cpu_time();
        cpu_time() - start
    });
    looks.min().unwrap_or_default()
}

/// Lets bursts through the worker of `stage`.
///
/// # Panics
/// If a packet did not go on.
pub fn lap(stage: &mut Stage, span: Span) -> Lap {
    let (look, clock, begin) = (cost_of_a_look(), Clock::start(), cpu_time());
    let began = clock.moment().ns;
    let mut lap = Lap::default();
    for _ in 0..span.turns {
        lap.packets += stage.arrive() as u64;
        let start = cpu_time();
        stage.node.turn();
        lap.spent += (cpu_time() - start).saturating_sub(look);
        stage.clear();
        if lap.spent >= span.spent {
            break;
        }
    }
    lap.cpu = cpu_time() - begin;
    lap.elapsed = Duration::from_nanos(clock.moment().ns - began);
    lap
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{BURST, Family, Role};

    #[test]
    fn a_rate_is_the_median_whatever_the_order() {
        let rate = Rate::of(vec![3.0, 1.0, 9.0, 2.0, 4.0]);
        assert_eq!(rate, Rate { median: 3.0, lowest: 1.0, highest: 9.0 });
        assert_eq!(Rate::of(vec![5.0]), Rate { median: 5.0, lowest: 5.0, highest: 5.0 });
    }

    #[test]
    fn a_lap_counts_what_went_through_and_ends_with_the_first_limit() {
        let mut stage = Stage::set(Role::Owner, Family::V6, 64);
        let turns = lap(&mut stage, Span { turns: 3, spent: Duration::MAX });
        assert_eq!(turns.packets, 3 * BURST as u64);
        assert!(!turns.spent.is_zero() && turns.spent <= turns.cpu, "{turns:?}");
        let time = lap(&mut stage, Span { turns: u32::MAX, spent: Duration::from_nanos(1) });
        assert_eq!(time.packets, BURST as u64);
        let lap = Lap { packets: 3_000_000, spent: Duration::from_millis(500), ..Lap::default() };
        assert_eq!(lap.mpps(), 6.0);
    }
}
