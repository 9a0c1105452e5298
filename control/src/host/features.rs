//! What `ethtool -k`, `-l`, `-g` and `-i` print.

use std::collections::BTreeMap;

use super::{Channels, RxRing};

/// An offload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Feature {
    /// It is on.
    pub on: bool,
    /// It cannot be changed.
    pub fixed: bool,
}

/// `name: on [fixed]` per line.
pub(super) fn features(text: &str) -> BTreeMap<String, Feature> {
    let lines = text.lines().filter_map(|line| {
        let (name, value) = line.trim().split_once(": ")?;
        let on = value.starts_with("on");
        (on || value.starts_with("off"))
            .then(|| (name.to_owned(), Feature { on, fixed: value.contains("[fixed]") }))
    });
    lines.collect()
}

/// Number behind `name:` in the part of the text before (`true`) or after the current settings begin.
fn number(text: &str, maximum: bool, name: &str) -> Option<u32> {
    let (most, now) = text.split_once("Current hardware settings:")?;
    let part = if maximum { most } else { now };
    part.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

/// `ethtool -l`.
pub(super) fn channels(text: &str) -> Option<Channels> {
    let count = |maximum, name| number(text, maximum, name).unwrap_or(0);
    let channels = Channels {
        rx: count(false, "RX"),
        rx_most: count(true, "RX"),
        tx: count(false, "TX"),
        combined: count(false, "Combined"),
        combined_most: count(true, "Combined"),
    };
    (channels.rx_most + channels.combined_most > 0).then_some(channels)
}

/// `ethtool -g`.
pub(super) fn rx_ring(text: &str) -> Option<RxRing> {
    Some(RxRing { size: number(text, false, "RX")?, most: number(text, true, "RX")? })
}

/// `ethtool -i`.
pub(super) fn driver(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("driver: ")).map(|name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNELS: &str = "Channel parameters for eth0:\nPre-set maximums:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\n\
        Combined:\t63\nCurrent hardware settings:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t8\n";

    #[test]
    fn what_ethtool_prints_is_read() {
        let channels = channels(CHANNELS).unwrap();
        assert_eq!((channels.combined, channels.combined_most, channels.rx_most), (8, 63, 0));
        assert_eq!(super::channels("netlink error: Operation not supported\n"), None);

        let ring = "Ring parameters for eth0:\nPre-set maximums:\nRX:\t\t4096\nRX Mini:\tn/a\nTX:\t\t4096\n\
                    Current hardware settings:\nRX:\t\t512\nRX Mini:\tn/a\nTX:\t\t512\n";
        assert_eq!(rx_ring(ring), Some(RxRing { size: 512, most: 4096 }));

        let features = features("Features for eth0:\nrx-vlan-offload: on\n\trx-gro-hw: off [fixed]\n");
        assert_eq!(features["rx-vlan-offload"], Feature { on: true, fixed: false });
        assert_eq!(features["rx-gro-hw"], Feature { on: false, fixed: true });
        assert_eq!(features.len(), 2);
    }
}
