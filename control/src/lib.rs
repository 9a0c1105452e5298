//! The daemon and its commands: everything that is not on a packet's path.
//!
//! `samepath run` reads its [`config`] and [`keys`] and starts the [`daemon`]; every other command asks a
//! running daemon over its [`operator`] socket.

pub mod args;
pub mod bench;
pub mod capabilities;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod host;
pub mod keys;
pub mod landlock;
pub mod log;
pub mod membership;
pub mod metrics;
pub mod nic;
pub mod operator;
pub mod policy;
pub mod replicate;
pub mod routes;
pub mod seccomp;
pub mod setup;
pub mod stall;
pub mod sysdump;
pub mod systemd;
pub mod tunnel_keys;
pub mod watchdog;
pub mod workers;
