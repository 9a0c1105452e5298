//! What a plain Linux router forwards of a capture.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use anyhow::{Context, Result};
use samepath_tests::bed::Bed;
use samepath_tests::bed::plan::{self, End, Family};
use samepath_tests::frame::Way;

use super::packet::Packet;
use super::place::{self, Inlet};
use super::split::{Capture, Side};

/// Frames in flight at a time: what a socket's buffer holds however large they are.
const AT_ONCE: usize = 32;

/// A bed with a router.
pub struct Router {
    bed: Bed,
    inlets: [Inlet; 2],
    /// A packet from each side that comes out on the other behind all others.
    last: [Vec<u8>; 2],
    routes: BTreeMap<IpAddr, Side>,
}

/// What came out of the router for each frame of a capture, from the packet's VLAN tags on; `None`: nothing did.
pub type Forwarded = Vec<Option<Vec<u8>>>;

impl Router {
    /// Builds it.
    pub fn new() -> Result<Self> {
        let bed = place::quiet_bed("played-router")?;
        place::make_router(&bed)?;
        let inlets = [Inlet::open(&bed, Side::Client, 1)?, Inlet::open(&bed, Side::Server, 1)?];
        let (client, server) = (plan::client(Family::V4, 15), plan::server(Family::V4, 15));
        let way = |from, to, source, destination| Way { from, to, vlan: None, source, destination };
        let there = way(End::RouterA(1), End::Inside(1), (client, 9), (server, 9));
        let back = way(End::RouterB(1), End::Outside(1), (server, 9), (client, 9));
        let last = [there.udp(b"the last one")?, back.udp(b"the last one")?];
        Ok(Self { bed, inlets, last, routes: BTreeMap::new() })
    }

    /// Sets the routes of a round.
    pub fn route(&mut self, routes: &BTreeMap<IpAddr, Side>) -> Result<()> {
        place::set_routes(&self.bed, 1, &self.routes, routes)?;
        self.routes.clone_from(routes);
        Ok(())
    }

    /// Plays a capture; tagged frames without their tags, which come back in what is said of them.
    pub fn play(&self, capture: &Capture) -> Result<Forwarded> {
        let mut forwarded = Vec::new();
        for frames in capture.frames.chunks(AT_ONCE) {
            forwarded.extend(self.play_some(frames)?);
        }
        Ok(forwarded)
    }

    fn play_some(&self, frames: &[(Side, Vec<u8>)]) -> Result<Forwarded> {
        let mut waiting: [VecDeque<(usize, Vec<u8>)>; 2] = Default::default();
        for (index, (side, frame)) in frames.iter().enumerate() {
            let packet = Packet::of(frame);
            let sent =
                packet.filter(Packet::is_tagged).map_or_else(|| frame.clone(), |packet| packet.untagged());
            self.inlets[*side as usize].send(&sent)?;
            if let Some(packet) = Packet::of(&sent) {
                waiting[*side as usize].push_back((index, packet.unchanging()));
            }
        }
        let mut forwarded = vec![None; frames.len()];
        for side in Side::BOTH {
            self.inlets[side as usize].send(&self.last[side as usize])?;
        }
        for side in Side::BOTH {
            self.take(side, frames, &mut waiting, &mut forwarded)?;
        }
        Ok(forwarded)
    }

    /// What comes out on a side, up to the last one.
    fn take(
        &self,
        side: Side,
        frames: &[(Side, Vec<u8>)],
        waiting: &mut [VecDeque<(usize, Vec<u8>)>; 2],
        forwarded: &mut Forwarded,
    ) -> Result<()> {
        let last =
            Packet::of(&self.last[1 - side as usize]).context("the last one is a packet")?.unchanging();
        loop {
            let frame = self.inlets[side as usize].receive()?;
            let Some(packet) = Packet::of(&frame) else { continue };
            let came = packet.unchanging();
            if came == last {
                return Ok(());
            }
            // Packets of one side keep their order; what comes out where it came in does too.
            let found = waiting.iter_mut().find_map(|waiting| {
                let at = waiting.iter().position(|(_, sent)| *sent == came)?;
                waiting.remove(at).map(|(index, _)| index)
            });
            let Some(index) = found else { continue };
            let sent = Packet::of(&frames[index].1).context("it was sent")?;
            forwarded[index] = Some(sent.with_tags_of_this(&packet));
        }
    }

    /// Removes the bed.
    pub fn remove(self) -> Result<()> {
        self.bed.remove()
    }
}
