//! How a session lies in memory: one cache line that every packet of the flow needs, and a part apart
//! that few packets need.
//!
//! ```text
//! line, 64 bytes
//!   0 | name: addresses (8)                     | name: ports, protocol, VLANs (8)            |
//!  16 | TCP or SCTP tracking of the lower end (16)                                            |
//!  32 | TCP or SCTP tracking of the higher end (16)                                           |
//!  48 | expires, ticks (4) | paths' and terms (4) | hop (2) | hop (2) | bytes not added yet (2) | state (1) | bits (1) |
//!       bits: 0-1 role, 2 first packet from the higher end, 3 dirty, 4-7 packets not added yet
//!       paths' (0-23) number the routes and the policy that `hops` hold under; terms (24-31) are the policy's
//!       both and hops of a flow owned elsewhere: its generation, its Owner, 0
//!
//! rest, 32 bytes
//!   0 | bytes (60 bits), service (4 bits) | packets (4 + 2) | policy it was judged by; of a backup or claim: mark (2) |
//!  16 | created, ticks (4) | generation (4)  | version (4) | idle time, s; admission (26 + 6 bits)     |
//! ```
//!
//! Packets are counted in the line and added to the rest at every sixteenth, or when the bytes do not fit.
//! A tick is one of the timer wheel's. Ticks are kept modulo 2^32 (8.7 years) and read against a present.

use crate::clock::NowMs;
use crate::flow::{Direction, FlowKey, Generation, NodeId};
use crate::session::admission::Admission;
use crate::session::record::{Role, Session, State};
use crate::session::table::name::Name;
use crate::session::tcp::{TcpEnd, TcpTracking};
use crate::session::wheel::TICK_MS;

const ROLE: u8 = 3;
const FROM_HIGHER: u8 = 1 << 2;
const DIRTY: u8 = 1 << 3;
/// One packet in the bits that count those not added yet.
const PACKET: u8 = 1 << 4;
/// Packets that are added to the rest at once.
const PACKETS: u64 = 16;

/// The part of [`Line::generation`] that numbers routes and policies: it comes round after 16,777,216 of them.
pub(crate) const PATHS: u32 = 0xff_ffff;
/// Where terms begin.
const TERMS: u32 = 24;

/// Where the admission begins in [`Rest::timeout_and_admission`].
const ADMISSION: u32 = 26;
/// Where the service begins in [`Rest::bytes_and_service`]: what is below is a year of 1 Tbit/s.
const SERVICE: u32 = 60;
const BYTES: u64 = (1 << SERVICE) - 1;
/// Longest idle time that is kept, s: two years.
const TIMEOUT_MAX_S: u32 = (1 << ADMISSION) - 1;

/// No next hop.
const NO_HOP: u16 = u16::MAX;

/// What every packet of a flow needs.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Line {
    pub(super) name: Name,
    pub(super) tcp: TcpTracking,
    expires: u32,
    /// Number of the paths that `hops` belong to, and terms; of a backup or claim: generation of the flow.
    generation: u32,
    /// By direction. Of a backup or claim: the Owner, nothing.
    hops: [u16; 2],
    bytes: u16,
    /// `None`: nobody lives here; `name.addresses` is the next free slot.
    pub(super) state: Option<State>,
    bits: u8,
}

/// What few packets need.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(super) struct Rest {
    bytes_and_service: u64,
    packets_low: u32,
    packets_high: u16,
    /// Of an Owner: the policy; else the mark.
    policy_or_mark: u16,
    created: u32,
    generation: u32,
    version: u32,
    timeout_and_admission: u32,
}

const _: () = assert!(size_of::<Line>() == 64 && size_of::<Rest>() == 32);

const UNKNOWN_END: TcpEnd = TcpEnd { end: 0, max_end: 0, max_window: 0, scale: 0, flags: 0, note: 0 };

/// A free slot's line.
pub(super) const FREE: Line = Line {
    name: Name { addresses: 0, rest: 0 },
    tcp: TcpTracking { ends: [UNKNOWN_END; 2] },
    expires: 0,
    generation: 0,
    hops: [NO_HOP; 2],
    bytes: 0,
    state: None,
    bits: 0,
};

/// A free slot's rest.
pub(super) const NO_REST: Rest = Rest {
    bytes_and_service: 0,
    packets_low: 0,
    packets_high: 0,
    policy_or_mark: 0,
    created: 0,
    generation: 0,
    version: 0,
    timeout_and_admission: 0,
};

