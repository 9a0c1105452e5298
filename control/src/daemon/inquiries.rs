//! What all nodes are asked together (`samepath why`, `samepath symmetry`, `samepath trace`): the question goes to every peer over the
//! control channel, answers are gathered until all are there or the time is over, and whoever did not answer is named.

use std::collections::HashMap;

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::detours::{Detour, Sum};
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::inquiry::Explained;
use samepath_dataplane::mailbox::ToWorker;
use tokio::sync::oneshot;

use super::Node;
use super::watches::PEER_REPLY_BYTES;
use crate::operator::api::{Document, Reply, Request};
use crate::operator::symmetry::{self, NodeDetours};
use crate::operator::watch::{NodeWatched, WatchOrder, Watched};
use crate::operator::why::{self, Flow, NodeWhy, Silent};

/// How long nodes may take to answer, ms. They answer within some milliseconds; an operator waits no longer than he
/// would think twice about.
const PATIENCE_MS: u64 = 1_000;

/// Questions that may be open at once: more than operators ask, few enough to keep.
const OPEN_MAX: usize = 1_024;

/// Who waits for what this node says.
#[derive(Clone, Copy, Debug)]
enum Asker {
    /// An operator of this node, by the number of his gathering.
    Operator(u32),
    /// A peer, by the number of its question.
    Peer { node: NodeId, number: u32 },
}

/// Answers on their way to an operator.
struct Gathering {
    request: Request,
    waiting: Vec<NodeId>,
    replies: Vec<(NodeId, Reply)>,
    silent: Vec<Silent>,
    due: NowMs,
    reply: oneshot::Sender<Reply>,
}

/// A question on its way to this node's workers.
struct Asked {
    subject: Subject,
    asker: Asker,
    due: NowMs,
}

/// What is asked of them, and what they have said.
enum Subject {
    /// One of them knows the flow.
    Flow(Flow),
    /// All of them count.
    Detours { left: usize, detours: Vec<Detour>, forgotten: Sum },
}

/// Questions under way.
#[derive(Default)]
pub(super) struct Inquiries {
    next: u32,
    gatherings: HashMap<u32, Gathering>,
    asked: HashMap<u32, Asked>,
}

impl Inquiries {
    /// Somebody waits for an answer.
    pub(super) fn are_open(&self) -> bool {
        !self.gatherings.is_empty() || !self.asked.is_empty()
    }

    fn number(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }
}

/// The request as a peer gets it: of itself alone. `None`: no peer may ask it.
fn of_one(request: &Request) -> Option<Request> {
    match request {
        Request::Why { flow, .. } => Some(Request::Why { flow: flow.clone(), here: true }),
        Request::Symmetry { .. } => Some(Request::Symmetry { limit: 0, here: true }),
        Request::Watch(order) => {
            Some(Request::Watch(WatchOrder { here: true, frames: false, ..order.clone() }))
        }
        _ => None,
    }
}

impl Node {
    /// Begins to find out what all nodes say, or this node alone if the request is for it alone.
    pub(super) fn begin_inquiry(
        &mut self,
        request: Request,
        reply: oneshot::Sender<Reply>,
    ) -> anyhow::Result<()> {
        let refused = match self.filled_in(request) {
            Ok(request) if self.inquiries.gatherings.len() < OPEN_MAX => {
                return self.ask_all(request, reply);
            }
            Ok(_) => "too many questions are open: ask again".into(),
            Err(sentence) => sentence,
        };
        drop(reply.send(Reply::error(refused)));
        Ok(())
    }

    /// Asks all nodes, or this node alone if the request is for it alone.
    fn ask_all(&mut self, request: Request, reply: oneshot::Sender<Reply>) -> anyhow::Result<()> {
        let Some(question) = of_one(&request) else { return Ok(()) };
        let number = self.inquiries.number();
        let (mut waiting, mut silent) = (vec![self.config.node], Vec::new());
        if question != request {
            let text = serde_json::to_vec(&question).unwrap_or_default();
            for peer in self.config.peers.iter().map(|peer| peer.node) {
                match self.replicator.question(peer, number, &text) {
                    true => waiting.push(peer),
                    false => {
                        silent.push(Silent { node: peer.0, reason: "no control channel to it".into() });
                    }
                }
            }
        }
        let due = self.now().plus(PATIENCE_MS);
        let gathering = Gathering { request, waiting, replies: Vec::new(), silent, due, reply };
        self.inquiries.gatherings.insert(number, gathering);
        self.ask_here(question, Asker::Operator(number))
    }

