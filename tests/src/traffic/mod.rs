//! A client/server pair that says exactly how many exchanges failed and why.

pub mod client;
pub mod flood;
pub mod lasting;
pub mod server;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bytes of a request: response length (big endian) and padding.
pub const REQUEST: usize = 64;

/// Outcome of many exchanges.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Exchanges tried.
    pub attempted: u64,
    /// Exchanges whose whole answer came.
    pub ok: u64,
    /// Exchanges that ended otherwise.
    pub failed: u64,
    /// Failed ones that met a TCP reset.
    pub resets: u64,
    /// Failed ones by the error's words.
    pub errors: BTreeMap<String, u64>,
    /// Wall time of all of them, ms.
    pub milliseconds: u64,
}

/// Byte number `index` of every answer.
fn answer_byte(index: usize) -> u8 {
    (index % 251) as u8
}
