//! Netlink messages reduced to facts about routing (rtnetlink(7)).
//!
//! Links and next-hop objects are read attribute by attribute: the former because a full parse of a
//! link fails as a whole when a newer kernel changes any of its hundred attributes, the latter because
//! netlink-packet-route does not know them.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{
    DecodeError, NLM_F_APPEND, NLM_F_REPLACE, NetlinkDeserializable, NetlinkHeader, Nla, NlasIterator,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use samepath_dataplane::route::{Table, Via};

use super::LinkState;

/// Message types (linux/rtnetlink.h) read here rather than by netlink-packet-route.
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// Interface attributes and flags (linux/if_link.h, linux/if.h).
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;

/// Next-hop object attributes (linux/nexthop.h).
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP: u16 = 8;

/// The attribute of a route that names its next-hop object.
const RTA_NH_ID: u16 = 30;

/// What one message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// An interface is like this (its addresses are separate facts).
    Link(LinkState),
    /// An interface is gone.
    LinkGone(u32),
    /// An interface has an address.
    Address(u32, IpNet),
    /// An interface lost an address.
    AddressGone(u32, IpNet),
    /// A neighbour is like this; [`Standing::Unknown`] also when its entry is gone.
    Neighbour {
        /// Interface.
        ifindex: u32,
        /// Its address.
        address: IpAddr,
        /// Its link address, if there is one of six bytes.
        mac: Option<[u8; 6]>,
        /// What the kernel thinks of it.
        standing: Standing,
    },
    /// A route was added or listed.
    Route(Route, Place),
    /// A route was removed.
    RouteGone(Route),
    /// A next-hop object is like this.
    NextHop(u32, NextHopObject),
    /// A next-hop object is gone, and with it the routes that used it.
    NextHopGone(u32),
}

/// A neighbour's state (`NUD_*`), as far as samepath treats states differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// PERMANENT or NOARP: never to be probed. (`NTF_USE` would take the PERMANENT mark away.)
    Lasting,
    /// REACHABLE, DELAY or PROBE: the kernel knows or is about to know.
    Fresh,
    /// STALE: usable, unconfirmed.
    Stale,
    /// INCOMPLETE: being asked for the first time.
    Asked,
    /// FAILED, NONE or no entry.
    Unknown,
}

/// Where a new route stands among those of the same prefix and priority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Before them (the kernel's default for IPv4).
    First,
    /// After them (`ip route append`, and the order of a listing).
    Last,
    /// Instead of the first.
    Replace,
}

/// What kind of route it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Leads to next hops.
    Unicast,
    /// local, broadcast or anycast: this node takes the packet.
    Local,
    /// blackhole, unreachable or prohibit.
    Refused,
    /// throw: the lookup in this table ends without a result.
    Throw,
}

/// A route of table 254 or 255.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Its table.
    pub table: Table,
    /// Destinations.
    pub prefix: IpNet,
    /// Metric; the lowest wins.
    pub priority: u32,
    /// What kind of route it is.
    pub kind: Kind,
    /// Next hops; empty if only the object names them.
    pub vias: Vec<Via>,
    /// Next-hop object.
    pub object: Option<u32>,
    /// MTU metric, 0 = none.
    pub mtu: u32,
}

/// A next-hop object (`ip nexthop`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NextHopObject {
    /// One next hop.
    Single(Via),
    /// Ids and weights of several.
    Group(Vec<(u32, u32)>),
    /// Packets are refused.
    Blackhole,
}

/// Reads one message; `Ok(None)` if it says nothing about routing.
pub fn read(header: &NetlinkHeader, payload: &[u8]) -> Result<Option<Fact>, DecodeError> {
    match header.message_type {
        RTM_NEWLINK | RTM_DELLINK => link(header.message_type, payload),
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => next_hop_object(header.message_type, payload),
        _ => Ok(match RouteNetlinkMessage::deserialize(header, payload)? {
            RouteNetlinkMessage::NewAddress(message) => {
                address(&message).map(|(ifindex, address)| Fact::Address(ifindex, address))
            }
            RouteNetlinkMessage::DelAddress(message) => {
                address(&message).map(|(ifindex, address)| Fact::AddressGone(ifindex, address))
            }
            RouteNetlinkMessage::NewNeighbour(message) => neighbour(&message, false),
            RouteNetlinkMessage::DelNeighbour(message) => neighbour(&message, true),
            RouteNetlinkMessage::NewRoute(message) => {
                route(&message).map(|route| Fact::Route(route, place(header.flags)))
            }
            RouteNetlinkMessage::DelRoute(message) => route(&message).map(Fact::RouteGone),
            _ => None,
        }),
    }
}

