//! A firewall between two raw ports: the kernel of one node's namespace, or samepath on another.

use anyhow::{Context, Result, bail};
use samepath_tests::bed::Bed;
use samepath_tests::bed::plan::{self, End, Family};
use samepath_tests::frame::Way;
use samepath_tests::program;
use samepath_tests::raw_port::RawPort;

use crate::script::{About, Packet, Segment, What};

/// The rules of the kernel's: what is invalid is dropped, from inside anything may begin.
const RULES: &str = "table inet firewall {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state invalid drop
        ct state established,related accept
        iifname inside ct state new accept
    }
}";

/// Ports of the flows that show that what was sent before is through.
const MARKERS: u16 = 29_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Kernel,
    Samepath,
}

pub struct Firewall<'a> {
    pub kind: Kind,
    bed: &'a Bed,
    node: u8,
    inside: RawPort,
    outside: RawPort,
}

/// One flow through it, from a client's port to a server's.
pub struct Flow<'a> {
    firewall: &'a Firewall<'a>,
    family: Family,
    ports: (u16, u16),
    /// Frames the client and the server sent last.
    last: [Vec<u8>; 2],
    markers: u32,
}

impl<'a> Firewall<'a> {
    pub fn new(bed: &'a Bed, kind: Kind) -> Result<Self> {
        let node = if kind == Kind::Kernel { 2 } else { 1 };
        if kind == Kind::Kernel {
            let namespace = bed.node_namespace(node);
            // What was sent before this does not count: no connection is picked up in the middle.
            namespace.nft(RULES)?;
            namespace.sysctl(&[
                ("ipv4/ip_forward", "1"),
                ("ipv6/conf/all/forwarding", "1"),
                ("netfilter/nf_conntrack_tcp_loose", "0"),
            ])?;
        }
        let port = |router| RawPort::open_both_ways(router, &format!("n{node}"));
        Ok(Self { kind, bed, node, inside: port(bed.router_a())?, outside: port(bed.router_b())? })
    }

    pub fn flow(&'a self, family: Family, number: u16) -> Flow<'a> {
        let ports = (20_000 + number, 25_000 + number);
        Flow { firewall: self, family, ports, last: [Vec::new(), Vec::new()], markers: 0 }
    }
}

impl Flow<'_> {
    /// Sends a packet; true if it leaves on the other side.
    pub fn passes(&mut self, packet: &Packet) -> Result<bool> {
        let frame = self.frame(packet)?;
        let (near, far) = match packet.from_client {
            true => (&self.firewall.inside, &self.firewall.outside),
            false => (&self.firewall.outside, &self.firewall.inside),
        };
        if !packet.from_client && self.markers == 0 {
            self.marker(true, b"begin")?;
        }
        near.send(&frame)?;
        // Packets stay in order on their way, and a datagram of a known flow passes always.
        self.markers += 1;
        let said = format!("marker {} of {}", self.markers, self.ports.0);
        self.marker(packet.from_client, said.as_bytes())?;
        let mut passed = false;
        loop {
            let seen = far.receive()?;
            if !self.came_through(&seen, packet.from_client) {
                continue;
            }
            if seen.ends_with(said.as_bytes()) {
                break;
            }
            passed |= behind_ttl(&seen) == behind_ttl(&frame);
        }
        if !matches!(packet.what, What::Error { .. }) {
            self.last[usize::from(!packet.from_client)] = frame;
        }
        Ok(passed)
    }

    /// The flow's state as the firewall shows it.
    pub fn state(&self) -> Result<String> {
        let (source, destination) = self.ports;
        if self.firewall.kind == Kind::Samepath {
            let sessions = self.firewall.bed.sessions(self.firewall.node)?;
            let mine = |ports| ports == (source, destination) || ports == (destination, source);
            let found = sessions.into_iter().find(|one| one.proto == "tcp" && mine((one.sport, one.dport)));
            return Ok(found.context("no session")?.state.to_uppercase());
        }
        let mut command = self.firewall.bed.node_namespace(self.firewall.node).command("conntrack");
        let (source, destination) = (source.to_string(), destination.to_string());
        let list = ["-L", "-p", "tcp", "--sport", &source, "--dport", &destination];
        let said = program::run(command.args(list))?;
        // tcp 6 SECONDS STATE src=…
        said.split_whitespace().nth(3).map(String::from).with_context(|| format!("conntrack said {said:?}"))
    }

    fn marker(&self, from_client: bool, payload: &[u8]) -> Result<()> {
        let frame = self.way(from_client, (MARKERS, MARKERS)).udp(payload)?;
        match from_client {
            true => self.firewall.inside.send(&frame),
            false => self.firewall.outside.send(&frame),
        }
    }

    fn way(&self, from_client: bool, ports: (u16, u16)) -> Way {
        let node = self.firewall.node;
        let client = (plan::client(self.family, 0), ports.0);
        let server = (plan::server(self.family, 0), ports.1);
        let vlan = None;
        match from_client {
            true => Way {
                from: End::RouterA(node),
                to: End::Inside(node),
                vlan,
                source: client,
                destination: server,
            },
            false => Way {
                from: End::RouterB(node),
                to: End::Outside(node),
                vlan,
                source: server,
                destination: client,
            },
        }
    }

    fn frame(&self, packet: &Packet) -> Result<Vec<u8>> {
        let way = self.way(packet.from_client, self.ports);
        match &packet.what {
            What::Segment(one) => segment(&way, one),
            What::Datagram => way.udp(b"datagram"),
            What::Error { kind, word, about } => {
                let other = self.way(!packet.from_client, self.ports);
                let about = match about {
                    About::Last => self.last[usize::from(packet.from_client)].clone(),
                    About::Segment(one) => segment(&other, one)?,
                    About::Datagram => other.udp(b"never sent")?,
                };
                self.by_router(way).icmp_error(*kind, *word, &about)
            }
        }
    }

    /// Errors come from a router on the way.
    fn by_router(&self, way: Way) -> Way {
        Way { source: (plan::SERVERS.host(self.family, 200), 0), ..way }
    }

    /// The frame comes from the firewall, not from the port it was sent by.
    fn came_through(&self, frame: &[u8], from_client: bool) -> bool {
        let node = self.firewall.node;
        let leaves_by = if from_client { End::Outside(node) } else { End::Inside(node) };
        frame.get(6..12) == Some(&leaves_by.mac()[..])
    }
}

/// What a router leaves of a packet as it was: all behind the IP header.
fn behind_ttl(frame: &[u8]) -> &[u8] {
    let header = if frame.get(12..14) == Some(&[8, 0]) { 34 } else { 54 };
    frame.get(header..).unwrap_or_default()
}

fn segment(way: &Way, one: &Segment) -> Result<Vec<u8>> {
    for flag in &one.flags {
        if !["SYN", "ACK", "FIN", "RST"].contains(&flag.as_str()) {
            bail!("{flag:?} is no flag");
        }
    }
    let has = |flag: &str| one.flags.iter().any(|one| one == flag);
    way.tcp_with(one.length, |tcp| {
        (tcp.sequence_number, tcp.acknowledgment_number) = (one.seq, one.ack);
        tcp.window_size = one.window;
        (tcp.syn, tcp.ack, tcp.fin, tcp.rst) = (has("SYN"), has("ACK"), has("FIN"), has("RST"));
    })
}
