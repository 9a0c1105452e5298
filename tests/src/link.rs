//! Counters of one interface as the kernel keeps them.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

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

/// Reads the counters of every interface of a namespace. From /proc, because starting a program takes long
/// enough for more packets to arrive.
pub fn all_counters(namespace: &Namespace) -> Result<BTreeMap<String, LinkCounters>> {
    let text = namespace.enter(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
    text.lines().skip(2).map(|line| read(line).with_context(|| format!("/proc/net/dev: {line}"))).collect()
}

/// One line of proc_pid_net(5)'s `dev`: name, eight receive counters, eight transmit counters.
fn read(line: &str) -> Result<(String, LinkCounters)> {
    let (name, counters) = line.split_once(':').context("no name")?;
    let counters: Vec<u64> = counters.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let at = |index: usize| counters.get(index).copied().context("too few counters");
    let counters =
        LinkCounters { rx_packets: at(1)?, rx_dropped: at(3)?, tx_packets: at(9)?, tx_dropped: at(11)? };
    Ok((name.trim().to_owned(), counters))
}

/// Reads one interface's counters.
pub fn counters(namespace: &Namespace, interface: &str) -> Result<LinkCounters> {
    let all = all_counters(namespace)?;
    let found = all.get(interface).copied();
    found.with_context(|| format!("{} has no interface {interface}", namespace.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_net_dev_is_read() {
        let line = "  eth0: 1296 16 1 2 3 4 5 6 880 10 11 12 13 14 15 16";
        let (name, counters) = read(line).unwrap();
        assert_eq!(name, "eth0");
        assert_eq!((counters.rx_packets, counters.rx_dropped), (16, 2));
        assert_eq!((counters.tx_packets, counters.tx_dropped), (10, 12));
        assert!(read("eth0: 1 2").is_err());
    }
}
