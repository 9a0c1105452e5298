//! Stages that are about what arrives in which queue, and in which shape.

use samepath_bpf::PortRole;
use samepath_dataplane::limits::MAX_QUEUES;
use samepath_dataplane::xsk::Rss;

use super::{Action, Step};
use crate::config::{RssChoice, Workers, XdpMode};
use crate::host::{Case, Channels, Link, Place};

/// Bytes that make a Toeplitz hash symmetric when they are repeated (Woo and Park, 2012).
const SYMMETRIC: [&str; 2] = ["6d", "5a"];

/// Workers there shall be: as many as cores, unless a number is given.
fn workers(case: &Case) -> Option<u32> {
    let config = case.config.as_ref()?;
    let online = case.host.machine.cores.iter().filter(|core| core.online).count();
    let workers = match config.workers {
        Workers::Count(count) => count,
        Workers::Auto if config.cores.is_empty() => online,
        Workers::Auto => config.cores.len(),
    };
    Some(workers.clamp(1, MAX_QUEUES) as u32)
}

pub(super) fn channels(case: &Case, _: &Place) -> Vec<Step> {
    let Some(workers) = workers(case) else { return Vec::new() };
    let ports = case.ports();
    let settable = ports.iter().filter(|port| port.role != PortRole::Service);
    settable
        .filter_map(|port| {
            let mut step = channels_of(port.link, port.link.channels?, workers, case);
            if case.node.is_some() && step.differs() {
                step.blocked = Some("the node holds the queues: stop it first (samepath leave)".into());
            }
            Some(step)
        })
        .collect()
}

/// Queues of one interface: the driver counts pairs (`combined`), or receive queues by themselves.
fn channels_of(link: &Link, now: Channels, workers: u32, case: &Case) -> Step {
    let pairs = now.combined_most > 0;
    let (word, have, most) =
        if pairs { ("combined", now.combined, now.combined_most) } else { ("rx", now.rx, now.rx_most) };
    // Native XDP on veth needs a queue for each that the other end sends by.
    let peer = link.peer.as_ref().and_then(|name| case.host.links.get(name)?.channels);
    let want = workers.max(peer.map_or(0, |peer| peer.tx)).min(most);
    let queues = |count: u32| format!("{count} receive queues");
    if have == want {
        return Step::fine(&link.name, queues(have));
    }
    let set = |count: u32| vec![Action::run(&format!("ethtool -L {} {word} {count}", link.name))];
    Step {
        object: link.name.clone(),
        found: queues(have),
        wanted: queues(want),
        change: set(want),
        back: set(have),
        blocked: None,
    }
}

pub(super) fn rss(case: &Case, place: &Place) -> Vec<Step> {
    let keep = case.config.as_ref().is_none_or(|config| config.tuning.rss == RssChoice::Keep);
    let several = case.data_links().into_iter().filter(|link| !keep && link.rx_queues > 1);
    several
        .filter_map(|link| match link.rss? {
            Rss::Symmetric => Some(Step::fine(&link.name, "symmetric")),
            Rss::Unknown => Some(Step::fine(&link.name, "unknown (the driver does not say)")),
            Rss::Asymmetric => {
                symmetric_key(link, &place.output("ethtool", &["-x", &link.name]).unwrap_or_default())
            }
        })
        .collect()
}

/// The key that `ethtool -x` printed, and one of the same length that repeats every 16 bits.
pub(super) fn symmetric_key(link: &Link, printed: &str) -> Option<Step> {
    let key = printed.split_once("RSS hash key:\n")?.1.lines().next()?.trim();
    let length = key.split(':').count();
    let symmetric = SYMMETRIC.iter().cycle().take(length).copied().collect::<Vec<_>>().join(":");
    let set = |key: &str| vec![Action::run(&format!("ethtool -X {} hkey {key}", link.name))];
    Some(Step {
        object: link.name.clone(),
        found: "asymmetric".into(),
        wanted: "symmetric".into(),
        change: set(&symmetric),
        back: set(key),
        blocked: None,
    })
}

pub(super) fn offloads(case: &Case, _: &Place) -> Vec<Step> {
    let generic = case.config.as_ref().is_some_and(|config| config.xdp_mode == XdpMode::Generic);
    let mut unwanted =
        vec![("rx-vlan-offload", "rxvlan"), ("large-receive-offload", "lro"), ("rx-gro-hw", "rx-gro-hw")];
    if generic {
        unwanted.push(("generic-receive-offload", "gro"));
    }
    let ports = case.ports();
    let wires = ports.iter().filter(|port| port.role != PortRole::Service);
    wires
        .flat_map(|port| unwanted.iter().filter_map(|&(feature, short)| offload(port.link, feature, short)))
        .collect()
}

/// What cannot be changed is left out.
fn offload(link: &Link, feature: &str, short: &str) -> Option<Step> {
    let now = link.features.get(feature).filter(|now| !now.fixed)?;
    let object = format!("{} {feature}", link.name);
    if !now.on {
        return Some(Step::fine(object, "off"));
    }
    let set = |word: &str| vec![Action::run(&format!("ethtool -K {} {short} {word}", link.name))];
    Some(Step {
        object,
        found: "on".into(),
        wanted: "off".into(),
        change: set("off"),
        back: set("on"),
        blocked: None,
    })
}
