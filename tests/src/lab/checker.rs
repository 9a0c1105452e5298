//! The promises of the design, asserted after every step.

use std::collections::{BTreeMap, BTreeSet};

use samepath_dataplane::cluster::view::Member;
use samepath_dataplane::flow::FlowKey;
use samepath_dataplane::session::{Role, Session, State};
use samepath_dataplane::verdict::DropReason;
use samepath_dataplane::wire::tunnel;

use super::conversation::{Conversation, Kind};
use super::node::Node;
use super::packets::{Sent, client_port};
use super::ports::{self, LINK};
use super::world::World;

/// Records have met, Owners have been settled so long after the last disturbance, ms.
const SETTLED_MS: u64 = 3_000;

/// A record reaches a peer within so long, ms.
const HEARD_MS: u64 = 1_000;

/// What one process remembered after the last step.
#[derive(Clone, Debug, Default)]
struct Memory {
    boots: u64,
    sessions: Vec<Session>,
}

/// See the file's first lines.
#[derive(Debug)]
pub struct Checker {
    /// Packets that reached a node in this turn and have not left it.
    inside: BTreeMap<u16, Vec<Sent>>,
    memories: Vec<Memory>,
    /// The last moment at which a node was away, a tunnel cut or views differed in their members.
    hard: u64,
    /// As `hard`, or a control channel was cut or slept.
    disturbed: u64,
    /// Duty moved, or a node drained: sessions change hands from one generation to the next.
    moved: u64,
    /// Flows with two Owners of different generations: since when, and when last seen.
    two_owners: BTreeMap<usize, (u64, u64)>,
    /// Of each flow that lives: who owned it first by which generation.
    owned: Vec<BTreeMap<u32, u16>>,
    views: Vec<Vec<Member>>,
    /// A node is not ready, or the others have not all heard that it is.
    starting: bool,
    flows: usize,
}

/// The number of a session's flow.
pub fn flow_of(key: &FlowKey) -> usize {
    let port = if key.lo_port >= client_port(0) { key.lo_port } else { key.hi_port };
    usize::from(port - client_port(0))
}

impl Checker {
    /// Nothing is known yet.
    pub fn new(flows: usize) -> Self {
        Self {
            inside: BTreeMap::new(),
            memories: vec![Memory::default(); 8],
            hard: 0,
            disturbed: 0,
            moved: 0,
            views: Vec::new(),
            two_owners: BTreeMap::new(),
            owned: vec![BTreeMap::new(); flows],
            starting: true,
            flows,
        }
    }

    /// A packet reaches a node.
    pub fn arrives(&mut self, node: u16, _from: u16, port: u8, bytes: &[u8]) {
        let inner = if port == LINK { tunnel::overhead(&ports::link_address(1)) } else { 0 };
        let packet = bytes.get(inner..).and_then(Sent::from_frame);
        self.inside.entry(node).or_default().extend(packet);
    }

    /// A packet leaves a node, in the tunnel or not.
    pub fn leaves(&mut self, node: u16, inner: &[u8]) {
        let Some(packet) = Sent::from_frame(inner) else { return };
        let inside = self.inside.entry(node).or_default();
        if let Some(at) = inside.iter().position(|other| other.id == packet.id) {
            inside.swap_remove(at);
        }
    }

    /// Nothing has disturbed the cluster since `flow` began, or for so long that everything is settled.
    fn is_calm_for(&self, flow: &Conversation, now: u64) -> bool {
        flow.begun.is_some_and(|begun| self.hard < begun) || self.disturbed + SETTLED_MS < now
    }

    /// A worker's turn is over: what it dropped, it may have dropped (promise 2).
    pub fn turned(
        &mut self,
        node: u16,
        dropped: &[(DropReason, u64)],
        flows: &[Conversation],
        now: u64,
    ) -> Result<(), String> {
        let inside = std::mem::take(self.inside.entry(node).or_default());
        for &(reason, count) in dropped {
            // Copies that the network made; and what was under way to or from a process that began anew.
            let restless = self.disturbed + SETTLED_MS >= now;
            if reason == DropReason::TunnelReplay || (reason == DropReason::TunnelKey && restless) {
                continue;
            }
            let excused = inside.iter().filter(|packet| {
                let flow = &flows[packet.flow];
                let held = self.memories.iter().any(|memory| holds(memory, packet.flow));
                flow.closing || flow.kind != Kind::Tcp || !held || !self.is_calm_for(flow, now)
            });
            if excused.count() as u64 >= count {
                continue;
            }
            let lost: Vec<String> = inside.iter().map(Sent::to_string).collect();
            return Err(format!("promise 2: {} drops {count} of {}", reason.name(), lost.join(" | ")));
        }
        Ok(())
    }

