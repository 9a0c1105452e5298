//! Interfaces.

use std::collections::BTreeMap;
use std::net::IpAddr;

use samepath_dataplane::xsk::{self, Rss};
use serde_json::Value;

use super::{Feature, Place, features};
use crate::config::Config;

/// An interface.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// Name in the kernel.
    pub name: String,
    /// Index in the kernel.
    pub ifindex: u32,
    /// Kind of a virtual one, like `veth`.
    pub kind: String,
    /// It is switched on.
    pub up: bool,
    /// The other end is there.
    pub carrier: bool,
    /// IP MTU, bytes.
    pub mtu: u32,
    /// XDP program on it.
    pub program: Option<Program>,
    /// Other end of a veth, if it is in the same namespace.
    pub peer: Option<String>,
    /// Driver.
    pub driver: String,
    /// Offloads by ethtool's names.
    pub features: BTreeMap<String, Feature>,
    /// Queues, where the driver lets them be set.
    pub channels: Option<Channels>,
    /// Receive queues in use.
    pub rx_queues: u32,
    /// The device's own receive ring.
    pub ring: Option<RxRing>,
    /// Where both directions of a flow go.
    pub rss: Option<Rss>,
    /// Memory node of the device.
    pub memory_node: Option<i32>,
    /// Interrupts of the device.
    pub irqs: Vec<u32>,
    /// How its interrupts and polling are timed.
    pub napi: Option<Napi>,
    /// `net.ipv4.conf.IF.rp_filter`.
    pub rp_filter: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// An XDP program on an interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Program {
    /// The kernel's number for it.
    pub id: u64,
    /// Its name, where it may be known.
    pub name: Option<String>,
}

/// Queues now, and how many there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names are ethtool's")]
pub struct Channels {
    pub rx: u32,
    pub rx_most: u32,
    pub tx: u32,
    pub combined: u32,
    pub combined_most: u32,
}

/// Entries of the device's receive ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RxRing {
    /// Now.
    pub size: u32,
    /// At most.
    pub most: u32,
}

/// Files of /sys/class/net/IF by their names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names are the kernel's")]
pub struct Napi {
    pub napi_defer_hard_irqs: u64,
    pub gro_flush_timeout: u64,
    pub threaded: Option<u64>,
}

impl Link {
    /// An offload that is on and could be off.
    pub fn can_switch_off(&self, feature: &str) -> bool {
        self.features.get(feature).is_some_and(|feature| feature.on && !feature.fixed)
    }

    /// It is one end of a veth.
    pub fn is_veth(&self) -> bool {
        self.kind == "veth"
    }
}

/// All interfaces; those of `config` and their veth peers in detail.
pub(super) fn read(place: &Place, config: Option<&Config>) -> BTreeMap<String, Link> {
    // Unlike `link show` this has the addresses too.
    let listed = place.json("ip", &["-j", "-d", "address", "show"]).unwrap_or_default();
    let mut links: BTreeMap<String, Link> = listed
        .as_array()
        .into_iter()
        .flatten()
        .map(listed_link)
        .map(|link| (link.name.clone(), link))
        .collect();
    let named = config.map(interfaces).unwrap_or_default();
    let peers: Vec<String> = named.iter().filter_map(|name| links.get(name)?.peer.clone()).collect();
    for name in named.iter().chain(&peers) {
        if let Some(link) = links.get_mut(name) {
            add_details(place, link);
        }
    }
    links
}

/// Names of the interfaces samepath serves.
fn interfaces(config: &Config) -> Vec<String> {
    let data = config.data.iter().map(|data| &data.interface);
    let services = config.services.iter().map(|service| &service.interface);
    data.chain(services).chain([&config.cluster_link]).cloned().collect()
}

/// One entry of `ip -j -d link`.
fn listed_link(entry: &Value) -> Link {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let flag = |name: &str| entry["flags"].as_array().is_some_and(|flags| flags.iter().any(|f| f == name));
    let program = entry["xdp"]["prog"]["id"]
        .as_u64()
        .map(|id| Program { id, name: entry["xdp"]["prog"]["name"].as_str().map(Into::into) });
    let addresses = entry["addr_info"].as_array().into_iter().flatten();
    let addresses = addresses.filter_map(|one| one["local"].as_str()?.parse().ok());
    Link {
        addresses: addresses.collect(),
        name: text(&entry["ifname"]),
        ifindex: entry["ifindex"].as_u64().unwrap_or_default() as u32,
        kind: text(&entry["linkinfo"]["info_kind"]),
        up: flag("UP"),
        carrier: flag("LOWER_UP"),
        mtu: entry["mtu"].as_u64().unwrap_or_default() as u32,
        peer: entry["link"].as_str().map(Into::into),
        program,
        ..Link::default()
    }
}

fn add_details(place: &Place, link: &mut Link) {
    let ethtool = |option| place.output("ethtool", &[option, &link.name]).unwrap_or_default();
    link.driver = features::driver(&ethtool("-i")).unwrap_or_default();
    link.features = features::features(&ethtool("-k"));
    link.channels = features::channels(&ethtool("-l"));
    link.ring = features::rx_ring(&ethtool("-g"));
    link.rx_queues = xsk::receive_queues(&link.name).unwrap_or(1);
    link.rss = Some(xsk::rss(&link.name));
    link.rp_filter = place.value(&format!("/proc/sys/net/ipv4/conf/{}/rp_filter", link.name));
    // /sys is that of the namespace it was mounted in, which need not be ours.
    if place.value(&format!("/sys/class/net/{}/ifindex", link.name)) == Some(link.ifindex) {
        link.add_sysfs(place);
    }
}

impl Link {
    /// Adds what only /sys says; apart, so that a folder can be read too.
    pub(crate) fn add_sysfs(&mut self, place: &Place) {
        let folder = format!("/sys/class/net/{}", self.name);
        let number = |name: &str| place.value::<u64>(&format!("{folder}/{name}"));
        self.memory_node = place.value(&format!("{folder}/device/numa_node"));
        // Of virtio the bus above the device has the interrupts.
        let folders = [format!("{folder}/device/msi_irqs"), format!("{folder}/device/../msi_irqs")];
        let numbers = |path: &String| place.names(path).iter().filter_map(|name| name.parse().ok()).collect();
        self.irqs = folders.iter().map(numbers).find(|irqs: &Vec<u32>| !irqs.is_empty()).unwrap_or_default();
        self.irqs.sort_unstable();
        let deferral = number("napi_defer_hard_irqs").zip(number("gro_flush_timeout"));
        self.napi = deferral.map(|(napi_defer_hard_irqs, gro_flush_timeout)| Napi {
            napi_defer_hard_irqs,
            gro_flush_timeout,
            threaded: number("threaded"),
        });
    }
}
