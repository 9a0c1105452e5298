//! What all nodes are asked together (`samepath why`): the question goes to every peer over the control channel, answers
//! are gathered until all are there or the time is over, and whoever did not answer is named.

use std::collections::HashMap;

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::inquiry::Explained;
use samepath_dataplane::mailbox::ToWorker;
use tokio::sync::oneshot;

use super::Node;
use crate::operator::api::{Document, Reply, Request};
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
    flow: Flow,
    waiting: Vec<NodeId>,
    nodes: Vec<NodeWhy>,
    silent: Vec<Silent>,
    due: NowMs,
    reply: oneshot::Sender<Reply>,
}

/// A question on its way to a worker.
struct Explaining {
    flow: Flow,
    asker: Asker,
    due: NowMs,
}

/// Questions under way.
#[derive(Default)]
pub(super) struct Inquiries {
    next: u32,
    gatherings: HashMap<u32, Gathering>,
    /// Asked of a worker, by number.
    explaining: HashMap<u32, Explaining>,
}

impl Inquiries {
    /// Somebody waits for an answer.
    pub(super) fn are_open(&self) -> bool {
        !self.gatherings.is_empty() || !self.explaining.is_empty()
    }

    fn number(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }
}

impl Node {
    /// Begins to find out about a flow; with `here` this node alone is asked.
    pub(super) fn begin_why(&mut self, flow: Flow, here: bool, reply: oneshot::Sender<Reply>) {
        let flow = match self.filled_in(flow) {
            Ok(flow) if self.inquiries.gatherings.len() < OPEN_MAX => flow,
            Ok(_) => return drop(reply.send(Reply::error("too many questions are open: ask again"))),
            Err(sentence) => return drop(reply.send(Reply::error(sentence))),
        };
        let number = self.inquiries.number();
        let (mut waiting, mut silent) = (vec![self.config.node], Vec::new());
        let question = Request::Why { flow: flow.clone(), here: true };
        let text = serde_json::to_vec(&question).unwrap_or_default();
        let peers: Vec<NodeId> = self.config.peers.iter().map(|peer| peer.node).filter(|_| !here).collect();
        for peer in peers {
            match self.replicator.question(peer, number, &text) {
                true => waiting.push(peer),
                false => silent.push(Silent { node: peer.0, reason: "no control channel to it".into() }),
            }
        }
        let due = self.now().plus(PATIENCE_MS);
        let gathering = Gathering { flow: flow.clone(), waiting, nodes: Vec::new(), silent, due, reply };
        self.inquiries.gatherings.insert(number, gathering);
        self.explain(&flow, Asker::Operator(number));
    }

    /// Asks the worker whose flow it is.
    fn explain(&mut self, flow: &Flow, asker: Asker) {
        let inquiry = match self.inquiry(flow) {
            Ok(inquiry) => inquiry,
            Err(sentence) => return self.say(asker, Reply::error(sentence)),
        };
        let id = self.inquiries.number();
        let due = self.now().plus(PATIENCE_MS);
        self.inquiries.explaining.insert(id, Explaining { flow: flow.clone(), asker, due });
        let worker = self.workers.owner_of(&inquiry.key);
        self.workers.tell(worker, ToWorker::Explain { id, inquiry: Box::new(inquiry) });
    }

    /// A worker has answered.
    pub(super) fn take_explained(&mut self, id: u32, explained: &Explained) {
        let Some(Explaining { flow, asker, .. }) = self.inquiries.explaining.remove(&id) else { return };
        let node = self.node_why(explained);
        match asker {
            Asker::Operator(number) => self.gather(number, self.config.node, Ok(node)),
            Asker::Peer { .. } => {
                let why = why::merge(flow, vec![node], Vec::new());
                self.say(asker, Reply::Why(Box::new(why)));
            }
        }
    }

    /// A peer asks on behalf of its operator.
    pub(super) fn take_question(&mut self, from: NodeId, number: u32, text: &[u8]) {
        let asker = Asker::Peer { node: from, number };
        match serde_json::from_slice(text) {
            Ok(Request::Why { flow, here: true }) if self.inquiries.explaining.len() < OPEN_MAX => {
                self.explain(&flow, asker);
            }
            Ok(_) => self.say(asker, Reply::error("peers may not ask this, or ask too much")),
            Err(_) => self.say(asker, Reply::error("it does not know the question: it runs another release")),
        }
    }

    /// A peer answers.
    pub(super) fn take_answer(&mut self, from: NodeId, number: u32, text: &[u8]) {
        let said = match serde_json::from_slice(text).map(|document: Document| document.reply) {
            Ok(Reply::Error(refusal)) => Err(refusal.error.into()),
            Ok(reply) => NodeWhy::of_reply(reply, from.0).ok_or("its answer speaks of something else".into()),
            Err(_) => Err("its answer cannot be read: it runs another release".into()),
        };
        self.gather(number, from, said);
    }

    fn say(&mut self, asker: Asker, reply: Reply) {
        match (asker, reply) {
            (Asker::Peer { node, number }, reply) => {
                let text = serde_json::to_vec(&Document::from(reply)).unwrap_or_default();
                self.replicator.answer(node, number, &text);
            }
            (Asker::Operator(number), reply) => {
                if let Some(gathering) = self.inquiries.gatherings.remove(&number) {
                    // An operator who hung up needs no answer.
                    drop(gathering.reply.send(reply));
                }
            }
        }
    }

    /// Takes what one node says, or why it says nothing.
    fn gather(&mut self, number: u32, from: NodeId, said: Result<NodeWhy, std::borrow::Cow<'static, str>>) {
        let Some(gathering) = self.inquiries.gatherings.get_mut(&number) else { return };
        let Some(at) = gathering.waiting.iter().position(|node| *node == from) else { return };
        gathering.waiting.swap_remove(at);
        match said {
            Ok(node) => gathering.nodes.push(node),
            Err(reason) => gathering.silent.push(Silent { node: from.0, reason }),
        }
        if gathering.waiting.is_empty() {
            self.conclude(number);
        }
    }

    /// Tells the operator what there is.
    fn conclude(&mut self, number: u32) {
        let Some(gathering) = self.inquiries.gatherings.remove(&number) else { return };
        let Gathering { flow, waiting, nodes, mut silent, reply, .. } = gathering;
        let late = |node: NodeId| Silent {
            node: node.0,
            reason: format!("no answer within {PATIENCE_MS} ms").into(),
        };
        silent.extend(waiting.into_iter().map(late));
        let answer = match nodes.is_empty() {
            true => Reply::error("no node answered, this one included: see its log and `samepath status`"),
            false => Reply::Why(Box::new(why::merge(flow, nodes, silent))),
        };
        drop(reply.send(answer));
    }

    /// Those who waited long enough are told what there is.
    pub(super) fn watch_inquiries(&mut self) {
        if !self.inquiries.are_open() {
            return;
        }
        let now = self.now();
        self.inquiries.explaining.retain(|_, explaining| explaining.due > now);
        let due: Vec<u32> = self
            .inquiries
            .gatherings
            .iter()
            .filter(|(_, gathering)| gathering.due <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            self.conclude(number);
        }
    }
}
