//! What etherparse says of a frame, in the terms of our `Layout`.

use std::net::IpAddr;

use etherparse::{
    IpAuthHeaderSlice, IpNumber, Ipv6FragmentHeaderSlice, Ipv6RawExtHeaderSlice, LaxIpPayloadSlice,
    LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, SlicedPacket, TcpHeaderSlice, TransportSlice,
    UdpHeaderSlice,
};

/// etherparse's view of an IP packet.
pub struct Oracle<'a> {
    /// Version, from the first nibble.
    pub ipv6: bool,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// It is a first fragment.
    pub first: bool,
    /// It is a later fragment.
    pub later: bool,
    /// Final protocol. That of a later fragment is what its fragment header says.
    pub proto: u8,
    /// IPv6 fragment header whose fields etherparse takes from other bits than RFC 8200.
    pub wrong_fragment_bits: bool,
    /// IPv6 extension headers in front of the final protocol (or up to a later fragment's header).
    pub extensions: usize,
    /// What follows the headers; of a later fragment, its data.
    pub payload: &'a [u8],
    /// The rest of etherparse's findings.
    sliced: LaxSlicedPacket<'a>,
}

impl<'a> Oracle<'a> {
    /// Asks about a frame; `None` if etherparse sees no IP packet in it.
    pub fn of_frame(frame: &'a [u8]) -> Option<Self> {
        LaxSlicedPacket::from_ethernet(frame).ok().and_then(Self::of)
    }

    /// Asks about bytes that start with an IP header.
    pub fn of_ip(packet: &'a [u8]) -> Option<Self> {
        LaxSlicedPacket::from_ip(packet).ok().and_then(Self::of)
    }

    fn of(sliced: LaxSlicedPacket<'a>) -> Option<Self> {
        let payload: LaxIpPayloadSlice<'a> = sliced.net.as_ref()?.ip_payload_ref()?.clone();
        let oracle = Self {
            ipv6: false,
            source: IpAddr::from([0; 4]),
            destination: IpAddr::from([0; 4]),
            first: false,
            later: false,
            proto: payload.ip_number.0,
            wrong_fragment_bits: false,
            extensions: 0,
            payload: payload.payload,
            sliced: sliced.clone(),
        };
        match sliced.net? {
            LaxNetSlice::Ipv4(ip) => {
                let header = ip.header();
                let later = header.fragments_offset().value() > 0;
                Some(Self {
                    source: header.source_addr().into(),
                    destination: header.destination_addr().into(),
                    first: header.more_fragments() && !later,
                    later,
                    ..oracle
                })
            }
            LaxNetSlice::Ipv6(ip) => Some(
                Self {
                    ipv6: true,
                    source: ip.header().source_addr().into(),
                    destination: ip.header().destination_addr().into(),
                    ..oracle
                }
                .with_extensions(ip.header().next_header(), ip.extensions().slice()),
            ),
            LaxNetSlice::Arp(_) => None,
        }
    }

    /// Looks at the fragment headers. What follows a later fragment's header is data, although
    /// etherparse may have walked on through it. (Its own iterator over extension headers asserts that
    /// the last one is followed by no other, which does not hold where the walk stopped at an error.)
    fn with_extensions(mut self, mut next: IpNumber, mut headers: &'a [u8]) -> Self {
        while !headers.is_empty() {
            let (following, length) = match next {
                IpNumber::IPV6_FRAGMENTATION_HEADER => {
                    let Ok(fragment) = Ipv6FragmentHeaderSlice::from_slice(headers) else { break };
                    let (offset, more) = self.fragment_fields(&fragment);
                    if offset > 0 {
                        self.later = true;
                        self.proto = fragment.next_header().0;
                        return Self { extensions: self.extensions + 1, ..self };
                    }
                    self.first |= more;
                    (fragment.next_header(), fragment.slice().len())
                }
                IpNumber::AUTHENTICATION_HEADER => {
                    let Ok(header) = IpAuthHeaderSlice::from_slice(headers) else { break };
                    (header.next_header(), header.slice().len())
                }
                _ => {
                    let Ok(header) = Ipv6RawExtHeaderSlice::from_slice(headers) else { break };
                    (header.next_header(), header.slice().len())
                }
            };
            self.extensions += 1;
            next = following;
            headers = &headers[length..];
        }
        self
    }

    /// Offset and "more fragments" by RFC 8200 section 4.5; notes where etherparse reads others.
    fn fragment_fields(&mut self, fragment: &Ipv6FragmentHeaderSlice) -> (u16, bool) {
        let bytes = fragment.slice();
        let field = u16::from_be_bytes([bytes[2], bytes[3]]);
        let (offset, more) = (field >> 3, field & 1 != 0);
        let theirs = (fragment.fragment_offset().value(), fragment.more_fragments());
        self.wrong_fragment_bits |= theirs != (offset, more);
        (offset, more)
    }

