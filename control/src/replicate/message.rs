//! What travels on a replication stream, byte for byte.
//!
//! ```text
//!  0        4         5      6
//!  +--------+---------+------+--------------+      length: of what follows it
//!  | length | version | kind | body         |      all numbers big endian
//!  +--------+---------+------+--------------+
//!  1 Hello        see hello.rs
//!  2 Records      first sequence u64 · count u16 · records
//!  3 BulkBegin    sync u32 · after u64
//!  4 Page         sync u32 · count u16 · records
//!  5 BulkEnd      sync u32
//!  6 Ack          sequence u64 · sync u32 · pages u32
//!  7 ClaimChecks  count u16 · claims
//!  8 ClaimsDenied count u16 · claims
//!  9 HandOver     count u16 · records
//!  10 TunnelKey   number u8 · key 16
//!  11 Question    number u32 · length u16 · text
//!  12 Answer      number u32 · length u16 · text
//!  claim: lo 16 · hi 16 · lo port u16 · hi port u16 · protocol and VLANs u32 · generation u32
//! ```
//! The dialling node sends 1, 2, 3, 4, 5, 7 to 12; the accepting one 1 and 6.
//! A frame says the version both nodes agreed on at Hello. Frames of a version above its own (but Hello)
//! and unknown kinds are skipped; bytes behind a known body too, so later releases add fields behind.

use samepath_dataplane::flow::{FlowKey, Generation};
use samepath_dataplane::keyring::PeerKey;
use samepath_dataplane::wire::record::{Record, RecordError};
use samepath_dataplane::wire::tunnel::TunnelKey;

use super::hello::Hello;
use super::limits::{FRAME_CLAIMS, FRAME_RECORDS, TEXT_MAX};

/// Highest version this release speaks.
pub const VERSION: u8 = 2;

/// Lowest version this release speaks. A release that changes the meaning of a field raises [`VERSION`] and goes on
/// speaking the version before, so that nodes can be upgraded one by one. Version 1 knew no tunnel keys, and without
/// them no packet passes between two nodes.
pub const LOWEST: u8 = 2;

const HELLO: u8 = 1;
const RECORDS: u8 = 2;
const BULK_BEGIN: u8 = 3;
const PAGE: u8 = 4;
const BULK_END: u8 = 5;
const ACK: u8 = 6;
const CLAIM_CHECKS: u8 = 7;
const CLAIMS_DENIED: u8 = 8;
const HAND_OVER: u8 = 9;
const TUNNEL_KEY: u8 = 10;
const QUESTION: u8 = 11;
const ANSWER: u8 = 12;

/// A flow and the generation of the claim spoken of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The flow.
    pub key: FlowKey,
    /// Generation of the claim.
    pub generation: Generation,
}

/// How far a receiver has come; cumulative.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ack {
    /// Last sequence number handed to the consumer.
    pub sequence: u64,
    /// The bulk sync the next field counts in; 0 = none.
    pub sync: u32,
    /// Pages of that sync handed to the consumer, its end counted as one.
    pub pages: u32,
}

/// One frame, taken apart.
#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    /// First message of both sides.
    Hello(Hello),
    /// Changes in the order they happened.
    Records {
        /// Sequence number of the first record; the others follow without gaps.
        first: u64,
        /// The records.
        records: Vec<Record>,
    },
    /// A bulk sync begins.
    BulkBegin {
        /// Counts the syncs of this sender towards this receiver.
        sync: u32,
        /// Changes up to this sequence number are covered by the sync and not sent.
        after: u64,
    },
    /// Sessions the sender owns, as they are now.
    Page {
        /// The sync it belongs to.
        sync: u32,
        /// The records.
        records: Vec<Record>,
    },
    /// A bulk sync is complete.
    BulkEnd {
        /// The sync that ends.
        sync: u32,
    },
    /// The receiver's progress.
    Ack(Ack),
    /// A Director asks whether claims still live.
    ClaimChecks(Vec<Claim>),
    /// The named Owner does not know these flows.
    ClaimsDenied(Vec<Claim>),
    /// The sender drains and hands these sessions to the receiver.
    HandOver(Vec<Record>),
    /// The receiver shall speak to the sender in the tunnel with this key from now on.
    TunnelKey(Box<PeerKey>),
    /// An operator of the sender asks the receiver something (JSON, as on the operator socket).
    Question {
        /// Given back with the answer.
        number: u32,
        /// What is asked.
        text: Vec<u8>,
    },
    /// Answer to a question of the receiver.
    Answer {
        /// The question's.
        number: u32,
        /// What is answered.
        text: Vec<u8>,
    },
    /// A frame of a kind or version this node does not know.
    Unknown(u8),
}

