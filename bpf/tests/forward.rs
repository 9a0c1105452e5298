//! Packets the program redirects by itself leave with the bytes a worker would have sent, and those that need a
//! worker reach it. A whole worker over plain memory publishes into the loaded program's map.

mod support;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use samepath_bpf::{Action, ForwardPeer, PortRole, Steering, SteeringConfig};
use samepath_dataplane::clock::NowMs;
use samepath_dataplane::cluster::director::{DirectorHash, DirectorKey};
use samepath_dataplane::cluster::view::{Member, Peer, View};
use samepath_dataplane::flow::{Direction, FlowKey, Generation, NodeId, key_bytes, proto};
use samepath_dataplane::forwards::{self, SharedWords};
use samepath_dataplane::keyring::{Keyring, OpenKey, PeerKey};
use samepath_dataplane::limits::{FORWARD_AFTER, MAX_PORTS};
use samepath_dataplane::mailbox::{Mailbox, ToWorker};
use samepath_dataplane::policy::InForce;
use samepath_dataplane::route::{Routes, RoutesBuilder};
use samepath_dataplane::session::State;
use samepath_dataplane::settings::{Settings, TcpPickup};
use samepath_dataplane::verdict::DropReason;
use samepath_dataplane::wire::flow_hash::FlowHasher;
use samepath_dataplane::wire::packet::Packet;
use samepath_dataplane::wire::record::{Record, TcpReplica};
use samepath_dataplane::wire::tunnel::{self, FORWARDER_STREAM, Seal, TunnelEnds, TunnelKey};
use samepath_dataplane::worker::{Handoff, Ports, Snapshots, Worker, WorkerParts};
use samepath_dataplane::xsk::{MemoryIo, Waker, Wire};

use support::frame::ipv6 as ipv6_packet;
use support::frame::*;
use support::{SEED, in_namespace, port};

/// Port index of the interface under test and of the cluster link.
const DATA: u8 = 3;
const LINK: u8 = 4;
const CLUSTER: u32 = 0xab_cdef;
const LINK_MTU: u32 = 1700;
const ME: NodeId = NodeId(0x0102);
const OWNER: NodeId = NodeId(0x0304);
const OTHER: NodeId = NodeId(0x0506);
const IPV6_CLUSTER: bool = true;
const IPV4_CLUSTER: bool = false;

/// A worker and the program, joined by the map.
struct Rig {
    steering: Steering,
    worker: Worker<MemoryIo>,
    wire: Wire,
    mailbox: Mailbox,
    view: View,
    settings: Settings,
    /// What the peers open this node's packets with.
    /// Of each peer, by the outer destination's link address.
    receivers: BTreeMap<[u8; 6], Keyring>,
    _socket: std::os::fd::OwnedFd,
}

/// What a peer opens this node's packets with.
fn receiver() -> Keyring {
    let mut receiver = Keyring::default();
    receiver.take(OpenKey::new(ME, peer_key()));
    receiver
}

fn address(ipv6: bool, last: u8) -> IpAddr {
    if ipv6 { cluster6(last).into() } else { [192, 0, 2, last].into() }
}

fn peer(node: NodeId, ipv6: bool, last: u8) -> Peer {
    let ends = TunnelEnds {
        source_mac: [2, 0, 0, 0, 9, 1],
        destination_mac: [2, 0, 0, 0, 9, last],
        source: address(ipv6, 1),
        destination: address(ipv6, last),
    };
    Peer { node, address: address(ipv6, last), ends: Some(ends), key: Some(peer_key()), heard: true }
}

fn view(epoch: u32, ipv6: bool, live: &[NodeId]) -> View {
    let members = live.iter().map(|&node| Member { node, weight: 1 }).collect();
    let peers = vec![peer(OTHER, ipv6, 3), peer(OWNER, ipv6, 2)];
    View::new(epoch, ME, members, peers, DirectorHash::IpPair, &DirectorKey([7; 16]))
}

fn routes() -> Routes {
    RoutesBuilder::default().build(1)
}

