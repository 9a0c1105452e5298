//! A whole TCP or UDP packet with nothing unusual about it, read in one go: what the fast path looks at.
//!
//! ```text
//! frame | Ethernet, tags | IP header | TCP header, 20 or 32 bytes with timestamps only, or UDP | …
//!                          l3_off      l4_off                                            l3_end
//! ```
//!
//! [`Plain::read`] gives `None` for everything else: fragments, ICMP, SYN, FIN, RST, other TCP options, a TTL
//! that is used up, a wrong IPv4 checksum, metadata that does not fit the frame. [`crate::wire::packet::Packet`] reads
//! all packets; a test holds the two together.

use crate::flow::{Direction, proto};
use crate::wire::layout::{FLAG_IPV6, Layout, NO_VLAN};
use crate::wire::octets::array;
use crate::wire::tcp::{ACK, FIN, RST, SYN, URG};
use crate::wire::{ethernet, ipv4};

/// What layer 4 of a plain packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Layer4 {
    /// A TCP segment: [`Plain::step`] says which.
    Tcp,
    /// A UDP datagram.
    #[default]
    Udp,
}

/// A TCP segment with ACK and without SYN, FIN, RST, URG and SACK blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// Sequence number of the first byte.
    pub seq: u32,
    /// Next sequence number expected from the other end.
    pub ack: u32,
    /// Window as it stands in the header, not scaled.
    pub window: u16,
    /// Bytes of payload.
    pub payload: u32,
}

/// See the module's text. The parts are filled in one after the other and mean nothing before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Plain {
    /// The flow's addresses in canonical order. IPv4: lower address in the high half of the first word, higher
    /// address in its low half, as numbers. IPv6: two words of the lower one, two of the higher, as they lie in
    /// memory.
    pub ends: [u64; 4],
    /// True for IPv6.
    pub ipv6: bool,
    /// The flow's ports, protocol and VLANs: lower port, higher port (16 bits each), `proto_vlans`.
    pub rest: u64,
    /// The way it goes.
    pub direction: Direction,
    /// What layer 4 is.
    pub layer4: Layer4,
    /// TCP: the segment.
    pub step: Step,
    /// Offset of the IP header in the frame.
    pub l3_off: u16,
    /// Bytes of the IP packet.
    pub l3_length: u16,
}

/// `01 01 08 0a`: two NOPs and a timestamp option of ten bytes (RFC 7323 appendix A), as all stacks send it.
const TIMESTAMP: [u8; 4] = [1, 1, 8, 10];

/// Where layer 4 begins in untagged frames without IP options or extension headers, and where the part of
/// TCP that is always there ends.
const V4_PORTS: u16 = 34;
const V4_FIXED: usize = V4_PORTS as usize + 20;
const V6_PORTS: u16 = 54;
const V6_FIXED: usize = V6_PORTS as usize + 20;

/// The TCP header's length and the flags that matter, bytes 12 and 13 (low byte first), and what they are in an
/// ACK.
const LENGTH_AND_FLAGS: u16 = 0xf0 | ((FIN | SYN | RST | ACK | URG) as u16) << 8;
const NO_OPTIONS: u16 = 5 << 4 | (ACK as u16) << 8;
const TWELVE_BYTES: u16 = 8 << 4 | (ACK as u16) << 8;

impl Plain {
    /// Reads a frame that starts at the (inner) Ethernet header and what the XDP program found in it. `None` if it is
    /// not plain; then `self` is half filled.
    ///
    /// TCP without tags, IP options and extension headers is read at fixed offsets, one check for all of them.
    #[inline(always)]
    pub fn read(&mut self, frame: &[u8], metadata: &[u8; Layout::SIZE]) -> Option<()> {
        let layout = Layout::from_metadata(metadata);
        let untagged = layout.l3_off == ethernet::HEADER as u16 && layout.vlan_outer == NO_VLAN;
        if untagged && layout.proto == proto::TCP {
            let ipv6 = layout.flags & FLAG_IPV6 != 0;
            let read = match layout.l4_off {
                V4_PORTS if !ipv6 => self.read_v4(frame, layout.l3_end)?,
                V6_PORTS if ipv6 => self.read_v6(frame, layout.l3_end)?,
                _ => false,
            };
            if read {
                return Some(());
            }
        }
        self.read_any(frame, metadata)
    }

