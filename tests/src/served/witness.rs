//! What a service's link carries of connections' beginnings: counters beside the service, which decide nothing.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use crate::netns::Namespace;
use crate::program;

const COUNTERS: &str = "
table inet witness {
    counter syn_in { }
    counter answer_in { }
    counter answer_out { }
    chain in {
        type filter hook prerouting priority -310
        iifname eth0 tcp flags & (syn | ack) == syn counter name syn_in
        iifname eth0 tcp flags & (syn | ack) == (syn | ack) counter name answer_in
    }
    chain out {
        type filter hook postrouting priority 310
        oifname eth0 tcp flags & (syn | ack) == (syn | ack) counter name answer_out
    }
}";

/// Packets on a service's link; copies sent again are counted too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Seen {
    /// SYNs that came to it.
    pub syn_in: u64,
    /// SYN-ACKs that came to it.
    pub answer_in: u64,
    /// SYN-ACKs that came from it.
    pub answer_out: u64,
}

/// Begins to count in a service's namespace.
pub fn watch(space: &Namespace) -> Result<()> {
    space.nft(COUNTERS)
}

/// What was counted so far.
pub fn read(space: &Namespace) -> Result<Seen> {
    let mut nft = space.command("nft");
    let listed: Value = serde_json::from_str(&program::run(
        nft.args(["-j", "list", "counters", "table", "inet", "witness"]),
    )?)?;
    let items = listed["nftables"].as_array().context("nft listed no counters")?;
    let packets = |name: &str| {
        let counter = items.iter().map(|item| &item["counter"]).find(|counter| counter["name"] == name);
        counter.and_then(|counter| counter["packets"].as_u64()).with_context(|| format!("no counter {name}"))
    };
    Ok(Seen {
        syn_in: packets("syn_in")?,
        answer_in: packets("answer_in")?,
        answer_out: packets("answer_out")?,
    })
}
