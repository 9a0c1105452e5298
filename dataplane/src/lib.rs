//! Everything a packet touches. No sockets, no locks, no clock, no libbpf:
//! the unsafe code lives in [`xsk`] (rings) and [`memory`] (pages, prefetch), the clock is read in [`clock`], the rest is plain logic.
//!
//! Start reading at [`worker`]: one core's loop, top to bottom as a packet's life.

pub mod bench;
pub mod carry_out;
pub mod clock;
pub mod cluster;
pub mod counters;
pub mod decide;
pub mod detours;
pub mod events;
pub mod floods;
pub mod flow;
pub mod forwards;
pub mod inquiry;
pub mod keyring;
pub mod limits;
pub mod mailbox;
pub mod memory;
pub mod policy;
pub mod route;
pub mod service;
pub mod session;
pub mod settings;
pub mod tuning;
pub mod verdict;
pub mod watch;
pub mod wire;
pub mod worker;
pub mod xsk;
