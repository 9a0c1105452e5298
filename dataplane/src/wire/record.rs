//! The replication record: what peers must know of a session to go on with it.
//!
//! ```text
//!  0               8               16              24             31
//! +---------------+---------------+---------------+---------------+
//! | version 1     | length, bytes | flags         | state         |  0
//! +---------------+---------------+---------------+---------------+
//! | owner node                    | origin        | service       |  4
//! +-------------------------------+-------------------------------+
//! | generation                                                    |  8
//! | version of the session                                        | 12
//! | age, s                                                        | 16
//! | idle time left, s                                             | 20
//! | policy version                                                | 24
//! +---------------+---------------+---------------+---------------+
//! | scale, lower  | scale, higher | TCP flags, l. | TCP flags, h. | 28
//! +---------------+---------------+---------------+---------------+
//! | protocol      | inner VLAN id         | outer VLAN id         | 32
//! +---------------+---------------+-------+-----------------------+
//! | port, lower end               | port, higher end              | 36
//! +-------------------------------+-------------------------------+
//! | address, lower end: 4 bytes IPv4, 16 bytes IPv6               | 40
//! | address, higher end                                           | 44 or 56
//! +---------------------------------------------------------------+
//!  flags: 1 = the session is gone, 2 = IPv6, 4 = the first packet went from the higher end
//!  service: number of the service the flow goes through (0-3), 0 = none; the other bits are 0
//!  origin: zone the flow began in (0-3), 16 = what policy allowed is the other way than the first packet seen
//! ```
//!
//! All numbers are big endian; ages, never wall time. 48 bytes for IPv4, 72 for IPv6. A receiver skips
//! bytes it does not know (up to `length`) and flags it does not know, so fields may be added behind;
//! a change of meaning needs a new version.

use thiserror::Error;

use crate::clock::NowMs;
use crate::flow::{Direction, FlowKey, Generation, NodeId, key_bytes};
use crate::session::admission::Admission;
use crate::session::record::{Role, Session, State};
use crate::session::tcp::{TcpEnd, TcpTracking};
use crate::wire::octets::{array, be16, be32, byte};

/// Version of the record.
pub const VERSION: u8 = 1;

/// Bytes in front of the addresses.
const FIXED: usize = 40;

/// Bits of the service's number; the others are for later versions.
const SERVICE: u8 = 0x0f;

const FLAG_REMOVE: u8 = 1;
const FLAG_IPV6: u8 = 2;
const FLAG_FROM_HIGHER: u8 = 4;

/// What a backup needs of TCP tracking to go on after a takeover; windows are learned anew.
/// Index = [`Direction`] of the end's packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpReplica {
    /// Window scale of both ends.
    pub scale: [u8; 2],
    /// Tracking flags of both ends, as in [`TcpEnd`].
    pub flags: [u8; 2],
}

/// A session as peers hear of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// The session is gone; state, ages and TCP are of no meaning.
    pub remove: bool,
    /// The flow.
    pub key: FlowKey,
    /// The node that processes it.
    pub owner: NodeId,
    /// How often ownership was granted.
    pub generation: Generation,
    /// Counts the Owner's changes within one generation.
    pub version: u32,
    /// Protocol state.
    pub state: State,
    /// The way the first packet went.
    pub origin: Direction,
    /// TCP's part.
    pub tcp: TcpReplica,
    /// How long the session has lived, s.
    pub age_s: u32,
    /// Idle time left when this was written, s, rounded up.
    pub timeout_s: u32,
    /// Zone and direction the policy judged, see [`Admission::origin`].
    pub admitted: u8,
    /// Number of the service the flow goes through at its Owner, 0 for none.
    pub service: u8,
    /// Version of the policy that let the flow in; 0: none was in force.
    pub policy: u32,
}

/// Why bytes are no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RecordError {
    /// Fewer bytes than the record's length field says (or no length field at all).
    #[error("a record is cut short: {have} of {need} bytes")]
    CutShort {
        /// Bytes there.
        have: usize,
        /// Bytes the record needs.
        need: usize,
    },
    /// Written by another version of samepath.
    #[error("a record has version {0}, this node reads version {VERSION}; run one release on all nodes")]
    Version(u8),
    /// The length field is smaller than the fields that must be there.
    #[error("a record says it has {length} bytes, its fields need {need}")]
    Length {
        /// What the length field says.
        length: u8,
        /// What the fields need.
        need: usize,
    },
    /// No such state.
    #[error("a record has the unknown state {0}")]
    State(u8),
    /// Owner 0: no node.
    #[error("a record names no Owner")]
    Owner,
    /// The two ends are not in canonical order, or IPv4 addresses are written as IPv6.
    #[error("a record's flow is not in canonical form")]
    Flow,
}

impl Record {
    /// The record of a session that lives.
    pub fn of(session: &Session, now: NowMs) -> Self {
        Self {
            age_s: seconds(now.since(session.created)),
            timeout_s: seconds(session.expires.since(now).saturating_add(999)),
            remove: false,
            ..Self::remove_of(session)
        }
    }

    /// The record that ends a session at its peers.
    pub fn remove_of(session: &Session) -> Self {
        let [lo, hi] = session.tcp.ends;
        Self {
            remove: true,
            key: session.key,
            owner: session.owner,
            generation: session.generation,
            version: session.version,
            state: session.state,
            origin: session.origin,
            tcp: TcpReplica { scale: [lo.scale, hi.scale], flags: [lo.flags, hi.flags] },
            age_s: 0,
            timeout_s: 0,
            admitted: session.admission.origin(),
            service: session.admission.service,
            policy: 0,
        }
    }

