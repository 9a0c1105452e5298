//! The policy of a running node: loaded, replaced as a whole or not at all, counted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use samepath_dataplane::flow::{address_of, proto};
use samepath_dataplane::mailbox::ToWorker;
use samepath_dataplane::policy::{Hits, InForce, Judgement, Policy, Question};
use samepath_dataplane::settings::Settings;

use super::Node;
use crate::config::{Config, values};
use crate::operator::api::{PolicyReply, PolicyRule, Reply};
use crate::operator::why::RuleSaid;
use crate::policy::{Compiled, PolicyError, PolicyFile};

/// Name of the counters of flows that no rule matched; no rule can have it.
const DEFAULT: &str = "(default)";

/// What a rule was the answer for.
#[derive(Clone, Copy, Default)]
struct Sum {
    packets: u64,
    flows: u64,
}

/// Counters of a policy: one set per worker.
struct Counted {
    names: Vec<String>,
    hits: Vec<Arc<Hits>>,
}

/// The policy in force, and what is left of those before it.
pub(super) struct InForceHere {
    file: Option<PathBuf>,
    zones: Vec<String>,
    services: Vec<String>,
    compiled: Option<Compiled>,
    /// The last one is in force; workers may still hold those before it.
    counted: Vec<Counted>,
    /// Sums of rules whose counters nobody holds any longer, by name.
    before: BTreeMap<String, Sum>,
    number: u16,
    /// Why the last reload changed nothing.
    failed: Option<String>,
}

impl InForceHere {
    /// Loads the policy the node starts with.
    pub(super) fn start(config: &Config, workers: usize) -> Result<Self, PolicyError> {
        let mut here = Self {
            file: config.policy.clone(),
            zones: config.zones(),
            services: config.service_names(),
            compiled: None,
            counted: Vec::new(),
            before: BTreeMap::new(),
            number: 0,
            failed: None,
        };
        if here.file.is_some() {
            here.load(config)?;
        }
        here.count(workers);
        Ok(here)
    }

    /// Reads the file and makes it the policy; nothing changes if that fails.
    fn load(&mut self, config: &Config) -> Result<(), PolicyError> {
        let Some(path) = &self.file else {
            return Err(PolicyError(
                "this node has no policy file: every flow is allowed; start it with --policy FILE".into(),
            ));
        };
        let zones: Vec<&str> = self.zones.iter().map(String::as_str).collect();
        let services: Vec<&str> = self.services.iter().map(String::as_str).collect();
        let file = PolicyFile::read(path, Some(&zones), Some(&services))?;
        let number = self.number.checked_add(1).unwrap_or(1);
        let compiled = Compiled::new(number, file, (&zones, &services), &config.timeouts)
            .map_err(|error| PolicyError(format!("{}: {error}", path.display())))?;
        (self.number, self.compiled) = (number, Some(compiled));
        Ok(())
    }

    /// New counters for the policy in force.
    fn count(&mut self, workers: usize) {
        let rules = self.compiled.iter().flat_map(|compiled| &compiled.file.rules);
        let mut names: Vec<String> = rules.map(|rule| rule.name.clone()).collect();
        let hits = (0..workers).map(|_| Arc::new(Hits::new(names.len()))).collect();
        names.push(DEFAULT.into());
        self.counted.push(Counted { names, hits });
        self.fold();
    }

    /// Counters that no worker holds any longer are added up.
    fn fold(&mut self) {
        let last = self.counted.len().saturating_sub(1);
        let done = |set: &Counted| set.hits.iter().all(|hits| Arc::strong_count(hits) == 1);
        let (mut kept, mut sums) = (Vec::new(), std::mem::take(&mut self.before));
        for (at, set) in self.counted.drain(..).enumerate() {
            if at < last && done(&set) { set.add_to(&mut sums) } else { kept.push(set) }
        }
        (self.counted, self.before) = (kept, sums);
    }

    fn sums(&self) -> BTreeMap<String, Sum> {
        let mut sums = self.before.clone();
        self.counted.iter().for_each(|set| set.add_to(&mut sums));
        sums
    }

    fn policy(&self) -> Arc<Policy> {
        self.compiled.as_ref().map_or_else(|| Arc::new(Policy::none()), |compiled| compiled.policy.clone())
    }

    /// What each worker gets, with these settings.
    pub(super) fn for_workers(&self, settings: &Settings) -> Vec<Arc<InForce>> {
        let policy = self.policy();
        let hits = self.counted.last().into_iter().flat_map(|set| &set.hits);
        hits.map(|hits| Arc::new(InForce::new(policy.clone(), hits.clone(), settings))).collect()
    }

    /// Names the contents of the policy; empty without one.
    pub(super) fn digest(&self) -> String {
        self.compiled.as_ref().map_or_else(String::new, |compiled| compiled.digest.clone())
    }

