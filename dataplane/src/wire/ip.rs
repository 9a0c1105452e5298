//! An IP header of either version, as far as steering and sessions need it. The layouts are in
//! [`ipv4`] and [`ipv6`].

use crate::flow::MAPPED_PREFIX;
use crate::wire::layout::{FLAG_FRAGMENT_FIRST, FLAG_FRAGMENT_LATER, NotSteered};
use crate::wire::{ipv4, ipv6};

/// What an IP header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpHeader {
    /// True for IPv6.
    pub ipv6: bool,
    /// Source address; IPv4 in mapped form.
    pub source: [u8; 16],
    /// Destination address; IPv4 in mapped form.
    pub destination: [u8; 16],
    /// TTL or hop limit.
    pub hops: u8,
    /// Bytes of the whole packet by its own length field.
    pub length: usize,
    /// Bytes of the (fixed) header, IPv4 options included.
    pub header: usize,
    /// Protocol or next-header field.
    pub next: u8,
    /// IPv4: the fragment fields, if it is a fragment.
    pub fragmentation: Option<Fragmentation>,
}

/// The fragment fields of either version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragmentation {
    /// Identification: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// Where this fragment's payload belongs, bytes.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
    /// Bytes from the IP header to this fragment's payload.
    pub start: u16,
}

impl Fragmentation {
    /// False for a packet that is whole (RFC 6946 calls it atomic where the header is there).
    pub fn is_fragment(self) -> bool {
        self.offset > 0 || self.more
    }

    /// The layout flag of a fragment.
    pub(crate) fn flag(self) -> u8 {
        if self.offset > 0 { FLAG_FRAGMENT_LATER } else { FLAG_FRAGMENT_FIRST }
    }
}

/// Where the IP headers end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upper {
    /// Final protocol.
    pub proto: u8,
    /// Bytes from the IP header to the layer-4 header; 0 = none here (later fragment, or IPv6 with
    /// no next header).
    pub offset: usize,
    /// The fragment fields, if it is a fragment.
    pub fragmentation: Option<Fragmentation>,
    /// [`FLAG_FRAGMENT_FIRST`], [`FLAG_FRAGMENT_LATER`], 0 or, where IPv6 fragment headers follow each
    /// other, both.
    pub flags: u8,
}

impl IpHeader {
    /// Reads the header at the start of `bytes`; `None` if the version is another one or the header
    /// does not fit. The length field is not judged.
    #[inline]
    pub fn read(bytes: &[u8], ipv6: bool) -> Option<Self> {
        if ipv6 { ipv6::read(bytes) } else { ipv4::read(bytes) }
    }

    /// True if the length field fits the header and `available` bytes.
    pub fn length_fits(&self, available: usize) -> bool {
        let empty_ipv6 = self.ipv6 && self.length == self.header;
        self.length >= self.header && self.length <= available && !empty_ipv6
    }

    /// Finds the layer-4 header in `packet`, which starts with this header.
    pub fn upper(&self, packet: &[u8]) -> Result<Upper, NotSteered> {
        if self.ipv6 {
            return ipv6::walk(packet, self.next);
        }
        let later = self.fragmentation.is_some_and(|fragmentation| fragmentation.offset > 0);
        let offset = if later { 0 } else { self.header };
        let flags = self.fragmentation.map_or(0, Fragmentation::flag);
        Ok(Upper { proto: self.next, offset, fragmentation: self.fragmentation, flags })
    }

    /// True if the destination is a multicast address or IPv4's limited broadcast.
    pub fn is_to_many(&self) -> bool {
        if self.ipv6 {
            return self.destination[0] == 0xff;
        }
        let v4 = v4(&self.destination);
        v4[0] & 0xf0 == 0xe0 || v4 == [255; 4]
    }

