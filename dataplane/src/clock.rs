//! The one file that reads a clock. Everywhere else time is an argument.

use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the process's clock was made. Ages, never wall time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct NowMs(pub u64);

impl NowMs {
    /// Milliseconds from `earlier` to `self`, 0 if `earlier` is later.
    pub fn since(self, earlier: NowMs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `self` plus `ms`.
    pub fn plus(self, ms: u64) -> NowMs {
        NowMs(self.0 + ms)
    }
}

/// One look at a [`Clock`].
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The present.
    pub now: NowMs,
    /// Nanoseconds since the clock was made, for spans.
    pub ns: u64,
}

/// A monotonic clock; every worker and control share one origin by copying it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

/// Where clocks start, ms: more than thirty years.
const ORIGIN_MS: u64 = 1 << 40;

/// Nanoseconds since 1970, of packets that an operator looks at; nothing else is wall time.
pub fn wall_ns() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// CPU time of the calling thread since its start, for measurements: what others do on the core meanwhile is not in it.
pub fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

impl Clock {
    /// A clock that starts far enough from zero that zero can mean "never", and that a session older
    /// than this process (replicated by its age) began after zero.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The present.
    pub fn now(&self) -> NowMs {
        self.moment().now
    }

    /// The present, and finer than a millisecond: one look at the clock for both.
    pub fn moment(&self) -> Moment {
        let elapsed = self.origin.elapsed();
        Moment { now: NowMs(ORIGIN_MS + elapsed.as_millis() as u64), ns: elapsed.as_nanos() as u64 }
    }

    /// Microseconds since the clock was made, for spans shorter than a millisecond.
    pub fn micros(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }
}
