//! Token buckets: so many per second, and so many at once.

use crate::clock::NowMs;
use crate::floods::Rate;

/// A token is one packet; they are counted in thousandths, so that a millisecond of one per second is one.
const TOKEN: u32 = 1000;

/// One bucket, of whoever has this tag.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// 0: never used.
    tag: u32,
    /// Thousandths that were there at `at`.
    tokens: u32,
    /// Low half of the time, ms.
    at: u32,
}

impl Bucket {
    /// True if `tag` took from it last.
    pub(super) fn is_of(&self, tag: u32) -> bool {
        self.tag == tag
    }

    /// What is there now.
    pub(super) fn tokens(&self, rate: &Rate, now: NowMs) -> u32 {
        if self.tag == 0 {
            return rate.burst * TOKEN;
        }
        // After 49 days of rest the low half may look young: a bucket that is not full is then full soon.
        let gained = u64::from((now.0 as u32).wrapping_sub(self.at)) * u64::from(rate.per_second);
        (u64::from(self.tokens) + gained).min(u64::from(rate.burst * TOKEN)) as u32
    }

    /// Takes a token for `tag`; false if there is none.
    pub(super) fn take(&mut self, tag: u32, rate: &Rate, now: NowMs) -> bool {
        let tokens = self.tokens(rate, now);
        let left = tokens.checked_sub(TOKEN);
        *self = Self { tag, tokens: left.unwrap_or(tokens), at: now.0 as u32 };
        left.is_some()
    }
}

/// A bucket of one's own.
#[derive(Debug)]
pub(super) struct Allowance {
    rate: Rate,
    bucket: Bucket,
}

impl Allowance {
    /// Full.
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, bucket: Bucket::default() }
    }

    /// So many are there.
    pub(super) fn left(&self, now: NowMs) -> u32 {
        self.bucket.tokens(&self.rate, now) / TOKEN
    }

    /// Takes one; false if there is none.
    pub(super) fn take(&mut self, now: NowMs) -> bool {
        self.bucket.take(1, &self.rate, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_then_evenly() {
        let mut allowance = Allowance::new(Rate::even(10));
        let mut taken = |now: u64| (0..100).filter(|_| allowance.take(NowMs(now))).count();
        assert_eq!(taken(5_000), 10);
        assert_eq!(taken(5_000), 0);
        assert_eq!(taken(5_099), 0);
        assert_eq!(taken(5_100), 1);
        assert_eq!(taken(6_000), 9);
        assert_eq!(taken(1 << 40), 10, "no more than at once, however long nothing was taken");
    }
}
