//! Service ports on real traffic over the split path (out by node 1, back by node 3): HAProxy with TPROXY and the
//! client's address as source, and an inspector that is the kernel's own connection tracking.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use samepath_tests::bed::plan::{self, Family, NODES};
use samepath_tests::bed::{Bed, Kind, Service, Shape, service_port};
use samepath_tests::netns::Namespace;
use samepath_tests::scenario::kept::start_server;
use samepath_tests::wait;

const ECHO: u16 = 7010;
const PATIENCE: Duration = Duration::from_secs(15);
/// Longer than an answer takes.
const SILENCE: Duration = Duration::from_secs(1);

struct Served {
    bed: Bed,
    spaces: Vec<Namespace>,
    proxies: Vec<Service>,
}

fn served(name: &str, kind: Kind, extra: &[&str]) -> Result<Served> {
    let mut bed = Bed::new(name, Shape::default())?;
    let file = bed.runtime().join("policy.toml");
    fs::write(&file, service_port::policy(&[80, ECHO]))?;
    let (mut spaces, mut proxies) = (Vec::new(), Vec::new());
    for number in 1..=NODES {
        let space = bed.add_service_port(number, kind)?;
        if kind == Kind::Proxy {
            proxies.push(bed.start_haproxy(number, &space)?);
        }
        spaces.push(space);
    }
    let policy = file.display().to_string();
    bed.start_nodes_with_services(kind, &[&["--policy", policy.as_str()], extra].concat())?;
    Ok(Served { bed, spaces, proxies })
}

/// Packets a node has sent to its service, and received from it.
fn counted(bed: &Bed, number: u8) -> Result<(u64, u64)> {
    let stats: serde_json::Value = bed.cli(number)?.json(&["stats"])?;
    let count = |way: &str| stats["services"]["web"][way].as_u64().context("no counter of the service");
    Ok((count("to")?, count("from")?))
}

/// Packets all running nodes have sent to their services.
fn counted_everywhere(bed: &Bed) -> Result<u64> {
    bed.running().into_iter().map(|number| Ok(counted(bed, number)?.0)).sum()
}

fn dropped(bed: &Bed, number: u8, reason: &str) -> Result<u64> {
    Ok(bed.stats(number)?.dropped_for(reason))
}

fn connect(bed: &Bed, family: Family) -> std::io::Result<TcpStream> {
    let to = SocketAddr::new(plan::server(family, 0), ECHO);
    let connected = bed.client().enter(|| Ok(TcpStream::connect_timeout(&to, SILENCE)));
    let stream = connected.map_err(std::io::Error::other)??;
    stream.set_read_timeout(Some(SILENCE))?;
    Ok(stream)
}

