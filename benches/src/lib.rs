//! What the benches share. Micro benchmarks: a clock that does not count other processes, and packets.
//! End-to-end benches: the rig, the generator, devices under test, measuring and reporting.

mod cpu_time;
pub mod device;
pub mod generator;
pub mod measure;
pub mod packets;
pub mod report;
pub mod rig;

pub use cpu_time::{CpuTime, criterion, of_process};
