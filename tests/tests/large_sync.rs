//! A fresh node gets very many sessions while the node that has them works on.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use samepath_tests::bed::plan::{self, End, Family};
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::frame::Way;
use samepath_tests::inlet::Inlet;
use samepath_tests::scenario::kept::{Kept, Traffic, start_echo};
use samepath_tests::wait;

/// Sessions of one test; `SAMEPATH_SESSIONS` asks for more.
const SESSIONS: usize = 30_000;

/// How long a step may take for each session, and how long anyhow.
const EACH: Duration = Duration::from_micros(200);
const SOON: Duration = Duration::from_secs(30);

/// Frames sent before the node is asked whether it has taken them: fewer than its rings hold.
const LOT: usize = 1024;

/// Flows of one source address.
const PORTS: usize = 50_000;

fn sessions() -> Result<usize> {
    match std::env::var("SAMEPATH_SESSIONS") {
        Ok(asked) => asked.parse().with_context(|| format!("SAMEPATH_SESSIONS={asked} is not a number")),
        Err(_) => Ok(SESSIONS),
    }
}

/// One datagram of each flow: towards the server's side, or back.
fn speak(bed: &Bed, sessions: usize, back: bool) -> Result<()> {
    let (router, interface, from, to) = match back {
        false => (bed.router_a(), "inside", End::RouterA(1), End::Inside(1)),
        true => (bed.router_b(), "outside", End::RouterB(1), End::Outside(1)),
    };
    let mut inlet = Inlet::open((router, "n1"), (bed.node_namespace(1), interface))?;
    for number in 0..sessions {
        let client = (
            IpAddr::V4(Ipv4Addr::new(10, 1, 0, 100 + (number / PORTS) as u8)),
            1024 + (number % PORTS) as u16,
        );
        let server = (IpAddr::V4(Ipv4Addr::new(10, 2, 0, 200)), 53);
        let (source, destination) = if back { (server, client) } else { (client, server) };
        inlet.send(&Way { from, to, vlan: None, source, destination }.udp(b"?")?)?;
        if number % LOT == LOT - 1 {
            wait::until_true("the packets are taken", SOON, || bed.rings_are_empty(1))?;
        }
    }
    inlet.wait_arrived()
}

#[test]
fn a_fresh_node_gets_all_sessions_and_nobody_notices() -> Result<()> {
    let count = sessions()?;
    let deadline = SOON + EACH * count as u32;
    let mut bed = Bed::new("large-sync", Shape::default())?;
    let room = (count * 2).max(65_536).to_string();
    let options = [
        "--sessions-max",
        &room,
        "--timeout",
        "udp_stream=3600",
        "--timeout",
        "udp=3600",
        "--half-open-max",
        "100",
    ];
    bed.start_node(1, &[&options[..], &["--join-grace-ms", "0"]].concat())?;
    bed.forward_via(1)?;
    bed.return_via(1)?;
    // Nobody answers for the many: the test speaks for both sides.
    bed.router_a().ip("route add blackhole 10.1.0.96/27\n")?;
    bed.router_b().ip("route add blackhole 10.2.0.200/32\n")?;
    let began = Instant::now();
    speak(&bed, count, false)?;
    speak(&bed, count, true)?;
    let opened = began.elapsed();
    let owned = bed.stats(1)?.sessions.owner;
    ensure!(
        owned as usize > count * 99 / 100,
        "{owned} of {count} sessions were begun: {:?}",
        bed.stats(1)?.drops
    );

    let ends = ([plan::client(Family::V4, 0)], [plan::server(Family::V4, 0)]);
    let _echo = start_echo(&bed, &ends.1)?;
    let mut kept = Kept::open(&bed, (&ends.0, &ends.1), Traffic { tcp: 20, udp: 4, ..Traffic::default() })?;
    kept.mark()?;
    let began = Instant::now();
    bed.launch_node(3, &options)?;
    wait::until_true("the fresh node has them all", deadline, || {
        Ok(bed.stats(3).is_ok_and(|stats| stats.sessions.backup >= owned))
    })?;
    let synced = began.elapsed();
    bed.wait_ready(3)?;
    let told = kept.wait_for_calm()?;
    println!(
        "{owned} sessions begun in {:.1} s; on a fresh node {:.1} s after its start; meanwhile the longest silence of TCP {:.0} ms, of UDP {:.0} ms",
        opened.as_secs_f64(),
        synced.as_secs_f64(),
        told.tcp_silence_ms.last().unwrap_or(&0.0),
        told.udp_silence_ms.last().unwrap_or(&0.0)
    );
    ensure!(told.broken.is_empty() && told.silent == 0, "{told:?}");
    bed.finish()
}
