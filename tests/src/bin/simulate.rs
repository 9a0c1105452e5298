//! `make simulate`: the lab over many seeds, on all cores; a failure says how to play it again.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use clap::Parser;
use samepath_tests::lab::{self, Failure, Outcome};

/// The whole cluster in one thread from a seed, many seeds over.
#[derive(Parser)]
struct Args {
    /// Play this seed alone and tell its story.
    #[arg(long)]
    seed: Option<u64>,
    /// Play so many seeds.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Go on after a failure until so many were found.
    #[arg(long, default_value_t = 1)]
    failures: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.seed {
        Some(seed) => tell(seed),
        None => many(&args),
    }
}

fn tell(seed: u64) -> ExitCode {
    match lab::run(seed, true) {
        Ok(outcome) => {
            println!("seed {seed}: {outcome:?}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            failure.story.iter().for_each(|line| println!("{line}"));
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn many(args: &Args) -> ExitCode {
    let begun = Instant::now();
    let next = AtomicU64::new(args.from);
    let found: Mutex<(Outcome, Vec<Failure>, u64)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..args.threads {
            scope.spawn(|| work(args, &next, &found));
        }
    });
    let (sum, mut failures, played) = found.into_inner().expect("no thread panics");
    failures.sort_by_key(|failure| failure.seed);
    failures.iter().for_each(|failure| println!("{failure}"));
    println!(
        "simulate: {played} seeds, {} failures, {} steps, {} packets delivered, {} takeovers, {} conflicts, {:.1} s",
        failures.len(),
        sum.steps,
        sum.delivered,
        sum.takeovers,
        sum.conflicts,
        begun.elapsed().as_secs_f64()
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn work(args: &Args, next: &AtomicU64, found: &Mutex<(Outcome, Vec<Failure>, u64)>) {
    loop {
        let seed = next.fetch_add(1, Relaxed);
        let enough = found.lock().expect("no thread panics").1.len() >= args.failures;
        if seed >= args.from + args.seeds || enough {
            return;
        }
        let result = lab::run(seed, false);
        let mut found = found.lock().expect("no thread panics");
        found.2 += 1;
        match result {
            Ok(outcome) => {
                found.0.steps += outcome.steps;
                found.0.delivered += outcome.delivered;
                found.0.takeovers += outcome.takeovers;
                found.0.conflicts += outcome.conflicts;
            }
            Err(failure) => found.1.push(failure),
        }
    }
}
