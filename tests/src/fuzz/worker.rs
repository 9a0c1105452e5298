//! Two whole workers over plain memory, joined by a cluster link: any frames, metadata and time, in any order. After
//! every step each packet has one verdict, no frame is lost and nothing goes round for ever.

use std::sync::{Arc, OnceLock};

use crossbeam::queue::ArrayQueue;
use samepath_dataplane::clock::NowMs;
use samepath_dataplane::cluster::director::{DirectorHash, DirectorKey};
use samepath_dataplane::cluster::view::{Member, Peer, View};
use samepath_dataplane::counters::Counters;
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::keyring::{OpenKey, PeerKey};
use samepath_dataplane::mailbox::{FromWorker, Mailbox, ToWorker};
use samepath_dataplane::policy::InForce;
use samepath_dataplane::route::Routes;
use samepath_dataplane::settings::Settings;
use samepath_dataplane::tuning::Tuning;
use samepath_dataplane::wire::Layout;
use samepath_dataplane::wire::flow_hash::FlowHasher;
use samepath_dataplane::wire::tunnel::{self, TunnelKey};
use samepath_dataplane::worker::{Handoff, Ports, Snapshots, Worker, WorkerParts};
use samepath_dataplane::xsk::{MemoryIo, Waker, Wire};

use super::Bytes;
use crate::lab::packets::{Body, Segment, Sent};
use crate::lab::ports::{self, LINK};

const FRAMES: u64 = 32;
const SESSIONS: usize = 16;

/// Longest frame that fits with a tunnel header.
const LONGEST: usize = 1_600;

/// Rounds in which all that one step causes must have come to rest.
const ROUNDS: usize = 64;

/// Steps of one input.
const STEPS: usize = 64;

/// Each byte names a step; what it needs follows it.
pub fn worker(input: &[u8]) {
    let mut bytes = Bytes(input);
    let mut pair = Pair::new();
    for _ in 0..STEPS {
        if bytes.is_empty() {
            break;
        }
        let step = bytes.byte();
        let node = usize::from(step >> 7);
        match step % 8 {
            0 => pair.nodes[node].arrive(bytes.byte() % 2, &sound(bytes.string(LONGEST))),
            1 => pair.nodes[node].tunnelled(bytes.string(LONGEST)),
            2 => pair.nodes[node].with_metadata(bytes.take(Layout::SIZE), bytes.string(LONGEST)),
            3 | 4 => {
                let sent = conversation(&mut bytes);
                pair.nodes[node].arrive(u8::from(!sent.from_client), &sent.to_frame());
            }
            5 => pair.flip = Some((bytes.short(), bytes.byte())),
            6 => pair.lose = true,
            _ => pair.now = pair.now.plus(u64::from(bytes.byte()) * 500),
        }
        pair.settle();
    }
}

