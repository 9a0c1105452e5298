//! Who is a member: one view, with one epoch, on all nodes once things have settled.
//!
//! Three kinds of evidence: Hello messages through the tunnel say whom this node hears; rows, told to every peer
//! and passed on by SWIM, say whom the others hear; the control channel says who may be heard at all. See
//! `README.md` and `docs/decisions/0013-membership.md`. No sockets, no clock: [`machine::Membership`] has the
//! verbs of a machine, so that a simulation can drive it.

pub mod agreement;
pub mod etcd;
pub mod evidence;
pub mod machine;
pub mod row;
pub mod swim;
#[cfg(test)]
mod tests;

pub use evidence::{Evidence, PeerState};
pub use machine::{Membership, MembershipConfig, Standing};
