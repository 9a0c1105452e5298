//! Everything there is, and one step of it.

use samepath_dataplane::verdict::DropReason;
use samepath_dataplane::wire::tunnel::{self, TunnelKind};

use super::channels::{Around, Channels};
use super::checker::Checker;
use super::conversation::{Conversation, Kind};
use super::network::{Network, Place};
use super::node::Node;
use super::packets::{Body, Sent};
use super::plan::Plan;
use super::ports::{self, INSIDE, LINK, OUTSIDE};
use super::random::Random;
use super::story::Story;
use super::trace::Traces;

/// See the file's first lines.
#[derive(Debug)]
pub struct World {
    /// What the seed does.
    pub plan: Plan,
    /// Chance.
    pub random: Random,
    /// Milliseconds since the beginning.
    pub now: u64,
    /// Steps so far.
    pub step: u64,
    /// All nodes, by number less one.
    pub nodes: Vec<Node>,
    /// What is under way between them.
    pub network: Network,
    channels: Channels,
    /// What the hosts say.
    pub flows: Vec<Conversation>,
    /// The node each flow's packets take, by end.
    pub paths: Vec<[u16; 2]>,
    traces: Traces,
    /// What must hold.
    pub checker: Checker,
    /// What happened.
    pub story: Story,
    /// Nodes that left for good.
    pub left: Vec<u16>,
    /// Cuts and the times they end.
    pub mends_at: Option<u64>,
}

