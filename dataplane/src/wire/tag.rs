//! The tunnel's tag: AES-128-CBC-MAC (FIPS 113 with the cipher of FIPS 197) over blocks of one fixed layout
//! per IP version, the first half of the last block.
//!
//! ```text
//!         0     1           4                                            16
//!        +-----+-----------+---------------------------------------------+
//! first  | fmt | VNI (3)   | option data, bytes 0 to 11                   |
//!        +-----+-----------+---------------------+-----------+-----------+
//! second | option data, bytes 12 to 19 (8)       | ports (4) | pv (4)    |
//!        +-----------------------+---------------+-----------+-----------+
//! IPv4   | lower (4) | higher (4)| option data, bytes 20 to 27: counter  |
//!        +-----------+-----------+---------------------------------------+
//! IPv6   | lower (16)                                                    |
//!        | higher (16)                                                   |
//!        | option data, bytes 20 to 27: counter  | zeros (8)             |
//!        +---------------------------------------+-----------------------+
//! fmt: 4 or 6, plus 128 for the direction from the higher end to the lower; pv: protocol, VLANs
//! ```
//!
//! The XDP program has no AES. In its streams (128 and above) the tag is SipHash-2-4 over counter and stream
//! under a key of the flow's own: half of it is the CBC-MAC above with stream 128 and counter 0, which a worker
//! publishes with the flow and nobody sends; the other half belongs to the peer's key.
//!
//! CBC-MAC is a secure MAC for messages of which none begins another (M. Bellare, J. Kilian, P. Rogaway,
//! 2000): the first byte tells how many blocks there are. Processors have instructions for it; SipHash-2-4,
//! which this replaces, cost as much as the rest of a packet (`docs/decisions/0012-tunnel-tag.md`).

use aes::Aes128Enc;
use aes::cipher::consts::U16;
use aes::cipher::{Block, BlockBackend, BlockClosure, BlockEncrypt, BlockSizeUser, KeyInit};

use siphasher::sip::SipHasher24;

use crate::flow::{Direction, FlowKey};
use crate::wire::plain::Plain;

/// Bytes of option data in front of the tag.
pub(super) const COVERED: usize = 28;

/// Where the stream stands in the option data, and the counter.
pub(super) const STREAM: usize = 19;
pub(super) const COUNTER: usize = 20;

/// Streams from this one on are the XDP program's, one for each processor.
pub const FORWARDER_STREAM: u8 = 128;

/// A key for tunnel tags, from one node to one other.
#[derive(Clone)]
pub struct TunnelKey {
    bytes: [u8; 16],
    cipher: Aes128Enc,
    forwarder: u64,
}

impl TunnelKey {
    /// From 16 random bytes.
    pub fn new(bytes: [u8; 16]) -> Self {
        let cipher = Aes128Enc::new(&bytes.into());
        let mut forwarder = 0;
        // No message of a tag begins with this byte.
        cipher.encrypt_with_backend(Chain { blocks: [[u64::MAX, 0]], tag: &mut forwarder });
        Self { bytes, cipher, forwarder }
    }

    /// The bytes, to tell the one peer that shall have it.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.bytes
    }

    /// The half of the XDP program's keys that is the same for all flows.
    pub fn forwarder_half(&self) -> u64 {
        self.forwarder
    }
}

impl PartialEq for TunnelKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for TunnelKey {}

impl std::fmt::Debug for TunnelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TunnelKey(..)")
    }
}

/// The inner flow as the tag covers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaggedFlow {
    /// Addresses in canonical order, as [`crate::wire::plain::Plain::ends`].
    pub ends: [u64; 4],
    /// True for IPv6.
    pub ipv6: bool,
    /// Lower port, higher port (16 bits each), `proto_vlans`.
    pub rest: u64,
    /// The way the packet goes.
    pub direction: Direction,
}

