//! The changes a router makes to a packet it forwards: the hop count, the link addresses, and the maximum segment size
//! where the path is known to be narrow.
//!
//! ```text
//! Ethernet   | destination (6) | source (6) | …
//!              set_macs          set_macs
//! IPv4       byte 8 TTL, bytes 10–11 header checksum     decrement_ttl
//! IPv6       byte 7 hop limit                            decrement_ttl
//! ```

use crate::wire::ipv4;
use crate::wire::layout::Layout;
use crate::wire::octets::{be16, byte};

/// Decrements TTL or hop limit of the IP packet in `frame`, which starts at the (inner) Ethernet
/// header, and keeps IPv4's header checksum right by RFC 1624 (a wrong one stays wrong by the same
/// amount). False, and nothing is changed, if it would reach 0 or the layout does not fit.
pub fn decrement_ttl(frame: &mut [u8], layout: &Layout) -> bool {
    let l3 = usize::from(layout.l3_off);
    let ttl_at = l3 + if layout.is_ipv6() { 7 } else { 8 };
    let Some(ttl) = byte(frame, ttl_at).filter(|&ttl| ttl > 1) else { return false };
    if !layout.is_ipv6() {
        let Some(checksum) = be16(frame, l3 + 10) else { return false };
        let Some(field) = frame.get_mut(l3 + 10..l3 + 12) else { return false };
        field.copy_from_slice(&after_ttl_decrement(checksum).to_be_bytes());
    }
    frame.get_mut(ttl_at).map(|byte| *byte = ttl - 1).is_some()
}

/// [`decrement_ttl`] of a packet that was found to be whole and to have a TTL or hop limit above 1. False,
/// and nothing is changed, if `l3_off` does not fit.
///
/// IPv4's TTL, protocol and checksum are one number here, the TTL its lowest byte: the checksum's two bytes lie
/// the other way round, which one's complement sums do not mind (RFC 1071 section 2).
#[inline(always)]
pub(crate) fn decrement_ttl_of_plain(frame: &mut [u8], l3_off: usize, ipv6: bool) -> bool {
    if ipv6 {
        return frame.get_mut(l3_off + 7).map(|hops| *hops = hops.wrapping_sub(1)).is_some();
    }
    let Some(fields) = frame.get_mut(l3_off + 8..l3_off + 12).and_then(|fields| fields.first_chunk_mut())
    else {
        return false;
    };
    let word = u32::from_le_bytes(*fields);
    let carry = u32::from(word >= 0xfffe_0000);
    *fields = word.wrapping_sub(1).wrapping_add((1 + carry) << 16).to_le_bytes();
    true
}

