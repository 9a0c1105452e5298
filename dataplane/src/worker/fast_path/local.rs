//! A packet in step with a session that this node owns, from a data interface or through the tunnel.

use super::Glance;
use crate::clock::NowMs;
use crate::detours::{Detours, Ends};
use crate::flow::{Generation, NodeId};
use crate::route::LinkHop;
use crate::session::table::{PlainRules, Slot};
use crate::wire::rewrite;
use crate::wire::tunnel::{TunnelKind, TunnelOption};
use crate::worker::detours::crossed;
use crate::worker::shard::Shard;
use crate::worker::{Ports, Snapshots, Worker};
use crate::xsk::Io;

impl<I: Io> Worker<I> {
    /// Forwards the packet if it is in step; gives it back otherwise.
    #[inline(always)]
    pub(super) fn forward_fast(
        &mut self,
        mut frame: I::Frame,
        glance: &Glance,
        slot: Slot,
        now: NowMs,
    ) -> Option<I::Frame> {
        let Self { shard, snapshots, ports, paths, io, fast, detours, .. } = self;
        let Some(hop) = follow(shard, snapshots, ports, (glance, *paths), slot, now) else {
            return Some(frame);
        };
        let length = u64::from(glance.length);
        let tally = &mut fast.tally;
        tally.bytes += length;
        tally.forwarded += 1;
        if let Some(option) = &glance.option {
            io.shrink_front(&mut frame, usize::from(glance.inner_off));
            tally.outer_in += u64::from(glance.inner_off);
            tally.queries += u64::from(option.kind.asks());
            tally.redirects += u64::from(option.kind == TunnelKind::Redirect);
            count_detour_fast(detours, snapshots.view.me, glance, option);
        }
        let bytes = io.bytes_mut(&mut frame);
        rewrite::decrement_ttl_of_plain(bytes, usize::from(glance.plain.l3_off), glance.plain.ipv6);
        rewrite::set_macs(bytes, hop.destination_mac, hop.source_mac);
        let port = hop.port;
        self.send_fast(port, frame, length);
        None
    }
}

/// Follows the session: where the packet leaves. `None`: nothing was changed, take the long way.
#[inline(always)]
fn follow<'a>(
    shard: &mut Shard,
    snapshots: &'a Snapshots,
    ports: &Ports,
    (glance, paths): (&Glance, u32),
    slot: Slot,
    now: NowMs,
) -> Option<&'a LinkHop> {
    if let Some(option) = &glance.option {
        // A later generation than the session may have is for `decide`; every session has the first.
        let settled = option.generation <= Generation(1) || option.owner != snapshots.view.me;
        if !settled || !(option.kind.asks() || option.kind == TunnelKind::Redirect) {
            return None;
        }
    }
    let plain = &glance.plain;
    let (routes, timeouts) = (&*snapshots.routes, &snapshots.settings.timeouts);
    let rules = PlainRules { timeouts, paths, now };
    let leave = |hop| {
        let hop = routes.hop(hop)?;
        let fits = u32::from(plain.l3_length) <= hop.mtu;
        (fits && hop.port != ports.cluster_link).then_some(hop)
    };
    let (hop, sooner) = shard.table.follow_plain(slot, plain, glance.length, &rules, leave)?;
    if let Some(expires) = sooner {
        shard.wheel.schedule_no_later(slot, expires);
    }
    Some(hop)
}

/// As [`Worker::count_detour`], at node `me`.
#[inline(always)]
fn count_detour_fast(detours: &mut Detours, me: NodeId, glance: &Glance, option: &TunnelOption) {
    if option.ingress == me {
        return;
    }
    let plain = &glance.plain;
    let words = if plain.ipv6 { plain.ends } else { [plain.ends[0], 0, 0, 0] };
    let ends = Ends { words, ipv6: plain.ipv6, direction: plain.direction };
    detours.count(&ends, &crossed(option, glance.length, glance.inner_off));
}
