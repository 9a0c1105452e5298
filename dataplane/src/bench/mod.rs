//! A worker on the bench: the real one over memory ports, in each role a node can have for a packet, with sessions
//! and packets that make it play the role; and what its turns cost a core.
//!
//! `samepath bench` measures a machine with it, the `burst` benchmark this program. Packets come out of memory and go
//! into memory: nothing here is on a packet's path in a node.

mod conversation;
mod crew;
mod measure;
mod node;
mod roles;

pub use conversation::Family;
pub use crew::Crew;
pub use measure::{Lap, Rate, Span, lap};
pub use node::{NOW, Node};
pub use roles::{BURST, Case, Role, Stage};
