//! `samepath why`: the packet that is asked about, and what a worker says of it.
//!
//! The packet is made up: the first one of a flow the worker does not know, else one that fits what is known of the flow,
//! so that its verdict speaks of the flow and not of the packet.

use std::net::IpAddr;

use crate::flow::{Direction, FlowKey, NodeId, proto};
use crate::policy::Judgement;
use crate::route::{LinkHop, Resolution};
use crate::session::{Session, State};
use crate::verdict::Verdict;
use crate::wire::icmp;
use crate::wire::layout::{FLAG_IPV6, Layout};
use crate::wire::packet::{L4, Packet};
use crate::wire::tcp::{ACK, SYN, TcpSegment};

/// Bytes and TTL of the packet.
const LENGTH: u32 = 60;
const TTL: u8 = 64;

/// How far behind what is known of a closed connection a new one begins.
const NEW_CONNECTION: u32 = 4 << 20;

/// A packet that is asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inquiry {
    /// Its flow.
    pub key: FlowKey,
    /// The way it goes.
    pub direction: Direction,
    /// Number of the zone it arrives in; 0: not known.
    pub zone: u8,
    /// The node whose Query is supposed.
    pub ingress: NodeId,
}

/// What a worker says of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Explained {
    /// What this node knows of the flow.
    pub session: Option<Session>,
    /// Epoch of the view that was asked.
    pub epoch: u32,
    /// The flow's bucket.
    pub bucket: u16,
    /// Members in the order in which they would be Director of it, the Director first.
    pub candidates: Vec<NodeId>,
    /// The former Director that would be asked too, if this node directs the flow since a moment ago.
    pub former: Option<NodeId>,
    /// Number of the policy that was asked, 0 without one, and what it says of the flow.
    pub policy: u16,
    /// What it says of the flow; `None` without one.
    pub judgement: Option<Judgement>,
    /// What happens to the packet if it arrives on a data interface.
    pub arrives: Verdict,
    /// The same for a packet that goes on a flow of which this node knows nothing; `None` if it does.
    pub later: Option<Verdict>,
    /// What happens to it in a Query of the ingress; `None` if that is this node.
    pub asked: Option<Verdict>,
    /// What happens to it in a Lookup of the ingress, whose policy lets it begin nothing; `None` if that is this node.
    pub looked_up: Option<Verdict>,
    /// What happens to it if this node is granted the flow; `None` if it knows the flow.
    pub granted: Option<Verdict>,
    /// Where a packet in this direction leaves.
    pub way: Way,
}

/// Where a packet leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// What the routes say.
    pub resolution: Resolution,
    /// The next hop, if its link address is known.
    pub hop: Option<LinkHop>,
    /// Interface index and address of the next hop.
    pub neighbour: Option<(u32, IpAddr)>,
}

impl Inquiry {
    /// The packet, as the first one of its flow.
    pub fn first(&self, flow_hash: u32) -> Packet {
        self.unknown(flow_hash, SYN, L4::Sctp { chunk: crate::wire::sctp::chunk::INIT, tag: 0 }, true)
    }

    /// The packet, as one that goes on a flow of which nothing is known.
    pub fn later(&self, flow_hash: u32) -> Packet {
        self.unknown(flow_hash, ACK, L4::Sctp { chunk: 0, tag: 1 }, false)
    }

    /// A packet of a flow of which nothing is known: with these TCP flags, this SCTP chunk, a query or its answer.
    fn unknown(&self, flow_hash: u32, flags: u8, sctp: L4, request: bool) -> Packet {
        self.packet(
            flow_hash,
            match self.key.proto() {
                proto::TCP => L4::Tcp(TcpSegment { flags, window: 1024, ..TcpSegment::default() }),
                proto::UDP => L4::Udp,
                proto::SCTP => sctp,
                proto::ICMP | proto::ICMPV6 => L4::IcmpQuery { request },
                _ => L4::Other,
            },
        )
    }

    /// The packet, as one that fits what is known of the flow.
    pub fn next(&self, session: &Session, flow_hash: u32) -> Packet {
        let from_originator = self.direction == session.origin;
        self.packet(
            flow_hash,
            match self.key.proto() {
                proto::TCP => L4::Tcp(next_segment(session, self.direction)),
                proto::UDP => L4::Udp,
                proto::SCTP => L4::Sctp { chunk: 0, tag: session.tcp.ends[self.direction as usize].end },
                proto::ICMP | proto::ICMPV6 => L4::IcmpQuery { request: from_originator },
                _ => L4::Other,
            },
        )
    }

