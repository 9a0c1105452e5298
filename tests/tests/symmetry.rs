//! `samepath symmetry`: among a hundred pairs of prefixes the three that are routed asymmetrically are named, with the bytes
//! that nft counts on the cluster link and a capture of it has.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use samepath_tests::bed::plan::{self, End, Family};
use samepath_tests::bed::{Bed, Forwarder, Shape};
use samepath_tests::capture::Frame;
use samepath_tests::frame::Way;
use samepath_tests::raw_port::RawPort;
use samepath_tests::{program, scenario, wait};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

/// Clients and servers: each pair of them is a pair of prefixes, of one address each.
const HOSTS: u8 = 10;

/// Pairs whose replies arrive at node 3; all others pass node 1 both ways.
const ASYMMETRIC: [(u8, u8); 3] = [(2, 7), (5, 5), (9, 0)];

/// Replies of an asymmetric pair, and bytes of each.
const REPLIES: usize = 300;
const PAYLOAD: [u8; 400] = [7; 400];

/// Where the inner addresses are: behind outer headers of 90 bytes, the inner Ethernet header and 12 bytes of IP header.
const INNER_ADDRESSES: usize = 116;

/// Frames sent between two looks at whether they were taken.
const LOT: usize = 32;

fn ends(pair: (u8, u8)) -> ((IpAddr, u16), (IpAddr, u16)) {
    let port = *scenario::HAND_MADE_PORTS.start();
    ((plan::client(Family::V4, pair.0), port), (plan::server(Family::V4, pair.1), port))
}

fn there(pair: (u8, u8)) -> Result<Vec<u8>> {
    let (source, destination) = ends(pair);
    Way { from: End::RouterA(1), to: End::Inside(1), vlan: None, source, destination }.udp(b"question")
}

fn back(pair: (u8, u8), node: u8) -> Result<Vec<u8>> {
    let (destination, source) = ends(pair);
    Way { from: End::RouterB(node), to: End::Outside(node), vlan: None, source, destination }.udp(&PAYLOAD)
}

/// Bytes that crossed the cluster link with packets of a pair's replies: each frame where it enters the switch.
fn captured(frames: &[Frame], pair: (u8, u8)) -> u64 {
    let enters = |frame: &&Frame| {
        (1..=3).any(|node| {
            frame.interface == format!("n{node}") && frame.bytes[6..12] == End::Cluster(node).mac()
        })
    };
    let inner = inner_addresses(pair);
    let of_pair = |frame: &&Frame| frame.bytes.get(INNER_ADDRESSES..INNER_ADDRESSES + 8) == Some(&inner[..]);
    frames.iter().filter(enters).filter(of_pair).map(|frame| frame.bytes.len() as u64).sum()
}

/// Inner addresses of a pair's replies, as they lie in a packet.
fn inner_addresses((client, server): (u8, u8)) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(_) => [0; 4],
    };
    let ((client, _), (server, _)) = ends((client, server));
    [octets(server), octets(client)].concat()
}

/// Name of a pair's counter.
fn counter((client, server): (u8, u8)) -> String {
    format!("c{client}s{server}")
}

/// Has nft count what nodes send into the cluster link, by pair: the first packets cross it twice.
fn count_link(bed: &Bed) -> Result<()> {
    let counters: String = ASYMMETRIC.map(|pair| format!("counter {} {{ }}\n", counter(pair))).concat();
    // Behind outer Ethernet and IP headers (34 bytes).
    let rules: String = ASYMMETRIC
        .map(|pair| {
            let addresses: String = inner_addresses(pair).iter().map(|byte| format!("{byte:02x}")).collect();
            format!(
                "udp dport 6081 @th,{},64 0x{addresses} counter name \"{}\"\n",
                (INNER_ADDRESSES - 34) * 8,
                counter(pair)
            )
        })
        .concat();
    bed.switch().nft(&format!(
        "table netdev symmetry {{\n{counters}chain link {{\ntype filter hook ingress devices = {{ n1, n2, n3 }} priority 0;\n{rules}}}\n}}\n"
    ))
}

/// Bytes of frames that nft counted for a pair; it leaves link headers out.
fn counted(bed: &Bed, pair: (u8, u8)) -> Result<u64> {
    let mut nft = bed.switch().command("nft");
    let text = program::run(nft.args(["list", "counter", "netdev", "symmetry", &counter(pair)]))?;
    let number = |word: &str| -> Result<u64> {
        let mut words = text.split_whitespace().skip_while(|&one| one != word);
        Ok(words.nth(1).with_context(|| format!("no {word}: {text}"))?.parse()?)
    };
    Ok(number("bytes")? + 14 * number("packets")?)
}

fn send(bed: &Bed, port: &RawPort, node: u8, frame: &[u8], times: usize) -> Result<()> {
    for sent in 1..=times {
        port.send(frame)?;
        if sent % LOT == 0 {
            wait::until_true("the packets are taken", SOON, || bed.rings_are_empty(node))?;
        }
    }
    Ok(())
}

