//! How fast a device forwards: windows of traffic, and the search for the rate at which it is full.

mod peak;
mod window;

pub use peak::{Peak, Search};
pub use window::{Load, Window, measure};
