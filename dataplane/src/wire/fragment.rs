//! Cutting an IPv4 packet into fragments (RFC 791 section 3.2).
//!
//! ```text
//! packet      | Ethernet, tags | header | data …                                    |
//! fragment 0  | Ethernet, tags | header | data[0 .. part]          |                  offset as before, M = 1
//! fragment i  | Ethernet, tags | header | data[i * part .. ]       |                  offset + i * part / 8
//! ```
//!
//! `part` is a multiple of 8. Options that are not to be copied are no-operations in all fragments but the first.

use crate::wire::ipv4;
use crate::wire::layout::Layout;
use crate::wire::octets::be16;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE: u16 = 0x2000;
const RESERVED: u16 = 0x8000;

/// How a packet is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Bytes of Ethernet header and tags.
    l3_off: usize,
    /// Bytes of the IP header, options included.
    header: usize,
    /// Bytes of data, in all and in each fragment but the last.
    data: usize,
    part: usize,
    /// Flags and offset of the packet.
    field: u16,
}

impl Cut {
    /// The most fragments a packet is cut into: one of 4 KiB fits links of 296 bytes and more.
    pub const MOST: usize = 16;

    /// How to cut the packet in `frame` for a link that carries IP packets of `mtu` bytes; `None` if it may not be cut
    /// (IPv6, "don't fragment") or would be more than [`Cut::MOST`].
    pub fn new(frame: &[u8], layout: &Layout, mtu: u32) -> Option<Self> {
        let (l3_off, l3_end) = (usize::from(layout.l3_off), usize::from(layout.l3_end));
        let packet = frame.get(l3_off..l3_end).filter(|_| !layout.is_ipv6())?;
        let header = usize::from(packet.first()? & 0xf) * 4;
        let field = be16(packet, 6)?;
        let part = (mtu as usize).checked_sub(header)? & !7;
        let data = packet.len().checked_sub(header)?;
        let may = header >= ipv4::HEADER && field & DONT_FRAGMENT == 0 && part > 0;
        let cut = Self { l3_off, header, data, part, field };
        (may && cut.count() <= Self::MOST).then_some(cut)
    }

    /// Number of fragments.
    pub fn count(&self) -> usize {
        self.data.div_ceil(self.part)
    }

    /// Bytes of the frame of fragment `index`.
    pub fn length(&self, index: usize) -> usize {
        self.l3_off + self.header + (self.data - index * self.part).min(self.part)
    }

    /// Writes fragment `index` of `packet`, the whole frame, into [`Cut::length`] bytes.
    pub fn write(&self, packet: &[u8], index: usize, frame: &mut [u8]) {
        let front = self.l3_off + self.header;
        frame[..front].copy_from_slice(&packet[..front]);
        let from = front + index * self.part;
        let length = frame.len() - front;
        frame[front..].copy_from_slice(&packet[from..from + length]);
        let header = &mut frame[self.l3_off..front];
        // A header whose checksum is wrong keeps being wrong (RFC 1624, equation 3).
        let wrong = u32::from(!be16(header, 10).unwrap_or(0));
        header[10..12].fill(0);
        let kept = wrong + u32::from(ipv4::checksum(header));
        header[2..4].copy_from_slice(&((self.header + length) as u16).to_be_bytes());
        header[6..8].copy_from_slice(&self.field_of(index).to_be_bytes());
        if index > 0 {
            forget_options(&mut header[ipv4::HEADER..]);
        }
        let checksum = ipv4::folded(kept + ipv4::sum(header));
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }

    fn field_of(&self, index: usize) -> u16 {
        let is_last = index + 1 == self.count();
        let more = if is_last { self.field & MORE } else { MORE };
        let offset = (self.field & 0x1fff) + (index * self.part / 8) as u16;
        self.field & RESERVED | more | offset & 0x1fff
    }
}

