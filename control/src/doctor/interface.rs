//! Interfaces, one by one.

use samepath_bpf::PortRole;
use samepath_dataplane::limits::MAX_QUEUES;
use samepath_dataplane::xsk::Rss;

use super::{Trouble, trouble};
use crate::config::{RssChoice, XdpMode};
use crate::host::{Case, Link, Port};
use crate::nic::{FRAME_OVERHEAD, LARGEST_FRAME};

/// Name of samepath's own XDP program, as far as the kernel keeps names.
const OWN_PROGRAM: &str = "samepath_steer";

/// Fewer entries in a device's ring overflow within a fraction of a millisecond.
const SMALL_RING: u32 = 1024;

/// Troubles of all interfaces that are there.
fn each(case: &Case, look: impl Fn(Port<'_>) -> Option<Trouble>) -> Vec<Trouble> {
    case.ports().into_iter().filter_map(look).collect()
}

pub(super) fn absent(case: &Case) -> Vec<Trouble> {
    let known = &case.host.links;
    // Without `ip` nothing is known of any.
    let absent =
        case.interfaces().into_iter().filter(|(_, name)| !known.is_empty() && !known.contains_key(*name));
    absent
        .map(|(_, name)| {
            let there = known.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            trouble(
                format!("interface {name} does not exist; there are {there}"),
                "correct --data, --service or --cluster-link (ip -br link lists what is there)",
            )
        })
        .collect()
}

pub(super) fn down(case: &Case) -> Vec<Trouble> {
    each(case, |Port { link, .. }| {
        let cause = format!("interface {} is down", link.name);
        (!link.up).then(|| trouble(cause, format!("ip link set {} up", link.name)))
    })
}

pub(super) fn carrier(case: &Case) -> Vec<Trouble> {
    each(case, |Port { link, .. }| {
        let cause = format!(
            "interface {} is up and has no carrier: cable, switch port or other end are off",
            link.name
        );
        (link.up && !link.carrier)
            .then(|| trouble(cause, format!("look at the other end (ethtool {})", link.name)))
    })
}

/// The largest MTU that can be received whole: the frame's, and on veth what the kernel takes with XDP
/// (drivers/net/veth.c: one page without headroom, skb_shared_info and Ethernet header).
fn largest_mtu(link: &Link, mode: XdpMode) -> u32 {
    const VETH: u32 = 3506;
    let frame = LARGEST_FRAME - FRAME_OVERHEAD;
    if link.is_veth() && mode != XdpMode::Generic { frame.min(VETH) } else { frame }
}

pub(super) fn mtu(case: &Case) -> Vec<Trouble> {
    let Some(config) = &case.config else { return Vec::new() };
    each(case, |Port { link, .. }| {
        let most = largest_mtu(link, config.xdp_mode);
        let cause =
            format!("interface {} has MTU {}, a frame of packet memory holds {most}", link.name, link.mtu);
        (link.mtu > most)
            .then(|| trouble(cause, format!("ip link set {} mtu {most}   (and on the other end)", link.name)))
    })
}

fn own(link: &Link) -> Option<bool> {
    Some(link.program.as_ref()?.name.as_deref()? == OWN_PROGRAM)
}

pub(super) fn foreign(case: &Case) -> Vec<Trouble> {
    each(case, |Port { link, .. }| {
        let program = link.program.as_ref().filter(|_| own(link) == Some(false))?;
        let name = program.name.as_deref().unwrap_or_default();
        let cause = format!(
            "interface {} runs another XDP program, {} `{name}`: the node does not start",
            link.name, program.id
        );
        Some(trouble(
            cause,
            format!(
                "ip link set dev {0} xdp off   (bpftool net show dev {0}; or start with --replace)",
                link.name
            ),
        ))
    })
}

pub(super) fn left_behind(case: &Case) -> Vec<Trouble> {
    if case.node.is_some() {
        return Vec::new();
    }
    let served = case.ports().into_iter().map(|port| port.link);
    // Where nobody says what is to run, all interfaces there are.
    let links: Vec<&Link> = match case.config {
        Some(_) => served.collect(),
        None => case.host.links.values().collect(),
    };
    let look = |link: &Link| {
        let cause = format!(
            "interface {} is guarded by the program of a samepath that is gone (--on-crash closed): its packets are dropped",
            link.name
        );
        (own(link) == Some(true))
            .then(|| trouble(cause, "samepath run …   (or let go of all: rm -r /sys/fs/bpf/samepath/*)"))
    };
    links.into_iter().filter_map(look).collect()
}

pub(super) fn queues_many(case: &Case) -> Vec<Trouble> {
    each(case, |Port { link, .. }| {
        let cause = format!(
            "interface {} has {} receive queues, samepath serves at most {MAX_QUEUES}",
            link.name, link.rx_queues
        );
        (link.rx_queues as usize > MAX_QUEUES)
            .then(|| trouble(cause, format!("ethtool -L {} combined {MAX_QUEUES}", link.name)))
    })
}

pub(super) fn queues_few(case: &Case) -> Vec<Trouble> {
    let workers = case.worker_cores().len() as u32;
    each(case, |Port { link, .. }| {
        let most =
            link.channels.map_or(link.rx_queues, |channels| channels.rx_most.max(channels.combined_most));
        let cause = format!(
            "interface {} has {} receive queues for {workers} workers: packets are handed from core to core",
            link.name, link.rx_queues
        );
        let remedy = match link.rx_queues < most.min(workers) {
            true => format!(
                "samepath setup apply channels   (or: ethtool -L {} combined {})",
                link.name,
                most.min(workers)
            ),
            false => format!("the device has no more: --workers {}", link.rx_queues),
        };
        (link.rx_queues > 0 && link.rx_queues < workers).then(|| trouble(cause, remedy))
    })
}

pub(super) fn rss(case: &Case) -> Vec<Trouble> {
    let keeps = case.config.as_ref().is_some_and(|config| config.tuning.rss == RssChoice::Keep);
    each(case, |Port { link, role }| {
        let apart = link.rss == Some(Rss::Asymmetric) && link.rx_queues > 1 && role == PortRole::Data;
        let cause = format!(
            "interface {} puts the two directions of a flow into different queues: they are handed from core to core",
            link.name
        );
        // A start with `--rss symmetric` mends it by itself.
        (apart && (keeps || case.node.is_some()))
            .then(|| trouble(cause, "samepath setup apply rss   (or --rss symmetric)"))
    })
}

pub(super) fn ring(case: &Case) -> Vec<Trouble> {
    each(case, |Port { link, .. }| {
        let ring = link.ring?;
        let want = ring.most.min(SMALL_RING);
        let cause = format!(
            "the receive ring of {} has {} entries of at most {}: short bursts overflow it",
            link.name, ring.size, ring.most
        );
        (ring.size < want).then(|| trouble(cause, format!("ethtool -G {} rx {want}", link.name)))
    })
}

/// A trouble for each interface that has this offload on and could have it off.
fn offload(case: &Case, feature: &str, short: &str, why: &str) -> Vec<Trouble> {
    each(case, |Port { link, .. }| {
        let cause = format!("interface {} has {feature} on: {why}", link.name);
        let remedy = format!("ethtool -K {} {short} off   (or: samepath setup apply offloads)", link.name);
        link.can_switch_off(feature).then(|| trouble(cause, remedy))
    })
}

pub(super) fn lro(case: &Case) -> Vec<Trouble> {
    offload(
        case,
        "large-receive-offload",
        "lro",
        "frames larger than the MTU cannot be taken, and drivers refuse XDP with it",
    )
}

pub(super) fn gro_hw(case: &Case) -> Vec<Trouble> {
    offload(
        case,
        "rx-gro-hw",
        "rx-gro-hw",
        "the card joins packets to frames larger than the MTU, which cannot be taken",
    )
}

pub(super) fn gro_generic(case: &Case) -> Vec<Trouble> {
    let asked = case.config.as_ref().is_some_and(|config| config.xdp_mode == XdpMode::Generic);
    if !asked {
        return Vec::new();
    }
    offload(
        case,
        "generic-receive-offload",
        "gro",
        "with --xdp-mode generic joined packets are lost without a count: ping works, TCP does not",
    )
}

pub(super) fn vlan(case: &Case) -> Vec<Trouble> {
    let data: Vec<&str> = case.data_links().iter().map(|link| link.name.as_str()).collect();
    let mut troubles = offload(
        case,
        "rx-vlan-offload",
        "rxvlan",
        "the card takes VLAN tags off before XDP sees them, so tagged packets look untagged",
    );
    troubles.retain(|one| data.iter().any(|name| one.cause.starts_with(&format!("interface {name} "))));
    troubles
}
