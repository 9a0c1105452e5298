//! Packets that cannot simply go on, over the split path: TTL used up, no route, no neighbour, too large.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use samepath_tests::bed::plan::{self, Family};
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::scenario::path_mtu::{
    errors_via, half, narrow_cluster, ping, split_errors, sum, transfer,
};

/// Bytes that go each way in a transfer.
const BYTES: usize = 3_000_000;
const PATIENCE: Duration = Duration::from_secs(15);
const PORT: u16 = 7300;

#[test]
fn the_cluster_is_one_hop_and_says_what_it_cannot_reach() -> Result<()> {
    let mut bed = Bed::new("odd-one-hop", Shape::default())?;
    bed.start_nodes(&[])?;
    for family in Family::BOTH {
        let (server, node) = (plan::server(family, 0), plan::inside(1).host(family, plan::NODE));
        let probe = |ttl: &str| ping(&bed, server, &["-c", "1", "-t", ttl]);
        let shown = [probe("1")?, probe("2")?, probe("3")?, probe("4")?];
        let router = plan::CLIENTS.host(family, plan::ROUTER);
        let from = |address: IpAddr| format!("From {address} icmp_seq=1 Time");
        ensure!(shown[0].to_lowercase().contains(&from(router).to_lowercase()), "{}", shown[0]);
        ensure!(shown[1].contains(&from(node)), "the cluster's hop: {}", shown[1]);
        ensure!(
            shown[2].contains("icmp_seq=1 Time") && !shown[2].contains(&node.to_string()),
            "router B is next: {}",
            shown[2]
        );
        ensure!(shown[3].contains("1 received"), "{}", shown[3]);
    }
    ensure!(sum(&bed, |stats| stats.answers.time_exceeded)? == 2, "answers of the cluster");
    ensure!(sum(&bed, |stats| stats.dropped_for("ttl_expired"))? == 0, "an answered packet is no drop");

    for family in Family::BOTH {
        let (nowhere, gateway) = (far_subnet(), plan::inside(1).host(family, plan::NODE));
        bed.router_a().ip(&format!(
            "route add {} via {gateway}\nroute add {} via {gateway}\n",
            nowhere.network(family),
            plan::outside(1).network(family)
        ))?;
        let shown = ping(&bed, nowhere.host(family, 9), &["-c", "1"])?.to_lowercase();
        let no_route = shown.contains("net unreachable") || shown.contains("no route");
        ensure!(shown.contains(&gateway.to_string()) && no_route, "{shown}");
        let shown = ping(&bed, plan::outside(1).host(family, 99), &["-c", "1", "-W", "8"])?.to_lowercase();
        let unreachable = shown.contains("host unreachable") || shown.contains("address unreachable");
        ensure!(shown.contains(&gateway.to_string()) && unreachable, "{shown}");
    }
    ensure!(sum(&bed, |stats| stats.answers.unreachable)? == 4, "answers of the cluster");
    bed.finish()
}

/// A subnet that no node has a route to.
fn far_subnet() -> plan::Subnet {
    plan::outside(77)
}

#[test]
fn senders_learn_of_a_narrow_link_behind_any_node() -> Result<()> {
    let mut bed = Bed::new("odd-narrow", Shape::default())?;
    // ICMP errors of routers go by node 2, which owns nothing.
    split_errors(&bed)?;
    errors_via(&bed, 2)?;
    for family in Family::BOTH {
        bed.router_a()
            .ip(&format!("route add {} dev client mtu lock 1400\n", half(plan::CLIENTS, family)))?;
    }
    bed.start_nodes(&[])?;
    let before = bed.stats(2)?;
    for family in Family::BOTH {
        transfer(&bed, family, 1, BYTES)?;
    }
    let redirected = bed.stats(2)?.rx - before.rx;
    ensure!(redirected > 0, "no error passed node 2");
    ensure!(sum(&bed, |stats| stats.dropped_for("icmp_error_unrelated"))? == 0, "an error was lost");

    for family in Family::BOTH {
        let (clients, via) = (half(plan::CLIENTS, family), plan::inside(1).host(family, plan::ROUTER));
        bed.node_namespace(1).ip(&format!("route add {clients} via {via} mtu 1380\n"))?;
        transfer(&bed, family, 2, BYTES)?;
    }
    ensure!(sum(&bed, |stats| stats.answers.too_big)? >= 2, "the Owner tells senders of its own link");
    bed.finish()
}

