//! The tunnel between nodes: Geneve (RFC 8926) over UDP, one option of our own, the unaltered frame.
//!
//! ```text
//! | Ethernet 14 | IPv4 20 or IPv6 40 | UDP 8 | Geneve 8 | option 40 | inner Ethernet frame …
//!
//!  0               8               16              24             31
//! +---+-----------+-+-+-----------+-------------------------------+
//! | 0 | 10 words  |O|C| reserved  | protocol 0x6558               |  Geneve header
//! +---+-----------+-+-+-----------+---------------+---------------+
//! | VNI = cluster id                              | reserved      |
//! +-------------------------------+---------------+-----+---------+
//! | class 0xff53                  | type 1        | 000 | 9 words |  option header
//! +---------------+---------------+---------------+-----+---------+
//! | version 3     | kind          | hops          | zone          |  0  option data
//! +---------------+---------------+---------------+---------------+
//! | ingress node                  | owner node                    |  4
//! +-------------------------------+-------------------------------+
//! | generation                                                    |  8
//! +---------------------------------------------------------------+
//! | epoch                                                         | 12
//! +-------------------------------+-------------------------------+
//! | sender node                   | key           | stream        | 16
//! +-------------------------------+---------------+---------------+
//! | counter                                                       | 20
//! |                                                               |
//! +---------------------------------------------------------------+
//! | tag                                                           | 28
//! |                                                               |
//! +---------------------------------------------------------------+
//! ```
//!
//! All numbers are big endian. The tag covers VNI, option data and the inner packet's flow: see
//! [`super::tag`]. An ICMP error's flow is the quoted one; a fragment's has ports 0; a Hello's is all zeros
//! (an IPv6 flow), direction 0.

use std::net::IpAddr;

use crate::flow::{Direction, FlowKey, Generation, NodeId};
use crate::verdict::DropReason;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::octets::{array, be16, be32, byte};
use crate::wire::plain::Plain;
use crate::wire::tag::{COUNTER, COVERED, STREAM, flow_secret, tag};
use crate::wire::{ipv4, ipv6};

/// UDP destination port of the tunnel (IANA: geneve).
pub const PORT: u16 = 6081;

/// EtherType of a Hello's inner frame (IEEE 802, local experimental 1).
pub const HELLO_ETHERTYPE: u16 = 0x88b5;

/// Version of the option.
pub const VERSION: u8 = 3;

/// Geneve protocol type: an Ethernet frame follows.
const TRANSPARENT_ETHERNET: u16 = 0x6558;

/// Option class, from the range RFC 8926 leaves for experiments.
const OPTION_CLASS: u16 = 0xff53;

/// Option type; the critical bit (0x80) is clear.
const OPTION_TYPE: u8 = 1;

const UDP: usize = 8;
const GENEVE: usize = 8;
const OPTION_HEADER: usize = 4;
const OPTION_DATA: usize = 36;
const OPTION: usize = OPTION_HEADER + OPTION_DATA;
/// Where the tag stands in the option data.
const TAG: usize = COVERED;

/// What a tunnel packet is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum TunnelKind {
    /// To the Director: who owns this flow?
    Query = 1,
    /// From the Director: you do, from this packet on.
    FirstPacket = 2,
    /// To the Owner: a packet of your flow.
    Redirect = 3,
    /// To every peer: the path packets take is alive.
    Hello = 4,
    /// To the Director: who owns this flow? The policy lets nobody begin it with this packet.
    Lookup = 5,
    /// To the node where the fragments of a packet meet; then as a Query of a node that has forgotten nothing.
    Gather = 6,
}

impl TunnelKind {
    /// The kind with this wire number.
    pub fn from_wire(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Query),
            2 => Some(Self::FirstPacket),
            3 => Some(Self::Redirect),
            4 => Some(Self::Hello),
            5 => Some(Self::Lookup),
            6 => Some(Self::Gather),
            _ => None,
        }
    }

    /// True for what the Director answers.
    #[inline(always)]
    pub fn asks(self) -> bool {
        matches!(self, Self::Query | Self::Lookup)
    }
}