    /// What peers are told of the policy with this number: its version.
    pub(super) fn version_of(&self, number: u16) -> u32 {
        let policy = self.compiled.iter().map(|compiled| &compiled.policy).find(|one| one.number == number);
        policy.map_or(0, |policy| policy.version)
    }

    /// Its version, 0 without one.
    pub(super) fn version(&self) -> u32 {
        self.version_of(self.number)
    }

    /// What the policy with this number says by a judgement; `None` if it is in force no longer.
    pub(super) fn said(&self, number: u16, judgement: &Judgement) -> Option<RuleSaid> {
        let compiled = self.compiled.as_ref().filter(|one| one.policy.number == number)?;
        let rule = compiled.file.rules.get(judgement.rule as usize);
        Some(RuleSaid {
            rule: rule.map(|rule| rule.name.clone()),
            line: rule.map_or(0, |rule| rule.line),
            action: rule
                .map_or_else(|| judgement.action.name().into(), |rule| rule.action_text().to_string()),
            digest: compiled.digest.clone(),
        })
    }

    /// Why the last reload changed nothing, if it failed.
    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    pub(super) fn reply(&self) -> PolicyReply {
        let sums = self.sums();
        let of = |name: &str| sums.get(name).copied().unwrap_or_default();
        let rules = self.compiled.iter().flat_map(|compiled| &compiled.file.rules).map(|rule| {
            let Sum { packets, flows } = of(&rule.name);
            PolicyRule {
                name: rule.name.clone(),
                action: rule.action_text().into(),
                line: rule.line,
                packets,
                flows,
            }
        });
        let Sum { packets, flows } = of(DEFAULT);
        PolicyReply {
            file: self.file.as_ref().map_or_else(String::new, |file| file.display().to_string()),
            digest: self.digest(),
            loads: u64::from(self.number),
            default: self.compiled.as_ref().map_or("allow", |one| one.file.default.name()).into(),
            rules: rules.collect(),
            default_packets: packets,
            default_flows: flows,
            failed: self.failed.clone(),
        }
    }
}

impl Counted {
    fn add_to(&self, sums: &mut BTreeMap<String, Sum>) {
        for (at, name) in self.names.iter().enumerate() {
            let sum = sums.entry(name.clone()).or_default();
            for hits in self.hits.iter().filter_map(|hits| hits.all().get(at)) {
                sum.packets += hits.packets.get();
                sum.flows += hits.flows.get();
            }
        }
    }
}

impl Node {
    /// Reads the policy file again. The new policy takes the old one's place as a whole, or nothing changes.
    pub(super) fn reload_policy(&mut self) -> Reply {
        match self.policy.load(&self.config) {
            Ok(()) => {
                self.policy.failed = None;
                self.policy.count(self.workers.count());
                self.publish_policy();
                self.membership.set_policy(self.policy.version());
                let reply = self.policy.reply();
                tracing::info!(digest = reply.digest, rules = reply.rules.len(), "policy loaded");
                Reply::Policy(reply)
            }
            Err(error) => {
                let outside = self.policy.file.as_deref().and_then(|file| self.confinement.outside(file));
                let error = outside.map_or(error, |why| PolicyError(format!("the policy {why}")));
                let sentence = format!("{error}; the policy before it stays in force");
                tracing::error!("{sentence}");
                self.policy.failed = Some(error.0);
                Reply::error(sentence)
            }
        }
    }

    /// Gives the policy in force to the workers, with the present settings.
    pub(super) fn publish_policy(&mut self) {
        for (worker, policy) in self.policy.for_workers(&self.settings).into_iter().enumerate() {
            self.workers.tell(worker, ToWorker::Policy(policy));
        }
    }

    /// A rule with `log` was the answer.
    pub(super) fn log_judgement(&self, policy: u16, judgement: &Judgement, question: &Question) {
        // Of a policy that is in force no longer nobody can say which rule it was.
        let Some(compiled) = self.policy.compiled.as_ref().filter(|one| one.policy.number == policy) else {
            return;
        };
        let Some(rule) = compiled.file.rules.get(judgement.rule as usize) else { return };
        let zone = usize::from(question.zone).checked_sub(1).and_then(|at| self.policy.zones.get(at));
        let (source, destination) = (address_of(&question.source), address_of(&question.destination));
        let protocol = values::protocol_name(question.protocol);
        let zone = zone.map_or("?", String::as_str);
        let (name, action) = (&rule.name, judgement.action.name());
        match question.protocol {
            proto::ICMP | proto::ICMPV6 => tracing::info!(
                "policy: rule={name} action={action} zone={zone} proto={protocol} src={source} dst={destination} type={}",
                question.destination_port
            ),
            _ => tracing::info!(
                "policy: rule={name} action={action} zone={zone} proto={protocol} src={source} dst={destination} sport={} dport={}",
                question.source_port,
                question.destination_port
            ),
        }
    }
}
