//! Where each of the hosts' packets has been.

use std::collections::HashMap;

use super::packets::Sent;

/// What is known of one packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trace {
    /// Times it was put on the cluster link.
    pub crossings: u32,
    /// Copies there can be.
    pub copies: u32,
    /// Times it was delivered.
    pub delivered: u32,
}

/// All packets by number.
#[derive(Debug, Default)]
pub struct Traces {
    by_id: HashMap<u16, Trace>,
    next: u16,
}

impl Traces {
    /// The number of a new packet.
    pub fn begin(&mut self) -> u16 {
        self.next = self.next.wrapping_add(1);
        self.by_id.insert(self.next, Trace { copies: 1, ..Trace::default() });
        self.next
    }

    /// The packet was tunnelled in so many copies. An error breaks promise 4.
    pub fn crossed(&mut self, packet: &Sent, copies: u32) -> Result<(), String> {
        let trace = self.by_id.entry(packet.id).or_default();
        trace.crossings += 1;
        if trace.crossings > 3 * trace.copies {
            return Err(format!("promise 4: packet {packet} crosses the cluster link a fourth time"));
        }
        trace.copies += copies.saturating_sub(1);
        Ok(())
    }

    /// The packet reached its host. An error means it was made more of than the network did.
    pub fn delivered(&mut self, packet: &Sent) -> Result<(), String> {
        let trace = self.by_id.entry(packet.id).or_default();
        trace.delivered += 1;
        if trace.delivered > trace.copies {
            return Err(format!("promise 3: packet {packet} was forwarded {} times", trace.delivered));
        }
        Ok(())
    }
}