/// The frame with the header checksum that IPv4 needs to get past the first look: chance would not find it.
fn sound(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let tags = frame.get(12..).unwrap_or_default().chunks(4);
    let l3 = 14 + 4 * tags.take_while(|tag| matches!(tag, [0x81, 0, ..] | [0x88, 0xa8, ..])).count();
    let Some(length) = frame.get(l3).map(|first| usize::from(first & 0xf) * 4) else { return frame };
    if let Some(header) = frame.get_mut(l3..l3 + length).filter(|header| length >= 20 && header[0] >> 4 == 4)
    {
        header[10..12].fill(0);
        let words = header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
        let sum = words.sum::<u32>();
        let once = (sum & 0xffff) + (sum >> 16);
        let sum = !((once & 0xffff) + (once >> 16)) as u16;
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

/// A packet of one of a few flows, so that an input gets far into them.
fn conversation(bytes: &mut Bytes<'_>) -> Sent {
    let what = bytes.byte();
    let segment = Segment {
        flags: bytes.byte() & 0x1f,
        seq: u32::from(bytes.byte()),
        ack: u32::from(bytes.byte()),
        length: u32::from(what >> 5),
    };
    let body = if what & 0x10 == 0 { Body::Tcp(segment) } else { Body::Udp };
    Sent { id: 1, flow: usize::from(what & 7), from_client: what & 8 == 0, body }
}

struct Node {
    worker: Worker<MemoryIo>,
    wire: Wire,
    mailbox: Mailbox,
    counters: Arc<Counters>,
    hasher: FlowHasher,
}

/// Both nodes and what is to happen to the next packet between them.
pub(super) struct Pair {
    nodes: [Node; 2],
    now: NowMs,
    flip: Option<(u16, u8)>,
    lose: bool,
    /// Tunnel packets but Hello, as they crossed.
    pub(super) crossed: Vec<Vec<u8>>,
}

struct Shared {
    views: [Arc<View>; 2],
    routes: Arc<Routes>,
    settings: [Arc<Settings>; 2],
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| Shared {
        views: [1, 2].map(|me| {
            let members = [1, 2].map(|node| Member { node: NodeId(node), weight: 1 }).to_vec();
            let peers = ports::peers(me, 2).into_iter().map(|peer| Peer { key: Some(tunnel_key()), ..peer });
            let peers = peers.collect();
            Arc::new(View::new(1, NodeId(me), members, peers, DirectorHash::IpPair, &DirectorKey([7; 16])))
        }),
        routes: ports::routes(),
        settings: [1, 2].map(|me| Arc::new(ports::settings(me))),
    })
}

/// The key both nodes speak with.
pub(super) fn tunnel_key() -> PeerKey {
    PeerKey { id: 1, key: TunnelKey::new([9; 16]) }
}

impl Node {
    fn new(index: usize, now: NowMs) -> Self {
        let wire = Wire::default();
        let mailbox =
            Mailbox { inbox: Arc::new(ArrayQueue::new(256)), outbox: Arc::new(ArrayQueue::new(64)) };
        let counters = Arc::new(Counters::default());
        let hasher = FlowHasher::new(index as u64);
        let waker = Arc::new(Waker::new().expect("a file descriptor"));
        let shared = shared();
        for peer in [1, 2] {
            let taken = mailbox.inbox.push(ToWorker::TakeKey(OpenKey::new(NodeId(peer), tunnel_key())));
            assert!(taken.is_ok(), "the inbox is empty");
        }
        let worker = Worker::new(WorkerParts {
            index: 0,
            io: MemoryIo::new(wire.clone(), 3, FRAMES),
            ports: Ports { hello_interval_ms: 10_000, ..ports::ports() },
            hasher,
            snapshots: Snapshots {
                view: shared.views[index].clone(),
                routes: shared.routes.clone(),
                settings: shared.settings[index].clone(),
                policy: Arc::new(InForce::nothing(&shared.settings[index])),
            },
            sessions_max: SESSIONS,
            handoff: Handoff::mesh(&[waker]).remove(0),
            mailbox: mailbox.clone(),
            counters: counters.clone(),
            tuning: Tuning::default(),
            now,
        });
        Self { worker, wire, mailbox, counters, hasher }
    }

    fn arrive(&self, port: u8, frame: &[u8]) {
        self.wire.arrive(port, frame, &self.hasher);
    }

    /// A frame on the cluster link, steered by what is inside.
    fn tunnelled(&self, frame: &[u8]) {
        let inner_off = tunnel::overhead(&ports::link_address(1));
        let Some(inner) = frame.get(inner_off..) else { return };
        if let Ok(layout) = Layout::parse_inner(inner, inner_off as u16, LINK, &self.hasher) {
            self.wire.arrive_with(frame, &layout);
        }
    }

    /// A frame of which the metadata say what they like, but for the interface, which the program knows.
    fn with_metadata(&self, given: &[u8], frame: &[u8]) {
        let mut metadata = [0; Layout::SIZE];
        metadata[..given.len()].copy_from_slice(given);
        let layout = Layout::from_metadata(&metadata);
        self.wire.arrive_with(frame, &Layout { port: layout.port % 3, ..layout });
    }

    fn check(&self) {
        let counters = &self.counters;
        let dropped: u64 = counters.drops.iter().map(|one| one.get()).sum();
        let (rx, tx, held) = (
            counters.rx.get() + counters.fragments_made.get() + counters.prompted.get(),
            counters.tx.get(),
            counters.held.get(),
        );
        assert_eq!(rx, tx + dropped + held, "received = sent {tx} + dropped {dropped} + held {held}");
        let frames = counters.frames_free.get() + counters.frames_kernel.get() + counters.frames_hand.get();
        assert_eq!(frames, FRAMES, "frames");
    }
}

impl Pair {
    pub(super) fn new() -> Self {
        let now = NowMs(10_000);
        let nodes = [0, 1].map(|index| Node::new(index, now));
        let mut pair = Self { nodes, now, flip: None, lose: false, crossed: Vec::new() };
        pair.settle();
        pair
    }

    /// A packet of a host reaches a node, and all comes to rest.
    pub(super) fn send(&mut self, node: usize, sent: Sent) {
        self.nodes[node].arrive(u8::from(!sent.from_client), &sent.to_frame());
        self.settle();
    }

    /// Runs both until nothing moves.
    fn settle(&mut self) {
        for _ in 0..ROUNDS {
            let moved = [0, 1].map(|index| self.turn(index));
            for node in &self.nodes {
                node.check();
            }
            if moved == [false; 2] {
                return;
            }
        }
        panic!("after {ROUNDS} rounds packets still go round");
    }

    fn turn(&mut self, index: usize) -> bool {
        let before = self.nodes[index].counters.rx.get();
        self.nodes[index].worker.turn(self.now);
        let mut moved = self.nodes[index].counters.rx.get() != before;
        while let Some((port, mut bytes)) = self.nodes[index].wire.take_sent() {
            if port == LINK && !std::mem::take(&mut self.lose) {
                if let Some((at, mask)) = self.flip.take() {
                    let at = usize::from(at) % bytes.len();
                    bytes[at] ^= mask;
                }
                self.crossed.push(bytes.clone());
                self.nodes[1 - index].tunnelled(&bytes);
                moved = true;
            }
        }
        while let Some(said) = self.nodes[index].mailbox.outbox.pop() {
            moved |= self.hear(index, said);
        }
        moved
    }

    /// Control of the other node hears what a worker says.
    fn hear(&self, from: usize, said: FromWorker) -> bool {
        let sender = NodeId(from as u16 + 1);
        let message = match said {
            FromWorker::Changed(record) => ToWorker::Apply { record, mark: 1 },
            FromWorker::ClaimCheck { key, generation, .. } => {
                ToWorker::ClaimQuestion { from: sender, key, generation }
            }
            FromWorker::ClaimDenied { key, generation, .. } => {
                ToWorker::ClaimDenied { from: sender, key, generation }
            }
            _ => return false,
        };
        self.nodes[1 - from].mailbox.inbox.push(message).is_ok()
    }
}
