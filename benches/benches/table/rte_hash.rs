//! DPDK's rte_hash in a process of its own (`rte_hash.c`), which measures itself when it is told to.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Contestant;
use crate::workload::Workload;

/// The process.
pub struct RteHash {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    made: String,
}

impl RteHash {
    /// Starts it; the reason if there is none (not built, no memory).
    pub fn start(sessions: u32) -> Result<Self, String> {
        let program =
            PathBuf::from(std::env::var("SAMEPATH_RTE_HASH").unwrap_or("target/bench/rte_hash".into()));
        let mut child = Command::new(&program)
            .arg(sessions.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}; run `make bench-table`", program.display()))?;
        let orders = child.stdin.take().expect("it was asked for");
        let answers = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut peer = Self { child, orders, answers, made: String::new() };
        peer.made = peer.answer().ok_or("it ended at once")?;
        Ok(peer)
    }

    fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim().to_owned())
    }

    fn measure(&mut self, what: &str) -> Option<f64> {
        writeln!(self.orders, "{what}").ok()?;
        self.answer()?.parse().ok()
    }
}

impl Contestant for RteHash {
    fn name(&self) -> String {
        self.made.clone()
    }

    fn insert(&mut self, _: &Workload) -> Option<f64> {
        self.measure("insert")
    }

    fn hit(&mut self, _: &Workload) -> Option<f64> {
        self.measure("hit-plain")
    }

    fn hit_ahead(&mut self, _: &Workload) -> Option<f64> {
        self.measure("hit")
    }

    fn miss(&mut self, _: &Workload) -> Option<f64> {
        self.measure("miss")
    }

    fn delete(&mut self, _: &Workload) -> Option<f64> {
        self.measure("delete")
    }

    fn expire(&mut self, _: &Workload) -> Option<f64> {
        self.measure("expire")
    }
}

impl Drop for RteHash {
    fn drop(&mut self) {
        let _ = writeln!(self.orders, "quit");
        let _ = self.child.wait();
    }
}
