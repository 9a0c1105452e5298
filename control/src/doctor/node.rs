//! What a running node says of itself.

use samepath_dataplane::verdict::{DropClass, DropReason};

use super::machine::one_if;
use super::{Trouble, trouble};
use crate::config::XdpMode;
use crate::host::{Case, Node};

/// Drivers that can give packets away without copying them (Linux 6.x, drivers/net with `xsk_pool`).
const ZERO_COPY: [&str; 10] =
    ["i40e", "ice", "igb", "igc", "ixgbe", "mlx5_core", "nfp", "stmmac", "dpaa2-eth", "virtio_net"];

fn node(case: &Case) -> Option<&Node> {
    case.node.as_ref()
}

pub(super) fn mute(case: &Case) -> Vec<Trouble> {
    case.mute
        .iter()
        .map(|why| trouble(why, "systemctl restart samepath@NAME, or look into its log (journalctl -u)"))
        .collect()
}

pub(super) fn not_ready(case: &Case) -> Vec<Trouble> {
    let obstacles = node(case).filter(|node| !node.status.ready).map(|node| node.status.obstacles.clone());
    obstacles
        .map(|obstacles| {
            let why = if obstacles.is_empty() { "it has just started".into() } else { obstacles.join("; ") };
            trouble(
                format!("the node runs and takes no flows: {why}"),
                "samepath status   (it lists what is in the way)",
            )
        })
        .into_iter()
        .collect()
}

pub(super) fn warns(case: &Case) -> Vec<Trouble> {
    let warnings = node(case).map(|node| node.status.warnings.clone()).unwrap_or_default();
    warnings
        .into_iter()
        .map(|warning| {
            let (cause, remedy) = parted(&warning);
            trouble(format!("the node warns: {cause}"), remedy)
        })
        .collect()
}

/// A warning's cause and its remedy, which is behind the last semicolon, or behind a colon as a command to run.
fn parted(warning: &str) -> (&str, &str) {
    let command = warning.rsplit_once(": ").filter(|(_, remedy)| remedy.starts_with("run "));
    warning.rsplit_once("; ").or(command).unwrap_or((warning, "samepath status"))
}

pub(super) fn not_confined(case: &Case) -> Vec<Trouble> {
    one_if(
        node(case).is_some_and(|node| node.status.landlock == "absent"),
        "the kernel does not confine the node's files (Landlock): whoever took it over could use any that its user may",
        "the node's log says why; lsm=landlock,… on the kernel's command line, or --landlock off if nothing is missed",
    )
}

pub(super) fn peers(case: &Case) -> Vec<Trouble> {
    let Some(node) = node(case) else { return Vec::new() };
    let away =
        node.members.members.iter().filter(|member| !(member.is_self || member.live && member.connected));
    away.map(|member| {
        let heard = match member.last_heard_ms {
            Some(ms) => format!("last heard {ms} ms ago"),
            None => "never heard".into(),
        };
        let refused = member.refused.as_ref().map(|why| format!(", refused: {why}")).unwrap_or_default();
        let cause = format!(
            "peer {} ({}) is no member: {}, {heard}{refused}",
            member.node, member.address, member.state
        );
        trouble(
            cause,
            format!(
                "ping {0}; on that node `samepath doctor`; UDP ports 6081 and 6082 between both",
                member.address
            ),
        )
    })
    .collect()
}

pub(super) fn generic(case: &Case) -> Vec<Trouble> {
    let interfaces = node(case).map(|node| node.status.interfaces.clone()).unwrap_or_default();
    let generic = interfaces.into_iter().filter(|one| one.xdp_mode == "generic");
    generic
        .map(|one| {
            let cause = format!("interface {} runs in generic mode: several times slower, and joined packets are lost without a count", one.name);
            trouble(cause, format!("ethtool -i {}   (a driver with native XDP), then --xdp-mode native; else ethtool -K {0} gro off lro off", one.name))
        })
        .collect()
}

pub(super) fn copies(case: &Case) -> Vec<Trouble> {
    let native = case.config.as_ref().is_some_and(|config| config.xdp_mode != XdpMode::Generic);
    let copies = |name: &str| {
        node(case).is_some_and(|node| {
            node.status
                .interfaces
                .iter()
                .any(|one| one.name == name && one.xdp_mode == "native" && !one.zero_copy)
        })
    };
    let ports = case
        .ports()
        .into_iter()
        .filter(|port| native && ZERO_COPY.contains(&port.link.driver.as_str()) && copies(&port.link.name));
    ports
        .map(|port| {
            let link = port.link;
            let cause = format!("interface {} ({}) copies packets although its driver knows zero-copy", link.name, link.driver);
            trouble(cause, format!("the node's log says why; often: ethtool -L {} combined N with N at most half of its queues", link.name))
        })
        .collect()
}

pub(super) fn demoted(case: &Case) -> Vec<Trouble> {
    let Some(node) = node(case) else { return Vec::new() };
    let demoted = node.stats.workers.iter().filter(|worker| worker.demotions > 0);
    demoted
        .map(|worker| {
            let cause = format!(
                "worker {} starved core {} and was made ordinary, {} times",
                worker.worker, worker.core, worker.demotions
            );
            trouble(cause, "give workers cores of their own (--cores, isolcpus), or --sched other")
        })
        .collect()
}

pub(super) fn rings(case: &Case) -> Vec<Trouble> {
    let Some(rings) = node(case).map(|node| node.stats.rings) else { return Vec::new() };
    let lost = rings.rx_ring_full + rings.fill_empty + rings.rx_dropped;
    let cause = format!(
        "the rings lost packets since the start: rx_ring_full {}, fill_empty {}, rx_dropped {}",
        rings.rx_ring_full, rings.fill_empty, rings.rx_dropped
    );
    one_if(
        lost > 0,
        cause,
        "--ring-size twice as large, or more workers; with --sched fifo if NAPI shares their cores (docs/tuning.md)",
    )
}

pub(super) fn drops(case: &Case) -> Vec<Trouble> {
    let Some(node) = node(case) else { return Vec::new() };
    let unexpected = DropReason::ALL.iter().filter(|reason| reason.class() == DropClass::ShouldBeZero);
    unexpected
        .filter_map(|reason| {
            let count = *node.stats.drops.get(reason.name()).filter(|count| **count > 0)?;
            let cause = format!(
                "{count} packets were dropped as `{}`, which should be zero: {}",
                reason.name(),
                reason.explanation()
            );
            Some(trouble(cause, "docs/operations.md, Drop reasons   (samepath stats --help)"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::parted;

    #[test]
    fn a_warning_has_its_remedy_last() {
        assert_eq!(parted("eth0 is down: run `ip link`"), ("eth0 is down", "run `ip link`"));
        assert_eq!(parted("too few: 3 (see: there); run `a: b`"), ("too few: 3 (see: there)", "run `a: b`"));
        assert_eq!(parted("--workers 3: some share"), ("--workers 3: some share", "samepath status"));
    }
}