    /// TCP over IPv4; false if both addresses are the same, whose order the ports decide.
    #[inline(always)]
    fn read_v4(&mut self, frame: &[u8], end: u16) -> Option<bool> {
        let fixed: &[u8; V4_FIXED] = frame.first_chunk()?;
        let numbers = u64::from_be_bytes(*fixed[26..].first_chunk()?);
        let turned = numbers.rotate_left(32);
        if numbers == turned {
            return Some(false);
        }
        if fixed[22] <= 1 || !ipv4::is_sound_without_options(fixed[ethernet::HEADER..].first_chunk()?) {
            return None;
        }
        self.ipv6 = false;
        self.ends[0] = numbers.min(turned);
        self.finish(frame, V4_PORTS, fixed.last_chunk()?, end, numbers > turned).map(|()| true)
    }

    /// As [`Plain::read_v4`], over IPv6.
    #[inline(always)]
    fn read_v6(&mut self, frame: &[u8], end: u16) -> Option<bool> {
        let fixed: &[u8; V6_FIXED] = frame.first_chunk()?;
        let word = |at: usize| Some(u64::from_le_bytes(*fixed.get(at..)?.first_chunk()?));
        let (source, destination) = ([word(22)?, word(30)?], [word(38)?, word(46)?]);
        let number =
            |words: [u64; 2]| u128::from(words[0].swap_bytes()) << 64 | u128::from(words[1].swap_bytes());
        if source == destination {
            return Some(false);
        }
        if fixed[21] <= 1 {
            return None;
        }
        let swapped = number(source) > number(destination);
        let ([a, b], [c, d]) = if swapped { (destination, source) } else { (source, destination) };
        self.ipv6 = true;
        self.ends = [a, b, c, d].map(|word| u64::from_ne_bytes(word.to_le_bytes()));
        self.finish(frame, V6_PORTS, fixed.last_chunk()?, end, swapped).map(|()| true)
    }

    /// All behind the IP header of an untagged frame: a TCP header at `l4_off`, `header` its first part.
    #[inline(always)]
    fn finish(
        &mut self,
        frame: &[u8],
        l4_off: u16,
        header: &[u8; 20],
        end: u16,
        swapped: bool,
    ) -> Option<()> {
        if usize::from(end) > frame.len() {
            return None;
        }
        let length = match u16::from_le_bytes([header[12], header[13]]) & LENGTH_AND_FLAGS {
            NO_OPTIONS => 20,
            TWELVE_BYTES if array::<4>(frame, usize::from(l4_off) + 20)? == TIMESTAMP => 32,
            _ => return None,
        };
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        self.layer4 = Layer4::Tcp;
        self.step = Step {
            seq: word(4),
            ack: word(8),
            window: u16::from_be_bytes([header[14], header[15]]),
            payload: u32::from(end).checked_sub(u32::from(l4_off) + length)?,
        };
        (self.l3_off, self.l3_length) = (ethernet::HEADER as u16, end - ethernet::HEADER as u16);
        let ports = word(0);
        let ordered = if swapped { ports } else { ports.rotate_left(16) };
        self.rest = u64::from(ordered) | u64::from(proto::TCP) << 56;
        self.direction = if swapped { Direction::HiToLo } else { Direction::LoToHi };
        Some(())
    }