    /// The backup a peer makes of it; `mark` is the present bulk-sync mark.
    pub fn to_session(&self, now: NowMs, mark: u16) -> Session {
        let end = |index: usize| TcpEnd {
            scale: self.tcp.scale[index],
            flags: self.tcp.flags[index],
            ..TcpEnd::default()
        };
        let timeout_ms = self.timeout_s.saturating_mul(1000);
        Session {
            key: self.key,
            role: Role::Backup,
            state: self.state,
            origin: self.origin,
            dirty: false,
            owner: self.owner,
            mark,
            admission: Admission { service: self.service, ..Admission::of_origin(self.admitted) },
            generation: self.generation,
            version: self.version,
            tcp: TcpTracking { ends: [end(0), end(1)] },
            created: NowMs(now.0.saturating_sub(u64::from(self.age_s) * 1000)),
            expires: now.plus(u64::from(timeout_ms)),
            timeout_ms,
            packets: 0,
            bytes: 0,
        }
    }

    /// Appends the record to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let ipv4 = self.key.is_ipv4();
        let length = FIXED + if ipv4 { 8 } else { 32 };
        let flags = [
            (self.remove, FLAG_REMOVE),
            (!ipv4, FLAG_IPV6),
            (self.origin == Direction::HiToLo, FLAG_FROM_HIGHER),
        ];
        let flags = flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag);
        out.extend_from_slice(&[VERSION, length as u8, flags, self.state as u8]);
        out.extend_from_slice(&self.owner.0.to_be_bytes());
        out.extend_from_slice(&[self.admitted, self.service]);
        let numbers = [self.generation.0, self.version, self.age_s, self.timeout_s, self.policy];
        out.extend(numbers.into_iter().flat_map(u32::to_be_bytes));
        out.extend_from_slice(&self.tcp.scale);
        out.extend_from_slice(&self.tcp.flags);
        out.extend_from_slice(&self.key.proto_vlans.to_be_bytes());
        out.extend_from_slice(&self.key.lo_port.to_be_bytes());
        out.extend_from_slice(&self.key.hi_port.to_be_bytes());
        let skipped = if ipv4 { 12 } else { 0 };
        out.extend_from_slice(&self.key.lo[skipped..]);
        out.extend_from_slice(&self.key.hi[skipped..]);
    }

    /// Takes one record from the front of `bytes`. On an error `bytes` stays where it was.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, RecordError> {
        let cut_short = |need| RecordError::CutShort { have: bytes.len(), need };
        let version = byte(bytes, 0).ok_or(cut_short(2))?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let length = byte(bytes, 1).ok_or(cut_short(2))?;
        let (own, rest) =
            bytes.split_at_checked(usize::from(length)).ok_or(cut_short(usize::from(length)))?;
        let ipv6 = byte(own, 2).is_some_and(|flags| flags & FLAG_IPV6 != 0);
        let need = FIXED + if ipv6 { 32 } else { 8 };
        // The one way `read` fails: a field behind the end.
        let record = Self::read(own, ipv6).ok_or(RecordError::Length { length, need })?;
        let record = record?;
        *bytes = rest;
        Ok(record)
    }

    /// Reads the fields of one record; `None` if one lies behind its end.
    fn read(own: &[u8], ipv6: bool) -> Option<Result<Self, RecordError>> {
        let flags = byte(own, 2)?;
        let key = read_key(own, ipv6)?;
        let state = byte(own, 3)?;
        let owner = NodeId(be16(own, 4)?);
        let [generation, version, age_s, timeout_s, policy] =
            [be32(own, 8)?, be32(own, 12)?, be32(own, 16)?, be32(own, 20)?, be32(own, 24)?];
        let tcp = TcpReplica { scale: array(own, 28)?, flags: array(own, 30)? };
        let Some(state) = State::from_wire(state) else {
            return Some(Err(RecordError::State(state)));
        };
        if owner == NodeId::default() {
            return Some(Err(RecordError::Owner));
        }
        if (key.lo, key.lo_port) > (key.hi, key.hi_port) || key.is_ipv4() == ipv6 {
            return Some(Err(RecordError::Flow));
        }
        let from_higher = flags & FLAG_FROM_HIGHER != 0;
        Some(Ok(Self {
            remove: flags & FLAG_REMOVE != 0,
            key,
            owner,
            generation: Generation(generation),
            version,
            state,
            origin: if from_higher { Direction::HiToLo } else { Direction::LoToHi },
            tcp,
            age_s,
            timeout_s,
            admitted: byte(own, 6)?,
            service: byte(own, 7)? & SERVICE,
            policy,
        }))
    }
}

fn read_key(own: &[u8], ipv6: bool) -> Option<FlowKey> {
    let (lo, hi) = if ipv6 {
        (array(own, FIXED)?, array(own, FIXED + 16)?)
    } else {
        let v4 = |at| array::<4>(own, at).map(|octets| key_bytes(octets.into()));
        (v4(FIXED)?, v4(FIXED + 4)?)
    };
    let (lo_port, hi_port) = (be16(own, 36)?, be16(own, 38)?);
    Some(FlowKey { lo, hi, lo_port, hi_port, proto_vlans: be32(own, 32)? })
}

/// Whole seconds, as many as fit.
fn seconds(ms: u64) -> u32 {
    u32::try_from(ms / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
