//! The IPv6 header and its extension headers (RFC 8200, RFC 4302 for AH).
//!
//! ```text
//!  0       4               12      16              24             31
//! +-------+---------------+-------+---------------+---------------+
//! | ver 6 | traffic class | flow label                            |  0
//! +-------+---------------+-------+---------------+---------------+
//! | payload length                | next header   | hop limit     |  4
//! +-------------------------------+---------------+---------------+
//! | source address, 16 bytes                                      |  8
//! | destination address, 16 bytes                                 | 24
//! +---------------------------------------------------------------+
//!
//! hop-by-hop (0), routing (43), destination options (60), AH (51):
//! +---------------+---------------+----------- - -
//! | next header   | length n      | (n + 1) * 8 bytes in all; AH: (n + 2) * 4
//! +---------------+---------------+----------- - -
//! fragment (44):
//! +---------------+---------------+-------------------------+---+-+
//! | next header   | reserved      | fragment offset (8 B)   |res|M|
//! +---------------+---------------+-------------------------+---+-+
//! | identification                                                |
//! +---------------------------------------------------------------+
//! ```

use crate::limits::MAX_IPV6_EXTENSIONS;
use crate::wire::ip::{Fragmentation, IpHeader, Upper};
use crate::wire::layout::NotSteered;
use crate::wire::octets::{array, be16, be32, byte};

/// Bytes of the fixed header.
pub const HEADER: usize = 40;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
/// "No next header": nothing follows.
pub(crate) const NO_NEXT: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;

/// Every extension header has at least these bytes.
const MIN_EXTENSION: usize = 8;

/// Reads the fixed header at the start of `bytes`. `None` if the version is not 6 or the header does
/// not fit; the payload length is not judged.
#[inline]
pub(crate) fn read(bytes: &[u8]) -> Option<IpHeader> {
    let fixed: [u8; HEADER] = array(bytes, 0)?;
    if fixed[0] >> 4 != 6 {
        return None;
    }
    Some(IpHeader {
        ipv6: true,
        source: array(&fixed, 8)?,
        destination: array(&fixed, 24)?,
        hops: byte(&fixed, 7)?,
        length: HEADER + usize::from(be16(&fixed, 4)?),
        header: HEADER,
        next: byte(&fixed, 6)?,
        fragmentation: None,
    })
}

/// Walks the extension headers of `packet` (from its fixed header to its end or the end of the quote).
///
/// A fragment header with offset 0 and no more fragments is passed over (atomic fragment, RFC 6946).
/// A later fragment ends the walk: what follows is not a header. If several fragment headers follow
/// each other the last one counts, and the flags remember all.
pub(crate) fn walk(packet: &[u8], next: u8) -> Result<Upper, NotSteered> {
    let mut upper = Upper { proto: next, offset: HEADER, fragmentation: None, flags: 0 };
    let mut walked = 0;
    while is_extension(upper.proto) {
        if walked == MAX_IPV6_EXTENSIONS {
            return Err(NotSteered::ExtensionHeaders);
        }
        walked += 1;
        let header: [u8; MIN_EXTENSION] = array(packet, upper.offset).ok_or(NotSteered::Malformed)?;
        let length = extension_length(upper.proto, header[1]);
        if packet.len() - upper.offset < length {
            return Err(NotSteered::Malformed);
        }
        let fragmentation = fragmentation(upper.proto, &header);
        upper.proto = header[0];
        upper.offset += length;
        if let Some(fragmentation) = fragmentation {
            upper.fragmentation = Some(Fragmentation { start: upper.offset as u16, ..fragmentation });
            upper.flags |= fragmentation.flag();
            if fragmentation.offset > 0 {
                upper.offset = 0;
                return Ok(upper);
            }
        }
    }
    if upper.proto == NO_NEXT {
        upper.offset = 0;
    }
    Ok(upper)
}

