//! New flows are counted by source prefix before anybody is asked about them: token buckets in an array of fixed size.
//!
//! ```text
//! prefix ─ keyed hash ─► set of four: | tag, tokens, since when | … | … | … |
//! ```
//!
//! A prefix that is in none of its four places takes the one with the most tokens, and goes on with these: one that has
//! rested for long has all it may have, so nobody gains and nobody loses. If all four are in use the newcomer shares
//! the best; random sources cannot make room for a prefix that is over its limit.

use std::net::IpAddr;

use ahash::RandomState;

use super::allowance::{Allowance, Bucket};
use crate::clock::NowMs;
use crate::floods::{Floods, Rate};
use crate::flow::{Direction, FlowKey};
use crate::limits::METER_SETS;
use crate::verdict::DropReason;

/// Prefixes that may stand in one place.
const WAYS: usize = 4;

/// The meters of one worker.
#[derive(Debug)]
pub(super) struct Meter {
    floods: Floods,
    random: RandomState,
    all: Option<Allowance>,
    sets: Vec<[Bucket; WAYS]>,
}

impl Meter {
    /// For one of `workers`.
    pub(super) fn new(floods: Floods, workers: usize) -> Self {
        let share = |rate: Option<Rate>| rate.map(|rate| rate.share(workers));
        let all = share(floods.new_flows).map(Allowance::new);
        let floods = Floods { per_prefix: share(floods.per_prefix), ..floods };
        let sets = if floods.per_prefix.is_some() { METER_SETS } else { 0 };
        Self { floods, random: RandomState::new(), all, sets: vec![[Bucket::default(); WAYS]; sets] }
    }

    /// A packet that may begin a flow has come: may it?
    pub(super) fn admit(
        &mut self,
        key: &FlowKey,
        direction: Direction,
        now: NowMs,
    ) -> Result<(), DropReason> {
        if let Some(rate) = &self.floods.per_prefix {
            let prefix = self.prefix(key, direction);
            let hash = self.random.hash_one(prefix);
            let set = &mut self.sets[hash as usize % METER_SETS];
            let tag = (hash >> 32) as u32 | 1;
            let known = set.iter().position(|bucket| bucket.is_of(tag));
            let at = known.unwrap_or_else(|| fullest(set, rate, now));
            if !set[at].take(tag, rate, now) {
                return Err(DropReason::PrefixRate);
            }
        }
        let taken = self.all.as_mut().is_none_or(|all| all.take(now));
        if taken { Ok(()) } else { Err(DropReason::NewFlowRate) }
    }

    /// The source's prefix, as the high bits of a number.
    fn prefix(&self, key: &FlowKey, direction: Direction) -> u128 {
        let address = match key.source(direction).0 {
            IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
            IpAddr::V6(address) => u128::from(address),
        };
        let bits = if key.is_ipv4() { 96 + self.floods.prefix_v4 } else { self.floods.prefix_v6 };
        address.checked_shr(128 - u32::from(bits)).unwrap_or(0)
    }
}

fn fullest(set: &[Bucket; WAYS], rate: &Rate, now: NowMs) -> usize {
    (0..WAYS).max_by_key(|&at| set[at].tokens(rate, now)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{key_bytes, proto};

    fn meter(floods: Floods) -> Meter {
        Meter::new(floods, 1)
    }

    fn per_prefix(per_second: u32, burst: u32) -> Floods {
        Floods { per_prefix: Some(Rate { per_second, burst }), ..Floods::default() }
    }

    /// New flows of a source that are admitted of `count` that come at once.
    fn admitted(meter: &mut Meter, source: &str, count: usize, now: u64) -> usize {
        let source = (key_bytes(source.parse().unwrap()), 1000);
        let to = if source.0[..10] == [0; 10] { "203.0.113.9" } else { "2001:db8:ffff::9" };
        let destination = (key_bytes(to.parse().unwrap()), 80);
        let (key, direction) = FlowKey::new(source, destination, proto::TCP, (0, 0));
        (0..count).filter(|_| meter.admit(&key, direction, NowMs(now)).is_ok()).count()
    }

    #[test]
    fn a_prefix_gets_its_burst_then_its_rate_and_others_are_not_touched() {
        let mut meter = meter(per_prefix(100, 20));
        assert_eq!(admitted(&mut meter, "192.0.2.1", 50, 10_000), 20);
        assert_eq!(admitted(&mut meter, "192.0.2.77", 50, 10_000), 0, "the same /24");
        assert_eq!(admitted(&mut meter, "192.0.3.1", 50, 10_000), 20, "another /24");
        assert_eq!(admitted(&mut meter, "192.0.2.1", 50, 10_100), 10, "a tenth of a second later");
        assert_eq!(admitted(&mut meter, "192.0.2.1", 50, 90_000), 20, "no more than the burst after a rest");
        assert_eq!(admitted(&mut meter, "2001:db8:1:2::1", 50, 10_000), 20);
        assert_eq!(admitted(&mut meter, "2001:db8:1:3::1", 50, 10_000), 0, "the same /48");
        assert_eq!(admitted(&mut meter, "2001:db8:2::1", 50, 10_000), 20, "another /48");
    }

    #[test]
    fn prefixes_are_as_long_as_they_were_set() {
        for (prefix_v4, other) in [(32, "192.0.2.2"), (16, "192.1.0.1"), (0, "")] {
            let mut meter = meter(Floods { prefix_v4, ..per_prefix(1, 5) });
            assert_eq!(admitted(&mut meter, "192.0.2.1", 9, 0), 5);
            match other {
                "" => assert_eq!(admitted(&mut meter, "198.51.100.1", 9, 0), 0, "all sources are one"),
                other => assert_eq!(admitted(&mut meter, other, 9, 0), 5),
            }
        }
    }

    #[test]
    fn random_sources_make_no_room_for_one_that_is_over_its_limit() {
        let mut meter = meter(per_prefix(10, 10));
        assert_eq!(admitted(&mut meter, "192.0.2.1", 50, 0), 10);
        for n in 0..200_000_u32 {
            let source = std::net::Ipv4Addr::from(0x0a00_0000 + (n << 8));
            admitted(&mut meter, &source.to_string(), 1, 0);
        }
        assert!(admitted(&mut meter, "192.0.2.1", 50, 0) <= 10, "at most what another one had left");
        let memory = meter.sets.len() * size_of::<[Bucket; WAYS]>();
        assert!(memory <= 1 << 20, "{memory} bytes");
    }

    #[test]
    fn all_new_flows_together_have_a_limit_and_workers_share_it() {
        let floods = Floods { new_flows: Some(Rate { per_second: 1000, burst: 300 }), ..Floods::default() };
        let mut third = Meter::new(floods, 3);
        let mut all = 0;
        for n in 0..200 {
            all += admitted(&mut third, &format!("10.0.{n}.1"), 1, 0);
        }
        assert_eq!(all, 100);
        let unlimited =
            (0..1000).map(|_| admitted(&mut meter(Floods::default()), "10.0.0.1", 1, 0)).sum::<usize>();
        assert_eq!(unlimited, 1000, "off unless it is asked for");
    }
}
