//! `samepath why` as a person reads it.

use std::io::{self, Write};

use super::{NodeWhy, Said, WaySaid, Why};
use crate::operator::tables::table;

/// The story, then what each node says.
pub(in crate::operator) fn print(why: &Why, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", why.flow)?;
    for sentence in &why.story {
        writeln!(out, "  {sentence}")?;
    }
    writeln!(out)?;
    let rows: Vec<[String; 8]> = why.nodes.iter().map(row).collect();
    table(
        out,
        ["node", "epoch", "session", "owner", "generation", "packets", "if it arrives here", "leaves by"],
        &rows,
    )
}

fn row(node: &NodeWhy) -> [String; 8] {
    let session = node.session.as_ref();
    let of = |cell: Option<String>| cell.unwrap_or_else(|| "-".into());
    [
        node.node.to_string(),
        node.epoch.to_string(),
        of(session.map(|session| format!("{} {}", session.role.name(), session.state))),
        of(session.map(|session| session.owner.to_string())),
        of(session.map(|session| session.generation.to_string())),
        of(session.map(|session| session.packets.to_string())),
        verdict(&node.arrives),
        way(&node.way),
    ]
}

fn verdict(said: &Said) -> String {
    match (said.to, &said.reason, &said.service) {
        (Some(to), ..) => format!("{} to {to}", said.verdict),
        (_, Some(reason), _) => format!("{} {reason}", said.verdict),
        (_, _, Some(service)) => format!("{} {service}", said.verdict),
        _ => said.verdict.to_string(),
    }
}

fn way(way: &WaySaid) -> String {
    match (&way.interface, &way.neighbour, &way.obstacle) {
        (Some(interface), Some(neighbour), None) => format!("{interface} via {neighbour}"),
        (Some(interface), _, Some(obstacle)) => format!("{interface}: {obstacle}"),
        (Some(interface), None, None) => interface.clone(),
        (None, _, Some(obstacle)) => obstacle.to_string(),
        (None, _, None) => "-".into(),
    }
}