fn is_extension(proto: u8) -> bool {
    matches!(proto, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

fn extension_length(proto: u8, length: u8) -> usize {
    match proto {
        FRAGMENT => MIN_EXTENSION,
        AUTHENTICATION => (usize::from(length) + 2) * 4,
        _ => (usize::from(length) + 1) * 8,
    }
}

/// The fragment header's fields but for `start`, unless it is another header or an atomic fragment.
fn fragmentation(proto: u8, header: &[u8; MIN_EXTENSION]) -> Option<Fragmentation> {
    let offset_field = be16(header, 2)?;
    let fields = Fragmentation {
        id: be32(header, 4)?,
        offset: offset_field & 0xfff8,
        more: offset_field & 1 != 0,
        start: 0,
    };
    (proto == FRAGMENT && fields.is_fragment()).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::layout::{FLAG_FRAGMENT_FIRST, FLAG_FRAGMENT_LATER};

    /// `walk` over a fixed header of zeros followed by `extensions`.
    fn walk_over(next: u8, extensions: &[u8]) -> Result<Upper, NotSteered> {
        walk(&[&[0; HEADER][..], extensions].concat(), next)
    }

    #[test]
    fn nothing_to_walk() {
        let upper = walk_over(17, &[]).unwrap();
        assert_eq!(upper, Upper { proto: 17, offset: 40, fragmentation: None, flags: 0 });
        assert_eq!(walk_over(NO_NEXT, &[]).unwrap().offset, 0);
    }

    #[test]
    fn chain_of_all_kinds() {
        let chain = [
            [60, 0, 1, 4, 0, 0, 0, 0], // hop-by-hop
            [43, 0, 1, 4, 0, 0, 0, 0], // destination options
            [51, 0, 0, 0, 0, 0, 0, 0], // routing
            [44, 1, 0, 0, 0, 0, 0, 1], // AH, 12 bytes …
            [0, 0, 0, 1, 6, 0, 0, 1],  // … so its last 4 and half of the fragment header
            [0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0],
        ]
        .concat();
        let upper = walk_over(HOP_BY_HOP, &chain).unwrap();
        assert_eq!((upper.proto, upper.offset), (6, 40 + 24 + 12 + 8));
        let fragmentation = upper.fragmentation.unwrap();
        assert_eq!(fragmentation, Fragmentation { id: 0xdead_beef, offset: 0, more: true, start: 84 });
    }

    #[test]
    fn atomic_fragment_is_no_fragment() {
        let upper = walk_over(FRAGMENT, &[17, 0, 0, 0, 1, 2, 3, 4]).unwrap();
        assert_eq!(upper, Upper { proto: 17, offset: 48, fragmentation: None, flags: 0 });
    }

    #[test]
    fn later_fragment_ends_the_walk() {
        let upper = walk_over(FRAGMENT, &[60, 0, 0x05, 0xa9, 1, 2, 3, 4]).unwrap();
        let fragmentation = Fragmentation { id: 0x0102_0304, offset: 0x5a8, more: true, start: 48 };
        assert_eq!((upper.proto, upper.offset), (60, 0));
        assert_eq!(upper.fragmentation, Some(fragmentation));
        assert_eq!(upper.flags, FLAG_FRAGMENT_LATER);
    }

    #[test]
    fn fragment_of_a_fragment() {
        let chain = [44, 0, 0, 1, 0, 0, 0, 1, 17, 0, 0, 8, 0, 0, 0, 2];
        let upper = walk_over(FRAGMENT, &chain).unwrap();
        assert_eq!(upper.flags, FLAG_FRAGMENT_FIRST | FLAG_FRAGMENT_LATER);
        assert_eq!((upper.proto, upper.offset), (17, 0));
        assert_eq!(upper.fragmentation.unwrap().id, 2);
    }

    #[test]
    fn cut_short() {
        assert_eq!(walk_over(HOP_BY_HOP, &[6, 0, 1, 4, 0, 0, 0]), Err(NotSteered::Malformed));
        assert_eq!(walk_over(HOP_BY_HOP, &[6, 1, 1, 4, 0, 0, 0, 0]), Err(NotSteered::Malformed));
    }

    #[test]
    fn eight_headers_but_not_nine() {
        let mut chain = [60, 0, 1, 4, 0, 0, 0, 0].repeat(MAX_IPV6_EXTENSIONS);
        assert_eq!(walk_over(60, &chain), Err(NotSteered::ExtensionHeaders));
        let last = chain.len() - 8;
        chain[last] = 6;
        assert_eq!(walk_over(60, &chain).unwrap().offset, 40 + 64);
    }
}