pub use super::tag::{FORWARDER_STREAM, TaggedFlow, TunnelKey};

/// What the option says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TunnelOption {
    /// What the packet is.
    pub kind: TunnelKind,
    /// How often it crossed the cluster link, this time included.
    pub hops: u8,
    /// Zone of the ingress interface.
    pub zone: u8,
    /// The node it first arrived at.
    pub ingress: NodeId,
    /// The flow's Owner; 0 in a Query.
    pub owner: NodeId,
    /// Generation of the claim. In a Query that of the dead Owner's session the ingress still has, 0 if it has none.
    pub generation: Generation,
    /// Epoch of the sender's view.
    pub epoch: u32,
    /// The node that sent it on this crossing.
    pub sender: NodeId,
}

/// What makes every packet of a sender another one: each bears a number that its stream has not had under this key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seal {
    /// Which of the keys the receiver gave the sender.
    pub key: u8,
    /// Who counts: a worker by its number, or the XDP program on a processor, from [`FORWARDER_STREAM`] on.
    pub stream: u8,
    /// How many packets that one has sent to this receiver, this one included.
    pub counter: u64,
}

impl TunnelOption {
    /// On its first crossing a packet comes from its ingress: no node may ask for a flow in another's name.
    pub fn is_of_its_sender(&self) -> bool {
        self.hops != 1 || self.ingress == self.sender
    }
}

/// Outer addresses from this node to a peer; both IP addresses are of one version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TunnelEnds {
    /// This node's link address on the cluster link.
    pub source_mac: [u8; 6],
    /// The peer's (or the next router's) link address.
    pub destination_mac: [u8; 6],
    /// This node's cluster address.
    pub source: IpAddr,
    /// The peer's cluster address.
    pub destination: IpAddr,
}

/// Bytes the tunnel puts in front of a frame: 90 towards an IPv4 peer, 110 towards an IPv6 peer.
pub fn overhead(destination: &IpAddr) -> usize {
    let ip = if destination.is_ipv4() { ipv4::HEADER } else { ipv6::HEADER };
    ethernet::HEADER + ip + UDP + GENEVE + OPTION
}

/// A tunnel packet's option and tag, not yet verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// What the option says.
    pub option: TunnelOption,
    /// Which packet of its sender it is.
    pub seal: Seal,
    /// The sender's tag.
    pub tag: u64,
    /// The VNI: the sender's cluster id.
    pub cluster: u32,
    /// Option data as it came, up to the tag.
    data: [u8; TAG],
}

impl Received {
    /// True if whoever sent this holds the key and meant this inner flow.
    pub fn verify(&self, key: &TunnelKey, flow: &FlowKey, direction: Direction) -> bool {
        self.tag == tag(key, self.cluster, &self.data, &TaggedFlow::new(flow, direction))
    }
}

/// Finds the option in a whole outer frame whose inner frame starts at `inner_off` (as the XDP
/// program says, which has checked the outer headers).
///
/// [`DropReason::TunnelMalformed`] if the Geneve header or our option contradicts itself,
/// [`DropReason::TunnelUnknown`] if our option is missing, of another version or of unknown kind, or
/// another option insists on being understood; [`DropReason::BadMetadata`] if the headers do not end
/// at `inner_off`.
pub fn parse(frame: &[u8], inner_off: usize) -> Result<Received, DropReason> {
    let geneve_off = geneve_offset(frame).ok_or(DropReason::BadMetadata)?;
    let geneve = frame.get(geneve_off..inner_off).ok_or(DropReason::BadMetadata)?;
    let fixed: [u8; GENEVE] = array(geneve, 0).ok_or(DropReason::BadMetadata)?;
    let options = geneve.get(GENEVE..).ok_or(DropReason::BadMetadata)?;
    if options.len() != usize::from(fixed[0] & 0x3f) * 4 {
        return Err(DropReason::BadMetadata);
    }
    if fixed[0] >> 6 != 0 || be16(&fixed, 2) != Some(TRANSPARENT_ETHERNET) {
        return Err(DropReason::TunnelMalformed);
    }
    let cluster = u32::from_be_bytes([0, fixed[4], fixed[5], fixed[6]]);
    let data = find_option(options)?;
    received(cluster, &data).ok_or(DropReason::TunnelUnknown)
}

