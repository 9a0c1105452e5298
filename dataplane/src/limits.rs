//! Every bound in one place, each with its reason.

use crate::floods::Rate;

/// Packets taken from one ring per turn. Lower: more wakeups per packet; higher: longer tail latency
/// for the other queues of the same worker. 64 is where ring costs stop falling. The default of `--batch`.
pub const BURST: usize = 64;

/// Nodes in one cluster. Per-peer state sits in flat arrays of this size; full-mesh replication is
/// the real limit and is far below it.
pub const MAX_NODES: usize = 64;

/// Pairs of prefixes that make a detour which one worker remembers: buckets, and places in each; 48 KiB in all. Heavy pairs
/// stay however many light ones there are; more places would only tell more of the light ones.
pub const DETOUR_BUCKETS: usize = 128;
/// Places in a bucket.
pub const DETOUR_WAYS: usize = 4;

/// Packets that one worker writes down for `samepath trace` and `samepath capture`, per second: each goes the long way and
/// is copied, which `burst --looked` measures. Lower: busy flows are seen with gaps sooner (they are counted); higher:
/// looking on takes more of a worker.
pub const WATCHED_PER_S: u32 = 5_000;

/// Those at once, after a time of rest.
pub const WATCHED_AT_ONCE: u32 = 512;

/// Sessions that begin, change or end that one worker tells for `samepath sessions events`, per second: each is copied,
/// and control makes words of it. Lower: a busy node is followed with gaps sooner (they are counted); higher: following
/// takes more of control, which replicates too.
pub const EVENTS_PER_S: u32 = 20_000;

/// Those at once, after a time of rest.
pub const EVENTS_AT_ONCE: u32 = 4_096;

/// Events that may wait between one worker and control, 1 MB. Control takes them every millisecond while somebody
/// follows. Lower: lost when control is busy for a moment; higher: memory, while somebody follows.
pub const EVENTS_WAITING: usize = 4_096;

/// Interfaces of one node (data interfaces and the cluster link). Bounds the steering maps.
pub const MAX_PORTS: usize = 16;

/// Queues per interface the steering map has room for.
pub const MAX_QUEUES: usize = 64;

/// Director buckets. 65,536 keeps the share of 64 weighted members within 2 % of its aim and the
/// table within the L2 cache (128 KiB).
pub const BUCKETS: usize = 65_536;

/// Largest share of Director duty; a member of weight w draws w scores per bucket.
pub const MAX_WEIGHT: u8 = 16;

/// How often one packet may cross the cluster link (promise 4): Query, one forward to the node that
/// is believed to be Director, answer.
pub const HOP_BUDGET: u8 = 3;

/// Descriptors a worker may have waiting at another worker. More hides overload as latency.
pub const HANDOFF_RING: usize = 4096;

/// Session changes on their way from one worker to control. An overflow marks sessions dirty.
pub const OUTBOX: usize = 65_536;

/// Messages on their way from control to one worker. Control waits when it is full.
pub const INBOX: usize = 65_536;

/// Messages a worker takes from its inbox per turn, so that a bulk sync never stalls packets.
pub const INBOX_PER_TURN: usize = 256;

/// Session slots a worker visits per turn for walks (listing, bulk sync, sweep, dirty resend).
pub const WALK_PER_TURN: usize = 256;

/// Packets a worker holds while a neighbour is being resolved, in all. The kernel's own default is
/// 101 packets of 2 kB per neighbour (`unres_qlen`); a burst's worth per worker is enough because
/// next hops of routes are resolved before they are needed.
pub const HELD_PACKETS: usize = 256;

/// How long a packet waits for its neighbour, ms. The kernel gives up after 3 probes of 1 s.
pub const HELD_MS: u64 = 3_000;

/// IPv6 extension headers walked before a packet is refused. RFC 8200 sets no bound; the kernel's
/// netfilter and real stacks see at most a handful. The XDP program has the same number.
pub const MAX_IPV6_EXTENSIONS: usize = 8;

/// How long a Director keeps a claim before it asks the Owner whether the session still lives, ms.
pub const CLAIM_CHECK_MS: u64 = 30_000;

/// How long after an Owner's death its flows wait for a packet, ms: the ingress of that packet becomes the new Owner.
/// Then their Directors take them. Sooner: busy flows get Owners that are not their ingress, and a node that was away
/// for a moment has lost its flows; later: a second death or a node that joins meets flows nobody owns.
pub const ADOPT_AFTER_MS: u64 = 10_000;

/// When after an Owner's death was seen the ends of its proxied connections are asked where they are, ms. An answer may
/// meet a node that believes the Owner alive and be lost, so the first ones follow each other closely. More often: it is
/// packets to hosts that do not answer.
pub const PROMPTS_AFTER_MS: [u64; 8] = [20, 120, 250, 500, 1_000, 2_500, 5_000, 9_500];

/// Numbers of one stream that a receiver remembers to have seen or not; a multiple of 64. Packets of one stream overtake
/// each other when they wait in rings of different queues and in the hand-off ring: 2,048 and 4,096 packets
/// long. Lower: honest packets that waited long are dropped; higher: more memory, now a page for each
/// stream, key and worker.
pub const REPLAY_WINDOW: usize = 32_768;

/// How long a session that nobody owns waits for its Director before the first node that has it owns it, ms.
/// Lower: Directors that learn of it later than others find it owned; higher: a flow whose Director knows nothing of
/// it stands still for longer.
pub const ORPHAN_MS: u64 = 1_000;

