//! `samepath symmetry`: which pairs of prefixes arrive at another node than their Owner, what that costs on the cluster
//! link, and what routing would save it.

mod picture;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use samepath_dataplane::detours::{Detour, PrefixLengths, Sum};
use samepath_dataplane::flow::address_of;
use serde::{Deserialize, Serialize};

use super::api::{Reply, Request};
use super::client::{self, ClientError, Connection, complain};
use super::tables::table;
use super::why::Silent;

/// Ways one node tells another at most, the heaviest first: they fit one answer.
const WAYS: usize = 128;

/// Packets and bytes that made a detour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Packets.
    pub packets: u64,
    /// Their bytes, Ethernet header included.
    pub bytes: u64,
    /// Their bytes on the cluster link, outer headers included, as often as they crossed it.
    pub link_bytes: u64,
}

impl Load {
    fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.link_bytes += other.link_bytes;
    }
}

impl From<Sum> for Load {
    fn from(Sum { packets, bytes, link_bytes }: Sum) -> Self {
        Self { packets, bytes, link_bytes }
    }
}

/// One direction of a pair, from one node to another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WaySum {
    /// Where the packets come from.
    pub source: IpNet,
    /// Where they go.
    pub destination: IpNet,
    /// Node they arrive at.
    pub ingress: u16,
    /// Node that owns their flows.
    pub owner: u16,
    /// What was counted.
    #[serde(flatten)]
    pub load: Load,
    /// Bytes on the cluster link that may have been missed before the pair was noticed among others.
    pub missed: u64,
}

/// What one node says: of flows it owns.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeDetours {
    /// The node.
    pub node: u16,
    /// Seconds it has counted.
    pub since_s: u64,
    /// The heaviest ways.
    pub ways: Vec<WaySum>,
    /// All others together.
    pub unlisted: Load,
}

/// Reply to [`super::Request::Symmetry`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Symmetry {
    /// Seconds that the node which runs longest has counted.
    pub since_s: u64,
    /// All detours.
    pub total: Load,
    /// The heaviest pairs.
    pub pairs: Vec<Pair>,
    /// All others together.
    pub unlisted: Load,
    /// Nodes that did not answer.
    pub silent: Vec<Silent>,
}

/// A pair of prefixes whose packets make a detour.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Pair {
    /// The two prefixes, the lower one first.
    pub prefixes: [IpNet; 2],
    /// What both directions cost together: what symmetric routing would save.
    #[serde(flatten)]
    pub load: Load,
    /// Share of the bytes that all detours put on the cluster link, percent.
    pub share_percent: f64,
    /// Direction by direction and node by node, the heaviest first.
    pub ways: Vec<WaySum>,
    /// What to change, a sentence.
    pub suggestion: String,
}

impl NodeDetours {
    /// What the workers of a node counted.
    pub fn of(node: u16, since_s: u64, lengths: PrefixLengths, detours: &[Detour], forgotten: Sum) -> Self {
        let mut sums: BTreeMap<(IpNet, IpNet, u16), (Load, u64)> = BTreeMap::new();
        for detour in detours {
            let [source, destination] = detour.prefixes.map(|prefix| net(&prefix, lengths));
            let (load, missed) = sums.entry((source, destination, detour.ingress.0)).or_default();
            load.add(&detour.sum.into());
            *missed += detour.missed;
        }
        let mut ways: Vec<WaySum> = sums
            .into_iter()
            .map(|((source, destination, ingress), (load, missed))| WaySum {
                source,
                destination,
                ingress,
                owner: node,
                load,
                missed,
            })
            .collect();
        ways.sort_by_key(|way| std::cmp::Reverse(way.load.link_bytes));
        let mut unlisted = Load::from(forgotten);
        ways.iter().skip(WAYS).for_each(|way| unlisted.add(&way.load));
        ways.truncate(WAYS);
        Self { node, since_s, ways, unlisted }
    }
}

fn net(bytes: &[u8; 16], lengths: PrefixLengths) -> IpNet {
    let address = address_of(bytes);
    let length = if address.is_ipv4() { lengths.v4.min(32) } else { lengths.v6.min(128) };
    IpNet::new(address, length).unwrap_or_else(|_| IpNet::from(address))
}

/// What is to be drawn.
#[derive(Clone, Debug)]
pub struct PictureOrder {
    /// Pairs at most.
    pub limit: usize,
    /// Where the picture goes.
    pub file: PathBuf,
}