impl World {
    /// The world of a seed, all nodes started.
    pub fn new(seed: u64, told: bool) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        let drift = |random: &mut Random| random.within(0..20_001) as i64 - 10_000;
        let mut nodes: Vec<Node> = (1..=plan.nodes)
            .map(|id| Node::new(id, if plan.drift { drift(&mut random) } else { 0 }))
            .collect();
        for node in &mut nodes {
            node.start(plan.nodes, plan.log, 1000);
        }
        let kinds = [Kind::Tcp, Kind::Tcp, Kind::Tcp, Kind::Udp, Kind::One];
        let flows = (0..plan.flows).map(|_| {
            let kind = random.pick(&kinds);
            Conversation::new(kind, &mut random)
        });
        let flows: Vec<Conversation> = flows.collect();
        let mut path = |_| [0; 2].map(|_: u16| random.within(1..u64::from(plan.nodes) + 1) as u16);
        let paths = (0..plan.flows).map(&mut path).collect();
        let checker = Checker::new(plan.flows);
        Self {
            plan,
            random,
            now: 1000,
            step: 0,
            nodes,
            network: Network::default(),
            channels: Channels::default(),
            flows,
            paths,
            traces: Traces::default(),
            checker,
            story: Story::new(told),
            left: Vec::new(),
            mends_at: None,
        }
    }

    /// The node's place in `nodes`.
    pub fn node_mut(&mut self, id: u16) -> &mut Node {
        &mut self.nodes[usize::from(id) - 1]
    }

    /// A host sends a packet by the path its flow has, or another.
    pub fn send(&mut self, flow: usize, end: usize, body: Body) {
        let stray = self.random.chance(self.plan.stray);
        let node = if stray {
            self.random.within(1..u64::from(self.plan.nodes) + 1) as u16
        } else {
            self.paths[flow][end]
        };
        self.send_by(node, flow, end, body);
    }

    /// As [`World::send`], by a node.
    pub fn send_by(&mut self, node: u16, flow: usize, end: usize, body: Body) {
        let packet = Sent { id: self.traces.begin(), flow, from_client: end == 0, body };
        let node = if self.left.contains(&node) { self.any_member() } else { node };
        self.story
            .add(self.step, self.now, || format!("{} ──► n{node}: {packet}", ["client", "server"][end]));
        let port = if end == 0 { INSIDE } else { OUTSIDE };
        let due = self.now + self.random.within(0..2);
        self.network.send(Place::Node { node, port, from: 0 }, packet.to_frame(), due);
    }

    fn any_member(&mut self) -> u16 {
        let members: Vec<u16> = (1..=self.plan.nodes).filter(|node| !self.left.contains(node)).collect();
        self.random.pick(&members)
    }

    /// Lets `ms` pass, then everybody does what is due. An error breaks a promise.
    pub fn advance(&mut self, ms: u64) -> Result<(), String> {
        self.step += 1;
        self.now += ms;
        self.deliver()?;
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        self.random.shuffle(&mut order);
        for &index in &order {
            self.work(index)?;
        }
        let mut around = Around {
            now: self.now,
            delay_ms: self.plan.delay_ms,
            network: &self.network,
            random: &mut self.random,
        };
        self.channels.step(&mut self.nodes, &mut around)?;
        for index in order {
            self.control(index);
        }
        Checker::check(self)
    }

    fn deliver(&mut self) -> Result<(), String> {
        while let Some((place, bytes)) = self.network.arrived(self.now) {
            match place {
                Place::Host => self.hear(&bytes)?,
                Place::Node { node, port, from } => {
                    let at = &self.nodes[usize::from(node) - 1];
                    if let Some(process) = &at.process {
                        process.arrive(port, &bytes);
                        self.checker.arrives(node, from, port, &bytes);
                    }
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<(), String> {
        let packet = Sent::from_frame(bytes).ok_or("a host got what no host sent")?;
        self.traces.delivered(&packet)?;
        let end = usize::from(packet.from_client);
        self.story.add(self.step, self.now, || format!("{} got {packet}", ["client", "server"][end]));
        if let Some(answer) = self.flows[packet.flow].hear(end, packet.body, self.now) {
            self.send(packet.flow, end, answer);
        }
        Ok(())
    }

    fn work(&mut self, index: usize) -> Result<(), String> {
        let now = self.nodes[index].clock(self.now);
        let id = self.nodes[index].id;
        if !self.nodes[index].is_awake() {
            return Ok(());
        }
        let Some(process) = &mut self.nodes[index].process else { return Ok(()) };
        let before = DropReason::ALL.iter().map(|&reason| process.drops(reason)).collect::<Vec<_>>();
        let sent = process.turn(now);
        let dropped: Vec<(DropReason, u64)> = DropReason::ALL
            .iter()
            .zip(before)
            .map(|(&reason, before)| (reason, process.drops(reason) - before))
            .filter(|&(_, count)| count > 0)
            .collect();
        process.check_accounts().map_err(|why| format!("promise 3, node {id}: {why}"))?;
        for (port, bytes) in sent {
            self.sent(id, port, bytes)?;
        }
        for &(reason, count) in &dropped {
            self.story.add(self.step, self.now, || format!("n{id} drops {count}: {}", reason.name()));
        }
        let verdict = self.checker.turned(id, &dropped, &self.flows, self.now);
        verdict.map_err(|why| format!("node {id}: {why}"))
    }

    fn sent(&mut self, from: u16, port: u8, bytes: Vec<u8>) -> Result<(), String> {
        if port != LINK {
            self.checker.leaves(from, &bytes);
            let due = self.now + self.random.within(0..2);
            self.network.send(Place::Host, bytes, due);
            return Ok(());
        }
        let to = ports::addressee(&bytes);
        let inner_off = tunnel::overhead(&ports::link_address(1));
        let received = tunnel::parse(&bytes, inner_off).map_err(|why| format!("{why:?} sent"))?;
        let hello = received.option.kind == TunnelKind::Hello;
        let inner = if hello { None } else { Sent::from_frame(&bytes[inner_off..]) };
        if inner.is_some() {
            self.checker.leaves(from, &bytes[inner_off..]);
        }
        let way = (from, to, LINK);
        let copies = self.network.tunnel(way, bytes, self.now, &self.plan, &mut self.random);
        if let Some(packet) = inner {
            let option = received.option;
            self.story.add(self.step, self.now, || {
                let fate = ["lost: ", "", "twice: "][copies.min(2) as usize];
                format!(
                    "n{from} ──► n{to}: {fate}{:?} owner {} gen {} hops {} ({packet})",
                    option.kind, option.owner.0, option.generation.0, option.hops
                )
            });
            self.traces.crossed(&packet, copies)?;
        }
        Ok(())
    }

    fn control(&mut self, index: usize) {
        let asleep = self.random.chance(self.plan.control_sleeps);
        let node = &mut self.nodes[index];
        if asleep || !node.is_awake() || self.now < node.control_asleep_until {
            return;
        }
        let (id, now) = (node.id, node.clock(self.now));
        let Some(process) = &mut node.process else { return };
        let (mailbox, counters) = (process.mailbox.clone(), process.counters.clone());
        if process.control.turn(&mailbox, &counters, now) {
            let members: Vec<(u16, u8)> =
                process.control.members.iter().map(|member| (member.node.0, member.weight)).collect();
            self.story.add(self.step, self.now, || format!("n{id} view: {members:?}"));
        }
    }
}