/// How much longer each further member waits, ms. Lower: two nodes own it before they hear of each other; higher: a
/// flow that only the last of many nodes knows stands still for longer.
pub const ORPHAN_STEP_MS: u64 = 200;

/// Data of frames moved between a worker's stock and the common depot at once.
pub const DEPOT_BATCH: usize = 256;

/// Packets that come in fragments which a worker remembers at once (addresses, protocol, id → ports of the first, what
/// has come): about 1 MiB. The eldest makes room. Lower: in a flood of fragments honest ones have less time for all to
/// come; higher: more memory.
pub const FRAGMENT_TRAINS: usize = 4096;

/// How long such a packet is remembered, ms. `net.ipv4.ipfrag_time` is 30 s, but nobody here waits for fragments that
/// are missing: lower, and a path slower by that much breaks a packet; higher, and the 16-bit id of IPv4 comes round to a
/// packet that lost a fragment (RFC 4963).
pub const FRAGMENT_MS: u64 = 5_000;

/// How long after all of a packet has come a later fragment of the same id counts as a copy, ms. Then, or with a first
/// fragment, it is another packet's.
pub const FRAGMENT_ECHO_MS: u64 = 250;

/// Fragments that may wait at a worker for the first one of their packet: frames of packet memory, so this bounds bytes
/// too (2 MiB). The eldest one's packet makes room. Lower: fewer packets may be turned round at once; higher: a flood
/// takes frames from the receive rings.
pub const FRAGMENTS_WAITING: usize = 512;

/// Those of one source address: two packets of 64 KiB with their first fragment last. Lower: a sender's packets may
/// not be turned round; higher: fewer sources fill all there is.
pub const FRAGMENTS_WAITING_PER_SOURCE: u16 = 128;

/// How long a fragment waits for the first one, ms. Paths of one packet's fragments differ by milliseconds, a router that
/// asks for a link address holds a first one for longer.
pub const FRAGMENT_WAIT_MS: u64 = 1_000;

/// Separate parts of a packet that are remembered: 64 KiB in fragments of 1,280 bytes, in whatever order, have about 15
/// at most. Memory for each packet.
pub const FRAGMENT_RUNS: usize = 32;

/// Bytes of a fragment that is not the last. Every link carries packets of 68 bytes (RFC 791), so 48 after the header.
pub const FRAGMENT_LEAST: u16 = 48;

/// Timers a worker looks at per turn, so that a wave of expiries never stalls packets.
pub const TIMERS_PER_TURN: usize = 256;

/// How long a stopping worker waits for frames still in transmit rings, ms.
pub const STOP_MS: u64 = 500;

/// Answers to rejected packets a worker may send per second, and at once. The kernel's bound for ICMP of all kinds
/// is 1,000 per second (`net.ipv4.icmp_msgs_per_sec`). Lower: senders wait for time-outs; higher: a flood with forged
/// sources is answered to those who did not send it.
pub const REJECTS_PER_S: u32 = 1_000;

/// ICMP errors a node sends of its own accord, the default of `--icmp-rate`: the kernel's `icmp_msgs_per_sec` and
/// `icmp_msgs_burst`. Lower: path MTU discovery and traceroute wait; higher: a flood is answered to its forged sources.
pub const ICMP_RATE: Rate = Rate { per_second: 1_000, burst: 50 };

/// Events of rules with `log` a worker may tell control of per second, and at once. A log is read by people.
pub const LOGS_PER_S: u32 = 100;

/// Slots looked at for a half-open session to evict when a table is full. Lower: more refusals of new
/// flows while few sessions are half-open; higher: more work per refused packet in a flood.
pub const EVICTION_PROBES: usize = 64;

/// Share of a table's sessions that may give way to new ones (half open, one-sided, over, claims), per cent: the default
/// of `--half-open-max`. Lower: in a flood handshakes have less time, and one-sided flows begin more often; higher: less is
/// left for established sessions, and each per cent takes a twentieth of a byte per session.
pub const HALF_OPEN_PERCENT: u8 = 25;

/// Sets of four source prefixes whose new flows a worker counts: 65,536 prefixes in 768 KiB, if new flows are limited.
/// Lower: prefixes share meters when more than that are busy; higher: more cache misses in a flood.
pub const METER_SETS: usize = 16_384;

/// Changes that may wait between worker and control, and in the replication log, before half-open sessions are
/// announced later, a share of what there is room for: 1 in this many. The rest is for sessions that are established,
/// and for the ends of those that were announced.
pub const HALF_OPEN_BACKLOG: usize = 4;

/// Bytes the kernel keeps in front of a received packet (`XDP_PACKET_HEADROOM`, include/uapi/linux/bpf.h).
pub const XDP_HEADROOM: u32 = 256;

/// Buckets of two entries by which the XDP program redirects by itself: 65,536 directions of flows in 4 MiB.
/// More is more memory that cannot be swapped and more cache misses; a flow without an entry is redirected
/// by its worker. A power of two; the XDP program has the same number.
pub const FORWARD_BUCKETS: usize = 32_768;

/// Packets of a flow after which it is offered to the XDP program, and again after as many more (jumbo frames:
/// fewer). That is how often a session's count moves from its line to the rest, so noticing costs nothing. Making an
/// entry costs about as much as redirecting one packet, most flows are shorter than this, and a flow that
/// is longer loses little by beginning late.
pub const FORWARD_AFTER: u64 = 16;

/// Offers of a flow after which it may take the entry of another one when both of its bucket are taken.
/// Lower: flows that are all busy push each other out; higher: an idle one keeps its entry longer.
pub const FORWARD_DISPLACE: u64 = 16;
