//! From a session record to the row an operator sees.

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::session;

use super::api::{Role, SessionRow};
use crate::config::values::protocol_name;

impl From<session::Role> for Role {
    fn from(role: session::Role) -> Self {
        match role {
            session::Role::Owner => Role::Owner,
            session::Role::Backup => Role::Backup,
            session::Role::Claim => Role::Claim,
        }
    }
}

impl From<Role> for session::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Owner => session::Role::Owner,
            Role::Backup => session::Role::Backup,
            Role::Claim => session::Role::Claim,
        }
    }
}

impl SessionRow {
    /// The row of `session` at the time `now`, seen from its originator.
    pub fn of(session: &session::Session, now: NowMs) -> Self {
        let (src, sport) = session.key.source(session.origin);
        let (dst, dport) = session.key.destination(session.origin);
        let (vlan, inner_vlan) = session.key.vlans();
        Self {
            proto: protocol_name(session.key.proto()),
            src,
            dst,
            sport,
            dport,
            vlan,
            inner_vlan,
            state: session.state.name().into(),
            role: session.role.into(),
            owner: session.owner.0,
            generation: session.generation.0,
            age_s: now.since(session.created) / 1000,
            timeout_s: session.expires.since(now).div_ceil(1000),
            packets: session.packets,
            bytes: session.bytes,
        }
    }
}

/// A line in the shape of `conntrack -L`.
pub fn line(row: &SessionRow) -> String {
    let number = crate::config::values::protocol(&row.proto).map_or(0, u32::from);
    let vlans = match (row.vlan, row.inner_vlan) {
        (0, _) => String::new(),
        (vlan, 0) => format!(" vlan={vlan}"),
        (vlan, inner) => format!(" vlan={vlan} inner_vlan={inner}"),
    };
    format!(
        "{:<8} {number} {} {} src={} dst={} sport={} dport={}{vlans} packets={} bytes={} role={} owner={} generation={} age={}",
        row.proto,
        row.timeout_s,
        row.state,
        row.src,
        row.dst,
        row.sport,
        row.dport,
        row.packets,
        row.bytes,
        row.role.name(),
        row.owner,
        row.generation,
        row.age_s
    )
}
