//! `samepath sessions events`: sessions of one node as they begin, change and end.
//!
//! Whoever follows draws a number and asks again and again under it; a node that is not asked for a while tells nobody any
//! longer.

mod follow;

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::api::SessionRow;
use super::filter::Filter;
use super::sessions;
use super::watch::KnownSeen;

pub use follow::{EventsOrder, run};

/// A request to tell what became of sessions since the last one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowOrder {
    /// Drawn by who follows.
    pub id: u64,
    /// Which sessions; its `limit` means nothing here.
    #[serde(default)]
    pub filter: Filter,
    /// Follow no longer.
    #[serde(default)]
    pub end: bool,
}

/// Reply to [`super::Request::Follow`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Followed {
    /// The node.
    pub node: u16,
    /// All its workers tell.
    pub looks: bool,
    /// Events since the first request that could not be told.
    pub lost: u64,
    /// Sessions that gave way to new ones since then, whatever the filter: their end is not told.
    pub gave_way: u64,
    /// More happened than there was room for in this reply.
    pub more: bool,
    /// What happened since the last request, by worker in order.
    pub events: Vec<SessionEvent>,
}

/// A session that began, changed or ended.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SessionEvent {
    /// When, ns since 1970 by the node's clock.
    pub at_ns: u64,
    /// `new`, `update` or `destroy`: this node knows the session from now on, otherwise than before, no longer.
    pub event: Cow<'static, str>,
    /// What it was before an `update`; null: something else happened.
    pub was: Option<KnownSeen>,
    /// The session as it is now; after `destroy` as it was last.
    pub session: SessionRow,
}

impl fmt::Display for SessionEvent {
    /// In the shape of `conntrack -E -o timestamp`, and what was before.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.at_ns / 1_000_000_000, self.at_ns / 1000 % 1_000_000);
        let event = format!("[{}]", self.event.to_uppercase());
        write!(f, "{seconds}.{micros:06} {event:>9} {}", sessions::line(&self.session))?;
        let Some(was) = &self.was else { return Ok(()) };
        let row = &self.session;
        if was.state != row.state {
            write!(f, " was={}", was.state)?;
        }
        if was.role != row.role.name() {
            write!(f, " was_role={}", was.role)?;
        }
        if was.owner != row.owner {
            write!(f, " was_owner={}", was.owner)?;
        }
        if was.generation != row.generation {
            write!(f, " was_generation={}", was.generation)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::api::Role;

    #[test]
    fn an_event_reads_like_conntracks_and_says_what_was() {
        let session = SessionRow {
            proto: "tcp".into(),
            src: "10.0.0.1".parse().unwrap(),
            dst: "10.0.0.2".parse().unwrap(),
            sport: 4000,
            dport: 80,
            vlan: 0,
            inner_vlan: 0,
            state: "ESTABLISHED".into(),
            role: Role::Owner,
            owner: 1,
            generation: 2,
            age_s: 3,
            timeout_s: 432_000,
            packets: 3,
            bytes: 180,
        };
        let at_ns = 1_700_000_000_000_123_456;
        let new = SessionEvent { at_ns, event: "new".into(), was: None, session };
        let line = "tcp      6 432000 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=4000 dport=80 packets=3 bytes=180 role=owner owner=1 generation=2 age=3";
        assert_eq!(new.to_string(), format!("1700000000.000123     [NEW] {line}"));
        let was = KnownSeen { role: "backup".into(), owner: 3, generation: 1, state: "ESTABLISHED".into() };
        let update = SessionEvent { event: "update".into(), was: Some(was), ..new };
        let told = format!("1700000000.000123  [UPDATE] {line} was_role=backup was_owner=3 was_generation=1");
        assert_eq!(update.to_string(), told);
    }
}
