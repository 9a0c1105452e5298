//! Where a packet leaves: an immutable snapshot of routes, neighbours and links, built by control
//! (see [`RoutesBuilder`]) and adopted by workers between bursts. Nothing here asks the kernel.

mod builder;
mod lpm;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;

pub use builder::{Link, RouteTarget, RoutesBuilder, Table, Via};
use lpm::Lpm;

/// A next hop whose link address is known: everything that goes into the outgoing Ethernet header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkHop {
    /// Index of the outgoing port (the cluster link is a port too).
    pub port: u8,
    /// The port's own link address.
    pub source_mac: [u8; 6],
    /// The neighbour's link address.
    pub destination_mac: [u8; 6],
    /// Largest IP packet that may leave, bytes: the link's MTU, or the route's if that is smaller.
    pub mtu: u32,
}

/// What the routes say about a destination.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// Send it to this hop, an index into [`Routes::hops`].
    Send(u32),
    /// The route is known, the link address of its next hop is not yet: ask control for it.
    Unresolved {
        /// Kernel index of the outgoing interface.
        ifindex: u32,
        /// The gateway, or the destination itself where it is on-link.
        address: IpAddr,
    },
    /// No route, or only over links that are down.
    NoRoute,
    /// The route says blackhole, unreachable or prohibit.
    Refused,
    /// The destination is one of this node's own addresses (or a broadcast address of its subnets).
    Local,
    /// The route leaves by an interface that is not one of samepath's ports.
    Elsewhere,
}

/// What a prefix leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    /// Index into [`Routes::groups`].
    Group(u32),
    NoRoute,
    Refused,
    Local,
}

/// The usable next hops of a route; flows spread over them by weight.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Group {
    /// At least one leg, all on ports.
    Legs(Vec<Leg>),
    /// No leg is up.
    Down,
    /// The legs that are up are not on ports.
    Elsewhere,
}

/// One next hop of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Leg {
    /// Sum of the weights of this leg and those before it.
    weight_end: u32,
    ifindex: u32,
    /// Index of (interface, MTU), the key under which on-link neighbours are found.
    face: u32,
    gateway: Option<IpAddr>,
    /// The gateway's hop, if its link address is known.
    hop: Option<u32>,
}

/// Routes, neighbours and links at one moment. Immutable; a change is a new snapshot.
#[derive(Clone)]
pub struct Routes {
    /// Number of this snapshot, never 0; hops cached in sessions are valid only under the same one.
    pub generation: u32,
    /// Next hops with known link addresses.
    pub hops: Vec<LinkHop>,
    local: Arc<Lpm<Target>>,
    main: Arc<Lpm<Target>>,
    groups: Vec<Group>,
    neighbours: HashMap<(u32, IpAddr), u32, ahash::RandomState>,
    /// Interface index and MTU of each face; the first one of an interface has its link's MTU.
    faces: Vec<(u32, u32)>,
    /// The node's own addresses by interface index.
    addresses: Vec<(u32, IpAddr)>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes")
            .field("generation", &self.generation)
            .field("prefixes", &self.prefixes())
            .field("hops", &self.hops.len())
            .finish_non_exhaustive()
    }
}

impl Default for Routes {
    /// A snapshot without any route, generation 1.
    fn default() -> Self {
        RoutesBuilder::default().build(1)
    }
}

impl Routes {
    /// Where a packet to `destination` leaves.
    ///
    /// `flow_hash` chooses among equal-cost next hops and must be the same in both directions of a
    /// flow. A chosen gateway that does not answer gives way to one that does.
    /// Multicast and IPv6 link-local destinations are never routed (RFC 4291 section 2.5.6).
    pub fn resolve(&self, destination: IpAddr, flow_hash: u32) -> Resolution {
        match self.leg(destination, flow_hash) {
            Ok(leg) => match self.hop_of(leg, destination) {
                Some(hop) => Resolution::Send(hop),
                None => Resolution::Unresolved {
                    ifindex: leg.ifindex,
                    address: leg.gateway.unwrap_or(destination),
                },
            },
            Err(resolution) => resolution,
        }
    }

    /// The same with the node's own addresses, by interface index.
    #[must_use]
    pub fn with_addresses(self, addresses: Vec<(u32, IpAddr)>) -> Self {
        Self { addresses, ..self }
    }

    /// The node's own address that a packet to `destination` comes from: one of the interface it leaves by, else
    /// another of the node.
    pub fn own_address_towards(&self, destination: IpAddr, flow_hash: u32) -> Option<IpAddr> {
        let ifindex = self.leg(destination, flow_hash).ok()?.ifindex;
        let mut fitting = self.addresses.iter().filter(|(_, own)| own.is_ipv4() == destination.is_ipv4());
        let here = fitting.clone().find(|(of, _)| *of == ifindex);
        here.or_else(|| fitting.next()).map(|(_, own)| *own)
    }

    /// The hop with this index (from [`Resolution::Send`] of the same snapshot).
    pub fn hop(&self, index: u32) -> Option<&LinkHop> {
        self.hops.get(index as usize)
    }

    /// Interface index and address of the neighbour that gets a packet to `destination`, whether its
    /// link address is known or not; `None` where the packet would not leave by a port.
    pub fn next_hop(&self, destination: IpAddr, flow_hash: u32) -> Option<(u32, IpAddr)> {
        let leg = self.leg(destination, flow_hash).ok()?;
        Some((leg.ifindex, leg.gateway.unwrap_or(destination)))
    }

