//! Between workers and peers: session changes out, replicated changes and claims in.

use std::sync::atomic::Ordering::Relaxed;

use samepath_dataplane::flow::NodeId;
use samepath_dataplane::limits::HALF_OPEN_BACKLOG;
use samepath_dataplane::mailbox::{FromWorker, ToWorker};

use super::Node;
use super::tunnel_keys::random_key;
use super::walks::Errand;
use crate::replicate::limits::LOG_RECORDS;
use crate::replicate::{Claim, PeerEvent, Replicator};

/// Messages taken from one worker per wake-up, so that no worker starves the others or the sockets.
const PER_WORKER: usize = 4096;

/// A stopping worker's last words: ended sessions and changes still go out.
pub(super) fn publish_last(replicator: &Replicator, message: FromWorker) {
    if let FromWorker::Changed(record) = message {
        replicator.publish(&record);
    }
}

impl Node {
    /// Takes what the workers said; true if there was anything.
    pub(super) fn carry_messages(&mut self) -> bool {
        let mut any = false;
        for worker in 0..self.workers.count() {
            let outbox = self.workers.mailboxes()[worker].outbox.clone();
            for _ in 0..PER_WORKER {
                let Some(message) = outbox.pop() else { break };
                any = true;
                self.take_message(message);
            }
        }
        // A flood must not keep what matters waiting behind it.
        let lagging = self.replicator.lag() > (LOG_RECORDS / HALF_OPEN_BACKLOG) as u64;
        for counters in self.workers.counters() {
            counters.lagging.store(lagging, Relaxed);
        }
        any
    }

    fn take_message(&mut self, message: FromWorker) {
        match message {
            FromWorker::Changed(record) => self.replicator.publish(&record),
            FromWorker::ClaimCheck { owner, key, generation } => {
                self.replicator.claim_check(owner, key, generation);
            }
            FromWorker::ClaimDenied { to, key, generation } => {
                self.replicator.claim_denied(to, key, generation);
            }
            FromWorker::HandOver { to, record } => self.replicator.hand_over(to, &record),
            FromWorker::Unresolved { ifindex, address } => self.mirror.resolve(ifindex, address),
            FromWorker::Page { id, worker, sessions, next } => self.take_page(id, worker, &sessions, next),
            FromWorker::Explained { id, explained } => self.take_explained(id, &explained),
            FromWorker::Detours { id, detours, forgotten } => self.take_detours(id, detours, forgotten),
            FromWorker::Judged { policy, judgement, question } => {
                self.log_judgement(policy, &judgement, &question);
            }
            FromWorker::Resync => self.replicator.resync_all(),
            // Freed here, not on a worker.
            FromWorker::Retired(_) | FromWorker::Stopped => {}
        }
    }

    fn leaves(&self, peer: NodeId) -> bool {
        self.membership.evidence().peer(peer).is_some_and(|state| state.leaving)
    }

    /// Takes what a peer said.
    pub(super) fn take_event(&mut self, event: PeerEvent) -> anyhow::Result<()> {
        match event {
            PeerEvent::Connected { peer, boot_id } => {
                let now = self.now();
                self.tunnel_keys.handle_connected(peer, boot_id, now, random_key);
                self.membership.evidence_mut().connected(peer);
                tracing::info!(%peer, "control channel open");
            }
            PeerEvent::Lost { peer } => {
                self.membership.evidence_mut().disconnected(peer);
                self.tunnel_keys.handle_lost(peer);
                tracing::info!(%peer, "control channel lost");
            }
            // A peer that stops takes no connections any more.
            PeerEvent::Refused { peer: Some(peer), reason, .. } if self.leaves(peer) => {
                tracing::debug!(%peer, "{reason}");
            }
            PeerEvent::Refused { peer, reason, .. } => {
                tracing::warn!("{reason}");
                if let Some(peer) = peer {
                    self.membership.evidence_mut().refused(peer, reason.clone());
                }
                self.refusals.push((peer, reason));
                self.refusals.truncate(64);
            }
            PeerEvent::Records { from, mark, records } => {
                for record in records {
                    // A peer speaks for its own sessions only.
                    if record.owner == from {
                        let worker = self.workers.owner_of(&record.key);
                        self.workers.tell(worker, ToWorker::Apply { record, mark });
                    }
                }
            }
            PeerEvent::BulkBegin { .. } => {}
            PeerEvent::BulkEnd { from, mark } => {
                self.workers.tell_all(|| ToWorker::Sweep { owner: from, mark });
            }
            PeerEvent::NeedBulk { peer, sync } => self.begin_walk(Errand::Bulk { peer, sync }),
            PeerEvent::BulkMore { peer, sync } => self.resume_bulk(peer, sync),
            PeerEvent::ClaimChecks { from, claims } => {
                for Claim { key, generation } in claims {
                    let worker = self.workers.owner_of(&key);
                    self.workers.tell(worker, ToWorker::ClaimQuestion { from, key, generation });
                }
            }
            PeerEvent::ClaimsDenied { from, claims } => {
                for Claim { key, generation } in claims {
                    let worker = self.workers.owner_of(&key);
                    self.workers.tell(worker, ToWorker::ClaimDenied { from, key, generation });
                }
            }
            PeerEvent::Restarted { from } => self.adopt_flows_of(from)?,
            PeerEvent::HandOver { from, mark, records } => {
                for record in records {
                    if record.owner == from {
                        let worker = self.workers.owner_of(&record.key);
                        self.workers.tell(worker, ToWorker::TakeOver { record, mark });
                    }
                }
            }
            PeerEvent::TunnelKey { from, key } => self.take_tunnel_key(from, *key)?,
            PeerEvent::Question { from, number, text } => self.take_question(from, number, &text)?,
            PeerEvent::Answer { from, number, text } => self.take_answer(from, number, &text),
            PeerEvent::Datagram { from, bytes } => {
                let now = self.now();
                self.membership.handle_message(from, &bytes, now);
            }
            PeerEvent::Leaving { from } => {
                self.membership.evidence_mut().leaving(from);
                tracing::info!(peer = %from, "peer leaves");
            }
        }
        Ok(())
    }
}
