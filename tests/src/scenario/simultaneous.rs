//! First packets of the same flow at two nodes at the same moment.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::HAND_MADE_PORTS;
use crate::bed::Bed;
use crate::bed::plan::{self, End, Family, NODES};
use crate::frame::Way;
use crate::netns::Namespace;
use crate::raw_port::RawPort;
use crate::{link, wait};

/// Flows whose packets are sent before the nodes are asked whether all arrived and were taken: small enough
/// for the 256 entries of a veth's ring.
const CHUNK: usize = 64;

/// One flow and its two first packets.
#[derive(Clone, Copy, Debug)]
struct Flow {
    client: (IpAddr, u16),
    server: (IpAddr, u16),
    /// UDP from both ends; otherwise the same SYN at two nodes.
    udp: bool,
}

/// What one session list must show of a flow.
type FlowName = (bool, IpAddr, u16, IpAddr, u16);

/// Sends `count` flows, half TCP (the same SYN reaches nodes 1 and 2 from the client's side), half UDP (the
/// client's first packet reaches node 1, the server's first packet node 3), and checks in the session lists
/// of all nodes that each flow has exactly one Owner.
pub fn inject(bed: &Bed, count: usize) -> Result<()> {
    let flows = flows(bed, count);
    let router_a = [RawPort::open(bed.router_a(), "n1")?, RawPort::open(bed.router_a(), "n2")?];
    let router_b = RawPort::open(bed.router_b(), "n3")?;
    let places = [(1, "inside"), (2, "inside"), (3, "outside")];
    let dropped_before = dropped(bed, &places)?;
    for chunk in flows.chunks(CHUNK) {
        let other: &RawPort = if chunk[0].udp { &router_b } else { &router_a[1] };
        let second = if chunk[0].udp { (3, "outside") } else { (2, "inside") };
        let aims = [(1, "inside"), second];
        let before = received(bed, &aims)?;
        send_at_once(chunk, &router_a[0], other)?;
        wait::until_true("the packets of a chunk arrive", Duration::from_secs(10), || {
            let now = received(bed, &aims)?;
            Ok(now.iter().zip(&before).all(|(now, before)| now - before >= chunk.len() as u64)
                && bed.rings_are_empty(aims[0].0)?
                && bed.rings_are_empty(aims[1].0)?)
        })?;
    }
    let mut lost = dropped(bed, &places)?;
    for (place, before) in lost.iter_mut().zip(dropped_before) {
        place.1 -= before.1;
    }
    ensure!(
        lost.iter().all(|(_, frames)| *frames == 0),
        "the test's own links lost frames, so it proves nothing: {lost:?}"
    );
    wait::until_true("every flow has exactly one Owner", Duration::from_secs(20), || {
        one_owner_each(bed, &flows).map(|()| true)
    })
}

/// Checks that each of the last `count` flows has one Owner and that all other nodes have its backup.
pub fn backed_up_everywhere(bed: &Bed, count: usize) -> Result<()> {
    let flows = flows(bed, count);
    wait::until_true("every flow has one Owner and two backups", Duration::from_secs(20), || {
        one_owner_each(bed, &flows)?;
        let roles = roles(bed)?;
        for flow in &flows {
            let backups = roles[&flow.name()].iter().filter(|(_, role)| role == "backup").count();
            ensure!(backups == usize::from(NODES) - 1, "{flow:?}: {:?}", roles[&flow.name()]);
        }
        Ok(true)
    })
}

fn flows(bed: &Bed, count: usize) -> Vec<Flow> {
    let addresses = usize::from(bed.shape().addresses);
    let chunks_of_tcp = (count / 2).div_ceil(CHUNK);
    (0..count)
        .map(|number| {
            let family = Family::BOTH[number % 2];
            let pick = |divisor: usize| (number / divisor % addresses) as u8;
            // The last port is the servers'.
            let ports = HAND_MADE_PORTS.len() - 1;
            Flow {
                client: (plan::client(family, pick(2)), HAND_MADE_PORTS.start() + (number % ports) as u16),
                server: (plan::server(family, pick(2 * addresses)), *HAND_MADE_PORTS.end()),
                udp: number / CHUNK >= chunks_of_tcp,
            }
        })
        .collect()
}