    /// Headers wherever they are.
    #[inline(never)]
    fn read_any(&mut self, frame: &[u8], metadata: &[u8; Layout::SIZE]) -> Option<()> {
        let layout = Layout::from_metadata(metadata);
        let (l3, l4, end) =
            (usize::from(layout.l3_off), usize::from(layout.l4_off), usize::from(layout.l3_end));
        let ip = frame.get(l3..l4)?;
        let layer4 = frame.get(l4..end)?;
        let ports = match layout.proto {
            proto::TCP => {
                let header: &[u8; 20] = layer4.first_chunk()?;
                self.layer4 = Layer4::Tcp;
                self.step = step(header, layer4)?;
                u32::from_le_bytes([header[0], header[1], header[2], header[3]])
            }
            proto::UDP => {
                let header: &[u8; 8] = layer4.first_chunk()?;
                let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
                if !(8..=layer4.len()).contains(&length) {
                    return None;
                }
                self.layer4 = Layer4::Udp;
                u32::from_le_bytes([header[0], header[1], header[2], header[3]])
            }
            _ => return None,
        };
        (self.l3_off, self.l3_length) = (layout.l3_off, (end - l3) as u16);
        self.ipv6 = layout.flags & FLAG_IPV6 != 0;
        // Source port in the high half.
        let ports = ports.swap_bytes();
        let swapped = if self.ipv6 { self.order_v6(ip, ports)? } else { self.order_v4(ip, ports)? };
        let ordered = if swapped { ports } else { ports.rotate_left(16) };
        self.rest = u64::from(ordered) | u64::from(proto_vlans(&layout)) << 32;
        self.direction = if swapped { Direction::HiToLo } else { Direction::LoToHi };
        Some(())
    }

    /// Fills the addresses in; true if the source is the higher end. `None` if the TTL is used up or the checksum is
    /// wrong.
    #[inline(always)]
    fn order_v4(&mut self, ip: &[u8], ports: u32) -> Option<bool> {
        let fixed: &[u8; 20] = ip.first_chunk()?;
        let addresses = u64::from_le_bytes(*fixed.last_chunk()?);
        // Addresses as numbers, source first.
        let numbers = addresses.swap_bytes();
        let source = numbers >> 32 << 16 | u64::from(ports >> 16);
        let destination = numbers << 32 >> 16 | u64::from(ports & 0xffff);
        let swapped = source > destination;
        self.ends[0] = if swapped { numbers.rotate_left(32) } else { numbers };
        (fixed[8] > 1 && ipv4::is_sound(ip)).then_some(swapped)
    }

    /// As [`Plain::order_v4`].
    #[inline(always)]
    fn order_v6(&mut self, ip: &[u8], ports: u32) -> Option<bool> {
        let fixed: &[u8; 40] = ip.first_chunk()?;
        let number = |at: usize| array::<16>(fixed, at).map(u128::from_be_bytes);
        let (source, destination) = (number(8)?, number(24)?);
        let swapped = (source, ports >> 16) > (destination, ports & 0xffff);
        let (lower, higher) = if swapped { (destination, source) } else { (source, destination) };
        let words = |number: u128| [((number >> 64) as u64).to_be(), (number as u64).to_be()];
        let ([a, b], [c, d]) = (words(lower), words(higher));
        self.ends = [a, b, c, d];
        (fixed[7] > 1).then_some(swapped)
    }
}

#[inline(always)]
fn proto_vlans(layout: &Layout) -> u32 {
    let proto = u32::from(layout.proto) << 24;
    if layout.vlan_outer == NO_VLAN {
        return proto;
    }
    let (outer, inner) = layout.vlans();
    proto | u32::from(inner) << 12 | u32::from(outer)
}

