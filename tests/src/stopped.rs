//! A thread that stands still, and may be made to do what nobody wrote.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// The instruction `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// So far below the stack's end nothing is (the red zone has 128 bytes).
const BELOW: u64 = 1024;

/// What the kernel leaves where it would make an interrupted call once more (include/linux/errno.h).
const TO_BE_RESTARTED: RangeInclusive<i64> = -516..=-512;

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
        Self::numbered(thread.file_name().to_string_lossy().parse()?)
    }

    /// Stops the thread with that number.
    pub fn numbered(thread: i32) -> Result<Self> {
        let thread = Pid::from_raw(thread);
        ptrace::seize(thread, ptrace::Options::empty()).context("the thread cannot be traced")?;
        ptrace::interrupt(thread)?;
        waitpid(thread, Some(WaitPidFlag::__WALL))?;
        Ok(Self(thread))
    }

    /// The thread opens a file for reading and goes on with what it was in: 0, or the kernel's error number. What it
    /// opened stays open. `None` if it is in no system call.
    pub fn open(&self, path: &Path) -> Result<Option<i32>> {
        let before = ptrace::getregs(self.0)?;
        let Some(call) = self.call(&before)? else { return Ok(None) };
        let name = before.rsp - BELOW;
        let mut text = path.as_os_str().as_bytes().to_vec();
        text.resize(text.len() / 8 * 8 + 8, 0);
        ensure!(text.len() as u64 <= BELOW / 2, "{} is too long a name", path.display());
        for (at, word) in text.chunks_exact(8).enumerate() {
            let word = i64::from_le_bytes(word.try_into()?);
            ptrace::write(self.0, (name + 8 * at as u64) as ptrace::AddressType, word)?;
        }
        let mut registers = before;
        (registers.rip, registers.rax, registers.orig_rax) = (call, libc::SYS_openat as u64, u64::MAX);
        (registers.rdi, registers.rsi, registers.rdx) = (libc::AT_FDCWD as u64, name, libc::O_RDONLY as u64);
        ptrace::setregs(self.0, registers)?;
        ptrace::step(self.0, None)?;
        waitpid(self.0, Some(WaitPidFlag::__WALL))?;
        let outcome = ptrace::getregs(self.0)?.rax as i64;
        let mut after = before;
        if TO_BE_RESTARTED.contains(&(before.rax as i64)) {
            (after.rip, after.rax) = (call, before.orig_rax);
        }
        after.orig_rax = u64::MAX;
        ptrace::setregs(self.0, after)?;
        Ok(Some(outcome.min(0).unsigned_abs() as i32))
    }

    /// Where the instruction is that it is in, if that is a system call: the one behind it is the next one.
    fn call(&self, registers: &libc::user_regs_struct) -> Result<Option<u64>> {
        let call = registers.rip - SYSCALL.len() as u64;
        let word = ptrace::read(self.0, call as ptrace::AddressType)?;
        Ok((word.to_le_bytes()[..SYSCALL.len()] == SYSCALL).then_some(call))
    }

    /// Instead of the system call it is in, the thread makes another one when it goes on, with the same arguments.
    /// False if it is in none.
    pub fn swap_call(&self, number: i64) -> Result<bool> {
        let mut registers = ptrace::getregs(self.0)?;
        let Some(call) = self.call(&registers)? else { return Ok(false) };
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
