//! A daemon's process as the kernel shows it: threads, time on cores, sockets, memory.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use samepath_dataplane::xsk::{self, BusyPoll};

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    process: PathBuf,
    number: i32,
}

/// A thread's folder under /proc.
#[derive(Debug)]
pub struct Thread(PathBuf);

/// A mapping as packet memory is one: anonymous, shared with the kernel.
#[derive(Debug)]
pub struct Memory {
    pub huge: bool,
}

impl Daemon {
    /// The process at the other end of an operator socket.
    pub fn that_listens_on(socket: &Path) -> Result<Self> {
        let number = getsockopt(&UnixStream::connect(socket)?, PeerCredentials)?.pid();
        Ok(Self { process: Path::new("/proc").join(number.to_string()), number })
    }

    /// Threads whose name begins with `name`.
    pub fn threads(&self, name: &str) -> Result<Vec<Thread>> {
        let mut found = Vec::new();
        for folder in fs::read_dir(self.process.join("task"))? {
            let folder = folder?.path();
            if fs::read_to_string(folder.join("comm"))?.starts_with(name) {
                found.push(Thread(folder));
            }
        }
        Ok(found)
    }

    /// Time all its threads have been on a core.
    pub fn cpu_time(&self) -> Result<Duration> {
        self.threads("")?.iter().map(Thread::cpu_time).sum()
    }

    /// What the kernel has of each of its AF_XDP sockets, asked through copies of their descriptors.
    pub fn busy_poll(&self) -> Result<Vec<BusyPoll>> {
        let pid = Pid::from_raw(self.number).context("no process has number 0")?;
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        let mut found = Vec::new();
        for entry in fs::read_dir(self.process.join("fd"))? {
            let entry = entry?.path();
            let number = entry.file_name().and_then(|name| name.to_str()?.parse().ok());
            // Descriptors come and go: an operator's connection, for one.
            let is_socket = fs::read_link(&entry).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
            let copy = |number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok();
            let socket = number.filter(|_| is_socket).and_then(copy);
            found.extend(socket.and_then(xsk::busy_poll));
        }
        Ok(found)
    }

    /// What may be its packet memory (proc_pid_smaps(5)).
    pub fn packet_memory(&self) -> Result<Vec<Memory>> {
        let text = fs::read_to_string(self.process.join("smaps"))?;
        let mut found = Vec::new();
        let mut shared = false;
        for line in text.lines() {
            if line
                .split_whitespace()
                .nth(1)
                .is_some_and(|word| word.len() == 4 && word.ends_with(['s', 'p']))
            {
                shared =
                    line.contains("rw-s") && (line.contains("/dev/zero") || line.contains("/anon_hugepage"));
            } else if let Some(size) = line.strip_prefix("KernelPageSize:").filter(|_| shared) {
                found.push(Memory { huge: size.trim() != "4 kB" });
            }
        }
        anyhow::ensure!(!found.is_empty(), "no shared memory in {text}");
        Ok(found)
    }
}

impl Thread {
    /// The calling thread.
    pub fn this() -> Result<Self> {
        Ok(Self(fs::canonicalize("/proc/thread-self")?))
    }

    /// Policy and real-time priority (fields 41 and 40 of proc_pid_stat(5)).
    pub fn scheduling(&self) -> Result<(i32, i32)> {
        let text = fs::read_to_string(self.0.join("stat"))?;
        // The name in field 2 may contain anything, but ends with the last parenthesis.
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field =
            |number: usize| -> Result<i32> { Ok(fields.get(number - 3).context("too short")?.parse()?) };
        Ok((field(41)?, field(40)?))
    }

    /// Time on a core.
    pub fn cpu_time(&self) -> Result<Duration> {
        let text = fs::read_to_string(self.0.join("schedstat"))?;
        let on_core = text.split_whitespace().next().context("schedstat is empty")?;
        Ok(Duration::from_nanos(on_core.parse()?))
    }
}

/// Huge pages of the default size nobody uses.
pub fn free_huge_pages() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("HugePages_Free:"));
    Ok(line.context("no huge pages in this kernel")?.trim().parse()?)
}

/// The pool of huge pages, enlarged; as before when dropped.
#[derive(Debug)]
pub struct HugePages {
    before: String,
}

impl HugePages {
    const POOL: &str = "/proc/sys/vm/nr_hugepages";

    /// Reserves `pages` more, unless as many are free. The kernel gives what it has.
    pub fn at_least(pages: u64) -> Result<Self> {
        let before = fs::read_to_string(Self::POOL)?;
        if free_huge_pages()? < pages {
            let total: u64 = before.trim().parse()?;
            fs::write(Self::POOL, (total + pages).to_string())?;
        }
        Ok(Self { before })
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if let Err(error) = fs::write(Self::POOL, self.before.trim()) {
            eprintln!("{}: {error}", Self::POOL);
        }
    }
}
