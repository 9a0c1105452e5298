//! What the benches share. Micro benchmarks: a clock that does not count other processes, packets. End-to-end
//! benches: the rig, the generator, devices under test, measuring and reporting. A worker over memory in every
//! role is in [`samepath_dataplane::bench`], which the product measures itself with.

#[cfg(feature = "full")]
mod cpu_time;
#[cfg(feature = "full")]
pub mod device;
#[cfg(feature = "full")]
pub mod firewall_pair;
#[cfg(feature = "full")]
pub mod forwarder;
#[cfg(feature = "full")]
pub mod generator;
#[cfg(feature = "full")]
pub mod measure;
#[cfg(feature = "full")]
pub mod packets;
#[cfg(feature = "full")]
pub mod recorder;
#[cfg(feature = "full")]
pub mod report;
#[cfg(feature = "full")]
pub mod rig;

#[cfg(feature = "full")]
pub use cpu_time::{CpuTime, criterion, of_process};
