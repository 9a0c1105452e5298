//! What the benches share. Micro benchmarks: a clock that does not count other processes, packets, a worker
//! over memory in every role. End-to-end benches: the rig, the generator, devices under test, measuring and
//! reporting.

pub mod conversation;
mod cpu_time;
pub mod device;
pub mod firewall_pair;
pub mod generator;
pub mod measure;
pub mod node;
pub mod packets;
pub mod recorder;
pub mod report;
pub mod rig;
pub mod roles;

pub use cpu_time::{CpuTime, criterion, of_process, of_thread};
