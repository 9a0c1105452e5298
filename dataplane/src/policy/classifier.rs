//! Which rule is the first to match, without asking all of them: each dimension gives the set of rules that fit,
//! a bit per rule; the first bit that is in all of them is the answer.
//!
//! Summaries come first: only words of 64 rules that no dimension has empty are looked at. A policy that fits one word has
//! that word by interval and needs no summaries.

use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::axis::{Axis, Extent, MEMBERS, Row, SUMMARY};
use super::rule::{ANY_ZONE, Match, Question, Rule};
use crate::flow::MAPPED_PREFIX;

/// More rules than there is room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the policy has {parts} rules (one with two kinds of ICMP counts twice): there is room for {MEMBERS}; make prefixes and port lists of rules that say the same"
)]
pub struct TooManyRules {
    /// What the rules are made of.
    pub parts: usize,
}

/// A part of a rule: what matches is in all its sets.
struct Part<'a> {
    rule: &'a Rule,
    one: &'a Match,
}

#[derive(Debug)]
pub(super) struct Classifier {
    zones: Axis<u8>,
    protocols: Axis<u8>,
    source_ports: Axis<u16>,
    destination_ports: Axis<u16>,
    v4: [Axis<u32>; 2],
    v6: [Axis<u128>; 2],
    /// The rule of each part.
    rule_of: Vec<u32>,
}

impl Classifier {
    pub(super) fn new(rules: &[Rule]) -> Result<Self, TooManyRules> {
        let of_rule = |rule| move |one| Part { rule, one };
        let parts: Vec<Part<'_>> =
            rules.iter().flat_map(|rule| rule.matches.iter().map(of_rule(rule))).collect();
        if parts.len() > MEMBERS {
            return Err(TooManyRules { parts: parts.len() });
        }
        let numbers = rules.iter().zip(0..);
        let rule_of =
            numbers.flat_map(|(rule, number)| std::iter::repeat_n(number, rule.matches.len())).collect();
        Ok(Self {
            zones: axis(&parts, |part| zones(part.rule.zones)),
            protocols: axis(&parts, |part| list(part.one.protocols.iter().map(|&one| (one, one)))),
            source_ports: axis(&parts, |part| ports(&part.one.source_ports)),
            destination_ports: axis(&parts, |part| ports(&part.one.destination_ports)),
            v4: [axis(&parts, |part| v4(&part.rule.source)), axis(&parts, |part| v4(&part.rule.destination))],
            v6: [axis(&parts, |part| v6(&part.rule.source)), axis(&parts, |part| v6(&part.rule.destination))],
            rule_of,
        })
    }

    /// Index of the first rule that matches.
    pub(super) fn first(&self, question: &Question) -> Option<u32> {
        let part = if self.rule_of.len() <= 64 {
            let fit = self.few(question);
            (fit != 0).then(|| fit.trailing_zeros() as usize)
        } else {
            self.first_of_many(question)
        };
        Some(self.rule_of[part?])
    }

    /// Every part that matches, a bit each; there are at most 64.
    fn few(&self, question: &Question) -> u64 {
        let addresses = match v4_ends(question) {
            Some(ends) => self.v4[0].first_word(ends[0]) & self.v4[1].first_word(ends[1]),
            None => {
                let [source, destination] = [question.source, question.destination].map(u128::from_be_bytes);
                self.v6[0].first_word(source) & self.v6[1].first_word(destination)
            }
        };
        addresses
            & self.destination_ports.first_word(question.destination_port)
            & self.source_ports.first_word(question.source_port)
            & self.protocols.first_word(question.protocol)
            & self.zones.first_word(question.zone)
    }

    fn first_of_many(&self, question: &Question) -> Option<usize> {
        let [source, destination] = self.addresses(question);
        first_in_all(&[
            source,
            destination,
            self.destination_ports.row(question.destination_port),
            self.source_ports.row(question.source_port),
            self.protocols.row(question.protocol),
            self.zones.row(question.zone),
        ])
    }

    fn addresses(&self, question: &Question) -> [Row<'_>; 2] {
        match v4_ends(question) {
            Some(ends) => [0, 1].map(|end| self.v4[end].row(ends[end])),
            None => {
                let ends = [question.source, question.destination];
                [0, 1].map(|end| self.v6[end].row(u128::from_be_bytes(ends[end])))
            }
        }
    }

    /// Bytes taken.
    pub(super) fn bytes(&self) -> usize {
        let numbers = self.zones.bytes() + self.protocols.bytes();
        let ports = self.source_ports.bytes() + self.destination_ports.bytes();
        let v4: usize = self.v4.iter().map(Axis::bytes).sum();
        let v6: usize = self.v6.iter().map(Axis::bytes).sum();
        numbers + ports + v4 + v6 + self.rule_of.len() * 4
    }
}

/// Source and destination, if both are IPv4.
#[inline]
fn v4_ends(question: &Question) -> Option<[u32; 2]> {
    let ends = [question.source, question.destination];
    let is_v4 = ends.iter().all(|end| end[..12] == MAPPED_PREFIX);
    is_v4.then(|| ends.map(|[.., a, b, c, d]| u32::from_be_bytes([a, b, c, d])))
}

/// The lowest member that all sets have.
#[inline]
fn first_in_all(rows: &[Row<'_>; 6]) -> Option<usize> {
    for part in 0..SUMMARY {
        let mut both = rows.iter().fold(u64::MAX, |all, row| all & row.summary[part]);
        while both != 0 {
            let bit = both.trailing_zeros();
            both &= both - 1;
            let word = rows.iter().fold(u64::MAX, |all, row| all & row.word(part, bit));
            if word != 0 {
                return Some((part * 64 + bit as usize) * 64 + word.trailing_zeros() as usize);
            }
        }
    }
    None
}

fn axis<'a, V: super::axis::Value>(
    parts: &'a [Part<'a>],
    extent: impl FnMut(&'a Part<'a>) -> Extent<V>,
) -> Axis<V> {
    Axis::new(&parts.iter().map(extent).collect::<Vec<_>>())
}

/// An empty list holds everywhere.
fn list<V>(ranges: impl Iterator<Item = (V, V)>) -> Extent<V> {
    let ranges: Vec<(V, V)> = ranges.collect();
    Extent { everywhere: ranges.is_empty(), ranges }
}

fn zones(zones: u16) -> Extent<u8> {
    let ranges = (0..16).filter(|zone| zones >> zone & 1 == 1).map(|zone| (zone, zone)).collect();
    Extent { everywhere: zones == ANY_ZONE, ranges }
}

fn ports(ranges: &[RangeInclusive<u16>]) -> Extent<u16> {
    list(ranges.iter().map(|range| (*range.start(), *range.end())))
}

fn v4(prefixes: &[IpNet]) -> Extent<u32> {
    let of_v4 = |prefix: &IpNet| match prefix {
        IpNet::V4(v4) => Some((u32::from(v4.network()), u32::from(v4.broadcast()))),
        IpNet::V6(_) => None,
    };
    Extent { everywhere: prefixes.is_empty(), ranges: prefixes.iter().filter_map(of_v4).collect() }
}

fn v6(prefixes: &[IpNet]) -> Extent<u128> {
    let of_v6 = |prefix: &IpNet| match prefix {
        IpNet::V6(v6) => Some((u128::from(v6.network()), u128::from(v6.broadcast()))),
        IpNet::V4(_) => None,
    };
    Extent { everywhere: prefixes.is_empty(), ranges: prefixes.iter().filter_map(of_v6).collect() }
}
