//! Who follows sessions (`samepath sessions events`): what they want goes to the workers, what these tell is kept until it
//! is fetched, and whoever does not fetch for a while is forgotten.

use std::collections::VecDeque;
use std::sync::Arc;

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::events::{Event, Events, FOLLOWERS_MAX, Fate, Wanted};
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::mailbox::ToWorker;
use samepath_dataplane::session::State;
use samepath_dataplane::watch;
use samepath_dataplane::worker::Following;

use super::Node;
use super::watches::{LEASE_MS, REPLY_BYTES, end_of};
use crate::operator::api::{Reply, SessionRow};
use crate::operator::events::{FollowOrder, Followed, SessionEvent};
use crate::operator::filter::Filter;
use crate::operator::watch::KnownSeen;

/// Events kept for one who follows until they are fetched: every 50 ms.
const KEPT: usize = 8_192;

/// Events taken from one worker per wake-up, so that nothing else waits for long.
const PER_WORKER: usize = 1_024;

/// Those who follow.
#[derive(Default)]
pub(super) struct Followers {
    /// By bit in [`Event::followers`].
    open: [Option<Follower>; FOLLOWERS_MAX],
    /// By worker; none while nobody follows.
    rings: Vec<Arc<Events>>,
    /// Rises with every change of `open`.
    set: u64,
}

/// One who follows.
struct Follower {
    id: u64,
    wanted: Wanted,
    /// The first set it is in.
    since: u64,
    kept: VecDeque<SessionEvent>,
    /// Events that found no room in `kept`.
    overflowed: u64,
    /// What the rings had lost for its bit before.
    lost_before: u64,
    /// Sessions that had given way before.
    gave_way_before: u64,
    due: NowMs,
}

impl Followers {
    /// Somebody follows.
    pub(super) fn are_open(&self) -> bool {
        self.open.iter().any(Option::is_some)
    }

    fn bit_of(&self, id: u64) -> Option<usize> {
        self.open.iter().position(|place| place.as_ref().is_some_and(|follower| follower.id == id))
    }

    /// What the workers could not tell the one at `bit`.
    fn lost(&self, bit: usize) -> u64 {
        self.rings.iter().map(|ring| ring.lost[bit].get()).sum()
    }

    /// Every worker knows of those that were open at `set`.
    fn looks(&self, set: u64) -> bool {
        self.rings.iter().all(|ring| ring.adopted.get() >= set)
    }
}

impl Node {
    /// Begins to tell, goes on, or ends; the answer says what happened since.
    pub(super) fn follow(&mut self, order: &FollowOrder) -> Reply {
        self.take_session_events();
        let bit = match self.followers.bit_of(order.id) {
            Some(bit) => bit,
            None if order.end => return Reply::Followed(Followed::default()),
            None => match self.open_follower(order) {
                Ok(bit) => bit,
                Err(sentence) => return Reply::error(sentence),
            },
        };
        let due = self.now().plus(LEASE_MS);
        let (lost, gave_way) = (self.followers.lost(bit), self.gave_way());
        let Some(follower) = &mut self.followers.open[bit] else { return Reply::error("nobody follows") };
        follower.due = due;
        let mut told = Followed { node: self.config.node.0, ..Followed::default() };
        follower.tell(&mut told);
        told.lost = follower.overflowed + lost.saturating_sub(follower.lost_before);
        told.gave_way = gave_way.saturating_sub(follower.gave_way_before);
        if order.end {
            // Nobody will fetch these.
            told.lost += follower.kept.len() as u64;
        }
        let since = follower.since;
        told.looks = self.followers.looks(since);
        if order.end {
            self.followers.open[bit] = None;
            self.set_followers();
        }
        Reply::Followed(told)
    }

