//! The kernel's routes, neighbours, addresses and links as far as messages told. Pure: a fact goes
//! in, what it changed comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use samepath_dataplane::route::{Link, RoutesBuilder, Table};

use super::fib::Fib;
use super::message::{Fact, Standing};
use super::{LinkState, Mirrored, PortLink};

/// What a fact meant for the mirror.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Effect {
    /// Nothing new.
    None,
    /// The next snapshot differs.
    Changed,
    /// After such an event the kernel removes routes without a word (IPv4 routes of an interface that
    /// goes down, routes of a removed address or next-hop object): list them anew.
    Outdated,
}

/// A neighbour on a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// Its link address, if the kernel vouches for one.
    pub mac: Option<[u8; 6]>,
    /// What the kernel thinks of it.
    pub standing: Standing,
}

/// What is known of the kernel's state.
pub struct Mirror {
    ports: BTreeMap<u32, u8>,
    links: BTreeMap<u32, LinkState>,
    addresses: BTreeSet<(u32, IpNet)>,
    neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    fib: Fib,
    builder: RoutesBuilder,
}

impl Mirror {
    /// A mirror that knows nothing yet but which interfaces are samepath's.
    pub fn new(ports: &[PortLink]) -> Self {
        Self {
            ports: ports.iter().map(|port| (port.ifindex, port.port)).collect(),
            links: BTreeMap::new(),
            addresses: BTreeSet::new(),
            neighbours: BTreeMap::new(),
            fib: Fib::default(),
            builder: RoutesBuilder::default(),
        }
    }

    /// Takes in one fact.
    pub fn apply(&mut self, fact: Fact) -> Effect {
        match fact {
            Fact::Link(link) => self.set_link(link),
            Fact::LinkGone(ifindex) => self.remove_link(ifindex),
            Fact::Address(ifindex, address) => {
                changed(self.addresses.insert((ifindex, address)), Effect::Changed)
            }
            // Routes that prefer the address as source are removed with it.
            Fact::AddressGone(ifindex, address) => {
                changed(self.addresses.remove(&(ifindex, address)), Effect::Outdated)
            }
            Fact::Neighbour { ifindex, address, mac, standing } => {
                self.set_neighbour((ifindex, address), Neighbour { mac, standing })
            }
            Fact::Route(route, place) => {
                self.refresh_around(route.table, route.prefix, |fib| fib.insert(&route, place))
            }
            Fact::RouteGone(route) => {
                self.refresh_around(route.table, route.prefix, |fib| fib.remove(&route))
            }
            Fact::NextHop(id, object) => {
                let users = self.fib.set_object(id, object);
                self.refresh(users)
            }
            Fact::NextHopGone(id) => {
                let users = self.fib.remove_object(id);
                let outdated = if users.is_empty() { Effect::None } else { Effect::Outdated };
                self.refresh(users).max(outdated)
            }
        }
    }

    /// An immutable copy for workers and the rest of control.
    pub fn snapshot(&self, generation: u32) -> Mirrored {
        let links = self
            .links
            .values()
            .map(|link| LinkState { addresses: self.addresses_of(link.ifindex), ..link.clone() })
            .collect();
        Mirrored {
            routes: Arc::new(self.builder.build(generation).with_addresses(self.speaking_addresses())),
            own_addresses: self.own_addresses(),
            links,
        }
    }

    /// True if a snapshot of `other` would say the same.
    pub fn says_the_same_as(&self, other: &Mirror) -> bool {
        self.links == other.links
            && self.addresses == other.addresses
            && self.fib == other.fib
            && self.macs().eq(other.macs())
    }

    /// The kernel's view of a neighbour on a port.
    pub fn neighbour(&self, ifindex: u32, address: IpAddr) -> Option<Neighbour> {
        self.neighbours.get(&(ifindex, address)).copied()
    }

