//! Makes [`Routes`] snapshots out of plain data, step by step as the kernel reports changes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use ipnet::IpNet;

use super::lpm::Lpm;
use super::{Group, Leg, LinkHop, Routes, Target};

/// The routing tables samepath follows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Table {
    /// The node's own addresses (kernel table 255).
    Local,
    /// All other routes (kernel table 254).
    Main,
}

/// One next hop of a route.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Via {
    /// Kernel index of the outgoing interface.
    pub ifindex: u32,
    /// The gateway, of either family; `None` if destinations are on-link.
    pub gateway: Option<IpAddr>,
    /// Its share among equal-cost next hops; 0 counts as 1.
    pub weight: u32,
    /// MTU set on the route, bytes; 0 if only the link's counts.
    pub mtu: u32,
}

/// Where packets to a prefix go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteTarget {
    /// To one of these next hops; none of them usable means no route.
    Via(Vec<Via>),
    /// Nowhere, and the lookup ends here (a `throw` route).
    NoRoute,
    /// Nowhere by intent: blackhole, unreachable, prohibit.
    Refused,
    /// To this node itself.
    Local,
}

/// An interface as routing sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Index of the port, if samepath owns the interface.
    pub port: Option<u8>,
    /// Its link address.
    pub mac: [u8; 6],
    /// Its MTU, bytes.
    pub mtu: u32,
    /// Set up by the operator.
    pub up: bool,
    /// The other end is there.
    pub carrier: bool,
}

/// Routes that share the same next hops share one slot, so a full table needs few of them.
#[derive(Debug)]
struct Shared {
    vias: Vec<Via>,
    users: usize,
}

/// Collects routes, neighbours and links; [`build`](Self::build) makes a snapshot of them.
///
/// Prefix tables are shared with snapshots and copied only if routes change while one is in use.
#[derive(Default)]
pub struct RoutesBuilder {
    local: Arc<Lpm<Target>>,
    main: Arc<Lpm<Target>>,
    slots: Vec<Option<Shared>>,
    free: Vec<u32>,
    slot_of: HashMap<Vec<Via>, u32, ahash::RandomState>,
    neighbours: BTreeMap<(u32, IpAddr), [u8; 6]>,
    links: BTreeMap<u32, Link>,
}

impl RoutesBuilder {
    /// Sets where packets to `prefix` go according to `table`.
    pub fn set_route(&mut self, table: Table, prefix: IpNet, target: RouteTarget) {
        let target = match target {
            RouteTarget::Via(vias) => Target::Group(self.share(vias)),
            RouteTarget::NoRoute => Target::NoRoute,
            RouteTarget::Refused => Target::Refused,
            RouteTarget::Local => Target::Local,
        };
        let before = self.table(table).insert(prefix, target);
        self.release(before);
    }

    /// Forgets what `table` says about `prefix`.
    pub fn remove_route(&mut self, table: Table, prefix: IpNet) {
        let before = self.table(table).remove(prefix);
        self.release(before);
    }

    /// Sets the link address of a neighbour.
    pub fn set_neighbour(&mut self, ifindex: u32, address: IpAddr, mac: [u8; 6]) {
        self.neighbours.insert((ifindex, address), mac);
    }

    /// Forgets a neighbour's link address.
    pub fn remove_neighbour(&mut self, ifindex: u32, address: IpAddr) {
        self.neighbours.remove(&(ifindex, address));
    }

    /// Sets what is known of an interface.
    pub fn set_link(&mut self, ifindex: u32, link: Link) {
        self.links.insert(ifindex, link);
    }

    /// Forgets an interface; routes over it are unusable.
    pub fn remove_link(&mut self, ifindex: u32) {
        self.links.remove(&ifindex);
    }

    /// A snapshot of the present state; `generation` 0 is taken as 1.
    pub fn build(&self, generation: u32) -> Routes {
        let mut hops = Hops::default();
        let mut faces = Faces::new(&self.links);
        let groups = self
            .slots
            .iter()
            .map(|slot| match slot {
                Some(shared) => self.group(&shared.vias, &mut hops, &mut faces),
                None => Group::Down,
            })
            .collect();
        Routes {
            generation: generation.max(1),
            neighbours: self.neighbours_of(&faces, &mut hops),
            faces: faces.faces,
            hops: hops.hops,
            local: Arc::clone(&self.local),
            main: Arc::clone(&self.main),
            groups,
            addresses: Vec::new(),
        }
    }

    fn table(&mut self, table: Table) -> &mut Lpm<Target> {
        match table {
            Table::Local => Arc::make_mut(&mut self.local),
            Table::Main => Arc::make_mut(&mut self.main),
        }
    }

