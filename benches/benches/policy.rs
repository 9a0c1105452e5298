//! What a first packet pays for the policy: the classifier beside a plain list of rules, by number of rules. Prints
//! the memory and the time to compile, too.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use ipnet::{IpNet, Ipv4Net};
use samepath_benches::criterion;
use samepath_dataplane::flow::key_bytes;
use samepath_dataplane::policy::{ANY_ZONE, Action, Linear, Match, Policy, Question, Rule};

/// Numbers without pattern (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A network within 10.0.0.0/8, a host in two of three cases.
    fn prefix(&mut self) -> IpNet {
        let address = Ipv4Addr::from(10 << 24 | self.below(1 << 24) as u32);
        let length = [32, 32, 24, 16][self.below(4) as usize];
        IpNet::V4(Ipv4Net::new(address, length).expect("a length of IPv4").trunc())
    }
}

/// Rules as firewalls have them: mostly one service of one host for some network, some for all sources, some for
/// all destinations.
fn rules(count: u64) -> Vec<Rule> {
    let mut numbers = Numbers(count);
    let rule = |_| {
        let any = numbers.below(10);
        let protocol = if numbers.below(4) == 0 { 17 } else { 6 };
        let port = numbers.below(2000) as u16;
        let last = if numbers.below(8) == 0 { port + 100 } else { port };
        Rule {
            zones: if numbers.below(2) == 0 { ANY_ZONE } else { 1 << (1 + numbers.below(3)) },
            source: if any < 3 { vec![] } else { vec![numbers.prefix()] },
            destination: if any == 9 { vec![] } else { vec![numbers.prefix()] },
            matches: vec![Match {
                protocols: vec![protocol],
                destination_ports: vec![port..=last],
                ..Match::default()
            }],
            action: Action::Allow,
            terms: 0,
            local: false,
            log: false,
        }
    };
    (0..count).map(rule).collect()
}

/// Half of the questions are answered by a rule somewhere in the list, half by none.
fn questions(rules: &[Rule]) -> Vec<Question> {
    let mut numbers = Numbers(7);
    let within = |prefixes: &[IpNet], number: u64| -> IpAddr {
        prefixes.first().map_or(Ipv4Addr::from(10 << 24 | number as u32 & 0xff_ffff).into(), IpNet::addr)
    };
    let question = |at: usize| {
        let rule = &rules[numbers.below(rules.len() as u64) as usize];
        let one = &rule.matches[0];
        let missed = u16::from(at % 2 == 1) * 30_000;
        Question {
            zone: if rule.zones == ANY_ZONE { 1 } else { rule.zones.trailing_zeros() as u8 },
            protocol: one.protocols[0],
            source: key_bytes(within(&rule.source, numbers.next())),
            destination: key_bytes(within(&rule.destination, numbers.next())),
            source_port: 40_000,
            destination_port: one.destination_ports[0].start() + missed,
        }
    };
    (0..4096).map(question).collect()
}

fn main() {
    let mut criterion = criterion();
    let mut group = criterion.benchmark_group("policy");
    for count in [10, 100, 1_000, 10_000] {
        let rules = rules(count);
        let questions = questions(&rules);
        let begun = Instant::now();
        let policy = Policy::new((1, 1), &rules, Action::Deny, &[], 3).expect("room for 10,000 rules");
        println!("policy/{count}: {} KiB, compiled in {:?}", policy.bytes() / 1024, begun.elapsed());
        let linear = Linear(rules);
        for question in &questions {
            let expected = linear.first(question).unwrap_or(count as u32);
            assert_eq!(policy.judge(question).rule, expected, "the same answer");
        }
        let mut at = 0;
        let mut next = || {
            at = (at + 1) % questions.len();
            &questions[at]
        };
        group.bench_function(format!("classifier/{count}"), |bencher| {
            bencher.iter(|| policy.judge(black_box(next())));
        });
        group.bench_function(format!("linear/{count}"), |bencher| {
            bencher.iter(|| linear.first(black_box(next())));
        });
    }
    group.finish();
    criterion.final_summary();
}
