//! One flow over the split path, packet by packet, with every link it touches captured and decoded by tshark.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::HAND_MADE_PORTS;
use crate::bed::Bed;
use crate::bed::plan::{CLUSTER_ID, End, Family, NODES, TUNNEL_PORT};
use crate::capture::Frame;
use crate::cli::Session;
use crate::frame::Way;
use crate::raw_port::RawPort;
use crate::wait;

/// Class and type of the tunnel's Geneve option.
const OPTION: (u64, u64) = (0xff53, 0x01);

/// Kinds of tunnel packets by their number in the option (its second byte).
const KINDS: [(u8, &str); 3] = [(1, "query"), (2, "first packet"), (3, "redirect")];

/// The flow that is sent.
#[derive(Clone, Copy, Debug)]
pub struct SplitFlow {
    /// Its IP version.
    pub family: Family,
    /// Its 802.1Q tag.
    pub vlan: Option<u16>,
    /// Tells it from other flows of the same bed.
    pub number: u16,
}

/// A tunnel packet as tshark decodes it.
#[derive(Debug)]
struct Crossing<'a> {
    from: u8,
    to: u8,
    kind: &'static str,
    hops: u8,
    ingress: u16,
    owner: u16,
    inner: &'a [u8],
}

/// The four packets of the flow: SYN and acknowledgement from the client by node 1, SYN-ACK and data from
/// the server by node 3.
struct Packets {
    syn: Vec<u8>,
    syn_ack: Vec<u8>,
    ack: Vec<u8>,
    data: Vec<u8>,
}

impl SplitFlow {
    /// Sends the flow and checks what every link carried. Replication is cut off until the first reply is
    /// through; then the backup arrives and the next reply goes straight to the Owner.
    pub fn run(self, bed: &Bed) -> Result<()> {
        bed.wait_settled()?;
        let (client, server) = bed.director_on(2, self.family)?;
        let client = (client, HAND_MADE_PORTS.start() + self.number);
        let server = (server, *HAND_MADE_PORTS.end());
        let packets = self.packets(client, server)?;
        let name = format!("split-flow-{}", self.number);
        let cluster = bed.capture_cluster(&format!("{name}-cluster"))?;
        let ports = ["n1", "n2", "n3"];
        let router_a = bed.capture(&format!("{name}-router-a"), bed.router_a(), &ports)?;
        let router_b = bed.capture(&format!("{name}-router-b"), bed.router_b(), &ports)?;

        let from_client = RawPort::open(bed.router_a(), "n1")?;
        let from_server = RawPort::open(bed.router_b(), "n3")?;
        bed.cut_replication()?;
        from_client.send(&packets.syn)?;
        self.wait_session(bed, 1, client, |row| row.role == "owner" && row.packets == 1)?;
        from_server.send(&packets.syn_ack)?;
        self.wait_session(bed, 1, client, |row| row.state == "SYN_RECV")?;
        self.check_no_backup(bed, client)?;
        bed.mend_replication()?;
        self.wait_session(bed, 3, client, |row| row.role == "backup" && row.owner == 1)?;
        from_client.send(&packets.ack)?;
        from_server.send(&packets.data)?;
        self.wait_session(bed, 1, client, |row| row.packets == 4 && row.state == "ESTABLISHED")?;

        let filter = format!("tcp.port == {}", client.1);
        check_cluster(&cluster.finish(&filter)?, &packets)?;
        let (router_a, router_b) = (router_a.finish(&filter)?, router_b.finish(&filter)?);
        self.check_routers(&router_a, &router_b, &packets)
    }

