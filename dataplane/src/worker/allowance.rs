//! So many per second, and at once.

use crate::clock::NowMs;

/// A bucket that fills evenly.
#[derive(Debug)]
pub(super) struct Allowance {
    per_s: u64,
    /// Thousandths of what may be taken now.
    thousandths: u64,
    filled: NowMs,
}

impl Allowance {
    /// `per_s` per second, and as many at once.
    pub(super) fn new(per_s: u64, now: NowMs) -> Self {
        Self { per_s, thousandths: per_s * 1000, filled: now }
    }

    /// Takes one; false if there is none.
    pub(super) fn take(&mut self, now: NowMs) -> bool {
        let gained = now.since(self.filled).min(1000) * self.per_s;
        self.thousandths = (self.thousandths + gained).min(self.per_s * 1000);
        self.filled = now;
        let taken = self.thousandths.checked_sub(1000);
        self.thousandths = taken.unwrap_or(self.thousandths);
        taken.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_then_evenly() {
        let mut allowance = Allowance::new(10, NowMs(5_000));
        let mut taken = |now: u64| (0..100).filter(|_| allowance.take(NowMs(now))).count();
        assert_eq!(taken(5_000), 10);
        assert_eq!(taken(5_000), 0);
        assert_eq!(taken(5_099), 0);
        assert_eq!(taken(5_100), 1);
        assert_eq!(taken(6_000), 9);
        assert_eq!(taken(1 << 40), 10, "no more than at once, however long nothing was taken");
    }
}
