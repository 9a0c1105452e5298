//! A plain packet and the line of its session: all that the Owner's fast path reads and writes of a session.

use crate::clock::NowMs;
use crate::session::record::State;
use crate::session::table::line::Line;
use crate::session::table::{SessionTable, Slot};
use crate::session::tcp::in_step::in_step;
use crate::session::timeouts::Timeouts;
use crate::wire::plain::{Layer4, Plain};

/// What following plain packets needs besides packet and session; the same for a whole burst.
#[derive(Clone, Copy, Debug)]
pub struct PlainRules<'a> {
    /// Idle times.
    pub timeouts: &'a Timeouts,
    /// Number of routes and policy.
    pub paths: u32,
    /// The present.
    pub now: NowMs,
}

impl SessionTable {
    /// Follows a session that this node owns through a packet of `length` bytes, if everything is plain: the
    /// packet in step with the session, a next hop remembered under the present routes and policy, `leave` (asked about that hop) content.
    ///
    /// Gives what `leave` gave, and when the session ends if that is sooner than before: its timer must not
    /// wait. `None`: nothing was changed, take the long way.
    #[inline(always)]
    pub fn follow_plain<H>(
        &mut self,
        slot: Slot,
        plain: &Plain,
        length: u32,
        rules: &PlainRules<'_>,
        leave: impl FnOnce(u32) -> Option<H>,
    ) -> Option<(H, Option<NowMs>)> {
        let line = self.lines.get_mut(slot.index())?;
        let left = leave(line.plain_hop(plain.direction, rules.paths)?)?;
        let timeout_ms = in_step_of(line, plain, rules.timeouts)?;
        let expires = rules.now.plus(u64::from(timeout_ms));
        let sooner = line.set_expires(expires);
        if let Some((packets, bytes)) = line.count(length) {
            self.rests[slot.index()].add(packets, bytes);
        }
        Some((left, sooner.then_some(expires)))
    }
}

/// The idle time after the packet, ms, if the packet changes no more than tracking and times.
#[inline(always)]
fn in_step_of(line: &mut Line, plain: &Plain, timeouts: &Timeouts) -> Option<u32> {
    match (plain.layer4, line.state) {
        (Layer4::Tcp, Some(State::TcpEstablished)) => {
            in_step(&mut line.tcp, plain.direction, &plain.step, timeouts)
        }
        (Layer4::Udp, Some(State::UdpReplied)) => Some(timeouts.udp_stream),
        (Layer4::Udp, Some(State::UdpUnreplied)) if plain.direction == line.origin() => Some(timeouts.udp),
        _ => None,
    }
}
