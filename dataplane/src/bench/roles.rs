//! What a node can be to a packet, each with a worker that holds the sessions and with the packets that
//! make it play the role.

use crate::flow::{Direction, FlowKey};
use crate::keyring::PeerKey;
use crate::wire::layout::Layout;
use crate::wire::packet::Packet;
use crate::wire::tunnel::{self, Seal};

use super::conversation::{Connection, Family};
use super::node::{INSIDE, Node, OUTSIDE, tunnel_key};

/// What the measured node is to the packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Ingress and Owner of an established connection.
    Local,
    /// Ingress of an established connection whose Owner is another node: it redirects.
    Ingress,
    /// Owner of an established connection whose packets come through the tunnel.
    Owner,
    /// Director of a connection that another node owns: it redirects queries.
    Director,
    /// Ingress and Director of a connection that begins: it makes the session and replicates it.
    First,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 5] = [Self::Local, Self::Ingress, Self::Owner, Self::Director, Self::First];

    /// As it is written in names of figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Ingress => "ingress",
            Self::Owner => "owner",
            Self::Director => "director",
            Self::First => "first",
        }
    }

    /// The role with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Case {
    /// What the node is to the packets.
    pub role: Role,
    /// IP version of the packets; the tunnel's is 4.
    pub family: Family,
    /// Connections, of which the packets are.
    pub sessions: u32,
}

impl Case {
    /// As it is written in names of figures.
    pub fn name(&self) -> String {
        format!("{}/{}", self.role.name(), self.family.name())
    }
}

/// A packet as it will arrive.
#[derive(Debug)]
struct Arrival {
    bytes: Vec<u8>,
    layout: Layout,
    /// The flow inside, if it came through the tunnel.
    inside: Option<(FlowKey, Direction)>,
}

impl Arrival {
    fn new(bytes: Vec<u8>, layout: Layout) -> Self {
        let inner_off = usize::from(layout.inner_off);
        let inside = layout.is_tunnel().then(|| {
            let packet = Packet::read(&bytes[inner_off..], layout).expect("a packet that is steered");
            (packet.key, packet.direction)
        });
        Self { bytes, layout, inside }
    }
}

/// A node in a role, with its packets.
#[derive(Debug)]
pub struct Stage {
    role: Role,
    /// The measured node.
    pub node: Node,
    arrivals: Vec<Arrival>,
    next: usize,
    /// Packets that came through the tunnel; no two bear the same number.
    tunnelled: u64,
}

/// Most different packets that arrive: of many sessions a random choice. More than a cache holds the lines of.
const ARRIVALS: usize = 1 << 18;

/// Packets per turn, as many as a full burst of one ring.
pub const BURST: usize = 64;

/// Numbers `0..count` in an order that no hardware prefetcher guesses: a full-period generator modulo the
/// next power of two, larger numbers left out.
fn shuffled(count: u32) -> impl Iterator<Item = u32> {
    let range = count.next_power_of_two();
    let mut at = 1u32;
    std::iter::repeat_with(move || {
        at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) & (range - 1);
        at
    })
    .take(range as usize)
    .filter(move |&number| number < count)
}

impl Stage {
    /// Sets a node of three up in `role` with `sessions` connections.
    pub fn set(role: Role, family: Family, sessions: u32) -> Self {
        Self::among(role, family, sessions, 3)
    }

    /// The same in a cluster of `nodes`, at least 3: the Owner of what is redirected is the last one.
    pub fn among(role: Role, family: Family, sessions: u32, nodes: u16) -> Self {
        let room = sessions as usize + sessions as usize / 8 + 64;
        // Node 1 is measured; the last node plays the other one, node 2 one that knows nothing.
        let directs = if role == Role::Ingress { nodes } else { 1 };
        let mut node = match role {
            Role::Director => Node::granting(1, nodes, room),
            _ => Node::new(1, directs, nodes, room),
        };
        let mut other = Node::new(nodes, directs, nodes, room);
        for number in 0..sessions {
            open(role, &mut node, &mut other, &Connection::new(family, number));
        }
        let mut sender = if role == Role::Director { Node::new(2, directs, nodes, 64) } else { other };
        let arrivals = shuffled(sessions).take(ARRIVALS).enumerate().map(|(index, number)| {
            arrival(role, &node, &mut sender, &Connection::new(family, number), index % 2 == 0)
        });
        let arrivals: Vec<_> = arrivals.collect();
        Self { role, node, arrivals, next: 0, tunnelled: 1 << 32 }
    }