fn settings() -> Settings {
    Settings {
        node: ME,
        cluster: CLUSTER,
        aggregation: true,
        tcp_pickup: TcpPickup::Strict,
        tcp_loose_window: false,
        timeouts: Default::default(),
        backup: Default::default(),
        former_directors_ms: 10_000,
        refresh_ms: 0,
    }
}

fn ports() -> Ports {
    let mut zones = [0; MAX_PORTS];
    zones[usize::from(DATA)] = 7;
    Ports {
        zones,
        queues: [1; MAX_PORTS],
        cluster_link: LINK,
        cluster_link_mtu: LINK_MTU,
        mss_clamp: [0; 2],
        hello_interval_ms: 1_000_000_000,
    }
}

impl Rig {
    fn new(ipv6: bool) -> Self {
        let config = SteeringConfig { seed: SEED, forwarder: true, ..Default::default() };
        let mut steering = Steering::load(&config).unwrap();
        steering.set_port(&port("lo", 1, PortRole::Data)).unwrap();
        steering.set_forward_link(1).unwrap();
        let socket = support::kernel::xdp_socket();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        steering.register_socket(DATA, 0, fd).unwrap();
        let (wire, mailbox) = (Wire::default(), Mailbox::default());
        let mut handoff = Handoff::mesh(&[Arc::new(Waker::new().unwrap())]);
        let view = view(1, ipv6, &[ME, OWNER, OTHER]);
        let worker = Worker::new(WorkerParts {
            index: 0,
            io: MemoryIo::new(wire.clone(), 5, 64),
            ports: ports(),
            hasher: FlowHasher::new(SEED),
            snapshots: Snapshots {
                view: Arc::new(view.clone()),
                routes: Arc::new(routes()),
                settings: Arc::new(settings()),
                policy: Arc::new(InForce::nothing(&settings())),
            },
            sessions_max: 4096,
            handoff: handoff.remove(0),
            mailbox: mailbox.clone(),
            counters: Arc::default(),
            tuning: Default::default(),
            now: NowMs(1_000),
        });
        let worker = worker.with_forwards(SharedWords::new(steering.forwards()));
        let (settings, receivers) = (settings(), BTreeMap::new());
        let mut rig = Self { steering, worker, wire, mailbox, view, settings, receivers, _socket: socket };
        rig.open();
        rig.turn();
        rig
    }

    /// What control does with a new view, before the worker learns of it.
    fn open(&mut self) {
        let forward_peer = |peer: &Peer| {
            let headers = forwards::headers_to(peer, &self.view, self.settings.cluster)?;
            let largest = (LINK_MTU + 14) as u16 - headers.len() as u16;
            Some(ForwardPeer { largest, key_half: peer_key().key.forwarder_half(), headers })
        };
        let peers: Vec<_> = self.view.peers.iter().map(forward_peer).collect();
        self.steering.open_forwarder(self.view.epoch, &peers).unwrap();
    }

    fn tell(&mut self, message: ToWorker) {
        self.mailbox.inbox.push(message).unwrap();
        self.turn();
    }

    /// One turn of the worker; what it sent out of the cluster link.
    fn turn(&mut self) -> Vec<Vec<u8>> {
        self.worker.turn(NowMs(1_000));
        let sent = std::iter::from_fn(|| self.wire.take_sent());
        // A Hello's inner EtherType is no user's packet.
        sent.filter(|(port, frame)| *port == LINK && !is_hello(frame)).map(|(_, frame)| frame).collect()
    }

    /// The worker holds the backup of a flow that OWNER owns.
    fn back_up(&mut self, record: Record) {
        self.tell(ToWorker::Apply { record, mark: 1 });
    }

    /// The worker redirects `frame` itself; what it sends.
    fn redirect(&mut self, frame: &[u8]) -> Vec<u8> {
        assert!(self.wire.arrive(DATA, frame, &FlowHasher::new(SEED)));
        let mut sent = self.turn();
        assert_eq!(sent.len(), 1, "the worker redirects");
        sent.remove(0)
    }

    /// Packets of a flow until it is published.
    fn publish(&mut self, frame: &[u8]) {
        (0..FORWARD_AFTER).for_each(|_| drop(self.redirect(frame)));
    }