impl Line {
    /// Lays a session down.
    pub(super) fn new(session: &Session, name: Name) -> Self {
        let owned = session.role == Role::Owner;
        let bits = session.role as u8
            | flag(FROM_HIGHER, session.origin == Direction::HiToLo)
            | flag(DIRTY, session.dirty);
        Self {
            name,
            tcp: session.tcp,
            expires: ticks_up(session.expires),
            generation: if owned {
                u32::from(session.admission.terms) << TERMS
            } else {
                session.generation.0
            },
            hops: if owned { [NO_HOP; 2] } else { [session.owner.0, 0] },
            bytes: 0,
            state: Some(session.state),
            bits,
        }
    }

    /// True if this is the line of a flow with this name (an IPv6 flow's addresses are compared apart).
    #[inline(always)]
    pub(super) fn is_of(&self, name: &Name) -> bool {
        (self.name.addresses ^ name.addresses) | (self.name.rest ^ name.rest) == 0
    }

    #[inline(always)]
    pub(super) fn role(&self) -> Role {
        match self.bits & ROLE {
            0 => Role::Owner,
            1 => Role::Backup,
            _ => Role::Claim,
        }
    }

    #[inline(always)]
    pub(super) fn origin(&self) -> Direction {
        if self.bits & FROM_HIGHER == 0 { Direction::LoToHi } else { Direction::HiToLo }
    }

    #[inline(always)]
    pub(super) fn is_dirty(&self) -> bool {
        self.bits & DIRTY != 0
    }

    pub(super) fn set_dirty(&mut self, dirty: bool) {
        self.bits = self.bits & !DIRTY | flag(DIRTY, dirty);
    }

    /// Owner and generation of a flow that this node does not own; both are in the rest if it does.
    #[inline(always)]
    pub(super) fn owned_by(&self) -> Option<(NodeId, Generation)> {
        (self.role() != Role::Owner).then_some((NodeId(self.hops[0]), Generation(self.generation)))
    }

    /// Sets when the session ends; true if that is sooner than it was.
    #[inline(always)]
    pub(super) fn set_expires(&mut self, expires: NowMs) -> bool {
        let ticks = ticks_up(expires);
        let old = std::mem::replace(&mut self.expires, ticks);
        (ticks.wrapping_sub(old) as i32) < 0
    }

    pub(super) fn expires(&self, present: u64) -> NowMs {
        let distance = self.expires.wrapping_sub(present as u32) as i32;
        NowMs(present.saturating_add_signed(i64::from(distance)) * TICK_MS)
    }

    /// The next hop remembered for packets in `direction`, under these paths.
    #[inline(always)]
    pub(super) fn hop(&self, direction: Direction, paths: u32) -> Option<u32> {
        self.hop_if(direction, self.generation & PATHS == paths & PATHS)
    }

    /// As [`Line::hop`], of a session with the node's own idle times only: one comparison for both.
    #[inline(always)]
    pub(super) fn plain_hop(&self, direction: Direction, paths: u32) -> Option<u32> {
        self.hop_if(direction, self.generation == paths)
    }

    #[inline(always)]
    fn hop_if(&self, direction: Direction, holds: bool) -> Option<u32> {
        let hop = self.hops[direction as usize];
        let valid = self.bits & ROLE == Role::Owner as u8 && holds && hop != NO_HOP;
        valid.then_some(u32::from(hop))
    }

    /// Remembers a next hop, if it is one of the first 65,535 and the flow is owned here.
    #[inline(always)]
    pub(super) fn set_hop(&mut self, direction: Direction, paths: u32, hop: u32) {
        if self.role() != Role::Owner {
            return;
        }
        let generation = self.generation & !PATHS | paths & PATHS;
        if self.generation != generation {
            self.generation = generation;
            self.hops = [NO_HOP; 2];
        }
        self.hops[direction as usize] = u16::try_from(hop).unwrap_or(NO_HOP);
    }

    /// Which idle times an Owner's session has.
    fn terms(&self) -> u8 {
        if self.role() == Role::Owner { (self.generation >> TERMS) as u8 } else { 0 }
    }

    /// An Owner's session was judged anew. Its hops hold no longer.
    pub(super) fn set_terms(&mut self, terms: u8) {
        self.generation = u32::from(terms) << TERMS;
        self.hops = [NO_HOP; 2];
    }

    /// No packet waits to be added to the rest.
    #[inline(always)]
    pub(super) fn has_counted_up(&self) -> bool {
        self.bits < PACKET
    }

    /// Counts a packet; if the line has no room for it, gives the packets and bytes to be added to the
    /// rest.
    #[inline(always)]
    pub(super) fn count(&mut self, length: u32) -> Option<(u64, u64)> {
        let bytes = u32::from(self.bytes) + length;
        let (bits, full) = self.bits.overflowing_add(PACKET);
        self.bits = bits;
        if !full && bytes <= u32::from(u16::MAX) {
            self.bytes = bytes as u16;
            return None;
        }
        let packets = if full { PACKETS } else { u64::from(bits / PACKET) };
        self.bits &= PACKET - 1;
        self.bytes = 0;
        Some((packets, u64::from(bytes)))
    }
}

