//! Adds workers' counters up into [`Stats`].

use samepath_dataplane::counters::Counters;
use samepath_dataplane::verdict::DropReason;

use super::api::{Stats, Worker};

/// Reasons for which tunnel packets are refused (`tunnel.rejected`).
const REJECTED: [DropReason; 7] = [
    DropReason::TunnelUnknown,
    DropReason::TunnelMalformed,
    DropReason::TunnelKey,
    DropReason::TunnelReplay,
    DropReason::TunnelTag,
    DropReason::TunnelCluster,
    DropReason::TunnelPeer,
];

impl Stats {
    /// Adds one worker; `worker` is its index, `core` where it is pinned. Frames it has are added to
    /// `frames`; the total, those in the common depot (free) and demotions are the caller's.
    pub fn add_worker(&mut self, worker: usize, core: usize, counters: &Counters) {
        let c = counters;
        self.rx += c.rx.get();
        self.tx += c.tx.get();
        self.rx_bytes += c.rx_bytes.get();
        self.tx_bytes += c.tx_bytes.get();
        self.held += c.held.get();
        self.resent += c.resent.get();
        self.dirty += c.dirty.get();
        self.tcp_window_loose += c.tcp_window_loose.get();
        self.logs_lost += c.logs_lost.get();
        self.answers.time_exceeded += c.told_time_exceeded.get();
        self.answers.unreachable += c.told_unreachable.get();
        self.answers.too_big += c.told_too_big.get();
        self.answers.suppressed += c.answers_suppressed.get();
        self.fragments_waiting += c.fragments_waiting.get();
        self.fragments_made += c.fragments_made.get();
        self.prompted += c.prompted.get();
        self.mss_clamped += c.mss_clamped.get();
        self.hello.rx += c.hello_rx.get();
        self.hello.tx += c.hello_tx.get();
        self.frames.free += c.frames_free.get();
        self.frames.kernel += c.frames_kernel.get();
        self.frames.hand += c.frames_hand.get();
        self.add_tunnel(c);
        self.add_sessions(c);
        let dropped = self.add_drops(c);
        for (verdict, count) in [
            ("forward", c.forward.get()),
            ("service", c.service.get()),
            ("query", c.query_tx.get()),
            ("first_packet", c.first_packet_tx.get()),
            ("redirect", c.redirect_tx.get()),
            ("gather", c.gather_tx.get()),
            ("reject", c.rejected.get()),
            ("drop", dropped),
        ] {
            *self.verdicts.entry(verdict.into()).or_default() += count;
        }
        self.workers.push(Worker {
            worker,
            core,
            rx: c.rx.get(),
            tx: c.tx.get(),
            dropped,
            handoff_tx: c.handoff_tx.get(),
            handoff_rx: c.handoff_rx.get(),
            sessions: c.sessions_owner.get() + c.sessions_backup.get() + c.sessions_claim.get(),
            fast_path: c.fast_path.get(),
            tunnel_keys: c.tunnel_keys.get(),
            view_epoch: c.view_epoch.get(),
            turns: c.turns.get(),
            sleeps: c.sleeps.get(),
            busy_ns: c.busy_ns.get(),
            demotions: 0,
        });
    }

    /// Adds what the XDP program redirected by itself; `self.xdp` is filled in already.
    pub fn add_redirected(&mut self, bytes: u64) {
        let redirected = self.xdp.get("redirected").copied().unwrap_or(0);
        self.tunnel.redirect_tx += redirected;
        self.tunnel.redirect_tx_xdp = redirected;
        self.tunnel.redirect_tx_xdp_bytes = bytes;
    }

    fn add_tunnel(&mut self, c: &Counters) {
        let tunnel = &mut self.tunnel;
        tunnel.query_tx += c.query_tx.get();
        tunnel.query_rx += c.query_rx.get();
        tunnel.first_packet_tx += c.first_packet_tx.get();
        tunnel.first_packet_rx += c.first_packet_rx.get();
        tunnel.redirect_tx += c.redirect_tx.get();
        tunnel.redirect_rx += c.redirect_rx.get();
        tunnel.gather_tx += c.gather_tx.get();
        tunnel.gather_rx += c.gather_rx.get();
        self.forwards.published += c.forwards_published.get();
        self.forwards.withdrawn += c.forwards_withdrawn.get();
        self.forwards.refused += c.forwards_refused.get();
    }

    fn add_sessions(&mut self, c: &Counters) {
        let sessions = &mut self.sessions;
        sessions.owner += c.sessions_owner.get();
        sessions.backup += c.sessions_backup.get();
        sessions.claim += c.sessions_claim.get();
        sessions.created += c.sessions_created.get();
        sessions.expired += c.sessions_expired.get();
        sessions.yielding += c.sessions_yielding.get();
        sessions.evicted += c.sessions_evicted.get();
        sessions.backups_evicted += c.backups_evicted.get();
        sessions.claims_evicted += c.claims_evicted.get();
        sessions.backups_refused += c.backups_refused.get();
        sessions.refreshed += c.refreshed.get();
        sessions.crowded += c.sessions_crowded.get();
        sessions.unplaced += c.sessions_unplaced.get();
        sessions.put_off += c.put_off.get();
        sessions.claims_granted += c.claims_granted.get();
        sessions.ended += c.sessions_ended.get();
        sessions.takeovers += c.takeovers.get();
        sessions.handed_over += c.handed_over.get();
        sessions.handed_in += c.handed_in.get();
        sessions.conflicts_lost += c.conflicts_lost.get();
    }

    fn add_drops(&mut self, c: &Counters) -> u64 {
        let mut dropped = 0;
        for (reason, counter) in DropReason::ALL.iter().zip(&c.drops) {
            let count = counter.get();
            dropped += count;
            *self.drops.entry(reason.name().into()).or_default() += count;
            if REJECTED.contains(reason) {
                *self.tunnel.rejected.entry(reason.name().into()).or_default() += count;
            }
        }
        dropped
    }
}