    fn open_follower(&mut self, order: &FollowOrder) -> Result<usize, String> {
        let wanted = wanted(&order.filter)?;
        let (workers, now, gave_way_before) = (self.workers.count(), self.now(), self.gave_way());
        let followers = &mut self.followers;
        let bit = followers.open.iter().position(Option::is_none).ok_or_else(|| {
            format!("{FOLLOWERS_MAX} operators follow sessions already: wait until one of them ends")
        })?;
        if followers.rings.is_empty() {
            followers.rings.resize_with(workers, Default::default);
        }
        let (since, lost_before) = (followers.set + 1, followers.lost(bit));
        followers.open[bit] = Some(Follower {
            id: order.id,
            wanted,
            since,
            kept: VecDeque::new(),
            overflowed: 0,
            lost_before,
            gave_way_before,
            due: now,
        });
        tracing::info!(filter = ?order.filter, "sessions are followed");
        self.set_followers();
        Ok(bit)
    }

    /// Sessions that gave way to new ones since the start.
    fn gave_way(&self) -> u64 {
        let counted = self.workers.counters().iter();
        counted
            .flat_map(|c| [&c.sessions_evicted, &c.backups_evicted, &c.claims_evicted])
            .map(|c| c.get())
            .sum()
    }

    /// Tells the workers who follows now.
    fn set_followers(&mut self) {
        self.followers.set += 1;
        let Followers { open, rings, set } = &mut self.followers;
        let wanted = std::array::from_fn(|bit| open[bit].as_ref().map(|follower| follower.wanted));
        let anybody = wanted.iter().any(Option::is_some);
        for (worker, ring) in rings.iter().enumerate() {
            let following = anybody.then(|| Box::new(Following::new(ring.clone(), *set, &wanted)));
            self.workers.tell(worker, ToWorker::Follow(following));
        }
        if !anybody {
            rings.clear();
        }
    }

    /// Takes what the workers told, and forgets who does not ask any longer. To be called often while somebody follows.
    pub(super) fn watch_followers(&mut self) {
        if !self.followers.are_open() {
            return;
        }
        self.take_session_events();
        let now = self.now();
        let mut gone = false;
        for place in &mut self.followers.open {
            let over = place.as_ref().is_some_and(|follower| follower.due <= now);
            if over {
                *place = None;
            }
            gone |= over;
        }
        if gone {
            self.set_followers();
        }
    }

    fn take_session_events(&mut self) {
        let now = self.now();
        let Followers { open, rings, .. } = &mut self.followers;
        for ring in rings {
            for event in std::iter::from_fn(|| ring.take()).take(PER_WORKER) {
                let places = open.iter_mut().enumerate();
                for (_, follower) in places.filter(|(bit, _)| event.followers >> bit & 1 != 0) {
                    // Who had this place before may have wanted something else.
                    if let Some(follower) = follower.as_mut().filter(|one| event.set >= one.since) {
                        follower.keep(&event, now);
                    }
                }
            }
        }
    }
}

impl Follower {
    fn keep(&mut self, event: &Event, now: NowMs) {
        if self.kept.len() < KEPT {
            self.kept.push_back(in_words(event, now));
        } else {
            self.overflowed += 1;
        }
    }

    /// Tells what is kept, as far as it fits.
    fn tell(&mut self, told: &mut Followed) {
        let mut left = REPLY_BYTES;
        while let Some(event) = self.kept.front() {
            let size = serde_json::to_vec(event).map_or(usize::MAX, |text| text.len() + 1);
            let Some(rest) = left.checked_sub(size) else {
                told.more = true;
                return;
            };
            left = rest;
            told.events.extend(self.kept.pop_front());
        }
    }
}

fn in_words(event: &Event, now: NowMs) -> SessionEvent {
    let (name, was) = match event.fate {
        Fate::Began => ("new", None),
        Fate::Changed(was) => ("update", Some(KnownSeen::from(&was))),
        Fate::Ended => ("destroy", None),
    };
    SessionEvent { at_ns: event.at_ns, event: name.into(), was, session: SessionRow::of(&event.session, now) }
}