#[test]
fn three_asymmetric_pairs_among_a_hundred_are_named_with_their_bytes() -> Result<()> {
    let mut bed = Bed::new("symmetry", Shape { forwarder: Forwarder::Xdp, ..Shape::default() })?;
    scenario::keep_from_hosts(&bed)?;
    bed.start_nodes(&["--symmetry-prefix-v4", "32"])?;
    let capture = bed.capture_cluster("symmetry")?;
    count_link(&bed)?;
    let inside = RawPort::open(bed.router_a(), "n1")?;
    let outside = [RawPort::open(bed.router_b(), "n1")?, RawPort::open(bed.router_b(), "n3")?];
    let pairs = || (0..HOSTS).flat_map(|client| (0..HOSTS).map(move |server| (client, server)));
    for pair in pairs() {
        send(&bed, &inside, 1, &there(pair)?, 1)?;
    }
    wait::until_true("node 1 owns all flows", SOON, || {
        let stats: Value = bed.cli(1)?.ask("stats")?;
        Ok(stats["sessions"]["owner"] == pairs().count())
    })?;
    for pair in pairs() {
        match ASYMMETRIC.contains(&pair) {
            true => send(&bed, &outside[1], 3, &back(pair, 3)?, REPLIES)?,
            false => send(&bed, &outside[0], 1, &back(pair, 1)?, 2)?,
        }
    }
    let replies = (REPLIES * ASYMMETRIC.len()) as u64;
    let symmetry = wait::until("all replies are counted", SOON, || {
        let symmetry: Value = bed.cli(2)?.json(&["symmetry"])?;
        Ok((symmetry["total"]["packets"] == replies).then_some(symmetry))
    })?;
    let frames = capture.finish("geneve")?;
    let named = symmetry["pairs"].as_array().context("no pairs are named")?;
    ensure!(named.len() == ASYMMETRIC.len() && symmetry["silent"] == serde_json::json!([]), "{symmetry}");
    for pair in ASYMMETRIC {
        compare(named, pair, captured(&frames, pair))?;
        compare(named, pair, counted(&bed, pair)?)?;
    }
    let by_program = bed.stats(3)?.tunnel.redirect_tx_xdp;
    ensure!(by_program > replies / 2, "the XDP program redirected {by_program} of {replies}");
    let text = bed.cli(1)?.run(&["symmetry", "--limit", "1"])?;
    ensure!(text.contains("arrive at node 3") && text.contains("pairs not listed: 600 packets"), "{text}");
    check_picture(&bed, &symmetry)?;
    bed.finish()
}

/// Every asymmetric pair is a ribbon with its ends, its nodes and its share: first packets may have crossed the link twice.
fn check_picture(bed: &Bed, symmetry: &Value) -> Result<()> {
    let file = bed.logs().join("detours.svg");
    bed.cli(2)?.run(&["symmetry", "--picture", file.to_str().context("the folder has a strange name")?])?;
    let drawn = std::fs::read_to_string(&file)?;
    for pair in ASYMMETRIC {
        let ((client, _), (server, _)) = ends(pair);
        let told =
            format!("{server}/32 to {client}/32: arrives at node 3, Owner is node 1; {REPLIES} packets");
        ensure!(drawn.contains(&told), "no ribbon `{told}` in {drawn}");
    }
    let all = symmetry["total"]["link_bytes"].as_f64().context("no bytes")?;
    for pair in symmetry["pairs"].as_array().context("no pairs")? {
        let share = pair["link_bytes"].as_f64().context("no bytes of a pair")? / all * 100.0;
        ensure!(drawn.contains(&format!("{share:.1}% of all detours")), "{share} %: {drawn}");
    }
    Ok(())
}

/// A pair is named, its two nodes too, and what it says is within 1 % of what was seen on the link.
fn compare(named: &[Value], pair: (u8, u8), seen: u64) -> Result<()> {
    let (client, server) = ends(pair);
    let prefixes = serde_json::json!([format!("{}/32", client.0), format!("{}/32", server.0)]);
    let found =
        named.iter().find(|one| one["prefixes"] == prefixes).with_context(|| format!("{prefixes}"))?;
    let link_bytes = found["link_bytes"].as_u64().context("no bytes")?;
    ensure!(seen > 0 && link_bytes.abs_diff(seen) * 100 <= seen, "{seen} on the link: {found}");
    let frame = back(pair, 3)?.len() * REPLIES;
    ensure!(found["packets"] == REPLIES && found["bytes"] == frame, "{found}");
    let way = &found["ways"][0];
    ensure!(way["ingress"] == 3 && way["owner"] == 1, "{found}");
    let suggestion = found["suggestion"].as_str().unwrap_or_default();
    ensure!(suggestion.contains("node 3") && suggestion.contains(&client.0.to_string()), "{suggestion}");
    Ok(())
}
