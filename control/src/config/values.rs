//! From text to value. Each refusal is the second half of a sentence: `--node-id 0: ` + rule and remedy.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use samepath_dataplane::floods::Rate;
use samepath_dataplane::flow::{NodeId, proto};
use samepath_dataplane::service::ServiceMode;
use samepath_dataplane::session::timeouts::MAX_TIMEOUT_S;
use samepath_dataplane::settings::Backup;

use super::{DataInterface, MssClamp, PassRule, PeerAddress, ServicePort, Workers};

/// The rule a value breaks, and what to write instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule(pub String);

fn rule<T>(text: impl Into<String>) -> Result<T, Rule> {
    Err(Rule(text.into()))
}

/// A whole number inside `range`.
pub fn number<T>(text: &str, what: &str, range: RangeInclusive<T>) -> Result<T, Rule>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    match text.parse() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => rule(format!(
            "{what} is a whole number from {} to {}; write one of these",
            range.start(),
            range.end()
        )),
    }
}

/// A node's number.
pub fn node(text: &str) -> Result<NodeId, Rule> {
    number(text, "a node number", 1..=u16::MAX).map(NodeId)
}

/// One of a few words.
pub fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Rule> {
    match words.iter().find(|(name, _)| *name == text) {
        Some((_, value)) => Ok(*value),
        None => {
            let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
            rule(format!("only these words are known: {}; write one of them", names.join(", ")))
        }
    }
}

/// `RATE[:BURST]`, or `off`; without a burst a second's worth may come at once.
pub fn rate(text: &str) -> Result<Option<Rate>, Rule> {
    if text == "off" {
        return Ok(None);
    }
    let (per_second, burst) = text.split_once(':').unwrap_or((text, text));
    let part = |text: &str| text.parse().ok().filter(|part| (1..=Rate::MOST).contains(part));
    match (part(per_second), part(burst)) {
        (Some(per_second), Some(burst)) => Ok(Some(Rate { per_second, burst })),
        _ => rule(format!(
            "a rate is written RATE[:BURST], both whole numbers from 1 to {}, or off; write for example 1000:2000",
            Rate::MOST
        )),
    }
}

/// Longest age at which peers are told of a session, ms.
const OLDEST_UNTOLD_MS: u64 = 60_000;

/// `immediate`, `established` or an age, written `250ms` or `5s`.
pub fn backup(text: &str) -> Result<Backup, Rule> {
    let age = |text: &str| {
        let (digits, unit) = match text.strip_suffix("ms") {
            Some(digits) => (digits, 1),
            None => (text.strip_suffix('s')?, 1_000),
        };
        digits.parse::<u64>().ok()?.checked_mul(unit).filter(|ms| (1..=OLDEST_UNTOLD_MS).contains(ms))
    };
    match (text, age(text)) {
        ("immediate", _) => Ok(Backup::Immediate),
        ("established", _) => Ok(Backup::Established),
        (_, Some(ms)) => Ok(Backup::After(ms)),
        _ => rule(
            "when peers are told is immediate, established or an age from 1ms to 60s; write for example 250ms",
        ),
    }
}

/// Seconds within which peers are told of all sessions again, or 0.
pub fn refresh(text: &str) -> Result<u64, Rule> {
    match text.parse() {
        Ok(seconds @ (0 | 10..=86_400)) => Ok(seconds),
        _ => rule(
            "a refresh interval in seconds is 0 (never) or a whole number from 10 to 86400; write for example 600",
        ),
    }
}

/// `auto`, `off` or a segment size.
pub fn mss_clamp(text: &str) -> Result<MssClamp, Rule> {
    match text {
        "auto" => Ok(MssClamp::Auto),
        "off" => Ok(MssClamp::Off),
        // The least and the most that the kernel takes for a route's advmss: 88, and a jumbo frame's.
        bytes => match bytes.parse() {
            Ok(bytes) if (88..=9160).contains(&bytes) => Ok(MssClamp::To(bytes)),
            _ => rule(
                "a segment size is auto, off or a whole number of bytes from 88 to 9160; write for example 1360",
            ),
        },
    }
}

/// `IP:PORT` to listen on, or `off`.
pub fn listen(text: &str) -> Result<Option<SocketAddr>, Rule> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(Some(address)),
        _ if text == "off" => Ok(None),
        _ => rule(
            "an address to listen on is written IP:PORT or [IPv6]:PORT with a port from 1 to 65535, or off; write for example 127.0.0.1:9684",
        ),
    }
}

