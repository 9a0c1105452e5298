//! Replication: every change of a session this node owns reaches every peer, in order, acknowledged.
//!
//! Each node dials every peer and sends its own records over that connection; acknowledgements come
//! back on the same stream. See `README.md` in this folder.
//!
//! The protocol is [`machine::Machine`], which knows neither sockets nor clock; [`Replicator`] is the
//! thin shell that carries its frames over QUIC.

mod accept;
pub mod arrivals;
mod config;
mod dial;
mod endpoint;
pub mod event;
mod gate;
pub mod hello;
pub mod limits;
pub mod log;
pub mod machine;
pub mod message;
mod receiver;
pub mod refusal;
mod replicator;
mod seal;
mod sender;
mod stream;
pub mod tls;

#[cfg(test)]
mod tests;

pub use arrivals::{ArrivalStats, Discard};
pub use config::{DEFAULT_PORT, ReplicateConfig, StartError};
pub use event::{BulkRoom, PeerEvent, PeerStats};
pub use message::Claim;
pub use refusal::By;
pub use replicator::Replicator;
pub use tls::NodeKeys;
