//! From what each node says to one answer: who owns the flow, where the packet goes, in sentences.

use std::fmt::Write;

use super::{Flow, NodeWhy, RuleSaid, Said, Silent, Step, WaySaid, Why};
use crate::config::values::protocol_name;
use crate::operator::api::Role;

/// Nodes on a packet's way at most: its ingress, two Directors, the Owner, and one to spare.
const STEPS: usize = 6;

/// The answer of all. `nodes` must not be empty.
pub fn merge(flow: Flow, mut nodes: Vec<NodeWhy>, mut silent: Vec<Silent>) -> Why {
    nodes.sort_by_key(|node| node.node);
    silent.sort_by_key(|silent| silent.node);
    let owned = owner_of(&nodes);
    let (owner, generation) = owned.unzip();
    let asked = nodes.iter().max_by_key(|node| node.epoch);
    let candidates = asked.map_or(&[][..], |node| &node.candidates);
    let mut why = Why {
        bucket: asked.map_or(0, |node| node.bucket),
        director: candidates.first().copied().unwrap_or(0),
        successor: candidates.get(1).copied(),
        owner,
        generation,
        backups: backups_of(&nodes, owner),
        agreed: is_agreed(&nodes, owner),
        path: path_of(&nodes, flow.ingress.unwrap_or(0), owner.is_some()),
        story: Vec::new(),
        flow,
        nodes,
        silent,
    };
    why.story = tell(&why);
    why
}

/// The Owner and its generation: by its own word, else by the newest of others.
fn owner_of(nodes: &[NodeWhy]) -> Option<(u16, u32)> {
    let sessions = || nodes.iter().filter_map(|node| node.session.as_ref());
    let newest = |own: bool| {
        let told =
            sessions().filter(move |session| (session.role == Role::Owner) == own && session.owner != 0);
        told.map(|session| (session.generation, session.owner)).max()
    };
    newest(true).or_else(|| newest(false)).map(|(generation, owner)| (owner, generation))
}

fn backups_of(nodes: &[NodeWhy], owner: Option<u16>) -> Vec<u16> {
    let backs_up = |node: &&NodeWhy| {
        let session = node.session.as_ref();
        session.is_some_and(|session| session.role == Role::Backup && Some(session.owner) == owner)
    };
    nodes.iter().filter(backs_up).map(|node| node.node).collect()
}

fn is_agreed(nodes: &[NodeWhy], owner: Option<u16>) -> bool {
    let directors = nodes.iter().map(|node| node.candidates.first());
    let owners = nodes.iter().filter_map(|node| Some(node.session.as_ref()?.owner));
    let same_director = directors.clone().all(|one| Some(one) == directors.clone().next());
    same_director && owners.into_iter().all(|one| Some(one) == owner)
}

/// Follows the packet from node to node.
fn path_of(nodes: &[NodeWhy], ingress: u16, known: bool) -> Vec<Step> {
    let mut path: Vec<Step> = Vec::new();
    let mut next = Some((ingress, Entry::Data));
    while let Some((at, entry)) = next.take()
        && path.len() < STEPS
    {
        let Some(node) = nodes.iter().find(|node| node.node == at) else { break };
        let said = match entry {
            // Of a flow that others know, what arrives is no first packet.
            Entry::Data if known => node.later.as_ref().unwrap_or(&node.arrives),
            Entry::Data | Entry::Redirect => &node.arrives,
            Entry::Query => node.asked.as_ref().unwrap_or(&node.arrives),
            Entry::Lookup => node.looked_up.as_ref().unwrap_or(&node.arrives),
            Entry::Grant => node.granted.as_ref().unwrap_or(&node.arrives),
        };
        next = said.to.map(|to| match &*said.verdict {
            "first_packet" => (to, Entry::Grant),
            "redirect" => (to, Entry::Redirect),
            "lookup" => (to, Entry::Lookup),
            _ => (to, Entry::Query),
        });
        path.push(Step { node: at, said: said.clone() });
    }
    path
}

/// How the packet comes to a node on its way.
#[derive(Clone, Copy)]
enum Entry {
    Data,
    Query,
    Lookup,
    Redirect,
    Grant,
}

fn tell(why: &Why) -> Vec<String> {
    let mut story = vec![told_director(why), told_owner(why)];
    story.extend(why.nodes.iter().find(|node| Some(node.node) == why.flow.ingress).map(told_policy));
    for (at, step) in why.path.iter().enumerate() {
        let first = if at == 0 { "the packet arrives at node" } else { "there, node" };
        story.push(format!("{first} {}, which {}", step.node, told_step(why, step)));
    }
    let last = why.path.last().and_then(|step| step.said.to);
    if let Some(silent) = last.and_then(|to| why.silent.iter().find(|silent| silent.node == to)) {
        story.push(format!("what node {} does with it is not known: {}", silent.node, silent.reason));
    }
    if !why.agreed {
        story.push(
            "the nodes that answered do not agree: views or records are on their way; ask again, then see `samepath members`"
                .into(),
        );
    }
    for silent in &why.silent {
        story.push(format!("node {} did not answer: {}", silent.node, silent.reason));
    }
    story
}