/// RFC 1624, equation 3, for a 16-bit word that falls by 0x0100: HC' = ~(~HC + ~m + m').
#[inline(always)]
fn after_ttl_decrement(checksum: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!0x0100_u16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Lowers the maximum segment size (RFC 9293 section 3.7.1) that the TCP segment in `frame` names to `limit`, and keeps
/// its checksum right by RFC 1624. False, and nothing is changed, if it names none or a smaller one.
pub fn clamp_mss(frame: &mut [u8], layout: &Layout, limit: u16) -> bool {
    let (l4, end) = (usize::from(layout.l4_off), usize::from(layout.l3_end));
    let Some(segment) = frame.get_mut(l4..end) else { return false };
    let Some(at) = mss_at(segment) else { return false };
    let (Some(named), Some(checksum)) = (be16(segment, at), be16(segment, 16)) else { return false };
    if named <= limit {
        return false;
    }
    // A value at an odd place counts with its bytes turned round.
    let turned = |value: u16| if at % 2 == 0 { value } else { value.swap_bytes() };
    let sum = u32::from(!checksum) + u32::from(!turned(named)) + u32::from(turned(limit));
    segment[at..at + 2].copy_from_slice(&limit.to_be_bytes());
    segment[16..18].copy_from_slice(&ipv4::folded(sum).to_be_bytes());
    true
}

/// Where the value of the option "maximum segment size" is.
fn mss_at(segment: &[u8]) -> Option<usize> {
    const FIXED: usize = 20;
    let header = usize::from(byte(segment, 12)? >> 4) * 4;
    let options = segment.get(..header)?;
    let mut at = FIXED;
    loop {
        let length = match byte(options, at)? {
            0 => return None,
            1 => 1,
            kind => match (kind, byte(options, at + 1)?) {
                (2, 4) => return (at + 4 <= header).then_some(at + 2),
                (_, 0 | 1) => return None,
                (_, length) => usize::from(length),
            },
        };
        at += length;
    }
}

/// Sets the link addresses of a frame; one shorter than an Ethernet header stays as it is.
#[inline(always)]
pub fn set_macs(frame: &mut [u8], destination: [u8; 6], source: [u8; 6]) {
    if let Some((head, _)) = frame.split_first_chunk_mut::<12>() {
        head[..6].copy_from_slice(&destination);
        head[6..].copy_from_slice(&source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::flow_hash::FlowHasher;
    use crate::wire::ipv4;
    use crate::wire::samples::{TCP_SYN, UDP_V6, framed};

    fn layout(frame: &[u8]) -> Layout {
        Layout::parse(frame, 0, &FlowHasher::new(1)).unwrap()
    }

    #[test]
    fn ipv4_ttl_and_checksum() {
        let mut frame = TCP_SYN;
        assert_eq!(ipv4::checksum(&frame[14..34]), 0, "the sample's checksum is right");
        let layout = layout(&frame);
        for ttl in (1..64).rev() {
            assert!(decrement_ttl(&mut frame, &layout));
            assert_eq!(frame[22], ttl);
            assert_eq!(ipv4::checksum(&frame[14..34]), 0, "TTL {ttl}");
        }
        let last = frame;
        assert!(!decrement_ttl(&mut frame, &layout));
        assert_eq!(frame, last, "nothing changes when the TTL is used up");
    }

    #[test]
    fn checksum_carries_over() {
        // 0xfeff becomes 0x0000, not 0xffff: the case RFC 1624 was written for.
        for (before, after) in [(0xfeff, 0x0000), (0xff00, 0x0001), (0xfe00, 0xff00), (0, 0x0100)] {
            assert_eq!(after_ttl_decrement(before), after, "{before:#06x}");
        }
    }

    /// The short form changes the same bytes, whatever the checksum.
    #[test]
    fn plain_packets_are_decremented_alike() {
        for checksum in 0..=u16::MAX {
            for ttl in [2, 64, 255] {
                let mut frame = TCP_SYN;
                frame[22] = ttl;
                frame[24..26].copy_from_slice(&checksum.to_be_bytes());
                let mut other = frame;
                assert!(decrement_ttl(&mut frame, &layout(&TCP_SYN)));
                assert!(decrement_ttl_of_plain(&mut other, 14, false));
                assert_eq!(frame, other, "checksum {checksum:#06x}, TTL {ttl}");
            }
        }
    }

    #[test]
    fn ipv6_hop_limit_behind_a_tag() {
        let mut frame = framed(&[(0x8100, 5)], &UDP_V6[14..]);
        let before = frame.clone();
        let layout = layout(&frame);
        assert!(decrement_ttl(&mut frame, &layout));
        let changed: Vec<usize> = (0..frame.len()).filter(|&at| frame[at] != before[at]).collect();
        assert_eq!((changed, frame[25]), (vec![25], 63));
    }

    #[test]
    fn layouts_that_do_not_fit_change_nothing() {
        let mut frame = TCP_SYN;
        for l3_off in [66, 64, 74, u16::MAX] {
            assert!(!decrement_ttl(&mut frame, &Layout { l3_off, ..layout(&TCP_SYN) }));
        }
        assert_eq!(frame, TCP_SYN);
    }

    /// A SYN with these options, its checksum right but for the pseudo-header.
    fn syn(options: &[u8]) -> (Vec<u8>, Layout) {
        let mut segment = TCP_SYN[34..54].to_vec();
        segment.extend_from_slice(options);
        segment[12] = ((20 + options.len()) as u8 / 4) << 4;
        segment[16..18].fill(0);
        let checksum = ipv4::checksum(&segment);
        segment[16..18].copy_from_slice(&checksum.to_be_bytes());
        let frame = framed(&[], &crate::wire::samples::ipv4_packet(6, 0, &segment));
        let layout = layout(&frame);
        (frame, layout)
    }

    #[test]
    fn a_segment_size_is_lowered_and_the_checksum_follows() {
        let even = [2, 4, 0x05, 0xb4, 1, 3, 3, 7];
        let odd = [1, 2, 4, 0x05, 0xb4, 3, 3, 7];
        for (options, at) in [(even, 2), (odd, 3)] {
            let (mut frame, layout) = syn(&options);
            assert!(!clamp_mss(&mut frame, &layout, 1460), "it is not larger");
            assert!(clamp_mss(&mut frame, &layout, 1370));
            assert_eq!(frame[54 + at..56 + at], 1370_u16.to_be_bytes());
            assert_eq!(ipv4::checksum(&frame[34..]), 0);
            assert!(!clamp_mss(&mut frame, &layout, 1400), "never raised");
        }
    }

    #[test]
    fn options_that_name_no_segment_size_stay() {
        for options in [[0, 2, 4, 9], [3, 0, 2, 4], [2, 3, 9, 9], [8, 200, 2, 4], [1, 1, 2, 4], [1, 1, 1, 2]]
        {
            let (mut frame, layout) = syn(&options);
            let before = frame.clone();
            assert!(!clamp_mss(&mut frame, &layout, 1), "{options:?}");
            assert_eq!(frame, before);
        }
    }

    #[test]
    fn macs() {
        let mut frame = TCP_SYN;
        set_macs(&mut frame, [1; 6], [3; 6]);
        assert_eq!(frame[..14], [1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3, 8, 0]);
        assert_eq!(frame[14..], TCP_SYN[14..]);
        let mut short = [9; 11];
        set_macs(&mut short, [1; 6], [3; 6]);
        assert_eq!(short, [9; 11]);
    }
}