    fn packets(self, client: (IpAddr, u16), server: (IpAddr, u16)) -> Result<Packets> {
        let there = Way {
            from: End::RouterA(1),
            to: End::Inside(1),
            vlan: self.vlan,
            source: client,
            destination: server,
        };
        let back = Way {
            from: End::RouterB(3),
            to: End::Outside(3),
            vlan: self.vlan,
            source: server,
            destination: client,
        };
        Ok(Packets {
            syn: there.tcp(|tcp| {
                tcp.syn = true;
                tcp.sequence_number = 1000;
            })?,
            syn_ack: back.tcp(|tcp| {
                (tcp.syn, tcp.ack) = (true, true);
                (tcp.sequence_number, tcp.acknowledgment_number) = (5000, 1001);
            })?,
            ack: there.tcp(|tcp| {
                tcp.ack = true;
                (tcp.sequence_number, tcp.acknowledgment_number) = (1001, 5001);
            })?,
            data: back.tcp(|tcp| {
                (tcp.ack, tcp.psh) = (true, true);
                (tcp.sequence_number, tcp.acknowledgment_number) = (5001, 1001);
            })?,
        })
    }

    fn rows(self, bed: &Bed, node: u8, client: (IpAddr, u16)) -> Result<Vec<Session>> {
        let mut rows = bed.sessions(node)?;
        rows.retain(|row| (row.src, row.sport) == client && row.vlan == self.vlan.unwrap_or(0));
        Ok(rows)
    }

    fn wait_session(
        self,
        bed: &Bed,
        node: u8,
        client: (IpAddr, u16),
        as_expected: impl Fn(&Session) -> bool,
    ) -> Result<()> {
        let what = format!("node {node} has the expected session of {self:?}");
        wait::until_true(&what, Duration::from_secs(20), || {
            let rows = self.rows(bed, node, client)?;
            ensure!(rows.iter().any(&as_expected), "it has {rows:?}");
            Ok(true)
        })
    }

    /// While replication is cut: the Director has its claim, the return node knows nothing.
    fn check_no_backup(self, bed: &Bed, client: (IpAddr, u16)) -> Result<()> {
        let director = self.rows(bed, 2, client)?;
        ensure!(
            director.iter().any(|row| row.role == "claim" && row.owner == 1),
            "the Director has no claim: {director:?}"
        );
        let back = self.rows(bed, 3, client)?;
        ensure!(back.is_empty(), "node 3 knows the flow without replication: {back:?}");
        Ok(())
    }

    /// The Owner forwarded every packet exactly once, by its own links, otherwise unchanged; no other node
    /// sent any.
    fn check_routers(self, a: &[Frame], b: &[Frame], packets: &Packets) -> Result<()> {
        for (frames, sent, came_out) in [
            (a, [&packets.syn, &packets.ack], [&packets.syn_ack, &packets.data]),
            (b, [&packets.syn_ack, &packets.data], [&packets.syn, &packets.ack]),
        ] {
            for packet in sent {
                let seen = frames.iter().filter(|frame| frame.bytes == *packet).count();
                ensure!(seen == 1, "a sent packet is {seen} times on its link");
            }
            let forwarded: Vec<&Frame> =
                frames.iter().filter(|frame| !sent.iter().any(|packet| frame.bytes == **packet)).collect();
            ensure!(
                forwarded.iter().all(|frame| frame.interface == "n1"),
                "a node that is not the Owner sent: {forwarded:?}"
            );
            ensure!(forwarded.len() == 2, "{} packets forwarded, not 2", forwarded.len());
            for (frame, packet) in forwarded.into_iter().zip(came_out) {
                self.check_forwarded(frame, packet)?;
            }
        }
        Ok(())
    }

