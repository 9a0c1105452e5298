//! Measures CPU time instead of wall time: on a machine that others use as well, a preempted
//! benchmark would otherwise be charged for their work.

use std::time::Duration;

use criterion::Criterion;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of the measuring thread.
#[derive(Clone, Copy, Debug)]
pub struct CpuTime;

fn read(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// CPU time of the calling thread since its start.
pub fn of_thread() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// CPU time of all threads of the process together, since its start.
pub fn of_process() -> Duration {
    read(ClockId::ProcessCPUTime)
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        read(ClockId::ThreadCPUTime)
    }

    fn end(&self, start: Duration) -> Duration {
        read(ClockId::ThreadCPUTime).saturating_sub(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// Criterion over [`CpuTime`], with the arguments of the command line. Short: all micro benchmarks
/// together shall stay below two minutes.
pub fn criterion() -> Criterion<CpuTime> {
    Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .configure_from_args()
}
