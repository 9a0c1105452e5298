//! The tunnel between nodes: Geneve (RFC 8926) over UDP, one option of our own, the unaltered frame.
//!
//! ```text
//! | Ethernet 14 | IPv4 20 or IPv6 40 | UDP 8 | Geneve 8 | option 32 | inner Ethernet frame …
//!
//!  0               8               16              24             31
//! +---+-----------+-+-+-----------+-------------------------------+
//! | 0 | 8 words   |O|C| reserved  | protocol 0x6558               |  Geneve header
//! +---+-----------+-+-+-----------+---------------+---------------+
//! | VNI = cluster id                              | reserved      |
//! +-------------------------------+---------------+-----+---------+
//! | class 0xff53                  | type 1        | 000 | 7 words |  option header
//! +---------------+---------------+---------------+-----+---------+
//! | version 1     | kind          | hops          | zone          |  0  option data
//! +---------------+---------------+---------------+---------------+
//! | ingress node                  | owner node                    |  4
//! +-------------------------------+-------------------------------+
//! | generation                                                    |  8
//! +---------------------------------------------------------------+
//! | epoch                                                         | 12
//! +-------------------------------+-------------------------------+
//! | sender node                   | reserved, 0                   | 16
//! +-------------------------------+-------------------------------+
//! | tag                                                           | 20
//! |                                                               |
//! +---------------------------------------------------------------+
//! ```
//!
//! All numbers are big endian. The tag is SipHash-2-4 under the tunnel key, written as a 64-bit
//! number, over 73 bytes: VNI (4), option data with the tag as zeros (28), the inner packet's flow —
//! lower address (16), higher address (16), lower port (2), higher port (2), `proto_vlans` (4) — and
//! one byte direction (0 = lower to higher). An ICMP error's flow is the quoted one; a fragment's has
//! ports 0; a Hello's is all zeros, direction 0.

use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use crate::flow::{Direction, FlowKey, Generation, NodeId};
use crate::verdict::DropReason;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::octets::{array, be16, be32, byte};
use crate::wire::{ipv4, ipv6};

/// UDP destination port of the tunnel (IANA: geneve).
pub const PORT: u16 = 6081;

/// EtherType of a Hello's inner frame (IEEE 802, local experimental 1).
pub const HELLO_ETHERTYPE: u16 = 0x88b5;

/// Version of the option.
pub const VERSION: u8 = 1;

/// Geneve protocol type: an Ethernet frame follows.
const TRANSPARENT_ETHERNET: u16 = 0x6558;

/// Option class, from the range RFC 8926 leaves for experiments.
const OPTION_CLASS: u16 = 0xff53;

/// Option type; the critical bit (0x80) is clear.
const OPTION_TYPE: u8 = 1;

const UDP: usize = 8;
const GENEVE: usize = 8;
const OPTION_HEADER: usize = 4;
const OPTION_DATA: usize = 28;
const OPTION: usize = OPTION_HEADER + OPTION_DATA;
/// Where the tag stands in the option data.
const TAG: usize = 20;

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
}

impl TunnelKind {
    /// The kind with this wire number.
    pub fn from_wire(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Query),
            2 => Some(Self::FirstPacket),
            3 => Some(Self::Redirect),
            4 => Some(Self::Hello),
            _ => None,
        }
    }
}

/// The cluster's key for tunnel tags (SipHash-2-4).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TunnelKey(pub [u8; 16]);

impl std::fmt::Debug for TunnelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TunnelKey(..)")
    }
}

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
    /// Generation of the claim; 0 in a Query.
    pub generation: Generation,
    /// Epoch of the sender's view.
    pub epoch: u32,
    /// The node that sent it on this crossing.
    pub sender: NodeId,
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

/// Bytes the tunnel puts in front of a frame: 82 towards an IPv4 peer, 102 towards an IPv6 peer.
pub fn overhead(destination: &IpAddr) -> usize {
    let ip = if destination.is_ipv4() { ipv4::HEADER } else { ipv6::HEADER };
    ethernet::HEADER + ip + UDP + GENEVE + OPTION
}

/// A tunnel packet's option and tag, not yet verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// What the option says.
    pub option: TunnelOption,
    /// The sender's tag.
    pub tag: u64,
    /// The VNI: the sender's cluster id.
    pub cluster: u32,
    /// Option data as it came; the tag covers its reserved bytes too.
    data: [u8; OPTION_DATA],
}