/// A listing has neither flag; its order is told by the caller, see [`Fact::listed`].
fn place(flags: u16) -> Place {
    if flags & NLM_F_REPLACE != 0 {
        Place::Replace
    } else if flags & NLM_F_APPEND != 0 {
        Place::Last
    } else {
        Place::First
    }
}

impl Fact {
    /// The same fact as part of a listing, where routes come in the kernel's order.
    pub fn listed(self) -> Self {
        match self {
            Fact::Route(route, _) => Fact::Route(route, Place::Last),
            other => other,
        }
    }
}

/// struct ifinfomsg: family u8, padding u8, type u16, index u32, flags u32, change u32.
fn link(message_type: u16, payload: &[u8]) -> Result<Option<Fact>, DecodeError> {
    let (Some(ifindex), Some(flags)) = (u32_at(payload, 4), u32_at(payload, 8)) else {
        return Err("link message shorter than its header".into());
    };
    // Other families tell of bridge ports and per-protocol settings, not of the interface itself.
    if payload[0] != 0 {
        return Ok(None);
    }
    if message_type == RTM_DELLINK {
        return Ok(Some(Fact::LinkGone(ifindex)));
    }
    let mut link = LinkState {
        ifindex,
        name: String::new(),
        mac: [0; 6],
        mtu: 0,
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        addresses: Vec::new(),
    };
    for attribute in NlasIterator::new(payload.get(16..).unwrap_or_default()) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            IFLA_ADDRESS => link.mac = value.try_into().unwrap_or_default(),
            IFLA_IFNAME => {
                let name = value.split(|&byte| byte == 0).next().unwrap_or_default();
                link.name = String::from_utf8_lossy(name).into_owned();
            }
            IFLA_MTU => link.mtu = u32_at(value, 0).unwrap_or_default(),
            _ => {}
        }
    }
    Ok(Some(Fact::Link(link)))
}

fn address(message: &AddressMessage) -> Option<(u32, IpNet)> {
    // On point-to-point links IFA_ADDRESS is the other end, IFA_LOCAL this one.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    let net = IpNet::new(local.or(any)?, message.header.prefix_len).ok()?;
    Some((message.header.index, net))
}

fn neighbour(message: &NeighbourMessage, gone: bool) -> Option<Fact> {
    // The bridge's forwarding table uses the same messages with family AF_BRIDGE; answers given on
    // behalf of others (NTF_PROXY) are no neighbours.
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })?;
    let standing = if gone { Standing::Unknown } else { standing(message.header.state) };
    let mac = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLocalAddress(bytes) => <[u8; 6]>::try_from(&bytes[..]).ok(),
            _ => None,
        })
        .filter(|mac| !matches!(standing, Standing::Asked | Standing::Unknown) && *mac != [0; 6]);
    Some(Fact::Neighbour { ifindex: message.header.ifindex, address, mac, standing })
}

fn standing(state: NeighbourState) -> Standing {
    match state {
        NeighbourState::Permanent | NeighbourState::Noarp => Standing::Lasting,
        NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe => Standing::Fresh,
        NeighbourState::Stale => Standing::Stale,
        NeighbourState::Incomplete => Standing::Asked,
        _ => Standing::Unknown,
    }
}

fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let unspecified = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let kind = match header.kind {
        RouteType::Unicast => Kind::Unicast,
        RouteType::Local | RouteType::Broadcast | RouteType::Anycast => Kind::Local,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => Kind::Refused,
        RouteType::Throw => Kind::Throw,
        _ => return None,
    };
    // Routes for some sources or types of service only, and cached clones, are not followed.
    if header.source_prefix_length != 0 || header.tos != 0 || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut table = u32::from(header.table);
    let mut destination = unspecified;
    let (mut priority, mut object, mut mtu) = (0, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Priority(value) => priority = *value,
            RouteAttribute::Metrics(metrics) => mtu = mtu_of(metrics),
            RouteAttribute::Other(other) if other.kind() == RTA_NH_ID && other.value_len() == 4 => {
                let mut bytes = [0; 4];
                other.emit_value(&mut bytes);
                object = Some(u32::from_ne_bytes(bytes));
            }
            _ => {}
        }
    }
    let table = match table {
        254 => Table::Main,
        255 => Table::Local,
        _ => return None,
    };
    let prefix = IpNet::new(destination, header.destination_prefix_length).ok()?.trunc();
    let vias = match kind {
        Kind::Unicast | Kind::Local => vias_of(&message.attributes, mtu),
        Kind::Refused | Kind::Throw => Vec::new(),
    };
    Some(Route { table, prefix, priority, kind, vias, object, mtu })
}

fn vias_of(attributes: &[RouteAttribute], mtu: u32) -> Vec<Via> {
    let several = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(next_hops) => Some(next_hops),
        _ => None,
    });
    if let Some(next_hops) = several {
        return next_hops.iter().map(|next_hop| via_of_next_hop(next_hop, mtu)).collect();
    }
    let oif = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(ifindex) => Some(*ifindex),
        _ => None,
    });
    oif.map(|ifindex| via(ifindex, attributes, 1, mtu)).into_iter().collect()
}

fn via_of_next_hop(next_hop: &RouteNextHop, mtu: u32) -> Via {
    let weight = u32::from(next_hop.hops) + 1;
    via(next_hop.interface_index, &next_hop.attributes, weight, mtu)
}

fn via(ifindex: u32, attributes: &[RouteAttribute], weight: u32, mtu: u32) -> Via {
    let gateway = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    // Packets for MPLS or segment-routing tunnels must be wrapped, which only the kernel can do:
    // interface 0 exists nowhere and belongs to no port.
    let wrapped = attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::Encap(_)));
    Via { ifindex: if wrapped { 0 } else { ifindex }, gateway, weight, mtu }
}

fn mtu_of(metrics: &[RouteMetric]) -> u32 {
    let mtu = metrics.iter().find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    mtu.unwrap_or_default()
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// struct nhmsg: family u8, scope u8, protocol u8, reserved u8, flags u32.
/// NHA_GROUP is an array of struct nexthop_grp: id u32, weight - 1 u8, its high byte u8, reserved u16.
fn next_hop_object(message_type: u16, payload: &[u8]) -> Result<Option<Fact>, DecodeError> {
    let attributes = payload.get(8..).ok_or("next-hop message shorter than its header")?;
    let (mut id, mut oif, mut gateway, mut wrapped) = (None, None, None, false);
    let mut object = None;
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            NHA_ID => id = u32_at(value, 0),
            NHA_OIF => oif = u32_at(value, 0),
            NHA_GATEWAY => gateway = ip_of_bytes(value),
            NHA_ENCAP => wrapped = true,
            NHA_BLACKHOLE => object = Some(NextHopObject::Blackhole),
            NHA_GROUP => object = Some(NextHopObject::Group(members(value))),
            _ => {}
        }
    }
    let Some(id) = id else { return Ok(None) };
    if message_type == RTM_DELNEXTHOP {
        return Ok(Some(Fact::NextHopGone(id)));
    }
    let ifindex = oif.filter(|_| !wrapped).unwrap_or_default();
    let single = NextHopObject::Single(Via { ifindex, gateway, weight: 1, mtu: 0 });
    Ok(Some(Fact::NextHop(id, object.unwrap_or(single))))
}

fn members(group: &[u8]) -> Vec<(u32, u32)> {
    group
        .chunks_exact(8)
        .filter_map(|member| {
            let weight = u32::from(u16::from_le_bytes([member[4], member[5]])) + 1;
            Some((u32_at(member, 0)?, weight))
        })
        .collect()
}

fn ip_of_bytes(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}