    /// True if the IPv4 header's checksum is another than its bytes come to.
    pub fn has_wrong_checksum(&self) -> bool {
        let Some(LaxNetSlice::Ipv4(ip)) = &self.sliced.net else { return false };
        let header = ip.header().to_header();
        header.header_checksum != header.calc_header_checksum()
    }

    /// Source and destination port, or an ICMP query's identifier twice, or zeros; `None` where
    /// etherparse does not read them.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let identifier = |bytes: [u8; 4]| u16::from_be_bytes([bytes[0], bytes[1]]);
        match self.sliced.transport.as_ref() {
            Some(TransportSlice::Tcp(tcp)) => Some((tcp.source_port(), tcp.destination_port())),
            Some(TransportSlice::Udp(udp)) => Some((udp.source_port(), udp.destination_port())),
            Some(TransportSlice::Icmpv4(icmp)) if !self.ipv6 => {
                let id = identifier(icmp.bytes5to8());
                let query = matches!(icmp.type_u8(), 0 | 8 | 13..=18);
                Some(if query { (id, id) } else { (0, 0) })
            }
            Some(TransportSlice::Icmpv6(icmp)) if self.ipv6 => {
                let id = identifier(icmp.bytes5to8());
                let query = matches!(icmp.type_u8(), 128 | 129);
                Some(if query { (id, id) } else { (0, 0) })
            }
            Some(_) => Some((0, 0)),
            None => match IpNumber(self.proto) {
                IpNumber::UDP => UdpHeaderSlice::from_slice(self.payload)
                    .ok()
                    .map(|udp| (udp.source_port(), udp.destination_port())),
                IpNumber::TCP => TcpHeaderSlice::from_slice(self.payload)
                    .ok()
                    .map(|tcp| (tcp.source_port(), tcp.destination_port())),
                IpNumber::ICMP | IpNumber::IPV6_ICMP | IpNumber::SCTP => None,
                _ => Some((0, 0)),
            },
        }
    }

    /// Type of the ICMP message, if it is one of this IP version.
    pub fn icmp_type(&self) -> Option<u8> {
        match self.sliced.transport.as_ref().filter(|_| !self.later)? {
            TransportSlice::Icmpv4(icmp) if !self.ipv6 => Some(icmp.type_u8()),
            TransportSlice::Icmpv6(icmp) if self.ipv6 => Some(icmp.type_u8()),
            _ => None,
        }
    }

    /// What an ICMP error quotes; `None` if it is no error.
    pub fn quote(&self) -> Option<&'a [u8]> {
        match self.sliced.transport.as_ref().filter(|_| !self.later)? {
            TransportSlice::Icmpv4(icmp) if !self.ipv6 => {
                matches!(icmp.type_u8(), 3 | 4 | 5 | 11 | 12).then(|| &icmp.slice()[8..])
            }
            TransportSlice::Icmpv6(icmp) if self.ipv6 => {
                matches!(icmp.type_u8(), 1..=4).then(|| &icmp.slice()[8..])
            }
            _ => None,
        }
    }

    /// The ports of a TCP or SCTP header that is cut short, as in the eight bytes of a quote.
    pub fn first_four_bytes(&self) -> Option<(u16, u16)> {
        let [a, b, c, d] = *self.payload.first_chunk()?;
        let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        matches!(IpNumber(self.proto), IpNumber::TCP | IpNumber::SCTP).then_some(ports)
    }

    /// True for IPv6 whose length field says that nothing follows.
    pub fn is_empty_ipv6(&self) -> bool {
        match &self.sliced.net {
            Some(LaxNetSlice::Ipv6(ip)) => ip.header().payload_length() == 0,
            _ => false,
        }
    }

    /// True if the destination is multicast or IPv4's limited broadcast.
    pub fn is_to_many(&self) -> bool {
        match self.destination {
            IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_multicast(),
        }
    }

    /// True if these addresses must not be forwarded.
    pub fn is_martian(&self) -> bool {
        let source_is_broadcast = matches!(self.source, IpAddr::V4(source) if source.is_broadcast());
        let mapped = |address| matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
        self.source.is_loopback()
            || self.source.is_multicast()
            || self.source.is_unspecified()
            || source_is_broadcast
            || self.destination.is_loopback()
            || self.destination.is_unspecified()
            || mapped(self.source)
            || mapped(self.destination)
    }
}

/// True if etherparse, asked strictly, finds an error in the frame.
pub fn refuses(frame: &[u8]) -> bool {
    SlicedPacket::from_ethernet(frame).is_err()
}

/// True if etherparse went through a MACsec header or through more than two VLAN tags to get to IP.
pub fn goes_deeper_than_two_tags(frame: &[u8]) -> bool {
    LaxSlicedPacket::from_ethernet(frame).is_ok_and(|sliced| {
        sliced.link_exts.len() > 2
            || sliced.link_exts.iter().any(|ext| matches!(ext, LaxLinkExtSlice::Macsec(_)))
    })
}
