//! One network namespace.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::{ledger, program};

/// A named network namespace (`ip netns`). The bed's ledger deletes it.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes `<prefix>-<role>`, brings its loopback up and enters it into the ledger of `prefix`.
    pub fn add(prefix: &str, role: &str) -> Result<Self> {
        let name = format!("{prefix}-{role}");
        ledger::note_namespace(prefix, &name)?;
        program::run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name in `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside. `nsenter`, not `ip netns exec`: the latter mounts a new /sys, in
    /// which the bpffs of the machine is not visible.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// `ip <line>` inside; several lines are one batch.
    pub fn ip(&self, lines: &str) -> Result<()> {
        program::feed(Command::new("ip").args(["-n", &self.name, "-batch", "-"]), lines).map(drop)
    }

    /// Standard output of `ip <arguments>` inside.
    pub fn ip_output(&self, arguments: &[&str]) -> Result<String> {
        program::run(Command::new("ip").args(["-n", &self.name]).args(arguments))
    }

    /// `nft -f -` inside.
    pub fn nft(&self, ruleset: &str) -> Result<()> {
        program::feed(self.command("nft").args(["-f", "-"]), ruleset).map(drop)
    }

    /// Runs `work` on a thread that is inside. Sockets opened there stay inside wherever they are used.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file =
            File::open(self.path()).with_context(|| format!("namespace {} does not exist", self.name))?;
        thread::scope(|scope| {
            scope
                .spawn(move || {
                    setns(file, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
                    work()
                })
                .join()
                .map_err(|_| anyhow!("the thread inside {} panicked", self.name))?
        })
    }

    /// Writes values under /proc/sys/net, for example `("ipv4/ip_forward", "1")`.
    pub fn sysctl(&self, values: &[(&str, &str)]) -> Result<()> {
        self.enter(|| {
            for (key, value) in values {
                fs::write(format!("/proc/sys/net/{key}"), value)
                    .with_context(|| format!("sysctl net/{key}={value}"))?;
            }
            Ok(())
        })
    }

    /// From now on frames leave `interface` by its transmit queue `queue`, whatever core sends them (XPS).
    pub fn send_by_queue(&self, interface: &str, queue: u32) -> Result<()> {
        // Only `ip netns exec` mounts the namespace's own /sys.
        let file = format!("/sys/class/net/{interface}/queues/tx-{queue}/xps_cpus");
        let cores = thread::available_parallelism()?.get().min(63);
        let script = format!("echo {:x} > {file}", (1u64 << cores) - 1);
        let mut shell = Command::new("ip");
        program::run(shell.args(["netns", "exec", &self.name, "sh", "-c", &script])).map(drop)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }
}
