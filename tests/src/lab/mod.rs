//! The lab: the whole cluster in one thread from a seed.
//!
//! True workers over memory ports, true replication machines, true liveness; around them a network that
//! loses, doubles, delays and cuts, nodes that crash, restart and sleep, and hosts that talk. After every step
//! [`checker`] asserts the promises; at the end everything is mended and [`quiescence`] compares what
//! there is with what there must be.
//!
//! ```text
//!  hosts (conversation) ──► network ──► nodes: worker ◄─ mailbox ─► control ──► channels (control network)
//!            ▲                  ▲          │                                        │
//!            └──────────────────┴──────────┘ tunnel                                 └──► other nodes' control
//! ```

pub mod channels;
pub mod checker;
pub mod control;
pub mod conversation;
pub mod faults;
pub mod network;
pub mod node;
pub mod packets;
pub mod plan;
pub mod ports;
pub mod quiescence;
pub mod random;
pub mod run;
pub mod story;
pub mod trace;
pub mod world;

pub use run::{Failure, Outcome, run};