    /// True if no forwarded packet may carry these addresses: source loopback, multicast, unspecified
    /// or broadcast; destination loopback or unspecified; an IPv4-mapped address in IPv6
    /// (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5, RFC 4942 section 2.2).
    #[inline]
    pub fn is_martian(&self) -> bool {
        if self.ipv6 {
            return self.has_mapped_address()
                || self.source[0] == 0xff
                || is_low_v6(&self.source)
                || is_low_v6(&self.destination);
        }
        let (source, destination) = (v4(&self.source), v4(&self.destination));
        source[0] == 127
            || source[0] & 0xf0 == 0xe0
            || source == [0; 4]
            || source == [255; 4]
            || destination[0] == 127
            || destination == [0; 4]
    }

    /// True for IPv6 with an IPv4-mapped address, which would be taken for another flow's key.
    #[inline]
    pub fn has_mapped_address(&self) -> bool {
        self.ipv6 && (self.source[..12] == MAPPED_PREFIX || self.destination[..12] == MAPPED_PREFIX)
    }
}

/// The IPv4 address in a mapped one.
fn v4(mapped: &[u8; 16]) -> [u8; 4] {
    let [.., a, b, c, d] = *mapped;
    [a, b, c, d]
}

/// Unspecified (`::`) or loopback (`::1`).
fn is_low_v6(address: &[u8; 16]) -> bool {
    u128::from_be_bytes(*address) <= 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::key_bytes;

    fn header(source: &str, destination: &str) -> IpHeader {
        let (source, destination): (std::net::IpAddr, std::net::IpAddr) =
            (source.parse().unwrap(), destination.parse().unwrap());
        IpHeader {
            ipv6: source.is_ipv6(),
            source: key_bytes(source),
            destination: key_bytes(destination),
            hops: 64,
            length: 60,
            header: 40,
            next: 17,
            fragmentation: None,
        }
    }

    #[test]
    fn martians() {
        let martians = [
            ("127.0.0.1", "10.0.0.1"),
            ("224.0.0.1", "10.0.0.1"),
            ("239.255.255.255", "10.0.0.1"),
            ("0.0.0.0", "10.0.0.1"),
            ("255.255.255.255", "10.0.0.1"),
            ("10.0.0.1", "127.9.9.9"),
            ("10.0.0.1", "0.0.0.0"),
            ("::1", "2001:db8::1"),
            ("::", "2001:db8::1"),
            ("ff02::1", "2001:db8::1"),
            ("2001:db8::1", "::1"),
            ("2001:db8::1", "::ffff:10.0.0.1"),
            ("::ffff:10.0.0.1", "2001:db8::1"),
        ];
        for (source, destination) in martians {
            assert!(header(source, destination).is_martian(), "{source} -> {destination}");
        }
        let honest = [("10.0.0.1", "192.0.2.1"), ("126.0.0.1", "128.0.0.1"), ("2001:db8::1", "fd00::1")];
        for (source, destination) in honest {
            assert!(!header(source, destination).is_martian(), "{source} -> {destination}");
        }
    }

    #[test]
    fn to_many() {
        for destination in ["224.0.0.5", "239.1.2.3", "255.255.255.255"] {
            assert!(header("10.0.0.1", destination).is_to_many(), "{destination}");
        }
        assert!(header("fd00::1", "ff05::2").is_to_many());
        for destination in ["240.0.0.1", "223.255.255.255", "10.255.255.255"] {
            assert!(!header("10.0.0.1", destination).is_to_many(), "{destination}");
        }
        assert!(!header("fd00::1", "fe80::1").is_to_many());
    }

    #[test]
    fn length_must_fit() {
        let mut header = header("fd00::1", "fd00::2");
        assert!(header.length_fits(60));
        assert!(!header.length_fits(59));
        header.length = 40;
        assert!(!header.length_fits(60), "IPv6 without payload");
        header.ipv6 = false;
        assert!(header.length_fits(60), "an IPv4 packet may be only a header");
        header.length = 39;
        assert!(!header.length_fits(60));
    }
}
