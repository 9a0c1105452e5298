//! Stories of flows, from what nodes say.

use super::{Flow, NodeWhy, Said, Silent, Why, merge};
use crate::operator::api::{Role, SessionRow};

fn flow() -> Flow {
    Flow {
        proto: 17,
        src: "10.1.0.5".parse().unwrap(),
        sport: 4000,
        dst: "10.2.0.9".parse().unwrap(),
        dport: 53,
        vlan: 0,
        inner_vlan: 0,
        zone: Some("inside".into()),
        ingress: Some(1),
    }
}

fn said(verdict: &'static str, to: Option<u16>) -> Said {
    let generation = to.map(|_| 1);
    Said { verdict: verdict.into(), to, generation, ..Said::default() }
}

/// A node that knows nothing; node 2 directs.
fn stranger(node: u16) -> NodeWhy {
    let query = || said("query", Some(2));
    NodeWhy {
        node,
        epoch: 5,
        bucket: 77,
        candidates: vec![2, 3, 1],
        former: None,
        aggregation: true,
        session: None,
        policy: None,
        arrives: query(),
        later: Some(query()),
        asked: (node != 1).then(|| said("first_packet", Some(1))),
        looked_up: (node != 1).then(|| said("drop", None)),
        granted: Some(said("forward", None)),
        way: Default::default(),
    }
}

fn knowing(node: u16, role: Role, owner: u16, generation: u32) -> NodeWhy {
    let own = role == Role::Owner;
    let arrives = if own { said("forward", None) } else { said("redirect", Some(owner)) };
    let session = SessionRow {
        proto: "udp".into(),
        src: flow().src,
        dst: flow().dst,
        sport: 4000,
        dport: 53,
        vlan: 0,
        inner_vlan: 0,
        state: "ASSURED".into(),
        role,
        owner,
        generation,
        age_s: 3,
        timeout_s: 117,
        packets: 4,
        bytes: 300,
    };
    NodeWhy {
        session: Some(session),
        asked: (node != 1).then(|| arrives.clone()),
        arrives,
        later: None,
        granted: None,
        ..stranger(node)
    }
}

fn path(why: &Why) -> Vec<(u16, &str)> {
    why.path.iter().map(|step| (step.node, &*step.said.verdict)).collect()
}

#[test]
fn the_first_packet_of_an_unknown_flow_goes_to_its_director_and_back() {
    let why = merge(flow(), vec![stranger(3), stranger(1), stranger(2)], Vec::new());
    assert_eq!((why.director, why.successor, why.owner), (2, Some(3), None));
    assert_eq!(path(&why), [(1, "query"), (2, "first_packet"), (1, "forward")]);
    assert!(why.agreed && why.backups.is_empty());
    assert_eq!(why.story[1], "no node that answered knows the flow");
    assert_eq!(why.nodes.iter().map(|node| node.node).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_reply_that_meets_no_backup_is_redirected_by_the_director() {
    let nodes = vec![stranger(1), knowing(2, Role::Claim, 3, 1), knowing(3, Role::Owner, 3, 1)];
    let why = merge(flow(), nodes, Vec::new());
    assert_eq!(path(&why), [(1, "query"), (2, "redirect"), (3, "forward")]);
    assert_eq!((why.owner, why.generation), (Some(3), Some(1)));
    assert!(why.story[1].contains("node 2 granted it"), "{}", why.story[1]);
}

#[test]
fn an_owner_that_does_not_answer_is_known_by_others() {
    let silent = vec![Silent { node: 3, reason: "no answer within 1000 ms".into() }];
    let why = merge(flow(), vec![knowing(1, Role::Backup, 3, 2), knowing(2, Role::Backup, 3, 2)], silent);
    assert_eq!((why.owner, why.generation, &why.backups[..]), (Some(3), Some(2), &[1, 2][..]));
    assert_eq!(path(&why), [(1, "redirect")]);
    let all = why.story.join("\n");
    assert!(all.contains("as others say") && all.contains("node 3 did not answer"), "{all}");
}

#[test]
fn a_packet_that_may_begin_nothing_is_looked_up() {
    let lookup = || said("lookup", Some(2));
    let denied = NodeWhy { arrives: lookup(), later: Some(lookup()), ..stranger(1) };
    let why = merge(flow(), vec![denied, stranger(2)], Vec::new());
    assert_eq!(path(&why), [(1, "lookup"), (2, "drop")]);
}

#[test]
fn two_owners_are_a_disagreement_and_the_higher_generation_counts() {
    let why = merge(flow(), vec![knowing(1, Role::Owner, 1, 1), knowing(2, Role::Owner, 2, 2)], Vec::new());
    assert_eq!((why.owner, why.generation, why.agreed), (Some(2), Some(2), false));
    let other_view = NodeWhy { candidates: vec![3], epoch: 4, ..stranger(2) };
    let why = merge(flow(), vec![stranger(1), other_view], Vec::new());
    assert_eq!((why.director, why.agreed), (2, false));
}

#[test]
fn a_flow_reads_as_it_is_written() {
    assert_eq!(flow().to_string(), "udp 10.1.0.5:4000 → 10.2.0.9:53 in zone inside");
    let v6 = Flow { src: "2001:db8::1".parse().unwrap(), vlan: 7, zone: None, ..flow() };
    assert_eq!(v6.to_string(), "udp [2001:db8::1]:4000 → 10.2.0.9:53 vlan 7");
}
