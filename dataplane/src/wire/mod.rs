//! Every byte layout: what arrives, what is sent between nodes, what is replicated.
//!
//! Each file has the same shape: the layout as a picture, a checked view, `parse` and `emit`, tests
//! with literal bytes. Nothing here allocates, panics on input or knows the time.

pub mod addresses;
pub mod answer;
pub mod ethernet;
pub mod flow_hash;
pub mod fragment;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod layout;
mod octets;
pub mod packet;
pub mod plain;
#[cfg(test)]
mod properties;
pub mod record;
pub mod rewrite;
#[cfg(test)]
mod samples;
pub mod sctp;
pub mod tag;
pub mod tcp;
pub mod transport;
pub mod tunnel;

pub use layout::{Layout, NotSteered};
pub use packet::{Fragment, L4, Packet, ParseError};