    /// Of an ICMP query the type of the echo request; 0 of anything else.
    pub fn request(&self) -> u8 {
        match self.key.proto() {
            proto::ICMP => icmp::ECHO,
            proto::ICMPV6 => icmp::ECHO_V6,
            _ => 0,
        }
    }

    fn packet(&self, flow_hash: u32, l4: L4) -> Packet {
        let flags = if self.key.is_ipv4() { 0 } else { FLAG_IPV6 };
        let nothing = Layout::from_metadata(&[0; Layout::SIZE]);
        Packet {
            key: self.key,
            direction: self.direction,
            layout: Layout { flow_hash, flags, proto: self.key.proto(), ..nothing },
            ttl: TTL,
            length: LENGTH,
            l4,
            fragment: None,
            ports: None,
            told: icmp::Told::default(),
        }
    }
}

/// The segment that both ends would take for the next one.
fn next_segment(session: &Session, direction: Direction) -> TcpSegment {
    let sender = &session.tcp.ends[direction as usize];
    let receiver = &session.tcp.ends[direction.reversed() as usize];
    let (seq, ack) = (sender.end, receiver.end);
    let from_originator = direction == session.origin;
    let (flags, seq) = match session.state {
        State::TcpTimeWait | State::TcpClose => (SYN, seq.wrapping_add(NEW_CONNECTION)),
        State::TcpSynSent | State::TcpSynSent2 | State::Claimed if from_originator => {
            (SYN, seq.wrapping_sub(1))
        }
        State::TcpSynSent | State::TcpSynSent2 => (SYN | ACK, seq),
        _ => (ACK, seq),
    };
    let ack = if flags & ACK != 0 { ack } else { 0 };
    TcpSegment { flags, seq, ack, sack_end: ack, window: 1024, ..TcpSegment::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::samples::{self, settings};
    use crate::session::track::{self, Follow};

    const THERE: Direction = Direction::HiToLo;

    fn inquiry(protocol: u8, direction: Direction) -> Inquiry {
        Inquiry { key: samples::key(protocol, 1), direction, zone: 1, ingress: NodeId(1) }
    }

    #[test]
    fn the_first_packet_may_begin_a_flow_of_every_protocol() {
        for protocol in [proto::TCP, proto::UDP, proto::SCTP, proto::ICMP, 47] {
            let first = inquiry(protocol, THERE).first(7);
            assert!(track::may_begin(&first), "{first:?}");
            assert_eq!(first.layout.flow_hash, 7);
        }
    }

    /// A connection of real segments, and after each of them what is made up for either end: all of it fits.
    #[test]
    fn the_next_packet_fits_what_is_known_of_a_connection() {
        let segment = |flags, seq, ack| TcpSegment { flags, seq, ack, window: 1000, ..Default::default() };
        let back = THERE.reversed();
        let steps = [
            (THERE, segment(SYN, 100, 0)),
            (back, segment(SYN | ACK, 900, 101)),
            (THERE, segment(ACK, 101, 901)),
            (back, TcpSegment { payload: 50, ..segment(ACK, 901, 101) }),
            (THERE, segment(ACK | crate::wire::tcp::FIN, 101, 951)),
        ];
        let first = samples::packet(proto::TCP, THERE, L4::Tcp(steps[0].1));
        let begun = track::begin(&first, &settings(), false).unwrap();
        let mut session = samples::session(first.key, &begun);
        for (direction, segment) in steps {
            let packet = samples::packet(proto::TCP, direction, L4::Tcp(segment));
            if let Ok(Follow::Update { state, tcp, .. }) = track::follow(&session, &packet, &settings()) {
                (session.state, session.tcp) = (state, tcp);
            }
            for way in [THERE, back] {
                let next = inquiry(proto::TCP, way).next(&session, 0);
                let outcome = track::follow(&session, &next, &settings());
                assert!(outcome.is_ok(), "{} {way:?}: {outcome:?}", session.state.name());
            }
        }
    }
}