/// A frame that breaks the layout; the connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// The body ends before its fields do.
    #[error("a frame of kind {0} is too short")]
    Short(u8),
    /// A count above what one frame may hold.
    #[error("a frame of kind {0} claims {1} entries")]
    Count(u8, u16),
    /// A record that cannot be read.
    #[error("{0}")]
    Record(RecordError),
    /// A frame that is allowed, but not now.
    #[error("a frame of kind {0} came out of order")]
    Order(u8),
    /// A frame longer than [`super::limits::FRAME_MAX`].
    #[error("a frame of {0} bytes is too long")]
    Long(usize),
}

impl Message {
    /// Takes apart a frame without its length field.
    pub fn decode(frame: &[u8]) -> Result<Self, Malformed> {
        let mut body = frame;
        let [version, kind] = take(&mut body, 0)?;
        if !(1..=VERSION).contains(&version) && kind != HELLO {
            return Ok(Self::Unknown(kind));
        }
        Ok(match kind {
            HELLO => Self::Hello(Hello::decode(&mut body).ok_or(Malformed::Short(kind))?),
            RECORDS => {
                let first = u64::from_be_bytes(take(&mut body, kind)?);
                Self::Records { first, records: records(&mut body, kind)? }
            }
            BULK_BEGIN => Self::BulkBegin {
                sync: u32::from_be_bytes(take(&mut body, kind)?),
                after: u64::from_be_bytes(take(&mut body, kind)?),
            },
            PAGE => {
                let sync = u32::from_be_bytes(take(&mut body, kind)?);
                Self::Page { sync, records: records(&mut body, kind)? }
            }
            BULK_END => Self::BulkEnd { sync: u32::from_be_bytes(take(&mut body, kind)?) },
            ACK => Self::Ack(Ack {
                sequence: u64::from_be_bytes(take(&mut body, kind)?),
                sync: u32::from_be_bytes(take(&mut body, kind)?),
                pages: u32::from_be_bytes(take(&mut body, kind)?),
            }),
            CLAIM_CHECKS => Self::ClaimChecks(claims(&mut body, kind)?),
            CLAIMS_DENIED => Self::ClaimsDenied(claims(&mut body, kind)?),
            HAND_OVER => Self::HandOver(records(&mut body, kind)?),
            TUNNEL_KEY => {
                let [id] = take(&mut body, kind)?;
                Self::TunnelKey(Box::new(PeerKey { id, key: TunnelKey::new(take(&mut body, kind)?) }))
            }
            QUESTION => {
                let number = u32::from_be_bytes(take(&mut body, kind)?);
                Self::Question { number, text: text(&mut body, kind)? }
            }
            ANSWER => {
                let number = u32::from_be_bytes(take(&mut body, kind)?);
                Self::Answer { number, text: text(&mut body, kind)? }
            }
            _ => Self::Unknown(kind),
        })
    }

    /// The frame's kind on the wire.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => HELLO,
            Self::Records { .. } => RECORDS,
            Self::BulkBegin { .. } => BULK_BEGIN,
            Self::Page { .. } => PAGE,
            Self::BulkEnd { .. } => BULK_END,
            Self::Ack(_) => ACK,
            Self::ClaimChecks(_) => CLAIM_CHECKS,
            Self::ClaimsDenied(_) => CLAIMS_DENIED,
            Self::HandOver(_) => HAND_OVER,
            Self::TunnelKey(_) => TUNNEL_KEY,
            Self::Question { .. } => QUESTION,
            Self::Answer { .. } => ANSWER,
            Self::Unknown(kind) => *kind,
        }
    }
}

/// Writes the version two nodes agreed on into a frame. A Hello keeps its own: it comes before they agree.
pub fn speak(version: u8, frame: &mut [u8]) {
    if let [_, _, _, _, said, kind, ..] = frame
        && *kind != HELLO
    {
        *said = version;
    }
}

/// Frame of a Hello.
pub fn hello(hello: &Hello) -> Vec<u8> {
    frame(HELLO, Hello::SIZE, |out| hello.encode(out))
}

/// Frame of `count` changes already encoded, the first with sequence number `first`.
pub fn changes(first: u64, count: u16, encoded: &[u8]) -> Vec<u8> {
    frame(RECORDS, 10 + encoded.len(), |out| {
        out.extend_from_slice(&first.to_be_bytes());
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(encoded);
    })
}

/// Frame that begins a bulk sync.
pub fn bulk_begin(sync: u32, after: u64) -> Vec<u8> {
    frame(BULK_BEGIN, 12, |out| {
        out.extend_from_slice(&sync.to_be_bytes());
        out.extend_from_slice(&after.to_be_bytes());
    })
}

