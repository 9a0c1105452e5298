//! From rules as they are written to what workers ask.

use std::sync::Arc;

use ring::digest::{SHA256, digest};
use samepath_dataplane::policy::{ANY_ZONE, Action, Match, Policy, Rule};
use samepath_dataplane::session::timeouts::Timeouts;

use super::file::{PolicyFile, RuleText};
use super::{PolicyError, words};

/// Different sets of idle times a policy may have.
const TERMS_MAX: usize = 255;

/// A policy, ready for workers.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// As it was written.
    pub file: PolicyFile,
    /// As workers ask it.
    pub policy: Arc<Policy>,
    /// Names its contents: 16 hexadecimal digits, the same on all nodes with the same rules.
    pub digest: String,
}

impl Compiled {
    /// `number`: its number in this process, not 0. `zones` and `services`: the node's, in order of their numbers from 1 on.
    /// `timeouts`: the node's.
    pub fn new(
        number: u16,
        file: PolicyFile,
        (zones, services): (&[&str], &[&str]),
        timeouts: &Timeouts,
    ) -> Result<Self, PolicyError> {
        let digest = digest_of(&file);
        let mut terms: Vec<Timeouts> = Vec::new();
        let rules: Vec<Rule> = file
            .rules
            .iter()
            .map(|text| {
                let own = text.timeouts(timeouts).map(|own| index_of(&mut terms, own));
                rule(text, (zones, services), own.unwrap_or(0))
            })
            .collect();
        if terms.len() > TERMS_MAX {
            return Err(PolicyError(format!(
                "the policy has {} different sets of idle times: there is room for {TERMS_MAX}; let rules share some",
                terms.len()
            )));
        }
        let version = version_of(&digest);
        let policy = Policy::new((number, version), &rules, file.default, &terms, zones.len() as u8)
            .map_err(|error| PolicyError(error.to_string()))?;
        Ok(Self { file, policy: Arc::new(policy), digest })
    }
}

/// Terms begin at 1.
fn index_of(terms: &mut Vec<Timeouts>, own: Timeouts) -> u8 {
    let known = terms.iter().position(|one| *one == own).unwrap_or_else(|| {
        terms.push(own);
        terms.len() - 1
    });
    u8::try_from(known + 1).unwrap_or(u8::MAX)
}

fn rule(text: &RuleText, (zones, services): (&[&str], &[&str]), terms: u8) -> Rule {
    let number = |name| services.iter().position(|one| *one == name).map_or(0, |at| at as u8 + 1);
    let action = match text.action {
        Action::Service(_) => Action::Service(number(text.service.as_str())),
        other => other,
    };
    let bit = |zone: &String| zones.iter().position(|one| one == zone).map_or(0, |at| 1_u16 << (at + 1));
    Rule {
        zones: if text.from.is_empty() { ANY_ZONE } else { text.from.iter().map(bit).fold(0, |a, b| a | b) },
        source: text.source.clone(),
        destination: text.destination.clone(),
        matches: matches(text),
        action,
        terms,
        local: !text.aggregation,
        log: text.log,
    }
}

/// ICMP types differ by protocol, so each has a match of its own.
fn matches(text: &RuleText) -> Vec<Match> {
    if text.icmp.is_empty() {
        let (source_ports, destination_ports) = (text.source_port.clone(), text.destination_port.clone());
        return vec![Match { protocols: text.protocol.clone(), source_ports, destination_ports }];
    }
    let of = |protocol: u8| {
        let types = text.icmp.iter().filter(move |(of, _)| *of == protocol);
        let destination_ports = types.map(|(_, kind)| u16::from(*kind)..=u16::from(*kind)).collect();
        Match { protocols: vec![protocol], destination_ports, ..Match::default() }
    };
    let mut protocols: Vec<u8> = text.protocol.iter().copied().filter(|one| words::is_icmp(*one)).collect();
    protocols.sort_unstable();
    protocols.dedup();
    protocols.into_iter().map(of).collect()
}

fn digest_of(file: &PolicyFile) -> String {
    let canonical = serde_json::to_vec(file).expect("a policy has nothing JSON cannot say");
    digest(&SHA256, &canonical).as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first half of the digest, not 0.
fn version_of(digest: &str) -> u32 {
    u32::from_str_radix(&digest[..8], 16).map_or(1, |version| version.max(1))
}
