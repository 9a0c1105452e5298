//! Paths that are narrow somewhere, and connections that need to learn it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::bed::plan::{self, Family, Subnet};
use crate::bed::{Bed, Shape};
use crate::cli::Stats;
use crate::netns::Namespace;
use crate::program;

/// How long a connection may stand still.
const PATIENCE: Duration = Duration::from_secs(15);

/// Server's port of transfers.
const PORT: u16 = 7300;

/// Routing table of the routers' ICMP errors.
const ERRORS: u32 = 77;

/// What ping from the client prints, whether or not anything comes back.
pub fn ping(bed: &Bed, to: IpAddr, more: &[&str]) -> Result<String> {
    let mut command = bed.client().command("ping");
    command.args(["-n", "-W", "2"]).args(more).arg(to.to_string());
    let output = program::output(&mut command)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

/// A counter of all running nodes together.
pub fn sum(bed: &Bed, of: impl Fn(&Stats) -> u64) -> Result<u64> {
    bed.running().into_iter().map(|number| Ok(of(&bed.stats(number)?))).sum()
}

/// `bytes` go both ways at once over one connection to the server's address number `index`, and arrive whole; the
/// client's address.
pub fn transfer(bed: &Bed, family: Family, index: u8, bytes: usize) -> Result<IpAddr> {
    let address = SocketAddr::new(plan::server(family, index), PORT);
    let listener = bed.server().enter(|| Ok(TcpListener::bind(address)?))?;
    let client = bed.client().enter(|| Ok(TcpStream::connect_timeout(&address, PATIENCE)?))?;
    let (server, from) = listener.accept()?;
    let exchange = move |stream: TcpStream, byte: u8| -> Result<usize> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut writer = stream.try_clone()?;
        let sent = thread::spawn(move || writer.write_all(&vec![byte; bytes]));
        let mut heard = vec![0; bytes];
        (&stream).read_exact(&mut heard).context("a transfer stands still")?;
        sent.join().map_err(|_| anyhow!("the writer panicked"))??;
        Ok(heard.iter().filter(|heard| **heard != byte).count())
    };
    let far = thread::spawn(move || exchange(server, 1));
    let right = exchange(client, 2)?;
    let far = far.join().map_err(|_| anyhow!("the server panicked"))??;
    ensure!((right, far) == (bytes, bytes), "bytes changed on their way over {family:?}");
    Ok(from.ip())
}

/// The hosts' addresses, more specific than their subnet.
pub fn half(hosts: Subnet, family: Family) -> String {
    let bits = if family == Family::V4 { 25 } else { 65 };
    format!("{}/{bits}", hosts.host(family, 0))
}

/// ICMP errors that the routers make go by a way of their own from now on ([`errors_via`]), and are counted.
pub fn split_errors(bed: &Bed) -> Result<()> {
    for router in [bed.router_a(), bed.router_b()] {
        for (family, protocol) in [(Family::V4, "icmp"), (Family::V6, "ipv6-icmp")] {
            let rule = format!("{} rule add ipproto {protocol} lookup {ERRORS}", family.option());
            program::run(router.command("ip").args(rule.split(' ')))?;
        }
        let counted = (1..=plan::NODES).map(|node| {
            format!(
                "oifname n{node} icmp type destination-unreachable icmp code frag-needed counter name n{node}\n\
                 oifname n{node} icmpv6 type packet-too-big counter name n{node}\n"
            )
        });
        let counters = (1..=plan::NODES).map(|node| format!("counter n{node} {{}}\n"));
        router.nft(&format!(
            "table inet told {{\n{}chain out {{ type filter hook output priority 0;\n{}}}\n}}\n",
            counters.collect::<String>(),
            counted.collect::<String>()
        ))?;
    }
    Ok(())
}

/// After [`split_errors`]: the node by which they go.
pub fn errors_via(bed: &Bed, node: u8) -> Result<()> {
    let (inside, outside) = (plan::inside(node), plan::outside(node));
    for family in Family::BOTH {
        let route = |to: Subnet, link: Subnet| {
            let via = link.host(family, plan::NODE);
            format!("route replace {} via {via} table {ERRORS}\n", to.network(family))
        };
        bed.router_a().ip(&route(plan::SERVERS, inside))?;
        bed.router_b().ip(&route(plan::CLIENTS, outside))?;
    }
    Ok(())
}

/// "Too big" that a router has sent towards each node since [`split_errors`], node 1 first.
pub fn told_via(router: &Namespace) -> Result<Vec<u64>> {
    let answer = program::run(router.command("nft").args(["-j", "list", "counters"]))?;
    let answer: Value = serde_json::from_str(&answer).context("nft's JSON")?;
    let counters: Vec<&Value> = answer["nftables"].as_array().context("no list")?.iter().collect();
    let of = |node: u8| {
        let found = counters.iter().find(|entry| entry["counter"]["name"] == format!("n{node}"));
        found.and_then(|entry| entry["counter"]["packets"].as_u64()).context("no such counter")
    };
    (1..=plan::NODES).map(of).collect()
}

/// Nodes whose cluster link carries no full packet, which they say.
pub fn narrow_cluster(name: &str, shape: Shape, extra: &[&str]) -> Result<Bed> {
    let mut bed = Bed::new(name, shape)?;
    for number in 1..=plan::NODES {
        bed.node_namespace(number).ip("link set cluster mtu 1500\n")?;
    }
    bed.start_nodes(extra)?;
    for number in 1..=plan::NODES {
        let status = bed.cli(number)?.run(&["status"])?;
        ensure!(status.contains("cluster link cluster has MTU 1500"), "node {number}: {status}");
    }
    Ok(bed)
}
