//! samepath's XDP program, and the only code that talks to libbpf: load, attach, register, count.
//!
//! ```no_run
//! use samepath_bpf::{OnCrash, PortConfig, PortRole, Steering, SteeringConfig, XdpMode};
//!
//! # fn main() -> Result<(), samepath_bpf::SteeringError> {
//! let mut steering = Steering::load(&SteeringConfig { seed: 7, on_crash: OnCrash::Closed, forwarder: false })?;
//! let port = PortConfig {
//!     index: 0,
//!     ifname: "eth0".into(),
//!     ifindex: 2,
//!     mac: [2, 0, 0, 0, 0, 1],
//!     role: PortRole::Data,
//! };
//! steering.set_own_addresses(&["192.0.2.1".parse().unwrap()])?;
//! let got = steering.attach(port, XdpMode::BestEffort, false)?;
//! println!("attached in {got} mode");
//! # Ok(())
//! # }
//! ```

mod attach;
mod attached_program;
mod counters;
mod error;
mod forwarder;
mod forwards;
mod layout;
mod libbpf_print;
mod link;
mod mode;
mod pin;
mod steering;
mod test_run;

/// Generated from `steer.bpf.c` by libbpf-cargo.
#[allow(missing_docs, unused_imports, dead_code, clippy::all)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/steer.skel.rs"));
}

pub use attached_program::{AttachedProgram, attached_program};
pub use error::SteeringError;
pub use forwarder::{ForwardPeer, takes_redirected_frames};
pub use forwards::Forwards;
pub use layout::{
    FORWARD_HEADERS, FORWARDS, MAX_OWN_ADDRESSES, MAX_PASS_LIST, MAX_PEERS, MAX_PORTS, MAX_QUEUES,
    METADATA_SIZE, OUTCOMES, TUNNEL_PORT,
};
pub use mode::{AttachedMode, OnCrash, XdpMode};
pub use pin::PIN_FOLDER;
pub use steering::{PortConfig, PortRole, Steering, SteeringConfig};
pub use test_run::{Action, TestRun};
