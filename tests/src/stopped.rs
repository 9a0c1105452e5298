//! A thread that stands still.

use std::fs;

use anyhow::{Context, Result};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// A thread of another process that is stopped until this is dropped; its process runs on.
#[derive(Debug)]
pub struct Stopped(Pid);

impl Stopped {
    /// Stops the thread of that name.
    pub fn thread(process: u32, name: &str) -> Result<Self> {
        let tasks = fs::read_dir(format!("/proc/{process}/task"))?;
        let named = tasks
            .flatten()
            .find(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name));
        let thread = named.with_context(|| format!("process {process} has no thread {name}"))?;
        let thread = Pid::from_raw(thread.file_name().to_string_lossy().parse()?);
        ptrace::seize(thread, ptrace::Options::empty()).context("the thread cannot be traced")?;
        ptrace::interrupt(thread)?;
        waitpid(thread, Some(WaitPidFlag::__WALL))?;
        Ok(Self(thread))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Err(error) = ptrace::detach(self.0, None) {
            eprintln!("thread {} stays stopped: {error}", self.0);
        }
    }
}