/// As [`Received`], where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceivedPlain<'a> {
    cluster: u32,
    data: &'a [u8; OPTION_DATA],
}

impl ReceivedPlain<'_> {
    /// What the option says.
    #[inline(always)]
    pub(crate) fn option(&self) -> Option<TunnelOption> {
        read_option(self.data)
    }

    /// Which packet of its sender it is.
    #[inline(always)]
    pub(crate) fn seal(&self) -> Seal {
        read_seal(self.data)
    }

    /// The sender's number, if our option is of our version.
    #[inline(always)]
    pub(crate) fn sender(&self) -> NodeId {
        NodeId(u16::from_be_bytes([self.data[16], self.data[17]]))
    }

    /// All of it.
    #[cfg(test)]
    fn whole(&self) -> Option<Received> {
        received(self.cluster, self.data)
    }

    /// The sender's cluster id.
    #[inline(always)]
    pub(crate) fn cluster(&self) -> u32 {
        self.cluster
    }

    /// As [`Received::verify`].
    #[inline(always)]
    pub(crate) fn verify(&self, key: &TunnelKey, plain: &Plain) -> bool {
        let Some((covered, sent)) = self.data.split_first_chunk::<TAG>() else { return false };
        let computed = tag(key, self.cluster, covered, &TaggedFlow::from(plain));
        sent.first_chunk().is_some_and(|sent| u64::from_be_bytes(*sent) == computed)
    }
}

/// [`parse`] of a frame with exactly the headers that [`emit`] writes and nothing else: no VLAN tag, no option
/// of others. `None` says nothing.
#[inline(always)]
pub(crate) fn parse_plain(frame: &[u8], inner_off: usize) -> Option<ReceivedPlain<'_>> {
    const BEHIND_IP: usize = UDP + GENEVE + OPTION;
    let ip = inner_off.checked_sub(BEHIND_IP + ethernet::HEADER)?;
    if ip != ipv4::HEADER && ip != ipv6::HEADER {
        return None;
    }
    let behind: &[u8; GENEVE + OPTION] = frame.get(..inner_off)?.last_chunk()?;
    let word = |at: usize| u32::from_be_bytes([behind[at], behind[at + 1], behind[at + 2], behind[at + 3]]);
    if word(0) != GENEVE_WORD || word(8) != OPTION_WORD {
        return None;
    }
    Some(ReceivedPlain { cluster: word(4) >> 8, data: behind.last_chunk()? })
}

#[inline(always)]
fn received(cluster: u32, data: &[u8; OPTION_DATA]) -> Option<Received> {
    let option = read_option(data)?;
    let (covered, tag) = data.split_first_chunk::<TAG>()?;
    let tag = u64::from_be_bytes(*tag.first_chunk()?);
    Some(Received { option, seal: read_seal(data), tag, cluster, data: *covered })
}

/// Where the Geneve header starts behind Ethernet, at most one VLAN tag, IP and UDP.
fn geneve_offset(frame: &[u8]) -> Option<usize> {
    let ethernet = Ethernet::parse(frame).ok()?;
    let ip = match ethernet.ethertype {
        ethernet::IPV4 => usize::from(byte(frame, ethernet.payload)? & 0xf) * 4,
        ethernet::IPV6 => ipv6::HEADER,
        _ => return None,
    };
    Some(ethernet.payload + ip + UDP)
}

