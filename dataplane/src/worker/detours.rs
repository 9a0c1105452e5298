//! Packets of flows of this node that another node received.

use super::{Job, Worker};
use crate::decide::Arrival;
use crate::detours::{Crossed, Ends};
use crate::wire::tunnel::TunnelOption;
use crate::xsk::Io;

impl<I: Io> Worker<I> {
    /// A packet is processed here: counts it if it made a detour.
    pub(crate) fn count_detour(&mut self, job: &Job<I::Frame>) {
        let Arrival::Tunnel(option) = &job.arrival else { return };
        if option.ingress == self.snapshots.view.me {
            return;
        }
        let crossed = crossed(option, job.packet.length, job.packet.layout.inner_off);
        self.detours.count(&Ends::of(&job.packet.key, job.packet.direction), &crossed);
    }
}

/// What is known of such a packet.
#[inline(always)]
pub(super) fn crossed(option: &TunnelOption, length: u32, outer: u16) -> Crossed {
    Crossed { ingress: option.ingress, times: option.hops, length, outer }
}
