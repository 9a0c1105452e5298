//! Longest-prefix match over both address families.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

/// Prefixes of one routing table and what each leads to.
///
/// Cloning copies two flat arrays, so a snapshot that is still in use costs a copy, not a rebuild.
#[derive(Clone)]
pub(super) struct Lpm<T> {
    v4: PrefixMap<Ipv4Net, T>,
    v6: PrefixMap<Ipv6Net, T>,
}

impl<T> Default for Lpm<T> {
    fn default() -> Self {
        Self { v4: PrefixMap::new(), v6: PrefixMap::new() }
    }
}

impl<T: Copy> Lpm<T> {
    /// Sets what a prefix leads to and returns what it led to before. Host bits are ignored.
    pub fn insert(&mut self, prefix: IpNet, target: T) -> Option<T> {
        match prefix {
            IpNet::V4(prefix) => self.v4.insert(prefix.trunc(), target),
            IpNet::V6(prefix) => self.v6.insert(prefix.trunc(), target),
        }
    }

    /// Forgets a prefix and returns what it led to.
    pub fn remove(&mut self, prefix: IpNet) -> Option<T> {
        match prefix {
            IpNet::V4(prefix) => self.v4.remove(&prefix.trunc()),
            IpNet::V6(prefix) => self.v6.remove(&prefix.trunc()),
        }
    }

    /// The length of the longest prefix that covers `address`, and what it leads to.
    pub fn lookup(&self, address: IpAddr) -> Option<(u8, T)> {
        match address {
            IpAddr::V4(address) => {
                let (prefix, target) = self.v4.get_lpm(&Ipv4Net::from(address))?;
                Some((prefix.prefix_len(), *target))
            }
            IpAddr::V6(address) => {
                let (prefix, target) = self.v6.get_lpm(&Ipv6Net::from(address))?;
                Some((prefix.prefix_len(), *target))
            }
        }
    }

    /// Number of prefixes.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn at(lpm: &Lpm<u8>, address: &str) -> Option<(u8, u8)> {
        lpm.lookup(address.parse().unwrap())
    }

    #[test]
    fn longest_prefix_wins_and_falls_back_when_removed() {
        let mut lpm = Lpm::default();
        lpm.insert(net("0.0.0.0/0"), 1);
        lpm.insert(net("10.0.0.0/8"), 2);
        lpm.insert(net("10.1.0.9/16"), 3);
        assert_eq!(at(&lpm, "10.1.2.3"), Some((16, 3)), "host bits of a prefix are ignored");
        assert_eq!(at(&lpm, "10.2.2.3"), Some((8, 2)));
        assert_eq!(at(&lpm, "11.2.2.3"), Some((0, 1)));
        assert_eq!(lpm.remove(net("10.1.0.0/16")), Some(3));
        assert_eq!(at(&lpm, "10.1.2.3"), Some((8, 2)));
        assert_eq!(lpm.len(), 2);
    }

    #[test]
    fn families_do_not_mix() {
        let mut lpm = Lpm::default();
        lpm.insert(net("::/0"), 6);
        assert_eq!(at(&lpm, "10.0.0.1"), None);
        lpm.insert(net("2001:db8::/32"), 7);
        assert_eq!(at(&lpm, "2001:db8::1"), Some((32, 7)));
        assert_eq!(at(&lpm, "2001:db9::1"), Some((0, 6)));
    }
}