/// Walks the options (RFC 8926 section 3.5) to ours. An option that is not ours is passed over unless
/// it is critical.
fn find_option(mut options: &[u8]) -> Result<[u8; OPTION_DATA], DropReason> {
    let mut found = None;
    while !options.is_empty() {
        let header: [u8; OPTION_HEADER] = array(options, 0).ok_or(DropReason::TunnelMalformed)?;
        let length = OPTION_HEADER + usize::from(header[3] & 0x1f) * 4;
        let (option, rest) = options.split_at_checked(length).ok_or(DropReason::TunnelMalformed)?;
        let ours = be16(&header, 0) == Some(OPTION_CLASS) && header[2] == OPTION_TYPE;
        if ours && found.is_none() {
            let exact = array(option, OPTION_HEADER).filter(|_| length == OPTION);
            found = Some(exact.ok_or(DropReason::TunnelMalformed)?);
        } else if header[2] & 0x80 != 0 {
            return Err(DropReason::TunnelUnknown);
        }
        options = rest;
    }
    found.ok_or(DropReason::TunnelUnknown)
}

#[inline(always)]
fn read_option(data: &[u8; OPTION_DATA]) -> Option<TunnelOption> {
    if data[0] != VERSION {
        return None;
    }
    Some(TunnelOption {
        kind: TunnelKind::from_wire(data[1])?,
        hops: data[2],
        zone: data[3],
        ingress: NodeId(be16(data, 4)?),
        owner: NodeId(be16(data, 6)?),
        generation: Generation(be32(data, 8)?),
        epoch: be32(data, 12)?,
        sender: NodeId(be16(data, 16)?),
    })
}

#[inline(always)]
fn read_seal(data: &[u8; OPTION_DATA]) -> Seal {
    let counter: [u8; 8] = std::array::from_fn(|byte| data[COUNTER + byte]);
    Seal { key: data[KEY], stream: data[STREAM], counter: u64::from_be_bytes(counter) }
}

/// Where the key's number stands in the option data.
const KEY: usize = 18;

/// The option data up to the tag.
#[inline(always)]
fn option_data(option: &TunnelOption, seal: &Seal) -> [u8; TAG] {
    let mut data = [0; TAG];
    data[..4].copy_from_slice(&[VERSION, option.kind as u8, option.hops, option.zone]);
    data[4..6].copy_from_slice(&option.ingress.0.to_be_bytes());
    data[6..8].copy_from_slice(&option.owner.0.to_be_bytes());
    data[8..12].copy_from_slice(&option.generation.0.to_be_bytes());
    data[12..16].copy_from_slice(&option.epoch.to_be_bytes());
    data[16..18].copy_from_slice(&option.sender.0.to_be_bytes());
    (data[KEY], data[STREAM]) = (seal.key, seal.stream);
    data[COUNTER..].copy_from_slice(&seal.counter.to_be_bytes());
    data
}

/// What the XDP program needs to tag packets with this option and inner flow, beside
/// [`TunnelKey::forwarder_half`].
pub fn forwarder_secret(
    option: &TunnelOption,
    (id, key): (u8, &TunnelKey),
    cluster: u32,
    flow: &FlowKey,
    direction: Direction,
) -> u64 {
    let seal = Seal { key: id, stream: FORWARDER_STREAM, counter: 0 };
    flow_secret(key, cluster, &option_data(option, &seal), &TaggedFlow::new(flow, direction))
}

/// Makes of headers that [`emit`] wrote those of another packet of the same flow; for tests and benches.
///
/// # Panics
/// If `outer` is not what [`emit`] wrote.
pub fn reseal(outer: &mut [u8], seal: &Seal, key: &TunnelKey, flow: &FlowKey, direction: Direction) {
    let received = parse(outer, outer.len()).expect("headers that `emit` wrote");
    let data = option_data(&received.option, seal);
    let tag = tag(key, received.cluster, &data, &TaggedFlow::new(flow, direction));
    let at = outer.len() - OPTION_DATA;
    outer[at..at + TAG].copy_from_slice(&data);
    outer[at + TAG..].copy_from_slice(&tag.to_be_bytes());
}

