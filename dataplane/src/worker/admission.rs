//! The policy and the packet in hand: asked before a node is asked, kept with the session, asked again when it has
//! changed.
//!
//! ```text
//! unknown flow, data interface, packet may begin a flow ── allowed ──► on, as ever
//!                                                      └── denied ──► could be a reply (UDP, …)? ── no ──► refused here
//!                                                                          └── yes: Lookup, nobody is made Owner
//! a session begins or moves here ── judged (again) ──► kept with policy, zone, terms; or refused
//! own session, policy has changed ── judged again ──► on; or it ends here and everywhere
//! ```

use super::{Job, Worker};
use crate::clock::NowMs;
use crate::decide::{Arrival, Decision};
use crate::flow::{Direction, FlowKey, proto};
use crate::mailbox::FromWorker;
use crate::policy::{Action, Judgement, Policy, Question};
use crate::session::table::Slot;
use crate::session::track;
use crate::session::{Admission, Change, Role, Session};
use crate::verdict::{DropReason, Verdict};
use crate::wire::icmp;
use crate::wire::packet::{L4, Packet};
use crate::wire::tunnel::TunnelKind;
use crate::xsk::Io;

/// What the policy says before anything is decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate {
    /// The packet may begin a flow.
    pub(super) allowed: bool,
    /// Idle times of the session it belongs to or would begin.
    pub(super) terms: u8,
    /// That session stays here.
    pub(super) local: bool,
    pub(super) judged: Option<(Judgement, Question)>,
}

impl Gate {
    pub(super) const OPEN: Self = Self { allowed: true, terms: 0, local: false, judged: None };

    /// What the policy makes of a packet that may begin a flow; an error ends it.
    pub(super) fn of_new(policy: &Policy, packet: &Packet, question: &Question) -> Result<Self, Judgement> {
        let judgement = policy.judge(question);
        let Judgement { terms, local, .. } = judgement;
        let judged = Some((judgement, *question));
        if judgement.allows() {
            return Ok(Self { allowed: true, terms, local, judged });
        }
        if may_answer(packet) && could_be_answer(policy, question) {
            return Ok(Self { allowed: false, judged, ..Self::OPEN });
        }
        Err(judgement)
    }

    /// True if the session follows the node's own settings.
    pub(super) fn is_plain(&self) -> bool {
        self.terms == 0 && !self.local
    }
}

impl<I: Io> Worker<I> {
    /// Asks the policy about a packet; an error ends it. `session` is what is known of its flow, in `slot`.
    pub(super) fn gate(
        &mut self,
        job: &Job<I::Frame>,
        known: Option<(Slot, &mut Session)>,
        now: NowMs,
    ) -> Result<Gate, Verdict> {
        let number = self.snapshots.policy.policy.number;
        match known {
            Some((slot, session)) if session.role == Role::Owner => {
                if self.is_orphan_of_proxy(session) {
                    self.counters.sessions_ended.add(1);
                    self.end(slot, now);
                    return Err(Verdict::Reject(DropReason::ServiceMoved));
                }
                if session.admission.policy != number {
                    self.judge_again(job, slot, session, now)?;
                }
                let Admission { terms, local, .. } = session.admission;
                Ok(Gate { terms, local, ..Gate::OPEN })
            }
            None if number != 0 && is_asked_of(&job.arrival) && self.could_begin(&job.packet) => {
                self.gate_of_new(job, now)
            }
            Some(_) | None => Ok(Gate::OPEN),
        }
    }

    fn could_begin(&self, packet: &Packet) -> bool {
        track::could_begin(packet, self.snapshots.settings.tcp_pickup)
    }

