//! Conversations that are kept up by a program in the client's namespace while something happens, and what they
//! noticed.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::bed::{Bed, Service};
use crate::traffic::lasting::Told;
use crate::{artifacts, wait};

/// Port of the conversations' server.
const PORT: u16 = 7007;

/// How long something under traffic may take to come to rest after it was mended.
const CALM: Duration = Duration::from_secs(30);

/// A death is noticed after a second (`--peer-timeout-ms`), and a conversation counts as silent after half a second:
/// calm that lasts as long as this is calm.
const NOTICED: Duration = Duration::from_millis(2500);

/// How long opening all conversations may take.
const OPENED: Duration = Duration::from_secs(120);

/// How much traffic a case has, and how long it lasts.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// TCP connections.
    pub tcp: usize,
    /// Pause between two messages of one, ms.
    pub tcp_pause_ms: u32,
    /// More TCP connections, which say something seldom.
    pub quiet: usize,
    /// Pause between two messages of one of those, ms.
    pub quiet_pause_ms: u32,
    /// Connections that cannot be opened are counted instead of an error.
    pub lenient: bool,
    /// UDP flows.
    pub udp: usize,
    /// Time between two datagrams of one, ms.
    pub udp_interval_ms: u32,
    /// How long a node sleeps, or a link is cut: longer than it takes until all peers have given it up.
    pub harm: Duration,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            tcp: 64,
            tcp_pause_ms: 100,
            quiet: 0,
            quiet_pause_ms: 3000,
            lenient: false,
            udp: 8,
            udp_interval_ms: 10,
            harm: Duration::from_millis(2500),
        }
    }
}

impl Traffic {
    /// Conversations of all kinds.
    pub fn flows(&self) -> usize {
        self.tcp + self.quiet + self.udp
    }

    /// Calm of this length is calm: a quiet conversation must have had its turn.
    fn calm(&self) -> Duration {
        let turn = Duration::from_millis(u64::from(self.quiet_pause_ms)) + Duration::from_secs(1);
        if self.quiet > 0 { NOTICED.max(turn) } else { NOTICED }
    }
}

/// Starts what answers the conversations at these addresses of the server.
pub fn start_echo(bed: &Bed, addresses: &[IpAddr]) -> Result<Service> {
    start_server(bed, "echo", PORT, addresses)
}

/// Starts one of `samepath-traffic`'s servers.
pub fn start_server(bed: &Bed, what: &str, port: u16, addresses: &[IpAddr]) -> Result<Service> {
    let mut server = bed.server().command(artifacts::sibling("samepath-traffic")?);
    server.args([what, "--port", &port.to_string()]);
    for address in addresses {
        server.args(["--address", &address.to_string()]);
    }
    let server = bed.start_service(what, &mut server)?;
    wait::until_true(&format!("the server `{what}` is ready"), Duration::from_secs(5), || {
        Ok(server.output().contains("ready"))
    })?;
    Ok(server)
}

/// Tells one of `samepath-traffic`'s clients where it speaks from, and to.
pub(super) fn add_ends(client: &mut Command, (from, to): (&[IpAddr], &[IpAddr]), port: u16) {
    for address in from {
        client.args(["--from", &address.to_string()]);
    }
    for address in to {
        client.args(["--to", &SocketAddr::new(*address, port).to_string()]);
    }
}

/// Conversations under way. Dropping it ends them.
#[derive(Debug)]
pub struct Kept {
    service: Service,
    calm: Duration,
}

impl Kept {
    /// Opens all of them between addresses of the client and of the server.
    pub fn open(bed: &Bed, ends: (&[IpAddr], &[IpAddr]), traffic: Traffic) -> Result<Self> {
        let mut keep = bed.client().command(artifacts::sibling("samepath-traffic")?);
        keep.arg("keep");
        add_ends(&mut keep, ends, PORT);
        keep.args(["--tcp", &traffic.tcp.to_string(), "--tcp-pause-ms", &traffic.tcp_pause_ms.to_string()]);
        keep.args(["--quiet", &traffic.quiet.to_string()]);
        keep.args(["--quiet-pause-ms", &traffic.quiet_pause_ms.to_string()]);
        keep.args(["--udp", &traffic.udp.to_string(), "--udp-interval-ms"]);
        keep.arg(traffic.udp_interval_ms.to_string());
        if traffic.lenient {
            keep.arg("--lenient");
        }
        let mut service = bed.start_service("keep", &mut keep)?;
        wait::until_true("all conversations are open", OPENED, || {
            ensure!(service.ended()?.is_none(), "{}", service.log_tail());
            Ok(service.output().contains("ready"))
        })?;
        Ok(Self { service, calm: traffic.calm() })
    }

    /// The account begins anew.
    pub fn mark(&self) -> Result<()> {
        let marks = |service: &Service| service.output().matches("marked").count();
        let before = marks(&self.service);
        self.service.signal(Signal::SIGUSR1)?;
        wait::until_true("the account begins anew", CALM, || Ok(marks(&self.service) > before))
    }

    /// What happened since the last mark.
    pub fn tell(&self) -> Result<Told> {
        let accounts = |service: &Service| service.output().lines().filter(|line| whole(line)).count();
        let before = accounts(&self.service);
        self.service.signal(Signal::SIGUSR2)?;
        wait::until_true("the account is told", CALM, || Ok(accounts(&self.service) > before))?;
        let output = self.service.output();
        let last = output.lines().rfind(|line| whole(line));
        Ok(serde_json::from_str(last.context("no whole account")?)?)
    }

    /// Waits until no conversation that is not broken has been silent for longer than it takes to notice a death.
    pub fn wait_for_calm(&mut self) -> Result<Told> {
        let calm = self.calm_within(CALM);
        let told = self.tell()?;
        calm.with_context(|| format!("{told:?}"))?;
        Ok(told)
    }

    /// Waits for calm as long as `patience`: who is silent then has lost its session.
    pub fn settle(&mut self, patience: Duration) -> Result<Told> {
        self.calm_within(patience).ok();
        ensure!(self.service.ended()?.is_none(), "{}", self.service.log_tail());
        self.tell()
    }

    fn calm_within(&mut self, patience: Duration) -> Result<()> {
        let mut calm_since = Instant::now();
        wait::until_true("all conversations go on", patience, || {
            ensure!(self.service.ended()?.is_none(), "{}", self.service.log_tail());
            let silent = self.tell()?.silent;
            if silent > 0 {
                calm_since = Instant::now();
            }
            ensure!(calm_since.elapsed() > self.calm, "{silent} are silent");
            Ok(true)
        })
    }
}

/// An account, printed to its end.
fn whole(line: &str) -> bool {
    line.starts_with('{') && line.ends_with('}')
}
