//! The IPv4 header (RFC 791).
//!
//! ```text
//!  0       4       8               16                             31
//! +-------+-------+---------------+-------------------------------+
//! | ver 4 | IHL   | DSCP/ECN      | total length                  |  0
//! +-------+-------+---------------+-+-+-+-------------------------+
//! | identification                |0|D|M| fragment offset (8 B)   |  4
//! +---------------+---------------+-+-+-+-------------------------+
//! | TTL           | protocol      | header checksum               |  8
//! +---------------+---------------+-------------------------------+
//! | source address                                                | 12
//! +---------------------------------------------------------------+
//! | destination address                                           | 16
//! +---------------------------------------------------------------+
//! | options, (IHL - 5) * 4 bytes                                  | 20
//! ```

use crate::flow::MAPPED_PREFIX;
use crate::wire::ip::{Fragmentation, IpHeader};
use crate::wire::octets::{array, be16, byte};

/// Bytes of a header without options.
pub const HEADER: usize = 20;

/// Reads the header at the start of `bytes`. `None` if the version is not 4, IHL is below 5 or the
/// header does not fit; the total length is not judged (a quoted packet is longer than its quote).
#[inline]
pub(crate) fn read(bytes: &[u8]) -> Option<IpHeader> {
    let fixed: [u8; HEADER] = array(bytes, 0)?;
    let header = usize::from(fixed[0] & 0xf) * 4;
    if fixed[0] >> 4 != 4 || header < HEADER || header > bytes.len() {
        return None;
    }
    let offset_field = be16(&fixed, 6)?;
    let fragmentation = Fragmentation {
        id: u32::from(be16(&fixed, 4)?),
        offset: (offset_field & 0x1fff) << 3,
        more: offset_field & 0x2000 != 0,
        start: header as u16,
    };
    Some(IpHeader {
        ipv6: false,
        source: mapped(array(&fixed, 12)?),
        destination: mapped(array(&fixed, 16)?),
        hops: byte(&fixed, 8)?,
        length: usize::from(be16(&fixed, 2)?),
        header,
        next: byte(&fixed, 9)?,
        fragmentation: fragmentation.is_fragment().then_some(fragmentation),
    })
}

/// The 16-byte form of an address used in keys.
#[inline]
fn mapped(address: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..12].copy_from_slice(&MAPPED_PREFIX);
    bytes[12..].copy_from_slice(&address);
    bytes
}

/// The header checksum of a header whose checksum field is zero (RFC 1071).
pub(crate) fn checksum(header: &[u8]) -> u16 {
    folded(sum(header))
}

/// True if the header's checksum is right (RFC 1071 section 1 (3)); `header` is all of it, options included.
#[inline(always)]
pub(crate) fn is_sound(header: &[u8]) -> bool {
    match header.first_chunk() {
        Some(fixed) if header.len() == HEADER => is_sound_without_options(fixed),
        _ => folded(sum(header)) == 0,
    }
}

/// [`is_sound`] in 32-bit words: the order of bytes does not matter to a sum of ones' complement (RFC 1071 section 2 (B)).
#[inline(always)]
pub(crate) fn is_sound_without_options(header: &[u8; HEADER]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let halves = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    (halves & 0xffff) + (halves >> 16) == 0xffff
}

/// The sum of 16-bit words; an odd byte at the end is a word's first.
pub(crate) fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2);
    words.map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low))).sum()
}

/// The checksum that a sum of words comes to.
pub(crate) fn folded(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    !((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::address_of;

    /// The example of RFC 1071's usual illustration: UDP from 192.168.0.1 to 192.168.0.199.
    const HEADER_BYTES: [u8; 20] = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0,
        0xa8, 0x00, 0xc7,
    ];

    #[test]
    fn fields() {
        let header = read(&HEADER_BYTES).unwrap();
        assert_eq!(address_of(&header.source).to_string(), "192.168.0.1");
        assert_eq!(address_of(&header.destination).to_string(), "192.168.0.199");
        assert_eq!((header.hops, header.next), (64, 17));
        assert_eq!((header.length, header.header), (0x73, 20));
        assert_eq!(header.fragmentation, None);
    }

    #[test]
    fn a_sound_checksum_and_every_bit_that_makes_it_unsound() {
        let with_options = {
            let mut header = [&HEADER_BYTES[..], &[0x94, 4, 0, 0]].concat();
            (header[0], header[10], header[11]) = (0x46, 0, 0);
            let checksum = checksum(&header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            header
        };
        for header in [HEADER_BYTES.to_vec(), with_options] {
            assert!(is_sound(&header));
            for bit in 0..header.len() * 8 {
                let mut changed = header.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(!is_sound(&changed), "bit {bit} of {header:02x?}");
            }
        }
    }

    #[test]
    fn fragments() {
        let mut bytes = HEADER_BYTES;
        bytes[4..8].copy_from_slice(&[0x12, 0x34, 0x20, 0x00]);
        let first = read(&bytes).unwrap().fragmentation.unwrap();
        assert_eq!(first, Fragmentation { id: 0x1234, offset: 0, more: true, start: 20 });
        bytes[6..8].copy_from_slice(&[0x1f, 0xff]);
        let last = read(&bytes).unwrap().fragmentation.unwrap();
        assert_eq!(last, Fragmentation { id: 0x1234, offset: 65528, more: false, start: 20 });
    }

    #[test]
    fn contradictions() {
        for (at, value) in [(0, 0x55), (0, 0x44), (0, 0x46)] {
            let mut bytes = HEADER_BYTES;
            bytes[at] = value;
            assert!(read(&bytes).is_none(), "{value:#x}");
        }
        assert!(read(&HEADER_BYTES[..19]).is_none());
    }

    #[test]
    fn checksum_of_the_example() {
        let mut bytes = HEADER_BYTES;
        bytes[10..12].fill(0);
        assert_eq!(checksum(&bytes), 0xb861);
    }
}