/// Writes all that stands in front of an inner frame of `inner_len` bytes.
///
/// `outer` is exactly [`overhead`] bytes; `cluster` has 24 bits; `flow` and `direction` are the inner
/// packet's as the tag wants them (see the module's text); `source_port_entropy` is the inner flow's
/// hash, 14 bits of which become the UDP source port, so that the receiver's RSS spreads flows.
///
/// # Panics
/// If `outer` has another length, the ends are of different IP versions, or the packet would exceed
/// 65,535 bytes: no frame of the UMEM is that long.
#[expect(clippy::too_many_arguments, reason = "each is one field of the headers")]
pub fn emit(
    outer: &mut [u8],
    inner_len: usize,
    ends: &TunnelEnds,
    cluster: u32,
    option: &TunnelOption,
    seal: &Seal,
    key: &TunnelKey,
    flow: &FlowKey,
    direction: Direction,
    source_port_entropy: u32,
) {
    let headers = Outer::new(ends, cluster);
    headers.write(
        outer,
        inner_len,
        option,
        seal,
        key,
        &TaggedFlow::new(flow, direction),
        source_port_entropy,
    );
}

/// Sets to zero what differs between packets to the same peer in one view: lengths, IPv4 checksum, UDP source
/// port, zone, generation, stream, counter, tag. The XDP program fills it in.
///
/// # Panics
/// If `outer` is not what [`emit`] wrote.
pub fn clear_per_packet(outer: &mut [u8]) {
    let (head, tail) = outer.split_at_mut(outer.len() - UDP - GENEVE - OPTION);
    if head.len() == ethernet::HEADER + ipv4::HEADER {
        head[ethernet::HEADER + 2..][..2].fill(0);
        head[ethernet::HEADER + 10..][..2].fill(0);
    } else {
        head[ethernet::HEADER + 4..][..2].fill(0);
    }
    tail[..2].fill(0);
    tail[4..6].fill(0);
    let data = &mut tail[UDP + GENEVE + OPTION_HEADER..];
    data[3] = 0;
    data[8..12].fill(0);
    data[STREAM..].fill(0);
}

/// Everything in front of packets to one peer but what differs from packet to packet.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    bytes: [u8; LONGEST],
    length: usize,
    cluster: u32,
    /// Sum of the IPv4 header's words without the total length.
    sum: u32,
}

/// Overhead over IPv6.
const LONGEST: usize = ethernet::HEADER + ipv6::HEADER + UDP + GENEVE + OPTION;

/// Overhead over IPv4.
const SHORTEST: usize = ethernet::HEADER + ipv4::HEADER + UDP + GENEVE + OPTION;

/// First word of our Geneve header, and of our option.
const GENEVE_WORD: u32 = (OPTION as u32 / 4) << 24 | TRANSPARENT_ETHERNET as u32;
const OPTION_WORD: u32 = (OPTION_CLASS as u32) << 16 | (OPTION_TYPE as u32) << 8 | (OPTION_DATA as u32 / 4);

impl Outer {
    /// The headers from this node to a peer of cluster `cluster` (24 bits).
    ///
    /// # Panics
    /// If the ends are of different IP versions.
    pub fn new(ends: &TunnelEnds, cluster: u32) -> Self {
        let mut bytes = [0; LONGEST];
        let length = overhead(&ends.destination);
        let (link, rest) = bytes[..length].split_at_mut(ethernet::HEADER);
        let (ip, rest) = rest.split_at_mut(rest.len() - UDP - GENEVE - OPTION);
        emit_ip(link, ip, ends);
        let sum = if ip.len() == ipv4::HEADER { u32::from(!ipv4::checksum(ip)) } else { 0 };
        rest[2..4].copy_from_slice(&PORT.to_be_bytes());
        let geneve = &mut rest[UDP..];
        geneve[..4].copy_from_slice(&GENEVE_WORD.to_be_bytes());
        geneve[4..8].copy_from_slice(&(cluster << 8).to_be_bytes());
        geneve[8..12].copy_from_slice(&OPTION_WORD.to_be_bytes());
        Self { bytes, length, cluster, sum }
    }

