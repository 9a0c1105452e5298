//! A flood of SYNs beside people: connections that live, and new ones that come all the time.
//!
//! The flood enters at node 1, as the users' packets do, and goes to an address of the server's network that router B
//! drops packets for; so it costs the nodes what it costs, and the hosts nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::bed::plan::{self, End, Family, NODES};
use crate::bed::{Bed, Service};
use crate::raw_port::RawPort;
use crate::scenario::kept::{Kept, Traffic, add_ends, start_echo, start_server};
use crate::traffic::Tally;
use crate::traffic::flood::{Aim, Flood};
use crate::traffic::lasting::Told;
use crate::{artifacts, wait};

/// Port of the server of short connections.
const SERVE: u16 = 7008;

/// Whom the flood means.
const VICTIM: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 200);

/// New legitimate connections per second.
const NEW: usize = 50;

/// How long anything of this may take to come to rest.
const CALM: Duration = Duration::from_secs(60);

/// How much there is of everything.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// TCP connections that live.
    pub tcp: usize,
    /// UDP flows that live.
    pub udp: usize,
    /// SYNs per second.
    pub rate: u64,
    /// How long the flood lasts, s.
    pub seconds: u64,
}

impl Size {
    /// What a test has time for; `SAMEPATH_FLOOD=FLOWS:RATE:SECONDS` asks for more.
    pub fn asked() -> Result<Self> {
        let Ok(asked) = std::env::var("SAMEPATH_FLOOD") else {
            return Ok(Self { tcp: 360, udp: 40, rate: 4_000, seconds: 10 });
        };
        let numbers: Vec<u64> = asked.split(':').filter_map(|number| number.parse().ok()).collect();
        let [flows, rate, seconds] = numbers[..] else {
            bail!("SAMEPATH_FLOOD={asked} is not FLOWS:RATE:SECONDS, for example 10000:10000:60");
        };
        let flows = flows as usize;
        Ok(Self { tcp: flows - flows / 10, udp: flows / 10, rate, seconds })
    }
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// SYNs sent, and per second.
    pub flood: (u64, f64),
    /// Conversations that lived through it, or not.
    pub told: Told,
    /// New connections.
    pub new: Tally,
    /// Resident memory of each node, KiB: when the flood had filled its share, and at its end.
    pub resident: Vec<(u64, u64)>,
    /// Sessions that gave way on each node, of any role.
    pub evicted: Vec<u64>,
    /// Epochs before and after, of each node.
    pub epochs: Vec<(u64, u64)>,
}

/// Plays it on a bed whose nodes run with a table for `sessions_max`.
pub fn play(bed: &mut Bed, size: Size) -> Result<Outcome> {
    let servers: Vec<IpAddr> = (0..bed.shape().addresses).map(|n| plan::server(Family::V4, n)).collect();
    let clients: Vec<IpAddr> = (0..bed.shape().addresses).map(|n| plan::client(Family::V4, n)).collect();
    bed.router_b().ip(&format!("route add blackhole {VICTIM}/32\n"))?;
    let _echo = start_echo(bed, &servers)?;
    let _serve = start_server(bed, "serve", SERVE, &servers)?;
    let keep = lasting(bed, (&clients, &servers), size)?;
    wait::until_true("all conversations have said something", CALM, || {
        // The first answer came when they were opened.
        Ok(keep.tell()?.tcp_answers >= 2 * size.tcp as u64)
    })?;
    let epochs = each(bed, epoch)?;
    let before = each(bed, evictions)?;
    let mut new = asking(bed, (&clients, &servers), size.seconds)?;
    let port = RawPort::open(bed.router_a(), "n1")?;
    let macs = (End::RouterA(1).mac(), End::Inside(1).mac());
    let flood = Flood::begin(port, Aim { macs, server: VICTIM, rate: size.rate });
    keep.mark()?;
    wait::until_true("the flood pushes itself out", CALM, || Ok(evictions(bed, 1)? > before[0]))?;
    let filled = resident(bed)?;
    let tally = tally(&mut new, Duration::from_secs(size.seconds) + CALM)?;
    let flood = flood.end()?;
    let full = resident(bed)?;
    let told = keep.tell()?;
    let evicted =
        each(bed, evictions)?.into_iter().zip(before).map(|(after, before)| after - before).collect();
    let epochs = epochs.into_iter().zip(each(bed, epoch)?).collect();
    Ok(Outcome { flood, told, new: tally, resident: filled.into_iter().zip(full).collect(), evicted, epochs })
}

fn each<T>(bed: &Bed, of: impl Fn(&Bed, u8) -> Result<T>) -> Result<Vec<T>> {
    (1..=NODES).map(|number| of(bed, number)).collect()
}

fn epoch(bed: &Bed, number: u8) -> Result<u64> {
    bed.status(number)?["epoch"].as_u64().context("no epoch in the status")
}

/// Sessions of any role that gave way to others.
fn evictions(bed: &Bed, number: u8) -> Result<u64> {
    let stats: serde_json::Value = bed.cli(number)?.json(&["stats"])?;
    let names = ["evicted", "backups_evicted", "claims_evicted"];
    let counts = names.map(|name| stats["sessions"][name].as_u64());
    counts.into_iter().sum::<Option<u64>>().context("stats without evictions")
}

fn resident(bed: &mut Bed) -> Result<Vec<u64>> {
    let of = |number| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", bed.process(number)?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        number.context("no VmRSS")
    };
    (1..=NODES).map(of).collect()
}

fn lasting(bed: &Bed, ends: (&[IpAddr], &[IpAddr]), size: Size) -> Result<Kept> {
    // A thousand messages a second, however many say them.
    let pause = (size.tcp + size.udp).max(100) as u32;
    let (tcp, udp) = (size.tcp, size.udp);
    let traffic = Traffic { tcp, udp, tcp_pause_ms: pause, udp_interval_ms: pause, ..Traffic::default() };
    Kept::open(bed, ends, traffic)
}

fn asking(bed: &Bed, ends: (&[IpAddr], &[IpAddr]), seconds: u64) -> Result<Service> {
    let mut command = bed.client().command(artifacts::sibling("samepath-traffic")?);
    let count = NEW * seconds as usize;
    command.args(["tcp", "--count", &count.to_string(), "--at-once", "64"]);
    command.args(["--per-second", &NEW.to_string()]);
    add_ends(&mut command, ends, SERVE);
    bed.start_service("new", &mut command)
}

fn tally(new: &mut Service, deadline: Duration) -> Result<Tally> {
    let status = new.wait(deadline)?;
    ensure!(status.success(), "{}", new.log_tail());
    Ok(serde_json::from_str(new.output().trim())?)
}
