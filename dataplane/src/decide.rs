//! Pure: packet + what is known + view + now → what happens to the packet and to the session.
//! No input or output, no clock, no allocation. The same function runs in the worker, in the table of
//! cases and in the simulation.
//!
//! The protocol in one picture (`docs/protocol.md` has the state diagrams):
//!
//! ```text
//! ingress                     Director                        Owner
//!   │ no session: Query ───────► │ nobody known: claim := ingress
//!   │ ◄──────────── FirstPacket  │   (written before the answer leaves)
//!   │ own, forward, replicate    │
//!   │ no session: Query ───────► │ Owner known: Redirect ───────► │ process, forward
//!   │ backup: Redirect ────────────────────────────────────────► │ process, forward
//! ```

use std::sync::Arc;

use crate::clock::NowMs;
use crate::cluster::view::View;
use crate::flow::{Generation, NodeId};
use crate::limits::{CLAIM_CHECK_MS, HOP_BUDGET};
use crate::service::Services;
use crate::session::tcp::TcpTracking;
use crate::session::tcp::window::Fit;
use crate::session::track::{self, Begun, Follow};
use crate::session::{Admission, Change, Role, Session, State};
use crate::settings::Settings;
use crate::verdict::{DropReason, Verdict};
use crate::wire::packet::{L4, Packet};
use crate::wire::tunnel::{TunnelKind, TunnelOption};

/// How a packet came to this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// On a data interface: this node is its ingress.
    Data,
    /// Through the tunnel, with a valid tag.
    Tunnel(TunnelOption),
}

/// What surrounds a decision.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Live members and Director buckets.
    pub view: &'a View,
    /// Views before it, for some time: their Directors are asked before a flow is granted.
    pub former: &'a [Arc<View>],
    /// The operator's settings, with what the policy says of the flow.
    pub settings: &'a Settings,
    /// The policy lets the packet begin a flow; else it may only belong to one that is known, here or elsewhere.
    pub allowed: bool,
    /// This node's services.
    pub services: &'a Services,
    /// Number of the service of this node that the packet comes from, 0 for none.
    pub from_service: u8,
    /// The present.
    pub now: NowMs,
}

/// What happens to the packet and to the session of its flow.
#[must_use]
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Decision {
    /// What happens to the packet.
    pub verdict: Verdict,
    /// What happens to the session.
    pub change: Change,
    /// The session was taken over from a dead Owner.
    pub takeover: bool,
    /// A TCP segment outside the window was let through (`--tcp-loose-window`).
    pub window_exceeded: bool,
}

impl Decision {
    fn only(verdict: Verdict) -> Self {
        Self { verdict, change: Change::None, takeover: false, window_exceeded: false }
    }

    fn drop(reason: DropReason) -> Self {
        Self::only(Verdict::Drop(reason))
    }
}

/// Decides. `session` is this node's record of the packet's flow, if it has one.
pub fn decide(
    packet: &Packet,
    arrival: &Arrival,
    session: Option<&Session>,
    around: &Surroundings<'_>,
) -> Decision {
    let case = Case { packet, arrival, around };
    if let Some(gatherer) = case.gatherer() {
        return case.gather_at(gatherer);
    }
    match session {
        Some(session) if session.role == Role::Owner => case.as_owner(session),
        Some(session) if session.owner != case.me() && around.view.is_live(session.owner) => {
            case.owner_elsewhere(session)
        }
        Some(session) => case.owner_dead(session),
        None => case.unknown(),
    }
}

/// What a service makes of a verdict: a packet of its flow that goes on, goes through it, unless it comes from there.
pub fn through_service(verdict: Verdict, service: u8, from_service: u8) -> Verdict {
    match verdict {
        Verdict::Forward if service != 0 && service != from_service => Verdict::Service(service),
        other => other,
    }
}

struct Case<'a> {
    packet: &'a Packet,
    arrival: &'a Arrival,
    around: &'a Surroundings<'a>,
}