/// Asks, writes the picture, and prints the answer as without one; gives the exit code.
pub fn run(
    socket: Option<&Path>,
    order: &PictureOrder,
    json: bool,
    out: &mut impl Write,
) -> Result<u8, ClientError> {
    let mut connection = Connection::open(&client::socket(socket)?)?;
    connection.ask(&Request::Symmetry { limit: order.limit, here: false })?;
    let reply = connection.reply()?;
    let drawn = match &reply {
        Reply::Symmetry(symmetry) => picture::svg(symmetry),
        Reply::Error(refusal) => return Err(ClientError::Refused(refusal.error.clone())),
        _ => return Err(ClientError::Refused("the daemon answered something else".into())),
    };
    let file = order.file.display();
    std::fs::write(&order.file, drawn).map_err(|error| {
        ClientError::Refused(format!(
            "the picture {file} cannot be written ({error}): name a file with --picture, where there is room"
        ))
    })?;
    let code = client::print(&reply, json, out)?;
    complain(&format_args!("wrote {file}"));
    Ok(code)
}

/// The answer of all, with at most `limit` pairs.
pub fn merge(nodes: Vec<NodeDetours>, silent: Vec<Silent>, limit: usize) -> Symmetry {
    let mut symmetry = Symmetry { silent, ..Symmetry::default() };
    let mut pairs: BTreeMap<[IpNet; 2], Vec<WaySum>> = BTreeMap::new();
    for node in nodes {
        symmetry.since_s = symmetry.since_s.max(node.since_s);
        symmetry.unlisted.add(&node.unlisted);
        for way in node.ways {
            let mut ends = [way.source, way.destination];
            ends.sort_unstable();
            pairs.entry(ends).or_default().push(way);
        }
    }
    symmetry.total = symmetry.unlisted;
    pairs.values().flatten().for_each(|way| symmetry.total.add(&way.load));
    let all = symmetry.total.link_bytes;
    let pairs = pairs.into_iter().map(|(prefixes, ways)| pair(prefixes, ways, all));
    symmetry.pairs = pairs.collect();
    symmetry.pairs.sort_by_key(|pair| std::cmp::Reverse(pair.load.link_bytes));
    symmetry.pairs.iter().skip(limit).for_each(|pair| symmetry.unlisted.add(&pair.load));
    symmetry.pairs.truncate(limit);
    symmetry.silent.sort_by_key(|silent| silent.node);
    symmetry
}

fn pair(prefixes: [IpNet; 2], mut ways: Vec<WaySum>, all: u64) -> Pair {
    ways.sort_by_key(|way| std::cmp::Reverse(way.load.link_bytes));
    let mut load = Load::default();
    ways.iter().for_each(|way| load.add(&way.load));
    let share_percent = (load.link_bytes as f64 * 1000.0 / all.max(1) as f64).round() / 10.0;
    let suggestion = suggestion(&ways);
    Pair { prefixes, load, share_percent, ways, suggestion }
}

/// What would make the pair symmetric. `ways`: the heaviest first, at least one.
fn suggestion(ways: &[WaySum]) -> String {
    let Some(WaySum { source, destination, ingress, owner, .. }) = ways.first() else { return String::new() };
    let same_way = |way: &&WaySum| (way.source, way.destination) == (*source, *destination);
    let spread = ways.iter().filter(same_way).count() > 1 || ways.iter().any(|way| way.owner != *owner);
    if spread {
        return format!(
            "the routers spread flows between {source} and {destination} over several nodes, each side its own way: let both spread by the same symmetric hash of the two addresses, or route both directions by one node, node {owner} say"
        );
    }
    format!(
        "packets from {source} to {destination} arrive at node {ingress} and those the other way at node {owner}, which owns the flows: route {destination} by node {owner} where {source} is attached, or {source} by node {ingress} on the other side"
    )
}

/// As a person reads it.
pub(super) fn print(symmetry: &Symmetry, out: &mut impl Write) -> io::Result<()> {
    let Symmetry { since_s, total, pairs, unlisted, silent } = symmetry;
    let per_second = total.link_bytes / (*since_s).max(1);
    writeln!(
        out,
        "in {since_s} s {} packets made a detour to their Owner: {} bytes, {} on the cluster link ({per_second} a second), which symmetric routing would save",
        total.packets, total.bytes, total.link_bytes
    )?;
    if !pairs.is_empty() {
        let rows: Vec<[String; 8]> = pairs.iter().flat_map(rows).collect();
        writeln!(out)?;
        table(out, ["from", "to", "arrives at", "Owner", "packets", "bytes", "on the link", "share"], &rows)?;
        writeln!(out)?;
    }
    for pair in pairs {
        let [a, b] = pair.prefixes;
        writeln!(out, "{a} and {b} ({}%): {}", pair.share_percent, pair.suggestion)?;
    }
    if unlisted.packets > 0 {
        writeln!(
            out,
            "pairs not listed: {} packets, {} bytes on the cluster link",
            unlisted.packets, unlisted.link_bytes
        )?;
    }
    for silent in silent {
        writeln!(out, "node {} did not answer: {}", silent.node, silent.reason)?;
    }
    Ok(())
}