    /// Of a flow zone and ingress are filled in; an error is a sentence for the operator.
    fn filled_in(&self, request: Request) -> Result<Request, String> {
        Ok(match request {
            Request::Why { flow, here } => Request::Why { flow: self.filled_in_flow(flow)?, here },
            other => other,
        })
    }

    /// Asks this node: control itself, or its workers.
    fn ask_here(&mut self, question: Request, asker: Asker) -> anyhow::Result<()> {
        match question {
            Request::Watch(order) => {
                let reply = match asker {
                    Asker::Operator(_) => self.watch_here(order)?,
                    Asker::Peer { .. } => self.watch(order, PEER_REPLY_BYTES)?,
                };
                self.say(asker, reply);
            }
            question => self.ask_workers(question, asker),
        }
        Ok(())
    }

    /// Asks the worker whose flow it is, or all.
    fn ask_workers(&mut self, question: Request, asker: Asker) {
        let id = self.inquiries.number();
        let due = self.now().plus(PATIENCE_MS);
        let subject = match question {
            Request::Why { flow, .. } => match self.inquiry(&flow) {
                Ok(inquiry) => {
                    let worker = self.workers.owner_of(&inquiry.key);
                    self.workers.tell(worker, ToWorker::Explain { id, inquiry: Box::new(inquiry) });
                    Subject::Flow(flow)
                }
                Err(sentence) => return self.say(asker, Reply::error(sentence)),
            },
            _ => {
                self.workers.tell_all(|| ToWorker::Detours { id });
                let (left, forgotten) = (self.workers.count(), Sum::default());
                Subject::Detours { left, detours: Vec::new(), forgotten }
            }
        };
        self.inquiries.asked.insert(id, Asked { subject, asker, due });
    }

    /// A worker has said what a packet would meet.
    pub(super) fn take_explained(&mut self, id: u32, explained: &Explained) {
        let Some(Asked { subject: Subject::Flow(flow), asker, .. }) = self.inquiries.asked.remove(&id) else {
            return;
        };
        let why = why::merge(flow, vec![self.node_why(explained)], Vec::new());
        self.say(asker, Reply::Why(Box::new(why)));
    }

    /// A worker has said what makes a detour to it.
    pub(super) fn take_detours(&mut self, id: u32, told: Vec<Detour>, more: Sum) {
        let Some(asked) = self.inquiries.asked.get_mut(&id) else { return };
        let Subject::Detours { left, detours, forgotten } = &mut asked.subject else { return };
        detours.extend(told);
        forgotten.add(&more);
        *left -= 1;
        if *left > 0 {
            return;
        }
        let since_s = self.now().since(self.started) / 1000;
        let Some(Asked { subject: Subject::Detours { detours, forgotten, .. }, asker, .. }) =
            self.inquiries.asked.remove(&id)
        else {
            return;
        };
        let node = self.config.node.0;
        let detours = NodeDetours::of(node, since_s, self.config.detours, &detours, forgotten);
        self.say(asker, Reply::Detours(detours));
    }

    /// A peer asks on behalf of its operator.
    pub(super) fn take_question(&mut self, from: NodeId, number: u32, text: &[u8]) -> anyhow::Result<()> {
        let asker = Asker::Peer { node: from, number };
        match serde_json::from_slice::<Request>(text) {
            Ok(request)
                if self.inquiries.asked.len() < OPEN_MAX && of_one(&request).as_ref() == Some(&request) =>
            {
                return self.ask_here(request, asker);
            }
            Ok(_) => self.say(asker, Reply::error("peers may not ask this, or ask too much")),
            Err(_) => self.say(asker, Reply::error("it does not know the question: it runs another release")),
        }
        Ok(())
    }

    /// A peer answers.
    pub(super) fn take_answer(&mut self, from: NodeId, number: u32, text: &[u8]) {
        let reply = match serde_json::from_slice(text).map(|document: Document| document.reply) {
            Ok(reply) => reply,
            Err(_) => Reply::error("its answer cannot be read: it runs another release"),
        };
        self.gather(number, from, reply);
    }