    /// Bytes the headers take.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Writes the headers of one packet; see [`emit`], whose panics are these.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "each is one field of the headers")]
    pub fn write(
        &self,
        outer: &mut [u8],
        inner_len: usize,
        option: &TunnelOption,
        seal: &Seal,
        key: &TunnelKey,
        flow: &TaggedFlow,
        source_port_entropy: u32,
    ) {
        assert!(outer.len() == self.length, "outer headers have one exact length");
        // Lengths that the compiler knows, and so needs no call for.
        match outer.first_chunk_mut::<LONGEST>() {
            Some(all) => *all = self.bytes,
            None => match (outer.first_chunk_mut::<SHORTEST>(), self.bytes.first_chunk()) {
                (Some(head), Some(bytes)) => *head = *bytes,
                _ => unreachable!("headers are as long as those over IPv4 or over IPv6"),
            },
        }
        let udp_len = u16::try_from(UDP + GENEVE + OPTION + inner_len);
        let udp_len = udp_len.expect("a frame of the UMEM is far shorter than 65,535 bytes");
        let (head, tail) = outer.split_at_mut(self.length - UDP - GENEVE - OPTION);
        self.write_lengths(head, udp_len);
        let tail: &mut [u8; UDP + GENEVE + OPTION] = tail.first_chunk_mut().expect("the headers are there");
        tail[..2].copy_from_slice(&(0xc000 | source_port_entropy as u16 & 0x3fff).to_be_bytes());
        tail[4..6].copy_from_slice(&udp_len.to_be_bytes());
        let data = option_data(option, seal);
        let tag = tag(key, self.cluster, &data, flow);
        tail[UDP + GENEVE + OPTION_HEADER..][..TAG].copy_from_slice(&data);
        tail[UDP + GENEVE + OPTION_HEADER + TAG..].copy_from_slice(&tag.to_be_bytes());
    }

    #[inline(always)]
    fn write_lengths(&self, head: &mut [u8], udp_len: u16) {
        if head.len() != ethernet::HEADER + ipv4::HEADER {
            head[ethernet::HEADER + 4..ethernet::HEADER + 6].copy_from_slice(&udp_len.to_be_bytes());
            return;
        }
        let total = udp_len.saturating_add(ipv4::HEADER as u16);
        let sum = self.sum + u32::from(total);
        let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
        head[ethernet::HEADER + 2..ethernet::HEADER + 4].copy_from_slice(&total.to_be_bytes());
        head[ethernet::HEADER + 10..ethernet::HEADER + 12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Link and IP header with lengths and checksum left zero.
fn emit_ip(link: &mut [u8], ip: &mut [u8], ends: &TunnelEnds) {
    link[..6].copy_from_slice(&ends.destination_mac);
    link[6..12].copy_from_slice(&ends.source_mac);
    match (ends.source, ends.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            link[12..].copy_from_slice(&ethernet::IPV4.to_be_bytes());
            ip[..2].copy_from_slice(&[0x45, 0]);
            // Identification 0 with "don't fragment": RFC 6864.
            ip[4..8].copy_from_slice(&[0, 0, 0x40, 0]);
            ip[8..12].copy_from_slice(&[TTL, 17, 0, 0]);
            ip[12..16].copy_from_slice(&source.octets());
            ip[16..].copy_from_slice(&destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            link[12..].copy_from_slice(&ethernet::IPV6.to_be_bytes());
            ip[..4].copy_from_slice(&[0x60, 0, 0, 0]);
            ip[6..8].copy_from_slice(&[17, TTL]);
            ip[8..24].copy_from_slice(&source.octets());
            ip[24..].copy_from_slice(&destination.octets());
        }
        _ => unreachable!("both ends of a tunnel are checked to be of one IP version"),
    }
}

/// Outer TTL: the cluster link may be routed.
const TTL: u8 = 64;

/// The inner frame of a Hello: an Ethernet header and nothing else.
pub fn hello_frame(source_mac: [u8; 6], destination_mac: [u8; 6]) -> [u8; 14] {
    let mut frame = [0; 14];
    frame[..6].copy_from_slice(&destination_mac);
    frame[6..12].copy_from_slice(&source_mac);
    frame[12..].copy_from_slice(&HELLO_ETHERTYPE.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests;
