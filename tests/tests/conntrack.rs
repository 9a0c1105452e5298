//! Situations of the kernel's own tests of connection tracking, on the kernel and on a node at the same places: they
//! agree, or the row says how they differ and the documentation why.

#[path = "conntrack/firewall.rs"]
mod firewall;
#[path = "conntrack/script.rs"]
mod script;

use std::fs;

use anyhow::{Context, Result, ensure};
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::scenario;

use firewall::{Firewall, Kind};
use script::{Line, Situation};

const SITUATIONS: &str = include_str!("conntrack/situations.txt");

/// What a node may begin: as the rules of the kernel's.
const POLICY: &str = "default = \"deny\"\n[[rule]]\nname = \"out\"\nfrom = \"inside\"\naction = \"allow\"\n";

/// Where one side does otherwise than a row says.
fn play(firewall: &Firewall, situations: &[Situation]) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (number, situation) in (0..).zip(situations) {
        let mut flow = firewall.flow(situation.family, number);
        for line in &situation.lines {
            let (expected, seen) = match line {
                Line::Packet { packet, text, samepath, kernel } => {
                    let passed =
                        flow.passes(packet).with_context(|| format!("{}: {text}", situation.name))?;
                    let word = |passes: bool| String::from(if passes { "passes" } else { "drops" });
                    let expected = if firewall.kind == Kind::Kernel { *kernel } else { *samepath };
                    (format!("{text} -> {}", word(expected)), format!("{text} -> {}", word(passed)))
                }
                Line::State { samepath, kernel } => {
                    let expected = if firewall.kind == Kind::Kernel { kernel } else { samepath };
                    (expected.clone(), flow.state()?)
                }
            };
            if expected != seen {
                wrong.push(format!("{:?}, {}: {expected:?}, but {seen:?}", firewall.kind, situation.name));
            }
        }
    }
    Ok(wrong)
}

#[test]
fn the_kernel_and_a_node_agree_or_the_difference_is_explained() -> Result<()> {
    let situations = script::read(SITUATIONS)?;
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/conntrack-differences.md"))?;
    for situation in &situations {
        let row = page.lines().find(|line| line.starts_with(&format!("| {} |", situation.name)));
        let row = row.with_context(|| format!("the page has no row of {:?}", situation.name))?;
        let agrees = row.ends_with("| agree |");
        ensure!(agrees != situation.differs(), "{row}");
    }
    let mut bed = Bed::new("conntrack", Shape::default())?;
    scenario::keep_from_hosts(&bed)?;
    let file = bed.runtime().join("policy.toml");
    fs::write(&file, POLICY)?;
    bed.start_node(1, &["--policy", &file.display().to_string()])?;
    let mut wrong = Vec::new();
    for kind in [Kind::Kernel, Kind::Samepath] {
        let firewall = Firewall::new(&bed, kind)?;
        wrong.extend(play(&firewall, &situations)?);
    }
    ensure!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
    bed.finish()
}
