//! What the demo has shown so far: printed step by step, written to `demo.json` at the end.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::proof::Proof;
use crate::screen::Screen;

/// Version of the names in `demo.json`.
const SCHEMA: u32 = 1;

/// One thing the demo has shown.
#[derive(Serialize)]
struct Step {
    title: String,
    ok: bool,
    /// What happened, in a sentence; the error if it failed.
    what: String,
    proof: Vec<Proof>,
    seconds: f64,
}

/// `demo.json`.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    result: &'static str,
    /// The step that failed.
    failed: Option<&'a str>,
    seconds: f64,
    steps: &'a [Step],
}

/// The steps so far.
pub struct Report {
    screen: Screen,
    started: Instant,
    steps: Vec<Step>,
}

/// What a step has to show.
pub struct Shown {
    /// What happened, in a sentence.
    pub what: String,
    /// The counters that prove it.
    pub proof: Vec<Proof>,
}

impl Shown {
    /// Something that needs no counter.
    pub fn told(what: impl Into<String>) -> Self {
        Self { what: what.into(), proof: Vec::new() }
    }
}

impl Report {
    /// Nothing shown yet.
    pub fn start(screen: Screen) -> Self {
        Self { screen, started: Instant::now(), steps: Vec::new() }
    }

    /// The screen, for progress.
    pub fn screen(&mut self) -> &mut Screen {
        &mut self.screen
    }

    /// Carries out one step and shows its outcome.
    pub fn step(&mut self, title: &str, work: impl FnOnce(&mut Screen) -> Result<Shown>) -> Result<()> {
        self.screen.progress(title);
        let started = Instant::now();
        let outcome = work(&mut self.screen);
        let seconds = started.elapsed().as_secs_f64();
        let (ok, what, proof) = match &outcome {
            Ok(shown) => (true, shown.what.clone(), shown.proof.clone()),
            Err(error) => (false, format!("{error:#}"), Vec::new()),
        };
        let mark = self.screen.mark(ok);
        self.screen.line(&format!("{mark} {title} ({seconds:.1} s)"));
        if !what.is_empty() {
            self.screen.line(&format!("       {what}"));
        }
        for proof in &proof {
            self.screen.line(&format!("       {proof}"));
        }
        self.steps.push(Step { title: title.to_owned(), ok, what, proof, seconds });
        outcome.map(drop).with_context(|| title.to_owned())
    }

    /// Title of the last step.
    pub fn last_step(&self) -> &str {
        self.steps.last().map_or("before the first step", |step| &step.title)
    }

    /// Writes `demo.json`.
    pub fn finish(&mut self, failure: Option<&anyhow::Error>, path: &Path) -> Result<()> {
        let document = Document {
            schema: SCHEMA,
            result: if failure.is_none() { "PASS" } else { "FAIL" },
            failed: failure.map(|_| self.last_step()),
            seconds: self.started.elapsed().as_secs_f64(),
            steps: &self.steps,
        };
        let text = serde_json::to_string_pretty(&document)?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        let seconds = self.started.elapsed().as_secs_f64();
        self.screen.line(&format!("\n{seconds:.0} s in all; written to {}", path.display()));
        Ok(())
    }
}
