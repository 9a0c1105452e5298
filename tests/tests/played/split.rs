//! Captures, each with its two directions told apart by tcpprep, put into rounds that can be played at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use samepath_tests::program;

use super::files::{self, Totals};
use super::packet::{Flow, Packet};

/// Shortest and longest frame that a link of MTU 1500 carries.
const SENDABLE: std::ops::RangeInclusive<usize> = 14..=1514;

/// Which side of the cluster a frame comes from, or an address is on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Side {
    /// Router A: tcpprep's primary interface.
    Client,
    /// Router B: tcpprep's secondary interface.
    Server,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Server];

    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// One capture.
pub struct Capture {
    /// Folder and file.
    pub name: String,
    /// Its frames in their order, with the side they come from.
    pub frames: Vec<(Side, Vec<u8>)>,
    /// Where its addresses are.
    pub sides: BTreeMap<IpAddr, Side>,
    /// Its flows.
    flows: BTreeSet<Flow>,
}

/// Captures that agree where addresses are, and of which no two have a flow in common.
#[derive(Default)]
pub struct Round {
    /// In the order in which they are played.
    pub captures: Vec<Capture>,
    /// Where all their addresses are.
    pub sides: BTreeMap<IpAddr, Side>,
    flows: BTreeSet<Flow>,
}

/// What is played and what is not.
pub struct Played {
    /// All rounds.
    pub rounds: Vec<Round>,
    /// What was in the folder.
    pub totals: Totals,
    /// Frames that no link of MTU 1500 carries.
    pub unsendable: usize,
}

/// Reads the captures of at most `longest` frames, splits them, and puts them into rounds.
pub fn captures(folder: &Path, scratch: &Path, longest: usize) -> Result<Played> {
    let mut read: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    let mut unsendable = 0;
    let totals = files::each_frame(folder, |name, _, frame| {
        let frames = read.entry(name.to_owned()).or_default();
        if SENDABLE.contains(&frame.len()) {
            frames.push(frame.to_vec());
        } else {
            unsendable += 1;
        }
    })?;
    let mut rounds: Vec<Round> = Vec::new();
    for (name, frames) in read {
        if frames.is_empty() || frames.len() > longest {
            continue;
        }
        let capture = Capture::split(name, frames, scratch)?;
        match rounds.iter_mut().find(|round| round.takes(&capture)) {
            Some(round) => round.add(capture),
            None => {
                rounds.push(Round::default());
                rounds.last_mut().context("a round was added")?.add(capture);
            }
        }
    }
    Ok(Played { rounds, totals, unsendable })
}

impl Capture {
    fn split(name: String, frames: Vec<Vec<u8>>, scratch: &Path) -> Result<Self> {
        let sides = tcpprep(&frames, scratch).with_context(|| format!("tcpprep on {name}"))?;
        let frames: Vec<_> = sides.into_iter().zip(frames).collect();
        let mut capture = Self { name, frames, sides: BTreeMap::new(), flows: BTreeSet::new() };
        capture.place();
        Ok(capture)
    }

    /// A source is where its frames come from; who only receives is opposite of who sends to it.
    fn place(&mut self) {
        let packets = || {
            let packets = self.frames.iter().filter_map(|(side, frame)| Some((*side, Packet::of(frame)?)));
            packets.map(|(side, packet)| (side, packet.addresses()))
        };
        let mut sides = BTreeMap::new();
        for (side, (source, _)) in packets().filter(|(_, (source, _))| is_routable(*source)) {
            sides.entry(source).or_insert(side);
        }
        for (side, (_, destination)) in packets().filter(|(_, (_, to))| is_routable(*to)) {
            sides.entry(destination).or_insert(side.other());
        }
        let all = self.frames.iter().filter_map(|(_, frame)| Packet::of(frame));
        let routable = all.filter(|packet| {
            let (source, destination) = packet.addresses();
            is_routable(source) && is_routable(destination)
        });
        self.flows = routable.map(|packet| packet.flow().both_ways()).collect();
        self.sides = sides;
    }
}

impl Round {
    fn takes(&self, capture: &Capture) -> bool {
        self.flows.is_disjoint(&capture.flows)
            && capture
                .sides
                .iter()
                .all(|(address, side)| self.sides.get(address).is_none_or(|known| known == side))
    }

    fn add(&mut self, capture: Capture) {
        self.sides.extend(capture.sides.iter().map(|(address, side)| (*address, *side)));
        self.flows.extend(capture.flows.iter().cloned());
        self.captures.push(capture);
    }
}

/// True if a router may have a route to it.
fn is_routable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_loopback() || v4.is_multicast() || v4.is_broadcast() || v4.octets()[0] == 0)
        }
        IpAddr::V6(v6) => {
            !(v6.is_multicast() || v6.is_unicast_link_local() || v6.is_loopback() || v6.is_unspecified())
        }
    }
}

/// The side of each frame: whoever sends first is a client (`tcpprep --auto=first`).
fn tcpprep(frames: &[Vec<u8>], scratch: &Path) -> Result<Vec<Side>> {
    let (pcap, cache) = (scratch.join("split.pcap"), scratch.join("split.cache"));
    let header = PcapHeader { datalink: DataLink::ETHERNET, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(File::create(&pcap)?, header)?;
    for frame in frames {
        writer.write_packet(&PcapPacket::new(Duration::ZERO, frame.len() as u32, frame))?;
    }
    drop(writer);
    let mut prepare = Command::new("tcpprep");
    program::run(prepare.arg("--auto=first").arg("-i").arg(&pcap).arg("-o").arg(&cache))?;
    let said = program::run(Command::new("tcpprep").arg("-I").arg(&cache))?;
    let sides: Vec<Side> = said
        .lines()
        .filter_map(|line| line.rsplit_once("-> "))
        .map(|(_, side)| if side.trim() == "Primary" { Side::Client } else { Side::Server })
        .collect();
    ensure!(sides.len() == frames.len(), "{} answers for {} frames", sides.len(), frames.len());
    fs::remove_file(&cache)?;
    Ok(sides)
}
