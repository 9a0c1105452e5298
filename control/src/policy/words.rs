//! Single values of a policy file. A fault is a sentence: what was written, the rule, the remedy.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use samepath_dataplane::flow::proto;
use samepath_dataplane::policy::Action;
use samepath_dataplane::session::timeouts::Timeouts;
use toml::Value;

use crate::config::values;

/// Why a value cannot be used.
#[derive(Debug)]
pub(super) struct Fault(pub(super) String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn fault<T>(sentence: impl Into<String>) -> Result<T, Fault> {
    Err(Fault(sentence.into()))
}

/// A value as it would be written.
fn written(value: &Value) -> String {
    value.to_string().replace('\n', " ")
}

fn text<'a>(value: &'a Value, what: &str) -> Result<&'a str, Fault> {
    match value {
        Value::String(text) => Ok(text),
        other => fault(format!("{} is no {what}: it is written as a text in quotes", written(other))),
    }
}

/// A text or a number.
fn word(value: &Value, what: &str) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        other => fault(format!("{} is no {what}: write a text or a number", written(other))),
    }
}

/// Longest name of a rule.
const NAME_MAX: usize = 64;

pub(super) fn name(value: &Value) -> Result<String, Fault> {
    let text = text(value, "name")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > NAME_MAX || !text.chars().all(fits) {
        return fault(format!(
            "{} is no name: it has 1 to {NAME_MAX} letters, digits, dashes, underscores and dots; write one like web-out",
            written(value)
        ));
    }
    Ok(text.into())
}

pub(super) fn action(value: &Value) -> Result<Action, Fault> {
    let text = text(value, "action")?;
    let all = [Action::Allow, Action::Deny, Action::Reject, Action::Service(0)];
    if let Some(action) = all.into_iter().find(|action| action.name() == text) {
        return Ok(action);
    }
    if let Some(service) = text.strip_prefix("service ") {
        return fault(format!(
            "{} names the service in the wrong place: write action = \"service\" and service = \"{}\"",
            written(value),
            service.trim()
        ));
    }
    fault(format!("{} is no action: write allow, deny, reject or service", written(value)))
}

/// What flows of a policy without a match get.
pub(super) fn default(value: &Value) -> Result<Action, Fault> {
    match action(value)? {
        Action::Service(_) => {
            fault("service is for rules: they name it; write a rule that matches everything, and deny here")
        }
        other => Ok(other),
    }
}

pub(super) fn service(value: &Value) -> Result<String, Fault> {
    let text = text(value, "service")?;
    if text.is_empty() {
        return fault("a service's name is not empty: it is the NAME of --service");
    }
    Ok(text.into())
}

/// Backup per rule needs a way to back sessions up later than at once, which this release has not.
pub(super) fn backup(value: &Value) -> Fault {
    Fault(format!(
        "{}: this release backs up every session at once, and none later; leave the key out",
        written(value)
    ))
}

pub(super) fn zone(value: &Value) -> Result<String, Fault> {
    let text = text(value, "zone")?;
    if text.is_empty() {
        return fault("a zone's name is not empty: it is that of --data ZONE=IFACE");
    }
    Ok(text.into())
}

pub(super) fn prefix(value: &Value) -> Result<IpNet, Fault> {
    let text = text(value, "prefix")?;
    let read =
        text.parse::<IpNet>().ok().or_else(|| Some(IpNet::from(text.parse::<std::net::IpAddr>().ok()?)));
    match read {
        Some(prefix) if prefix == prefix.trunc() => Ok(prefix),
        Some(prefix) => fault(format!(
            "{} has bits behind its length: write {} for the prefix, or {} for the host",
            written(value),
            prefix.trunc(),
            prefix.addr()
        )),
        None => fault(format!(
            "{} is no prefix: write one like \"192.0.2.0/24\" or \"2001:db8::/32\", or an address",
            written(value)
        )),
    }
}

/// Protocols with ports and their names beside those of `values::protocol`.
const WITH_PORTS: [(&str, u8); 5] =
    [("tcp", proto::TCP), ("udp", proto::UDP), ("sctp", proto::SCTP), ("dccp", 33), ("udplite", 136)];

pub(super) fn has_ports(protocol: u8) -> bool {
    WITH_PORTS.iter().any(|(_, known)| *known == protocol)
}

pub(super) fn is_icmp(protocol: u8) -> bool {
    matches!(protocol, proto::ICMP | proto::ICMPV6)
}

pub(super) fn protocol(value: &Value) -> Result<u8, Fault> {
    let text = word(value, "protocol")?;
    if let Some((_, number)) = WITH_PORTS.iter().find(|(name, _)| *name == text) {
        return Ok(*number);
    }
    values::protocol(&text).map_err(|rule| Fault(format!("{}: {}", written(value), rule.0)))
}

pub(super) fn ports(value: &Value) -> Result<RangeInclusive<u16>, Fault> {
    let text = word(value, "port")?;
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    let read = |one: &str| one.trim().parse::<u16>().ok();
    match (read(first), read(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        (Some(_), Some(_)) => fault(format!("{} is no range: the lower port comes first", written(value))),
        _ => fault(format!(
            "{} is no port: write a number from 0 to 65535, or a range like \"8000-8100\"",
            written(value)
        )),
    }
}

/// Requests that begin flows: name, type for IPv4, type for IPv6.
const REQUESTS: [(&str, Option<u8>, Option<u8>); 4] = [
    ("echo-request", Some(8), Some(128)),
    ("timestamp-request", Some(13), None),
    ("information-request", Some(15), None),
    ("address-mask-request", Some(17), None),
];

/// The types a word stands for, with their protocols.
pub(super) fn icmp(value: &Value) -> Result<Vec<(u8, u8)>, Fault> {
    let text = word(value, "ICMP type")?;
    let number = text.parse::<u8>().ok();
    let is_it = |(name, v4, v6): &&(&str, Option<u8>, Option<u8>)| {
        *name == text || number.is_some_and(|number| [*v4, *v6].contains(&Some(number)))
    };
    let Some((_, v4, v6)) = REQUESTS.iter().find(is_it) else {
        let names: Vec<&str> = REQUESTS.iter().map(|(name, ..)| *name).collect();
        return fault(format!(
            "{} begins no flow: replies pass with their requests, errors with the flow they are about, others never; write one of {}",
            written(value),
            names.join(", ")
        ));
    };
    let of = |protocol: u8, kind: &Option<u8>| {
        kind.filter(|kind| number.is_none_or(|number| number == *kind)).map(|kind| (protocol, kind))
    };
    Ok([of(proto::ICMP, v4), of(proto::ICMPV6, v6)].into_iter().flatten().collect())
}

pub(super) fn truth(value: &Value) -> Result<bool, Fault> {
    match value {
        Value::Boolean(truth) => Ok(*truth),
        other => fault(format!("{} is neither true nor false; write one of the two", written(other))),
    }
}

pub(super) fn timeouts(value: &Value) -> Result<BTreeMap<String, u32>, Fault> {
    let Value::Table(table) = value else {
        return fault(format!(
            "{} is no table of idle times: write one like {{ tcp_established = 3600 }}",
            written(value)
        ));
    };
    let mut scratch = Timeouts::default();
    let mut read = BTreeMap::new();
    for (name, seconds) in table {
        let number = seconds.as_integer().and_then(|number| u32::try_from(number).ok());
        let Some(number) = number else {
            return fault(format!(
                "{name} = {} is no number of seconds; write a whole one",
                written(seconds)
            ));
        };
        scratch.set(name, number).map_err(|error| Fault(error.to_string()))?;
        read.insert(name.clone(), number);
    }
    Ok(read)
}