/// A path that is not empty.
pub fn path(text: &str) -> Result<PathBuf, Rule> {
    if text.is_empty() {
        return rule("a path cannot be empty; write where it is");
    }
    Ok(text.into())
}

/// A name the kernel accepts for an interface: 1 to 15 bytes without blank, slash or colon.
pub fn interface(text: &str) -> Result<String, Rule> {
    let bad = |byte: u8| byte.is_ascii_whitespace() || byte.is_ascii_control() || byte == b'/';
    let wrong = text.is_empty() || text.len() > 15 || matches!(text, "." | "..");
    if wrong || text.bytes().any(|byte| bad(byte) || byte == b':') {
        return rule(
            "an interface name has 1 to 15 characters without blanks, slashes and colons; see `ip -br link` for those there are",
        );
    }
    Ok(text.into())
}

/// `ZONE=IFACE`.
pub fn data(text: &str) -> Result<DataInterface, Rule> {
    let Some((zone, name)) = text.split_once('=') else {
        return rule("a data interface is written ZONE=IFACE; name its zone, for example inside=eth1");
    };
    let known = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if zone.is_empty() || zone.len() > 32 || !zone.chars().all(known) {
        return rule(
            "a zone's name has 1 to 32 letters, digits, dashes and underscores; choose such a name, for example inside",
        );
    }
    Ok(DataInterface { zone: zone.into(), interface: interface(name)? })
}

/// An address a node can have on the cluster link.
pub fn unicast(text: &str) -> Result<IpAddr, Rule> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return rule("this is no IP address; write one like 192.0.2.1 or 2001:db8::1");
    };
    let link_local = match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    let broadcast = address == IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast {
        return rule(
            "peers cannot be reached at an unspecified, loopback, multicast or broadcast address; write the one on the cluster link",
        );
    }
    if link_local {
        return rule(
            "IPv6 link-local and IPv4-mapped addresses do not work here; use a global or unique local address (fd00::/8), or plain IPv4",
        );
    }
    Ok(address)
}

/// `ID=IP`, `ID=IPv4:PORT` or `ID=[IPv6]:PORT`.
pub fn peer(text: &str) -> Result<PeerAddress, Rule> {
    let Some((id, address)) = text.split_once('=') else {
        return rule("a peer is written ID=IP or ID=IP:PORT; for example 2=192.0.2.2");
    };
    let node = node(id)?;
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(v6) = bare.filter(|inner| inner.parse::<Ipv6Addr>().is_ok()) {
        return Ok(PeerAddress { node, address: unicast(v6)?, port: None });
    }
    match address.parse::<SocketAddr>() {
        Ok(socket) if socket.port() == 0 => rule("a peer's port is 1 to 65535; leave it out for the default"),
        Ok(socket) => {
            Ok(PeerAddress { node, address: unicast(&socket.ip().to_string())?, port: Some(socket.port()) })
        }
        Err(_) if address.parse::<IpAddr>().is_ok() => {
            Ok(PeerAddress { node, address: unicast(address)?, port: None })
        }
        Err(_) => rule(
            "after ID= comes an IP address, with a port if need be; write 2=192.0.2.2, 2=192.0.2.2:6082 or 2=[2001:db8::2]:6082",
        ),
    }
}

/// `NAME=MODE:IFACE@IP`.
pub fn service(text: &str) -> Result<ServicePort, Rule> {
    let written = || {
        Rule("a service is written NAME=MODE:IFACE@IP with MODE proxy or inspect; for example web=proxy:svc0@10.66.0.2".into())
    };
    let (name, rest) = text.split_once('=').ok_or_else(written)?;
    let (mode, rest) = rest.split_once(':').ok_or_else(written)?;
    let (interface, via) = rest.rsplit_once('@').ok_or_else(written)?;
    let modes = [ServiceMode::Proxy, ServiceMode::Inspect];
    let mode = modes.into_iter().find(|one| one.name() == mode).ok_or_else(written)?;
    let DataInterface { zone, interface } = data(&format!("{name}={interface}"))?;
    Ok(ServicePort { name: zone, mode, interface, via: unicast(via)? })
}

/// `auto` or a number of workers.
pub fn workers(text: &str) -> Result<Workers, Rule> {
    if text == "auto" {
        return Ok(Workers::Auto);
    }
    match text.parse() {
        Ok(count @ 1..=samepath_dataplane::limits::MAX_QUEUES) => Ok(Workers::Count(count)),
        _ => rule(format!(
            "workers is auto or a number from 1 to {}; write one of these",
            samepath_dataplane::limits::MAX_QUEUES
        )),
    }
}