#[test]
fn a_cluster_link_as_narrow_as_the_data_interfaces_is_no_black_hole() -> Result<()> {
    let bed = narrow_cluster("odd-narrow-cluster", Shape::default(), &[])?;
    for family in Family::BOTH {
        transfer(&bed, family, 0, BYTES)?;
    }
    ensure!(sum(&bed, |stats| stats.mss_clamped)? >= 4, "SYNs name smaller segments");
    ensure!(sum(&bed, |stats| stats.answers.too_big)? == 0, "so nobody needs to be told");
    for index in 1..5 {
        let to = plan::server(Family::V4, index);
        let shown = ping(&bed, to, &["-c", "2", "-i", "0.2", "-s", "1440", "-M", "dont"])?;
        ensure!(shown.contains("2 received"), "packets that may be cut are: {shown}");
    }
    ensure!(sum(&bed, |stats| stats.fragments_made)? >= 8, "fragments");
    let mut told = 0;
    for index in 5..11 {
        let to = plan::server(Family::V4, index);
        let shown = ping(&bed, to, &["-c", "1", "-s", "1440", "-M", "do"])?;
        told += usize::from(shown.contains("mtu = 1410") || shown.contains("mtu=1410"));
        ensure!(shown.contains("1 received") || shown.contains("1410"), "silence: {shown}");
    }
    ensure!(told > 0, "somebody's Director is another node");
    bed.finish()
}

/// Datagrams of 20 to 60 kB over many flows at once, each answered with the same bytes.
fn echo_datagrams(bed: &Bed, family: Family, flows: u16) -> Result<()> {
    let far = |flow: u16| SocketAddr::new(plan::server(family, (flow % 4) as u8), PORT + flow);
    let bind = |address: SocketAddr| {
        let socket = UdpSocket::bind(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    };
    let servers: Vec<_> =
        (0..flows).map(|flow| bed.server().enter(|| bind(far(flow)))).collect::<Result<_>>()?;
    let near = |flow: u16| SocketAddr::new(plan::client(family, (flow % 3) as u8), 0);
    let clients: Vec<_> =
        (0..flows).map(|flow| bed.client().enter(|| bind(near(flow)))).collect::<Result<_>>()?;
    let datagram = |flow: u16| -> Vec<u8> {
        (0..20_000 + 40_000 / usize::from(flows) * usize::from(flow))
            .map(|at| (at * 7 + usize::from(flow)) as u8)
            .collect()
    };
    let mut heard = vec![0; 65_536];
    for _ in 0..3 {
        for (flow, client) in (0..).zip(&clients) {
            client.send_to(&datagram(flow), far(flow))?;
        }
        for (flow, server) in (0..).zip(&servers) {
            let (length, from) =
                server.recv_from(&mut heard).with_context(|| format!("{family:?} {flow} there"))?;
            ensure!(heard[..length] == datagram(flow), "{family:?} {flow}: bytes changed on their way");
            server.send_to(&heard[..length], from)?;
        }
        for (flow, client) in (0..).zip(&clients) {
            let (length, _) =
                client.recv_from(&mut heard).with_context(|| format!("{family:?} {flow} back"))?;
            ensure!(heard[..length] == datagram(flow), "{family:?} {flow}: bytes changed on their way back");
        }
    }
    Ok(())
}

#[test]
fn fragments_of_one_packet_meet_wherever_they_arrive() -> Result<()> {
    let mut bed = Bed::new("odd-fragments", Shape { workers: 2, ..Shape::default() })?;
    bed.start_nodes(&[])?;
    bed.scatter()?;
    for family in Family::BOTH {
        let shown = ping(&bed, plan::server(family, 0), &["-c", "5", "-i", "0.1", "-s", "60000"])?;
        ensure!(shown.contains("5 received"), "{family:?}: {shown}");
        echo_datagrams(&bed, family, 6)?;
    }
    for number in 1..=plan::NODES {
        let stats = bed.stats(number)?;
        ensure!(
            stats.tunnel.gather_tx > 0 && stats.tunnel.gather_rx > 0,
            "node {number}: {:?}",
            stats.tunnel
        );
        let dropped: BTreeMap<_, _> = stats.drops.iter().filter(|(_, count)| **count > 0).collect();
        ensure!(dropped.is_empty() && stats.fragments_waiting == 0, "node {number}: {dropped:?}");
    }
    bed.finish()
}

#[test]
fn without_a_clamp_both_ends_are_told() -> Result<()> {
    let bed = narrow_cluster("odd-unclamped", Shape::default(), &["--mss-clamp", "off"])?;
    for family in Family::BOTH {
        transfer(&bed, family, 0, BYTES)?;
    }
    ensure!(sum(&bed, |stats| stats.mss_clamped)? == 0, "SYNs stay as they are");
    ensure!(sum(&bed, |stats| stats.answers.too_big)? >= 2, "ends were told");
    bed.finish()
}
