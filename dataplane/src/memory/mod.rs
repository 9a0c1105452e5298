//! What the session table asks of the machine beyond plain Rust: large arrays on huge pages, fetching a
//! cache line ahead of its use, comparing eight tags at once. With `xsk/` the only `unsafe` of the crate.
#![allow(unsafe_code)]

mod array;
mod prefetch;
mod tags;

pub use array::{HugeArray, Pages};
pub use prefetch::prefetch_in;
pub use tags::{LANES, matches};
