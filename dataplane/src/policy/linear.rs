//! The plainest way to ask a policy: one rule after the other. What the classifier is tested and measured
//! against.

use super::rule::{Question, Rule};

/// Rules in order.
#[derive(Clone, Debug)]
pub struct Linear(pub Vec<Rule>);

impl Linear {
    /// Index of the first rule that matches.
    pub fn first(&self, question: &Question) -> Option<u32> {
        self.0.iter().position(|rule| rule.matches(question)).map(|rule| rule as u32)
    }
}