/// Frame of one page of a bulk sync, records already encoded.
pub fn page(sync: u32, count: u16, encoded: &[u8]) -> Vec<u8> {
    frame(PAGE, 6 + encoded.len(), |out| {
        out.extend_from_slice(&sync.to_be_bytes());
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(encoded);
    })
}

/// Frame that ends a bulk sync.
pub fn bulk_end(sync: u32) -> Vec<u8> {
    frame(BULK_END, 4, |out| out.extend_from_slice(&sync.to_be_bytes()))
}

/// Frame of an acknowledgement.
pub fn ack(ack: Ack) -> Vec<u8> {
    frame(ACK, 16, |out| {
        out.extend_from_slice(&ack.sequence.to_be_bytes());
        out.extend_from_slice(&ack.sync.to_be_bytes());
        out.extend_from_slice(&ack.pages.to_be_bytes());
    })
}

/// Frame of a Director's questions, at most [`FRAME_CLAIMS`].
pub fn claim_checks(claims: &[Claim]) -> Vec<u8> {
    claims_frame(CLAIM_CHECKS, claims)
}

/// Frame of an Owner's denials, at most [`FRAME_CLAIMS`].
pub fn claims_denied(claims: &[Claim]) -> Vec<u8> {
    claims_frame(CLAIMS_DENIED, claims)
}

/// Frame of sessions handed over, at most [`FRAME_RECORDS`].
pub fn hand_over(records: &[Record]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(records.len() * 48);
    records.iter().for_each(|record| record.encode(&mut encoded));
    frame(HAND_OVER, 2 + encoded.len(), |out| {
        out.extend_from_slice(&(records.len() as u16).to_be_bytes());
        out.extend_from_slice(&encoded);
    })
}

/// Frame of a key.
pub fn tunnel_key(key: &PeerKey) -> Vec<u8> {
    frame(TUNNEL_KEY, 17, |out| {
        out.push(key.id);
        out.extend_from_slice(key.key.bytes());
    })
}

/// Frame of an operator's question, at most [`TEXT_MAX`] bytes of it.
pub fn question(number: u32, text: &[u8]) -> Vec<u8> {
    text_frame(QUESTION, number, text)
}

/// Frame of the answer to an operator's question, at most [`TEXT_MAX`] bytes of it.
pub fn answer(number: u32, text: &[u8]) -> Vec<u8> {
    text_frame(ANSWER, number, text)
}

fn text_frame(kind: u8, number: u32, text: &[u8]) -> Vec<u8> {
    let text = &text[..text.len().min(TEXT_MAX)];
    frame(kind, 6 + text.len(), |out| {
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&(text.len() as u16).to_be_bytes());
        out.extend_from_slice(text);
    })
}

fn claims_frame(kind: u8, claims: &[Claim]) -> Vec<u8> {
    frame(kind, 2 + claims.len() * CLAIM_SIZE, |out| {
        out.extend_from_slice(&(claims.len() as u16).to_be_bytes());
        for claim in claims {
            out.extend_from_slice(&claim.key.lo);
            out.extend_from_slice(&claim.key.hi);
            out.extend_from_slice(&claim.key.lo_port.to_be_bytes());
            out.extend_from_slice(&claim.key.hi_port.to_be_bytes());
            out.extend_from_slice(&claim.key.proto_vlans.to_be_bytes());
            out.extend_from_slice(&claim.generation.0.to_be_bytes());
        }
    })
}

const CLAIM_SIZE: usize = 44;

fn frame(kind: u8, body: usize, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(6 + body);
    out.extend_from_slice(&((2 + body) as u32).to_be_bytes());
    out.extend_from_slice(&[VERSION, kind]);
    fill(&mut out);
    out
}

fn take<const N: usize>(body: &mut &[u8], kind: u8) -> Result<[u8; N], Malformed> {
    let (field, rest) = body.split_first_chunk::<N>().ok_or(Malformed::Short(kind))?;
    *body = rest;
    Ok(*field)
}

fn count(body: &mut &[u8], kind: u8, most: usize) -> Result<usize, Malformed> {
    let count = u16::from_be_bytes(take(body, kind)?);
    if usize::from(count) > most {
        return Err(Malformed::Count(kind, count));
    }
    Ok(count.into())
}

fn records(body: &mut &[u8], kind: u8) -> Result<Vec<Record>, Malformed> {
    let count = count(body, kind, FRAME_RECORDS)?;
    (0..count).map(|_| Record::decode(body).map_err(Malformed::Record)).collect()
}

fn text(body: &mut &[u8], kind: u8) -> Result<Vec<u8>, Malformed> {
    let length = count(body, kind, TEXT_MAX)?;
    let (text, rest) = body.split_at_checked(length).ok_or(Malformed::Short(kind))?;
    *body = rest;
    Ok(text.to_vec())
}