    fn gate_of_new(&mut self, job: &Job<I::Frame>, now: NowMs) -> Result<Gate, Verdict> {
        let question = self.question(job, &job.packet.key, job.packet.direction, self.zone_of(job));
        let gate = Gate::of_new(&self.snapshots.policy.policy, &job.packet, &question)
            .map_err(|judgement| self.refuse(&judgement, &question, DropReason::PolicyDenied, now))?;
        // Where fragments meet their flow begins only by a grant: what the session follows is its Owner's.
        let is_mine = job.arrival == Arrival::Data;
        Ok(if is_mine { gate } else { Gate { terms: 0, local: false, ..gate } })
    }

    /// The policy has changed since the session was judged.
    fn judge_again(
        &mut self,
        job: &Job<I::Frame>,
        slot: Slot,
        session: &mut Session,
        now: NowMs,
    ) -> Result<(), Verdict> {
        let Some((judgement, question)) = self.judge_session(job, session) else { return Ok(()) };
        if judgement.allows() {
            let policy = self.snapshots.policy.policy.number;
            session.admission = Admission { policy, terms: judgement.terms, ..session.admission };
            self.shard.table.set_admission(slot, &session.admission);
            return Ok(());
        }
        self.counters.sessions_ended.add(1);
        self.end(slot, now);
        Err(self.refuse(&judgement, &question, DropReason::PolicyEnded, now))
    }

    /// Judges a session by where it began; `None` if this packet does not tell what is needed.
    fn judge_session(&self, job: &Job<I::Frame>, session: &Session) -> Option<(Judgement, Question)> {
        let told = matches!(job.packet.l4, L4::IcmpQuery { .. }) || !is_icmp(&session.key);
        told.then(|| judge_by_origin(&self.snapshots.policy.policy, session, self.request_of(job)))
    }

    /// Judges what a decision makes of this node: the Owner of a new flow, or of another node's.
    pub(super) fn admit_owner(
        &mut self,
        decision: Decision,
        gate: &Gate,
        job: &Job<I::Frame>,
        slot: Option<Slot>,
        now: NowMs,
    ) -> Decision {
        if decision.verdict == Verdict::Drop(DropReason::PolicyDenied) {
            return Decision { verdict: self.refuse_lookup(gate, job, now), ..decision };
        }
        let number = self.snapshots.policy.policy.number;
        let Change::Put { session, replicate } = decision.change else { return decision };
        let judged = number != 0 && session.admission.policy == number;
        if session.role != Role::Owner || judged {
            return decision;
        }
        if self.is_orphan_of_proxy(&session) {
            let change = self.give_up(session, slot, now);
            return Decision { verdict: Verdict::Reject(DropReason::ServiceMoved), change, ..decision };
        }
        let moved = session.admission.zone != 0;
        let admitted =
            if moved { self.admit_moved(session, job) } else { self.admit_new(session, gate, job) };
        match admitted {
            Ok(session) => Decision {
                change: Change::Put { session, replicate: replicate && !session.admission.local },
                ..decision
            },
            Err((judgement, question)) => {
                let reason = if moved { DropReason::PolicyEnded } else { DropReason::PolicyDenied };
                let verdict = self.refuse(&judgement, &question, reason, now);
                let change = if moved { self.give_up(session, slot, now) } else { Change::None };
                Decision { verdict, change, ..decision }
            }
        }
    }

    /// A session that another node owned, by the place it began at.
    fn admit_moved(
        &self,
        mut session: Session,
        job: &Job<I::Frame>,
    ) -> Result<Session, (Judgement, Question)> {
        let Some((judgement, question)) = self.judge_session(job, &session) else { return Ok(session) };
        if !judgement.allows() {
            return Err((judgement, question));
        }
        session.admission.policy = self.snapshots.policy.policy.number;
        session.admission.terms = judgement.terms;
        Ok(session)
    }

