//! Blocks of a pcapng file (draft-ietf-opsawg-pcapng), little endian. Crates that write them know no `epb_queue` and no
//! `epb_packetid`.
//!
//! ```text
//! +------+--------+------ … ------+-------- … --------+--------+
//! | type | length | fields, data  | options, end of   | length |   each part padded to 4 bytes
//! +------+--------+------ … ------+-------- … --------+--------+
//! option: code u16 · length u16 · value
//! ```

/// Ethernet (LINKTYPE_ETHERNET).
const ETHERNET: u16 = 1;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

/// Time stamps in units of 10^-9 s (`if_tsresol`).
const NANOSECONDS: u8 = 9;

/// Which way a frame went (`epb_flags`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    In = 1,
    Out = 2,
}

/// A frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// Number of its interface.
    pub(super) interface: u32,
    /// When, ns since 1970.
    pub(super) at_ns: u64,
    /// Bytes it had.
    pub(super) length: u32,
    /// Those that were kept.
    pub(super) bytes: &'a [u8],
    pub(super) direction: Direction,
    /// The interface's queue.
    pub(super) queue: Option<u16>,
    /// The same for the same packet on other interfaces.
    pub(super) id: u64,
    pub(super) comment: &'a str,
}

/// A block under way.
struct Block(Vec<u8>);

impl Block {
    fn new(kind: u32) -> Self {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 4]);
        Self(bytes)
    }

    fn word(mut self, word: u32) -> Self {
        self.0.extend_from_slice(&word.to_le_bytes());
        self
    }

    /// High half first, as time stamps are.
    fn stamp(self, number: u64) -> Self {
        self.word((number >> 32) as u32).word(number as u32)
    }

    fn data(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn option(mut self, code: u16, value: &[u8]) -> Self {
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        self.0.extend_from_slice(&code.to_le_bytes());
        self.0.extend_from_slice(&(value.len() as u16).to_le_bytes());
        self.data(value)
    }

    /// Ends the options, and writes the length at both ends.
    fn finish(self) -> Vec<u8> {
        let Self(mut bytes) = self.option(0, &[]);
        let length = (bytes.len() as u32 + 4).to_le_bytes();
        bytes[4..8].copy_from_slice(&length);
        bytes.extend_from_slice(&length);
        bytes
    }
}

/// Begins a file; `program` wrote it.
pub(super) fn section(program: &str) -> Vec<u8> {
    // Byte order, version 1.0, of unknown length.
    let header = Block::new(SECTION).word(0x1a2b_3c4d).word(1).stamp(u64::MAX);
    header.option(4, program.as_bytes()).finish()
}

/// Describes the next interface.
pub(super) fn interface(name: &str, snap: u16) -> Vec<u8> {
    let header = Block::new(INTERFACE).word(ETHERNET.into()).word(snap.into());
    header.option(2, name.as_bytes()).option(9, &[NANOSECONDS]).finish()
}

/// One frame.
pub(super) fn packet(packet: &Packet<'_>) -> Vec<u8> {
    let &Packet { interface, at_ns, length, bytes, direction, queue, id, comment } = packet;
    let header = Block::new(PACKET).word(interface).stamp(at_ns).word(bytes.len() as u32).word(length);
    let block = header
        .data(bytes)
        .option(1, comment.as_bytes())
        .option(2, &(direction as u32).to_le_bytes())
        .option(5, &id.to_le_bytes());
    match queue {
        Some(queue) => block.option(6, &u32::from(queue).to_le_bytes()).finish(),
        None => block.finish(),
    }
}

/// Of an interface: frames in the file, and frames that were missed.
pub(super) fn statistics(interface: u32, at_ns: u64, frames: u64, missed: u64, comment: &str) -> Vec<u8> {
    let block = Block::new(STATISTICS).word(interface).stamp(at_ns).option(1, comment.as_bytes());
    block.option(4, &frames.to_le_bytes()).option(7, &missed.to_le_bytes()).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_byte_for_byte() {
        let block = packet(&Packet {
            interface: 2,
            at_ns: 0x0102_0304_0506_0708,
            length: 60,
            bytes: &[0xaa; 5],
            direction: Direction::Out,
            queue: Some(3),
            id: 9,
            comment: "drop",
        });
        let expected = [
            &[6, 0, 0, 0, 80, 0, 0, 0, 2, 0, 0, 0, 4, 3, 2, 1, 8, 7, 6, 5, 5, 0, 0, 0, 60, 0, 0, 0][..],
            &[0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0, 0, 0],
            &[1, 0, 4, 0, b'd', b'r', b'o', b'p'],
            &[2, 0, 4, 0, 2, 0, 0, 0],
            &[5, 0, 8, 0, 9, 0, 0, 0, 0, 0, 0, 0],
            &[6, 0, 4, 0, 3, 0, 0, 0],
            &[0, 0, 0, 0],
            &[80, 0, 0, 0],
        ];
        assert_eq!(block, expected.concat());
    }

    #[test]
    fn every_block_has_its_length_at_both_ends() {
        let long = "x".repeat(70_000);
        for block in
            [section("samepath"), interface("eth0", 288), interface(&long, 4096), statistics(1, 5, 3, 4, "")]
        {
            let length = u32::from_le_bytes(block[4..8].try_into().unwrap());
            assert_eq!((length as usize, length % 4), (block.len(), 0));
            assert_eq!(block[block.len() - 4..], block[4..8]);
        }
    }
}
