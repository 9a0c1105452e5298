//! The classifier answers as a list of rules does.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::flow::key_bytes;

fn zone_set() -> impl Strategy<Value = u16> {
    prop_oneof![Just(ANY_ZONE), 0..16_u16]
}

/// Addresses from a small world, so that rules and questions meet.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        3 => (0..4_u8, 0..4_u8, any::<u8>()).prop_map(|(a, b, c)| IpAddr::from([10, a, b, c])),
        1 => any::<[u8; 4]>().prop_map(IpAddr::from),
        2 => (0..4_u16, 0..4_u16).prop_map(|(a, b)| IpAddr::from([0x2001, 0xdb8, a, 0, 0, 0, 0, b])),
        1 => any::<[u16; 8]>().prop_map(IpAddr::from),
    ]
}

fn prefix() -> impl Strategy<Value = IpNet> {
    (address(), 0..=128_u8).prop_map(|(address, length)| {
        let length = if address.is_ipv4() { length % 33 } else { length };
        IpNet::new(address, length).unwrap()
    })
}

fn port_ranges() -> impl Strategy<Value = Vec<std::ops::RangeInclusive<u16>>> {
    let port = || prop_oneof![0..20_u16, any::<u16>(), Just(u16::MAX)];
    let range = (port(), port()).prop_map(|(a, b)| a.min(b)..=a.max(b));
    proptest::collection::vec(range, 0..3)
}

fn one_match() -> impl Strategy<Value = Match> {
    let protocols = proptest::collection::vec(prop_oneof![Just(6_u8), Just(17), Just(1), any::<u8>()], 0..3);
    (protocols, port_ranges(), port_ranges()).prop_map(|(protocols, source_ports, destination_ports)| Match {
        protocols,
        source_ports,
        destination_ports,
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let prefixes = || proptest::collection::vec(prefix(), 0..3);
    let matches = proptest::collection::vec(one_match(), 1..3);
    (zone_set(), prefixes(), prefixes(), matches).prop_map(|(zones, source, destination, matches)| Rule {
        zones,
        source,
        destination,
        matches,
        action: Action::Deny,
        terms: 0,
        local: false,
        log: false,
    })
}

fn question() -> impl Strategy<Value = Question> {
    let port = || prop_oneof![0..20_u16, any::<u16>(), Just(u16::MAX)];
    let ends = (address(), address()).prop_filter("one IP version", |(a, b)| a.is_ipv4() == b.is_ipv4());
    (0..4_u8, prop_oneof![Just(6_u8), Just(17), Just(1)], ends, port(), port()).prop_map(
        |(zone, protocol, (source, destination), source_port, destination_port)| Question {
            zone,
            protocol,
            source: key_bytes(source),
            destination: key_bytes(destination),
            source_port,
            destination_port,
        },
    )
}

proptest! {
    #[test]
    fn the_first_rule_that_matches_is_found(
        rules in proptest::collection::vec(rule(), 0..200),
        questions in proptest::collection::vec(question(), 1..50),
    ) {
        let policy = Policy::new((1, 1), &rules, Action::Allow, &[], 3).unwrap();
        let linear = Linear(rules);
        for question in questions {
            let expected = linear.first(&question).unwrap_or(linear.0.len() as u32);
            prop_assert_eq!(policy.judge(&question).rule, expected, "{:?}", question);
        }
    }
}

fn web(action: Action) -> Rule {
    Rule {
        zones: 1 << 2,
        source: vec!["10.0.0.0/8".parse().unwrap()],
        destination: vec![],
        matches: vec![Match { protocols: vec![6], destination_ports: vec![80..=80], ..Match::default() }],
        action,
        terms: 1,
        local: true,
        log: true,
    }
}

fn to_web(zone: u8) -> Question {
    Question {
        zone,
        protocol: 6,
        source: key_bytes("10.1.2.3".parse().unwrap()),
        destination: key_bytes("192.0.2.9".parse().unwrap()),
        source_port: 4000,
        destination_port: 80,
    }
}

#[test]
fn a_judgement_is_that_of_its_rule_or_the_default() {
    let rules = [web(Action::Reject), web(Action::Allow)];
    let policy = Policy::new((7, 9), &rules, Action::Deny, &[Timeouts::default()], 3).unwrap();
    let judged = policy.judge(&to_web(2));
    let expected = Judgement { rule: 0, action: Action::Reject, terms: 1, local: true, log: true };
    assert_eq!(judged, expected, "the first one counts");
    let other = policy.judge(&to_web(1));
    assert_eq!((other.rule, other.action, other.local), (2, Action::Deny, false));
}

#[test]
fn a_flow_from_anywhere_is_allowed_if_one_zone_allows_it() {
    let policy = Policy::new((1, 1), &[web(Action::Allow)], Action::Deny, &[], 3).unwrap();
    assert!(policy.judge_from_anywhere(&to_web(0)).allows());
    let less = Policy::new((1, 1), &[web(Action::Allow)], Action::Deny, &[], 1).unwrap();
    assert_eq!(less.judge_from_anywhere(&to_web(0)).action, Action::Deny, "the node has no zone 2");
}

#[test]
fn without_a_policy_everything_is_allowed() {
    let none = Policy::none();
    assert!(
        none.is_none() && none.judge(&to_web(1)).allows() && none.judge_from_anywhere(&to_web(0)).allows()
    );
}

#[test]
fn as_many_rules_as_there_is_room_for() {
    let many = vec![web(Action::Deny); axis::MEMBERS];
    let last = Policy::new((1, 1), &many, Action::Allow, &[], 3).unwrap();
    assert_eq!(last.judge(&to_web(2)).rule, 0);
    let more = vec![web(Action::Deny); axis::MEMBERS + 1];
    let refused = Policy::new((1, 1), &more, Action::Allow, &[], 3).unwrap_err();
    assert_eq!(refused.parts, axis::MEMBERS + 1);
}

#[test]
fn sessions_follow_the_times_and_the_place_their_rule_gives_them() {
    let settings = crate::session::samples::settings();
    let short = Timeouts { udp: 5_000, ..Timeouts::default() };
    let policy = Policy::new((1, 1), &[web(Action::Allow)], Action::Deny, &[short], 3).unwrap();
    let in_force = InForce::new(Arc::new(policy), Arc::new(Hits::new(1)), &settings);
    assert_eq!(in_force.settings(0, false).timeouts.udp, settings.timeouts.udp);
    assert_eq!(in_force.settings(1, false).timeouts.udp, 5_000);
    assert!(!in_force.settings(1, true).aggregation);
    assert_eq!(in_force.settings(1, false).aggregation, settings.aggregation);
    assert_eq!(in_force.settings(9, false).timeouts.udp, settings.timeouts.udp, "terms of an older policy");
}