    /// Link address of a neighbour on a port, if the kernel knows it.
    pub fn neighbour(&self, ifindex: u32, address: IpAddr) -> Option<[u8; 6]> {
        self.neighbour_hop(ifindex, address).map(|hop| hop.destination_mac)
    }

    /// The way to a neighbour on a port, if the kernel knows its link address.
    pub fn neighbour_hop(&self, ifindex: u32, address: IpAddr) -> Option<LinkHop> {
        let face = self.faces.iter().position(|face| face.0 == ifindex)?;
        let hop = *self.neighbours.get(&(face as u32, address))?;
        self.hop(hop).copied()
    }

    /// Source and destination link address of tunnel packets to `peer`, on-link or behind a gateway;
    /// `None` while the next hop is unknown or the route does not leave by `cluster_port`.
    pub fn tunnel_next_hop(&self, cluster_port: u8, peer: IpAddr) -> Option<([u8; 6], [u8; 6])> {
        match self.resolve(peer, 0) {
            Resolution::Send(hop) => self
                .hop(hop)
                .filter(|hop| hop.port == cluster_port)
                .map(|hop| (hop.source_mac, hop.destination_mac)),
            _ => None,
        }
    }

    /// Gateways of all routes that leave by a port, as (interface index, address), each once.
    pub fn gateways(&self) -> Vec<(u32, IpAddr)> {
        let mut gateways: Vec<(u32, IpAddr)> = self
            .groups
            .iter()
            .filter_map(|group| match group {
                Group::Legs(legs) => Some(legs),
                Group::Down | Group::Elsewhere => None,
            })
            .flatten()
            .filter_map(|leg| leg.gateway.map(|gateway| (leg.ifindex, gateway)))
            .collect();
        gateways.sort_unstable();
        gateways.dedup();
        gateways
    }

    /// Number of prefixes in all tables.
    pub fn prefixes(&self) -> usize {
        self.local.len() + self.main.len()
    }

    fn leg(&self, destination: IpAddr, flow_hash: u32) -> Result<&Leg, Resolution> {
        if is_never_routed(destination) {
            return Err(Resolution::NoRoute);
        }
        match self.target(destination) {
            None | Some(Target::NoRoute) => Err(Resolution::NoRoute),
            Some(Target::Refused) => Err(Resolution::Refused),
            Some(Target::Local) => Err(Resolution::Local),
            Some(Target::Group(group)) => match self.groups.get(group as usize) {
                Some(Group::Legs(legs)) => self.choose(legs, flow_hash),
                Some(Group::Elsewhere) => Err(Resolution::Elsewhere),
                Some(Group::Down) | None => Err(Resolution::NoRoute),
            },
        }
    }

    /// The kernel keeps IPv4's tables local and main in one trie, where the longer prefix wins; for
    /// IPv6 it asks local first. They differ only for local prefixes shorter than a host.
    fn target(&self, destination: IpAddr) -> Option<Target> {
        let main = self.main.lookup(destination);
        match self.local.lookup(destination) {
            Some((local, target)) => match main {
                Some((longer, target)) if destination.is_ipv4() && longer > local => Some(target),
                _ => Some(target),
            },
            None => main.map(|(_, target)| target),
        }
    }

    fn choose<'a>(&self, legs: &'a [Leg], flow_hash: u32) -> Result<&'a Leg, Resolution> {
        let chosen = by_weight(legs, flow_hash);
        match chosen {
            Some(leg) if leg.gateway.is_some() && leg.hop.is_none() => {
                // Its neighbour is unknown or dead. Control keeps asking for every gateway, so the
                // flow comes back to it with the snapshot in which it answers.
                Ok(by_turn(legs, flow_hash).unwrap_or(leg))
            }
            Some(leg) => Ok(leg),
            None => Err(Resolution::NoRoute),
        }
    }

    fn hop_of(&self, leg: &Leg, destination: IpAddr) -> Option<u32> {
        match leg.gateway {
            Some(_) => leg.hop,
            None => self.neighbours.get(&(leg.face, destination)).copied(),
        }
    }
}

/// Hash-threshold choice (RFC 2992): a leg that comes or goes moves few of the others' flows.
fn by_weight(legs: &[Leg], flow_hash: u32) -> Option<&Leg> {
    let total = u64::from(legs.last()?.weight_end);
    let point = ((u64::from(spread(flow_hash)) * total) >> 32) as u32;
    let index = legs.partition_point(|leg| leg.weight_end <= point);
    legs.get(index)
}

/// Spreads flows evenly over the legs whose gateways are known.
fn by_turn(legs: &[Leg], flow_hash: u32) -> Option<&Leg> {
    let known = legs.iter().filter(|leg| leg.hop.is_some()).count();
    let turn = ((u64::from(spread(flow_hash)) * known as u64) >> 32) as usize;
    legs.iter().filter(|leg| leg.hop.is_some()).nth(turn)
}

/// The high bits of the flow hash choose the core. Mixing them makes the choice of a next hop
/// independent of that; otherwise all flows of one core would take the same link.
fn spread(flow_hash: u32) -> u32 {
    flow_hash.wrapping_mul(0x9e37_79b9).rotate_left(16).wrapping_mul(0x85eb_ca6b)
}

fn is_never_routed(destination: IpAddr) -> bool {
    match destination {
        IpAddr::V4(v4) => v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_multicast() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
