//! Veth: what the other end must have, where it can be seen (in the same namespace).

use super::machine::one_if;
use super::{Trouble, trouble};
use crate::config::XdpMode;
use crate::host::{Case, Link};

/// Configured veths and their other ends.
fn pairs(case: &Case) -> Vec<(&Link, &Link)> {
    let ports = case.ports().into_iter().filter(|port| port.link.is_veth());
    ports.filter_map(|port| Some((port.link, case.host.links.get(port.link.peer.as_ref()?)?))).collect()
}

pub(super) fn queues(case: &Case) -> Vec<Trouble> {
    let generic = case.config.as_ref().is_some_and(|config| config.xdp_mode == XdpMode::Generic);
    let pairs = pairs(case).into_iter().filter(|_| !generic);
    pairs
        .filter_map(|(link, peer)| {
            let sends = peer.channels?.tx;
            let cause = format!(
                "veth {} has {} receive queues and its other end {} sends by {sends}: the kernel refuses native XDP (ENOSPC)",
                link.name, link.rx_queues, peer.name
            );
            let remedy = format!("ethtool -L {} tx {}   (or: ethtool -L {} rx {sends})", peer.name, link.rx_queues, link.name);
            (sends > link.rx_queues).then(|| trouble(cause, remedy))
        })
        .collect()
}

pub(super) fn deaf(case: &Case) -> Vec<Trouble> {
    let deaf = pairs(case).into_iter().filter(|(_, peer)| {
        peer.program.is_none() && peer.features.get("generic-receive-offload").is_some_and(|gro| !gro.on)
    });
    deaf.map(|(link, peer)| {
        let cause = format!(
            "{}, the other end of veth {}, has neither an XDP program nor GRO: frames that XDP redirects into it are dropped (--forwarder xdp, native peers)",
            peer.name, link.name
        );
        trouble(cause, format!("ethtool -K {} gro on", peer.name))
    })
    .collect()
}

pub(super) fn offloads(case: &Case) -> Vec<Trouble> {
    let sends_partial = |peer: &Link| {
        ["tcp-segmentation-offload", "generic-segmentation-offload", "tx-checksumming"]
            .iter()
            .any(|name| peer.features.get(*name).is_some_and(|feature| feature.on))
    };
    let pairs = pairs(case).into_iter().filter(|(_, peer)| sends_partial(peer));
    pairs
        .map(|(link, peer)| {
            let cause = format!(
                "{}, the other end of veth {}, leaves checksums and segmentation to a card there is none of: packets arrive with partial checksums or larger than the MTU",
                peer.name, link.name
            );
            trouble(cause, format!("ethtool -K {} tx off tso off gso off", peer.name))
        })
        .collect()
}

pub(super) fn elsewhere(case: &Case) -> Vec<Trouble> {
    let unseen =
        |link: &&Link| link.is_veth() && !case.host.links.contains_key(link.peer.as_deref().unwrap_or(""));
    let names: Vec<&str> =
        case.data_links().into_iter().filter(unseen).map(|link| link.name.as_str()).collect();
    let cause = format!(
        "the other end of veth {} is in another namespace and was not looked at: if it leaves checksums and segmentation to a card, ping works and TCP does not",
        names.join(", ")
    );
    one_if(!names.is_empty(), cause, "there: ethtool -K PEER tx off tso off gso off   (PEER: its name there)")
}
