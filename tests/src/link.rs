//! Counters of one interface as the kernel keeps them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::netns::Namespace;

/// Packets on one interface since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are those of `ip -s link`")]
pub struct LinkCounters {
    pub rx_packets: u64,
    pub rx_dropped: u64,
    pub tx_packets: u64,
    pub tx_dropped: u64,
}

/// Reads the counters of every interface of a namespace.
pub fn all_counters(namespace: &Namespace) -> Result<BTreeMap<String, LinkCounters>> {
    let links: Vec<Value> = serde_json::from_str(&namespace.ip_output(&["-s", "-j", "link", "show"])?)?;
    links
        .iter()
        .map(|link| {
            let name = link["ifname"].as_str().context("an interface without a name")?;
            let read = |way: &str, what: &str| {
                let count = link["stats64"][way][what].as_u64();
                count.with_context(|| format!("no {way} {what} for {name}"))
            };
            let counters = LinkCounters {
                rx_packets: read("rx", "packets")?,
                rx_dropped: read("rx", "dropped")?,
                tx_packets: read("tx", "packets")?,
                tx_dropped: read("tx", "dropped")?,
            };
            Ok((name.to_owned(), counters))
        })
        .collect()
}

/// Reads one interface's counters.
pub fn counters(namespace: &Namespace, interface: &str) -> Result<LinkCounters> {
    let all = all_counters(namespace)?;
    let found = all.get(interface).copied();
    found.with_context(|| format!("{} has no interface {interface}", namespace.name()))
}
