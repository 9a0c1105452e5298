//! The first message of both sides: who I am, what must agree, what I already hold of yours.
//!
//! ```text
//!  0 lowest version u16 | 2 node u16 | 4 cluster u32 | 8 hash version | 9 hash mode | 10 flags | 11 highest version
//!  12 key fingerprint u64 | 20 boot id u64 | 28 ms since start u64
//!  36 boot id of the peer whose records are held u64 | 44 last sequence of it acknowledged u64
//!  flags: 1 = what is held is whole (its bulk sync was completed)
//!  52 fields: type u16 · length u16 · value, to the end of the frame; none is defined yet
//! ```
//! Later versions keep these 52 bytes, so that the refusal can always be explained. Highest version 0 means: the lowest
//! alone. Fields and flags a node does not know are skipped.

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::cluster::director::{DIRECTOR_HASH_VERSION, DirectorHash};
use samepath_dataplane::flow::NodeId;

use super::message::{LOWEST, VERSION};
use super::refusal::Refusal;

/// The versions of the control channel a node speaks, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Versions {
    /// The lowest.
    pub lowest: u16,
    /// The highest.
    pub highest: u16,
}

impl Versions {
    /// What this release speaks.
    pub const SPOKEN: Self = Self { lowest: LOWEST as u16, highest: VERSION as u16 };

    /// The highest version both speak.
    pub fn common(self, other: Self) -> Option<u16> {
        let version = self.highest.min(other.highest);
        (version >= self.lowest.max(other.lowest)).then_some(version)
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.lowest == self.highest {
            true => write!(f, "{}", self.lowest),
            false => write!(f, "{} to {}", self.lowest, self.highest),
        }
    }
}

/// What this node is, and what peers must agree with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// This node.
    pub node: NodeId,
    /// Cluster id, 24 bits.
    pub cluster: u32,
    /// Which parts of a flow choose its Director.
    pub director_hash: DirectorHash,
    /// Fingerprint of the cluster's symmetric keys.
    pub fingerprint: u64,
    /// Random, drawn at start: tells a restart from a reconnect.
    pub boot_id: u64,
    /// When this process started.
    pub started: NowMs,
    /// The versions it speaks.
    pub versions: Versions,
}

/// What a receiver holds of a sender's records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// The sender's boot id; 0 = nothing is held.
    pub boot_id: u64,
    /// Last sequence number acknowledged.
    pub sequence: u64,
    /// The sender's bulk sync was completed.
    pub whole: bool,
}

/// See the picture above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The versions its sender speaks.
    pub versions: Versions,
    /// The sender of the Hello.
    pub node: NodeId,
    /// Its cluster id.
    pub cluster: u32,
    /// Version of its Director hash.
    pub hash_version: u8,
    /// Mode of its Director hash ([`DirectorHash`] as a number).
    pub hash_mode: u8,
    /// Fingerprint of its symmetric keys.
    pub fingerprint: u64,
    /// Its boot id.
    pub boot_id: u64,
    /// How long it has run, ms.
    pub started_ms_ago: u64,
    /// What it holds of the addressee's records.
    pub held: Held,
}

impl Identity {
    /// The Hello this node says to a peer of whose records it holds `held`.
    pub fn hello(&self, held: Held, now: NowMs) -> Hello {
        Hello {
            versions: self.versions,
            node: self.node,
            cluster: self.cluster,
            hash_version: DIRECTOR_HASH_VERSION,
            hash_mode: self.director_hash as u8,
            fingerprint: self.fingerprint,
            boot_id: self.boot_id,
            started_ms_ago: now.since(self.started),
            held,
        }
    }

    /// Whether this node and the one that said `hello`, known by its certificate as `peer`, may
    /// exchange records, and in which version.
    pub fn check(&self, peer: NodeId, hello: &Hello) -> Result<u8, Refusal> {
        let me = self.node;
        let version = self.versions.common(hello.versions).and_then(|version| u8::try_from(version).ok());
        let versions = (self.versions, hello.versions);
        let version = version.ok_or(Refusal::Protocol { me, peer, versions })?;
        if hello.cluster != self.cluster {
            return Err(Refusal::Cluster { me, peer, clusters: (self.cluster, hello.cluster) });
        }
        if hello.node == me {
            return Err(Refusal::SameNode { node: me });
        }
        if hello.node != peer {
            return Err(Refusal::HelloNode { certificate: peer, hello: hello.node });
        }
        let hashes =
            ((DIRECTOR_HASH_VERSION, self.director_hash as u8), (hello.hash_version, hello.hash_mode));
        if hashes.0 != hashes.1 {
            return Err(Refusal::DirectorHash { me, peer, hashes });
        }
        if hello.fingerprint != self.fingerprint {
            return Err(Refusal::Fingerprint { me, peer });
        }
        Ok(version)
    }
}