impl Received {
    /// True if whoever sent this holds the key and meant this inner flow.
    pub fn verify(&self, key: &TunnelKey, flow: &FlowKey, direction: Direction) -> bool {
        self.tag == tag(key, self.cluster, &self.data, flow, direction)
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
    let option = read_option(&data).ok_or(DropReason::TunnelUnknown)?;
    let tag = array(&data, TAG).map(u64::from_be_bytes).ok_or(DropReason::TunnelMalformed)?;
    Ok(Received { option, tag, cluster, data })
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

/// The option data with the tag left zero.
fn option_data(option: &TunnelOption) -> [u8; OPTION_DATA] {
    let mut data = [0; OPTION_DATA];
    data[..4].copy_from_slice(&[VERSION, option.kind as u8, option.hops, option.zone]);
    data[4..6].copy_from_slice(&option.ingress.0.to_be_bytes());
    data[6..8].copy_from_slice(&option.owner.0.to_be_bytes());
    data[8..12].copy_from_slice(&option.generation.0.to_be_bytes());
    data[12..16].copy_from_slice(&option.epoch.to_be_bytes());
    data[16..18].copy_from_slice(&option.sender.0.to_be_bytes());
    data
}

/// The tag [`emit`] writes for this option and inner flow.
pub fn tag_of(
    option: &TunnelOption,
    key: &TunnelKey,
    cluster: u32,
    flow: &FlowKey,
    direction: Direction,
) -> u64 {
    tag(key, cluster, &option_data(option), flow, direction)
}

/// The tag of option data, whatever stands in its tag bytes.
fn tag(key: &TunnelKey, cluster: u32, data: &[u8; OPTION_DATA], flow: &FlowKey, direction: Direction) -> u64 {
    let mut covered = [0; 4 + OPTION_DATA + 40 + 1];
    covered[..4].copy_from_slice(&cluster.to_be_bytes());
    covered[4..4 + TAG].copy_from_slice(&data[..TAG]);
    covered[32..48].copy_from_slice(&flow.lo);
    covered[48..64].copy_from_slice(&flow.hi);
    covered[64..66].copy_from_slice(&flow.lo_port.to_be_bytes());
    covered[66..68].copy_from_slice(&flow.hi_port.to_be_bytes());
    covered[68..72].copy_from_slice(&flow.proto_vlans.to_be_bytes());
    covered[72] = direction as u8;
    SipHasher24::new_with_key(&key.0).hash(&covered)
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
    key: &TunnelKey,
    flow: &FlowKey,
    direction: Direction,
    source_port_entropy: u32,
) {
    assert!(outer.len() == overhead(&ends.destination), "outer headers have one exact length");
    let (link, rest) = outer.split_at_mut(ethernet::HEADER);
    let (ip, rest) = rest.split_at_mut(rest.len() - UDP - GENEVE - OPTION);
    let (udp, geneve) = rest.split_at_mut(UDP);
    let udp_len = u16::try_from(UDP + GENEVE + OPTION + inner_len);
    let udp_len = udp_len.expect("a frame of the UMEM is far shorter than 65,535 bytes");
    emit_ip(link, ip, ends, udp_len);
    udp[..2].copy_from_slice(&(0xc000 | source_port_entropy as u16 & 0x3fff).to_be_bytes());
    udp[2..4].copy_from_slice(&PORT.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
    udp[6..].fill(0);
    emit_geneve(geneve, cluster);
    let mut data = option_data(option);
    let tag = tag(key, cluster, &data, flow, direction);
    data[TAG..].copy_from_slice(&tag.to_be_bytes());
    geneve[GENEVE + OPTION_HEADER..].copy_from_slice(&data);
}

/// Sets to zero what differs between packets to the same peer in one view: lengths, IPv4 checksum, UDP source
/// port, zone, generation, tag. The XDP program fills it in.
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
    data[TAG..].fill(0);
}

fn emit_geneve(geneve: &mut [u8], cluster: u32) {
    let [_, vni @ ..] = cluster.to_be_bytes();
    geneve[0] = (OPTION / 4) as u8;
    geneve[1] = 0;
    geneve[2..4].copy_from_slice(&TRANSPARENT_ETHERNET.to_be_bytes());
    geneve[4..7].copy_from_slice(&vni);
    geneve[7] = 0;
    geneve[8..10].copy_from_slice(&OPTION_CLASS.to_be_bytes());
    geneve[10..12].copy_from_slice(&[OPTION_TYPE, (OPTION_DATA / 4) as u8]);
}

fn emit_ip(link: &mut [u8], ip: &mut [u8], ends: &TunnelEnds, udp_len: u16) {
    link[..6].copy_from_slice(&ends.destination_mac);
    link[6..12].copy_from_slice(&ends.source_mac);
    match (ends.source, ends.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = udp_len.saturating_add(ipv4::HEADER as u16);
            link[12..].copy_from_slice(&ethernet::IPV4.to_be_bytes());
            ip[..2].copy_from_slice(&[0x45, 0]);
            ip[2..4].copy_from_slice(&total.to_be_bytes());
            // Identification 0 with "don't fragment": RFC 6864.
            ip[4..8].copy_from_slice(&[0, 0, 0x40, 0]);
            ip[8..12].copy_from_slice(&[TTL, 17, 0, 0]);
            ip[12..16].copy_from_slice(&source.octets());
            ip[16..].copy_from_slice(&destination.octets());
            let checksum = ipv4::checksum(ip);
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            link[12..].copy_from_slice(&ethernet::IPV6.to_be_bytes());
            ip[..4].copy_from_slice(&[0x60, 0, 0, 0]);
            ip[4..6].copy_from_slice(&udp_len.to_be_bytes());
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