/// A list of cores like `0,2-3`.
pub fn cores(text: &str) -> Result<Vec<usize>, Rule> {
    const HIGHEST: usize = 1023;
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) else {
            return rule("cores are written as numbers and ranges; for example 0,2-3");
        };
        if first > last || last > HIGHEST {
            return rule(format!("a range of cores goes up and ends at {HIGHEST} at most; for example 2-3"));
        }
        for core in first..=last {
            if cores.contains(&core) {
                return rule(format!("core {core} is listed twice; name every core once"));
            }
            cores.push(core);
        }
    }
    Ok(cores)
}

/// Frames of packet memory.
pub fn frames(text: &str) -> Result<Option<u32>, Rule> {
    number(text, "a number of frames", 256..=1 << 22).map(Some)
}

/// Ring entries: the kernel wants a power of two.
pub fn ring_size(text: &str) -> Result<u32, Rule> {
    match number(text, "a ring size", 64..=32_768)? {
        size if u32::is_power_of_two(size) => Ok(size),
        _ => rule("a ring size is a power of two; write 64, 128, … 32768"),
    }
}

/// `NAME=SECONDS`; whether the name exists is for the list of timeouts to say.
pub fn timeout(text: &str) -> Result<(String, u32), Rule> {
    let Some((name, seconds)) = text.split_once('=') else {
        return rule("a timeout is written NAME=SECONDS; for example udp=30");
    };
    let seconds = number(seconds, "a timeout in seconds", 1..=MAX_TIMEOUT_S)?;
    Ok((name.trim().replace('-', "_"), seconds))
}

/// `PROTO:PORT`.
pub fn pass(text: &str) -> Result<PassRule, Rule> {
    let Some((name, port)) = text.split_once(':') else {
        return rule("a pass rule is written PROTO:PORT; for example tcp:179, with port 0 for any");
    };
    let proto = protocol(name)?;
    let port = number(port, "a port", 0..=u16::MAX)?;
    if port != 0 && !matches!(proto, proto::TCP | proto::UDP | proto::SCTP) {
        return rule(format!("{name} has no ports; write {name}:0"));
    }
    Ok(PassRule { proto, port })
}

/// Protocols with a name, as `conntrack -L` writes them.
const PROTOCOLS: [(&str, u8); 9] = [
    ("icmp", proto::ICMP),
    ("tcp", proto::TCP),
    ("udp", proto::UDP),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", proto::ICMPV6),
    ("ospf", 89),
    ("sctp", proto::SCTP),
];

/// A protocol's number from its name or number.
pub fn protocol(text: &str) -> Result<u8, Rule> {
    let named = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    match named.or_else(|| text.parse().ok()) {
        Some(number) => Ok(number),
        None => rule(
            "a protocol is tcp, udp, sctp, icmp, icmpv6, esp, ah, gre, ospf or a number from 0 to 255; write one of these",
        ),
    }
}

/// A protocol's name, or its number where it has none.
pub fn protocol_name(number: u8) -> std::borrow::Cow<'static, str> {
    match PROTOCOLS.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => (*name).into(),
        None => number.to_string().into(),
    }
}

/// A log level or filter.
pub fn log(text: &str) -> Result<String, Rule> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let filter = text.contains(['=', ',']);
    let usable = tracing_subscriber::EnvFilter::try_new(text).is_ok();
    if LEVELS.contains(&text) || filter && usable {
        return Ok(text.into());
    }
    rule(
        "the log level is off, error, warn, info, debug, trace or a filter like info,samepath=debug; write one of these",
    )
}
/// `swim`, or the endpoints of an etcd.
pub fn membership(text: &str) -> Result<Vec<String>, Rule> {
    if text == "swim" {
        return Ok(Vec::new());
    }
    let rule = || {
        Rule("a membership is swim or etcd://HOST:PORT[,HOST:PORT…]; for example etcd://10.9.0.9:2379".into())
    };
    let endpoints = text.strip_prefix("etcd://").ok_or_else(rule)?;
    let endpoint = |one: &str| {
        let (host, port) = one.rsplit_once(':').filter(|(host, _)| !host.is_empty()).ok_or_else(rule)?;
        let plain = !host.contains(['/', '@', '?', ' ']);
        match port.parse::<u16>() {
            Ok(port) if port > 0 && plain => Ok(one.to_owned()),
            _ => Err(rule()),
        }
    };
    endpoints.split(',').map(endpoint).collect()
}
