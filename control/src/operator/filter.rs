//! Which sessions an operator wants to see.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::api::{Count, Role, SessionRow};
use crate::config::values;

/// Conditions that must all hold; an absent one always holds.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// IANA protocol number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proto: Option<u8>,
    /// The originator's address lies in this prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<IpNet>,
    /// The responder's address lies in this prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst: Option<IpNet>,
    /// The originator's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sport: Option<u16>,
    /// The responder's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
    /// Name of the state, any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What the answering node is to the flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The node that processes the flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<u16>,
    /// Outer VLAN id, 0 for untagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// At most this many rows (the daemon stops looking).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl Filter {
    /// Whether a session is wanted; `limit` is for the caller, see [`Filter::is_full`].
    pub fn matches(&self, row: &SessionRow) -> bool {
        fn holds<T>(condition: &Option<T>, test: impl FnOnce(&T) -> bool) -> bool {
            condition.as_ref().is_none_or(test)
        }
        holds(&self.proto, |proto| values::protocol_name(*proto) == row.proto)
            && holds(&self.src, |prefix| prefix.contains(&row.src))
            && holds(&self.dst, |prefix| prefix.contains(&row.dst))
            && holds(&self.sport, |port| *port == row.sport)
            && holds(&self.dport, |port| *port == row.dport)
            && holds(&self.state, |state| state.eq_ignore_ascii_case(&row.state))
            && holds(&self.role, |role| *role == row.role)
            && holds(&self.owner, |owner| *owner == row.owner)
            && holds(&self.vlan, |vlan| *vlan == row.vlan)
    }

    /// Whether `rows` rows are all that was asked for.
    pub fn is_full(&self, rows: usize) -> bool {
        self.limit.is_some_and(|limit| rows >= limit)
    }
}

impl Count {
    /// Counts one session.
    pub fn add(&mut self, role: Role) {
        self.count += 1;
        match role {
            Role::Owner => self.owner += 1,
            Role::Backup => self.backup += 1,
            Role::Claim => self.claim += 1,
        }
    }
}

/// An address or prefix; a bare address stands for itself alone.
pub fn prefix(text: &str) -> Result<IpNet, String> {
    let net: Option<IpNet> = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    net.ok_or_else(|| {
        "this is neither an IP address nor a prefix; write one like 10.0.0.1 or 10.0.0.0/8".into()
    })
}