fn claims(body: &mut &[u8], kind: u8) -> Result<Vec<Claim>, Malformed> {
    let count = count(body, kind, FRAME_CLAIMS)?;
    (0..count)
        .map(|_| {
            let key = FlowKey {
                lo: take(body, kind)?,
                hi: take(body, kind)?,
                lo_port: u16::from_be_bytes(take(body, kind)?),
                hi_port: u16::from_be_bytes(take(body, kind)?),
                proto_vlans: u32::from_be_bytes(take(body, kind)?),
            };
            Ok(Claim { key, generation: Generation(u32::from_be_bytes(take(body, kind)?)) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicate::tests::record;

    fn claim() -> Claim {
        Claim { key: record(7, 1).key, generation: Generation(3) }
    }

    fn key() -> PeerKey {
        PeerKey { id: 5, key: TunnelKey::new(std::array::from_fn(|at| at as u8)) }
    }

    #[test]
    fn tunnel_key_on_the_wire() {
        let expected = [0, 0, 0, 19, 2, 10, 5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        assert_eq!(tunnel_key(&key()), expected);
    }

    #[test]
    fn questions_and_answers_on_the_wire() {
        assert_eq!(question(258, b"?!"), [0, 0, 0, 10, 2, 11, 0, 0, 1, 2, 0, 2, b'?', b'!']);
        assert_eq!(answer(258, b""), [0, 0, 0, 8, 2, 12, 0, 0, 1, 2, 0, 0]);
    }

    #[test]
    fn ack_on_the_wire() {
        let bytes = ack(Ack { sequence: 0x0102, sync: 3, pages: 4 });
        assert_eq!(bytes, [0, 0, 0, 18, 2, 6, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 4]);
    }

    #[test]
    fn bulk_begin_on_the_wire() {
        assert_eq!(bulk_begin(5, 9), [0, 0, 0, 14, 2, 3, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(bulk_end(5), [0, 0, 0, 6, 2, 5, 0, 0, 0, 5]);
    }

    #[test]
    fn frames_read_back() {
        let mut encoded = Vec::new();
        record(1, 1).encode(&mut encoded);
        record(2, 5).encode(&mut encoded);
        let records = vec![record(1, 1), record(2, 5)];
        for (bytes, message) in [
            (changes(9, 2, &encoded), Message::Records { first: 9, records: records.clone() }),
            (page(4, 2, &encoded), Message::Page { sync: 4, records }),
            (bulk_end(4), Message::BulkEnd { sync: 4 }),
            (hand_over(&[record(1, 1)]), Message::HandOver(vec![record(1, 1)])),
            (claim_checks(&[claim(), claim()]), Message::ClaimChecks(vec![claim(), claim()])),
            (tunnel_key(&key()), Message::TunnelKey(Box::new(key()))),
            (claims_denied(&[claim()]), Message::ClaimsDenied(vec![claim()])),
            (question(7, b"why"), Message::Question { number: 7, text: b"why".to_vec() }),
            (answer(7, b""), Message::Answer { number: 7, text: Vec::new() }),
        ] {
            let length = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            assert_eq!(length as usize, bytes.len() - 4);
            assert_eq!(Message::decode(&bytes[4..]), Ok(message.clone()));
            assert_eq!(bytes[5], message.kind());
        }
    }

    #[test]
    fn every_cut_of_every_frame_is_an_error_or_skipped() {
        let mut encoded = Vec::new();
        record(1, 1).encode(&mut encoded);
        for bytes in [
            changes(9, 1, &encoded),
            page(4, 1, &encoded),
            bulk_begin(1, 1),
            bulk_end(4),
            claim_checks(&[claim()]),
            tunnel_key(&key()),
            question(7, b"why"),
            answer(7, b"so"),
            ack(Ack::default()),
        ] {
            for cut in 4..bytes.len() {
                assert!(Message::decode(&bytes[4..cut]).is_err(), "kind {} cut at {cut}", bytes[5]);
            }
        }
    }

    #[test]
    fn unknown_kinds_versions_and_trailing_bytes_are_skipped() {
        assert_eq!(Message::decode(&[VERSION, 99, 1, 2]), Ok(Message::Unknown(99)));
        assert_eq!(Message::decode(&[9, RECORDS]), Ok(Message::Unknown(RECORDS)));
        let mut longer = bulk_end(4);
        longer.extend_from_slice(&[1, 2, 3]);
        assert_eq!(Message::decode(&longer[4..]), Ok(Message::BulkEnd { sync: 4 }));
    }

    #[test]
    fn too_many_entries_are_refused_before_memory_is_taken() {
        let bytes = [VERSION, CLAIM_CHECKS, 0xff, 0xff];
        assert_eq!(Message::decode(&bytes), Err(Malformed::Count(CLAIM_CHECKS, 0xffff)));
    }
}
