//! One long UDP flow over the split path, packet by packet: the client begins it through node 1, which owns it, the
//! server's datagrams arrive at node 3.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::HAND_MADE_PORTS;
use crate::bed::Bed;
use crate::bed::plan::{End, Family};
use crate::capture::Frame;
use crate::frame::Way;
use crate::raw_port::RawPort;
use crate::{cli, wait};

/// Datagrams of a flow after which it is offered to the XDP program (docs/decisions/0009).
pub const OFFERED_AFTER: u64 = 16;

/// Time for what was sent to be processed.
const SETTLED: Duration = Duration::from_secs(10);

/// A flow that has begun and whose backup is on node 3.
#[derive(Debug)]
pub struct LongFlow {
    way: Way,
    from_server: RawPort,
    sent: u32,
}

fn wait_for_backup(bed: &Bed, client: (IpAddr, u16), state: &str) -> Result<()> {
    wait::until_true(&format!("node 3 has the backup, {state}"), SETTLED, || {
        let rows = bed.sessions(3)?;
        Ok(rows.iter().any(|row| {
            (row.src, row.sport) == client && row.role == "backup" && row.owner == 1 && row.state == state
        }))
    })
}

impl LongFlow {
    /// Begins flow `number` of a bed.
    pub fn begin(bed: &Bed, family: Family, vlan: Option<u16>, number: u16) -> Result<Self> {
        let (client, server) = bed.director_on(2, family)?;
        let client = (client, HAND_MADE_PORTS.start() + number);
        let server = (server, *HAND_MADE_PORTS.end());
        let there =
            Way { from: End::RouterA(1), to: End::Inside(1), vlan, source: client, destination: server };
        let way =
            Way { from: End::RouterB(3), to: End::Outside(3), vlan, source: server, destination: client };
        RawPort::open(bed.router_a(), "n1")?.send(&there.udp(b"begin")?)?;
        wait_for_backup(bed, client, "UNREPLIED")?;
        let mut flow = Self { way, from_server: RawPort::open(bed.router_b(), "n3")?, sent: 0 };
        // The server's first datagram changes the state, and a record under way would disturb what node 3 counts:
        // it reaches the Owner directly.
        let direct = Way { from: End::RouterB(1), to: End::Outside(1), ..way };
        RawPort::open(bed.router_b(), "n1")?.send(&direct.udp(&flow.payload(0))?)?;
        flow.sent = 1;
        wait_for_backup(bed, client, "ASSURED")?;
        Ok(flow)
    }

    /// The client's end.
    pub fn client(&self) -> (IpAddr, u16) {
        self.way.destination
    }

    /// Sends `count` numbered datagrams to node 3 and waits until node 3 has seen them all.
    pub fn send(&mut self, bed: &Bed, count: u64) -> Result<()> {
        let before = seen(&bed.stats(3)?);
        for sent in 1..=count {
            let payload = self.payload(self.sent);
            self.from_server.send(&self.way.udp(&payload)?)?;
            self.sent += 1;
            // Fewer on their way than any ring holds.
            if sent.is_multiple_of(64) || sent == count {
                wait::until_true("node 3 has seen what was sent", SETTLED, || {
                    Ok(seen(&bed.stats(3)?) >= before + sent && bed.rings_are_empty(3)?)
                })?;
            }
        }
        Ok(())
    }

    /// Sends as many datagrams as it takes until node 3 has published the flow.
    pub fn publish(&mut self, bed: &Bed) -> Result<()> {
        let before = bed.stats(3)?.forwards.published;
        self.send(bed, OFFERED_AFTER)?;
        wait::until_true("node 3 has published the flow", SETTLED, || {
            Ok(bed.stats(3)?.forwards.published == before + 1)
        })
    }

    /// Checks that `frames`, captured on router A's side of the Owner, are all datagrams sent, in order, whole, and
    /// with nothing changed but what a router changes.
    pub fn check_arrived(&self, frames: &[Frame]) -> Result<()> {
        let came: Vec<&Frame> =
            frames.iter().filter(|frame| frame.bytes[..6] == End::RouterA(1).mac()).collect();
        ensure!(came.len() == self.sent as usize, "{} of {} datagrams arrived", came.len(), self.sent);
        for (number, frame) in (0..self.sent).zip(came) {
            let sent = self.way.udp(&self.payload(number))?;
            let expected = &sent[sent.len() - self.payload(number).len() - 8..];
            ensure!(frame.bytes.ends_with(expected), "datagram {number} arrived as {:x?}", frame.bytes);
        }
        Ok(())
    }

    /// Of changing length, so that lengths and checksums of outer headers change.
    fn payload(&self, number: u32) -> Vec<u8> {
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(40 + number as usize * 7 % 1300, number as u8);
        payload
    }
}

/// Frames node 3 has got rid of: redirected by its XDP program, or taken by a worker.
fn seen(stats: &cli::Stats) -> u64 {
    stats.xdp_outcome("redirected") + stats.rx
}
