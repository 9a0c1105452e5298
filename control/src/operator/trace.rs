//! `samepath trace`: the next packets that match, step by step across all nodes.

mod join;
mod show;
pub(super) mod story;

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::api::Reply;
use super::client::{self, ClientError, DEGRADED, FINE, complain};
use super::looking::{Looking, missed};
use super::watch::{FlowSeen, PacketFilter, SLOTS, SNAP_LEAST, Seen, WatchOrder, Watched};
use super::why::Silent;
use join::Join;

/// What is to be traced.
#[derive(Clone, Debug)]
pub struct TraceOrder {
    /// Which packets.
    pub filter: PacketFilter,
    /// How many.
    pub count: usize,
    /// How long to wait for them; `None`: until Ctrl-C.
    pub timeout: Option<Duration>,
    /// On this node alone.
    pub here: bool,
}

/// Packets, step by step: what `samepath trace --json` prints.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Trace {
    /// In the order in which they arrived.
    pub packets: Vec<Traced>,
    /// What was missed, by node.
    pub missed: Vec<MissedBy>,
    /// Nodes that did not tell, and why.
    pub silent: Vec<Silent>,
}

/// One packet.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Traced {
    /// From 1.
    pub number: usize,
    /// When it arrived, µs since 1970.
    pub at_us: u64,
    /// Its flow, in its direction; null: it cannot be read.
    pub flow: Option<FlowSeen>,
    /// What its layer 4 says.
    pub says: String,
    /// Its end was seen: it left by a data interface or to a service, was dropped or answered.
    pub complete: bool,
    /// What happened to it, in order.
    pub steps: Vec<TraceStep>,
}

/// A packet at one core of one node.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TraceStep {
    /// The node.
    pub node: u16,
    /// Time since the packet arrived, µs.
    pub after_us: u64,
    /// By how much the node's clock must be behind those of the nodes before, µs; 0: it need not be.
    pub clock_behind_us: u64,
    /// All of it in one sentence.
    pub told: String,
    /// All of it.
    pub seen: Seen,
}

/// What one node missed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MissedBy {
    /// The node.
    pub node: u16,
    /// Packets that matched, while earlier ones had not been fetched.
    pub full: u64,
    /// Packets beyond those a worker writes down per second.
    pub rate: u64,
}

/// Traces, and prints each packet when its end was seen (with `json` all of them when the last one's was).
pub fn run(
    socket: Option<&Path>,
    order: &TraceOrder,
    json: bool,
    out: &mut impl Write,
) -> Result<u8, ClientError> {
    let asked = WatchOrder {
        id: 0,
        filter: order.filter.clone(),
        snap: SNAP_LEAST,
        slots: SLOTS,
        frames: false,
        arrived: Vec::new(),
        end: false,
        here: order.here,
    };
    let mut looking = Looking::begin(socket, asked, order.timeout)?;
    let mut join = Join::new(order.count);
    let mut trace = Trace::default();
    while !join.is_done() && !looking.is_over() {
        let watched = looking.look()?;
        trace.note(&watched);
        let told = join.take(watched);
        if !json {
            match show(&told, out) {
                // A reader that stops reading (`| head`) is no error.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return looking.end().map(|_| FINE);
                }
                shown => shown.map_err(ClientError::Output)?,
            }
        }
        trace.packets.extend(told);
    }
    let last = looking.end()?;
    trace.note(&last);
    join.take(last);
    let left = join.rest();
    if !json {
        show(&left, out).map_err(ClientError::Output)?;
    }
    trace.packets.extend(left);
    finish(trace, json, out)
}

fn show(packets: &[Traced], out: &mut impl Write) -> io::Result<()> {
    packets.iter().try_for_each(|packet| show::packet(packet, out))?;
    out.flush()
}

fn finish(trace: Trace, json: bool, out: &mut impl Write) -> Result<u8, ClientError> {
    let whole = trace.silent.is_empty() && trace.missed.is_empty();
    let count = trace.packets.len();
    if json {
        client::print(&Reply::Trace(Box::new(trace)), json, out)?;
    }
    complain(&format_args!("{count} packet{} traced", if count == 1 { "" } else { "s" }));
    Ok(if whole { FINE } else { DEGRADED })
}

impl Trace {
    /// Notes who is silent and what was missed.
    fn note(&mut self, watched: &Watched) {
        for silent in &watched.silent {
            if !self.silent.iter().any(|known| known.node == silent.node) {
                self.silent.push(silent.clone());
            }
        }
        for node in &watched.nodes {
            let Some(sentence) = missed(node) else { continue };
            let now = MissedBy { node: node.node, full: node.missed_full, rate: node.missed_rate };
            match self.missed.iter_mut().find(|known| known.node == node.node) {
                Some(known) => *known = now,
                None => {
                    complain(&sentence);
                    self.missed.push(now);
                }
            }
        }
    }
}

pub(super) use show::trace as print;

#[cfg(test)]
mod tests;
