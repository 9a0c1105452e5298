//! What an operator may set against floods of new flows. See `docs/tuning.md`.

use crate::limits::HALF_OPEN_PERCENT;

/// A token bucket: so many per second, and so many at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Per second.
    pub per_second: u32,
    /// At once, after a time of rest.
    pub burst: u32,
}

impl Rate {
    /// Highest rate and largest burst: what fits the meters' words.
    pub const MOST: u32 = 4_000_000;

    /// As many at once as per second.
    pub const fn even(per_second: u32) -> Self {
        Self { per_second, burst: per_second }
    }

    /// The part of one of `workers` that share it; flows are spread over them evenly.
    pub fn share(self, workers: usize) -> Self {
        let part = |whole: u32| whole.div_ceil(workers.max(1) as u32);
        Self { per_second: part(self.per_second), burst: part(self.burst) }
    }
}

/// The limits of new flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Floods {
    /// Sessions that give way to new ones, at most, per cent of the table.
    pub half_open_percent: u8,
    /// New flows of this node.
    pub new_flows: Option<Rate>,
    /// New flows from one source prefix.
    pub per_prefix: Option<Rate>,
    /// Bits of an IPv4 source address that make a prefix.
    pub prefix_v4: u8,
    /// Bits of an IPv6 source address that make a prefix.
    pub prefix_v6: u8,
}

impl Default for Floods {
    fn default() -> Self {
        Self {
            half_open_percent: HALF_OPEN_PERCENT,
            new_flows: None,
            per_prefix: None,
            prefix_v4: 24,
            prefix_v6: 48,
        }
    }
}