    fn share(&mut self, vias: Vec<Via>) -> u32 {
        if let Some(&slot) = self.slot_of.get(&vias) {
            if let Some(Some(shared)) = self.slots.get_mut(slot as usize) {
                shared.users += 1;
            }
            return slot;
        }
        let shared = Some(Shared { vias: vias.clone(), users: 1 });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = shared;
                slot
            }
            None => {
                self.slots.push(shared);
                (self.slots.len() - 1) as u32
            }
        };
        self.slot_of.insert(vias, slot);
        slot
    }

    fn release(&mut self, target: Option<Target>) {
        let Some(Target::Group(slot)) = target else { return };
        let Some(place) = self.slots.get_mut(slot as usize) else { return };
        let Some(shared) = place else { return };
        shared.users -= 1;
        if shared.users == 0 {
            self.slot_of.remove(&shared.vias);
            *place = None;
            self.free.push(slot);
        }
    }

    fn group(&self, vias: &[Via], hops: &mut Hops, faces: &mut Faces) -> Group {
        let up = || vias.iter().filter_map(|via| Some((via, self.links.get(&via.ifindex)?)));
        let up = || up().filter(|(_, link)| link.up);
        let on_ports = || up().filter_map(|(via, link)| Some((via, link, link.port?)));
        if on_ports().next().is_none() {
            return if up().next().is_some() { Group::Elsewhere } else { Group::Down };
        }
        // The kernel keeps using a next hop without carrier (sysctl ignore_routes_with_linkdown is
        // off by default) and drops there; a flow with another way should take it.
        let with_carrier = on_ports().any(|(_, link, _)| link.carrier);
        let mut weight_end = 0_u32;
        let mut legs = Vec::new();
        for (via, link, port) in on_ports().filter(|(_, link, _)| link.carrier || !with_carrier) {
            let mtu = if via.mtu == 0 { link.mtu } else { via.mtu.min(link.mtu) };
            weight_end = weight_end.saturating_add(via.weight.max(1));
            let hop = via
                .gateway
                .and_then(|gateway| self.neighbours.get(&(via.ifindex, gateway)))
                .map(|&mac| hops.index(link_hop(port, link, mac, mtu)));
            let face = faces.index(via.ifindex, mtu);
            legs.push(Leg { weight_end, ifindex: via.ifindex, face, gateway: via.gateway, hop });
        }
        Group::Legs(legs)
    }

    fn neighbours_of(
        &self,
        faces: &Faces,
        hops: &mut Hops,
    ) -> HashMap<(u32, IpAddr), u32, ahash::RandomState> {
        let mut neighbours = HashMap::default();
        for (face, &(ifindex, mtu)) in faces.faces.iter().enumerate() {
            let Some(link) = self.links.get(&ifindex) else { continue };
            let Some(port) = link.port else { continue };
            let all_of_link = (ifindex, IpAddr::from([0; 4]))..=(ifindex, IpAddr::from([0xff; 16]));
            for (&(_, address), &mac) in self.neighbours.range(all_of_link) {
                let hop = hops.index(link_hop(port, link, mac, mtu));
                neighbours.insert((face as u32, address), hop);
            }
        }
        neighbours
    }
}

fn link_hop(port: u8, link: &Link, mac: [u8; 6], mtu: u32) -> LinkHop {
    LinkHop { port, source_mac: link.mac, destination_mac: mac, mtu }
}

/// Hops in order of first use, each once.
#[derive(Default)]
struct Hops {
    hops: Vec<LinkHop>,
    index_of: HashMap<(u8, [u8; 6], u32), u32, ahash::RandomState>,
}

impl Hops {
    fn index(&mut self, hop: LinkHop) -> u32 {
        *self.index_of.entry((hop.port, hop.destination_mac, hop.mtu)).or_insert_with(|| {
            self.hops.push(hop);
            (self.hops.len() - 1) as u32
        })
    }
}

/// Combinations of interface and MTU that on-link destinations are looked up under.
struct Faces {
    faces: Vec<(u32, u32)>,
}

impl Faces {
    fn new(links: &BTreeMap<u32, Link>) -> Self {
        let faces = links
            .iter()
            .filter(|(_, link)| link.port.is_some())
            .map(|(&ifindex, link)| (ifindex, link.mtu))
            .collect();
        Self { faces }
    }

    fn index(&mut self, ifindex: u32, mtu: u32) -> u32 {
        if let Some(face) = self.faces.iter().position(|&face| face == (ifindex, mtu)) {
            return face as u32;
        }
        self.faces.push((ifindex, mtu));
        (self.faces.len() - 1) as u32
    }
}