impl TaggedFlow {
    /// From a flow key.
    pub fn new(key: &FlowKey, direction: Direction) -> Self {
        let words = |address: &[u8; 16]| {
            let number = u128::from_be_bytes(*address);
            [(number >> 64) as u64, number as u64]
        };
        let ([a, b], [c, d]) = (words(&key.lo), words(&key.hi));
        let ipv6 = !key.is_ipv4();
        let ends = if ipv6 { [a, b, c, d].map(u64::to_be) } else { [b << 32 | d & 0xffff_ffff, 0, 0, 0] };
        let ports = u64::from(key.lo_port) | u64::from(key.hi_port) << 16;
        Self { ends, ipv6, rest: ports | u64::from(key.proto_vlans) << 32, direction }
    }
}

impl From<&Plain> for TaggedFlow {
    #[inline(always)]
    fn from(plain: &Plain) -> Self {
        Self { ends: plain.ends, ipv6: plain.ipv6, rest: plain.rest, direction: plain.direction }
    }
}

/// The tag over VNI, the option data in front of it and the inner flow.
#[inline]
pub(super) fn tag(key: &TunnelKey, cluster: u32, data: &[u8; COVERED], flow: &TaggedFlow) -> u64 {
    if data[STREAM] >= FORWARDER_STREAM {
        forwarder_tag(key, cluster, data, flow)
    } else {
        mac(key, cluster, data, flow)
    }
}

/// The tag that the XDP program makes.
#[cold]
fn forwarder_tag(key: &TunnelKey, cluster: u32, data: &[u8; COVERED], flow: &TaggedFlow) -> u64 {
    let mut message = [0; 9];
    message[..8].copy_from_slice(&data[COUNTER..]);
    message[8] = data[STREAM];
    let secret = flow_secret(key, cluster, data, flow);
    SipHasher24::new_with_keys(secret, key.forwarder).hash(&message)
}

/// The half of the XDP program's key that is this flow's and this option's, whatever stream and counter say.
pub(super) fn flow_secret(key: &TunnelKey, cluster: u32, data: &[u8; COVERED], flow: &TaggedFlow) -> u64 {
    let mut data = *data;
    data[STREAM] = FORWARDER_STREAM;
    data[COUNTER..].fill(0);
    mac(key, cluster, &data, flow)
}

#[inline]
fn mac(key: &TunnelKey, cluster: u32, data: &[u8; COVERED], flow: &TaggedFlow) -> u64 {
    let format = if flow.ipv6 { 6 } else { 4 } | (flow.direction as u8) << 7;
    let [_, vni @ ..] = cluster.to_be_bytes();
    let half = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| data[at + byte]));
    let head = u64::from(u32::from_be_bytes([format, vni[0], vni[1], vni[2]])) << 32 | half(0) >> 32;
    let ports = u64::from(flow.rest as u16) << 48 | (flow.rest >> 16 & 0xffff) << 32;
    let (first, second) = ([head, half(4)], [half(12), ports | flow.rest >> 32]);
    let mut tag = 0;
    if flow.ipv6 {
        let [a, b, c, d] = flow.ends.map(u64::from_be);
        let blocks = [first, second, [a, b], [c, d], [half(COUNTER), 0]];
        key.cipher.encrypt_with_backend(Chain { blocks, tag: &mut tag });
    } else {
        let last = [flow.ends[0], half(COUNTER)];
        key.cipher.encrypt_with_backend(Chain { blocks: [first, second, last], tag: &mut tag });
    }
    tag
}

/// Blocks of two words, encrypted one upon the other; all at once, for the cipher asks anew at every call what
/// the processor can do.
struct Chain<'a, const N: usize> {
    blocks: [[u64; 2]; N],
    tag: &'a mut u64,
}

impl<const N: usize> BlockSizeUser for Chain<'_, N> {
    type BlockSize = U16;
}

impl<const N: usize> BlockClosure for Chain<'_, N> {
    #[inline(always)]
    fn call<B: BlockBackend<BlockSize = U16>>(self, backend: &mut B) {
        let mut state = 0_u128;
        for [high, low] in self.blocks {
            let mixed = state ^ u128::from_ne_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes());
            let mut block = Block::<B>::from(mixed.to_ne_bytes());
            backend.proc_block((&mut block).into());
            state = u128::from_ne_bytes(block.into());
        }
        *self.tag = (u128::from_be_bytes(state.to_ne_bytes()) >> 64) as u64;
    }
}