    #[track_caller]
    fn goes_by_xdp(&mut self, case: &str, frame: &[u8]) {
        let expected = self.redirect(frame);
        let bytes_before = self.steering.redirected_bytes().unwrap();
        let run = self.steering.test_run(frame, 1).unwrap();
        assert_eq!((run.outcome, run.action), ("redirected", Action::Redirect), "{case}");
        assert_eq!(unsealed(&run.frame), unsealed(&expected), "{case}");
        let by = [self.opened(case, frame, &expected), self.opened(case, frame, &run.frame)];
        assert!(by[0] == 0 && by[1] >= FORWARDER_STREAM, "{case}: streams {by:?}");
        let bytes = self.steering.redirected_bytes().unwrap() - bytes_before;
        assert_eq!(bytes, expected.len() as u64, "{case}");
    }

    /// The receiver takes the packet, and takes it once; its stream.
    #[track_caller]
    fn opened(&mut self, case: &str, inner: &[u8], tunnelled: &[u8]) -> u8 {
        let inner_off = tunnelled.len() - inner.len();
        let packet = Packet::parse(inner, DATA, &FlowHasher::new(SEED)).unwrap();
        let received = tunnel::parse(tunnelled, inner_off).unwrap();
        let receiver = self.receivers.entry(tunnelled[..6].try_into().unwrap()).or_insert_with(receiver);
        let mut open = || {
            let right = |key: &TunnelKey| received.verify(key, &packet.key, packet.direction);
            receiver.open(ME, &received.seal, right)
        };
        assert_eq!(open(), Ok(()), "{case}");
        assert_eq!(open(), Err(DropReason::TunnelReplay), "{case}");
        received.seal.stream
    }

    #[track_caller]
    fn goes_to_the_worker(&self, case: &str, frame: &[u8]) {
        let run = self.steering.test_run(frame, 1).unwrap();
        assert_eq!((run.outcome, run.frame.as_slice()), ("steered", frame), "{case}");
        assert!(run.metadata.is_some(), "{case}");
    }
}

fn overhead_of(frame: &[u8]) -> usize {
    if frame[12..14] == [0x86, 0xdd] { 110 } else { 90 }
}

/// Without stream, counter and tag.
fn unsealed(frame: &[u8]) -> Vec<u8> {
    let (mut frame, inner_off) = (frame.to_vec(), overhead_of(frame));
    frame[inner_off - 17..inner_off].fill(0);
    frame
}

fn peer_key() -> PeerKey {
    PeerKey { id: 1, key: TunnelKey::new([9; 16]) }
}

fn is_hello(frame: &[u8]) -> bool {
    let overhead = overhead_of(frame);
    frame[overhead + 12..] == tunnel::HELLO_ETHERTYPE.to_be_bytes()
}

type End = ([u8; 16], u16);

const END4: [&str; 2] = ["198.51.100.7", "203.0.113.9"];

fn ends4() -> [[u8; 16]; 2] {
    END4.map(|text| key_bytes(text.parse().unwrap()))
}

fn record(source: End, destination: End, protocol: u8, vlans: (u16, u16)) -> Record {
    let (key, origin) = FlowKey::new(source, destination, protocol, vlans);
    Record {
        remove: false,
        key,
        owner: OWNER,
        generation: Generation(0x0a0b_0c0d),
        version: 1,
        state: if protocol == proto::TCP { State::TcpEstablished } else { State::UdpReplied },
        origin,
        tcp: TcpReplica { scale: [0, 0], flags: [0, 0] },
        age_s: 1,
        timeout_s: 1000,
        admitted: 0,
        service: 0,
        policy: 0,
    }
}

fn tcp4() -> Record {
    let [source, destination] = ends4();
    record((source, 4000), (destination, 80), proto::TCP, (0, 0))
}

fn udp4() -> Record {
    let [source, destination] = ends4();
    record((source, 4000), (destination, 53), proto::UDP, (0, 0))
}

/// TCP with ACK alone.
fn ack() -> [u8; 20] {
    let mut ack = TCP;
    ack[13] = 0x10;
    ack
}

fn tagged(frame: &[u8], tags: &[u8]) -> Vec<u8> {
    [&frame[..12], tags, &frame[12..]].concat()
}