fn rows(pair: &Pair) -> impl Iterator<Item = [String; 8]> + '_ {
    pair.ways.iter().enumerate().map(|(at, way)| {
        let mut share = String::new();
        if at == 0 {
            // A string takes whatever is written to it.
            let _ = write!(share, "{}%", pair.share_percent);
        }
        [
            way.source.to_string(),
            way.destination.to_string(),
            way.ingress.to_string(),
            way.owner.to_string(),
            way.load.packets.to_string(),
            way.load.bytes.to_string(),
            way.load.link_bytes.to_string(),
            share,
        ]
    })
}

#[cfg(test)]
mod tests {
    use samepath_dataplane::flow::{NodeId, key_bytes};

    use super::*;

    const LENGTHS: PrefixLengths = PrefixLengths { v4: 24, v6: 48 };

    fn detour(source: &str, destination: &str, ingress: u16, link_bytes: u64) -> Detour {
        Detour {
            prefixes: [source, destination].map(|text| key_bytes(text.parse().unwrap())),
            ingress: NodeId(ingress),
            sum: Sum { packets: link_bytes / 100, bytes: link_bytes / 2, link_bytes },
            missed: 0,
        }
    }

    pub(super) fn nodes() -> Vec<NodeDetours> {
        let forgotten = Sum { packets: 1, bytes: 50, link_bytes: 100 };
        let one = [detour("10.2.0.0", "10.1.5.0", 3, 6000), detour("10.2.0.0", "10.1.5.0", 3, 1000)];
        let two = [detour("10.1.6.0", "10.2.0.0", 1, 1900), detour("10.2.0.0", "10.1.6.0", 3, 1000)];
        vec![
            NodeDetours::of(1, 60, LENGTHS, &one, forgotten),
            NodeDetours::of(2, 50, LENGTHS, &two, Sum::default()),
        ]
    }

    #[test]
    fn pairs_are_both_directions_and_the_heaviest_is_first() {
        let symmetry = merge(nodes(), Vec::new(), 10);
        let pairs: Vec<_> = symmetry
            .pairs
            .iter()
            .map(|pair| {
                (pair.prefixes.map(|net| net.to_string()).join(" "), pair.load.link_bytes, pair.share_percent)
            })
            .collect();
        let expected = [("10.1.5.0/24 10.2.0.0/24", 7000, 70.0), ("10.1.6.0/24 10.2.0.0/24", 2900, 29.0)];
        assert_eq!(pairs, expected.map(|(prefixes, bytes, share)| (prefixes.to_owned(), bytes, share)));
        assert_eq!(
            (symmetry.since_s, symmetry.total.link_bytes, symmetry.unlisted.link_bytes),
            (60, 10_000, 100)
        );
        // Two workers counted the same way: one row.
        assert_eq!(symmetry.pairs[0].ways.len(), 1);
        let short = merge(nodes(), Vec::new(), 1);
        assert_eq!((short.pairs.len(), short.total, short.unlisted.link_bytes), (1, symmetry.total, 3000));
    }

    #[test]
    fn suggestions_name_prefixes_and_nodes() {
        let symmetry = merge(nodes(), Vec::new(), 10);
        assert_eq!(
            symmetry.pairs[0].suggestion,
            "packets from 10.2.0.0/24 to 10.1.5.0/24 arrive at node 3 and those the other way at node 1, which owns the flows: route 10.1.5.0/24 by node 1 where 10.2.0.0/24 is attached, or 10.2.0.0/24 by node 3 on the other side"
        );
        let spread = NodeDetours::of(3, 1, LENGTHS, &[detour("10.2.0.0", "10.1.5.0", 2, 10)], Sum::default());
        let mut all = nodes();
        all.push(spread);
        assert!(merge(all, Vec::new(), 10).pairs[0].suggestion.contains("symmetric hash"));
        let mut text = Vec::new();
        print(&symmetry, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.contains(
                "\n10.2.0.0/24  10.1.5.0/24           3      1       70   3500         7000  70%\n"
            ),
            "{text}"
        );
    }
}
