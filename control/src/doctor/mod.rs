//! `samepath doctor`: what is wrong with a host, in words, with the command that mends it.
//!
//! [`CHECKS`] is the list (docs/doctor.md has the same): each check is a pure look at a [`Case`], which was read
//! once. A check that cannot see says nothing; what it could not see for lack of a program is a finding itself.

mod config;
mod interface;
mod machine;
mod memory;
mod network;
mod node;
mod print;
#[cfg(test)]
mod tests;
mod veth;
mod workers;

use serde::Serialize;

pub use print::{exit_code, print};
pub(crate) use workers::{saving_governor, shared_core};

use crate::host::Case;

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The node does not start, or packets are lost.
    Error,
    /// Something works less well, or will not for long.
    Warning,
    /// It could be faster or tidier.
    Hint,
}

impl Severity {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Hint => "hint",
        }
    }
}

/// Something a check looks for.
pub struct Check {
    /// Its name, for good.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    look: fn(&Case) -> Vec<Trouble>,
}

/// What a check saw.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Trouble {
    /// What was found.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
}

/// One for `troubles` of a check.
pub(crate) fn trouble(cause: impl Into<String>, remedy: impl Into<String>) -> Trouble {
    Trouble { cause: cause.into(), remedy: remedy.into() }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// The check's name.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, with what was found.
    pub cause: String,
    /// The command or setting that mends it.
    pub remedy: String,
}

const fn error(id: &'static str, look: fn(&Case) -> Vec<Trouble>) -> Check {
    Check { id, severity: Severity::Error, look }
}

const fn warning(id: &'static str, look: fn(&Case) -> Vec<Trouble>) -> Check {
    Check { id, severity: Severity::Warning, look }
}

const fn hint(id: &'static str, look: fn(&Case) -> Vec<Trouble>) -> Check {
    Check { id, severity: Severity::Hint, look }
}

/// All checks, grouped by what they look at.
pub const CHECKS: &[Check] = &[
    error("config-refused", config::refused),
    error("keys-unusable", config::keys),
    warning("certificate-ends", config::certificate),
    hint("ca-key-on-node", config::ca_key),
    error("policy-unusable", config::policy),
    hint("program-missing", machine::programs),
    error("kernel-old", machine::kernel),
    warning("bpf-jit-off", machine::jit),
    warning("bpffs-absent", machine::bpffs),
    warning("clock-unsynchronised", machine::clock),
    error("capability-missing", machine::capabilities),
    error("memlock-low", memory::locked),
    warning("open-files-low", memory::open_files),
    error("huge-pages-missing", memory::huge_needed),
    warning("huge-pages-few", memory::huge_wanted),
    error("core-absent", workers::absent),
    warning("workers-share-core", workers::share),
    hint("workers-on-siblings", workers::siblings),
    hint("memory-far", workers::far),
    warning("core-not-isolated", workers::not_isolated),
    warning("governor-saves", workers::governor),
    warning("irqbalance-runs", workers::irqbalance),
    hint("interrupts-on-workers", workers::interrupts),
    error("interface-absent", interface::absent),
    warning("interface-down", interface::down),
    warning("carrier-absent", interface::carrier),
    error("mtu-too-large", interface::mtu),
    error("xdp-foreign", interface::foreign),
    warning("xdp-left-behind", interface::left_behind),
    error("queues-many", interface::queues_many),
    hint("queues-few", interface::queues_few),
    hint("rss-asymmetric", interface::rss),
    hint("rx-ring-small", interface::ring),
    error("lro-on", interface::lro),
    error("gro-hw-on", interface::gro_hw),
    error("gro-generic", interface::gro_generic),
    hint("vlan-stripped", interface::vlan),
    error("veth-queues", veth::queues),
    warning("veth-peer-deaf", veth::deaf),
    warning("veth-peer-offloads", veth::offloads),
    hint("veth-peer-elsewhere", veth::elsewhere),
    warning("cluster-mtu-small", network::cluster_mtu),
    error("cluster-address-absent", network::cluster_address),
    error("peer-route", network::peer_route),
    warning("neighbour-silent", network::neighbours),
    warning("data-route-absent", network::data_routes),
    warning("rp-filter-strict", network::rp_filter),
    warning("forwarding-unguarded", network::forwarding_on),
    warning("forwarding-off", network::forwarding_off),
    error("port-taken", network::port_taken),
    error("port-blocked", network::port_blocked),
    warning("filter-bypassed", network::bypassed),
    hint("conntrack-busy", network::conntrack),
    error("node-mute", node::mute),
    warning("node-not-ready", node::not_ready),
    warning("node-warns", node::warns),
    hint("landlock-absent", node::not_confined),
    warning("peer-away", node::peers),
    warning("xdp-generic", node::generic),
    hint("copy-mode", node::copies),
    warning("worker-demoted", node::demoted),
    warning("rings-overflow", node::rings),
    warning("drops-unexpected", node::drops),
];

/// All that is wrong, the worst first.
pub fn examine(case: &Case) -> Vec<Finding> {
    let mut findings: Vec<Finding> = CHECKS
        .iter()
        .flat_map(|check| {
            (check.look)(case).into_iter().map(|Trouble { cause, remedy }| Finding {
                id: check.id,
                severity: check.severity,
                cause,
                remedy,
            })
        })
        .collect();
    findings.sort_by_key(|finding| finding.severity);
    findings
}
