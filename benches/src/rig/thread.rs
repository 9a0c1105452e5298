//! Threads: which there are, where they run, what they have used.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use samepath_tests::program;

/// How the kernel schedules a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// As every thread.
    Other,
    /// Before every ordinary thread, as soon as it can run.
    Fifo,
    /// Only while nobody else wants the core.
    Idle,
}

/// One thread of a process, or of the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thread {
    process: u32,
    id: u32,
    name: String,
}

/// All threads of a process.
pub fn of_process(process: u32) -> Result<Vec<Thread>> {
    let folder = format!("/proc/{process}/task");
    let entries = fs::read_dir(&folder).with_context(|| format!("process {process} has ended"))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let name = fs::read_to_string(entry.path().join("comm")).ok()?.trim().to_owned();
            Some(Thread { process, id, name })
        })
        .collect())
}

/// Kernel threads whose name begins with `prefix`.
pub fn kernel_threads(prefix: &str) -> Result<Vec<Thread>> {
    let found = fs::read_dir("/proc")?.flatten().filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?.trim().to_owned();
        name.starts_with(prefix).then_some(Thread { process: id, id, name })
    });
    Ok(found.collect())
}

impl Thread {
    /// The calling one.
    pub fn this() -> Result<Self> {
        let link = fs::read_link("/proc/thread-self")?;
        let id = link.file_name().and_then(|name| name.to_str()?.parse().ok()).context("no number")?;
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        Ok(Self { process: std::process::id(), id, name })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// CPU time it has used, ns (first field of schedstat, see Documentation/scheduler/sched-stats.rst). A
    /// thread that has ended counts 0.
    pub fn cpu_ns(&self) -> u64 {
        fs::read_to_string(format!("/proc/{}/task/{}/schedstat", self.process, self.id))
            .ok()
            .and_then(|text| text.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    }

    /// It is no longer there.
    pub fn has_ended(&self) -> bool {
        !std::path::Path::new(&format!("/proc/{}/task/{}", self.process, self.id)).exists()
    }

    /// Keeps it on one core.
    pub fn pin(&self, core: usize) -> Result<()> {
        let arguments = ["-p", "-c", &core.to_string(), &self.id.to_string()];
        program::run(Command::new("taskset").args(arguments)).map(drop)
    }

    /// Sets how it is scheduled.
    pub fn schedule(&self, policy: Policy) -> Result<()> {
        let (option, priority) = match policy {
            Policy::Other => ("-o", "0"),
            Policy::Fifo => ("-f", "5"),
            Policy::Idle => ("-i", "0"),
        };
        program::run(Command::new("chrt").args([option, "-p", priority, &self.id.to_string()])).map(drop)
    }
}
