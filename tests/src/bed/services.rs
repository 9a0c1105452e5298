//! Programs that run inside a bed beside the nodes: nginx, traffic servers, captures.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::Bed;
use crate::{artifacts, ledger, wait};

/// How long an operator's program may take until it does what it was started for.
const CLIENT: Duration = Duration::from_secs(20);

/// A running program. Leader of its own process group, in the bed's ledger, ended when dropped.
#[derive(Debug)]
pub struct Service {
    child: Child,
    name: String,
    output: PathBuf,
    log: PathBuf,
}

impl Bed {
    /// [`Service::start`] in this bed.
    pub fn start_service(&self, name: &str, command: &mut Command) -> Result<Service> {
        Service::start(self.prefix(), self.logs(), name, command)
    }

    /// `samepath` with `arguments`, asking node 1; returns when it has said `sentence`.
    pub fn start_client(&self, name: &str, arguments: &[&str], sentence: &str) -> Result<Service> {
        let mut command = Command::new(artifacts::samepath()?);
        command.args(arguments).arg("--control-socket").arg(self.socket(1));
        let mut service = self.start_service(name, &mut command)?;
        wait::until_true(sentence, CLIENT, || {
            ensure!(service.ended()?.is_none(), "it ended: {}", service.log_tail());
            Ok(service.log_tail().contains(sentence))
        })?;
        Ok(service)
    }
}

impl Service {
    /// Starts `command` under the ledger of `prefix`; its standard output goes to `<name>.out`, its errors to
    /// `<name>.log` in the folder `logs`.
    pub fn start(prefix: &str, logs: &Path, name: &str, command: &mut Command) -> Result<Self> {
        let output = logs.join(format!("{name}.out"));
        let log = logs.join(format!("{name}.log"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(File::create(&log)?)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let service = Self { child, name: name.to_owned(), output, log };
        ledger::note_process(prefix, service.child.id())
            .with_context(|| format!("{name} ended at once: {}", service.log_tail()))?;
        Ok(service)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// File of its standard error.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its standard error.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("{} (pid {}) ends", self.name, self.child.id());
        wait::until(&what, deadline, || self.ended())
    }

    /// Sends a signal to the program alone (not its group).
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.process(), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// SIGTERM, then waits; an error if it had to be killed or died of another signal.
    pub fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            bail!("{} had ended before: {status}\n{}", self.name, self.log_tail());
        }
        killpg(self.process(), Signal::SIGTERM)?;
        match self.wait(deadline) {
            Ok(status) if matches!(status.signal(), None | Some(15)) => Ok(status),
            Ok(status) => bail!("{} ended with {status}\n{}", self.name, self.log_tail()),
            Err(error) => {
                self.kill()?;
                Err(error.context(self.log_tail()))
            }
        }
    }

    /// SIGKILL to its group, then waits.
    pub fn kill(&mut self) -> Result<()> {
        killpg(self.process(), Signal::SIGKILL).ok();
        self.wait(Duration::from_secs(5)).map(drop)
    }

    fn process(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        killpg(self.process(), Signal::SIGTERM).ok();
        if self.wait(Duration::from_secs(5)).is_err() {
            self.kill().ok();
        }
    }
}