#[test]
fn bytes_are_those_of_the_worker() {
    in_namespace(|| {
        for ipv6 in [IPV4_CLUSTER, IPV6_CLUSTER] {
            let mut rig = Rig::new(ipv6);
            let [source, destination] = ends4();
            let (source6, destination6) = (v6(7), v6(9));
            rig.back_up(tcp4());
            rig.back_up(udp4());
            rig.back_up(record((source6, 4000), (destination6, 53), proto::UDP, (0, 0)));
            rig.back_up(record((source, 4000), (destination, 80), proto::TCP, (100, 0)));
            rig.back_up(record((source, 4000), (destination, 80), proto::TCP, (100, 200)));
            rig.back_up(record((source, 0), (destination, 0), 50, (0, 0)));
            let tcp = frame4(&ipv4(6, &ack()));
            let frames = [
                ("TCP over IPv4", tcp.clone()),
                ("UDP over IPv4", frame4(&ipv4(17, &UDP))),
                ("UDP over IPv6", frame6(&ipv6_packet(17, &UDP))),
                ("VLAN 100, priority 5", tagged(&tcp, &[0x81, 0, 0xa0, 100])),
                ("QinQ", tagged(&tcp, &[0x88, 0xa8, 0, 100, 0x81, 0, 0, 200])),
                ("ESP", frame4(&ipv4(50, &[1, 2, 3, 4, 5, 6, 7, 8]))),
            ];
            for (case, frame) in &frames {
                rig.goes_to_the_worker(&format!("{case}, before"), frame);
                rig.publish(frame);
                rig.goes_by_xdp(case, frame);
                let padded = [&frame[..], &[0; 9]].concat();
                rig.goes_by_xdp(&format!("{case}, padded"), &padded);
            }
            let long = frame4(&ipv4(6, &[&ack()[..], &vec![0x5a; 1300]].concat()));
            rig.goes_by_xdp("1,300 bytes of payload", &long);
            let odd = frame4(&ipv4(6, &[&ack()[..], &vec![0x5a; 1301]].concat()));
            rig.goes_by_xdp("1,301 bytes of payload", &odd);
        }
    });
}

#[test]
fn what_is_no_plain_redirect_goes_to_the_worker() {
    in_namespace(|| {
        let mut rig = Rig::new(IPV4_CLUSTER);
        rig.back_up(tcp4());
        rig.back_up(udp4());
        let good = frame4(&ipv4(6, &ack()));
        let datagram = frame4(&ipv4(17, &UDP));
        rig.publish(&good);
        rig.publish(&datagram);
        rig.goes_by_xdp("TCP", &good);
        rig.goes_by_xdp("UDP", &datagram);
        let edited = |frame: &[u8], at: usize, value: u8| {
            let mut frame = frame.to_vec();
            frame[at] = value;
            frame
        };
        let fragment = |word| frame4(&ipv4_between([198, 51, 100, 7], [203, 0, 113, 9], 17, word, &UDP));
        let quote = &ipv4(6, &ack())[..28];
        let error = frame4(&ipv4(1, &[&[3, 4, 0, 0, 0, 0, 0, 0][..], quote].concat()));
        let fits = 1700 + 14 - 90;
        let large = |length: usize| frame4(&ipv4(6, &[&ack()[..], &vec![0; length - 54]].concat()));
        rig.goes_by_xdp("as large as the cluster link carries", &large(fits));
        let cases = [
            ("one byte larger", large(fits + 1)),
            ("SYN", edited(&good, 47, 0x02)),
            ("SYN with ACK", edited(&good, 47, 0x12)),
            ("TTL 1", edited(&good, 22, 1)),
            ("TTL 0", edited(&good, 22, 0)),
            ("first fragment", fragment(0x2000)),
            ("later fragment", fragment(0x0003)),
            ("ICMP error that quotes the flow", error),
            ("TCP header beyond the packet", edited(&good, 46, 0x60)),
            ("TCP header of 16 bytes", edited(&good, 46, 0x40)),
            ("UDP length beyond the packet", edited(&datagram, 39, 13)),
            ("UDP length of seven", edited(&datagram, 39, 7)),
            ("another flow", edited(&good, 35, 0xa1)),
            (
                "the other direction",
                frame4(&ipv4_between([203, 0, 113, 9], [198, 51, 100, 7], 6, 0, &back())),
            ),
            ("another VLAN", tagged(&good, &[0x81, 0, 0, 5])),
        ];
        for (case, frame) in cases {
            rig.goes_to_the_worker(case, &frame);
        }
        let mut old = edited(&good, 22, 2);
        mend_checksum(&mut old[14..]);
        rig.goes_by_xdp("TTL 2", &old);
        rig.goes_by_xdp("FIN", &edited(&good, 47, 0x11));
        rig.goes_by_xdp("RST", &edited(&good, 47, 0x04));
    });
}

