//! The operator's side: what can be asked over the unix socket, who answers, how answers look.
//!
//! One request per line, one JSON document per line back; documents carry `"schema": 1`.
//! [`api`] names everything, [`server`] listens in the daemon, [`client`] is behind the commands.

pub mod api;
pub mod capture;
pub mod client;
pub mod director;
pub mod drain;
pub mod events;
pub mod filter;
mod looking;
pub mod server;
pub mod sessions;
pub mod stats;
pub mod symmetry;
mod tables;
#[cfg(test)]
mod tests;
pub mod top;
pub mod trace;
pub mod watch;
pub mod why;

pub use api::{Reply, Request};
pub use filter::Filter;
pub use server::{OperatorRequest, OperatorSocket};