/// What workers are asked for.
fn wanted(filter: &Filter) -> Result<Wanted, String> {
    if let (Some(src), Some(dst)) = (filter.src, filter.dst)
        && src.addr().is_ipv4() != dst.addr().is_ipv4()
    {
        return Err(format!("{src} and {dst} are not of one IP version: correct one of them"));
    }
    let state = |name: &String| {
        let known = State::ALL.iter().find(|state| state.name().eq_ignore_ascii_case(name));
        known
            .copied()
            .ok_or_else(|| format!("there is no state {name}: take one that `samepath sessions` shows"))
    };
    Ok(Wanted {
        flow: watch::Filter {
            proto: filter.proto,
            from: end_of(filter.src, filter.sport),
            to: end_of(filter.dst, filter.dport),
            both_ways: false,
            vlan: filter.vlan,
            zone: None,
        },
        state: filter.state.as_ref().map(state).transpose()?,
        role: filter.role.map(Into::into),
        owner: filter.owner.map(NodeId),
    })
}

#[cfg(test)]
mod tests {
    use samepath_dataplane::flow::{FlowKey, Generation, key_bytes, proto};
    use samepath_dataplane::session::{Role, Session};
    use samepath_dataplane::watch::Known;

    use super::*;

    fn event(port: u16) -> Event {
        let end = |text: &str, port| (key_bytes(text.parse().unwrap()), port);
        let (key, origin) = FlowKey::new(end("10.0.0.1", port), end("10.0.0.2", 80), proto::TCP, (0, 0));
        let session = Session {
            key,
            role: Role::Owner,
            state: State::TcpEstablished,
            origin,
            dirty: false,
            owner: NodeId(1),
            mark: 0,
            admission: Default::default(),
            generation: Generation(1),
            version: 1,
            tcp: Default::default(),
            created: NowMs(0),
            expires: NowMs(0),
            timeout_ms: 0,
            packets: 3,
            bytes: 180,
        };
        let was = Known { state: State::TcpSynRecv, ..Known::from(&session) };
        Event { followers: 1, set: 1, at_ns: 5, fate: Fate::Changed(was), session }
    }

    fn follower() -> Follower {
        Follower {
            id: 1,
            wanted: Wanted::default(),
            since: 1,
            kept: VecDeque::new(),
            overflowed: 0,
            lost_before: 0,
            gave_way_before: 0,
            due: NowMs(0),
        }
    }

    #[test]
    fn what_is_kept_is_told_in_order_in_replies_of_bounded_size_and_the_rest_is_counted() {
        let mut follower = follower();
        for port in 0..KEPT as u16 + 3 {
            follower.keep(&event(port), NowMs(0));
        }
        assert_eq!((follower.kept.len(), follower.overflowed), (KEPT, 3));
        let (mut ports, mut replies) = (Vec::new(), 0);
        loop {
            let mut told = Followed::default();
            follower.tell(&mut told);
            assert!(serde_json::to_vec(&told.events).unwrap().len() <= REPLY_BYTES + 2);
            ports.extend(told.events.iter().map(|event| event.session.sport));
            replies += 1;
            if !told.more {
                break;
            }
        }
        assert!(replies > 1 && ports == (0..KEPT as u16).collect::<Vec<_>>(), "{replies}");
    }

    #[test]
    fn an_event_says_what_was_and_a_filter_becomes_what_workers_compare() {
        let told = in_words(&event(4), NowMs(0));
        assert_eq!((&*told.event, told.was.map(|was| was.state)), ("update", Some("SYN_RECV".into())));
        let filter = Filter {
            src: Some("10.0.0.0/8".parse().unwrap()),
            dport: Some(80),
            state: Some("established".into()),
            owner: Some(3),
            ..Filter::default()
        };
        let asked = wanted(&filter).unwrap();
        assert_eq!((asked.state, asked.owner), (Some(State::TcpEstablished), Some(NodeId(3))));
        assert_eq!((asked.flow.from.length, asked.flow.to.port), (104, Some(80)));
        let unknown = wanted(&Filter { state: Some("ASLEEP".into()), ..Filter::default() });
        assert!(unknown.unwrap_err().contains("no state ASLEEP"));
        let mixed = Filter { dst: Some("::1/128".parse().unwrap()), ..filter };
        assert!(wanted(&mixed).unwrap_err().contains("10.0.0.0/8 and ::1/128"));
    }
}
