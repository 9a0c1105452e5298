//! What must hold for any bytes on any interface (promise 8): one function per target, which panics when it does
//! not. `tests/fuzz` searches for such bytes, `tests/tests/fuzz.rs` plays what was found in every `make test`.
//!
//! Nothing here knows a layout byte by byte: a harness goes through the doors that the daemon uses.

mod membership;
mod operator;
mod packet;
mod replication;
pub mod seeds;
mod tunnel;
mod worker;

pub use membership::membership;
pub use operator::operator;
pub use packet::packet;
pub use replication::replication;
pub use tunnel::tunnel;
pub use worker::worker;

/// A target's function.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: [(&str, Target); 6] = [
    ("packet", packet),
    ("tunnel", tunnel),
    ("worker", worker),
    ("replication", replication),
    ("membership", membership),
    ("operator", operator),
];

/// The bytes of an input, taken from its front. Behind its end there are zeroes.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *byte
    }

    fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// At most `count` of them.
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// As many as two bytes in front of them say, at most `most`.
    fn string(&mut self, most: usize) -> &'a [u8] {
        let length = usize::from(self.short());
        self.take(length.min(most))
    }
}
