//! What one worker counts of each rule: written by that worker alone, read by control at any time.

use crate::counters::Counter;
use crate::policy::Judgement;

/// Counters of one rule.
#[derive(Debug, Default)]
pub struct RuleHits {
    /// Packets the rule was the answer for: first packets, and every packet it refused.
    pub packets: Counter,
    /// Sessions it let begin.
    pub flows: Counter,
}

/// Counters of all rules, the default behind them.
#[derive(Debug)]
pub struct Hits(Vec<RuleHits>);

impl Hits {
    /// For this many rules.
    pub fn new(rules: usize) -> Self {
        Self((0..=rules).map(|_| RuleHits::default()).collect())
    }

    /// All of them, in order of the rules.
    pub fn all(&self) -> &[RuleHits] {
        &self.0
    }

    pub(crate) fn refused(&self, judgement: &Judgement) {
        self.of(judgement).packets.add(1);
    }

    pub(crate) fn began(&self, judgement: &Judgement) {
        let hits = self.of(judgement);
        hits.packets.add(1);
        hits.flows.add(1);
    }

    fn of(&self, judgement: &Judgement) -> &RuleHits {
        &self.0[(judgement.rule as usize).min(self.0.len() - 1)]
    }
}
