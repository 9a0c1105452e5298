//! What paths look like to users' programs: traceroute and tracepath through the cluster, path MTU discovery with a
//! narrow link behind each node and the error by each node, a large download over a cluster link as narrow as the rest.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use samepath_tests::bed::plan::{self, Family};
use samepath_tests::bed::{Bed, Forwarder, Shape};
use samepath_tests::netns::Namespace;
use samepath_tests::program;
use samepath_tests::scenario::path_mtu::{
    errors_via, half, narrow_cluster, ping, split_errors, sum, told_via, transfer,
};

/// Bytes that go each way for each pair of nodes: many times the largest window before anybody is told.
const BYTES: usize = 300_000;

/// MTU of the narrow links behind the nodes.
const NARROW: &str = "1400";

/// What a program of the client prints; it must succeed.
fn client_says(bed: &Bed, program: &str, arguments: &[&str], to: IpAddr) -> Result<String> {
    let mut command = bed.client().command(program);
    program::run(command.args(arguments).arg(to.to_string()))
}

/// The address on each line of traceroute's or tracepath's output that begins with the number of a hop.
fn hops(shown: &str) -> Vec<(u8, IpAddr)> {
    let lines = shown.lines().filter_map(|line| {
        let (number, rest) = line.trim_start().split_once([' ', ':'])?;
        let address = rest.split_whitespace().find_map(|word| word.parse().ok())?;
        Some((number.parse().ok()?, address))
    });
    lines.collect()
}

/// Client, router A, the cluster, router B, server: the addresses the second hop shows must be nodes'.
fn check_hops(shown: &str, family: Family, to: IpAddr, nodes: &[u8]) -> Result<()> {
    let hops = hops(shown);
    let at = |number: u8| hops.iter().filter(move |hop| hop.0 == number).map(|hop| hop.1);
    let router_b: Vec<IpAddr> = (1..=plan::NODES)
        .map(|node| plan::outside(node).host(family, plan::ROUTER))
        .chain([plan::SERVERS.host(family, plan::ROUTER)])
        .collect();
    let cluster: Vec<IpAddr> =
        nodes.iter().map(|&node| plan::inside(node).host(family, plan::NODE)).collect();
    let first = plan::CLIENTS.host(family, plan::ROUTER);
    let is = |number: u8, wanted: &[IpAddr]| {
        at(number).count() > 0 && at(number).all(|address| wanted.contains(&address))
    };
    ensure!(is(1, &[first]), "router A comes first:\n{shown}");
    ensure!(is(2, &cluster), "the cluster is one hop, a node of {nodes:?}:\n{shown}");
    ensure!(is(3, &router_b), "router B comes third:\n{shown}");
    ensure!(is(4, &[to]), "the server is the fourth and last:\n{shown}");
    ensure!(hops.iter().all(|hop| hop.0 <= 4), "there are hops beyond the server:\n{shown}");
    Ok(())
}

#[test]
fn traceroute_and_tracepath_show_the_cluster_as_one_hop() -> Result<()> {
    let mut bed = Bed::new("paths-trace", Shape::default())?;
    bed.start_nodes(&[])?;
    let probes = [("UDP", &[][..]), ("ICMP", &["-I"][..]), ("TCP", &["-T", "-p", "7300"][..])];
    for (ways, nodes) in [("split", &[1][..]), ("scattered", &[1, 2, 3][..])] {
        if ways == "scattered" {
            bed.scatter()?;
        }
        for family in Family::BOTH {
            let to = plan::server(family, 0);
            for (name, option) in probes {
                let common = ["-n", "-q", "2", "-w", "4", "-m", "8"];
                let shown = client_says(&bed, "traceroute", &[&common, option].concat(), to)?;
                check_hops(&shown, family, to, nodes)
                    .with_context(|| format!("traceroute {name}, {ways} ways"))?;
                ensure!(!shown.contains('!'), "no hop says it cannot go on:\n{shown}");
            }
            let shown = client_says(&bed, "tracepath", &["-n", "-m", "8"], to)?;
            check_hops(&shown, family, to, nodes).with_context(|| format!("tracepath, {ways} ways"))?;
            ensure!(shown.contains("pmtu 1500") && shown.contains("hops 4"), "{shown}");
        }
    }
    ensure!(sum(&bed, |stats| stats.dropped_for("icmp_error_unrelated"))? == 0, "an error was lost");
    bed.finish()
}

