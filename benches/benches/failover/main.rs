//! What connections notice when nodes die, sleep, are cut off, restart or are drained: many repetitions of every case
//! of the end-to-end tests (`tests/src/scenario/failover.rs`), on a cluster of three in network namespaces; and the
//! death of a machine beside two kernel firewalls with conntrackd and keepalived, in turn.

mod account;
mod rival;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use samepath_benches::firewall_pair::Paths;
use samepath_benches::report::Report;
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::scenario::failover::{Case, Stage, Traffic};
use samepath_tests::traffic::lasting::Told;

use account::Play;
use rival::{Played, Setting};

/// How often what goes before a play is tried.
const TRIES: u32 = 3;

/// How the bench is called.
#[derive(Parser, Debug)]
struct Arguments {
    /// Repetitions of each case, in turn.
    #[arg(long, default_value_t = 50)]
    reps: u32,
    /// Adds to the last figures instead of replacing them.
    #[arg(long)]
    keep: bool,
    /// What is played: the cases, the machine's death beside the rival, or both.
    #[arg(long, value_delimiter = ',', default_values = ["cases", "rival"])]
    parts: Vec<Part>,
    /// Cases; all of them if none is named.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<Case>,
    /// Membership is written in an etcd, and the cases are those with it: also its own death.
    #[arg(long)]
    etcd: bool,
    /// How soon deaths are noticed in the part `rival`.
    #[arg(long, value_delimiter = ',', default_values = ["default", "fast"])]
    settings: Vec<Setting>,
    /// TCP connections of a case, besides a download.
    #[arg(long, default_value_t = 200)]
    tcp: usize,
    /// UDP flows of a case, a datagram each 10 ms.
    #[arg(long, default_value_t = 16)]
    udp: usize,
    /// TCP connections of the part `rival` that say something every three seconds, besides those of a case.
    #[arg(long, default_value_t = 10_000)]
    flows: usize,
    /// Seconds a node sleeps or a link is cut.
    #[arg(long, default_value_t = 10.0)]
    harm: f64,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Part {
    Cases,
    Rival,
}

impl Arguments {
    fn cases(&self) -> Vec<Case> {
        if !self.cases.is_empty() {
            return self.cases.clone();
        }
        Case::ALL.into_iter().filter(|&case| self.etcd || case != Case::EtcdAway).collect()
    }

    fn traffic(&self) -> Traffic {
        let harm = Duration::from_secs_f64(self.harm);
        Traffic { tcp: self.tcp, udp: self.udp, harm, ..Traffic::default() }
    }

    /// Connections that must not fall silent for more than a moment, and many that only must not be lost.
    fn rival_traffic(&self) -> Traffic {
        Traffic { tcp_pause_ms: 30, quiet: self.flows, lenient: true, ..self.traffic() }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut plays: Vec<Play> =
        if arguments.keep { Report::earlier("failover", "measurements")? } else { Vec::new() };
    let first = plays.iter().map(|play| play.repetition + 1).max().unwrap_or(0);
    for repetition in first..first + arguments.reps {
        let began = Instant::now();
        if arguments.parts.contains(&Part::Cases) {
            play_cases(&arguments, repetition, &mut plays);
        }
        if arguments.parts.contains(&Part::Rival) {
            play_rivals(&arguments, repetition, &mut plays);
        }
        println!("round {repetition} took {:.0} s", began.elapsed().as_secs_f64());
        // After each round: whoever ends the bench loses that round alone.
        account::write(Report::in_bed("failover")?, &plays)?;
    }
    Ok(())
}

fn play_cases(arguments: &Arguments, repetition: u32, plays: &mut Vec<Play>) {
    let traffic = arguments.traffic();
    // A bed of its own for each round: cases must not live on what an earlier round left.
    let mut stage = None;
    for case in arguments.cases() {
        note(plays, repetition, case.name(), "samepath", || {
            let mut set = match stage.take() {
                Some(stage) => stage,
                None if arguments.etcd => {
                    Stage::set_with_etcd(Bed::new("bench-failover", Shape::default())?)?
                }
                None => Stage::set(Bed::new("bench-failover", Shape::default())?, &[])?,
            };
            let audience = set.prepare(case, traffic)?;
            let told = set.endure(case, traffic, audience);
            // A bed that does not come back, or in which something went wrong, is built anew.
            if told.is_ok() && set.restore().is_ok() {
                stage = Some(set);
            }
            Ok((0, told))
        });
    }
}

fn play_rivals(arguments: &Arguments, repetition: u32, plays: &mut Vec<Play>) {
    let traffic = arguments.rival_traffic();
    for &setting in &arguments.settings {
        for paths in [Paths::Symmetric, Paths::Asymmetric] {
            let name = rival::name(setting, paths);
            note(plays, repetition, &name, "samepath", || rival::of_samepath(setting, paths, traffic));
            note(plays, repetition, &name, "conntrackd", || rival::of_conntrackd(setting, paths, traffic));
        }
    }
}

/// Plays until it was prepared, at most [`TRIES`] times; what went wrong in the play itself is not repeated.
fn note(plays: &mut Vec<Play>, repetition: u32, case: &str, device: &str, mut play: impl FnMut() -> Played) {
    let began = Instant::now();
    let (known, told) = prepared(&mut play).unwrap_or_else(|error| (0, Err(error)));
    let (told, failure) = match told {
        Ok(told) => (Some(told), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let (case, device) = (case.to_owned(), device.to_owned());
    let seconds = began.elapsed().as_secs_f64();
    let play = Play { case, device, repetition, known, seconds, told, failure };
    play.print();
    plays.push(play);
}

fn prepared(play: &mut impl FnMut() -> Played) -> Result<(u64, Result<Told>)> {
    let mut last = None;
    for _ in 0..TRIES {
        match play() {
            Ok(played) => return Ok(played),
            Err(error) => {
                println!("not prepared: {error:#}");
                last = Some(error);
            }
        }
    }
    Err(last.context("never tried")?).context("not prepared")
}