fn told_director(why: &Why) -> String {
    let next = match why.successor {
        Some(next) => format!("; if it died, node {next} would be"),
        None => String::new(),
    };
    format!("bucket {}: node {} is the Director{next}", why.bucket, why.director)
}

fn told_owner(why: &Why) -> String {
    let (Some(owner), Some(generation)) = (why.owner, why.generation) else {
        return "no node that answered knows the flow".into();
    };
    let session = why.nodes.iter().find(|node| node.node == owner).and_then(|node| node.session.as_ref());
    let mut told = match session.filter(|session| session.role == Role::Owner) {
        Some(session) => format!(
            "node {owner} owns the flow, generation {generation}: {}, since {} s, ends in {} s unless packets come, {} packets, {} bytes",
            session.state, session.age_s, session.timeout_s, session.packets, session.bytes
        ),
        None => format!("node {owner} owns the flow, generation {generation}, as others say"),
    };
    let backups: Vec<String> = why.backups.iter().map(ToString::to_string).collect();
    let _ = match backups.as_slice() {
        [] => write!(told, "; no backups"),
        several => write!(told, "; backups: {}", several.join(", ")),
    };
    let claims = why
        .nodes
        .iter()
        .filter(|node| node.session.as_ref().is_some_and(|session| session.role == Role::Claim));
    for claim in claims {
        let _ = write!(told, "; node {} granted it and has no record of it yet", claim.node);
    }
    told
}

fn told_policy(node: &NodeWhy) -> String {
    match &node.policy {
        None => "no policy: every flow is allowed".into(),
        Some(RuleSaid { rule: Some(rule), line, action, digest }) => {
            format!("policy {digest}: rule `{rule}` (line {line}) says {action}")
        }
        Some(RuleSaid { action, digest, .. }) => {
            format!("policy {digest}: no rule matches, the default says {action}")
        }
    }
}

fn told_step(why: &Why, Step { node, said }: &Step) -> String {
    let to = said.to.unwrap_or(0);
    let generation = said.generation.unwrap_or(0);
    match &*said.verdict {
        "forward" => format!("forwards it{}", told_way(why, *node)),
        "service" => format!("gives it to service {}", said.service.as_deref().unwrap_or("?")),
        "query" if why.nodes.iter().any(|one| one.node == *node && one.former == Some(to)) => {
            format!("directs the flow since a moment ago and asks the former Director, node {to} (Query)")
        }
        "query" => format!("asks the Director, node {to} (Query)"),
        "lookup" => {
            format!("asks the Director, node {to}, whose flow it may be (Lookup): it may not begin one")
        }
        "first_packet" => format!(
            "knows nobody who owns the flow, claims it for node {to}, generation {generation}, and sends it back (FirstPacket)"
        ),
        "redirect" => format!("sends it to the Owner, node {to}, generation {generation} (Redirect)"),
        "reject" => format!("rejects it ({}), and tells its sender", reason(said)),
        _ => format!("drops it ({})", reason(said)),
    }
}

fn reason(said: &Said) -> &str {
    said.reason.as_deref().unwrap_or("no reason")
}

fn told_way(why: &Why, node: u16) -> String {
    let Some(node) = why.nodes.iter().find(|one| one.node == node) else { return String::new() };
    let WaySaid { interface, neighbour, obstacle, .. } = &node.way;
    let mut told = String::new();
    if let Some(interface) = interface {
        let _ = write!(told, " by {interface}");
    }
    if let Some(neighbour) = neighbour {
        let _ = write!(told, " to {neighbour}");
    }
    if let Some(obstacle) = obstacle {
        let _ = write!(told, " ({obstacle})");
    }
    told
}

impl std::fmt::Display for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = |address: std::net::IpAddr, port: u16| match port {
            0 => address.to_string(),
            port => std::net::SocketAddr::new(address, port).to_string(),
        };
        let (from, to) = (end(self.src, self.sport), end(self.dst, self.dport));
        write!(f, "{} {from} → {to}", protocol_name(self.proto))?;
        if self.vlan != 0 {
            write!(f, " vlan {}", self.vlan)?;
        }
        if self.inner_vlan != 0 {
            write!(f, " inner vlan {}", self.inner_vlan)?;
        }
        match &self.zone {
            Some(zone) if !zone.is_empty() => write!(f, " in zone {zone}"),
            _ => Ok(()),
        }
    }
}