/// Ports of UDP flows with one home bucket: two that fill it, and one for each place beside it that their hash may choose.
fn ports_of_one_home() -> Vec<(u16, u16)> {
    let [source, destination] = ends4();
    let hash = |(from, to): (u16, u16)| {
        FlowHasher::new(SEED).hash(&record((source, from), (destination, to), proto::UDP, (0, 0)).key)
    };
    let mut wanted = [3, 1, 1, 1];
    let mut found = Vec::new();
    for ports in (1..64).flat_map(|to| (1..=u16::MAX).map(move |from| (from, to))) {
        let same_home = hash(ports) >> 17 == hash((4000, 53)) >> 17;
        let left = &mut wanted[hash(ports) as usize & 3];
        if same_home && *left > 0 {
            *left -= 1;
            found.push(ports);
        }
        if wanted == [0; 4] {
            break;
        }
    }
    assert_eq!(wanted, [0; 4]);
    // Those of which there are three take the home first, and their place beside it.
    found.sort_by_key(|&ports| hash(ports) & 3);
    found
}

#[test]
fn entries_beside_their_home_bucket_are_found() {
    in_namespace(|| {
        let mut rig = Rig::new(IPV4_CLUSTER);
        let [source, destination] = ends4();
        for (from, to) in ports_of_one_home() {
            rig.back_up(record((source, from), (destination, to), proto::UDP, (0, 0)));
            let mut datagram = UDP;
            datagram[..2].copy_from_slice(&from.to_be_bytes());
            datagram[2..4].copy_from_slice(&to.to_be_bytes());
            let frame = frame4(&ipv4(17, &datagram));
            rig.publish(&frame);
            rig.goes_by_xdp(&format!("UDP {from} to {to}"), &frame);
        }
    });
}

/// TCP 80 → 4000 with ACK.
fn back() -> [u8; 20] {
    let mut back = ack();
    back[..4].copy_from_slice(&[0, 80, 0x0f, 0xa0]);
    back
}

#[test]
fn an_entry_holds_for_the_interface_it_was_learned_on() {
    in_namespace(|| {
        let mut rig = Rig::new(IPV4_CLUSTER);
        rig.back_up(tcp4());
        let frame = frame4(&ipv4(6, &ack()));
        for _ in 0..FORWARD_AFTER {
            assert!(rig.wire.arrive(DATA - 1, &frame, &FlowHasher::new(SEED)));
            assert_eq!(rig.turn().len(), 1);
        }
        rig.goes_to_the_worker("published for another zone", &frame);
        rig.publish(&frame);
        rig.goes_by_xdp("published for this one", &frame);
    });
}

