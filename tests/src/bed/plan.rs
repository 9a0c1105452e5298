//! Names and addresses of the bed. Drawn in `tests/README.md`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Nodes in a bed, numbered 1..=NODES.
pub const NODES: u8 = 3;

/// Cluster id (Geneve VNI) of the bed's nodes.
pub const CLUSTER_ID: u32 = 7001;

/// UDP port of the control connections between nodes (QUIC).
pub const CONTROL_PORT: u16 = 6082;

/// UDP port of the tunnel (Geneve, RFC 8926).
pub const TUNNEL_PORT: u16 = 6081;

/// MTU of the cluster link: native XDP on veth allows about 3.5 kB, a full packet plus tunnel needs 1.6 kB.
pub const CLUSTER_MTU: u32 = 3000;

/// IP version of a test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The option of `ip`, `ping` and `curl` that asks for it.
    pub fn option(self) -> &'static str {
        match self {
            Family::V4 => "-4",
            Family::V6 => "-6",
        }
    }

    /// Prefix length of every subnet of the bed.
    fn prefix(self) -> u8 {
        match self {
            Family::V4 => 24,
            Family::V6 => 64,
        }
    }
}

/// A subnet of the bed: 10.`a`.`b`.0/24 and fd00:`a`:`b`::/64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subnet {
    a: u8,
    b: u8,
}

/// Where the client's addresses are.
pub const CLIENTS: Subnet = Subnet { a: 1, b: 0 };

/// Where the server's addresses are.
pub const SERVERS: Subnet = Subnet { a: 2, b: 0 };

/// The cluster link.
pub const CLUSTER: Subnet = Subnet { a: 9, b: 0 };

/// Link between router A and a node.
pub fn inside(node: u8) -> Subnet {
    Subnet { a: 11, b: node }
}

/// Link between router B and a node.
pub fn outside(node: u8) -> Subnet {
    Subnet { a: 12, b: node }
}

/// Last byte of a router's address in every subnet it touches.
pub const ROUTER: u8 = 1;

/// Last byte of a node's address on its router links.
pub const NODE: u8 = 2;

/// Last byte of the first address of client and server; further ones follow.
pub const FIRST_HOST: u8 = 10;

impl Subnet {
    /// The address of `host` in this subnet.
    pub fn host(self, family: Family, host: u8) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(10, self.a, self.b, host).into(),
            Family::V6 => {
                Ipv6Addr::new(0xfd00, u16::from(self.a), u16::from(self.b), 0, 0, 0, 0, u16::from(host))
                    .into()
            }
        }
    }

    /// The subnet itself, as `ip route` writes it.
    pub fn network(self, family: Family) -> String {
        format!("{}/{}", self.host(family, 0), family.prefix())
    }

    /// `host`'s address with prefix length, as `ip address` writes it.
    pub fn host_with_prefix(self, family: Family, host: u8) -> String {
        format!("{}/{}", self.host(family, host), family.prefix())
    }
}

/// The client's address number `index` (0 = first).
pub fn client(family: Family, index: u8) -> IpAddr {
    CLIENTS.host(family, FIRST_HOST + index)
}

/// The server's address number `index` (0 = first).
pub fn server(family: Family, index: u8) -> IpAddr {
    SERVERS.host(family, FIRST_HOST + index)
}

/// A node's address on the cluster link.
pub fn cluster_address(family: Family, node: u8) -> IpAddr {
    CLUSTER.host(family, node)
}

/// Which end of which link a MAC address belongs to. All are fixed so that tests can build frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Router A's end of its link to a node.
    RouterA(u8),
    /// A node's `inside`.
    Inside(u8),
    /// Router B's end of its link to a node.
    RouterB(u8),
    /// A node's `outside`.
    Outside(u8),
    /// A node's `cluster`.
    Cluster(u8),
}

impl End {
    /// The MAC address (locally administered).
    pub fn mac(self) -> [u8; 6] {
        let (kind, node) = match self {
            End::RouterA(node) => (0x0a, node),
            End::Inside(node) => (0x01, node),
            End::RouterB(node) => (0x0b, node),
            End::Outside(node) => (0x02, node),
            End::Cluster(node) => (0x0c, node),
        };
        [0x02, kind, 0, 0, 0, node]
    }

    /// [`End::mac`] as `ip link` and tshark write it.
    pub fn mac_text(self) -> String {
        self.mac().map(|byte| format!("{byte:02x}")).join(":")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_as_drawn() {
        assert_eq!(client(Family::V4, 0).to_string(), "10.1.0.10");
        assert_eq!(server(Family::V6, 1).to_string(), "fd00:2::b");
        assert_eq!(inside(3).host_with_prefix(Family::V4, NODE), "10.11.3.2/24");
        assert_eq!(CLUSTER.network(Family::V6), "fd00:9::/64");
        assert_eq!(End::Outside(2).mac_text(), "02:02:00:00:00:02");
    }
}
