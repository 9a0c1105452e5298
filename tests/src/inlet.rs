//! Sending frames into a node's interface no faster than they arrive there, so that none is lost on the way.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::netns::Namespace;
use crate::raw_port::RawPort;
use crate::{link, wait};

/// Frames sent before the interface is asked whether all arrived; a veth's ring has 256 entries.
const CHUNK: u64 = 128;

/// How long they may take.
const SOON: Duration = Duration::from_secs(10);

/// A way into a node's interface.
#[derive(Debug)]
pub struct Inlet<'a> {
    port: RawPort,
    to: (&'a Namespace, &'a str),
    sent: u64,
    /// Frames sent since the interface was last asked, and what it had received then.
    under_way: u64,
    received: u64,
}

impl<'a> Inlet<'a> {
    /// Sends by `from`, the other end of the link (or a switch's port) that leads to `to`: namespace and interface each.
    pub fn open(from: (&Namespace, &str), to: (&'a Namespace, &'a str)) -> Result<Self> {
        let received = link::counters(to.0, to.1)?.rx_packets;
        Ok(Self { port: RawPort::open(from.0, from.1)?, to, sent: 0, under_way: 0, received })
    }

    /// Sends one frame, Ethernet header included.
    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        self.port.send(frame)?;
        self.sent += 1;
        self.under_way += 1;
        if self.under_way == CHUNK { self.wait_arrived() } else { Ok(()) }
    }

    /// Frames sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Waits until as many frames have arrived as were sent.
    pub fn wait_arrived(&mut self) -> Result<()> {
        let Self { to: (namespace, interface), under_way, received, .. } = self;
        wait::until_true("the frames arrive", SOON, || {
            let arrived = link::counters(namespace, interface)?.rx_packets - *received;
            ensure!(arrived >= *under_way, "{arrived} of {under_way} arrived");
            Ok(true)
        })?;
        self.received = link::counters(self.to.0, self.to.1)?.rx_packets;
        self.under_way = 0;
        Ok(())
    }
}
