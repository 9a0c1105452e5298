//! Hand-made frames, built with etherparse (not with samepath's own code).

use std::net::IpAddr;

use anyhow::Result;
use etherparse::{
    EtherType, Ethernet2Header, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpHeaders, IpNumber,
    Ipv4Header, Ipv6Header, SingleVlanHeader, TcpHeader, TransportHeader, UdpHeader, VlanId,
};

use crate::bed::plan::End;

/// One direction of a flow on one link: everything of a frame but its transport.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Sending end of the link.
    pub from: End,
    /// Receiving end of the link.
    pub to: End,
    /// 802.1Q tag.
    pub vlan: Option<u16>,
    /// Source address and port.
    pub source: (IpAddr, u16),
    /// Destination address and port.
    pub destination: (IpAddr, u16),
}

impl Way {
    /// A TCP segment without payload whose flags and numbers `set` fills in.
    pub fn tcp(&self, set: impl FnOnce(&mut TcpHeader)) -> Result<Vec<u8>> {
        let mut tcp = TcpHeader::new(self.source.1, self.destination.1, 0, 64_240);
        set(&mut tcp);
        self.frame(TransportHeader::Tcp(tcp), &[])
    }

    /// A TCP segment with `length` bytes of payload.
    pub fn tcp_with(&self, length: usize, set: impl FnOnce(&mut TcpHeader)) -> Result<Vec<u8>> {
        let mut tcp = TcpHeader::new(self.source.1, self.destination.1, 0, 64_240);
        set(&mut tcp);
        self.frame(TransportHeader::Tcp(tcp), &vec![b'x'; length])
    }

    /// An ICMP or ICMPv6 error about a packet that went the other way: type, code, the word behind the checksum,
    /// the packet's frame.
    pub fn icmp_error(&self, (kind, code): (u8, u8), word: u32, about: &[u8]) -> Result<Vec<u8>> {
        let quote = about.get(14..).unwrap_or_default();
        let mut rest = word.to_be_bytes().to_vec();
        rest.extend(&quote[..quote.len().min(64)]);
        let (bytes5to8, payload) = rest.split_at(4);
        let bytes5to8: [u8; 4] = bytes5to8.try_into()?;
        let transport = match self.source.0 {
            IpAddr::V4(_) => {
                let unknown = Icmpv4Type::Unknown { type_u8: kind, code_u8: code, bytes5to8 };
                TransportHeader::Icmpv4(Icmpv4Header::with_checksum(unknown, payload))
            }
            IpAddr::V6(_) => {
                let unknown = Icmpv6Type::Unknown { type_u8: kind, code_u8: code, bytes5to8 };
                TransportHeader::Icmpv6(Icmpv6Header::new(unknown))
            }
        };
        self.frame(transport, payload)
    }

    /// A UDP datagram.
    pub fn udp(&self, payload: &[u8]) -> Result<Vec<u8>> {
        let udp = UdpHeader::without_ipv4_checksum(self.source.1, self.destination.1, payload.len())?;
        self.frame(TransportHeader::Udp(udp), payload)
    }

    fn frame(&self, mut transport: TransportHeader, payload: &[u8]) -> Result<Vec<u8>> {
        let protocol = match &transport {
            TransportHeader::Tcp(_) => IpNumber::TCP,
            TransportHeader::Icmpv4(_) => IpNumber::ICMP,
            TransportHeader::Icmpv6(_) => IpNumber::IPV6_ICMP,
            TransportHeader::Udp(_) => IpNumber::UDP,
        };
        let length = transport.header_len() + payload.len();
        let ip = self.ip(protocol, length)?;
        let inner = match &ip {
            IpHeaders::Ipv4(ip, _) => {
                transport.update_checksum_ipv4(ip, payload)?;
                EtherType::IPV4
            }
            IpHeaders::Ipv6(ip, _) => {
                transport.update_checksum_ipv6(ip, payload)?;
                EtherType::IPV6
            }
        };
        let mut bytes = Vec::with_capacity(18 + 40 + length);
        let ether_type = if self.vlan.is_some() { EtherType::VLAN_TAGGED_FRAME } else { inner };
        Ethernet2Header { source: self.from.mac(), destination: self.to.mac(), ether_type }
            .write(&mut bytes)?;
        if let Some(vlan) = self.vlan {
            let vlan_id = VlanId::try_new(vlan)?;
            SingleVlanHeader { vlan_id, ether_type: inner, ..Default::default() }.write(&mut bytes)?;
        }
        ip.write(&mut bytes)?;
        transport.write(&mut bytes)?;
        bytes.extend_from_slice(payload);
        Ok(bytes)
    }

    fn ip(&self, protocol: IpNumber, length: usize) -> Result<IpHeaders> {
        Ok(match (self.source.0, self.destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut ip = Ipv4Header::new(
                    u16::try_from(length)?,
                    64,
                    protocol,
                    source.octets(),
                    destination.octets(),
                )?;
                ip.header_checksum = ip.calc_header_checksum();
                IpHeaders::Ipv4(ip, Default::default())
            }
            (source, destination) => {
                let octets = |address: IpAddr| match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                    IpAddr::V6(v6) => v6.octets(),
                };
                let ip = Ipv6Header {
                    payload_length: u16::try_from(length)?,
                    next_header: protocol,
                    hop_limit: 64,
                    source: octets(source),
                    destination: octets(destination),
                    ..Default::default()
                };
                IpHeaders::Ipv6(ip, Default::default())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bed::plan::{Family, client, server};

    #[test]
    fn a_tagged_syn_has_the_literal_bytes_of_its_headers() {
        let way = Way {
            from: End::RouterA(1),
            to: End::Inside(1),
            vlan: Some(100),
            source: (client(Family::V4, 0), 1000),
            destination: (server(Family::V4, 0), 80),
        };
        let frame = way.tcp(|tcp| tcp.syn = true).unwrap();
        assert_eq!(frame[..6], [2, 1, 0, 0, 0, 1]);
        assert_eq!(frame[12..18], [0x81, 0x00, 0, 100, 0x08, 0x00]);
        assert_eq!(frame[30..38], [10, 1, 0, 10, 10, 2, 0, 10]);
        assert_eq!(frame[38..42], [0x03, 0xe8, 0, 80]);
        assert_eq!(frame.len(), 14 + 4 + 20 + 20);
    }
}
