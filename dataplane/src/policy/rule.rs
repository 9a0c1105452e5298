//! A rule in the form the classifier takes, and the question it answers.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::flow::address_of;

/// All zones, as [`Rule::zones`].
pub const ANY_ZONE: u16 = u16::MAX;

/// What a rule says of the flows it matches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// They may begin.
    Allow,
    /// They may begin, and go through the service with this number at their Owner.
    Service(u8),
    /// Their packets are dropped.
    Deny,
    /// Their packets are dropped and the sender is told: RST for TCP, ICMP for others.
    Reject,
}

impl Action {
    /// Its word in policy files and answers.
    pub fn name(self) -> &'static str {
        match self {
            Action::Allow => "allow",
            Action::Service(_) => "service",
            Action::Deny => "deny",
            Action::Reject => "reject",
        }
    }
}

/// Protocols, and what of layer 4 must fit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Match {
    /// IANA protocol numbers; none: all.
    pub protocols: Vec<u8>,
    /// Source ports; none: all.
    pub source_ports: Vec<RangeInclusive<u16>>,
    /// Destination ports, of ICMP types; none: all.
    pub destination_ports: Vec<RangeInclusive<u16>>,
}

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Zones it holds for, bit n for zone number n.
    pub zones: u16,
    /// Where packets come from; none: anywhere.
    pub source: Vec<IpNet>,
    /// Where they go; none: anywhere.
    pub destination: Vec<IpNet>,
    /// One of these must fit.
    pub matches: Vec<Match>,
    /// What it says.
    pub action: Action,
    /// Idle times of its sessions, 0 for the node's.
    pub terms: u8,
    /// Its sessions stay at the node where they begin.
    pub local: bool,
    /// Its flows are told to the log.
    pub log: bool,
}

/// What is asked: the first packet of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Question {
    /// Number of the zone it arrived in.
    pub zone: u8,
    /// IANA protocol number.
    pub protocol: u8,
    /// Source address in the form of keys.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
    /// Source port, 0 without.
    pub source_port: u16,
    /// Destination port; of ICMP the type.
    pub destination_port: u16,
}

impl Rule {
    /// Whether the rule matches, asked one condition after the other.
    pub fn matches(&self, question: &Question) -> bool {
        let (source, destination) = (address_of(&question.source), address_of(&question.destination));
        let zone = 1_u16.checked_shl(u32::from(question.zone)).unwrap_or(0);
        self.zones & zone != 0
            && is_in(&self.source, source)
            && is_in(&self.destination, destination)
            && self.matches.iter().any(|one| one.fits(question))
    }
}

impl Match {
    fn fits(&self, question: &Question) -> bool {
        let any = |ranges: &[RangeInclusive<u16>], port: &u16| {
            ranges.is_empty() || ranges.iter().any(|range| range.contains(port))
        };
        (self.protocols.is_empty() || self.protocols.contains(&question.protocol))
            && any(&self.source_ports, &question.source_port)
            && any(&self.destination_ports, &question.destination_port)
    }
}

fn is_in(prefixes: &[IpNet], address: IpAddr) -> bool {
    prefixes.is_empty() || prefixes.iter().any(|prefix| prefix.contains(&address))
}
