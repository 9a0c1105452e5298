//! The TCP header as far as sessions need it (RFC 9293; options: RFC 7323, RFC 2018).
//!
//! ```text
//!  0       4       8               16                             31
//! +-------------------------------+-------------------------------+
//! | source port                   | destination port              |  0
//! +-------------------------------+-------------------------------+
//! | sequence number                                               |  4
//! +---------------------------------------------------------------+
//! | acknowledgement number                                        |  8
//! +-------+-------+---------------+-------------------------------+
//! | words |       | C E U A P R S F | window                      | 12
//! +-------+-------+---------------+-------------------------------+
//! | checksum                      | urgent pointer                | 16
//! +-------------------------------+-------------------------------+
//! | options, (words - 5) * 4 bytes: kind, length, data            | 20
//! ```

use crate::wire::octets::{be16, be32, byte};

/// FIN: the sender is done.
pub const FIN: u8 = 1;
/// SYN: the sender's first sequence number.
pub const SYN: u8 = 2;
/// RST: the connection is gone.
pub const RST: u8 = 4;
/// PSH.
pub const PSH: u8 = 8;
/// ACK: the acknowledgement number counts.
pub const ACK: u8 = 16;
/// URG.
pub const URG: u8 = 32;

/// Bytes of a header without options.
const HEADER: usize = 20;

/// Largest shift of the window (RFC 7323 section 2.3); larger ones are read as this.
const MAX_SCALE: u8 = 14;

/// A TCP segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpSegment {
    /// FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
    pub flags: u8,
    /// Sequence number of the first byte.
    pub seq: u32,
    /// Next sequence number expected from the other end.
    pub ack: u32,
    /// Window as it stands in the header, not scaled.
    pub window: u16,
    /// Bytes of payload (in this fragment, if it is one).
    pub payload: u32,
    /// Window scale option; read only in a SYN, at most 14.
    pub scale: Option<u8>,
    /// The sender understands SACK; read only in a SYN.
    pub sack_permitted: bool,
    /// Highest right edge of the SACK blocks, `ack` if there are none.
    pub sack_end: u32,
}

impl TcpSegment {
    /// Reads the segment that fills `layer4`; `None` if the header is longer than that or shorter
    /// than 20 bytes.
    #[inline]
    pub fn read(layer4: &[u8]) -> Option<Self> {
        let header = usize::from(byte(layer4, 12)? >> 4) * 4;
        let payload = layer4.len().checked_sub(header)?;
        if header < HEADER {
            return None;
        }
        let ack = be32(layer4, 8)?;
        let mut segment = Self {
            flags: byte(layer4, 13)?,
            seq: be32(layer4, 4)?,
            ack,
            window: be16(layer4, 14)?,
            payload: payload as u32,
            scale: None,
            sack_permitted: false,
            sack_end: ack,
        };
        let options = layer4.get(HEADER..header)?;
        if !options.is_empty() {
            segment.read_options(options);
        }
        Some(segment)
    }

    /// Walks the options; one that contradicts itself ends the walk, as in the kernel's stack.
    fn read_options(&mut self, mut options: &[u8]) {
        loop {
            match *options {
                [] | [0, ..] => return,
                [1, ref rest @ ..] => options = rest,
                [kind, length, ..] => {
                    let Some((option, rest)) = options.split_at_checked(usize::from(length)) else {
                        return;
                    };
                    let Some(data) = option.get(2..) else { return };
                    self.read_option(kind, data);
                    options = rest;
                }
                [_] => return,
            }
        }
    }

    fn read_option(&mut self, kind: u8, data: &[u8]) {
        let syn = self.flags & SYN != 0;
        match (kind, data) {
            (3, &[shift]) if syn => self.scale = Some(shift.min(MAX_SCALE)),
            (4, []) if syn => self.sack_permitted = true,
            (5, blocks) if !syn && blocks.len() % 8 == 0 => {
                for right in blocks.chunks_exact(8).filter_map(|block| be32(block, 4)) {
                    if is_after(right, self.sack_end) {
                        self.sack_end = right;
                    }
                }
            }
            _ => {}
        }
    }
}

/// True if sequence number `a` is later than `b`, modulo 2^32.
fn is_after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header with its first 12 bytes 4000 → 80, seq 0x01020304, ack 0x0a0b0c0d.
    fn segment(words: u8, flags: u8, rest: &[u8]) -> Option<TcpSegment> {
        let head = [
            0x0f,
            0xa0,
            0,
            80,
            1,
            2,
            3,
            4,
            0x0a,
            0x0b,
            0x0c,
            0x0d,
            words << 4,
            flags,
            0xfa,
            0xf0,
            0,
            0,
            0,
            0,
        ];
        TcpSegment::read(&[&head, rest].concat())
    }

    #[test]
    fn fields_without_options() {
        let segment = segment(5, ACK | PSH, b"hello").unwrap();
        assert_eq!((segment.seq, segment.ack), (0x0102_0304, 0x0a0b_0c0d));
        assert_eq!((segment.flags, segment.window, segment.payload), (0x18, 0xfaf0, 5));
        assert_eq!((segment.scale, segment.sack_permitted), (None, false));
        assert_eq!(segment.sack_end, segment.ack);
    }

    /// MSS 1460, SACK permitted, timestamps, NOP, window scale 7: what Linux sends.
    const SYN_OPTIONS: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];

    #[test]
    fn options_of_a_syn() {
        let syn = segment(10, SYN, &SYN_OPTIONS).unwrap();
        assert_eq!((syn.scale, syn.sack_permitted, syn.payload), (Some(7), true, 0));
        let not_syn = segment(10, ACK, &SYN_OPTIONS).unwrap();
        assert_eq!((not_syn.scale, not_syn.sack_permitted), (None, false));
        assert_eq!(segment(6, SYN, &[3, 3, 99, 0]).unwrap().scale, Some(14));
    }

    #[test]
    fn highest_sack_edge_modulo_2_32() {
        let block = |left: u32, right: u32| [left.to_be_bytes(), right.to_be_bytes()].concat();
        let high = 0x0a0b_0c0d_u32;
        let options = [
            vec![1, 1, 5, 26],
            block(high + 100, high + 200),
            block(high + 1000, high + 1100),
            block(high.wrapping_sub(500), high.wrapping_sub(400)),
        ]
        .concat();
        assert_eq!(segment(12, ACK, &options).unwrap().sack_end, high + 1100);
    }

    #[test]
    fn broken_options_end_the_walk() {
        for options in [[3, 0, 7, 0], [3, 1, 7, 0], [3, 9, 7, 0], [0, 3, 3, 7], [1, 1, 1, 3]] {
            assert_eq!(segment(6, SYN, &options).unwrap().scale, None, "{options:?}");
        }
        assert_eq!(segment(7, ACK, &[5, 7, 9, 9, 9, 9, 9, 0]).unwrap().sack_end, 0x0a0b_0c0d);
    }

    #[test]
    fn header_length_must_fit() {
        assert!(segment(4, ACK, &[0; 8]).is_none());
        assert!(segment(6, ACK, &[0; 3]).is_none());
        assert!(TcpSegment::read(&[0x50; 13]).is_none());
    }
}
