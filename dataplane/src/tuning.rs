//! What an operator may set about how workers use their core and memory. See `docs/tuning.md`.

use crate::detours::PrefixLengths;
use crate::floods::{Floods, Rate};
use crate::limits::{BURST, ICMP_RATE};

/// What a worker does when it finds no work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Idle {
    /// It looks again at once and never sleeps: the core is its own.
    Spin,
    /// It looks again for a few microseconds, if that has paid lately, then sleeps in `poll`.
    #[default]
    Adaptive,
    /// It sleeps in `poll`.
    Sleep,
}

impl Idle {
    /// All of them by the name an operator writes.
    pub const NAMES: [(&'static str, Idle); 3] =
        [("spin", Idle::Spin), ("adaptive", Idle::Adaptive), ("sleep", Idle::Sleep)];

    /// The name an operator writes.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, idle)| *idle == self).map_or("", |(name, _)| name)
    }
}

/// Whether memory comes from the reserved pool of huge pages (`vm.nr_hugepages`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HugePages {
    /// It must.
    On,
    /// It does not.
    Off,
    /// It does if the pool has enough, otherwise ordinary pages serve.
    #[default]
    Auto,
}

impl HugePages {
    /// All of them by the name an operator writes.
    pub const NAMES: [(&'static str, HugePages); 3] =
        [("on", HugePages::On), ("off", HugePages::Off), ("auto", HugePages::Auto)];
}

/// What a worker's loop reads of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuning {
    /// Packets taken from one ring per turn.
    pub batch: usize,
    /// What is done when there is no work.
    pub idle: Idle,
    /// How many new flows there may be.
    pub floods: Floods,
    /// ICMP errors of this node's own, of all workers together; `None`: none.
    pub icmp: Option<Rate>,
    /// By what packets that make a detour are told apart.
    pub detours: PrefixLengths,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            batch: BURST,
            idle: Idle::default(),
            floods: Floods::default(),
            icmp: Some(ICMP_RATE),
            detours: PrefixLengths::default(),
        }
    }
}
