//! What the benchmarks share: a clock that does not count other processes, packets, a worker over memory
//! in every role.

pub mod conversation;
mod cpu_time;
pub mod node;
pub mod packets;
pub mod roles;

pub use cpu_time::{CpuTime, criterion, of_process, of_thread};
