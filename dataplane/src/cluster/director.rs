//! Who decides who owns a flow: a keyed hash of its two addresses picks a bucket, rendezvous hashing
//! over the members tabulates the buckets. Specified byte for byte in `docs/protocol.md`.
//!
//! This hash is the one all nodes must agree on; the hash inside the session table is another one,
//! private and random.

use siphasher::sip::SipHasher24;

use crate::cluster::view::Member;
use crate::flow::{FlowKey, NodeId};
use crate::limits::BUCKETS;

/// Version of the hash; nodes with different ones refuse to join each other.
pub const DIRECTOR_HASH_VERSION: u8 = 1;

/// Bytes of the hash's message up to the higher address.
const PAIR: usize = 34;

/// Which parts of a flow choose its Director.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum DirectorHash {
    /// The two addresses: all flows between two hosts, their fragments and errors share a Director.
    #[default]
    IpPair = 1,
    /// Addresses, ports and protocol: spreads the flows of one pair.
    FiveTuple = 2,
}

/// The cluster's key for the Director hash (SipHash-2-4).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DirectorKey(pub [u8; 16]);

impl std::fmt::Debug for DirectorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DirectorKey(..)")
    }
}

/// The bucket table of one view.
#[derive(Clone)]
pub struct Director {
    hash: DirectorHash,
    key: DirectorKey,
    buckets: Box<[NodeId]>,
}

impl std::fmt::Debug for Director {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Director").field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl Director {
    /// Tabulates the buckets for `members` (ascending, at least one with a weight above 0, otherwise
    /// all count as 1).
    pub fn new(members: &[Member], hash: DirectorHash, key: &DirectorKey) -> Self {
        let shares = shares_of(members);
        let buckets = (0..BUCKETS).map(|bucket| winner(bucket as u16, &shares, key)).collect();
        Self { hash, key: *key, buckets }
    }

    /// The Director of a flow.
    pub fn of(&self, flow: &FlowKey) -> NodeId {
        self.buckets[usize::from(self.bucket(flow))]
    }

    /// The bucket of a flow: the top 16 bits of SipHash-2-4 over the version byte, the mode byte, the
    /// lower address, the higher address and, for `five-tuple`, protocol and ports.
    pub fn bucket(&self, flow: &FlowKey) -> u16 {
        // In one piece: fed bit by bit the hash takes twice the instructions.
        let mut message = [0; PAIR + 5];
        [message[0], message[1]] = [DIRECTOR_HASH_VERSION, self.hash as u8];
        message[2..18].copy_from_slice(&flow.lo);
        message[18..PAIR].copy_from_slice(&flow.hi);
        let length = match self.hash {
            DirectorHash::IpPair => PAIR,
            DirectorHash::FiveTuple => {
                message[PAIR] = flow.proto();
                message[PAIR + 1..PAIR + 3].copy_from_slice(&flow.lo_port.to_be_bytes());
                message[PAIR + 3..].copy_from_slice(&flow.hi_port.to_be_bytes());
                message.len()
            }
        };
        (SipHasher24::new_with_key(&self.key.0).hash(&message[..length]) >> 48) as u16
    }

    /// `members` in the order in which they would be Director of `bucket`, the Director first: the
    /// one that follows takes over when those before it die.
    pub fn ranking(&self, bucket: u16, members: &[Member]) -> Vec<NodeId> {
        let mut left = shares_of(members);
        let mut order = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let next = winner(bucket, &left, &self.key);
            // Members of weight 0 draw no score and come last.
            let next = if next == NodeId(0) { left[0].0 } else { next };
            left.retain(|&(node, _)| node != next);
            order.push(next);
        }
        order
    }

    /// Which parts of a flow are hashed.
    pub fn mode(&self) -> DirectorHash {
        self.hash
    }

    /// Buckets held by `node`.
    pub fn share(&self, node: NodeId) -> usize {
        self.buckets.iter().filter(|&&holder| holder == node).count()
    }
}

/// Nodes and weights; where nobody has a weight all count as 1.
fn shares_of(members: &[Member]) -> Vec<(NodeId, u8)> {
    let idle = members.iter().all(|member| member.weight == 0);
    members.iter().map(|member| (member.node, if idle { 1 } else { member.weight })).collect()
}

/// Highest score wins a bucket; a member of weight w draws w scores (integers only, so that every
/// machine agrees); equal scores go to the higher node id.
fn winner(bucket: u16, shares: &[(NodeId, u8)], key: &DirectorKey) -> NodeId {
    shares
        .iter()
        .flat_map(|&(node, weight)| (0..weight).map(move |draw| (node, draw)))
        .map(|(node, draw)| (score(bucket, node, draw, key), node))
        .max()
        .map_or(NodeId(0), |(_, node)| node)
}

