//! From what a worker wrote down to names that operators know.

use std::hash::Hasher;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use samepath_bpf::PortRole;
use samepath_dataplane::decide::Arrival;
use samepath_dataplane::session::Role;
use samepath_dataplane::verdict::DropReason;
use samepath_dataplane::watch::{Known, Outcome, Sighting, Visit};
use samepath_dataplane::wire::packet::L4;
use samepath_dataplane::wire::tcp::{ACK, FIN, RST, SYN, URG};
use samepath_dataplane::wire::tunnel::{TunnelKind, TunnelOption};
use siphasher::sip::SipHasher13;

use crate::config::values::protocol_name;
use crate::daemon::Node;
use crate::nic::Nic;
use crate::operator::watch::{FlowSeen, KnownSeen, OutSeen, Seen, TunnelSeen};

/// Bytes of a packet, from its IP header on, by which it is known again.
const KNOWN_BY: usize = 128;

/// TCP's push flag; nothing in the dataplane asks for it.
const PSH: u8 = 8;

impl Node {
    /// What one worker saw, in words. `frames`: with the frame itself.
    pub(super) fn seen(&self, sighting: &Sighting, worker: usize, frames: bool) -> Seen {
        let visit = &sighting.visit;
        let nic = self.nic(visit.port);
        let frame = |bytes: &[u8]| (frames && !bytes.is_empty()).then(|| STANDARD.encode(bytes));
        Seen {
            number: 0,
            at_ns: visit.at_ns,
            worker: worker as u16,
            packet: packet_name(sighting),
            interface: nic.map_or_else(String::new, |nic| nic.name.clone()),
            queue: visit.queue,
            zone: nic.map_or_else(String::new, |nic| nic.zone.clone()),
            from_service: nic.is_some_and(|nic| nic.role == PortRole::Service),
            handed_over: visit.handed_over,
            waited: visit.waited,
            length: visit.length,
            tunnel: tunnel(visit),
            flow: flow(visit),
            says: says(visit),
            director: visit.director.0,
            before: visit.before.as_ref().map(KnownSeen::from),
            after: visit.after.as_ref().map(KnownSeen::from),
            said: visit.verdict.map(|verdict| self.said(verdict)),
            answered: visit.answered,
            outcome: outcome(&visit.outcome).into(),
            reason: reason(&visit.outcome).map(|reason| reason.name().into()),
            out: self.out(&visit.outcome),
            frame: frame(&sighting.arrived),
            frame_left: frame(&sighting.left),
        }
    }

    fn nic(&self, port: u8) -> Option<&Nic> {
        self.nics.iter().find(|nic| nic.port == port)
    }

    fn out(&self, outcome: &Outcome) -> Option<OutSeen> {
        let &Outcome::Left { port, queue, pieces, length } = outcome else { return None };
        let interface = self.nic(port)?.name.clone();
        Some(OutSeen { interface, queue, pieces, length })
    }
}

/// The same on all nodes for the same packet: none changes it before it leaves by a data interface.
fn packet_name(sighting: &Sighting) -> String {
    let Visit { inner_off, l3_off, length, .. } = sighting.visit;
    let start = usize::from(inner_off) + usize::from(l3_off);
    let bytes = sighting.arrived.get(start..).unwrap_or(&sighting.arrived);
    let mut hasher = SipHasher13::new();
    hasher.write(&bytes[..bytes.len().min(KNOWN_BY)]);
    hasher.write_u32(length.saturating_sub(u32::from(inner_off)));
    format!("{:016x}", hasher.finish())
}

fn tunnel(visit: &Visit) -> Option<TunnelSeen> {
    let Some(Arrival::Tunnel(option)) = &visit.arrival else { return None };
    let TunnelOption { kind, sender, ingress, owner, generation, hops, epoch, .. } = option;
    let kind = match kind {
        TunnelKind::Query => "query",
        TunnelKind::Lookup => "lookup",
        TunnelKind::FirstPacket => "first_packet",
        TunnelKind::Redirect => "redirect",
        TunnelKind::Gather => "gather",
        TunnelKind::Hello => "hello",
    };
    Some(TunnelSeen {
        kind: kind.into(),
        sender: sender.0,
        ingress: ingress.0,
        owner: owner.0,
        generation: generation.0,
        crossings: *hops,
        epoch: *epoch,
    })
}

fn flow(visit: &Visit) -> Option<FlowSeen> {
    visit.l4?;
    let (src, sport) = visit.key.source(visit.direction);
    let (dst, dport) = visit.key.destination(visit.direction);
    let (vlan, _) = visit.key.vlans();
    Some(FlowSeen { proto: protocol_name(visit.key.proto()), src, sport, dst, dport, vlan })
}

fn says(visit: &Visit) -> String {
    if let Some(fragment) = visit.fragment {
        let more = if fragment.more { ", more follow" } else { "" };
        return format!("fragment from byte {}{more}", fragment.offset);
    }
    match visit.l4 {
        Some(L4::Tcp(segment)) => {
            let flags = [(SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (PSH, "PSH"), (ACK, "ACK"), (URG, "URG")];
            let set = flags.iter().filter(|(flag, _)| segment.flags & flag != 0).map(|(_, name)| *name);
            set.collect::<Vec<_>>().join(" ")
        }
        Some(L4::IcmpQuery { request: true }) => "request".into(),
        Some(L4::IcmpQuery { request: false }) => "reply".into(),
        Some(L4::IcmpError) => "ICMP error about it".into(),
        Some(L4::Sctp { chunk, .. }) => format!("chunk {chunk}"),
        Some(L4::Udp | L4::Other | L4::None) | None => String::new(),
    }
}

impl From<&Known> for KnownSeen {
    fn from(known: &Known) -> Self {
        Self {
            role: match known.role {
                Role::Owner => "owner",
                Role::Backup => "backup",
                Role::Claim => "claim",
            }
            .into(),
            owner: known.owner.0,
            generation: known.generation.0,
            state: known.state.name().into(),
        }
    }
}

fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Waits => "waits",
        Outcome::Left { .. } => "left",
        Outcome::Dropped(_) => "dropped",
        Outcome::HandedTo(_) => "handed_over",
    }
}

fn reason(outcome: &Outcome) -> Option<DropReason> {
    match outcome {
        Outcome::Dropped(reason) => Some(*reason),
        Outcome::Waits | Outcome::Left { .. } | Outcome::HandedTo(_) => None,
    }
}