    fn say(&mut self, asker: Asker, reply: Reply) {
        match asker {
            Asker::Operator(number) => self.gather(number, self.config.node, reply),
            Asker::Peer { node, number } => {
                let text = serde_json::to_vec(&Document::from(reply)).unwrap_or_default();
                self.replicator.answer(node, number, &text);
            }
        }
    }

    /// Takes what one node says, or why it says nothing.
    fn gather(&mut self, number: u32, from: NodeId, reply: Reply) {
        let Some(gathering) = self.inquiries.gatherings.get_mut(&number) else { return };
        let Some(at) = gathering.waiting.iter().position(|node| *node == from) else { return };
        gathering.waiting.swap_remove(at);
        match reply {
            Reply::Error(refusal) => {
                gathering.silent.push(Silent { node: from.0, reason: refusal.error.into() });
            }
            reply => gathering.replies.push((from, reply)),
        }
        if gathering.waiting.is_empty() {
            self.conclude(number);
        }
    }

    /// Tells the operator what there is.
    fn conclude(&mut self, number: u32) {
        let Some(gathering) = self.inquiries.gatherings.remove(&number) else { return };
        let late = |node: NodeId| Silent {
            node: node.0,
            reason: format!("no answer within {PATIENCE_MS} ms").into(),
        };
        let Gathering { request, waiting, replies, mut silent, reply, .. } = gathering;
        silent.extend(waiting.into_iter().map(late));
        // An operator who hung up needs no answer.
        drop(reply.send(answer(request, replies, silent, self.config.node)));
    }

    /// Those who waited long enough are told what there is.
    pub(super) fn watch_inquiries(&mut self) {
        if !self.inquiries.are_open() {
            return;
        }
        let now = self.now();
        self.inquiries.asked.retain(|_, asked| asked.due > now);
        let late = |gathering: &Gathering| gathering.due <= now;
        let gatherings = self.inquiries.gatherings.iter();
        let due: Vec<u32> = gatherings.filter(|(_, one)| late(one)).map(|(number, _)| *number).collect();
        for number in due {
            self.conclude(number);
        }
    }
}

/// What all said, as one answer.
fn answer(request: Request, replies: Vec<(NodeId, Reply)>, silent: Vec<Silent>, me: NodeId) -> Reply {
    let nobody = || Reply::error("no node answered, this one included: see its log and `samepath status`");
    match request {
        Request::Why { flow, .. } => {
            let said = replies.into_iter().filter_map(|(node, reply)| NodeWhy::of_reply(reply, node.0));
            let nodes: Vec<NodeWhy> = said.collect();
            match (nodes.is_empty(), silent.as_slice()) {
                // Asked alone, a node that refuses says why.
                (true, [only]) => Reply::error(only.reason.clone()),
                (true, _) => nobody(),
                (false, _) => Reply::Why(Box::new(why::merge(flow, nodes, silent))),
            }
        }
        Request::Symmetry { limit, here } => {
            let mut nodes: Vec<NodeDetours> = Vec::new();
            for (node, reply) in replies {
                match reply {
                    Reply::Detours(detours) if detours.node == node.0 => nodes.push(detours),
                    _ => {}
                }
            }
            match (here, nodes.len()) {
                (_, 0) => nobody(),
                (true, _) => Reply::Detours(nodes.swap_remove(0)),
                (false, _) => Reply::Symmetry(Box::new(symmetry::merge(nodes, silent, limit))),
            }
        }
        Request::Watch(_) => {
            let mut nodes: Vec<NodeWatched> = replies
                .into_iter()
                .filter_map(|(from, reply)| match reply {
                    Reply::Watched(watched) => watched.nodes.into_iter().find(|node| node.node == from.0),
                    _ => None,
                })
                .collect();
            nodes.sort_unstable_by_key(|node| node.node);
            match (nodes.is_empty(), silent.iter().find(|silent| silent.node == me.0)) {
                // What this node refuses, others refuse too.
                (_, Some(own)) => Reply::error(own.reason.clone()),
                (true, None) => nobody(),
                (false, None) => Reply::Watched(Box::new(Watched { nodes, silent })),
            }
        }
        _ => nobody(),
    }
}
