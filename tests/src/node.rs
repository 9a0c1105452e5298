//! One `samepath run` process.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::bed::Service;
use crate::cli::Cli;
use crate::wait;

/// How long a node may take from start to *ready*.
const READY: Duration = Duration::from_secs(20);

/// How long a node may take to stop after SIGTERM.
const STOP: Duration = Duration::from_secs(10);

/// A running node.
#[derive(Debug)]
pub struct Node {
    service: Service,
    cli: Cli,
    socket: PathBuf,
    /// Packets its interfaces had received when its XDP program began to count; known once it is ready.
    pub(crate) received_before: Option<u64>,
}

impl Node {
    /// Takes charge of a daemon that was just started and listens on `socket`.
    pub fn new(service: Service, socket: &Path) -> Result<Self> {
        let cli = Cli::new(socket)?;
        Ok(Self { service, cli, socket: socket.to_owned(), received_before: None })
    }

    /// Waits until `samepath status` says *ready*; an error carries the end of the log.
    pub fn wait_ready(&mut self) -> Result<()> {
        let ready = wait::until_true("the node is ready", READY, || {
            if let Some(status) = self.service.ended()? {
                bail!("the daemon ended with {status}");
            }
            let status: Value = self.cli.json(&["status"])?;
            Ok(status["ready"] == Value::Bool(true))
        });
        ready.map_err(|error| error.context(format!("{}\nlog:\n{}", self.says(), self.service.log_tail())))
    }

    /// What `samepath status` and `samepath members` say, for errors.
    fn says(&self) -> String {
        let of = |command| self.cli.output(&[command]).unwrap_or_else(|error| format!("{error:#}"));
        of("status") + &of("members")
    }

    /// Its command line.
    pub fn cli(&self) -> &Cli {
        &self.cli
    }

    /// Its operator socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process.
    pub fn service(&mut self) -> &mut Service {
        &mut self.service
    }

    /// SIGTERM; how it ended.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.service.stop(STOP)
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.service.kill()
    }
}
