//! What the micro benchmarks share: a clock that does not count other processes, and packets.

mod cpu_time;
pub mod packets;

pub use cpu_time::{CpuTime, criterion, of_process};