    /// Neighbours on ports, in order.
    pub fn neighbours(&self) -> impl Iterator<Item = ((u32, IpAddr), Neighbour)> + '_ {
        self.neighbours.iter().map(|(&key, &neighbour)| (key, neighbour))
    }

    /// True if the interface is a port and set up.
    pub fn is_port_up(&self, ifindex: u32) -> bool {
        self.ports.contains_key(&ifindex) && self.links.get(&ifindex).is_some_and(|link| link.up)
    }

    fn set_link(&mut self, link: LinkState) -> Effect {
        let before = self.links.insert(link.ifindex, link.clone());
        if before.as_ref() == Some(&link) {
            return Effect::None;
        }
        let state = Link {
            port: self.ports.get(&link.ifindex).copied(),
            mac: link.mac,
            mtu: link.mtu,
            up: link.up,
            carrier: link.carrier,
        };
        self.builder.set_link(link.ifindex, state);
        match before {
            Some(before) if before.up != link.up => Effect::Outdated,
            _ => Effect::Changed,
        }
    }

    fn remove_link(&mut self, ifindex: u32) -> Effect {
        if self.links.remove(&ifindex).is_none() {
            return Effect::None;
        }
        self.builder.remove_link(ifindex);
        self.addresses.retain(|(of, _)| *of != ifindex);
        let builder = &mut self.builder;
        self.neighbours.retain(|&(of, address), _| {
            if of == ifindex {
                builder.remove_neighbour(of, address);
            }
            of != ifindex
        });
        Effect::Outdated
    }

    fn set_neighbour(&mut self, key: (u32, IpAddr), neighbour: Neighbour) -> Effect {
        if !self.ports.contains_key(&key.0) {
            return Effect::None;
        }
        let before = if neighbour.standing == Standing::Unknown {
            self.neighbours.remove(&key)
        } else {
            self.neighbours.insert(key, neighbour)
        };
        if before.and_then(|before| before.mac) == neighbour.mac {
            return Effect::None;
        }
        match neighbour.mac {
            Some(mac) => self.builder.set_neighbour(key.0, key.1, mac),
            None => self.builder.remove_neighbour(key.0, key.1),
        }
        Effect::Changed
    }

    fn refresh_around(&mut self, table: Table, prefix: IpNet, change: impl FnOnce(&mut Fib)) -> Effect {
        let before = self.fib.target(table, prefix);
        change(&mut self.fib);
        if self.fib.target(table, prefix) == before {
            return Effect::None;
        }
        self.refresh(vec![(table, prefix)])
    }

    fn refresh(&mut self, prefixes: Vec<(Table, IpNet)>) -> Effect {
        let effect = if prefixes.is_empty() { Effect::None } else { Effect::Changed };
        for (table, prefix) in prefixes {
            match self.fib.target(table, prefix) {
                Some(target) => self.builder.set_route(table, prefix, target),
                None => self.builder.remove_route(table, prefix),
            }
        }
        effect
    }

    /// Whole prefixes declared local (AnyIP) cannot be listed; [`Mirrored::routes`] knows them.
    fn own_addresses(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = self
            .fib
            .local_prefixes()
            .filter(|prefix| prefix.prefix_len() == prefix.max_prefix_len())
            .map(|prefix| prefix.addr())
            .filter(|address| !address.is_loopback())
            .collect();
        addresses.sort_unstable();
        addresses
    }

    /// Addresses that packets of the node's own making may come from, by interface.
    fn speaking_addresses(&self) -> Vec<(u32, IpAddr)> {
        let all = self.addresses.iter().map(|&(ifindex, net)| (ifindex, net.addr()));
        all.filter(|(_, address)| match address {
            IpAddr::V4(v4) => !v4.is_loopback(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        })
        .collect()
    }

    fn addresses_of(&self, ifindex: u32) -> Vec<IpNet> {
        let of_link = self.addresses.iter().filter(|(of, _)| *of == ifindex);
        of_link.map(|(_, address)| *address).collect()
    }

    fn macs(&self) -> impl Iterator<Item = ((u32, IpAddr), [u8; 6])> + '_ {
        self.neighbours.iter().filter_map(|(&key, neighbour)| Some((key, neighbour.mac?)))
    }
}

fn changed(changed: bool, effect: Effect) -> Effect {
    if changed { effect } else { Effect::None }
}