    /// A session that begins with this packet: in the packet's direction, or, if it may be an answer, in the other.
    fn admit_new(
        &mut self,
        mut session: Session,
        gate: &Gate,
        job: &Job<I::Frame>,
    ) -> Result<Session, (Judgement, Question)> {
        let (packet, zone, policy) = (&job.packet, self.zone_of(job), &self.snapshots.policy.policy);
        let mut admission = Admission { policy: policy.number, zone, ..Admission::default() };
        let ask = || self.question(job, &packet.key, packet.direction, zone);
        let (mut judgement, question) = match gate.judged {
            Some(judged) => judged,
            None if policy.is_none() => (policy.judge(&Question::default()), Question::default()),
            None => {
                let question = ask();
                (policy.judge(&question), question)
            }
        };
        let mut direction = packet.direction;
        if !judgement.allows() {
            let answered = answers_allowed(policy, packet, &question).ok_or((judgement, question))?;
            (judgement, direction, admission.zone) = (answered, direction.reversed(), 0);
        }
        admission.reversed = direction != session.origin;
        // Others know already of a flow that was asked about.
        admission.local = judgement.local && job.arrival == Arrival::Data;
        admission.terms = judgement.terms;
        admission.service = self.service_of_new(job, &judgement);
        if (admission.terms, admission.local) != (gate.terms, gate.local) {
            let timeouts = &self.snapshots.policy.settings(admission.terms, false).timeouts;
            session.timeout_ms = timeouts.of(session.state, session.key.proto());
            session.expires = session.created.plus(u64::from(session.timeout_ms));
        }
        self.snapshots.policy.hits.began(&judgement);
        self.tell_log(&judgement, &question, session.created);
        Ok(Session { admission, ..session })
    }

    /// A session of another node is not allowed here: owned for a moment, for all believe an Owner that says its end.
    fn give_up(&mut self, session: Session, slot: Option<Slot>, now: NowMs) -> Change {
        self.counters.sessions_ended.add(1);
        let put = Change::Put { session, replicate: true };
        match self.apply(put, slot, 0, now) {
            Ok(Some(_)) => Change::Remove,
            Ok(None) | Err(_) => Change::None,
        }
    }

    /// The Director knows nobody who owns the flow of a packet that may not begin one.
    fn refuse_lookup(&mut self, gate: &Gate, job: &Job<I::Frame>, now: NowMs) -> Verdict {
        let judged = gate.judged.unwrap_or_else(|| {
            let question = self.question(job, &job.packet.key, job.packet.direction, self.zone_of(job));
            (self.snapshots.policy.policy.judge(&question), question)
        });
        match judged {
            // The nodes' policies differ: the ingress has the first word.
            (judgement, _) if judgement.allows() => Verdict::Drop(DropReason::PolicyDenied),
            (judgement, question) => self.refuse(&judgement, &question, DropReason::PolicyDenied, now),
        }
    }

    /// A rule refuses a packet: what becomes of it.
    fn refuse(
        &mut self,
        judgement: &Judgement,
        question: &Question,
        reason: DropReason,
        now: NowMs,
    ) -> Verdict {
        self.snapshots.policy.hits.refused(judgement);
        self.tell_log(judgement, question, now);
        refusal(judgement, reason)
    }

    fn tell_log(&mut self, judgement: &Judgement, question: &Question, now: NowMs) {
        if !judgement.log {
            return;
        }
        let policy = self.snapshots.policy.policy.number;
        let event = FromWorker::Judged { policy, judgement: *judgement, question: *question };
        if !self.logs.take(now) || self.mailbox.outbox.push(event).is_err() {
            self.counters.logs_lost.add(1);
        }
    }

    /// Number of the zone the packet arrived in, here or at its ingress.
    fn zone_of(&self, job: &Job<I::Frame>) -> u8 {
        match &job.arrival {
            Arrival::Data => self.ports.zone_of(job.packet.layout.port),
            Arrival::Tunnel(option) => option.zone,
        }
    }

