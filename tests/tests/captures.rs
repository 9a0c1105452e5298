//! Captures nobody here wrote, through our parser, etherparse and the XDP program.

#[path = "captures/agreement.rs"]
mod agreement;
#[path = "captures/files.rs"]
mod files;
#[path = "captures/oracle.rs"]
mod oracle;
#[path = "captures/steering.rs"]
mod steering;

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use samepath_dataplane::wire::flow_hash::FlowHasher;

use agreement::Difference;
use files::{Totals, say};
use steering::Twins;

/// Disagreements shown before the rest is only counted.
const SHOWN: usize = 25;

/// Frames of each file that are also shown tunnelled and damaged: two files hold 75,000 that hardly
/// differ, and a test-run costs 50 µs.
const VARIED: usize = 500;

/// Disagreements without a reason.
#[derive(Default)]
struct Disagreements {
    count: usize,
    shown: Vec<String>,
}

impl Disagreements {
    fn note(&mut self, file: &str, number: usize, text: &str) {
        self.count += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(format!("{file} frame {number}: {text}"));
        }
    }

    fn check(&self) {
        assert!(
            self.count == 0,
            "{} frames disagree, the first of them:\n{}",
            self.count,
            self.shown.join("\n")
        );
    }
}

fn print(totals: &Totals) {
    let other: usize = totals.other_files.values().sum();
    say(&format!("{} frames in {} files with Ethernet", totals.frames, totals.ethernet_files));
    say(&format!(
        "skipped: {other} files of other link types {:?}, {} frames of others, {} files without frames",
        totals.other_files, totals.other_frames, totals.empty_files
    ));
    for broken in &totals.broken_files {
        say(&format!("read up to an error: {broken}"));
    }
}

#[test]
fn parser_agrees_with_etherparse() -> Result<()> {
    let Some(folder) = files::folder("parser_agrees_with_etherparse") else { return Ok(()) };
    let hasher = FlowHasher::new(1);
    let mut differences: BTreeMap<Difference, usize> = BTreeMap::new();
    let mut disagreements = Disagreements::default();
    let totals =
        files::each_frame(&folder, |file, number, frame| match agreement::compare(frame, &hasher) {
            Ok(None) => {}
            Ok(Some(difference)) => *differences.entry(difference).or_default() += 1,
            Err(text) => disagreements.note(file, number, &text),
        })?;
    print(&totals);
    for (difference, count) in &differences {
        say(&format!("{count:>6} {difference:?}: {}", difference.reason()));
    }
    disagreements.check();
    assert!(totals.frames > 0, "no Ethernet frame in {}", folder.display());
    Ok(())
}

#[test]
fn xdp_program_agrees_with_its_twin() -> Result<()> {
    let Some(folder) = files::folder("xdp_program_agrees_with_its_twin") else { return Ok(()) };
    let mut twins = Twins::load()?;
    let mut seen: HashSet<Vec<u8>> = HashSet::new();
    let mut repeated = 0;
    let mut disagreements = Disagreements::default();
    let totals = files::each_frame(&folder, |file, number, frame| {
        if !seen.insert(frame.to_vec()) {
            repeated += 1;
            return;
        }
        let mut note = |what: &str, outcome: Result<(), String>| {
            if let Err(text) = outcome {
                disagreements.note(file, number, &format!("{what}: {text}"));
            }
        };
        note("as it is", twins.compare(frame));
        if number <= VARIED {
            note("tunnelled", twins.compare_tunnelled(frame));
            note("damaged", twins.compare(&damaged(frame, seen.len() as u64)));
        }
    })?;
    print(&totals);
    say(&format!("skipped: {repeated} frames equal to an earlier one"));
    say(&format!("skipped: {} frames of a length the kernel's test-run does not take", twins.untestable));
    say(&format!(
        "every other frame as it is, {VARIED} of each file tunnelled and damaged: {:?}",
        twins.outcomes
    ));
    disagreements.check();
    for outcome in ["no_socket", "drop_malformed", "drop_tunnel_malformed", "pass_not_ip"] {
        assert!(twins.outcomes.contains_key(outcome), "no frame met {outcome}");
    }
    Ok(())
}

/// The frame with up to three bytes of its headers changed; which and how follows from `seed`.
fn damaged(frame: &[u8], seed: u64) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..=seed % 3 {
        // xorshift64 (G. Marsaglia, "Xorshift RNGs")
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Not the link addresses, and mostly the headers.
        let headers = frame.len().min(110).saturating_sub(12).max(1);
        if let Some(byte) = frame.get_mut(12 + (state >> 8) as usize % headers) {
            *byte = (state >> 40) as u8;
        }
    }
    frame
}
