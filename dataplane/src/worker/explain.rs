//! `samepath why`: asks about a made-up packet what [`Worker::work_on`] asks about a real one, in the same order and by the
//! same functions, and changes nothing. Only limits on rates are not asked: they speak of moments, not of flows.

use super::admission::{Gate, answers_allowed, judge_by_origin, question_of, refusal};
use super::{Snapshots, Worker};
use crate::clock::NowMs;
use crate::decide::{Arrival, Surroundings, decide, through_service};
use crate::flow::{Generation, NodeId};
use crate::inquiry::{Explained, Inquiry, Way};
use crate::policy::Judgement;
use crate::route::Resolution;
use crate::session::table::Slot;
use crate::session::{Change, Role, Session, track};
use crate::verdict::{DropReason, Verdict};
use crate::wire::packet::Packet;
use crate::wire::tunnel::{TunnelKind, TunnelOption};
use crate::xsk::Io;

/// A made-up packet and what is known of its flow.
struct Case<'a> {
    inquiry: &'a Inquiry,
    packet: Packet,
    session: Option<Session>,
    now: NowMs,
}

impl<I: Io> Worker<I> {
    /// What the packet would meet at this node.
    pub(super) fn explain(&self, inquiry: &Inquiry, now: NowMs) -> Explained {
        let slot = self.shard.table.find(&inquiry.key);
        let session = slot.map(|slot| self.shard.table.get(slot));
        let hash = self.hasher.hash(&inquiry.key);
        let packet = session.map_or_else(|| inquiry.first(hash), |session| inquiry.next(&session, hash));
        let case = Case { inquiry, packet, session, now };
        let later = Case { packet: inquiry.later(hash), ..case };
        let view = &self.snapshots.view;
        let bucket = view.director.bucket(&inquiry.key);
        let (unknown, elsewhere) = (session.is_none(), inquiry.ingress != view.me);
        Explained {
            session,
            epoch: view.epoch,
            bucket,
            candidates: view.director.ranking(bucket, &view.members),
            former: self.former_director_of(inquiry, now),
            policy: self.snapshots.policy.policy.number,
            judgement: self.judgement_on(&case),
            arrives: self.would(&case, Arrival::Data),
            later: unknown.then(|| self.would(&later, Arrival::Data)),
            asked: elsewhere.then(|| self.would(&case, self.supposed(inquiry, TunnelKind::Query))),
            looked_up: elsewhere.then(|| self.would(&case, self.supposed(inquiry, TunnelKind::Lookup))),
            granted: unknown.then(|| self.would(&case, self.supposed(inquiry, TunnelKind::FirstPacket))),
            way: self.way_of(&case, slot, hash),
        }
    }

    /// A Query of the ingress, or the grant of the flow to this node.
    fn supposed(&self, inquiry: &Inquiry, kind: TunnelKind) -> Arrival {
        let view = &self.snapshots.view;
        let grants = kind == TunnelKind::FirstPacket;
        let (ingress, owner) = if grants { (view.me, view.me) } else { (inquiry.ingress, NodeId(0)) };
        Arrival::Tunnel(TunnelOption {
            kind,
            hops: if grants { 2 } else { 1 },
            zone: inquiry.zone,
            ingress,
            owner,
            generation: Generation(u32::from(grants)),
            epoch: view.epoch,
            sender: if grants { view.director_of(&inquiry.key) } else { inquiry.ingress },
        })
    }

    fn former_director_of(&self, inquiry: &Inquiry, now: NowMs) -> Option<NodeId> {
        let view = &self.snapshots.view;
        let views = self.former.as_ref().map_or(&[][..], |former| former.at(now));
        let mut directors = views.iter().map(|view| view.director_of(&inquiry.key));
        directors.find(|&former| former != view.director_of(&inquiry.key) && view.is_live(former))
    }

    /// What the policy says: of a known flow by where it began, else by this packet.
    fn judgement_on(&self, case: &Case<'_>) -> Option<Judgement> {
        let policy = &self.snapshots.policy.policy;
        let known = case.session.filter(|session| session.admission.zone != 0);
        let judgement = match known {
            Some(session) => judge_by_origin(policy, &session, case.inquiry.request()).0,
            None => policy.judge(&case.question()),
        };
        (!policy.is_none()).then_some(judgement)
    }