    /// Lets the next burst arrive; how many packets it has.
    pub fn arrive(&mut self) -> usize {
        for _ in 0..BURST {
            let at = self.next % self.arrivals.len();
            let arrival = &mut self.arrivals[at];
            if let Some((flow, direction)) = &arrival.inside {
                self.tunnelled += 1;
                let PeerKey { id, key } = tunnel_key();
                let seal = Seal { key: id, stream: 0, counter: self.tunnelled };
                let outer = &mut arrival.bytes[..usize::from(arrival.layout.inner_off)];
                tunnel::reseal(outer, &seal, &key, flow, *direction);
            }
            self.node.arrive_tunnelled(&arrival.bytes, &arrival.layout);
            self.next += 1;
        }
        BURST
    }

    /// Takes away what a turn sent and told; checks that it did what the role is for.
    ///
    /// # Panics
    /// If a packet of the burst did not go on.
    pub fn clear(&self) {
        let sent = self.node.discard_sent();
        assert_eq!(
            sent,
            BURST,
            "{:?}: packets of a burst were lost, {} in all",
            self.role,
            self.node.dropped()
        );
        self.node.drain_outbox(None);
    }

    /// Packets that can arrive before one comes twice.
    pub fn len(&self) -> usize {
        self.arrivals.len()
    }

    /// True without packets.
    pub fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }
}

/// Opens a connection so that `node` is to it what `role` says.
fn open(role: Role, node: &mut Node, other: &mut Node, connection: &Connection) {
    let handshake = connection.handshake();
    match role {
        Role::Local => {
            run(node, &handshake);
            node.drain_outbox(None);
        }
        Role::Owner => replicate(node, other, &handshake),
        Role::Ingress => replicate(other, node, &handshake),
        Role::Director => {
            // The other node asks about the SYN; node 1 grants it and keeps the claim.
            other.arrive(INSIDE, &handshake[0].1);
            let query = sent_by(other);
            node.arrive_tunnelled(&query, &node.tunnel_layout(&query));
            node.turn();
            node.discard_sent();
        }
        Role::First => {}
    }
}

/// Opens a connection at its Owner; `backup` gets its records.
fn replicate(owner: &mut Node, backup: &mut Node, handshake: &[(bool, Vec<u8>)]) {
    run(owner, handshake);
    owner.drain_outbox(Some(backup));
    backup.turn();
}

fn run(node: &mut Node, handshake: &[(bool, Vec<u8>)]) {
    for (from_client, segment) in handshake {
        node.arrive(if *from_client { INSIDE } else { OUTSIDE }, segment);
        node.turn();
        assert_eq!(node.discard_sent(), 1, "a handshake's segment goes on");
    }
}

fn sent_by(node: &mut Node) -> Vec<u8> {
    node.turn();
    node.take_sent().map(|(_, bytes)| bytes).expect("what arrives goes on")
}

/// The packet that makes `node` play `role` for a connection; `sender` tunnels it where it is tunnelled.
fn arrival(
    role: Role,
    node: &Node,
    sender: &mut Node,
    connection: &Connection,
    from_client: bool,
) -> Arrival {
    let port = if from_client { INSIDE } else { OUTSIDE };
    match role {
        Role::First => {
            let [(_, bytes), ..] = connection.handshake();
            let layout = node.data_layout(INSIDE, &bytes);
            Arrival::new(bytes, layout)
        }
        Role::Local | Role::Ingress => {
            let bytes = connection.ack(from_client);
            let layout = node.data_layout(port, &bytes);
            Arrival::new(bytes, layout)
        }
        Role::Owner | Role::Director => {
            // With the backup the other node redirects; without anything node 2 asks.
            sender.arrive(port, &connection.ack(from_client));
            let bytes = sent_by(sender);
            let layout = node.tunnel_layout(&bytes);
            Arrival::new(bytes, layout)
        }
    }
}
