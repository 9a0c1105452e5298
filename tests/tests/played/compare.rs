//! What came out of the cluster beside what came out of the router.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};

use super::cluster::{AT_ONCE, Crossing, Out};
use super::packet::{Flow, Packet};
use super::router::Forwarded;
use super::split::{Capture, Side};

/// One capture's row.
#[derive(Clone, Default, Debug)]
pub struct Row {
    /// Frames sent.
    pub frames: u64,
    /// Frames the router forwarded.
    pub router: u64,
    /// Frames the cluster forwarded.
    pub cluster: u64,
    /// Frames that both forwarded.
    pub both: u64,
    /// Frames the cluster answered in their place.
    pub answered: u64,
    /// Frames that were overtaken by later ones of their flow: fragments, and those sent before the flow's first packet
    /// was back from its Director.
    pub overtaking: u64,
    /// All others, by reason.
    pub reasons: BTreeMap<String, u64>,
}

/// Why a firewall drops what a plain router forwards (docs/odd-packets.md says more of each).
const STRICTER: [&str; 15] = [
    "pass_neighbour",
    "malformed",
    "drop_malformed",
    "drop_extension_headers",
    "tcp_flags",
    "tcp_window",
    "sctp_state",
    "martian",
    "icmp_error_window",
    "icmp_error_mtu",
    "fragment_without_first",
    "fragment_overlap",
    "fragment_duplicate",
    "fragment_tiny",
    "fragment_scattered",
];

/// Captures with answers that nobody asked for, or errors about packets that are not in them, and how many frames at
/// most are dropped for it; `no_session`, `icmp_error_unrelated`. Anywhere else these reasons say that a node did not
/// know what another one knew.
const UNASKED: [(&str, u64, u64); 11] = [
    ("suricata/detect-vlan-id", 1, 0),
    ("suricata/icmp-hdr-02", 0, 1),
    ("suricata/ipv6-evasion", 0, 15),
    ("tcpdump/bgp-4byte-asn.", 2, 0),
    ("tcpdump/bgp-bgpsec.", 3, 0),
    ("tcpdump/icmp-rfc8335.", 10, 0),
    ("tcpdump/icmp6-rfc8335.", 6, 0),
    ("tcpdump/icmp_ext_oob_poc.", 1, 0),
    ("tcpdump/icmpv6-rfc7112.", 0, 1),
    ("tcpdump/isup.", 6, 0),
    ("tcpdump/tcp_rst_data.", 1, 0),
];

impl Row {
    /// An error if the cluster forwards what the router does not, or drops what the router forwards for a reason that is
    /// no firewall's.
    pub fn explained(self, name: &str) -> Result<Self> {
        let of = |reason: &str| self.reasons.get(reason).copied().unwrap_or(0);
        let unasked = (of("no_session"), of("icmp_error_unrelated"));
        let known = UNASKED.iter().find(|(capture, ..)| name.starts_with(capture));
        let known = known.map_or((0, 0), |(_, no_session, unrelated)| (*no_session, *unrelated));
        ensure!(unasked.0 <= known.0 && unasked.1 <= known.1, "the other node was not asked: {self:?}");
        ensure!(
            self.cluster == self.both,
            "{} frames came out that a router drops",
            self.cluster - self.both
        );
        let stricter = self.reasons.iter().filter(|(name, _)| STRICTER.contains(&name.as_str()));
        let stricter = stricter.map(|(_, count)| count).sum::<u64>() + unasked.0 + unasked.1;
        ensure!(self.router - self.both <= stricter, "frames are missing for no good reason: {self:?}");
        Ok(self)
    }

    /// Adds another capture's.
    pub fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.router += other.router;
        self.cluster += other.cluster;
        self.both += other.both;
        self.answered += other.answered;
        self.overtaking += other.overtaking;
        for (name, count) in &other.reasons {
            *self.reasons.entry(name.clone()).or_default() += count;
        }
    }
}

/// A frame on its way.
struct Sent<'a> {
    packet: Packet<'a>,
    side: Side,
    router: Option<&'a [u8]>,
    came: bool,
}

