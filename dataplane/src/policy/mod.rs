//! The policy: ordered rules, first match wins. Immutable; published by control, adopted by workers between
//! bursts, asked once per flow.

mod axis;
mod classifier;
mod hits;
mod linear;
mod rule;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::session::timeouts::Timeouts;
use crate::settings::Settings;

use classifier::Classifier;
pub use classifier::TooManyRules;
pub use hits::{Hits, RuleHits};
pub use linear::Linear;
pub use rule::{ANY_ZONE, Action, Match, Question, Rule};

/// What the policy says of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// Index of the rule that matched; the number of rules if none did.
    pub rule: u32,
    /// What it says.
    pub action: Action,
    /// Index of the idle times of its sessions, 0 for the node's.
    pub terms: u8,
    /// Its sessions stay at the node where they begin.
    pub local: bool,
    /// Tell the log.
    pub log: bool,
}

impl Judgement {
    /// The flow may begin.
    pub fn allows(&self) -> bool {
        matches!(self.action, Action::Allow | Action::Service(_))
    }

    /// Number of the service its sessions go through, 0 for none.
    pub fn service(&self) -> u8 {
        match self.action {
            Action::Service(number) => number,
            Action::Allow | Action::Deny | Action::Reject => 0,
        }
    }
}

/// A compiled policy.
#[derive(Debug)]
pub struct Policy {
    /// Number of this policy in this process; 0: there is none, everything is allowed.
    pub number: u16,
    /// Names its contents: the same on all nodes with the same rules. 0: there is none.
    pub version: u32,
    outcomes: Vec<Judgement>,
    /// Idle times by terms.
    terms: Vec<Option<Timeouts>>,
    zones: u8,
    classifier: Classifier,
}

impl Policy {
    /// Compiles rules. `terms`: the idle times that rules name, behind those of the node itself (index 0).
    /// `zones`: the highest zone number of the node.
    pub fn new(
        (number, version): (u16, u32),
        rules: &[Rule],
        default: Action,
        terms: &[Timeouts],
        zones: u8,
    ) -> Result<Self, TooManyRules> {
        let of_rule = |(index, rule): (usize, &Rule)| Judgement {
            rule: index as u32,
            action: rule.action,
            terms: rule.terms,
            local: rule.local,
            log: rule.log,
        };
        let mut outcomes: Vec<Judgement> = rules.iter().enumerate().map(of_rule).collect();
        let rule = rules.len() as u32;
        outcomes.push(Judgement { rule, action: default, terms: 0, local: false, log: false });
        let terms = std::iter::once(None).chain(terms.iter().copied().map(Some)).collect();
        Ok(Self { number, version, outcomes, terms, zones, classifier: Classifier::new(rules)? })
    }

    /// No policy: every flow is allowed.
    pub fn none() -> Self {
        Self::new((0, 0), &[], Action::Allow, &[], 0).expect("no rules are not too many")
    }

    /// True if there is none.
    pub fn is_none(&self) -> bool {
        self.number == 0
    }

    /// Rules, the default not counted.
    pub fn rules(&self) -> usize {
        self.outcomes.len() - 1
    }

    /// Bytes the rules take.
    pub fn bytes(&self) -> usize {
        self.classifier.bytes() + self.outcomes.len() * size_of::<Judgement>()
    }

    /// What the first rule that matches says.
    pub fn judge(&self, question: &Question) -> Judgement {
        let rule = self.classifier.first(question).map_or(self.rules(), |rule| rule as usize);
        self.outcomes[rule]
    }

    /// The judgement of a flow of which it is not known in which zone it began: that of the first zone from
    /// which it may begin, else of the first zone.
    pub fn judge_from_anywhere(&self, question: &Question) -> Judgement {
        let from = |zone| self.judge(&Question { zone, ..*question });
        (1..=self.zones).map(from).find(Judgement::allows).unwrap_or_else(|| from(1))
    }
}

/// A policy as one worker has it.
#[derive(Debug)]
pub struct InForce {
    /// The policy.
    pub policy: Arc<Policy>,
    /// What this worker counts of each rule.
    pub hits: Arc<Hits>,
    /// By terms: settings of sessions that are brought to their Owner, and of those that stay.
    settings: Vec<[Settings; 2]>,
}

impl InForce {
    /// A policy with the settings that its sessions have.
    pub fn new(policy: Arc<Policy>, hits: Arc<Hits>, settings: &Settings) -> Self {
        let of_terms = |timeouts: &Option<Timeouts>| {
            let own = Settings { timeouts: timeouts.unwrap_or(settings.timeouts), ..settings.clone() };
            let local = Settings { aggregation: false, ..own.clone() };
            [own, local]
        };
        let settings = policy.terms.iter().map(of_terms).collect();
        Self { policy, hits, settings }
    }

    /// No policy.
    pub fn nothing(settings: &Settings) -> Self {
        Self::new(Arc::new(Policy::none()), Arc::new(Hits::new(0)), settings)
    }

    /// What sessions with these terms follow.
    pub fn settings(&self, terms: u8, local: bool) -> &Settings {
        let known = self.settings.get(usize::from(terms)).unwrap_or(&self.settings[0]);
        &known[usize::from(local)]
    }
}