impl Case<'_> {
    fn me(&self) -> NodeId {
        self.around.view.me
    }

    fn aggregation(&self) -> bool {
        self.around.settings.aggregation
    }

    fn may_begin(&self) -> bool {
        track::could_begin(self.packet, self.around.settings.tcp_pickup)
    }

    /// Why a packet that may not begin a flow is dropped.
    fn unrelated(&self) -> Decision {
        Decision::drop(match self.packet.l4 {
            L4::IcmpError => DropReason::IcmpErrorUnrelated,
            L4::None => DropReason::FragmentWithoutFirst,
            _ => DropReason::NoSession,
        })
    }

    // ── a fragment, others of its packet may arrive elsewhere ───────────────────────────────────

    /// The node where the fragments of this packet meet, if they must and it is another one. A service's stay together.
    fn gatherer(&self) -> Option<NodeId> {
        let is_fragment = self.packet.fragment.is_some() && self.packet.l4 != L4::IcmpError;
        let from_outside = *self.arrival == Arrival::Data && self.around.from_service == 0;
        if !is_fragment || !from_outside || !self.aggregation() {
            return None;
        }
        let gatherer = self.around.view.director_of(&self.packet.key.without_ports());
        (gatherer != self.me()).then_some(gatherer)
    }

    fn gather_at(&self, to: NodeId) -> Decision {
        Decision::only(Verdict::Tunnel {
            kind: TunnelKind::Gather,
            to,
            owner: NodeId(0),
            generation: Generation(0),
        })
    }

    // ── this node owns the flow ─────────────────────────────────────────────────────────────────

    fn as_owner(&self, session: &Session) -> Decision {
        match self.arrival {
            // A Director granted this node a later generation than it knows of: it is the same Owner,
            // and the number must not fall behind what others were told.
            Arrival::Tunnel(option)
                if option.owner == self.me() && option.generation > session.generation =>
            {
                self.own(Session { generation: option.generation, ..*session }, false)
            }
            // Its inspector gives it back: it was followed when it came.
            _ if self.is_inspected(session) => Decision::only(Verdict::Forward),
            _ => self.process(session),
        }
    }

    fn is_inspected(&self, session: &Session) -> bool {
        let Surroundings { services, from_service, .. } = self.around;
        *from_service == session.admission.service && services.is_inspector(*from_service)
    }

    /// Runs the packet through the session's protocol; the session is owned here.
    fn process(&self, session: &Session) -> Decision {
        if matches!(self.packet.l4, L4::IcmpError) {
            return Decision::only(self.error_about(session));
        }
        match track::follow(session, self.packet, self.around.settings) {
            Ok(Follow::Update { state, tcp, timeout_ms, replicate, window_exceeded, refresh }) => Decision {
                verdict: Verdict::Forward,
                change: Change::Update {
                    state,
                    tcp,
                    expires: if refresh {
                        self.around.now.plus(u64::from(timeout_ms))
                    } else {
                        session.expires
                    },
                    timeout_ms,
                    replicate: replicate && self.aggregation(),
                },
                takeover: false,
                window_exceeded,
            },
            Ok(Follow::Reopen) => self.begin(session.generation, session.version + 1, false),
            Err(reason) => Decision::drop(reason),
        }
    }

    /// An ICMP error must quote what was sent, and tell an MTU that there is. It changes nothing of the session.
    fn error_about(&self, session: &Session) -> Verdict {
        let Packet { told, layout, direction, .. } = self.packet;
        let quoted = told.seq.map(|seq| session.tcp.quote_fit(direction.reversed(), seq));
        if told.is_below_floor(layout.is_ipv6()) {
            Verdict::Drop(DropReason::IcmpErrorMtu)
        } else if quoted == Some(Fit::Outside) {
            Verdict::Drop(DropReason::IcmpErrorWindow)
        } else {
            Verdict::Forward
        }
    }

    /// Makes this node the Owner with `session`'s state, then processes the packet.
    fn own(&self, session: Session, takeover: bool) -> Decision {
        let owned = Session {
            role: Role::Owner,
            owner: self.me(),
            version: session.version + 1,
            dirty: false,
            ..session
        };
        // A claim is all that was known: the packet is the first one seen here.
        if owned.state == State::Claimed {
            let midstream = !track::may_begin(self.packet);
            return Decision { takeover, ..self.begin(owned.generation, owned.version, midstream) };
        }
        let decision = self.process(&owned);
        let session = match decision.change {
            Change::Update { state, tcp, expires, timeout_ms, .. } => {
                Session { state, tcp, expires, timeout_ms, ..owned }
            }
            Change::Put { session, .. } => session,
            Change::None | Change::Remove => {
                let expires = self.around.now.plus(u64::from(owned.timeout_ms));
                Session { expires, ..owned }
            }
        };
        let change = Change::Put { session, replicate: self.aggregation() };
        Decision { change, takeover, ..decision }
    }

    /// Begins a session owned by this node with this packet.
    fn begin(&self, generation: Generation, version: u32, midstream: bool) -> Decision {
        if matches!(self.packet.l4, L4::IcmpError | L4::None) {
            return self.unrelated();
        }
        match track::begin(self.packet, self.around.settings, midstream) {
            Ok(begun) => {
                let session = self.session(Role::Owner, self.me(), generation, version, begun);
                Decision {
                    verdict: Verdict::Forward,
                    change: Change::Put { session, replicate: self.aggregation() },
                    takeover: false,
                    window_exceeded: false,
                }
            }
            Err(reason) => Decision::drop(reason),
        }
    }

    fn session(
        &self,
        role: Role,
        owner: NodeId,
        generation: Generation,
        version: u32,
        begun: Begun,
    ) -> Session {
        Session {
            key: self.packet.key,
            role,
            state: begun.state,
            origin: begun.origin,
            dirty: false,
            owner,
            mark: 0,
            admission: Admission::default(),
            generation,
            version,
            tcp: begun.tcp,
            created: self.around.now,
            expires: self.around.now.plus(u64::from(begun.timeout_ms)),
            timeout_ms: begun.timeout_ms,
            packets: 0,
            bytes: 0,
        }
    }

    // ── another live node owns the flow ─────────────────────────────────────────────────────────

    fn owner_elsewhere(&self, session: &Session) -> Decision {
        match self.arrival {
            Arrival::Data if self.aggregation() => self.redirect(session, 0),
            // Aggregation off: every node owns what it sees, with what it knows.
            Arrival::Data => self.own(Session { generation: session.generation.next(), ..*session }, false),
            Arrival::Tunnel(option) => self.owner_elsewhere_tunnelled(session, option),
        }
    }

    fn owner_elsewhere_tunnelled(&self, session: &Session, option: &TunnelOption) -> Decision {
        let names_me = option.owner == self.me() && self.outranks(option.generation, session);
        match option.kind {
            TunnelKind::FirstPacket | TunnelKind::Redirect if names_me => {
                self.own(Session { generation: self.granted(option.generation, session), ..*session }, false)
            }
            // An Owner that asks after its record came has forgotten the flow; before, it was not told.
            kind if kind.asks() && session.owner == option.ingress && session.role == Role::Backup => {
                self.grant_takeover(session, option)
            }
            kind if kind.asks() && session.owner == option.ingress => {
                self.first_packet(option, session.generation)
            }
            _ => self.redirect(session, option.hops),
        }
    }

    /// A grant to this node beats what is known here: the rule for records that meet. Two nodes that granted a
    /// flow to each other decide alike.
    fn outranks(&self, generation: Generation, session: &Session) -> bool {
        (generation, self.me()) > (session.generation, session.owner)
    }

    /// The generation this node owns by. A claim of the same one means that this node granted the flow to another while
    /// it was granted it: both may believe it, and must not have one generation.
    fn granted(&self, generation: Generation, session: &Session) -> Generation {
        if session.role == Role::Claim && session.generation == generation {
            return generation.next();
        }
        generation
    }

    fn redirect(&self, session: &Session, crossings: u8) -> Decision {
        if crossings >= HOP_BUDGET {
            return Decision::drop(DropReason::HopBudget);
        }
        Decision::only(Verdict::Tunnel {
            kind: TunnelKind::Redirect,
            to: session.owner,
            owner: session.owner,
            generation: session.generation,
        })
    }

    fn first_packet(&self, option: &TunnelOption, generation: Generation) -> Decision {
        if option.hops >= HOP_BUDGET {
            return Decision::drop(DropReason::HopBudget);
        }
        Decision::only(Verdict::Tunnel {
            kind: TunnelKind::FirstPacket,
            to: option.ingress,
            owner: option.ingress,
            generation,
        })
    }

    // ── the Owner this node knows of is not live ────────────────────────────────────────────────

    fn owner_dead(&self, session: &Session) -> Decision {
        let next = Session { generation: session.generation.next(), ..*session };
        match self.arrival {
            Arrival::Data if !self.aggregation() || self.director() == self.me() => self.own(next, true),
            Arrival::Data => self.query(0, session.generation),
            Arrival::Tunnel(option) => match option.kind {
                TunnelKind::Query | TunnelKind::Lookup | TunnelKind::Gather => {
                    self.grant_takeover(session, option)
                }
                TunnelKind::FirstPacket | TunnelKind::Redirect
                    if option.owner == self.me() && self.outranks(option.generation, session) =>
                {
                    self.own(Session { generation: option.generation, ..*session }, true)
                }
                _ if self.director() == self.me() => self.own(next, true),
                _ => self.query(option.hops, session.generation),
            },
        }
    }

    /// Compare-and-set: the dead Owner is replaced by the ingress, before the answer leaves. What is
    /// known of the session stays known, in case the new Owner dies as well.
    fn grant_takeover(&self, session: &Session, option: &TunnelOption) -> Decision {
        if let Some(pass_on) = self.pass_to_director(option) {
            return pass_on;
        }
        let generation = session.generation.max(option.generation).next();
        if self.spares(option.ingress) || option.ingress == self.me() {
            return self.own(Session { generation, ..*session }, true);
        }
        let granted = Session {
            role: Role::Claim,
            owner: option.ingress,
            generation,
            expires: self.around.now.plus(CLAIM_CHECK_MS),
            ..*session
        };
        let decision = self.first_packet(option, generation);
        match decision.verdict {
            Verdict::Tunnel { .. } => {
                Decision { change: Change::Put { session: granted, replicate: false }, ..decision }
            }
            _ => decision,
        }
    }

    // ── nothing is known of the flow ────────────────────────────────────────────────────────────

    fn unknown(&self) -> Decision {
        match self.arrival {
            Arrival::Data if !self.aggregation() => self.begin_or_refuse(Generation(1)),
            Arrival::Data if self.director() == self.me() => match self.former_director() {
                Some(former) => self.ask_former(former, 0, Generation(0)),
                None => self.begin_or_refuse(Generation(1)),
            },
            Arrival::Data => self.query(0, Generation(0)),
            Arrival::Tunnel(option) => self.unknown_tunnelled(option),
        }
    }

    fn unknown_tunnelled(&self, option: &TunnelOption) -> Decision {
        match option.kind {
            TunnelKind::Query | TunnelKind::Lookup | TunnelKind::Gather => self.answer_query(option),
            // A later generation means that the flow lived before and this node knew nothing of it.
            TunnelKind::FirstPacket if option.generation > Generation(1) => {
                self.begin(option.generation, 1, !track::may_begin(self.packet))
            }
            TunnelKind::FirstPacket => self.begin_or_refuse(begun_by(option.generation)),
            // The FirstPacket was lost, or is still on its way.
            TunnelKind::Redirect if option.owner == self.me() => {
                self.begin_or_refuse(begun_by(option.generation))
            }
            TunnelKind::Redirect if option.hops < HOP_BUDGET && self.around.view.is_live(option.owner) => {
                Decision::only(Verdict::Tunnel {
                    kind: TunnelKind::Redirect,
                    to: option.owner,
                    owner: option.owner,
                    generation: option.generation,
                })
            }
            TunnelKind::Redirect | TunnelKind::Hello => self.unrelated(),
        }
    }

    fn begin_or_refuse(&self, generation: Generation) -> Decision {
        if !self.may_begin() {
            return self.unrelated();
        }
        if !self.is_allowed() {
            return Decision::drop(DropReason::PolicyDenied);
        }
        if self.is_minority() {
            return Decision::drop(DropReason::NoQuorum);
        }
        self.begin(generation, 1, !track::may_begin(self.packet))
    }

    /// The Director's answer to a first packet, or to one whose ingress alone still knows the flow of a dead Owner:
    /// the claim is written, then the packet goes back. A node that may not own gets no flow: the Director takes it.
    fn answer_query(&self, option: &TunnelOption) -> Decision {
        if let Some(pass_on) = self.pass_to_director(option).or_else(|| self.pass_to_former(option)) {
            return pass_on;
        }
        let generation = option.generation.next();
        let lived = option.generation > Generation(0);
        if self.spares(option.ingress) || option.ingress == self.me() {
            let midstream = !track::may_begin(self.packet);
            return if lived {
                self.begin(generation, 1, midstream)
            } else {
                self.begin_or_refuse(generation)
            };
        }
        if !lived && !self.may_begin() {
            return self.unrelated();
        }
        if !lived && !self.is_allowed() {
            return Decision::drop(DropReason::PolicyDenied);
        }
        if !lived && self.is_minority() {
            return Decision::drop(DropReason::NoQuorum);
        }
        let decision = self.first_packet(option, generation);
        if !matches!(decision.verdict, Verdict::Tunnel { .. }) {
            return decision;
        }
        let claim = self.claim(option.ingress, generation);
        Decision { change: Change::Put { session: claim, replicate: false }, ..decision }
    }

    fn claim(&self, owner: NodeId, generation: Generation) -> Session {
        let begun = Begun {
            state: State::Claimed,
            tcp: TcpTracking::default(),
            timeout_ms: CLAIM_CHECK_MS as u32,
            origin: self.packet.direction,
        };
        self.session(Role::Claim, owner, generation, 0, begun)
    }

    /// An ingress that takes no flows (it drains, or is not ready) is granted none: the Director, which
    /// does, owns the flow itself. What a service of the ingress begins is only there understood.
    fn spares(&self, ingress: NodeId) -> bool {
        let view = self.around.view;
        let begun_by_service = match self.arrival {
            Arrival::Tunnel(option) => self.around.services.of_zone(option.zone) != 0,
            Arrival::Data => false,
        };
        !begun_by_service && view.weight_of(ingress) == 0 && view.my_weight() > 0
    }

    /// The policy lets this packet begin a flow; of a whole one that was tunnelled its ingress has said so.
    fn is_allowed(&self) -> bool {
        match self.arrival {
            Arrival::Data => self.around.allowed,
            Arrival::Tunnel(option) if option.kind == TunnelKind::Gather => self.around.allowed,
            Arrival::Tunnel(option) => option.kind != TunnelKind::Lookup,
        }
    }

    /// New flows are for the side of a partition that has the quorum; known ones go on on both.
    fn is_minority(&self) -> bool {
        self.aggregation() && !self.around.view.quorate
    }

    fn director(&self) -> NodeId {
        self.around.view.director_of(&self.packet.key)
    }

    /// The live node that was Director of a flow this node has become Director of: it may have granted it.
    fn former_director(&self) -> Option<NodeId> {
        let view = self.around.view;
        // Nearly always: the Director is a hash that need not be made twice.
        if self.around.former.is_empty() || self.director() != self.me() {
            return None;
        }
        let mut directors = self.around.former.iter().map(|view| view.director_of(&self.packet.key));
        directors.find(|&former| former != self.me() && view.is_live(former))
    }

    /// A Query about a flow this node knows nothing of goes on to the former Director, which decides.
    fn pass_to_former(&self, option: &TunnelOption) -> Option<Decision> {
        let former = self.former_director()?;
        let may = former != option.ingress && former != option.sender && option.hops + 1 < HOP_BUDGET;
        may.then(|| self.ask_former(former, option.hops, option.generation))
    }

    /// Asks the former Director. Until the answer shows, the flow counts as its: a generation lower than any
    /// grant, so that a flow it asks about itself meanwhile is not granted twice.
    fn ask_former(&self, former: NodeId, crossings: u8, known: Generation) -> Decision {
        let asked = self.query_to(former, crossings, known);
        if !self.may_begin() || !self.is_allowed() || !matches!(asked.verdict, Verdict::Tunnel { .. }) {
            return asked;
        }
        let claim = self.claim(former, Generation(0));
        Decision { change: Change::Put { session: claim, replicate: false }, ..asked }
    }

    /// A Query that reached a node which is not the Director in its own view goes on once, as long as
    /// an answer can still be carried within the hop budget.
    fn pass_to_director(&self, option: &TunnelOption) -> Option<Decision> {
        let director = self.director();
        // Where fragments meet need not be where their flow is decided about; that may be the ingress.
        let is_unasked = director != option.ingress && director != option.sender;
        let elsewhere = director != self.me() && (is_unasked || option.kind == TunnelKind::Gather);
        (elsewhere && option.hops + 1 < HOP_BUDGET).then(|| {
            Decision::only(Verdict::Tunnel {
                kind: option.kind,
                to: director,
                owner: NodeId(0),
                generation: option.generation,
            })
        })
    }

    /// Asks the Director; `known` is the generation of the dead Owner's session this node still has, 0 if none.
    fn query(&self, crossings: u8, known: Generation) -> Decision {
        self.query_to(self.director(), crossings, known)
    }

    fn query_to(&self, to: NodeId, crossings: u8, known: Generation) -> Decision {
        if crossings >= HOP_BUDGET {
            return Decision::drop(DropReason::HopBudget);
        }
        let kind = if self.is_allowed() { TunnelKind::Query } else { TunnelKind::Lookup };
        Decision::only(Verdict::Tunnel { kind, to, owner: NodeId(0), generation: known })
    }
}

/// The generation of a flow that begins by a grant. Generation 0 is none: a Director only supposes that its predecessor owns
/// what it asks it about (`ask_former`), and another node may have been granted the flow with generation 1.
fn begun_by(granted: Generation) -> Generation {
    if granted == Generation(0) { Generation(2) } else { granted }
}