impl Hello {
    /// Bytes of the body.
    pub const SIZE: usize = 52;

    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.versions.lowest.to_be_bytes());
        out.extend_from_slice(&self.node.0.to_be_bytes());
        out.extend_from_slice(&self.cluster.to_be_bytes());
        let highest = u8::try_from(self.versions.highest).unwrap_or(u8::MAX);
        out.extend_from_slice(&[self.hash_version, self.hash_mode, self.held.whole.into(), highest]);
        out.extend_from_slice(&self.fingerprint.to_be_bytes());
        out.extend_from_slice(&self.boot_id.to_be_bytes());
        out.extend_from_slice(&self.started_ms_ago.to_be_bytes());
        out.extend_from_slice(&self.held.boot_id.to_be_bytes());
        out.extend_from_slice(&self.held.sequence.to_be_bytes());
    }

    /// Reads the body; `None` if it is too short.
    pub fn decode(body: &mut &[u8]) -> Option<Self> {
        let (bytes, rest) = body.split_at_checked(Self::SIZE)?;
        *body = rest;
        let lowest = u16::from_be_bytes([bytes[0], bytes[1]]);
        let highest = u16::from(bytes[11]).max(lowest);
        let number = |at: usize| bytes[at..at + 8].iter().fold(0, |sum, &b| sum << 8 | u64::from(b));
        Some(Self {
            versions: Versions { lowest, highest },
            node: NodeId(u16::from_be_bytes([bytes[2], bytes[3]])),
            cluster: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            hash_version: bytes[8],
            hash_mode: bytes[9],
            fingerprint: number(12),
            boot_id: number(20),
            started_ms_ago: number(28),
            held: Held { boot_id: number(36), sequence: number(44), whole: bytes[10] & 1 != 0 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicate::tests::identity;

    #[test]
    fn hello_on_the_wire() {
        let held = Held { boot_id: 0x0a0b, sequence: 0x0c0d, whole: true };
        let mut out = Vec::new();
        identity(2).hello(held, NowMs(1000 + 0x1234)).encode(&mut out);
        let expected: [u8; Hello::SIZE] = [
            0, 2, 0, 2, 0, 0, 0, 7, 1, 1, 1, 2, //
            0, 0, 0, 0, 0, 0, 0xf1, 0x9e, //
            0, 0, 0, 0, 0, 0, 0xb0, 0x02, //
            0, 0, 0, 0, 0, 0, 0x12, 0x34, //
            0, 0, 0, 0, 0, 0, 0x0a, 0x0b, 0, 0, 0, 0, 0, 0, 0x0c, 0x0d,
        ];
        assert_eq!(out, expected);
        let hello = Hello::decode(&mut &out[..]).unwrap();
        assert_eq!(hello, identity(2).hello(held, NowMs(1000 + 0x1234)));
        assert_eq!(Hello::decode(&mut &out[..Hello::SIZE - 1]), None);
    }

    #[test]
    fn every_disagreement_has_its_sentence() {
        let peer = NodeId(2);
        let good = identity(2).hello(Held::default(), NowMs(1000));
        assert_eq!(identity(1).check(peer, &good), Ok(VERSION));
        for (hello, words) in [
            (Hello { versions: Versions { lowest: 8, highest: 9 }, ..good }, "8 to 9"),
            (Hello { cluster: 8, ..good }, "--cluster-id"),
            (Hello { node: NodeId(1), ..good }, "--node-id"),
            (Hello { node: NodeId(3), ..good }, "certificate"),
            (Hello { hash_version: 2, ..good }, "director hash"),
            (Hello { hash_mode: 2, ..good }, "--director-hash"),
            (Hello { fingerprint: 1, ..good }, "--keys"),
        ] {
            let refusal = identity(1).check(peer, &hello).unwrap_err().to_string();
            assert!(refusal.contains(words), "{refusal:?} speaks of {words:?}");
        }
    }
}
