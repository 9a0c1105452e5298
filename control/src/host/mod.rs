//! What this host is like: everything `samepath doctor` judges and `samepath setup` changes, read once.
//!
//! Reading is here, judging in [`crate::doctor`] and [`crate::setup`]; what cannot be read is `None`, never a
//! guess.

mod case;
mod chain;
mod cores;
mod features;
mod link;
mod machine;
mod network;
mod node;
mod place;
mod process;

use std::collections::BTreeMap;

pub use case::{Case, Port};
pub use chain::Chain;
pub use cores::{Core, Ticks, clock_rates, cores, list, ticks};
pub use features::Feature;
pub use link::{Channels, Link, Napi, Program, RxRing};
pub use machine::{HugePool, Irq, Machine, available_memory};
pub use network::{Neighbour, Network, PeerRoute, Route};
pub use node::{Node, daemons, running};
pub use place::Place;
pub use process::Process;

use crate::config::Config;

/// A host at one moment.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Kernel, cores, memory, interrupts.
    pub machine: Machine,
    /// What the node's process may do; without a node, this one.
    pub process: Process,
    /// Interfaces by name; those of the configuration, and their veth peers, in detail.
    pub links: BTreeMap<String, Link>,
    /// Routes, neighbours, packet filter, ports.
    pub network: Network,
    /// Programs that are needed to look and are not here.
    pub missing_programs: Vec<&'static str>,
}

/// Programs that reading and setting need.
const PROGRAMS: [&str; 3] = ["ip", "ethtool", "nft"];

impl Host {
    /// Reads what `config` makes interesting; `node` is the process of the running node.
    pub fn read(place: &Place, config: Option<&Config>, node: Option<i32>) -> Self {
        Self {
            machine: Machine::read(place),
            process: Process::read(place, node),
            links: link::read(place, config),
            network: Network::read(place, config),
            missing_programs: PROGRAMS.into_iter().filter(|program| !place.has(program)).collect(),
        }
    }
}
