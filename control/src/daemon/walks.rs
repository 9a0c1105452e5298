//! Visits to the workers' tables on behalf of peers (bulk sync) and operators (listing): one page at a
//! time is asked for, so a slow reader holds nothing up.

use std::collections::HashMap;

use samepath_dataplane::flow::NodeId;
use samepath_dataplane::mailbox::ToWorker;
use samepath_dataplane::session::Session;
use samepath_dataplane::wire::record::Record;
use tokio::sync::oneshot;

use super::Node;
use crate::operator::api::{Count, Reply, SessionRow};
use crate::operator::filter::Filter;
use crate::replicate::BulkRoom;

/// What a walk is for.
pub(super) enum Errand {
    /// All sessions this node owns, to a peer.
    Bulk { peer: NodeId, sync: u32 },
    /// Sessions that match, to an operator.
    List { filter: Filter, rows: Vec<SessionRow>, reply: oneshot::Sender<Reply> },
    /// How many match, to an operator.
    Count { filter: Filter, count: Count, reply: oneshot::Sender<Reply> },
}

struct Walk {
    errand: Errand,
    /// Where to go on when there is room again.
    paused: Option<(usize, usize)>,
}

/// Walks under way, by id.
#[derive(Default)]
pub(super) struct Walks {
    walks: HashMap<u32, Walk>,
    next: u32,
}

impl Node {
    pub(super) fn begin_walk(&mut self, errand: Errand) {
        if let Errand::Bulk { peer, .. } = errand {
            // A walk for an earlier sync of this peer is void.
            self.walks
                .walks
                .retain(|_, walk| !matches!(walk.errand, Errand::Bulk { peer: old, .. } if old == peer));
        }
        self.walks.next = self.walks.next.wrapping_add(1);
        let id = self.walks.next;
        self.ask_page(id, &errand, 0, 0);
        self.walks.walks.insert(id, Walk { errand, paused: None });
    }

    fn ask_page(&mut self, id: u32, errand: &Errand, worker: usize, from: usize) {
        let owned_only = matches!(errand, Errand::Bulk { .. });
        self.workers.tell(worker, ToWorker::Walk { id, owned_only, from });
    }

    /// A page came: use it, then ask for the next one.
    pub(super) fn take_page(&mut self, id: u32, worker: usize, sessions: &[Session], next: Option<usize>) {
        let Some(mut walk) = self.walks.walks.remove(&id) else { return };
        let onward = match next {
            Some(from) => Some((worker, from)),
            None => (worker + 1 < self.workers.count()).then_some((worker + 1, 0)),
        };
        let room = self.use_page(&mut walk.errand, sessions);
        match (room, onward) {
            (BulkRoom::Over, _) => {}
            (_, None) => self.finish(walk.errand),
            (BulkRoom::More, Some((worker, from))) => {
                self.ask_page(id, &walk.errand, worker, from);
                self.walks.walks.insert(id, walk);
            }
            (BulkRoom::Full, onward) => {
                walk.paused = onward;
                self.walks.walks.insert(id, walk);
            }
        }
    }

    fn use_page(&mut self, errand: &mut Errand, sessions: &[Session]) -> BulkRoom {
        let now = self.now();
        match errand {
            Errand::Bulk { peer, sync } => {
                let record = |session: &Session| Record {
                    policy: self.policy.version_of(session.admission.policy),
                    ..Record::of(session, now)
                };
                let records: Vec<Record> = sessions.iter().map(record).collect();
                if records.is_empty() {
                    return self.replicator.bulk_room(*peer, *sync);
                }
                return self.replicator.bulk(*peer, *sync, &records);
            }
            Errand::List { filter, rows, .. } => {
                for row in sessions.iter().map(|session| SessionRow::of(session, now)) {
                    if !filter.is_full(rows.len()) && filter.matches(&row) {
                        rows.push(row);
                    }
                }
                if filter.is_full(rows.len()) {
                    let rows = std::mem::take(rows);
                    self.finish_list(errand, rows);
                    return BulkRoom::Over;
                }
            }
            Errand::Count { filter, count, .. } => {
                for row in sessions.iter().map(|session| SessionRow::of(session, now)) {
                    if filter.matches(&row) {
                        count.add(row.role);
                    }
                }
            }
        }
        BulkRoom::More
    }

    /// The limit is reached: answer at once.
    fn finish_list(&mut self, errand: &mut Errand, rows: Vec<SessionRow>) {
        let (nobody, _) = oneshot::channel();
        if let Errand::List { reply, .. } = errand {
            // An operator who hung up needs no answer.
            let _ = std::mem::replace(reply, nobody).send(Reply::sessions(rows));
        }
    }

    fn finish(&mut self, errand: Errand) {
        match errand {
            Errand::Bulk { peer, sync } => {
                self.replicator.bulk_done(peer, sync);
            }
            // An operator who hung up needs no answer.
            Errand::List { rows, reply, .. } => drop(reply.send(Reply::sessions(rows))),
            Errand::Count { count, reply, .. } => drop(reply.send(Reply::Count(count))),
        }
    }

    /// The peer has room for pages again.
    pub(super) fn resume_bulk(&mut self, peer: NodeId, sync: u32) {
        let paused = self.walks.walks.iter_mut().find_map(|(&id, walk)| match walk.errand {
            Errand::Bulk { peer: p, sync: s } if (p, s) == (peer, sync) => {
                walk.paused.take().map(|at| (id, at))
            }
            _ => None,
        });
        if let Some((id, (worker, from))) = paused {
            self.workers.tell(worker, ToWorker::Walk { id, owned_only: true, from });
        }
    }
}
