//! What happened to a packet at one core, in one sentence.

use std::fmt::{self, Display};

use crate::operator::watch::{FlowSeen, KnownSeen, Seen, TunnelSeen};
use crate::operator::why::Said;

/// Arrival, table, change, verdict, departure.
pub(in crate::operator) fn told(seen: &Seen) -> String {
    let parts = [arrival(seen), table(seen), change(seen), verdict(seen), departure(seen)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

fn arrival(seen: &Seen) -> String {
    let Seen { interface, queue, .. } = seen;
    let queue = queue.map_or(String::new(), |queue| format!(", queue {queue}"));
    let other_core = if seen.handed_over { ", by another core" } else { "" };
    match &seen.tunnel {
        _ if seen.waited => format!("goes on after it waited{other_core}"),
        Some(TunnelSeen { kind, sender, crossings, .. }) => {
            format!(
                "comes from node {sender} as {} by {interface}{queue}{other_core}, crossing {crossings}",
                kind_name(kind)
            )
        }
        None if seen.from_service => {
            format!("comes from service {} by {interface}{queue}{other_core}", seen.zone)
        }
        None => format!("arrives by {interface}{queue}{other_core}"),
    }
}

/// A kind of tunnel packet as the documents write it.
pub(in crate::operator) fn kind_name(kind: &str) -> &str {
    match kind {
        "query" => "Query",
        "lookup" => "Lookup",
        "first_packet" => "FirstPacket",
        "redirect" => "Redirect",
        "gather" => "Gather",
        other => other,
    }
}

fn table(seen: &Seen) -> String {
    match (&seen.before, &seen.flow) {
        (_, None) => "cannot be read".into(),
        (None, _) => format!("no session here, Director is node {}", seen.director),
        (Some(known), _) => known.to_string(),
    }
}

fn change(seen: &Seen) -> String {
    match (&seen.before, &seen.after) {
        (None, Some(now)) if now.role == "owner" => {
            format!("a session begins, this node owns the flow, generation {}, {}", now.generation, now.state)
        }
        (None, Some(now)) if now.role == "claim" => {
            format!("claims the flow for node {}, generation {}", now.owner, now.generation)
        }
        (None, Some(now)) => format!("now {now}"),
        (Some(_), None) => "the session ends here".into(),
        (Some(was), Some(now)) if was.role != now.role || was.owner != now.owner => format!("now {now}"),
        (Some(was), Some(now)) if was.generation != now.generation => {
            format!("now generation {}", now.generation)
        }
        (Some(was), Some(now)) if was.state != now.state => format!("now {}", now.state),
        _ => String::new(),
    }
}

fn verdict(seen: &Seen) -> String {
    let Some(said) = &seen.said else { return String::new() };
    let to = said.to.unwrap_or(0);
    let generation = said.generation.unwrap_or(0);
    match &*said.verdict {
        "forward" => "goes on".into(),
        "service" => format!("goes to service {}", said.service.as_deref().unwrap_or("?")),
        "query" => format!("asks the Director, node {to} (Query)"),
        "lookup" => format!("asks the Director, node {to}, whose flow it may be (Lookup)"),
        "first_packet" => {
            format!("is granted to node {to}, generation {generation}, and goes back there (FirstPacket)")
        }
        "redirect" => format!("goes to the Owner, node {to}, generation {generation} (Redirect)"),
        "gather" => format!("goes to node {to}, where its packet's fragments meet (Gather)"),
        "reject" => format!("is rejected ({})", said.reason.as_deref().unwrap_or("no reason")),
        // What became of it says so.
        _ => String::new(),
    }
}

fn departure(seen: &Seen) -> String {
    let answer = if seen.answered { "its sender is told, " } else { "" };
    match (&*seen.outcome, &seen.out) {
        ("left", Some(out)) => {
            let pieces = if out.pieces > 1 { format!(" in {} pieces", out.pieces) } else { String::new() };
            let what = if seen.answered { "by" } else { "leaves by" };
            format!("{answer}{what} {}, queue {}{pieces}", out.interface, out.queue)
        }
        ("dropped", _) => format!("is dropped ({})", seen.reason.as_deref().unwrap_or("no reason")),
        ("handed_over", _) => "is handed to the core that owns its flow".into(),
        ("waits", _) if seen.said.is_some() => "waits for its next hop's link address".into(),
        ("waits", _) => "waits for the first fragment of its packet".into(),
        (_, _) => String::new(),
    }
}

/// The verdict in a few words, with its reason.
pub(in crate::operator) fn in_short(seen: &Seen) -> String {
    let dropped = seen.reason.as_ref().filter(|_| seen.outcome == "dropped");
    match (&seen.said, dropped) {
        (_, Some(reason)) => format!("drop ({reason})"),
        (Some(Said { verdict, reason: Some(reason), .. }), _) => format!("{verdict} ({reason})"),
        (Some(Said { verdict, to: Some(to), .. }), _) => format!("{verdict} to node {to}"),
        (Some(Said { verdict, service: Some(service), .. }), _) => format!("{verdict} {service}"),
        (Some(said), _) => said.verdict.to_string(),
        (None, None) => "none yet".into(),
    }
}

impl Display for KnownSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, owner, generation, state } = self;
        match &**role {
            "owner" => write!(f, "own session, generation {generation}, {state}"),
            "claim" => write!(f, "claim for node {owner}, generation {generation}"),
            _ => write!(f, "backup of node {owner}'s session, generation {generation}, {state}"),
        }
    }
}

impl Display for FlowSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |address: std::net::IpAddr, port: u16| match port {
            0 => address.to_string(),
            port => std::net::SocketAddr::new(address, port).to_string(),
        };
        write!(f, "{} {} → {}", self.proto, end(self.src, self.sport), end(self.dst, self.dport))?;
        match self.vlan {
            0 => Ok(()),
            vlan => write!(f, " vlan {vlan}"),
        }
    }
}
