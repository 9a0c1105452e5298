//! From the words of `samepath why` to a worker's and back.

use samepath_bpf::PortRole;
use samepath_dataplane::flow::{FlowKey, NodeId, key_bytes, proto};
use samepath_dataplane::inquiry::{Explained, Inquiry, Way};
use samepath_dataplane::route::Resolution;
use samepath_dataplane::verdict::Verdict;
use samepath_dataplane::wire::tunnel::TunnelKind;

use super::Node;
use crate::nic::Nic;
use crate::operator::api::SessionRow;
use crate::operator::why::{Flow, NodeWhy, Said, WaySaid};

impl Node {
    /// The flow with zone and ingress; an error is a sentence for the operator.
    pub(super) fn filled_in_flow(&self, flow: Flow) -> Result<Flow, String> {
        let has_ports = matches!(flow.proto, proto::TCP | proto::UDP | proto::SCTP);
        if flow.src.is_ipv4() != flow.dst.is_ipv4() {
            return Err(format!(
                "{} and {} are not of one IP version: a flow has two IPv4 or two IPv6 ends; correct one of them",
                flow.src, flow.dst
            ));
        }
        if has_ports && (flow.sport == 0 || flow.dport == 0) {
            return Err("a flow of this protocol has a port at each end: write ADDRESS:PORT twice".into());
        }
        let ingress = flow.ingress.unwrap_or(self.config.node.0);
        let known = |node: u16| {
            node == self.config.node.0 || self.config.peers.iter().any(|peer| peer.node == NodeId(node))
        };
        if !known(ingress) {
            return Err(format!("--ingress {ingress} is not a node of this cluster: see `samepath members`"));
        }
        let zone = match flow.zone {
            Some(zone) => zone,
            None => self.zone_towards(flow.src).unwrap_or_default(),
        };
        if zone.is_empty() && self.policy.version() != 0 {
            return Err(format!(
                "no data interface leads back to {}, so its zone is not known, and the policy asks for it: give --zone",
                flow.src
            ));
        }
        Ok(Flow { zone: Some(zone), ingress: Some(ingress), ..flow })
    }

    /// Zone of the interface by which an address is reached.
    fn zone_towards(&self, address: std::net::IpAddr) -> Option<String> {
        let (ifindex, _) = self.routes.next_hop(address, 0)?;
        let nic = self.nics.iter().find(|nic| nic.ifindex == ifindex && nic.role != PortRole::ClusterLink)?;
        Some(nic.zone.clone())
    }

    /// What a worker is asked.
    pub(super) fn inquiry(&self, flow: &Flow) -> Result<Inquiry, String> {
        let zone = match flow.zone.as_deref().unwrap_or_default() {
            "" => 0,
            name => self.zone_number(name).ok_or_else(|| self.no_such_zone(name))?,
        };
        let ends = ((key_bytes(flow.src), flow.sport), (key_bytes(flow.dst), flow.dport));
        let (key, direction) = FlowKey::new(ends.0, ends.1, flow.proto, (flow.vlan, flow.inner_vlan));
        let ingress = NodeId(flow.ingress.unwrap_or(self.config.node.0));
        Ok(Inquiry { key, direction, zone, ingress })
    }

    pub(super) fn no_such_zone(&self, name: &str) -> String {
        format!(
            "node {} has no zone `{name}`: its zones are {}",
            self.config.node,
            self.config.zones().join(", ")
        )
    }

    pub(super) fn zone_number(&self, name: &str) -> Option<u8> {
        self.nics.iter().find(|nic| nic.zone == name).map(|nic| nic.zone_number)
    }

    /// What this node says of a flow.
    pub(super) fn node_why(&self, explained: &Explained) -> NodeWhy {
        let said = |verdict: &Verdict| self.said(*verdict);
        NodeWhy {
            node: self.config.node.0,
            epoch: explained.epoch,
            bucket: explained.bucket,
            candidates: explained.candidates.iter().map(|node| node.0).collect(),
            former: explained.former.map(|node| node.0),
            aggregation: self.settings.aggregation,
            session: explained.session.as_ref().map(|session| SessionRow::of(session, self.now())),
            policy: explained.judgement.and_then(|judgement| self.policy.said(explained.policy, &judgement)),
            arrives: self.said(explained.arrives),
            later: explained.later.as_ref().map(said),
            asked: explained.asked.as_ref().map(said),
            looked_up: explained.looked_up.as_ref().map(said),
            granted: explained.granted.as_ref().map(said),
            way: self.way_said(&explained.way),
        }
    }

    pub(super) fn said(&self, verdict: Verdict) -> Said {
        let named = |verdict: &'static str| Said { verdict: verdict.into(), ..Said::default() };
        match verdict {
            Verdict::Forward => named("forward"),
            Verdict::Service(number) => {
                let service = usize::from(number).checked_sub(1).and_then(|at| self.config.services.get(at));
                Said { service: service.map(|service| service.name.clone()), ..named("service") }
            }
            Verdict::Tunnel { kind, to, generation, .. } => {
                let verdict = match kind {
                    TunnelKind::Query => "query",
                    TunnelKind::Lookup => "lookup",
                    TunnelKind::FirstPacket => "first_packet",
                    TunnelKind::Gather => "gather",
                    TunnelKind::Redirect | TunnelKind::Hello => "redirect",
                };
                Said { to: Some(to.0), generation: Some(generation.0), ..named(verdict) }
            }
            Verdict::Reject(reason) => Said { reason: Some(reason.name().into()), ..named("reject") },
            Verdict::Drop(reason) => Said { reason: Some(reason.name().into()), ..named("drop") },
        }
    }

    fn way_said(&self, way: &Way) -> WaySaid {
        let by_port = |port: u8| self.nics.iter().find(|nic| nic.port == port);
        let by_index = |index: u32| self.nics.iter().find(|nic| nic.ifindex == index);
        let nic: Option<&Nic> = match way.hop {
            Some(hop) => by_port(hop.port),
            None => way.neighbour.and_then(|(ifindex, _)| by_index(ifindex)),
        };
        let obstacle = match way.resolution {
            Resolution::Send(_) if nic.is_some_and(|nic| nic.role == PortRole::ClusterLink) => {
                Some("its route leads to the cluster link")
            }
            Resolution::Send(_) => None,
            Resolution::Unresolved { .. } => Some("the neighbour's link address is not known yet"),
            Resolution::NoRoute => Some("no route"),
            Resolution::Refused => Some("the route refuses it"),
            Resolution::Local => Some("it is an address of this node"),
            Resolution::Elsewhere => Some("its route leads to no interface of samepath"),
        };
        WaySaid {
            interface: nic.map(|nic| nic.name.clone()),
            neighbour: way.neighbour.map(|(_, address)| address),
            mac: way.hop.map(|hop| hop.destination_mac.map(|byte| format!("{byte:02x}")).join(":")),
            mtu: way.hop.map(|hop| hop.mtu),
            obstacle: obstacle.map(Into::into),
        }
    }
}
