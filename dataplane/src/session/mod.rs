//! What a node remembers of a flow: the record, how it changes, where it is kept, when it ends.

pub mod admission;
pub mod change;
pub mod record;
#[cfg(test)]
pub(crate) mod samples;
pub mod sctp;
pub mod table;
pub mod tcp;
pub mod timeouts;
pub mod track;
pub mod wheel;

pub use admission::{Admission, ZONES};
pub use change::Change;
pub use record::{Role, Session, State};