    /// Everything that can be seen of the tables.
    pub fn check(world: &mut World) -> Result<(), String> {
        let now = world.now;
        let mut checker = std::mem::replace(&mut world.checker, Checker::new(0));
        checker.notice(world);
        let memories: Vec<Memory> = world.nodes.iter().map(memory).collect();
        let outcome = checker
            .one_owner(&memories, world)
            .and_then(|()| checker.owners_outrank(&memories, world))
            .and_then(|()| checker.only_owners_age(&memories, world))
            .and_then(|()| checker.nothing_is_lost(&memories, world))
            .map_err(|why| format!("{why} (last disturbed {} ms ago)", now - checker.disturbed));
        checker.tell(&memories, world);
        checker.memories = memories;
        world.checker = checker;
        outcome
    }

    /// Sessions that changed, for the story.
    fn tell(&self, memories: &[Memory], world: &mut World) {
        if !world.story.is_told() {
            return;
        }
        for (index, (before, after)) in self.memories.iter().zip(memories).enumerate() {
            let mut flows: Vec<&Session> = before.sessions.iter().chain(&after.sessions).collect();
            flows.sort_by_key(|session| flow_of(&session.key));
            flows.dedup_by_key(|session| session.key);
            for key in flows.into_iter().map(|session| session.key) {
                let [was, is] =
                    [before, after].map(|memory| find(memory, &key).map_or("nothing".into(), brief));
                if was != is {
                    let (id, flow) = (index + 1, flow_of(&key));
                    world.story.add(world.step, world.now, || format!("n{id} has of c{flow} {is}"));
                }
            }
        }
    }

    fn notice(&mut self, world: &World) {
        let now = world.now;
        let running = world.nodes.iter().filter(|node| !world.left.contains(&node.id));
        let mut views = Vec::new();
        for node in running {
            let Some(process) = node.process.as_ref().filter(|_| node.is_awake()) else {
                self.hard = now;
                continue;
            };
            views.push(process.control.members.clone());
            let whole = process.control.machine.stats(node.clock(now)).iter().all(|peer| {
                world.left.contains(&peer.peer.0) || (peer.connected && peer.whole && !peer.syncing)
            });
            if !whole || !process.control.ready || now < node.control_asleep_until {
                self.disturbed = now;
            }
        }
        if views != self.views {
            self.moved = now;
            // Duty that moves while records cannot follow: the new Director may know neither.
            self.hard = if self.disturbed == now { now } else { self.hard };
        }
        let mut ready =
            world.nodes.iter().filter_map(|node| node.process.as_ref()).map(|it| it.control.ready);
        // While nodes become ready each may take the others for not ready, for a Hello.
        if !ready.all(|ready| ready) || (views.windows(2).any(|two| two[0] != two[1]) && self.starting) {
            self.hard = now;
            self.starting = true;
        } else {
            self.starting = false;
        }
        let full = usize::from(world.plan.nodes) - world.left.len();
        let cut = world.network.tunnel_cut.iter().flatten().any(|&cut| cut);
        if cut || views.iter().any(|view| view.len() != full) {
            self.hard = now;
        }
        self.views = views;
        if self.hard == now || world.network.is_cut() {
            self.disturbed = now;
        }
    }

    /// Promise 1.
    fn one_owner(&mut self, memories: &[Memory], world: &World) -> Result<(), String> {
        let mut owners: Vec<Vec<(usize, u32)>> = vec![Vec::new(); self.flows];
        for (index, memory) in memories.iter().enumerate() {
            for session in memory.sessions.iter().filter(|session| session.role == Role::Owner) {
                owners[flow_of(&session.key)].push((index + 1, session.generation.0));
            }
        }
        for (flow, owners) in owners.iter().enumerate().filter(|(_, owners)| owners.len() > 1) {
            let generations: BTreeSet<u32> = owners.iter().map(|&(_, generation)| generation).collect();
            let passing = generations.len() == owners.len() && self.changes_hands(flow, world.now);
            if !passing && self.is_calm_for(&world.flows[flow], world.now) {
                return Err(format!("promise 1: flow {flow} has the Owners (node, generation) {owners:?}"));
            }
        }
        Ok(())
    }