    /// Of an ICMP query the type of its request; 0 of anything else.
    fn request_of(&self, job: &Job<I::Frame>) -> u8 {
        let layout = &job.packet.layout;
        if !is_icmp(&job.packet.key) {
            return 0;
        }
        let at = usize::from(layout.inner_off) + usize::from(layout.l4_off);
        let kind = self.io.bytes(&job.frame).get(at).copied().unwrap_or(0);
        icmp::request_of(layout.is_ipv6(), kind)
    }

    fn question(&self, job: &Job<I::Frame>, key: &FlowKey, direction: Direction, zone: u8) -> Question {
        question_of(key, direction, zone, self.request_of(job))
    }

    /// Routes or policy are new: what sessions remember of them holds no longer.
    pub(super) fn new_paths(&mut self) {
        self.paths = self.paths.wrapping_add(1) & crate::session::table::PATHS;
    }
}

/// What the policy is asked about a packet. `request`: of an ICMP query the type of its request.
pub(super) fn question_of(key: &FlowKey, direction: Direction, zone: u8, request: u8) -> Question {
    let (from, to) = key.ends(direction);
    // Of ICMP the identifier is in both ports; what counts is the request's type.
    let (source_port, destination_port) = if is_icmp(key) { (0, request.into()) } else { (from.1, to.1) };
    Question { zone, protocol: key.proto(), source: from.0, destination: to.0, source_port, destination_port }
}

/// Judges a session by where it began.
pub(super) fn judge_by_origin(policy: &Policy, session: &Session, request: u8) -> (Judgement, Question) {
    let Admission { zone, reversed, .. } = session.admission;
    let direction = if reversed { session.origin.reversed() } else { session.origin };
    let question = question_of(&session.key, direction, zone, request);
    let judgement = if zone == 0 { policy.judge_from_anywhere(&question) } else { policy.judge(&question) };
    (judgement, question)
}

/// What the policy says of the flow that a packet which may not begin one would answer, if it allows that.
pub(super) fn answers_allowed(policy: &Policy, packet: &Packet, question: &Question) -> Option<Judgement> {
    let answered = policy.judge_from_anywhere(&reversed(question));
    (may_answer(packet) && answered.allows()).then_some(answered)
}

/// What becomes of a packet that a rule refuses.
pub(super) fn refusal(judgement: &Judgement, reason: DropReason) -> Verdict {
    match (judgement.action, reason) {
        (Action::Reject, DropReason::PolicyEnded) => Verdict::Reject(reason),
        (Action::Reject, _) => Verdict::Reject(DropReason::PolicyRejected),
        (Action::Allow | Action::Service(_) | Action::Deny, _) => Verdict::Drop(reason),
    }
}

/// The policy is asked before a Director is, and where fragments meet: the ingress could not judge all of them.
fn is_asked_of(arrival: &Arrival) -> bool {
    match arrival {
        Arrival::Data => true,
        Arrival::Tunnel(option) => option.kind == TunnelKind::Gather,
    }
}

fn is_icmp(key: &FlowKey) -> bool {
    matches!(key.proto(), proto::ICMP | proto::ICMPV6)
}

/// The packet does not say whether it opens a flow or answers one.
fn may_answer(packet: &Packet) -> bool {
    match packet.l4 {
        L4::Tcp(_) | L4::Sctp { .. } | L4::IcmpQuery { .. } => !track::may_begin(packet),
        L4::Udp | L4::Other | L4::IcmpError | L4::None => true,
    }
}

/// The policy allows, from somewhere, the flow that such a packet would answer.
fn could_be_answer(policy: &Policy, question: &Question) -> bool {
    policy.judge_from_anywhere(&reversed(question)).allows()
}

fn reversed(question: &Question) -> Question {
    let Question { source, destination, source_port, destination_port, protocol, .. } = *question;
    let (source_port, destination_port) = match protocol {
        proto::ICMP | proto::ICMPV6 => (source_port, destination_port),
        _ => (destination_port, source_port),
    };
    Question { source: destination, destination: source, source_port, destination_port, ..*question }
}