    /// [`Worker::process`] without what it changes.
    fn would(&self, case: &Case<'_>, arrival: Arrival) -> Verdict {
        let session = case.session.as_ref();
        let gate = match self.gate_on(case, arrival) {
            Ok(gate) => gate,
            Err(verdict) => return verdict,
        };
        if session.is_none()
            && arrival == Arrival::Data
            && let Err(reason) = self.could_reach(case.destination(), case.packet.layout.flow_hash)
        {
            return Verdict::Drop(reason);
        }
        let Snapshots { view, policy, settings, .. } = &self.snapshots;
        let former = self.former.as_ref().map_or(&[][..], |former| former.at(case.now));
        let settings = if gate.is_plain() { settings } else { policy.settings(gate.terms, gate.local) };
        let (services, from_service) = (&*self.services, self.service_behind(case, arrival));
        let (allowed, now) = (gate.allowed, case.now);
        let around = Surroundings { view, former, settings, allowed, services, from_service, now };
        let decision = decide(&case.packet, &arrival, session, &around);
        if decision.verdict == Verdict::Drop(DropReason::PolicyDenied) {
            return self.refused_lookup(case);
        }
        match decision.change {
            Change::Put { session, .. } if session.role == Role::Owner => {
                self.admitted(case, &session, decision.verdict, from_service)
            }
            _ => {
                let service = session.map_or(0, |session| session.admission.service);
                through_service(decision.verdict, service, from_service)
            }
        }
    }

    /// What the Director makes of a packet that may begin nothing, as [`Worker::refuse_lookup`] has it.
    fn refused_lookup(&self, case: &Case<'_>) -> Verdict {
        let judgement = self.snapshots.policy.policy.judge(&case.question());
        match judgement.allows() {
            true => Verdict::Drop(DropReason::PolicyDenied),
            false => refusal(&judgement, DropReason::PolicyDenied),
        }
    }

    /// The policy's word before anything is decided, as [`Worker::gate`] has it.
    fn gate_on(&self, case: &Case<'_>, arrival: Arrival) -> Result<Gate, Verdict> {
        let policy = &self.snapshots.policy.policy;
        match &case.session {
            Some(session) if session.role == Role::Owner => {
                if self.is_orphan_of_proxy(session) {
                    return Err(Verdict::Reject(DropReason::ServiceMoved));
                }
                let (judgement, _) = judge_by_origin(policy, session, case.inquiry.request());
                if session.admission.policy != policy.number && !judgement.allows() {
                    return Err(refusal(&judgement, DropReason::PolicyEnded));
                }
                Ok(Gate { terms: session.admission.terms, local: session.admission.local, ..Gate::OPEN })
            }
            None if policy.number != 0
                && arrival == Arrival::Data
                && track::could_begin(&case.packet, self.snapshots.settings.tcp_pickup) =>
            {
                Gate::of_new(policy, &case.packet, &case.question())
                    .map_err(|judgement| refusal(&judgement, DropReason::PolicyDenied))
            }
            Some(_) | None => Ok(Gate::OPEN),
        }
    }

    /// The policy's word on a flow that this node would own from now on, as [`Worker::admit_owner`] has it.
    fn admitted(&self, case: &Case<'_>, session: &Session, verdict: Verdict, from_service: u8) -> Verdict {
        let policy = &self.snapshots.policy.policy;
        let judged = policy.number != 0 && session.admission.policy == policy.number;
        if self.is_orphan_of_proxy(session) {
            return Verdict::Reject(DropReason::ServiceMoved);
        }
        if judged {
            return through_service(verdict, session.admission.service, from_service);
        }
        if session.admission.zone != 0 {
            let (judgement, _) = judge_by_origin(policy, session, case.inquiry.request());
            return match judgement.allows() {
                true => through_service(verdict, session.admission.service, from_service),
                false => refusal(&judgement, DropReason::PolicyEnded),
            };
        }
        let judgement = policy.judge(&case.question());
        let allowed = if judgement.allows() {
            Some(judgement)
        } else {
            answers_allowed(policy, &case.packet, &case.question())
        };
        match allowed {
            Some(judgement) => {
                through_service(verdict, self.service_by(from_service, &judgement), from_service)
            }
            None => refusal(&judgement, DropReason::PolicyDenied),
        }
    }

    fn service_behind(&self, case: &Case<'_>, arrival: Arrival) -> u8 {
        match arrival {
            Arrival::Data => self.services.of_zone(case.inquiry.zone),
            Arrival::Tunnel(option) if option.ingress == self.snapshots.view.me => {
                self.services.of_zone(option.zone)
            }
            Arrival::Tunnel(_) => 0,
        }
    }

    /// Where [`Worker::forward`] would send the packet.
    fn way_of(&self, case: &Case<'_>, slot: Option<Slot>, hash: u32) -> Way {
        let (destination, routes) = (case.destination(), &self.snapshots.routes);
        let remembered = slot.and_then(|slot| self.cached_hop(slot, case.packet.direction));
        let resolution = remembered.map_or_else(|| routes.resolve(destination, hash), Resolution::Send);
        let hop = match resolution {
            Resolution::Send(hop) => routes.hop(hop).copied(),
            _ => None,
        };
        Way { resolution, hop, neighbour: routes.next_hop(destination, hash) }
    }
}

impl Case<'_> {
    fn destination(&self) -> std::net::IpAddr {
        self.packet.key.destination(self.packet.direction).0
    }

    fn question(&self) -> crate::policy::Question {
        let Inquiry { key, direction, zone, .. } = self.inquiry;
        question_of(key, *direction, *zone, self.inquiry.request())
    }
}