    /// Promise 1, seen from one node: it becomes Owner only by what outranks the Owner it knew. And seen from all: no two
    /// own a flow by one generation, one after the other, while the flow lives.
    fn owners_outrank(&mut self, memories: &[Memory], world: &World) -> Result<(), String> {
        for (flow, owned) in self.owned.iter_mut().enumerate() {
            if !memories.iter().any(|memory| holds(memory, flow)) {
                owned.clear();
            }
        }
        for (index, (before, after)) in self.memories.iter().zip(memories).enumerate() {
            let me = index as u16 + 1;
            for session in after.sessions.iter().filter(|session| session.role == Role::Owner) {
                let known = find(before, &session.key).filter(|_| before.boots == after.boots);
                let (mine, flow) = ((session.generation, session.owner), flow_of(&session.key));
                if let Some(known) = known.filter(|known| known.owner != session.owner)
                    && (known.generation, known.owner) >= mine
                {
                    return Err(format!(
                        "promise 1: node {me} owns flow {flow} by {mine:?}, and knew of {}",
                        brief(known)
                    ));
                }
                if known.is_some_and(|known| (known.generation, known.owner) == mine) {
                    continue;
                }
                let first = *self.owned[flow].entry(session.generation.0).or_insert(me);
                if first != me && self.is_calm_for(&world.flows[flow], world.now) {
                    return Err(format!(
                        "promise 1: nodes {first} and {me} have owned flow {flow} by {:?}",
                        session.generation
                    ));
                }
            }
        }
        Ok(())
    }

    /// One generation follows another: the old Owner has not heard of the new one yet.
    fn changes_hands(&mut self, flow: usize, now: u64) -> bool {
        let since = self.two_owners.entry(flow).or_insert((now, now));
        if since.1 + HEARD_MS < now {
            since.0 = now;
        }
        since.1 = now;
        now - since.0 < HEARD_MS || self.moved + SETTLED_MS > now
    }

    /// Promise 5: a backup does not go while its Owner has the session.
    fn only_owners_age(&self, memories: &[Memory], world: &World) -> Result<(), String> {
        for (index, (before, after)) in self.memories.iter().zip(memories).enumerate() {
            if before.boots != after.boots {
                continue;
            }
            let backups = before.sessions.iter().filter(|session| session.role == Role::Backup);
            for gone in backups.filter(|gone| find(after, &gone.key).is_none()) {
                let Some(owner) = memories.get(usize::from(gone.owner.0).wrapping_sub(1)) else { continue };
                let lives = find(owner, &gone.key).is_some_and(|session| {
                    session.role == Role::Owner
                        && (session.generation, session.version) >= (gone.generation, gone.version)
                });
                let seen = world.nodes[index].process.as_ref().is_some_and(|process| {
                    process.control.members.iter().any(|member| member.node == gone.owner)
                });
                if lives && seen {
                    let flow = flow_of(&gone.key);
                    return Err(format!(
                        "promise 5: node {} forgets flow {flow}, which its Owner has",
                        index + 1
                    ));
                }
            }
        }
        Ok(())
    }

    /// Promise 7: an open connection's session, once held, is held by somebody until a crash.
    fn nothing_is_lost(&self, memories: &[Memory], world: &World) -> Result<(), String> {
        let crashed = self.memories.iter().zip(memories).any(|(before, after)| before.boots != after.boots);
        for (number, flow) in world.flows.iter().enumerate() {
            if crashed || flow.kind != Kind::Tcp || !flow.is_established() {
                continue;
            }
            let held = |memories: &[Memory]| memories.iter().any(|memory| holds(memory, number));
            if held(&self.memories) && !held(memories) {
                return Err(format!("promise 7: nobody knows flow {number} any more, and no node crashed"));
            }
        }
        Ok(())
    }
}

/// A session in a line.
pub fn brief(session: &Session) -> String {
    let Session { role, owner, generation, version, state, .. } = session;
    format!("{role:?} owner {} gen {} version {version} {}", owner.0, generation.0, state.name())
}

fn memory(node: &Node) -> Memory {
    match &node.process {
        Some(process) => Memory { boots: node.boots, sessions: process.sessions() },
        None => Memory { boots: u64::MAX - node.boots, sessions: Vec::new() },
    }
}

fn find<'a>(memory: &'a Memory, key: &FlowKey) -> Option<&'a Session> {
    memory.sessions.iter().find(|session| session.key == *key)
}

fn holds(memory: &Memory, flow: usize) -> bool {
    memory.sessions.iter().any(|session| session.state != State::Claimed && flow_of(&session.key) == flow)
}
