//! Which of the nodes that are there make up the cluster: the same answer on every node that has the same rows.
//!
//! A redirected packet may have to go from any member to any other, so members are nodes that hear each other,
//! all of them. Where a pair does not, the node with the fewest links leaves, until the rest hear each other. Of two with
//! equally many it is the one that takes no flows yet (a newcomer and a member hear each other one after the other: the
//! member must not go for that), then the one with the higher number.

use samepath_dataplane::flow::NodeId;

/// The members among `nodes`, ascending. `serves(a)`: `a` takes flows. `hears(a, b)`: packets of `b` reach `a`.
pub fn agree(
    nodes: &[NodeId],
    serves: impl Fn(NodeId) -> bool,
    hears: impl Fn(NodeId, NodeId) -> bool,
) -> Vec<NodeId> {
    let mut left = nodes.to_vec();
    left.sort_unstable();
    left.dedup();
    loop {
        let links = |node: NodeId| {
            left.iter().filter(|&&other| other != node && hears(node, other) && hears(other, node)).count()
        };
        let worst = left.iter().map(|&node| (links(node), serves(node), std::cmp::Reverse(node))).min();
        match worst {
            Some((links, _, std::cmp::Reverse(node))) if links + 1 < left.len() => {
                left.retain(|&other| other != node);
            }
            _ => return left,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The members of nodes 1 to `count` where these pairs (hearer, speaker) do not hear each other.
    fn members(count: u16, deaf: &[(u16, u16)]) -> Vec<u16> {
        with_newcomers(count, &[], deaf)
    }

    fn with_newcomers(count: u16, newcomers: &[u16], deaf: &[(u16, u16)]) -> Vec<u16> {
        let nodes: Vec<NodeId> = (1..=count).rev().map(NodeId).collect();
        let serves = |node: NodeId| !newcomers.contains(&node.0);
        agree(&nodes, serves, |a, b| !deaf.contains(&(a.0, b.0))).into_iter().map(|node| node.0).collect()
    }

    #[test]
    fn a_newcomer_that_does_not_hear_a_member_yet_does_not_displace_it() {
        assert_eq!(with_newcomers(3, &[1], &[(1, 3)]), [2, 3]);
        assert_eq!(with_newcomers(3, &[1], &[(3, 1)]), [2, 3]);
        assert_eq!(with_newcomers(4, &[2], &[(2, 4)]), [1, 3, 4]);
        assert_eq!(with_newcomers(3, &[1, 2, 3], &[(1, 3)]), [1, 2], "all are new: as ever");
    }

    #[test]
    fn who_leaves_when_a_pair_is_cut() {
        assert_eq!(members(3, &[]), [1, 2, 3]);
        assert_eq!(members(3, &[(1, 3)]), [1, 2], "one way is enough");
        assert_eq!(members(3, &[(3, 1), (1, 3)]), [1, 2], "the higher number of two that are equally bad");
        assert_eq!(members(4, &[(1, 2), (1, 3)]), [2, 3, 4], "the one that hears least");
        assert_eq!(members(4, &[(1, 2), (3, 4)]), [1, 3], "one of each pair");
        assert_eq!(members(2, &[(1, 2)]), [1]);
        assert_eq!(members(1, &[]), [1]);
    }
}
