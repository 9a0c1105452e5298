//! What `samepath … --json` says, typed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{artifacts, program};

/// How long an answer over the socket may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The command line of one running node.
#[derive(Clone, Debug)]
pub struct Cli {
    binary: PathBuf,
    socket: PathBuf,
}

impl Cli {
    /// For the node that listens on `socket`.
    pub fn new(socket: &Path) -> Result<Self> {
        Ok(Self { binary: artifacts::samepath()?, socket: socket.to_owned() })
    }

    /// Runs `samepath <arguments>` against the node; its standard output.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--control-socket").arg(&self.socket);
        program::run(&mut command)
    }

    /// What `samepath <arguments>` prints, however it ends.
    pub fn output(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--control-socket").arg(&self.socket);
        let output = program::output(&mut command)?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// [`Cli::run`] with `--json`, read as `T`.
    pub fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let mut with_json = arguments.to_vec();
        with_json.push("--json");
        let text = self.run(&with_json)?;
        serde_json::from_str(&text)
            .with_context(|| format!("`samepath {}` answered: {text:.400}", with_json.join(" ")))
    }

    /// Asks over the operator socket itself, for moments at which starting a program takes too long.
    pub fn ask<T: DeserializeOwned>(&self, command: &str) -> Result<T> {
        let mut stream = UnixStream::connect(&self.socket)
            .with_context(|| format!("nobody listens on {}", self.socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{{\"command\": \"{command}\"}}\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("{command} was answered: {line:.400}"))
    }
}

/// A connection to a node's operator socket, for many questions.
#[derive(Debug)]
pub struct Line(BufReader<UnixStream>);

impl Line {
    /// Connects.
    pub fn open(socket: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("nobody listens on {}", socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Asks a request of the operator socket.
    pub fn ask(&mut self, request: &serde_json::Value) -> Result<serde_json::Value> {
        self.0.get_mut().write_all(format!("{request}\n").as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("{request} was answered: {line:.400}"))
    }
}

/// `samepath stats`.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Stats {
    /// Packets taken from the rings, Hello messages not among them.
    pub rx: u64,
    /// Packets given to the rings, Hello messages not among them.
    pub tx: u64,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Verdicts by name.
    pub verdicts: BTreeMap<String, u64>,
    /// ICMP errors of the node's own.
    pub answers: Answers,
    /// Fragments made beyond one for each packet that was cut.
    pub fragments_made: u64,
    /// Ends of proxied connections asked where they are because their Owner died.
    pub prompted: u64,
    /// Fragments that wait for the first one of their packet.
    pub fragments_waiting: u64,
    /// SYNs whose maximum segment size was lowered.
    pub mss_clamped: u64,
    /// Tunnel packets by kind.
    pub tunnel: Tunnel,
    /// Flows handed to the XDP program.
    pub forwards: Forwards,
    /// Sessions by role.
    pub sessions: Roles,
    /// Where the UMEM's frames are.
    pub frames: Frames,
    /// Replication towards each peer, by node number.
    pub replication: BTreeMap<String, Replication>,
    /// Frames the XDP program saw, by outcome.
    pub xdp: BTreeMap<String, u64>,
    /// What the kernel could not put into or take from the rings.
    pub rings: Rings,
    /// Signs of life between peers.
    pub hello: Hello,
    /// What arrived at the control port.
    pub control: ControlPort,
    /// Packets waiting for a neighbour.
    pub held: u64,
    /// Each worker by itself.
    pub workers: Vec<Worker>,
}

/// One worker of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of issue and glossary")]
pub struct Worker {
    pub rx: u64,
    pub handoff_tx: u64,
    pub handoff_rx: u64,
    pub sessions: u64,
}

/// What the kernel could not put into or take from the rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of XDP_STATISTICS")]
pub struct Rings {
    pub rx_dropped: u64,
    pub rx_ring_full: u64,
    pub fill_empty: u64,
    pub tx_invalid: u64,
}

/// Signs of life between peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of issue and glossary")]
pub struct Hello {
    pub rx: u64,
    pub tx: u64,
}

/// What arrived at the control port, in QUIC packets.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the documentation")]
pub struct ControlPort {
    pub packets: u64,
    pub taken: u64,
    pub discarded: BTreeMap<String, u64>,
    pub keyless: u64,
    pub failed: u64,
    pub overrun: u64,
}

/// ICMP errors of the node's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the documentation")]
pub struct Answers {
    pub time_exceeded: u64,
    pub unreachable: u64,
    pub too_big: u64,
    pub suppressed: u64,
}

/// Tunnel packets by kind and way.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the names are those of issue and glossary")]
pub struct Tunnel {
    pub query_tx: u64,
    pub query_rx: u64,
    pub first_packet_tx: u64,
    pub first_packet_rx: u64,
    pub redirect_tx: u64,
    pub redirect_tx_xdp: u64,
    pub redirect_tx_xdp_bytes: u64,
    pub redirect_rx: u64,
    pub gather_tx: u64,
    pub gather_rx: u64,
    pub rejected: BTreeMap<String, u64>,
}

/// Flow directions handed to the XDP program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the documentation")]
pub struct Forwards {
    pub published: u64,
    pub withdrawn: u64,
    pub refused: u64,
}

/// Sessions by role, and what became of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the names are those of issue and glossary")]
pub struct Roles {
    pub owner: u64,
    pub backup: u64,
    pub claim: u64,
    pub created: u64,
    pub claims_granted: u64,
    pub takeovers: u64,
    pub handed_over: u64,
    pub handed_in: u64,
    pub conflicts_lost: u64,
}

/// Where the UMEM's frames are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of issue and glossary")]
pub struct Frames {
    pub total: u64,
    pub free: u64,
    pub kernel: u64,
    pub hand: u64,
}

/// Replication towards one peer.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of issue and glossary")]
pub struct Replication {
    pub sent: u64,
    pub acked: u64,
    pub lag_records: u64,
    pub lag_ms: u64,
    pub dirty: u64,
    pub resent: u64,
}

/// One line of `samepath sessions`.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of issue and glossary")]
pub struct Session {
    pub proto: String,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub sport: u16,
    pub dport: u16,
    pub vlan: u16,
    pub state: String,
    pub role: String,
    pub owner: u16,
    pub generation: u32,
    pub age_s: u64,
    pub timeout_s: u64,
    pub packets: u64,
    pub bytes: u64,
}

impl Stats {
    /// Packets dropped for any reason.
    pub fn dropped(&self) -> u64 {
        self.drops.values().sum()
    }

    /// Frames the XDP program gave to the rings.
    pub fn steered(&self) -> u64 {
        self.xdp_outcome("steered") + self.xdp_outcome("steered_tunnel")
    }

    /// Frames that workers took from the rings, or that the rings had no room for.
    pub fn taken_or_refused(&self) -> u64 {
        self.rx + self.hello.rx + self.rings.rx_dropped + self.rings.rx_ring_full
    }

    /// Frames with one outcome in the XDP program.
    pub fn xdp_outcome(&self, name: &str) -> u64 {
        self.xdp.get(name).copied().unwrap_or(0)
    }

    /// Packets dropped for one reason.
    pub fn dropped_for(&self, reason: &str) -> u64 {
        self.drops.get(reason).copied().unwrap_or(0)
    }
}
