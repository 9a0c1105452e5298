//! Ethernet II with up to two VLAN tags (IEEE 802.3, 802.1Q, 802.1ad).
//!
//! ```text
//!  0             6             12        14
//! +-------------+-------------+---------+---------- - -
//! | destination | source      | type    | payload
//! +-------------+-------------+---------+---------- - -
//!                              type 0x8100, 0x88a8 or 0x9100: four bytes are slipped in,
//!                             +---------+---------+---------+---------- - -
//!                             | TPID    | TCI     | type    | payload
//!                             +---------+---------+---------+---------- - -
//!                              TCI = priority(3) | drop eligible(1) | VLAN id(12)
//! ```

use crate::wire::layout::{NO_VLAN, NotSteered};
use crate::wire::octets::be16;

/// Bytes of a header without tags.
pub const HEADER: usize = 14;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;

/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// Tags walked; a packet with more is left to the kernel.
const MAX_TAGS: usize = 2;

/// What the Ethernet header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ethernet {
    /// EtherType after the tags; still a tag's type if there are more than two.
    pub ethertype: u16,
    /// Bytes in front of the payload, tags included.
    pub payload: usize,
    /// Tag control field of the first tag, [`NO_VLAN`] if there is none.
    pub vlan_outer: u16,
    /// Tag control field of the second tag, [`NO_VLAN`] if there is none.
    pub vlan_inner: u16,
}

impl Ethernet {
    /// Reads the header; [`NotSteered::Malformed`] if it or a tag is cut short.
    pub fn parse(frame: &[u8]) -> Result<Self, NotSteered> {
        let mut tags = [NO_VLAN; MAX_TAGS];
        let mut payload = HEADER;
        let mut ethertype = be16(frame, HEADER - 2).ok_or(NotSteered::Malformed)?;
        for tag in &mut tags {
            if !is_tag(ethertype) {
                break;
            }
            *tag = be16(frame, payload).ok_or(NotSteered::Malformed)?;
            ethertype = be16(frame, payload + 2).ok_or(NotSteered::Malformed)?;
            payload += 4;
        }
        Ok(Self { ethertype, payload, vlan_outer: tags[0], vlan_inner: tags[1] })
    }
}

/// True if the destination address is a group address (multicast or broadcast).
pub fn is_group(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| first & 1 != 0)
}

/// True for the EtherTypes of VLAN tags.
pub fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

    fn parse(rest: &[u8]) -> Result<Ethernet, NotSteered> {
        Ethernet::parse(&[&MACS, rest].concat())
    }

    #[test]
    fn untagged() {
        let ethernet = parse(&[0x08, 0x00]).unwrap();
        assert_eq!(ethernet.ethertype, IPV4);
        assert_eq!(ethernet.payload, 14);
        assert_eq!((ethernet.vlan_outer, ethernet.vlan_inner), (NO_VLAN, NO_VLAN));
    }

    #[test]
    fn one_and_two_tags() {
        let one = parse(&[0x81, 0x00, 0xa0, 0x07, 0x86, 0xdd]).unwrap();
        assert_eq!((one.ethertype, one.payload), (IPV6, 18));
        assert_eq!((one.vlan_outer, one.vlan_inner), (0xa007, NO_VLAN));

        let two = parse(&[0x88, 0xa8, 0x00, 0x64, 0x91, 0x00, 0x00, 0x65, 0x08, 0x00]).unwrap();
        assert_eq!((two.ethertype, two.payload), (IPV4, 22));
        assert_eq!((two.vlan_outer, two.vlan_inner), (100, 101));
    }

    #[test]
    fn third_tag_is_left_in_the_ethertype() {
        let three = [0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 8, 0];
        assert_eq!(parse(&three).unwrap().ethertype, 0x8100);
    }

    #[test]
    fn truncated_tags_are_malformed() {
        for rest in [&[0x08][..], &[0x81, 0x00], &[0x81, 0, 0, 1, 8], &[0x81, 0, 0, 1, 0x81, 0, 0]] {
            assert_eq!(parse(rest), Err(NotSteered::Malformed), "{rest:02x?}");
        }
    }

    #[test]
    fn group_bit() {
        assert!(is_group(&[0xff; 14]));
        assert!(is_group(&[0x33, 0x33]));
        assert!(!is_group(&MACS));
        assert!(!is_group(&[]));
    }
}