impl Flow {
    fn name(&self) -> FlowName {
        (self.udp, self.client.0, self.client.1, self.server.0, self.server.1)
    }

    fn first_packet(&self) -> Result<Vec<u8>> {
        let way = self.towards_server(1);
        if self.udp { way.udp(b"first from the client") } else { way.tcp(|tcp| tcp.syn = true) }
    }

    /// The other first packet: for UDP the server's, for TCP the client's again at another node.
    fn second_packet(&self) -> Result<Vec<u8>> {
        if !self.udp {
            return self.towards_server(2).tcp(|tcp| tcp.syn = true);
        }
        let way = Way {
            from: End::RouterB(3),
            to: End::Outside(3),
            vlan: None,
            source: self.server,
            destination: self.client,
        };
        way.udp(b"first from the server")
    }

    fn towards_server(&self, node: u8) -> Way {
        Way {
            from: End::RouterA(node),
            to: End::Inside(node),
            vlan: None,
            source: self.client,
            destination: self.server,
        }
    }
}

/// Two threads, each with frames made beforehand, start together and keep step by flow.
fn send_at_once(chunk: &[Flow], one: &RawPort, other: &RawPort) -> Result<()> {
    let firsts: Vec<_> = chunk.iter().map(Flow::first_packet).collect::<Result<_>>()?;
    let seconds: Vec<_> = chunk.iter().map(Flow::second_packet).collect::<Result<_>>()?;
    let start = Barrier::new(2);
    let send = |port: &RawPort, frames: &[Vec<u8>]| {
        start.wait();
        frames.iter().try_for_each(|frame| port.send(frame))
    };
    thread::scope(|scope| {
        let one = scope.spawn(|| send(one, &firsts));
        let other = scope.spawn(|| send(other, &seconds));
        [one, other]
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a sender panicked"))?)
    })
}

/// Role of each flow on each node.
fn roles(bed: &Bed) -> Result<BTreeMap<FlowName, Vec<(u8, String)>>> {
    let mut roles: BTreeMap<FlowName, Vec<(u8, String)>> = BTreeMap::new();
    for number in bed.running() {
        for session in bed.sessions(number)? {
            let udp = session.proto == "udp";
            // Who began a UDP flow that both ends began is for the Owner to say: look at it from the client.
            let (client, server) = ((session.src, session.sport), (session.dst, session.dport));
            let swap = client.1 == *HAND_MADE_PORTS.end();
            let (client, server) = if swap { (server, client) } else { (client, server) };
            let name = (udp, client.0, client.1, server.0, server.1);
            roles.entry(name).or_default().push((number, session.role));
        }
    }
    Ok(roles)
}

fn one_owner_each(bed: &Bed, flows: &[Flow]) -> Result<()> {
    let roles = roles(bed)?;
    for flow in flows {
        let roles = roles.get(&flow.name()).with_context(|| format!("nobody knows {flow:?}"))?;
        let owners = roles.iter().filter(|(_, role)| role == "owner").count();
        ensure!(owners == 1, "{flow:?} has {owners} Owners: {roles:?}");
    }
    Ok(())
}

fn received(bed: &Bed, places: &[(u8, &str)]) -> Result<Vec<u64>> {
    places
        .iter()
        .map(|&(node, port)| Ok(link::counters(bed.node_namespace(node), port)?.rx_packets))
        .collect()
}

/// Frames lost on the way to the nodes, at either end of each link.
fn dropped(bed: &Bed, places: &[(u8, &str)]) -> Result<Vec<(String, u64)>> {
    let mut all = Vec::new();
    let mut lost = |namespace: &Namespace, interface: &str| -> Result<()> {
        let counters = link::counters(namespace, interface)?;
        all.push((format!("{} {interface} receiving", namespace.name()), counters.rx_dropped));
        all.push((format!("{} {interface} sending", namespace.name()), counters.tx_dropped));
        Ok(())
    };
    for &(node, port) in places {
        let router = if port == "inside" { bed.router_a() } else { bed.router_b() };
        lost(bed.node_namespace(node), port)?;
        lost(router, &format!("n{node}"))?;
    }
    Ok(all)
}
