//! What `samepath sessions events` sees: sessions that begin, change and end, told as it happens through a ring of fixed
//! size.
//!
//! ```text
//!   worker ──┬─ somebody follows it, and there is room ──► ring ──► control
//!            └─ no room, or too many ──► counted as lost
//! ```

use crossbeam::queue::ArrayQueue;

use crate::counters::Counter;
use crate::flow::NodeId;
use crate::limits::EVENTS_WAITING;
use crate::session::{Role, Session, State};
use crate::watch::{Asked, Filter, Known, Sieve};

/// That many may follow at once.
pub const FOLLOWERS_MAX: usize = 8;

/// Which sessions somebody follows; absent parts always hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// The flow, from its originator to its responder. Zones are not asked.
    pub flow: Filter,
    /// State before or after.
    pub state: Option<State>,
    /// What this node is to it, before or after.
    pub role: Option<Role>,
    /// Its Owner, before or after.
    pub owner: Option<NodeId>,
}

/// [`Wanted`], ready to be compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Test {
    sieve: Sieve,
    wanted: Wanted,
}

impl Test {
    pub(crate) fn new(wanted: &Wanted) -> Self {
        let flow = Filter { both_ways: false, zone: None, ..wanted.flow };
        Self { sieve: Sieve::new(&flow), wanted: *wanted }
    }

    pub(crate) fn holds(&self, session: &Session) -> bool {
        let Wanted { state, role, owner, .. } = self.wanted;
        state.is_none_or(|state| state == session.state)
            && role.is_none_or(|role| role == session.role)
            && owner.is_none_or(|owner| owner == session.owner)
            && self.sieve.lets_through(&Asked::of_session(session))
    }
}

/// What became of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is new to this node.
    Began,
    /// Its role, Owner, generation or state is another one; this is what it was.
    Changed(Known),
    /// This node knows it no longer.
    Ended,
}

/// A session that began, changed or ended.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Event {
    /// Who follows it, by bit.
    pub followers: u8,
    /// Number of the followers it was told for, see [`crate::worker::Following`].
    pub set: u64,
    /// When, ns since 1970.
    pub at_ns: u64,
    /// What happened.
    pub fate: Fate,
    /// The session as it is now; of one that ended, as it was last.
    pub session: Session,
}

/// The ring between one worker and control.
#[derive(Debug)]
pub struct Events {
    told: ArrayQueue<Event>,
    /// Events that could not be told, by follower.
    pub lost: [Counter; FOLLOWERS_MAX],
    /// Number of the followers for whom the worker looks now.
    pub adopted: Counter,
}

impl Default for Events {
    /// This is where memory is allocated.
    fn default() -> Self {
        Self { told: ArrayQueue::new(EVENTS_WAITING), lost: Default::default(), adopted: Counter::default() }
    }
}

impl Events {
    /// The oldest that was told, for control.
    pub fn take(&self) -> Option<Event> {
        self.told.pop()
    }

    /// Tells one; false if there is no room.
    pub(crate) fn tell(&self, event: Event) -> bool {
        self.told.push(event).is_ok()
    }

    /// One is lost to `followers`.
    pub(crate) fn lose(&self, followers: u8) {
        for (at, lost) in self.lost.iter().enumerate() {
            lost.add(u64::from(followers >> at & 1));
        }
    }
}
