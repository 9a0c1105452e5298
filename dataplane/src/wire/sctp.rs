//! SCTP's common header and chunks (RFC 9260) as far as association tracking needs them.
//!
//! ```text
//!  0               8               16                             31
//! +-------------------------------+-------------------------------+
//! | source port                   | destination port              |  0
//! +-------------------------------+-------------------------------+
//! | verification tag                                              |  4
//! +---------------------------------------------------------------+
//! | checksum                                                      |  8
//! +---------------+---------------+-------------------------------+
//! | chunk type    | chunk flags   | chunk length                  | 12, then every chunk on a
//! +---------------+---------------+-------------------------------+     multiple of 4 bytes
//! ```

use crate::wire::octets::{be16, be32, byte};

/// Chunk types that move the state of an association.
pub mod chunk {
    /// INIT.
    pub const INIT: u8 = 1;
    /// INIT ACK.
    pub const INIT_ACK: u8 = 2;
    /// ABORT.
    pub const ABORT: u8 = 6;
    /// SHUTDOWN.
    pub const SHUTDOWN: u8 = 7;
    /// SHUTDOWN ACK.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// COOKIE ECHO.
    pub const COOKIE_ECHO: u8 = 10;
    /// COOKIE ACK.
    pub const COOKIE_ACK: u8 = 11;
    /// SHUTDOWN COMPLETE.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// Bytes of the common header.
const HEADER: usize = 12;

/// Chunks looked at. Those that move the state stand first or alone (RFC 9260 section 6.10); a
/// packet with more is data.
const MAX_CHUNKS: usize = 16;

/// What an SCTP packet means for its association.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SctpPacket {
    /// ABORT if there is one, otherwise the first chunk that moves the state, otherwise the first.
    pub chunk: u8,
    /// Verification tag.
    pub tag: u32,
}

impl SctpPacket {
    /// Reads the packet that fills `layer4`; `None` if there is no chunk or a chunk's length
    /// contradicts itself. A chunk may end behind the bytes (first fragment).
    pub fn read(layer4: &[u8]) -> Option<Self> {
        let tag = be32(layer4, 4)?;
        let first = byte(layer4, HEADER)?;
        let mut moving = None;
        let mut at = HEADER;
        for _ in 0..MAX_CHUNKS {
            let Some(length) = be16(layer4, at + 2) else { break };
            if length < 4 {
                return None;
            }
            match byte(layer4, at)? {
                chunk::ABORT => return Some(Self { chunk: chunk::ABORT, tag }),
                kind if moves_state(kind) => moving = moving.or(Some(kind)),
                _ => {}
            }
            at += usize::from(length).next_multiple_of(4);
        }
        (at > HEADER).then_some(Self { chunk: moving.unwrap_or(first), tag })
    }
}

fn moves_state(kind: u8) -> bool {
    use chunk::{COOKIE_ACK, COOKIE_ECHO, INIT, INIT_ACK, SHUTDOWN, SHUTDOWN_ACK, SHUTDOWN_COMPLETE};
    matches!(kind, INIT | INIT_ACK | SHUTDOWN | SHUTDOWN_ACK | COOKIE_ECHO | COOKIE_ACK | SHUTDOWN_COMPLETE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(chunks: &[&[u8]]) -> Option<SctpPacket> {
        let head = [0x0b, 0x59, 0x0b, 0x59, 0xca, 0xfe, 0xf0, 0x0d, 0, 0, 0, 0];
        SctpPacket::read(&[&head, &chunks.concat()[..]].concat())
    }

    const DATA: &[u8] = &[0, 3, 0, 17, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0];
    const SACK: &[u8] = &[3, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    const COOKIE_ECHO: &[u8] = &[10, 0, 0, 8, 1, 2, 3, 4];
    const ABORT: &[u8] = &[6, 0, 0, 4];

    #[test]
    fn first_chunk_that_moves_the_state() {
        let init = [1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        assert_eq!(packet(&[&init]), Some(SctpPacket { chunk: 1, tag: 0xcafe_f00d }));
        assert_eq!(packet(&[COOKIE_ECHO, DATA]).unwrap().chunk, chunk::COOKIE_ECHO);
        assert_eq!(packet(&[SACK, DATA]).unwrap().chunk, 3);
        assert_eq!(packet(&[SACK, COOKIE_ECHO]).unwrap().chunk, chunk::COOKIE_ECHO);
        assert_eq!(packet(&[DATA, COOKIE_ECHO, ABORT]).unwrap().chunk, chunk::ABORT);
    }

    #[test]
    fn contradictions() {
        assert_eq!(packet(&[]), None);
        assert_eq!(packet(&[&[1, 0, 0]]), None);
        assert_eq!(packet(&[&[1, 0, 0, 3]]), None);
        assert_eq!(packet(&[SACK, &[0, 0, 0, 0]]), None);
        assert_eq!(packet(&[&[0, 3, 5, 0xdc, 0, 0]]).unwrap().chunk, 0, "cut by fragmentation");
    }
}
