//! One long TCP transfer by iperf3, at a rate that the bed always has: what fails is not the speed.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::bed::{Bed, Service};
use crate::wait;

/// It ends when it is told to; this is longer than any test.
const SECONDS: &str = "300";

/// How long starting and ending may take.
const SOON: Duration = Duration::from_secs(10);

/// A transfer under way. Dropping it ends it.
#[derive(Debug)]
pub struct Iperf {
    client: Service,
    _server: Service,
}

/// What iperf3 says of its transfer.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Bytes that arrived.
    pub bytes: u64,
    /// Segments that had to be repeated.
    pub repeated: u64,
    /// Whole seconds in which nothing was sent.
    pub idle: usize,
}

impl Iperf {
    /// Begins a transfer from the first of two addresses, a client's, to the other, a server's; `rate` is iperf3's `-b`.
    pub fn begin(bed: &Bed, (from, to): (IpAddr, IpAddr), rate: &str) -> Result<Self> {
        let (from, to) = (from.to_string(), to.to_string());
        let mut server = bed.server().command("iperf3");
        let server =
            bed.start_service("iperf3-server", server.args(["-s", "-1", "--forceflush", "-B", &to]))?;
        wait::until_true("iperf3 listens", SOON, || Ok(server.output().contains("listening")))?;
        let mut client = bed.client().command("iperf3");
        client.args(["-c", &to, "-B", &from, "-t", SECONDS, "-b", rate, "-J"]);
        let client = bed.start_service("iperf3", &mut client)?;
        wait::until_true("iperf3 is connected", SOON, || Ok(server.output().contains("connected to")))?;
        Ok(Self { client, _server: server })
    }

    /// Ends it and says what it saw. A connection that broke is an error.
    pub fn end(mut self) -> Result<Transfer> {
        ensure!(self.client.ended()?.is_none(), "iperf3 ended by itself: {}", self.client.output());
        self.client.signal(Signal::SIGINT)?;
        self.client.wait(SOON)?;
        let output = self.client.output();
        let told: Value = serde_json::from_str(&output).with_context(|| output.clone())?;
        let error = told["error"].as_str().unwrap_or_default();
        ensure!(error.is_empty() || error.contains("interrupt"), "iperf3: {error}");
        let sent = &told["end"]["sum_sent"];
        // The last one is as long as what is left, which can be too short for a segment.
        let whole = |interval: &&Value| interval["sum"]["seconds"].as_f64() > Some(0.9);
        let idle = told["intervals"].as_array().into_iter().flatten().filter(whole);
        Ok(Transfer {
            bytes: sent["bytes"].as_u64().with_context(|| output.clone())?,
            repeated: sent["retransmits"].as_u64().with_context(|| output.clone())?,
            idle: idle.filter(|interval| interval["sum"]["bytes"] == 0).count(),
        })
    }
}