/// The path MTU that a host has learned.
fn learned(host: &Namespace, to: IpAddr) -> Result<String> {
    let shown = host.ip_output(&["route", "get", &to.to_string()])?;
    let mut words = shown.split_whitespace().skip_while(|word| *word != "mtu");
    Ok(words.nth(1).with_context(|| format!("nobody told this host: {shown}"))?.to_owned())
}

/// Some bytes go both ways between the client and the server's address number `index`; both learn this path MTU.
fn transfer_and_learn(bed: &Bed, family: Family, index: u8) -> Result<()> {
    forget(bed)?;
    let client = transfer(bed, family, index, BYTES)?;
    let from_client = learned(bed.client(), plan::server(family, index))?;
    let from_server = learned(bed.server(), client)?;
    ensure!((&*from_client, &*from_server) == (NARROW, NARROW), "client {from_client}, server {from_server}");
    Ok(())
}

/// Hosts forget what they have learned.
fn forget(bed: &Bed) -> Result<()> {
    for host in [bed.client(), bed.server()] {
        for family in Family::BOTH {
            program::run(host.command("ip").args([family.option(), "route", "flush", "cache"]))?;
        }
    }
    Ok(())
}

#[test]
fn both_ends_learn_of_narrow_links_behind_any_node_by_errors_through_any_node() -> Result<()> {
    let mut bed = Bed::new("paths-narrow", Shape::default())?;
    split_errors(&bed)?;
    for family in Family::BOTH {
        for (router, interface, hosts) in
            [(bed.router_a(), "client", plan::CLIENTS), (bed.router_b(), "server", plan::SERVERS)]
        {
            router.ip(&format!("route add {} dev {interface} mtu lock {NARROW}\n", half(hosts, family)))?;
        }
    }
    bed.start_nodes(&[])?;
    for owner in 1..=plan::NODES {
        for by in 1..=plan::NODES {
            bed.forward_via(owner)?;
            bed.return_via(owner % plan::NODES + 1)?;
            errors_via(&bed, by)?;
            let index = (owner - 1) * plan::NODES + by - 1;
            for family in Family::BOTH {
                let what = || format!("{family:?}, narrow behind node {owner}, told by node {by}");
                let told = || Ok::<_, anyhow::Error>([told_via(bed.router_a())?, told_via(bed.router_b())?]);
                let before = told()?;
                transfer_and_learn(&bed, family, index).with_context(what)?;
                for (now, before) in told()?.iter().zip(before) {
                    let ways: Vec<u8> = (1..=plan::NODES)
                        .filter(|node| now[usize::from(*node) - 1] > before[usize::from(*node) - 1])
                        .collect();
                    ensure!(ways == [by], "{}: errors went by {ways:?}", what());
                }
            }
        }
    }
    for reason in ["icmp_error_unrelated", "icmp_error_window", "icmp_error_mtu"] {
        ensure!(sum(&bed, |stats| stats.dropped_for(reason))? == 0, "{reason}: an error was lost");
    }
    bed.finish()
}

