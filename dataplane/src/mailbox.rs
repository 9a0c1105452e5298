//! What passes between control and the workers: bounded crossbeam rings, no locks, no waiting.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::cluster::view::View;
use crate::detours::{Detour, Sum};
use crate::flow::{FlowKey, Generation, NodeId};
use crate::inquiry::{Explained, Inquiry};
use crate::keyring::OpenKey;
use crate::limits;
use crate::policy::{InForce, Judgement, Question};
use crate::route::Routes;
use crate::service::Services;
use crate::session::Session;
use crate::settings::Settings;
use crate::wire::record::Record;
use crate::worker::{Following, Watching};

/// Control to worker. Taken between bursts, in order.
#[derive(Debug)]
pub enum ToWorker {
    /// Use this view from the next burst on.
    View(Arc<View>),
    /// Use these routes from the next burst on.
    Routes(Arc<Routes>),
    /// Use these settings from the next burst on.
    Settings(Arc<Settings>),
    /// Use this policy from the next burst on.
    Policy(Arc<InForce>),
    /// Open tunnel packets of a peer with this key too.
    TakeKey(Box<OpenKey>),
    /// Open nothing with this key any longer.
    ForgetKey {
        /// The peer that had it.
        peer: NodeId,
        /// Its number.
        id: u8,
    },
    /// A peer's record: apply it if it is newer. `mark` is the present bulk-sync mark of that peer.
    Apply {
        /// What the peer sent.
        record: Record,
        /// The bulk sync it belongs to.
        mark: u16,
    },
    /// A bulk sync from `owner` is complete: forget its backups that do not carry `mark`.
    Sweep {
        /// The peer whose sync ended.
        owner: NodeId,
        /// The mark its records carried.
        mark: u16,
    },
    /// A Director asks whether this node still owns a flow it was granted.
    ClaimQuestion {
        /// The Director.
        from: NodeId,
        /// The flow.
        key: FlowKey,
        /// Generation of the claim.
        generation: Generation,
    },
    /// The node's services as they are now.
    Services(Arc<Services>),
    /// The Owner does not know the flow: forget the claim.
    ClaimDenied {
        /// Who says so; only the Owner the claim names is believed.
        from: NodeId,
        /// The flow.
        key: FlowKey,
        /// Generation of the claim.
        generation: Generation,
    },
    /// A peer has begun anew and has lost what it owned: the Directors of those flows take them over.
    Adopt {
        /// The peer.
        owner: NodeId,
    },
    /// Offer every session this node owns to the node that decides about it: this node drains.
    HandOver,
    /// A draining peer hands this session over: apply its record, then own it.
    TakeOver {
        /// The session as its Owner has it.
        record: Record,
        /// The present bulk-sync mark of that peer.
        mark: u16,
    },
    /// Visit sessions from slot `from` on and answer with one [`FromWorker::Page`]. Whoever wants more
    /// asks again from where it ended, so a slow reader never piles up pages.
    Walk {
        /// Given back in the page.
        id: u32,
        /// Visit only sessions this node owns (bulk sync); otherwise all roles.
        owned_only: bool,
        /// Slot to begin at, 0 for the first page.
        from: usize,
    },
    /// Say what a packet of a flow would meet: answered with [`FromWorker::Explained`].
    Explain {
        /// Given back with the answer.
        id: u32,
        /// The packet.
        inquiry: Box<Inquiry>,
    },
    /// Say which pairs make a detour: answered with [`FromWorker::Detours`].
    Detours {
        /// Given back with the answer.
        id: u32,
    },
    /// Write down what happens to packets that match, or nothing any longer.
    Watch(Option<Box<Watching>>),
    /// Tell of sessions that begin, change and end, or not any longer.
    Follow(Option<Box<Following>>),
    /// Stop receiving, send what is in hand, give all frames back, end.
    Stop,
}

/// Worker to control.
#[derive(Debug)]
pub enum FromWorker {
    /// A session this node owns was made, changed or ended: for all peers.
    Changed(Record),
    /// Ask the Owner of an old claim whether it still owns the flow.
    ClaimCheck {
        /// The Owner the claim names.
        owner: NodeId,
        /// The flow.
        key: FlowKey,
        /// Generation of the claim.
        generation: Generation,
    },
    /// Answer to [`ToWorker::ClaimQuestion`] when the flow is unknown here. (A known one is sent as `Changed`.)
    ClaimDenied {
        /// The Director that asked.
        to: NodeId,
        /// The flow.
        key: FlowKey,
        /// Generation of the claim.
        generation: Generation,
    },
    /// Hand a session over, as it is now, to the node that decides about its flow.
    HandOver {
        /// That node.
        to: NodeId,
        /// The session.
        record: Record,
    },
    /// A packet waits for the link address of this next hop (index into `Routes::hops`, and the
    /// destination itself where the route is on-link).
    Unresolved {
        /// Interface index in the kernel.
        ifindex: u32,
        /// Whom to ask for.
        address: std::net::IpAddr,
    },
    /// Sessions found by a walk.
    Page {
        /// The walk's id.
        id: u32,
        /// The worker that answers.
        worker: usize,
        /// Copies of the records, at most [`limits::WALK_PER_TURN`].
        sessions: Vec<Session>,
        /// Where the next page begins; `None` when all slots have been visited.
        next: Option<usize>,
    },
    /// Answer to [`ToWorker::Explain`].
    Explained {
        /// The inquiry's id.
        id: u32,
        /// What the packet would meet.
        explained: Box<Explained>,
    },
    /// Answer to [`ToWorker::Detours`].
    Detours {
        /// The question's id.
        id: u32,
        /// Pairs that make a detour to this worker.
        detours: Vec<Detour>,
        /// What was counted of pairs that are not among them any more.
        forgotten: Sum,
    },
    /// A session's end could not be told because the outbox was full: peers need a bulk sync.
    Resync,
    /// A rule with `log` was the answer for a flow.
    Judged {
        /// Number of the policy.
        policy: u16,
        /// What it said.
        judgement: Judgement,
        /// What it was asked.
        question: Question,
    },
    /// Snapshots no longer used, so that control (not a worker) frees them.
    Retired(Retired),
    /// The worker has given back all frames and ended.
    Stopped,
}

/// A snapshot on its way home.
#[derive(Debug)]
#[expect(missing_docs)]
pub enum Retired {
    View(Arc<View>),
    Routes(Arc<Routes>),
    Settings(Arc<Settings>),
    Policy(Arc<InForce>),
    Services(Arc<Services>),
    Key(Box<OpenKey>),
    Watch(Box<Watching>),
    Follow(Box<Following>),
}

/// The two rings between control and one worker.
#[derive(Clone, Debug)]
pub struct Mailbox {
    /// Control to worker.
    pub inbox: Arc<ArrayQueue<ToWorker>>,
    /// Worker to control.
    pub outbox: Arc<ArrayQueue<FromWorker>>,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self {
            inbox: Arc::new(ArrayQueue::new(limits::INBOX)),
            outbox: Arc::new(ArrayQueue::new(limits::OUTBOX)),
        }
    }
}
