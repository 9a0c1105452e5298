//! From what nodes have seen to packets and their steps.
//!
//! A packet is known again by its bytes, which no node changes before it leaves. Its steps are put in order by what follows
//! from what, so that clocks that differ confuse nobody: a node that tunnels says to whom, and the tunnel says from whom and
//! how often the packet has crossed.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::story::told;
use super::{TraceStep, Traced};
use crate::operator::watch::{Seen, Watched};

/// How long the next step of a packet is waited for.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Something seen that is not yet a step.
#[derive(Debug)]
struct Loose {
    node: u16,
    seen: Seen,
    since: Instant,
}

/// A packet whose steps are being put together.
#[derive(Debug)]
struct Open {
    steps: Vec<(u16, Seen)>,
    /// When its last step became known.
    since: Instant,
    complete: bool,
}

/// Puts packets together.
#[derive(Debug)]
pub(super) struct Join {
    wanted: usize,
    begun: usize,
    told: usize,
    loose: Vec<Loose>,
    open: Vec<Open>,
    /// Packets beyond those that are wanted.
    ignored: HashSet<String>,
}

impl Join {
    /// For so many packets.
    pub(super) fn new(wanted: usize) -> Self {
        Self { wanted, begun: 0, told: 0, loose: Vec::new(), open: Vec::new(), ignored: HashSet::new() }
    }

    /// All packets that were wanted have been told.
    pub(super) fn is_done(&self) -> bool {
        self.told >= self.wanted
    }

    /// Takes what was seen; gives the packets whose end is known, in the order in which they arrived.
    pub(super) fn take(&mut self, watched: Watched) -> Vec<Traced> {
        let now = Instant::now();
        for node in watched.nodes {
            let loose = node.seen.into_iter().map(|seen| Loose { node: node.node, seen, since: now });
            self.loose.extend(loose);
        }
        self.loose.sort_by_key(|loose| loose.seen.at_ns);
        self.begin(now);
        self.go_on(now);
        self.begin_orphans(now);
        self.give(|open| open.complete && open.since < now || now - open.since > PATIENCE)
    }

    /// What is left in the end, whether its end is known or not.
    pub(super) fn rest(&mut self) -> Vec<Traced> {
        self.give(|_| true)
    }

    /// Packets that arrived on data interfaces.
    fn begin(&mut self, now: Instant) {
        let loose = std::mem::take(&mut self.loose);
        for one in loose {
            let comes_back = one.seen.from_service && now - one.since < PATIENCE;
            match arrives(&one.seen) && !comes_back {
                true => self.begin_with(one, now),
                false => self.loose.push(one),
            }
        }
    }

    fn begin_with(&mut self, one: Loose, now: Instant) {
        if self.begun >= self.wanted {
            self.ignored.insert(one.seen.packet);
            return;
        }
        self.begun += 1;
        let complete = expected(&one.seen) == Next::Nothing;
        self.open.push(Open { steps: vec![(one.node, one.seen)], since: now, complete });
    }

    /// Steps that follow from those that are known.
    fn go_on(&mut self, now: Instant) {
        let Self { open, loose, .. } = self;
        for open in open.iter_mut().filter(|open| !open.complete) {
            while let Some((node, last)) = open.steps.last()
                && let Some(at) = loose.iter().position(|one| follows(*node, last, one.node, &one.seen))
            {
                let Loose { node, seen, .. } = loose.remove(at);
                open.complete = expected(&seen) == Next::Nothing;
                open.steps.push((node, seen));
                open.since = now;
            }
        }
    }

    /// Packets of which an earlier step was not told.
    fn begin_orphans(&mut self, now: Instant) {
        let Self { loose, ignored, .. } = self;
        loose.retain(|one| !ignored.contains(&one.seen.packet));
        while let Some(at) = self.loose.iter().position(|one| now - one.since > PATIENCE) {
            let one = self.loose.remove(at);
            self.begin_with(one, now);
            self.go_on(now);
        }
    }

    /// Packets from the first on for which it is time.
    fn give(&mut self, is_time: impl Fn(&Open) -> bool) -> Vec<Traced> {
        self.open.sort_by_key(|open| open.steps[0].1.at_ns);
        let ready = self.open.iter().take_while(|open| is_time(open)).count();
        let mut given = Vec::with_capacity(ready);
        for open in self.open.drain(..ready) {
            self.told += 1;
            given.push(traced(self.told, open));
        }
        given
    }
}

/// It came from outside the node, and not for the second time.
fn arrives(seen: &Seen) -> bool {
    seen.tunnel.is_none() && !seen.waited
}

/// What should be seen of a packet next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// Nothing: it has left, or is dropped.
    Nothing,
    /// At this node, which gets it through the tunnel.
    Tunnelled(u16),
    /// At the same node, when it goes on.
    Here,
    /// At the same node, from its service.
    FromService,
}

fn expected(seen: &Seen) -> Next {
    let verdict = seen.said.as_ref();
    match (&*seen.outcome, verdict) {
        ("waits" | "handed_over", _) => Next::Here,
        ("left", _) if seen.answered => Next::Nothing,
        ("left", Some(said)) => match (&*said.verdict, said.to) {
            ("service", _) => Next::FromService,
            (_, Some(to)) => Next::Tunnelled(to),
            _ => Next::Nothing,
        },
        _ => Next::Nothing,
    }
}

/// What `node` saw last of a packet leads to what `other` saw.
fn follows(node: u16, last: &Seen, other: u16, seen: &Seen) -> bool {
    if last.packet != seen.packet {
        return false;
    }
    let crossings = last.tunnel.as_ref().map_or(0, |tunnel| tunnel.crossings);
    match (expected(last), &seen.tunnel) {
        (Next::Nothing, _) => false,
        (Next::Tunnelled(to), Some(tunnel)) => {
            other == to && !seen.waited && tunnel.sender == node && tunnel.crossings == crossings + 1
        }
        (Next::Tunnelled(_), None) => false,
        (Next::Here, _) => other == node && seen.waited,
        (Next::FromService, _) => other == node && seen.from_service && !seen.waited,
    }
}

fn traced(number: usize, open: Open) -> Traced {
    let first = &open.steps[0].1;
    let begin = first.at_ns;
    // Of a fragment the ports are known once its first one has come.
    let flow = open.steps.iter().rev().find_map(|(_, seen)| seen.flow.clone());
    let (at_us, says) = (begin / 1000, first.says.clone());
    let mut latest = begin;
    let steps = open.steps.into_iter().map(|(node, seen)| {
        let behind = latest.saturating_sub(seen.at_ns);
        latest = latest.max(seen.at_ns);
        TraceStep {
            node,
            after_us: (latest - begin) / 1000,
            clock_behind_us: behind / 1000,
            told: told(&seen),
            seen,
        }
    });
    let steps = steps.collect();
    Traced { number, at_us, flow, says, complete: open.complete, steps }
}