/// Says something and hears it again.
fn speak(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut heard = [0; 5];
    stream.write_all(b"hello")?;
    stream.read_exact(&mut heard)?;
    if heard == *b"hello" { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

fn echo(bed: &Bed) -> Result<Service> {
    start_server(bed, "echo", ECHO, &Family::BOTH.map(|family| plan::server(family, 0)))
}

#[test]
fn a_transparent_proxy_serves_split_flows_and_nothing_passes_it_when_it_is_down() -> Result<()> {
    let Served { bed, spaces, proxies } = served("service-proxy", Kind::Proxy, &[])?;
    let web = bed.start_web()?;
    for family in Family::BOTH {
        bed.fetch_small((plan::client(family, 0), plan::server(family, 0)), 50)?;
    }
    let (to, from) = counted(&bed, 1)?;
    // Each transaction: SYN, ACK, request, answer, two ends, on both legs.
    ensure!(to >= 600 && from >= 600, "{to} packets to the proxy, {from} from it");
    for number in [2, 3] {
        ensure!(counted(&bed, number)? == (0, 0), "the service of node {number} was asked");
    }
    let back = bed.stats(3)?.tunnel;
    ensure!(back.redirect_tx + back.query_tx >= 200, "replies did not come by node 3");

    spaces[0].ip("link set eth0 down")?;
    bed.wait_service(1, false)?;
    let before = dropped(&bed, 1, "service_down")?;
    let closed = connect(&bed, Family::V4).err().map(|error| error.kind());
    ensure!(closed == Some(ErrorKind::TimedOut), "{closed:?}");
    ensure!(dropped(&bed, 1, "service_down")? > before, "no packet was dropped for it");
    let warnings = bed.status(1)?["warnings"].to_string();
    ensure!(warnings.contains("service web is down"), "{warnings}");

    spaces[0].ip("link set eth0 up\nroute replace default via 10.66.1.1\n")?;
    bed.wait_service(1, true)?;
    bed.fetch_small((plan::client(Family::V4, 1), plan::server(Family::V4, 1)), 5)?;
    drop((web, proxies));
    bed.finish()
}

#[test]
fn a_proxied_connection_is_reset_when_its_owner_dies_and_new_ones_work() -> Result<()> {
    let Served { mut bed, proxies, .. } = served("service-takeover", Kind::Proxy, &[])?;
    let echo = echo(&bed)?;
    let mut flow = connect(&bed, Family::V4)?;
    speak(&mut flow).context("the flow goes through the proxy")?;
    let mut silent = connect(&bed, Family::V6)?;
    speak(&mut silent).context("the other one, too")?;
    wait::until_true("the other nodes have backups of both legs of both", PATIENCE, || {
        Ok(bed.sessions(2)?.iter().filter(|row| row.dport == ECHO).count() == 4)
    })?;
    bed.kill_node(1)?;
    bed.forward_via(2)?;
    bed.wait_members(2)?;
    let ended = wait::until("the connection ends", PATIENCE, || match speak(&mut flow) {
        Ok(()) => anyhow::bail!("nobody has the proxy's state, and yet the connection goes on"),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Ok(Some(error.kind())),
    })?;
    ensure!(ended == ErrorKind::ConnectionReset, "{ended:?}");
    silent.set_read_timeout(Some(PATIENCE))?;
    let ended = silent.read(&mut [0]).map_err(|error| error.kind());
    ensure!(ended == Err(ErrorKind::ConnectionReset), "who says nothing is told, too: {ended:?}");
    let asked: u64 =
        bed.running().into_iter().map(|number| Ok(bed.stats(number)?.prompted)).sum::<Result<_>>()?;
    ensure!(asked > 0, "nobody was asked");
    // Proxied connections do not outlive it, and there is no reason for it.
    for number in bed.running() {
        ensure!(bed.stats(number)?.sessions.handed_over == 0, "node {number} gave its flows away");
    }
    let before = counted_everywhere(&bed)?;
    speak(&mut connect(&bed, Family::V4)?).context("a new connection through another node's proxy")?;
    ensure!(counted_everywhere(&bed)? > before, "the new one passed the proxy by");
    drop((echo, proxies));
    bed.finish()
}

#[test]
fn an_inspector_sees_whole_flows_which_outlive_it_if_open_and_their_owner() -> Result<()> {
    let open = ["--service-down", "open"];
    let Served { mut bed, spaces, .. } = served("service-inspector", Kind::Inspector, &open)?;
    let web = bed.start_web()?;
    let echo = echo(&bed)?;
    for family in Family::BOTH {
        bed.fetch_small((plan::client(family, 0), plan::server(family, 0)), 50)?;
    }
    let (to, from) = counted(&bed, 1)?;
    ensure!(to >= 600 && to == from, "{to} packets to the inspector, {from} from it");

    let mut flow = connect(&bed, Family::V4)?;
    speak(&mut flow).context("the flow is inspected")?;
    spaces[0].ip("link set eth0 down")?;
    bed.wait_service(1, false)?;
    speak(&mut flow).context("open: the flow goes on without its inspector")?;
    speak(&mut connect(&bed, Family::V4)?).context("open: a flow begins without it")?;
    spaces[0].ip(
        "link set eth0 up\nroute replace default via 10.66.1.1\nroute replace default via fd00:66:1::1\n",
    )?;
    bed.wait_service(1, true)?;
    // What it missed makes the old flow invalid to it; a new one it sees from its beginning.
    let mut flow = connect(&bed, Family::V4)?;
    let before = counted(&bed, 1)?.1;
    speak(&mut flow).context("it is inspected again")?;
    ensure!(counted(&bed, 1)?.1 > before, "the inspector is up and passed by");

    bed.kill_node(1)?;
    bed.forward_via(2)?;
    bed.wait_members(2)?;
    let before = counted_everywhere(&bed)?;
    speak(&mut flow).or_else(|_| speak(&mut flow)).context("it goes on at its new Owner")?;
    ensure!(counted_everywhere(&bed)? > before, "it goes on past the inspector there");
    drop((web, echo));
    bed.finish()
}
