//! A packet of a flow that another live node owns: into the tunnel.

use super::Glance;
use crate::flow::{Generation, NodeId};
use crate::limits::HOP_BUDGET;
use crate::session::table::Slot;
use crate::wire::ethernet;
use crate::wire::tunnel::{TaggedFlow, TunnelKind, TunnelOption};
use crate::worker::Worker;
use crate::xsk::Io;

impl<I: Io> Worker<I> {
    /// Redirects the packet to its Owner; gives it back if anything but that may be right.
    #[inline(never)]
    pub(super) fn redirect_fast(
        &mut self,
        mut frame: I::Frame,
        glance: &Glance,
        slot: Slot,
    ) -> Option<I::Frame> {
        let Some((owner, generation)) = self.shard.table.owned_by(slot) else { return Some(frame) };
        let Some(option) = self.redirect_option(glance, owner, generation) else { return Some(frame) };
        let Self { io, outward, .. } = self;
        let Some(towards) = outward.live(owner) else { return Some(frame) };
        let (room, present) = (towards.length(), usize::from(glance.inner_off));
        let carried = glance.length as usize + room - ethernet::HEADER;
        if carried > self.ports.cluster_link_mtu as usize || (present != 0 && present != room) {
            return Some(frame);
        }
        if present == 0 && !io.grow_front(&mut frame, room) {
            return Some(frame);
        }
        let bytes = io.bytes_mut(&mut frame);
        let flow = TaggedFlow::from(&glance.plain);
        towards.write(&mut bytes[..room], glance.length as usize, &option, &flow, glance.flow_hash);
        self.shard.table.count_packet(slot, glance.length);
        if glance.option.is_none() {
            self.offer_direction(slot, glance.port, glance.plain.direction);
        }
        let length = u64::from(glance.length) + room as u64;
        let tally = &mut self.fast.tally;
        tally.redirected += 1;
        tally.bytes += u64::from(glance.length);
        tally.outer_in += present as u64;
        tally.outer_out += room as u64;
        tally.queries += u64::from(glance.option.is_some());
        self.send_fast(self.ports.cluster_link, frame, length);
        None
    }

    /// What a Redirect to the Owner says, if the packet is plainly for it: from a data interface, or a Query
    /// of another node than the Owner.
    #[inline(always)]
    fn redirect_option(
        &self,
        glance: &Glance,
        owner: NodeId,
        generation: Generation,
    ) -> Option<TunnelOption> {
        let view = &self.snapshots.view;
        let (hops, zone, ingress) = match &glance.option {
            None if self.snapshots.settings.aggregation => (1, self.ports.zone_of(glance.port), view.me),
            Some(asked) if asked.kind.asks() && asked.ingress != owner && asked.hops < HOP_BUDGET => {
                (asked.hops + 1, asked.zone, asked.ingress)
            }
            _ => return None,
        };
        Some(TunnelOption {
            kind: TunnelKind::Redirect,
            hops,
            zone,
            ingress,
            owner,
            generation,
            epoch: view.epoch,
            sender: view.me,
        })
    }
}

impl<I: Io> Worker<I> {
    /// The view or the settings changed.
    pub(in crate::worker) fn renew_outward(&mut self) {
        self.outward.renew(&self.snapshots.view, &self.snapshots.settings);
    }
}