/// An ACK, pushed or not, without options but timestamps.
#[inline(always)]
fn step(header: &[u8; 20], layer4: &[u8]) -> Option<Step> {
    if header[13] & (FIN | SYN | RST | ACK | URG) != ACK {
        return None;
    }
    let length = match header[12] >> 4 {
        5 => 20,
        8 if array::<4>(layer4, 20)? == TIMESTAMP => 32,
        _ => return None,
    };
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    Some(Step {
        seq: word(4),
        ack: word(8),
        window: u16::from_be_bytes([header[14], header[15]]),
        payload: layer4.len().checked_sub(length)? as u32,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::FlowKey;
    use crate::wire::flow_hash::FlowHasher;
    use crate::wire::packet::{L4, Packet, TcpSegment};
    use crate::wire::samples::{self, ipv4_packet};

    /// The flow key's addresses as [`Plain::ends`] has them.
    fn ends(key: &FlowKey) -> [u64; 4] {
        let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap());
        if key.is_ipv4() {
            return [word(&[&key.lo[12..], &key.hi[12..]].concat()).to_be(), 0, 0, 0];
        }
        [word(&key.lo[..8]), word(&key.lo[8..]), word(&key.hi[..8]), word(&key.hi[8..])]
    }

    /// Whatever `Plain` reads, `Packet` reads alike.
    fn agree(frame: &[u8], layout: &Layout) -> bool {
        let mut plain = Plain::default();
        if plain.read(frame, &layout.to_metadata()).is_none() {
            return false;
        }
        let packet = Packet::read(frame, *layout).unwrap();
        assert_eq!(plain.ends, ends(&packet.key));
        assert_eq!(plain.ipv6, !packet.key.is_ipv4());
        assert_eq!((plain.l3_off, plain.l3_off + plain.l3_length), (layout.l3_off, layout.l3_end));
        let ports = u64::from(packet.key.lo_port) | u64::from(packet.key.hi_port) << 16;
        assert_eq!(plain.rest, ports | u64::from(packet.key.proto_vlans) << 32);
        assert_eq!(plain.direction, packet.direction);
        match packet.l4 {
            L4::Tcp(segment) => {
                assert_eq!(plain.layer4, Layer4::Tcp);
                let Step { seq, ack, window, payload } = plain.step;
                let flags = segment.flags;
                let same =
                    TcpSegment { flags, seq, ack, window, payload, sack_end: ack, ..Default::default() };
                assert_eq!(same, segment);
            }
            other => assert_eq!((plain.layer4, other), (Layer4::Udp, L4::Udp)),
        }
        assert!(packet.fragment.is_none() && packet.ttl > 1);
        true
    }

    fn segment_of(ends: [u8; 8], ports: [u8; 4], offset: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
        let mut tcp = [0u8; 20];
        tcp[..4].copy_from_slice(&ports);
        tcp[4..12].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        tcp[12..16].copy_from_slice(&[offset << 4, flags, 0xfa, 0xf0]);
        let mut packet = ipv4_packet(6, 0, &[&tcp, rest].concat());
        packet[12..20].copy_from_slice(&ends);
        packet
    }

    proptest! {
        #[test]
        fn segments_are_read_as_packets_are(
            ends in any::<[u8; 8]>(), ports in any::<[u8; 4]>(), offset in 4..9_u8, flags in any::<u8>(),
            stamped in any::<bool>(), payload in 0..20_usize, tagged in any::<bool>(),
        ) {
            let mut rest = if stamped { [&TIMESTAMP[..], &[9; 8]].concat() } else { vec![0; 12] };
            rest.extend(vec![7; payload]);
            let packet = segment_of(ends, ports, offset, flags, &rest);
            let tags: &[(u16, u16)] = if tagged { &[(0x8100, 0x2064)] } else { &[] };
            let mut frame = samples::framed(tags, &packet);
            frame.extend([0; 6]);
            if let Ok(layout) = Layout::parse(&frame, 0, &FlowHasher::new(3)) {
                // Martian addresses begin no flow, so no session is found for them; `Packet` says so first.
                if Packet::read(&frame, layout).is_ok() {
                    let plain = agree(&frame, &layout);
                    let common = flags & 0x37 == ACK && (offset == 5 || offset == 8 && stamped);
                    prop_assert_eq!(plain, common);
                }
            }
        }

        #[test]
        fn cut_frames_and_wrong_layouts_are_left_to_others(
            at in 0..6_usize, value in any::<u16>(), length in 0..80_usize,
        ) {
            let frame = samples::framed(&[], &segment_of([10, 0, 0, 1, 10, 0, 0, 2], [1; 4], 5, ACK, &[]));
            let mut layout = Layout::parse(&frame, 0, &FlowHasher::new(3)).unwrap();
            *[&mut layout.l3_off, &mut layout.l4_off, &mut layout.l3_end, &mut layout.vlan_outer,
                &mut layout.vlan_inner, &mut layout.inner_off][at] = value;
            let _ = Plain::default().read(&frame[..length.min(frame.len())], &layout.to_metadata());
        }
    }

    #[test]
    fn udp_of_both_versions_is_plain() {
        let mut plain = 0;
        for frame in samples::all() {
            let Ok(layout) = Layout::parse(&frame, 0, &FlowHasher::new(3)) else { continue };
            if Packet::read(&frame, layout).is_ok() && layout.flags & !FLAG_IPV6 == 0 {
                plain += u32::from(agree(&frame, &layout));
            }
        }
        assert!(plain > 0, "the samples have UDP");
    }
}
