//! Packets larger than the link they must leave by: cut if they may be, else their sender is told.

use super::{Job, Worker};
use crate::carry_out::Carry;
use crate::clock::NowMs;
use crate::decide::Arrival;
use crate::route::LinkHop;
use crate::verdict::DropReason;
use crate::wire::answer::Complaint;
use crate::wire::ethernet;
use crate::wire::fragment::Cut;
use crate::wire::layout::Layout;
use crate::wire::packet::Packet;
use crate::wire::rewrite;
use crate::xsk::Io;

/// The largest packet that is cut: no frame is larger.
const FRAME_MAX: usize = 4096;

/// Fragments of a packet, in order.
type Pieces<F> = [Option<F>; Cut::MOST];

impl<I: Io> Worker<I> {
    /// `layout` has nothing in front; the packet is larger than `hop` takes.
    pub(crate) fn too_big(&mut self, frame: I::Frame, layout: &Layout, hop: LinkHop, now: NowMs) {
        let Some(pieces) = self.pieces(&frame, layout, hop.mtu) else {
            let told = (Complaint::TooBig(hop.mtu), DropReason::TooBig);
            return self.complain(frame, *layout, told, now);
        };
        self.io.recycle(frame);
        self.counters.forward.add(1);
        for mut piece in pieces.into_iter().flatten() {
            let bytes = self.io.bytes_mut(&mut piece);
            if !rewrite::decrement_ttl(bytes, layout) {
                self.drop_frame(piece, DropReason::TtlExpired);
                continue;
            }
            rewrite::set_macs(bytes, hop.destination_mac, hop.source_mac);
            self.send(hop.port, piece);
        }
    }

    /// With `outer` bytes in front the packet does not fit the cluster link.
    pub(crate) fn too_big_for_link(
        &mut self,
        mut job: Job<I::Frame>,
        carry: Carry,
        outer: usize,
        now: NowMs,
    ) {
        let layout = Layout { inner_off: 0, ..job.packet.layout };
        self.io.shrink_front(&mut job.frame, usize::from(job.packet.layout.inner_off));
        let front = (outer + usize::from(layout.l3_off) - ethernet::HEADER) as u32;
        let mtu = self.ports.cluster_link_mtu.saturating_sub(front);
        let Some(pieces) = self.pieces(&job.frame, &layout, mtu) else {
            let told = (Complaint::TooBig(mtu), DropReason::ClusterLinkMtu);
            return self.complain(job.frame, layout, told, now);
        };
        self.io.recycle(job.frame);
        for piece in pieces.into_iter().flatten() {
            match self.piece_of(piece, &job.packet, job.arrival) {
                Ok(piece) => self.tunnel(piece, carry, now),
                Err(frame) => self.drop_frame(frame, DropReason::ClusterLinkMtu),
            }
        }
    }

    fn piece_of(&self, frame: I::Frame, whole: &Packet, arrival: Arrival) -> Result<Job<I::Frame>, I::Frame> {
        let Ok(mut packet) = Packet::parse(self.io.bytes(&frame), whole.layout.port, &self.hasher) else {
            return Err(frame);
        };
        let wire_flow = (packet.key, packet.direction);
        (packet.key, packet.direction) = (whole.key, whole.direction);
        Ok(Job { frame, packet, arrival, wire_flow, hop: None })
    }

    /// The packet in parts of `mtu` bytes, the frame itself untouched; `None` if it may not be cut, or there are too few
    /// free frames.
    fn pieces(&mut self, frame: &I::Frame, layout: &Layout, mtu: u32) -> Option<Pieces<I::Frame>> {
        // The packet is read while its parts are written, and all are this worker's frames.
        let mut whole = [0; FRAME_MAX];
        let bytes = self.io.bytes(frame);
        let whole = whole.get_mut(..bytes.len())?;
        whole.copy_from_slice(bytes);
        let cut = Cut::new(whole, layout, mtu)?;
        let mut pieces: Pieces<I::Frame> = std::array::from_fn(|_| None);
        for index in 0..cut.count() {
            pieces[index] = self.io.allocate(cut.length(index));
            let Some(piece) = &mut pieces[index] else {
                pieces.into_iter().flatten().for_each(|piece| self.io.recycle(piece));
                return None;
            };
            cut.write(whole, index, self.io.bytes_mut(piece));
        }
        self.counters.fragments_made.add(cut.count() as u64 - 1);
        Some(pieces)
    }
}
