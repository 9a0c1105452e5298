//! From text to rules: every key once, every complaint with its line.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use ipnet::IpNet;
use samepath_dataplane::policy::Action;
use samepath_dataplane::session::timeouts::Timeouts;
use serde::{Deserialize, Serialize};
use toml::{Spanned, Value};

use super::words::{self, Fault};

/// A value and where it stands.
type Key = Option<Spanned<Value>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    default: Key,
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: Key,
    action: Key,
    service: Key,
    from: Key,
    source: Key,
    destination: Key,
    protocol: Key,
    source_port: Key,
    destination_port: Key,
    icmp: Key,
    aggregation: Key,
    backup: Key,
    timeout: Key,
    log: Key,
}

/// A rule as it is written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RuleText {
    /// Its name, its own in the file.
    pub name: String,
    /// What it says; the number of a service is not known yet.
    #[serde(serialize_with = "action_name")]
    pub action: Action,
    /// Name of the service its flows go through; empty without one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// Zones packets come from; none: all.
    pub from: Vec<String>,
    /// Where they come from; none: anywhere.
    pub source: Vec<IpNet>,
    /// Where they go; none: anywhere.
    pub destination: Vec<IpNet>,
    /// IANA protocol numbers; none: all.
    pub protocol: Vec<u8>,
    /// Source ports; none: all.
    pub source_port: Vec<RangeInclusive<u16>>,
    /// Destination ports; none: all.
    pub destination_port: Vec<RangeInclusive<u16>>,
    /// (protocol, ICMP type); none: all.
    pub icmp: Vec<(u8, u8)>,
    /// Bring its flows to their Owner.
    pub aggregation: bool,
    /// Idle times that differ from the node's, seconds.
    pub timeout: BTreeMap<String, u32>,
    /// Tell the log of its flows.
    pub log: bool,
    /// Line of the file. The same rules elsewhere are the same policy.
    #[serde(skip)]
    pub line: usize,
}

/// A policy as it is written, checked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PolicyFile {
    /// What holds for flows that no rule matches.
    #[serde(serialize_with = "action_name")]
    pub default: Action,
    /// The rules, in order.
    pub rules: Vec<RuleText>,
}

fn action_name<S: serde::Serializer>(action: &Action, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(action.name())
}

impl PolicyFile {
    /// Reads a policy. Errors: `line N: …`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let line_of = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let raw: RawFile = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(span.start));
            let message = error.message().trim_end().replace('\n', " ");
            format!("line {line}: {message}; see docs/policy.md for the keys there are")
        })?;
        let Some(default) = raw.default else {
            return Err("line 1: default is missing: a policy says what holds for flows that no rule matches; write default = \"deny\" above the rules".into());
        };
        let default = words::default(default.get_ref())
            .map_err(|fault| format!("line {}: default: {fault}", line_of(default.span().start)))?;
        let mut rules: Vec<RuleText> = Vec::with_capacity(raw.rule.len());
        for (number, raw) in (1..).zip(raw.rule) {
            let line = line_of(raw.span().start);
            let rule = Reader { line, number, name: None, line_of: &line_of }.rule(raw.into_inner())?;
            if let Some(first) = rules.iter().find(|other| other.name == rule.name) {
                return Err(format!(
                    "line {line}: rule \"{}\" has the name of the rule in line {}: counters and answers name rules; give it another",
                    rule.name, first.line
                ));
            }
            rules.push(rule);
        }
        Ok(Self { default, rules })
    }

    /// Every zone that a rule names must be one of the node's.
    pub fn verify_zones(&self, zones: &[&str]) -> Result<(), String> {
        for rule in &self.rules {
            if let Some(unknown) = rule.from.iter().find(|zone| !zones.contains(&zone.as_str())) {
                return Err(format!(
                    "line {}: rule \"{}\": from = \"{unknown}\": no data interface is in this zone, the rule would never match; zones are {}",
                    rule.line,
                    rule.name,
                    zones.join(", ")
                ));
            }
        }
        Ok(())
    }
}