#[test]
fn any_node_tells_both_ends_of_its_own_narrow_links() -> Result<()> {
    let mut bed = Bed::new("paths-own-link", Shape::default())?;
    for number in 1..=plan::NODES {
        for (hosts, link) in [(plan::CLIENTS, plan::inside(number)), (plan::SERVERS, plan::outside(number))] {
            for family in Family::BOTH {
                let (to, via) = (half(hosts, family), link.host(family, plan::ROUTER));
                bed.node_namespace(number).ip(&format!("route add {to} via {via} mtu {NARROW}\n"))?;
            }
        }
    }
    bed.start_nodes(&[])?;
    for owner in 1..=plan::NODES {
        for back in 1..=plan::NODES {
            bed.forward_via(owner)?;
            bed.return_via(back)?;
            let index = (owner - 1) * plan::NODES + back - 1;
            for family in Family::BOTH {
                let what = || format!("{family:?}, there by node {owner}, back by node {back}");
                let before = bed.stats(owner)?.answers.too_big;
                transfer_and_learn(&bed, family, index).with_context(what)?;
                ensure!(bed.stats(owner)?.answers.too_big >= before + 2, "{}: the Owner tells", what());
            }
        }
    }
    for family in Family::BOTH {
        let shown = client_says(&bed, "tracepath", &["-n", "-m", "8"], plan::server(family, 15))?;
        let cluster = plan::inside(3).host(family, plan::NODE).to_string();
        let narrow = shown.lines().find(|line| line.contains("pmtu 1400")).unwrap_or_default();
        ensure!(narrow.contains(&cluster), "tracepath shows that the cluster is narrow:\n{shown}");
    }
    bed.finish()
}

/// 100 MB there by node 1 and back by node 3, over a cluster link with the same MTU as the data interfaces.
fn download(name: &str, shape: Shape, extra: &[&str]) -> Result<Bed> {
    let bed = narrow_cluster(name, shape, extra)?;
    let web = bed.start_web()?;
    for family in Family::BOTH {
        let ends = (plan::client(family, 1), plan::server(family, 1));
        let fetched = bed.fetch_large(&web, ends, |_| ())?;
        println!("{family:?} {extra:?}: {} bytes in {:.1} s", fetched.bytes, fetched.seconds);
    }
    let crossed = bed.stats(3)?.tunnel.redirect_tx;
    ensure!(crossed > 2 * 100_000_000 / 1500, "{crossed} packets crossed the narrow link");
    ensure!(sum(&bed, |stats| stats.dropped_for("cluster_link_mtu"))? == 0, "a packet vanished unanswered");
    Ok(bed)
}

#[test]
fn a_download_of_100_mb_passes_a_narrow_cluster_link() -> Result<()> {
    let bed = download("paths-download", Shape::default(), &[])?;
    ensure!(sum(&bed, |stats| stats.mss_clamped)? >= 4, "SYNs name smaller segments");
    for family in Family::BOTH {
        // Of IPv6 both ends are told first: a router does not cut.
        let shown = ping(&bed, plan::server(family, 2), &["-c", "4", "-i", "0.2", "-s", "30000"])?;
        ensure!(shown.contains("icmp_seq=4 ttl="), "fragments pass too: {shown}");
    }
    bed.finish()
}

#[test]
fn a_download_of_100_mb_passes_a_narrow_cluster_link_without_a_clamp() -> Result<()> {
    let shape = Shape { cluster_family: Family::V6, ..Shape::default() };
    let bed = download("paths-unclamped", shape, &["--mss-clamp", "off"])?;
    ensure!(sum(&bed, |stats| stats.answers.too_big)? >= 2, "servers were told");
    for family in Family::BOTH {
        let mtu = learned(bed.server(), plan::client(family, 1))?;
        ensure!(mtu == "1390", "what the tunnel over IPv6 leaves of 1500, not {mtu}");
    }
    bed.finish()
}

#[test]
fn a_download_of_100_mb_passes_a_narrow_cluster_link_by_xdp() -> Result<()> {
    let shape = Shape { forwarder: Forwarder::Xdp, ..Shape::default() };
    let bed = download("paths-by-xdp", shape, &["--mss-clamp", "off"])?;
    ensure!(bed.stats(3)?.tunnel.redirect_tx_xdp > 0, "XDP redirects");
    bed.finish()
}
