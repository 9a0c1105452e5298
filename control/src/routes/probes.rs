//! Which neighbours the kernel should be asked to confirm, and when. Pure: time is an argument.
//!
//! Packets that samepath forwards bypass the kernel, so nothing there tells it that a neighbour is in
//! use: entries turn STALE, a moved link address would go unnoticed, and a gateway nobody talked to is
//! never asked for. So samepath asks: gateways and peers before they are needed, STALE neighbours of
//! its ports in rounds, others when a packet waits for them.

use std::net::IpAddr;

use ahash::RandomState;
use hashbrown::HashMap;
use samepath_dataplane::clock::NowMs;
use samepath_dataplane::route::Routes;

use super::message::Standing;
use super::mirror::Mirror;

/// Least time between two requests of workers for one address, ms. The kernel repeats its own probes
/// every second (`retrans_time_ms`); more requests would change nothing.
const ASK_EVERY_MS: u64 = 500;

/// Least time between two attempts at a gateway or peer that does not answer, ms: the kernel's probe
/// interval, so a gateway that comes back is noticed within a second.
const RETRY_EVERY_MS: u64 = 1_000;

/// Time between two rounds over STALE neighbours, ms. The kernel confirms 5 s later
/// (`delay_first_probe_time`) and gives up after three probes, so a link address that moved without
/// announcing itself is noticed within about 25 s. Shorter rounds cost packets on every link.
const ROUND_EVERY_MS: u64 = 15_000;

/// STALE neighbours confirmed per round; the rest has its turn in the next ones. As many as the
/// kernel keeps by default (`gc_thresh3`).
const PER_ROUND: usize = 1_024;

/// Addresses workers may ask for within [`ASK_EVERY_MS`]: bounds memory and neighbour traffic when
/// somebody scans an on-link prefix.
const ASKED_MAX: usize = 512;

/// Remembers what was asked, and whom to keep resolved.
#[derive(Debug, Default)]
pub struct Probes {
    asked: HashMap<(u32, IpAddr), NowMs, RandomState>,
    tried: HashMap<(u32, IpAddr), NowMs, RandomState>,
    kept: Vec<(u32, IpAddr)>,
    next_round: NowMs,
    last_of_round: Option<(u32, IpAddr)>,
}

impl Probes {
    /// Replaces the addresses to keep resolved besides the gateways of routes.
    pub fn keep(&mut self, addresses: Vec<(u32, IpAddr)>) {
        self.kept = addresses;
    }

    /// True if a worker's request for a neighbour should reach the kernel.
    pub fn ask(&mut self, mirror: &Mirror, ifindex: u32, address: IpAddr, now: NowMs) -> bool {
        let known = mirror.neighbour(ifindex, address);
        if !mirror.is_port_up(ifindex) || known.is_some_and(|known| known.mac.is_some()) {
            return false;
        }
        self.asked.retain(|_, at| now.since(*at) < ASK_EVERY_MS);
        if self.asked.len() >= ASKED_MAX || self.asked.contains_key(&(ifindex, address)) {
            return false;
        }
        self.asked.insert((ifindex, address), now);
        true
    }

    /// Neighbours to ask for now. Called about once a second and whenever routes changed.
    pub fn due(&mut self, mirror: &Mirror, routes: &Routes, now: NowMs) -> Vec<(u32, IpAddr)> {
        let mut due = self.unresolved(mirror, routes, now);
        if now >= self.next_round {
            self.next_round = now.plus(ROUND_EVERY_MS);
            due.extend(self.stale(mirror));
        }
        due
    }

    /// Gateways and kept addresses the kernel knows nothing of.
    fn unresolved(&mut self, mirror: &Mirror, routes: &Routes, now: NowMs) -> Vec<(u32, IpAddr)> {
        self.tried.retain(|_, at| now.since(*at) < RETRY_EVERY_MS);
        let mut wanted = routes.gateways();
        // A kept address behind a gateway stands for the gateway.
        wanted.extend(
            self.kept
                .iter()
                .map(|&(ifindex, address)| routes.next_hop(address, 0).unwrap_or((ifindex, address))),
        );
        wanted.sort_unstable();
        wanted.dedup();
        wanted.retain(|&(ifindex, address)| {
            mirror.is_port_up(ifindex)
                && mirror.neighbour(ifindex, address).is_none()
                && !self.tried.contains_key(&(ifindex, address))
        });
        self.tried.extend(wanted.iter().map(|&key| (key, now)));
        wanted
    }

    /// STALE neighbours, from where the last round ended.
    fn stale(&mut self, mirror: &Mirror) -> Vec<(u32, IpAddr)> {
        let stale: Vec<(u32, IpAddr)> = mirror
            .neighbours()
            .filter(|((ifindex, _), neighbour)| {
                neighbour.standing == Standing::Stale && mirror.is_port_up(*ifindex)
            })
            .map(|(key, _)| key)
            .collect();
        let start = stale.partition_point(|key| Some(*key) <= self.last_of_round);
        let round: Vec<(u32, IpAddr)> =
            stale[start..].iter().chain(&stale[..start]).take(PER_ROUND).copied().collect();
        self.last_of_round = round.last().copied();
        round
    }
}