impl Rest {
    /// Lays a session down.
    pub(super) fn new(session: &Session) -> Self {
        let owned = session.role == Role::Owner;
        Self {
            bytes_and_service: session.bytes & BYTES | u64::from(session.admission.service) << SERVICE,
            packets_low: session.packets as u32,
            packets_high: (session.packets >> 32) as u16,
            policy_or_mark: if owned { session.admission.policy } else { session.mark },
            created: (session.created.0 / TICK_MS) as u32,
            generation: session.generation.0,
            version: session.version,
            timeout_and_admission: seconds(session.timeout_ms)
                | u32::from(session.admission.bits()) << ADMISSION,
        }
    }

    /// Adds packets and their bytes.
    pub(super) fn add(&mut self, packets: u64, bytes: u64) {
        self.bytes_and_service += bytes;
        let packets = packets + self.packets();
        self.packets_low = packets as u32;
        self.packets_high = (packets >> 32) as u16;
    }

    /// The session was replicated anew, in a state with this idle time.
    pub(super) fn change(&mut self, replicate: bool, timeout_ms: u32) {
        self.version = self.version.wrapping_add(u32::from(replicate));
        self.timeout_and_admission = self.timeout_and_admission & !TIMEOUT_MAX_S | seconds(timeout_ms);
    }

    /// The policy an Owner's session was judged by.
    pub(super) fn policy(&self) -> u16 {
        self.policy_or_mark
    }

    /// An Owner's session was judged.
    pub(super) fn set_admission(&mut self, admission: &Admission) {
        self.policy_or_mark = admission.policy;
        let timeout = self.timeout_and_admission & TIMEOUT_MAX_S;
        self.timeout_and_admission = timeout | u32::from(admission.bits()) << ADMISSION;
    }

    pub(super) fn admission(&self) -> Admission {
        let kept = Admission::of_bits((self.timeout_and_admission >> ADMISSION) as u8);
        Admission { service: self.service(), ..kept }
    }

    /// Number of the service, 0 for none.
    pub(super) fn service(&self) -> u8 {
        (self.bytes_and_service >> SERVICE) as u8
    }

    fn timeout_ms(&self) -> u32 {
        (self.timeout_and_admission & TIMEOUT_MAX_S).saturating_mul(1000)
    }

    /// Notes the bulk sync that confirmed a backup.
    pub(super) fn set_mark(&mut self, mark: u16) {
        self.policy_or_mark = mark;
    }

    fn packets(&self) -> u64 {
        u64::from(self.packets_high) << 32 | u64::from(self.packets_low)
    }

    /// The latest time up to `present` that these ticks stand for.
    fn created(&self, present: u64) -> NowMs {
        let age = (present as u32).wrapping_sub(self.created);
        NowMs(present.saturating_sub(u64::from(age)) * TICK_MS)
    }
}

/// The session that both parts make. `present`: ticks not before it was created; `me`: the node that owns what is
/// owned here.
#[inline]
pub(super) fn session(
    line: &Line,
    rest: &Rest,
    state: State,
    key: FlowKey,
    (present, me): (u64, NodeId),
) -> Session {
    let role = line.role();
    let kept = rest.admission();
    let (owner, mark, admission) = match line.owned_by() {
        None => (me, 0, Admission { policy: rest.policy(), terms: line.terms(), ..kept }),
        Some((owner, _)) => (owner, rest.policy_or_mark, Admission { local: false, ..kept }),
    };
    Session {
        key,
        role,
        state,
        origin: line.origin(),
        dirty: line.is_dirty(),
        owner,
        mark,
        admission,
        generation: Generation(rest.generation),
        version: rest.version,
        tcp: line.tcp,
        created: rest.created(present),
        expires: line.expires(present),
        timeout_ms: rest.timeout_ms(),
        packets: rest.packets() + u64::from(line.bits / PACKET),
        bytes: (rest.bytes_and_service & BYTES) + u64::from(line.bytes),
    }
}

/// Whole seconds of an idle time, rounded up.
#[inline(always)]
fn seconds(ms: u32) -> u32 {
    ms.div_ceil(1000).min(TIMEOUT_MAX_S)
}

/// The tick at which or before which a time lies.
pub(super) fn full_ticks(at: NowMs) -> u64 {
    at.0.div_ceil(TICK_MS)
}

#[inline(always)]
fn ticks_up(at: NowMs) -> u32 {
    full_ticks(at) as u32
}

#[inline(always)]
fn flag(bit: u8, set: bool) -> u8 {
    if set { bit } else { 0 }
}