/// Compares. An error if a frame came out changed, twice, at the wrong side, in another order within its flow, or if
/// one is not accounted for.
pub fn compare(capture: &Capture, router: &Forwarded, crossing: &Crossing, out: &[Out]) -> Result<Row> {
    let mut sent: Vec<Sent<'_>> = Vec::new();
    for ((side, frame), router) in capture.frames.iter().zip(router) {
        if let Some(packet) = Packet::of(frame) {
            sent.push(Sent { packet, side: *side, router: router.as_deref(), came: false });
        }
    }
    let mut waiting: BTreeMap<Vec<u8>, VecDeque<usize>> = BTreeMap::new();
    for (index, sent) in sent.iter().enumerate() {
        waiting.entry(sent.packet.unchanging()).or_default().push_back(index);
    }
    let mut row = Row {
        frames: capture.frames.len() as u64,
        router: router.iter().flatten().count() as u64,
        reasons: crossing.ends.reasons.clone(),
        ..Row::default()
    };
    let mut begins: BTreeMap<Flow, usize> = BTreeMap::new();
    for (index, sent) in sent.iter().enumerate() {
        begins.entry(sent.packet.flow()).or_insert(index);
    }
    let mut latest: BTreeMap<Flow, usize> = BTreeMap::new();
    let mut nodes: BTreeMap<Flow, BTreeSet<u8>> = BTreeMap::new();
    for frame in crossing.of(out) {
        let packet = Packet::of(&frame.bytes).context("what came out is no packet")?;
        let Some(index) = waiting.get_mut(&packet.unchanging()).and_then(VecDeque::pop_front) else {
            row.answered += 1;
            ensure!(is_answer(&packet), "this never went in: {:02x?}", frame.bytes);
            continue;
        };
        let origin = &mut sent[index];
        origin.came = true;
        check_unchanged(origin, frame, &packet, &capture.sides)?;
        let flow = origin.packet.flow();
        nodes.entry(flow.clone()).or_default().insert(frame.node);
        let before = latest.insert(flow.clone(), index).unwrap_or(0);
        if before > index {
            let beginning = begins.get(&flow).is_some_and(|first| index < first + AT_ONCE as usize);
            ensure!(beginning || flow.is_fragment, "frame {index} of {flow:?} came behind frame {before}");
            row.overtaking += 1;
        }
    }
    let two = nodes.iter().find(|(_, nodes)| nodes.len() > 1);
    ensure!(two.is_none(), "a flow left by more nodes than one: {two:?}");
    row.cluster = sent.iter().filter(|sent| sent.came).count() as u64;
    row.both = sent.iter().filter(|sent| sent.came && sent.router.is_some()).count() as u64;
    let others: u64 = row.reasons.values().sum();
    ensure!(
        row.frames == row.cluster + row.answered + others,
        "{} frames are not {} forwarded, {} answered and {:?}",
        row.frames,
        row.cluster,
        row.answered,
        row.reasons
    );
    Ok(row)
}

/// As the router made it; or, if it made nothing of it, as a router must make it.
fn check_unchanged(
    origin: &Sent<'_>,
    frame: &Out,
    packet: &Packet<'_>,
    sides: &BTreeMap<IpAddr, Side>,
) -> Result<()> {
    let must = origin.packet.forwarded();
    let wanted = origin.router.unwrap_or(&must);
    ensure!(packet.whole() == wanted, "came out as {:02x?}, not {wanted:02x?}", packet.whole());
    let padding = packet.padding();
    ensure!(padding.is_empty() || padding == origin.packet.padding(), "other bytes behind the packet");
    let to = sides.get(&packet.addresses().1);
    ensure!(to == Some(&frame.side), "from {:?} it came out at {:?}: {to:?}", origin.side, frame.side);
    Ok(())
}

/// True for an ICMP error of a node of the bed.
fn is_answer(packet: &Packet<'_>) -> bool {
    super::place::is_beds_own(packet.addresses().0)
}
