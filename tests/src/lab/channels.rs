//! The control channels between all nodes: each an ordered, reliable stream until it breaks, as QUIC is.

use std::collections::{BTreeMap, VecDeque};

use samepath::replicate::machine::Link;
use samepath::replicate::message::Message;
use samepath_dataplane::flow::NodeId;

use super::network::Network;
use super::node::Node;
use super::random::Random;

/// Silence after which a connection is lost, ms.
const SILENCE_MS: u64 = 600;
/// Frames a direction holds before its sender waits.
const ROOM: usize = 4;

#[derive(Debug)]
struct Channel {
    /// The links and processes of both ends: the dialler, the accepter.
    links: [Link; 2],
    boots: [u64; 2],
    /// Frames under way from either end, each with the time it may arrive.
    under_way: [VecDeque<(u64, Vec<u8>)>; 2],
    heard: u64,
}

/// All channels, by dialler and accepter.
#[derive(Debug, Default)]
pub struct Channels {
    open: BTreeMap<(u16, u16), Channel>,
    redial_at: BTreeMap<(u16, u16), u64>,
}

/// Surroundings of a step.
pub struct Around<'a> {
    /// The present.
    pub now: u64,
    /// Longest delay of a frame, ms.
    pub delay_ms: u64,
    /// What is cut.
    pub network: &'a Network,
    /// Chance.
    pub random: &'a mut Random,
}

fn boot(node: &Node) -> u64 {
    node.process.as_ref().map_or(0, |process| process.control.boot_id)
}

impl Channels {
    /// Every channel a little further. An error is a message that contradicts the protocol.
    pub fn step(&mut self, nodes: &mut [Node], around: &mut Around<'_>) -> Result<(), String> {
        let count = nodes.len();
        for a in 0..count {
            for b in (0..count).filter(|&b| b != a) {
                let [one, other] = nodes.get_disjoint_mut([a, b]).expect("two nodes");
                self.step_one(one, other, around)
                    .map_err(|why| format!("control channel {} to {}: {why}", a + 1, b + 1))?;
            }
        }
        Ok(())
    }

    fn step_one(&mut self, a: &mut Node, b: &mut Node, around: &mut Around<'_>) -> Result<(), String> {
        let pair = (a.id, b.id);
        let cut =
            |from: &Node, to: &Node| around.network.control_cut[usize::from(from.id)][usize::from(to.id)];
        let open_ways = [!cut(a, b), !cut(b, a)];
        let awake = a.is_awake() && b.is_awake();
        let Some(channel) = self.open.get_mut(&pair) else {
            let due = self.redial_at.get(&pair).is_none_or(|&at| around.now >= at);
            if due && awake && open_ways == [true; 2] {
                self.open.insert(pair, Channel::dial(a, b, around.now));
            }
            return Ok(());
        };
        let both_alive = awake && channel.boots == [boot(a), boot(b)];
        if both_alive && open_ways == [true; 2] {
            channel.heard = around.now;
        }
        let outdated =
            a.process.as_ref().is_some_and(|process| process.control.machine.is_outdated(NodeId(b.id)));
        if around.now > channel.heard + SILENCE_MS
            || boot(a) != channel.boots[0]
            || (outdated && a.is_awake())
        {
            self.close(a, b, around);
            return Ok(());
        }
        if both_alive {
            channel.carry(a, b, open_ways, around)?;
        }
        Ok(())
    }

    fn close(&mut self, a: &mut Node, b: &mut Node, around: &mut Around<'_>) {
        let pair = (a.id, b.id);
        let Some(channel) = self.open.remove(&pair) else { return };
        for (end, node) in [a, b].into_iter().enumerate() {
            let now = node.clock(around.now);
            if let Some(process) = node.process.as_mut().filter(|it| it.control.boot_id == channel.boots[end])
            {
                process.control.machine.closed(channel.links[end], now);
            }
        }
        let at = around.now + around.random.within(20..200);
        self.redial_at.insert(pair, at);
    }
}

impl Channel {
    fn dial(a: &mut Node, b: &mut Node, now: u64) -> Self {
        let boots = [boot(a), boot(b)];
        let (at_a, at_b) = (NodeId(b.id), NodeId(a.id));
        let machine = |node: &mut Node| node.process.take().expect("it is awake");
        let (mut one, mut other) = (machine(a), machine(b));
        let links = [one.control.machine.dialled(at_a), other.control.machine.accepted(at_b)];
        (a.process, b.process) = (Some(one), Some(other));
        Self { links, boots, under_way: Default::default(), heard: now }
    }

    fn carry(
        &mut self,
        a: &mut Node,
        b: &mut Node,
        open_ways: [bool; 2],
        around: &mut Around<'_>,
    ) -> Result<(), String> {
        for (end, node) in [&mut *a, &mut *b].into_iter().enumerate() {
            let now = node.clock(around.now);
            let Some(process) = &mut node.process else { continue };
            let machine = &mut process.control.machine;
            machine.handle_timeout(self.links[end], now);
            while self.under_way[end].len() < ROOM {
                let Some(frame) = machine.poll_message(self.links[end], now) else { break };
                let delay = around.random.within(0..around.delay_ms + 1);
                let after = self.under_way[end].back().map_or(0, |&(due, _)| due);
                self.under_way[end].push_back((after.max(around.now + delay), frame));
            }
        }
        for (end, node) in [&mut *b, &mut *a].into_iter().enumerate() {
            let now = node.clock(around.now);
            let Some(process) = &mut node.process else { continue };
            while open_ways[end] && self.under_way[end].front().is_some_and(|&(due, _)| due <= around.now) {
                let Some((_, frame)) = self.under_way[end].pop_front() else { break };
                let message = Message::decode(&frame[4..]).map_err(|why| format!("{why:?}"))?;
                let link = self.links[1 - end];
                let event = process.control.machine.handle_message(link, message, now);
                if let Some(event) = event.map_err(|why| format!("{why:?}"))? {
                    process.control.take_event(&process.mailbox, event, now);
                }
            }
        }
        carry_datagrams(a, b, open_ways[0], around.now);
        Ok(())
    }
}

/// What membership at `a` says to `b`; lost while that way is cut.
fn carry_datagrams(a: &mut Node, b: &mut Node, open: bool, now: u64) {
    let (from, to, at) = (NodeId(a.id), NodeId(b.id), b.clock(now));
    let (Some(one), Some(other)) = (&mut a.process, &mut b.process) else { return };
    for datagram in one.control.datagrams.remove(&to).unwrap_or_default() {
        if open {
            other.control.membership.handle_message(from, &datagram, at);
        }
    }
}