fn score(bucket: u16, node: NodeId, draw: u8, key: &DirectorKey) -> u64 {
    let ([b0, b1], [n0, n1]) = (bucket.to_be_bytes(), node.0.to_be_bytes());
    let message = [b'h', b'r', b'w', DIRECTOR_HASH_VERSION, draw, b0, b1, n0, n1];
    SipHasher24::new_with_key(&key.0).hash(&message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{key_bytes, proto};

    #[test]
    fn ranking_is_the_order_of_takeover() {
        let key = DirectorKey([3; 16]);
        let member = |node, weight| Member { node: NodeId(node), weight };
        let all = [member(1, 1), member(2, 4), member(3, 1)];
        let director = Director::new(&all, DirectorHash::IpPair, &key);
        for bucket in (0..BUCKETS).step_by(1009) {
            let order = director.ranking(bucket as u16, &all);
            assert_eq!(order[0], director.buckets[bucket]);
            let survivors: Vec<Member> = all.iter().copied().filter(|m| m.node != order[0]).collect();
            let after = Director::new(&survivors, DirectorHash::IpPair, &key);
            assert_eq!(order[1], after.buckets[bucket]);
        }
    }

    /// Key 00 01 02 … 0f.
    const KEY: DirectorKey = DirectorKey([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

    fn flow(source: (&str, u16), destination: (&str, u16), proto: u8) -> FlowKey {
        let end = |(address, port): (&str, u16)| (key_bytes(address.parse().unwrap()), port);
        FlowKey::new(end(source), end(destination), proto, (0, 0)).0
    }

    fn members(weights: [u8; 3]) -> Vec<Member> {
        (1..).zip(weights).map(|(node, weight)| Member { node: NodeId(node), weight }).collect()
    }

    /// A flow; then for ip-pair and for five-tuple: bucket, Director of nodes 1, 2, 3 with weight 1
    /// each, and with weights 1, 4, 0.
    type Vector = (FlowKey, (u16, u16, u16), (u16, u16, u16));

    /// The vectors of `docs/protocol.md`, computed by another implementation of SipHash-2-4.
    fn vectors() -> [Vector; 5] {
        let web = flow(("10.0.0.1", 4000), ("192.0.2.9", 80), proto::TCP);
        let dns = flow(("203.0.113.7", 53), ("198.51.100.200", 5353), proto::UDP);
        let echo = flow(("10.0.0.1", 0x1234), ("10.0.0.2", 0x1234), proto::ICMP);
        let web6 = flow(("2001:db8::1", 4000), ("2001:db8:ffff::2", 443), proto::TCP);
        let ike6 = flow(("fd00::2", 500), ("fd00::1", 500), proto::UDP);
        [
            (web, (0xd572, 3, 2), (0xd018, 3, 2)),
            (dns, (0xaefc, 1, 1), (0xbc00, 1, 2)),
            (echo, (0xd71b, 3, 2), (0xbf4e, 1, 2)),
            (web6, (0x1c8b, 3, 2), (0x609d, 3, 1)),
            (ike6, (0x6a24, 2, 2), (0xf8a3, 1, 1)),
        ]
    }

    #[test]
    fn vectors_of_the_protocol_page() {
        for mode in [DirectorHash::IpPair, DirectorHash::FiveTuple] {
            let equal = Director::new(&members([1, 1, 1]), mode, &KEY);
            let weighted = Director::new(&members([1, 4, 0]), mode, &KEY);
            for (flow, ip_pair, five_tuple) in vectors() {
                let expected = if mode == DirectorHash::IpPair { ip_pair } else { five_tuple };
                let found = (equal.bucket(&flow), equal.of(&flow).0, weighted.of(&flow).0);
                assert_eq!(found, expected, "{mode:?} {flow:?}");
            }
        }
    }

    #[test]
    fn ip_pair_ignores_ports_and_protocol() {
        let of = |hash| Director::new(&members([1, 1, 1]), hash, &KEY);
        let tcp = flow(("10.0.0.1", 4000), ("192.0.2.9", 80), proto::TCP);
        let echo = flow(("192.0.2.9", 7), ("10.0.0.1", 7), proto::ICMP);
        let ip_pair = of(DirectorHash::IpPair);
        assert_eq!(ip_pair.bucket(&tcp), ip_pair.bucket(&echo));
        let five_tuple = of(DirectorHash::FiveTuple);
        assert_ne!(five_tuple.bucket(&tcp), five_tuple.bucket(&echo));
    }

    #[test]
    fn a_death_moves_only_the_dead_members_buckets() {
        let all = members([1, 1, 1]);
        let before = Director::new(&all, DirectorHash::IpPair, &KEY);
        let after = Director::new(&all[..2], DirectorHash::IpPair, &KEY);
        for (then, now) in before.buckets.iter().zip(&after.buckets) {
            assert!(then == now || *then == NodeId(3), "{then} gave a bucket to {now}");
        }
    }

    #[test]
    fn shares_follow_weights() {
        let of = |weights| Director::new(&members(weights), DirectorHash::IpPair, &KEY);
        let (equal, weighted, idle) = (of([1, 1, 1]), of([1, 4, 0]), of([0, 0, 0]));
        for node in (1..=3).map(NodeId) {
            assert!(equal.share(node).abs_diff(BUCKETS / 3) < BUCKETS / 100);
            assert_eq!(idle.share(node), equal.share(node));
        }
        assert!(weighted.share(NodeId(2)).abs_diff(BUCKETS * 4 / 5) < BUCKETS / 100);
        assert_eq!(weighted.share(NodeId(3)), 0);
    }

    #[test]
    fn another_key_means_other_directors() {
        let of = |key: &DirectorKey| -> Vec<NodeId> {
            let director = Director::new(&members([1, 1, 1]), DirectorHash::FiveTuple, key);
            let flow = |port| flow(("10.0.0.1", port), ("192.0.2.9", 80), proto::TCP);
            (0..64).map(|port| director.of(&flow(port))).collect()
        };
        assert_ne!(of(&KEY), of(&DirectorKey([1; 16])));
    }
}
