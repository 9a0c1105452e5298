//! The test bed: a real cluster in network namespaces. Drawn in `tests/README.md`.
//!
//! Start with [`bed::Bed`]: it builds the namespaces, starts the nodes and asks them; everything else
//! serves it.

pub mod artifacts;
pub mod bed;
pub mod capture;
pub mod cli;
pub mod frame;
pub mod fuzz;
pub mod inlet;
pub mod interrupt;
pub mod lab;
pub mod ledger;
pub mod link;
pub mod netns;
pub mod node;
pub mod program;
pub mod raw_port;
pub mod scenario;
pub mod served;
pub mod stopped;
pub mod traffic;
pub mod wait;
pub mod web;