/// Options whose copied flag is clear become no-operations; what cannot be read stays.
fn forget_options(options: &mut [u8]) {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        let length = match kind {
            0 => return,
            1 => 1,
            _ => usize::from(options.get(at + 1).copied().unwrap_or(0)),
        };
        if length == 0 || at + length > options.len() {
            return;
        }
        if kind & 0x80 == 0 {
            options[at..at + length].fill(1);
        }
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::proto;
    use crate::wire::flow_hash::FlowHasher;
    use crate::wire::samples::{framed, ipv4_packet};

    fn pieces(frame: &[u8], mtu: u32) -> Option<Vec<Vec<u8>>> {
        let layout = Layout::parse(frame, 0, &FlowHasher::new(1)).unwrap();
        let cut = Cut::new(frame, &layout, mtu)?;
        let piece = |index| {
            let mut piece = vec![0; cut.length(index)];
            cut.write(frame, index, &mut piece);
            piece
        };
        Some((0..cut.count()).map(piece).collect())
    }

    fn datagram(length: u16, field: u16) -> Vec<u8> {
        let mut udp = vec![0x13, 0x88, 0x17, 0x70, (length >> 8) as u8, length as u8, 0, 0];
        udp.extend((8..length).map(|at| at as u8));
        framed(&[(0x8100, 7)], &ipv4_packet(proto::UDP, field, &udp))
    }

    /// Offset in bytes, more, data; the header's checksum and lengths are right.
    fn read(piece: &[u8]) -> (usize, bool, &[u8]) {
        let packet = &piece[18..];
        let header = usize::from(packet[0] & 15) * 4;
        assert_eq!(ipv4::checksum(&packet[..header]), 0);
        assert_eq!(usize::from(be16(packet, 2).unwrap()), packet.len());
        let field = be16(packet, 6).unwrap();
        (usize::from(field & 0x1fff) * 8, field & MORE != 0, &packet[header..])
    }

    #[test]
    fn parts_make_the_whole() {
        for (length, mtu) in [(1480, 1400), (1480, 576), (1480, 1481), (1480, 300), (100, 68)] {
            let frame = datagram(length, 0);
            let pieces = pieces(&frame, mtu).unwrap();
            let mut whole = Vec::new();
            for (index, piece) in pieces.iter().enumerate() {
                assert_eq!(piece[..18], frame[..18], "link header and tag");
                assert!(piece.len() - 18 <= mtu as usize, "{} bytes for {mtu}", piece.len());
                let (offset, more, data) = read(piece);
                assert_eq!((offset, more), (whole.len(), index + 1 < pieces.len()));
                whole.extend_from_slice(data);
            }
            assert_eq!(whole, frame[38..]);
        }
    }

    #[test]
    fn a_fragment_is_cut_where_it_is() {
        let frame = datagram(800, MORE | 185);
        let offsets: Vec<_> =
            pieces(&frame, 420).unwrap().iter().map(|piece| (read(piece).0, read(piece).1)).collect();
        assert_eq!(offsets, [(1480, true), (1880, true)]);
    }

    #[test]
    fn what_may_not_be_cut_is_not() {
        assert!(pieces(&datagram(1480, DONT_FRAGMENT), 1400).is_none());
        assert!(pieces(&datagram(1480, 0), 100).is_none(), "more than {} parts", Cut::MOST);
        assert!(pieces(&datagram(1480, 0), 27).is_none(), "no eight bytes of data");
    }

    #[test]
    fn a_wrong_checksum_stays_wrong() {
        let mut frame = datagram(1480, 0);
        frame[18 + 10] ^= 0x40;
        for piece in pieces(&frame, 800).unwrap() {
            assert_ne!(ipv4::checksum(&piece[18..38]), 0);
        }
    }

    #[test]
    fn options_are_copied_if_they_say_so() {
        // Record route (7) is not copied, router alert (148) is.
        let mut options = [7, 4, 4, 0, 148, 4, 0, 0, 1, 68, 2, 0];
        forget_options(&mut options);
        assert_eq!(options, [1, 1, 1, 1, 148, 4, 0, 0, 1, 1, 1, 0]);
        let mut broken = [7, 0, 7, 9];
        forget_options(&mut broken);
        assert_eq!(broken, [7, 0, 7, 9], "and no loop");
    }
}
