//! All routes of the two tables the kernel told of, and which of them count.

use ahash::RandomState;
use hashbrown::HashMap;
use ipnet::IpNet;
use samepath_dataplane::route::{RouteTarget, Table, Via};

use super::message::{Kind, NextHopObject, Place, Route};

/// Routes by prefix, those that count first; next-hop objects.
#[derive(Default, PartialEq)]
pub struct Fib {
    local: Prefixes,
    main: Prefixes,
    objects: HashMap<u32, NextHopObject, RandomState>,
}

type Prefixes = HashMap<IpNet, Vec<Entry>, RandomState>;

/// A route without what all routes of its prefix have in common.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    priority: u32,
    kind: Kind,
    vias: Vec<Via>,
    object: Option<u32>,
    mtu: u32,
}

impl Entry {
    fn of(route: &Route) -> Self {
        Self {
            priority: route.priority,
            kind: route.kind,
            vias: route.vias.clone(),
            object: route.object,
            mtu: route.mtu,
        }
    }

    /// IPv6 routes of one metric share the load if they have gateways; of on-link ones the first
    /// counts (so does the kernel).
    fn shares_load(&self) -> bool {
        self.kind == Kind::Unicast
            && !self.vias.is_empty()
            && self.vias.iter().all(|via| via.gateway.is_some())
    }
}

impl Fib {
    /// Puts a route where the kernel put it.
    pub fn insert(&mut self, route: &Route, place: Place) {
        let entries = self.table(route.table).entry(route.prefix).or_insert_with(|| Vec::with_capacity(1));
        match route.prefix {
            IpNet::V4(_) => insert_v4(entries, Entry::of(route), place),
            IpNet::V6(_) => insert_v6(entries, Entry::of(route), place),
        }
    }

    /// Removes a route; one that is not there is no matter.
    pub fn remove(&mut self, route: &Route) {
        let table = self.table(route.table);
        let Some(entries) = table.get_mut(&route.prefix) else { return };
        match route.prefix {
            IpNet::V4(_) => remove_v4(entries, &Entry::of(route)),
            IpNet::V6(_) => take_vias(entries, &Entry::of(route)),
        }
        if entries.is_empty() {
            table.remove(&route.prefix);
        }
    }

    /// Sets a next-hop object and returns the prefixes whose routes use it, directly or in a group.
    pub fn set_object(&mut self, id: u32, object: NextHopObject) -> Vec<(Table, IpNet)> {
        if self.objects.get(&id) == Some(&object) {
            return Vec::new();
        }
        self.objects.insert(id, object);
        self.users_of(id)
    }

    /// Forgets a next-hop object and returns the prefixes whose routes used it.
    pub fn remove_object(&mut self, id: u32) -> Vec<(Table, IpNet)> {
        match self.objects.remove(&id) {
            Some(_) => self.users_of(id),
            None => Vec::new(),
        }
    }

    /// Where packets to a prefix go: the routes with the lowest metric decide.
    pub fn target(&self, table: Table, prefix: IpNet) -> Option<RouteTarget> {
        let prefixes = match table {
            Table::Local => &self.local,
            Table::Main => &self.main,
        };
        let entries = prefixes.get(&prefix)?;
        let first = entries.first()?;
        match first.kind {
            Kind::Local => Some(RouteTarget::Local),
            Kind::Refused => Some(RouteTarget::Refused),
            // Behind table main there is nothing; behind table local there is main.
            Kind::Throw => (table == Table::Main).then_some(RouteTarget::NoRoute),
            Kind::Unicast => Some(self.unicast(prefix, first, entries)),
        }
    }

