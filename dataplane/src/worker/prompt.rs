//! Connections that a dead Owner's proxy had: nobody has their state any more, and who holds one is to hear so soon,
//! also if it has nothing to say. So their Director asks the end that lives: an ACK that fits nothing, in the name of the
//! other end, is answered by what the end really expects, and that answer meets a RST ([`DropReason::ServiceMoved`]).
//!
//! ```text
//!  client ◄── ACK, "from the server" ── Director          the proxy's own end is gone with its node
//!  client ─── ACK of where it is ──► any node ── RST ──► client
//! ```
//!
//! [`DropReason::ServiceMoved`]: crate::verdict::DropReason::ServiceMoved

use std::ops::Range;

use super::Worker;
use super::walks::Purpose;
use crate::carry_out::NoHop;
use crate::clock::NowMs;
use crate::flow::{Direction, NodeId, address_of};
use crate::limits::PROMPTS_AFTER_MS;
use crate::session::{Role, Session, State};
use crate::wire::answer::{Answer, TaggedHeader};
use crate::wire::layout::{Layout, NO_VLAN};
use crate::xsk::Io;

impl<I: Io> Worker<I> {
    /// Begins the rounds of prompts that are due: an answer to one may have met a node that believed the Owner alive.
    pub(super) fn prompt_the_held(&mut self, now: NowMs) {
        if self.owner_died.is_empty() || !self.services.have_proxies() {
            return;
        }
        for death in &mut self.owner_died {
            let due = PROMPTS_AFTER_MS.get(usize::from(death.prompts));
            if due.is_some_and(|&due| now.since(death.at) >= due) {
                death.prompts += 1;
                self.walks.begin(Purpose::Prompt { owner: death.node }, 0);
            }
        }
    }

    pub(super) fn prompt_some(&mut self, owner: NodeId, slots: Range<usize>, now: NowMs) -> bool {
        if self.snapshots.view.is_live(owner) || !self.snapshots.settings.aggregation {
            return true;
        }
        for index in slots {
            let Some(slot) = self.shard.table.occupied(index) else { continue };
            let session = self.shard.table.get(slot);
            if session.owner == owner
                && let Some(direction) = self.direction_to_live_end(&session)
            {
                self.prompt(&session, direction, now);
            }
        }
        false
    }

    /// The way packets go to the end of a proxied connection that is not its dead proxy; `None` if it is not this node's
    /// to prompt.
    fn direction_to_live_end(&self, session: &Session) -> Option<Direction> {
        let view = &self.snapshots.view;
        let admission = session.admission;
        let mine = session.role == Role::Backup
            && session.state != State::Claimed
            && admission.zone != 0
            && self.is_orphan_of_proxy(session)
            && view.director_of(&session.key) == view.me;
        let begun = if admission.reversed { session.origin.reversed() } else { session.origin };
        // What a proxy began lives on at the server, all else at who began it.
        let by_proxy = self.services.of_zone(admission.zone) == admission.service;
        mine.then(|| if by_proxy { begun } else { begun.reversed() })
    }

    fn prompt(&mut self, session: &Session, direction: Direction, now: NowMs) {
        let header = TaggedHeader::of(&session.key);
        let prompt = Answer::prompt(&session.key, direction, header.bytes().len());
        let Some(mut frame) = self.io.allocate(prompt.length()) else { return };
        prompt.write(header.bytes(), self.io.bytes_mut(&mut frame));
        self.counters.prompted.add(1);
        let to = address_of(&prompt.destination);
        let layout = prompt.layout(&untagged(header.bytes().len()));
        match self.find_hop(to, layout.flow_hash) {
            Ok(hop) => self.send_by_hop(frame, &layout, hop, now),
            Err(NoHop::Wait) => self.hold(frame, layout, to, now),
            Err(NoHop::Drop(reason)) => self.drop_frame(frame, reason),
        }
    }
}

/// What [`Answer::layout`] completes. Routes are chosen by addresses alone: no packet of the flow says more.
fn untagged(l3_off: usize) -> Layout {
    Layout {
        flow_hash: 0,
        inner_off: 0,
        l3_off: l3_off as u16,
        l4_off: 0,
        l3_end: 0,
        quoted_l3_off: 0,
        quoted_l4_off: 0,
        vlan_outer: NO_VLAN,
        vlan_inner: NO_VLAN,
        proto: 0,
        quoted_proto: 0,
        flags: 0,
        port: 0,
    }
}