#[test]
fn stale_entries_are_not_followed() {
    in_namespace(|| {
        let mut rig = Rig::new(IPV4_CLUSTER);
        rig.back_up(tcp4());
        let frame = frame4(&ipv4(6, &ack()));
        rig.publish(&frame);
        rig.goes_by_xdp("published", &frame);

        rig.steering.close_forwarder();
        rig.goes_to_the_worker("closed: aggregation off", &frame);
        rig.open();
        rig.goes_by_xdp("open again", &frame);

        rig.steering.unregister_all_sockets().unwrap();
        let run = rig.steering.test_run(&frame, 1).unwrap();
        assert_eq!(run.outcome, "no_socket", "nobody keeps the entries true");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&rig._socket);
        rig.steering.register_socket(DATA, 0, fd).unwrap();
        rig.goes_by_xdp("the socket is back", &frame);

        // Control opens the new epoch first; the worker still redirects, and publishes, by the old view.
        rig.view = view(2, IPV4_CLUSTER, &[ME, OTHER]);
        rig.open();
        rig.goes_to_the_worker("another epoch", &frame);
        rig.publish(&frame);
        rig.goes_to_the_worker("published late, by the old view", &frame);
        rig.tell(ToWorker::View(Arc::new(rig.view.clone())));
        rig.goes_to_the_worker("the worker has the new view", &frame);
        // Only with something published in this epoch does the program look at entries at all.
        let datagram = frame4(&ipv4(17, &UDP));
        rig.back_up(Record { owner: OTHER, ..udp4() });
        rig.publish(&datagram);
        rig.goes_by_xdp("a flow of the new epoch", &datagram);
        rig.goes_to_the_worker("an entry of the old epoch", &frame);
    });
}

#[test]
fn a_session_that_moves_or_ends_takes_its_entry_along() {
    in_namespace(|| {
        let mut rig = Rig::new(IPV4_CLUSTER);
        let frame = frame4(&ipv4(6, &ack()));
        rig.back_up(tcp4());
        rig.publish(&frame);
        rig.goes_by_xdp("published", &frame);
        rig.back_up(Record { version: 2, ..tcp4() });
        rig.goes_by_xdp("a newer version of the same ownership", &frame);

        rig.back_up(Record { generation: Generation(0x0a0b_0c0e), owner: OTHER, ..tcp4() });
        rig.goes_to_the_worker("another Owner", &frame);
        rig.publish(&frame);
        rig.goes_by_xdp("to the other Owner", &frame);
        rig.back_up(Record { generation: Generation(0x0a0b_0c0f), owner: OTHER, ..tcp4() });
        rig.goes_to_the_worker("another generation", &frame);
        rig.publish(&frame);
        rig.goes_by_xdp("of that generation", &frame);

        rig.back_up(Record { remove: true, generation: Generation(0x0a0b_0c0f), owner: OTHER, ..tcp4() });
        rig.goes_to_the_worker("the session has ended", &frame);
    });
}

#[test]
fn becoming_owner_withdraws_before_the_first_packet_is_processed() {
    in_namespace(|| {
        let mut rig = Rig::new(IPV4_CLUSTER);
        let frame = frame4(&ipv4(6, &ack()));
        rig.back_up(tcp4());
        rig.publish(&frame);
        rig.goes_by_xdp("published", &frame);
        // A grant: a Redirect of a higher generation that names this node.
        let option = tunnel::TunnelOption {
            owner: ME,
            ..forwards::redirect_option(&rig.view, ME, Generation(0x0a0b_0c0e), 1)
        };
        let option = tunnel::TunnelOption { sender: OTHER, ingress: OTHER, ..option };
        let ends = TunnelEnds {
            source_mac: [2, 0, 0, 0, 9, 3],
            destination_mac: [2, 0, 0, 0, 9, 1],
            source: address(false, 3),
            destination: address(false, 1),
        };
        let (key, direction) = (tcp4().key, tcp4().origin);
        assert_eq!(direction, Direction::LoToHi);
        let mut granted = vec![0; 90];
        rig.tell(ToWorker::TakeKey(OpenKey::new(OTHER, peer_key())));
        let (seal, tunnel_key) = (Seal { key: 1, stream: 0, counter: 1 }, peer_key().key);
        tunnel::emit(
            &mut granted,
            frame.len(),
            &ends,
            CLUSTER,
            &option,
            &seal,
            &tunnel_key,
            &key,
            direction,
            1,
        );
        granted.extend(&frame);
        let hasher = FlowHasher::new(SEED);
        let layout =
            samepath_dataplane::wire::layout::Layout::parse_inner(&frame, 90, LINK, &hasher).unwrap();
        rig.wire.arrive_with(&granted, &layout);
        assert!(rig.turn().is_empty(), "it is the Owner and redirects no more");
        rig.goes_to_the_worker("owned here", &frame);
    });
}