    /// Prefixes of table local that this node takes packets for.
    pub fn local_prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.local
            .iter()
            .filter(|(_, entries)| entries.first().is_some_and(|entry| entry.kind == Kind::Local))
            .map(|(prefix, _)| *prefix)
    }

    fn unicast(&self, prefix: IpNet, first: &Entry, entries: &[Entry]) -> RouteTarget {
        if let Some(target) = first.object.and_then(|id| self.target_of_object(id, first.mtu)) {
            return target;
        }
        if matches!(prefix, IpNet::V4(_)) || !first.shares_load() {
            return RouteTarget::Via(first.vias.clone());
        }
        let peers = entries.iter().filter(|entry| entry.priority == first.priority && entry.shares_load());
        RouteTarget::Via(peers.flat_map(|entry| entry.vias.iter().copied()).collect())
    }

    fn target_of_object(&self, id: u32, mtu: u32) -> Option<RouteTarget> {
        let single = |id: u32, weight: u32| match self.objects.get(&id) {
            Some(NextHopObject::Single(via)) => Some(Via { weight, mtu, ..*via }),
            _ => None,
        };
        match self.objects.get(&id)? {
            NextHopObject::Blackhole => Some(RouteTarget::Refused),
            NextHopObject::Single(_) => Some(RouteTarget::Via(single(id, 1).into_iter().collect())),
            NextHopObject::Group(members) => {
                let refused =
                    members.iter().all(|(id, _)| self.objects.get(id) == Some(&NextHopObject::Blackhole));
                if refused && !members.is_empty() {
                    return Some(RouteTarget::Refused);
                }
                let vias = members.iter().filter_map(|&(id, weight)| single(id, weight));
                Some(RouteTarget::Via(vias.collect()))
            }
        }
    }

    fn users_of(&self, id: u32) -> Vec<(Table, IpNet)> {
        let groups: Vec<u32> = self
            .objects
            .iter()
            .filter(|(_, object)| match object {
                NextHopObject::Group(members) => members.iter().any(|(member, _)| *member == id),
                NextHopObject::Single(_) | NextHopObject::Blackhole => false,
            })
            .map(|(&group, _)| group)
            .collect();
        let uses =
            |entry: &Entry| entry.object.is_some_and(|object| object == id || groups.contains(&object));
        let tables = [(Table::Local, &self.local), (Table::Main, &self.main)];
        tables
            .into_iter()
            .flat_map(|(table, prefixes)| prefixes.iter().map(move |pair| (table, pair)))
            .filter(|(_, (_, entries))| entries.iter().any(uses))
            .map(|(table, (prefix, _))| (table, *prefix))
            .collect()
    }

    fn table(&mut self, table: Table) -> &mut Prefixes {
        match table {
            Table::Local => &mut self.local,
            Table::Main => &mut self.main,
        }
    }
}

/// A route told of twice (in a listing and in a notification sent while it was made) is one route.
fn insert_v4(entries: &mut Vec<Entry>, entry: Entry, place: Place) {
    if let Some(twin) = entries.iter().position(|known| *known == entry) {
        entries.remove(twin);
    }
    if place == Place::Replace {
        let replaced = entries.iter().position(|known| known.priority == entry.priority);
        replaced.map(|index| entries.remove(index));
    }
    let index = match place {
        Place::First | Place::Replace => entries.partition_point(|known| known.priority < entry.priority),
        Place::Last => entries.partition_point(|known| known.priority <= entry.priority),
    };
    entries.insert(index, entry);
}

/// The kernel describes the very route it removed; if it is unknown here, one of its metric must go.
fn remove_v4(entries: &mut Vec<Entry>, gone: &Entry) {
    let index = entries
        .iter()
        .position(|entry| entry == gone)
        .or_else(|| entries.iter().position(|entry| entry.priority == gone.priority));
    index.map(|index| entries.remove(index));
}

/// The kernel tells of all next hops of a metric together when one is added, and puts a new route
/// behind those of its metric.
fn insert_v6(entries: &mut Vec<Entry>, entry: Entry, place: Place) {
    if place == Place::Replace {
        replace_v6(entries, &entry);
    }
    take_vias(entries, &entry);
    let index = entries.partition_point(|known| known.priority <= entry.priority);
    entries.insert(index, entry);
}

/// `ip -6 route replace` takes the place of all routes that share the load, or of one that does not.
fn replace_v6(entries: &mut Vec<Entry>, entry: &Entry) {
    let alike =
        |known: &Entry| known.priority == entry.priority && known.shares_load() == entry.shares_load();
    let same_metric = |known: &Entry| known.priority == entry.priority;
    if entry.shares_load() && entries.iter().any(alike) {
        entries.retain(|known| !alike(known));
    } else {
        let index = entries.iter().position(alike).or_else(|| entries.iter().position(same_metric));
        index.map(|index| entries.remove(index));
    }
}

/// Takes the next hops of `gone` out of the routes of its metric and kind; a route without next hops
/// (blackhole) is taken as a whole.
fn take_vias(entries: &mut Vec<Entry>, gone: &Entry) {
    let mut whole = gone.vias.is_empty();
    entries.retain_mut(|entry| {
        if entry.priority != gone.priority || entry.kind != gone.kind {
            return true;
        }
        if entry.vias.is_empty() {
            return !std::mem::take(&mut whole);
        }
        entry
            .vias
            .retain(|via| !gone.vias.iter().any(|g| g.ifindex == via.ifindex && g.gateway == via.gateway));
        !entry.vias.is_empty()
    });
}
