//! A thread that stands still, and may be made to do what nobody wrote.

use std::fs;

use anyhow::{Context, Result};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// The instruction `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

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

    /// Instead of the system call it is in, the thread makes another one when it goes on, with the same arguments.
    /// False if it is in none.
    pub fn swap_call(&self, number: i64) -> Result<bool> {
        let mut registers = ptrace::getregs(self.0)?;
        // The instruction behind it is the next one.
        let call = registers.rip - SYSCALL.len() as u64;
        let word = ptrace::read(self.0, call as ptrace::AddressType)?;
        if word.to_le_bytes()[..SYSCALL.len()] != SYSCALL {
            return Ok(false);
        }
        registers.rip = call;
        registers.rax = number as u64;
        // The kernel would begin the old one anew.
        registers.orig_rax = u64::MAX;
        ptrace::setregs(self.0, registers)?;
        Ok(true)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Err(error) = ptrace::detach(self.0, None) {
            eprintln!("thread {} stays stopped: {error}", self.0);
        }
    }
}