    /// MAC addresses are those of the next link and the TTL is one less; everything else is as it was.
    fn check_forwarded(self, frame: &Frame, packet: &[u8]) -> Result<()> {
        let mut expected = packet.to_vec();
        expected[..12].copy_from_slice(&frame.bytes[..12]);
        let ip = if self.vlan.is_some() { 18 } else { 14 };
        match self.family {
            Family::V4 => {
                expected[ip + 8] -= 1;
                expected[ip + 10..ip + 12].copy_from_slice(&frame.bytes[ip + 10..ip + 12]);
                let valid = frame.field("ip.checksum.status");
                let sum: u32 = frame.bytes[ip..ip + 20]
                    .chunks(2)
                    .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                    .sum();
                let folded = (sum & 0xffff) + (sum >> 16);
                ensure!(folded == 0xffff, "the IPv4 header checksum is wrong (tshark: {valid:?})");
            }
            Family::V6 => expected[ip + 7] -= 1,
        }
        ensure!(frame.bytes == expected, "forwarded {:02x?}, expected {expected:02x?}", frame.bytes);
        Ok(())
    }
}

/// The tunnel carried what it had to, in this order, and nothing else of this flow.
fn check_cluster(frames: &[Frame], packets: &Packets) -> Result<()> {
    let mut crossings = Vec::new();
    for frame in frames {
        if let Some(crossing) = Crossing::of(frame)? {
            crossings.push(crossing);
        }
    }
    let expected = [
        // from, to, kind, hops, ingress, owner, inner packet
        (1, 2, "query", 1, 1, 0, &packets.syn),
        (2, 1, "first packet", 2, 1, 1, &packets.syn),
        (3, 2, "query", 1, 3, 0, &packets.syn_ack),
        (2, 1, "redirect", 2, 3, 1, &packets.syn_ack),
        (3, 1, "redirect", 1, 3, 1, &packets.data),
    ];
    ensure!(crossings.len() == expected.len(), "the tunnel carried {crossings:#?}");
    for (seen, expected) in crossings.iter().zip(expected) {
        let (from, to, kind, hops, ingress, owner, inner) = expected;
        ensure!(
            (seen.from, seen.to, seen.kind) == (from, to, kind),
            "expected a {kind} from node {from} to node {to}, seen {seen:?}"
        );
        ensure!(
            (seen.hops, seen.ingress, seen.owner) == (hops, ingress, owner),
            "expected hops {hops}, ingress {ingress}, Owner {owner}, seen {seen:?}"
        );
        ensure!(seen.inner == inner.as_slice(), "the inner packet was altered: {seen:?}");
    }
    Ok(())
}

impl<'a> Crossing<'a> {
    /// Reads a tunnel packet, on the port of the node that sent it; `None` on the receiver's port.
    fn of(frame: &'a Frame) -> Result<Option<Self>> {
        let from = node_of(&frame.field("eth.src")?)?;
        let to = node_of(&frame.field("eth.dst")?)?;
        if frame.interface != format!("n{from}") {
            return Ok(None);
        }
        ensure!(frame.number("udp.dstport")? == u64::from(TUNNEL_PORT), "not on the tunnel's port");
        ensure!(frame.number("geneve.vni")? == u64::from(CLUSTER_ID), "another VNI");
        ensure!(frame.number("geneve.proto_type")? == 0x6558, "not Ethernet inside");
        let option = (frame.number("geneve.option.class")?, frame.number("geneve.option.type")?);
        ensure!(option == OPTION, "option class and type are {option:x?}");
        let data = frame.byte_field("geneve.option.unknown.data")?;
        ensure!(data.len() == 36 && data[0] == 3, "option data is {data:02x?}");
        let kind = KINDS.iter().find(|(number, _)| *number == data[1]);
        Ok(Some(Self {
            from,
            to,
            kind: kind.with_context(|| format!("kind {} of a packet of this flow", data[1]))?.1,
            hops: data[2],
            ingress: u16::from_be_bytes([data[4], data[5]]),
            owner: u16::from_be_bytes([data[6], data[7]]),
            inner: frame.tunnelled()?,
        }))
    }
}

/// The node whose `cluster` has this MAC address.
fn node_of(mac: &str) -> Result<u8> {
    (1..=NODES)
        .find(|&node| End::Cluster(node).mac_text() == mac)
        .with_context(|| format!("{mac} is no node's cluster interface"))
}
