//! `samepath drain` and `leave`: begin, show how far it is, end when it is done or the time is over.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::api::{Reply, Request};
use super::client::{ClientError, Connection, FAILED, FINE, complain, print};

/// Time between two looks at the progress.
const EVERY: Duration = Duration::from_millis(100);

/// How long a daemon that leaves may take to be gone: workers, last records and goodbyes have 2 s.
const GONE: Duration = Duration::from_secs(10);

/// Reply to [`Request::Drain`], [`Request::Undrain`] and [`Request::Leave`], and part of the status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Drain {
    /// The node that answers.
    pub node: u16,
    /// How far it is.
    pub stage: Stage,
    /// Sessions the node owned when it began.
    pub began_with: u64,
    /// Sessions it owns now.
    pub owned: u64,
    /// Changes the slowest peer has not acknowledged.
    pub unacknowledged: u64,
    /// Since it began, ms.
    pub elapsed_ms: u64,
}

/// How far a drain is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The node takes flows.
    #[default]
    Off,
    /// It takes none and hands its sessions over.
    Draining,
    /// It owns nothing any more and everything is acknowledged: it may be stopped.
    Drained,
}

impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, owned, began_with, unacknowledged, elapsed_ms, .. } = self;
        match self.stage {
            Stage::Off => write!(f, "node {node} takes flows"),
            Stage::Draining => write!(
                f,
                "node {node} drains: {owned} of {began_with} sessions still here, {unacknowledged} changes not acknowledged, {} s",
                elapsed_ms / 1000
            ),
            Stage::Drained => write!(
                f,
                "node {node} is drained: peers own its sessions ({began_with} when it began); it may be stopped, or taken back with `samepath undrain`"
            ),
        }
    }
}

/// What `drain` and `leave` are told.
#[derive(Clone, Copy, Debug)]
pub struct DrainOrder {
    /// How long it may take.
    pub timeout: Duration,
    /// Stop the daemon when it is done.
    pub leave: bool,
}

/// Drains the node behind `socket`, with its progress on stderr; gives the exit code. When the time is
/// over the drain goes on and nothing is stopped.
pub fn run(
    socket: Option<&Path>,
    order: DrainOrder,
    json: bool,
    out: &mut impl Write,
) -> Result<u8, ClientError> {
    let path = super::client::socket(socket)?;
    let end = Instant::now() + order.timeout;
    let mut told = None;
    let drain = loop {
        let drain = ask(&path, &Request::Drain)?;
        if drain.stage == Stage::Drained {
            break drain;
        }
        let second = drain.elapsed_ms / 1000;
        if told != Some(second) {
            told = Some(second);
            complain(&drain);
        }
        if Instant::now() >= end {
            complain(&format_args!(
                "not drained within {} s: it goes on (see `samepath status`); give it more --timeout, or take it back with `samepath undrain`",
                order.timeout.as_secs()
            ));
            return print(&Reply::Drain(drain), json, out).map(|_| FAILED);
        }
        sleep(EVERY);
    };
    if order.leave {
        ask(&path, &Request::Leave)?;
        return gone(&path, drain, json, out);
    }
    print(&Reply::Drain(drain), json, out)
}

/// Waits until nobody listens any more.
fn gone(path: &Path, drain: Drain, json: bool, out: &mut impl Write) -> Result<u8, ClientError> {
    let end = Instant::now() + GONE;
    while Connection::open(path).is_ok() {
        if Instant::now() >= end {
            complain(&format_args!(
                "the daemon still runs {} s after it was to leave: see its log",
                GONE.as_secs()
            ));
            return Ok(FAILED);
        }
        sleep(EVERY);
    }
    match json {
        true => print(&Reply::Drain(drain), json, out),
        false => writeln!(out, "node {} has left and stopped", drain.node)
            .map_err(ClientError::Output)
            .map(|()| FINE),
    }
}

fn ask(path: &Path, request: &Request) -> Result<Drain, ClientError> {
    let mut connection = Connection::open(path)?;
    connection.ask(request)?;
    match connection.reply()? {
        Reply::Drain(drain) => Ok(drain),
        Reply::Error(refusal) => Err(ClientError::Refused(refusal.error)),
        _ => Err(ClientError::Refused(
            "the daemon answered something else: use the program of its version".into(),
        )),
    }
}