impl PolicyFile {
    /// Every service that a rule names must be one of the node's.
    pub fn verify_services(&self, services: &[&str]) -> Result<(), String> {
        let named = self.rules.iter().filter(|rule| !rule.service.is_empty());
        let mut unknown = named.filter(|rule| !services.contains(&rule.service.as_str()));
        if let Some(rule) = unknown.next() {
            return Err(format!(
                "line {}: rule \"{}\": service = \"{}\": this node has no such service port; {}",
                rule.line,
                rule.name,
                rule.service,
                match services {
                    [] => "give it one with --service".into(),
                    some => format!("services are {}", some.join(", ")),
                }
            ));
        }
        Ok(())
    }
}

/// Reads one rule and remembers where it is, for complaints.
struct Reader<'a> {
    line: usize,
    number: usize,
    name: Option<String>,
    line_of: &'a dyn Fn(usize) -> usize,
}

impl Reader<'_> {
    fn rule(mut self, raw: RawRule) -> Result<RuleText, String> {
        let name = self.read("name", &raw.name, words::name)?;
        let Some(name) = name else {
            return Err(self.complain(
                self.line,
                "name is missing: counters and answers name rules; write name = \"…\"".into(),
            ));
        };
        self.name = Some(name.clone());
        let action = self.read("action", &raw.action, words::action)?;
        let Some(action) = action else {
            return Err(self.complain(
                self.line,
                "action is missing: write action = \"allow\", \"deny\", \"reject\" or \"service\"".into(),
            ));
        };
        if let Some(backup) = &raw.backup {
            let fault = words::backup(backup.get_ref());
            return Err(self.complain_at("backup", backup.span(), &fault));
        }
        let rule = RuleText {
            name,
            action,
            service: self.read("service", &raw.service, words::service)?.unwrap_or_default(),
            from: self.list("from", &raw.from, words::zone)?,
            source: self.list("source", &raw.source, words::prefix)?,
            destination: self.list("destination", &raw.destination, words::prefix)?,
            protocol: self.list("protocol", &raw.protocol, words::protocol)?,
            source_port: self.list("source_port", &raw.source_port, words::ports)?,
            destination_port: self.list("destination_port", &raw.destination_port, words::ports)?,
            icmp: self.list("icmp", &raw.icmp, words::icmp)?.concat(),
            aggregation: self.read("aggregation", &raw.aggregation, words::truth)?.unwrap_or(true),
            timeout: self.read("timeout", &raw.timeout, words::timeouts)?.unwrap_or_default(),
            log: self.read("log", &raw.log, words::truth)?.unwrap_or(false),
            line: self.line,
        };
        self.fit(rule, &raw)
    }

    /// What keys say together.
    fn fit(&self, mut rule: RuleText, raw: &RawRule) -> Result<RuleText, String> {
        let ports = raw.source_port.as_ref().map(|_| "source_port");
        let ports = raw.destination_port.as_ref().map(|_| "destination_port").or(ports);
        if let Some(key) = ports
            && (rule.protocol.is_empty() || rule.protocol.iter().any(|one| !words::has_ports(*one)))
        {
            return Err(self.complain(self.line, format!(
                "{key} with {}: only tcp, udp, sctp, dccp and udplite have ports; name those of them that are meant in protocol",
                if rule.protocol.is_empty() { "any protocol" } else { "a protocol without ports" }
            )));
        }
        if raw.icmp.is_some() {
            let other = rule.protocol.iter().any(|one| !words::is_icmp(*one));
            if rule.protocol.is_empty() || other {
                return Err(self.complain(self.line, "icmp without protocol icmp or icmpv6: types belong to one of the two; write protocol = \"icmp\", \"icmpv6\" or both, and nothing else".into()));
            }
            rule.icmp.retain(|(protocol, _)| rule.protocol.contains(protocol));
            if let Some(missing) =
                rule.protocol.iter().find(|one| !rule.icmp.iter().any(|(of, _)| of == *one))
            {
                return Err(self.complain(self.line, format!(
                    "icmp names no type of {}: the rule would match none of its packets; name one, or leave the protocol out",
                    crate::config::values::protocol_name(*missing)
                )));
            }
        }
        let versions = |prefixes: &[IpNet]| {
            let all = prefixes.is_empty();
            let has = |v4: bool| all || prefixes.iter().any(|one| one.addr().is_ipv4() == v4);
            (has(true), has(false))
        };
        let ((from4, from6), (to4, to6)) = (versions(&rule.source), versions(&rule.destination));
        if !(from4 && to4 || from6 && to6) {
            return Err(self.complain(self.line, "source and destination are of different IP versions: no packet has both; write prefixes of one".into()));
        }
        match (rule.action, rule.service.as_str()) {
            (Action::Service(_), "") => return Err(self.complain(
                self.line,
                "action = \"service\" without a name: say through which service its flows go; write service = \"…\", a NAME of --service".into(),
            )),
            (Action::Allow | Action::Deny | Action::Reject, name) if !name.is_empty() => return Err(self.complain(
                self.line,
                format!("service = \"{name}\" with action = \"{}\": only flows that begin go through a service; write action = \"service\", or leave service out", rule.action.name()),
            )),
            _ => {}
        }
        let begins = matches!(rule.action, Action::Allow | Action::Service(_));
        if !begins && (!rule.aggregation || !rule.timeout.is_empty()) {
            return Err(self.complain(self.line, format!(
                "aggregation and timeout are for flows that begin: a rule that says {} has none; leave them out",
                rule.action.name()
            )));
        }
        Ok(rule)
    }

    fn read<T>(
        &self,
        key: &str,
        value: &Key,
        read: impl Fn(&Value) -> Result<T, Fault>,
    ) -> Result<Option<T>, String> {
        let Some(value) = value else { return Ok(None) };
        read(value.get_ref()).map(Some).map_err(|fault| self.complain_at(key, value.span(), &fault))
    }

    /// One value or an array of them. An empty array is refused: it would mean all, or nothing.
    fn list<T>(
        &self,
        key: &str,
        value: &Key,
        read: impl Fn(&Value) -> Result<T, Fault>,
    ) -> Result<Vec<T>, String> {
        let all = |value: &Value| match value {
            Value::Array(items) if items.is_empty() => {
                Err(Fault("an empty list matches nothing; leave the key out to match all".into()))
            }
            Value::Array(items) => items.iter().map(&read).collect(),
            one => read(one).map(|one| vec![one]),
        };
        Ok(self.read(key, value, all)?.unwrap_or_default())
    }

    fn complain_at(&self, key: &str, span: Range<usize>, fault: &Fault) -> String {
        self.complain((self.line_of)(span.start), format!("{key}: {fault}"))
    }

    fn complain(&self, line: usize, sentence: String) -> String {
        match &self.name {
            Some(name) => format!("line {line}: rule \"{name}\": {sentence}"),
            None => format!("line {line}: rule number {}: {sentence}", self.number),
        }
    }
}

impl RuleText {
    /// Its action as answers show it: `service NAME`, or one word.
    pub fn action_text(&self) -> String {
        match self.action {
            Action::Service(_) => format!("service {}", self.service),
            Action::Allow | Action::Deny | Action::Reject => self.action.name().into(),
        }
    }

    /// The idle times of its sessions, if they differ from the node's.
    pub fn timeouts(&self, node: &Timeouts) -> Option<Timeouts> {
        let mut timeouts = *node;
        for (name, seconds) in &self.timeout {
            timeouts.set(name, *seconds).expect("was checked when it was read");
        }
        (!self.timeout.is_empty()).then_some(timeouts)
    }
}
