//! Counters of one worker: written by that worker alone, read by control at any time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::flow::NodeId;
use crate::limits::MAX_NODES;
use crate::service::MAX_SERVICES;
use crate::verdict::DropReason;

/// One counter with a single writer: a load and a store, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`; only the owning worker may call it.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed) + n, Relaxed);
    }

    /// Sets the value; only the owning worker may call it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $field:ident,)+) => {
        /// Everything a worker counts.
        #[derive(Debug)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $field: Counter,)+
            /// Packets to and from services, by number of the service as index.
            pub services: Vec<ServiceCounters>,
            /// Packets dropped, by [`DropReason`] as index.
            pub drops: Vec<Counter>,
            /// The last Hello of each peer this worker heard.
            pub heard: Vec<Heard>,
            /// Say no Hello: set while a thread of this node stands still.
            pub silent: AtomicBool,
            /// Peers are far behind: half-open sessions are announced later.
            pub lagging: AtomicBool,
        }

        impl Default for Counters {
            fn default() -> Self {
                Self {
                    $($field: Counter::default(),)+
                    services: (0..=MAX_SERVICES).map(|_| Default::default()).collect(),
                    drops: DropReason::ALL.iter().map(|_| Counter::default()).collect(),
                    heard: (0..MAX_NODES).map(|_| Default::default()).collect(),
                    silent: AtomicBool::new(false),
                    lagging: AtomicBool::new(false),
                }
            }
        }

        impl Counters {
            /// Names of the plain counters, in declaration order.
            pub const NAMES: &'static [(&'static str, &'static str)] =
                &[$((stringify!($field), concat!($($doc),+))),+];

            /// Values of the plain counters, in the order of [`Counters::NAMES`].
            pub fn values(&self) -> Vec<u64> {
                vec![$(self.$field.get()),+]
            }
        }
    };
}

counters! {
    /// Packets taken from the rings.
    rx,
    /// Bytes taken from the rings.
    rx_bytes,
    /// Packets given to the rings for sending (forwarded and tunnelled).
    tx,
    /// Bytes given to the rings for sending.
    tx_bytes,
    /// Verdict Forward.
    forward,
    /// Verdict Service.
    service,
    /// Packets answered by RST or ICMP in their place (verdict Reject).
    rejected,
    /// Packets answered by ICMP Time Exceeded; also in `rejected`.
    told_time_exceeded,
    /// Packets answered by ICMP Destination Unreachable because no route or neighbour was there; also in `rejected`.
    told_unreachable,
    /// Packets answered by Fragmentation Needed or Packet Too Big; also in `rejected`.
    told_too_big,
    /// Packets dropped without the ICMP error they were due, because of `--icmp-rate`.
    answers_suppressed,
    /// Fragments made beyond one for each packet that was cut.
    fragments_made,
    /// Ends of proxied connections asked where they are because their Owner died.
    prompted,
    /// SYNs whose maximum segment size was lowered.
    mss_clamped,
    /// Hello messages accepted from peers; they end here.
    hello_rx,
    /// Hello messages sent.
    hello_tx,
    /// Packets that took the fast path (they are counted by verdict as well).
    fast_path,
    /// Packets tunnelled to the Director.
    query_tx,
    /// Queries received as Director.
    query_rx,
    /// First packets returned to their ingress.
    first_packet_tx,
    /// First packets that came back from the Director.
    first_packet_rx,
    /// Packets tunnelled to their Owner.
    redirect_tx,
    /// Packets received as Owner (or passed on).
    redirect_rx,
    /// Fragments sent to where the fragments of their packet meet.
    gather_tx,
    /// Fragments received because those of their packet meet here.
    gather_rx,
    /// Flow directions handed to the XDP program.
    forwards_published,
    /// Entries taken back from it.
    forwards_withdrawn,
    /// Flow directions for which its table had no room.
    forwards_refused,
    /// Packets handed to another core of this node.
    handoff_tx,
    /// Packets received from another core of this node.
    handoff_rx,
    /// Packets now held (waiting for a neighbour, or for the first fragment).
    held,
    /// Fragments now waiting for the first one of their packet; part of `held`.
    fragments_waiting,
    /// Claims written as Director.
    claims_granted,
    /// Sessions begun as Owner.
    sessions_created,
    /// Sessions ended by their idle time.
    sessions_expired,
    /// Sessions of this Owner that gave way to new ones.
    sessions_evicted,
    /// Backups that gave way to new sessions.
    backups_evicted,
    /// Claims that gave way to new sessions.
    claims_evicted,
    /// Records of peers that found no room.
    backups_refused,
    /// Sessions told again because their turn had come.
    refreshed,
    /// Insertions for which other sessions had to move within the table.
    sessions_crowded,
    /// Insertions refused although slots were free.
    sessions_unplaced,
    /// Announcements of half-open sessions put off because replication lags.
    put_off,
    /// Sessions ended because the present policy allows them no longer.
    sessions_ended,
    /// Events of rules with `log` that were not told: too many at once.
    logs_lost,
    /// Sessions taken over from a dead Owner.
    takeovers,
    /// Sessions that a peer owns now because this node drains.
    handed_over,
    /// Sessions taken from a draining peer.
    handed_in,
    /// Conflicts of two Owners lost by this node.
    conflicts_lost,
    /// TCP segments outside the window that were let through (`--tcp-loose-window`).
    tcp_window_loose,
    /// Sessions now in the table as Owner.
    sessions_owner,
    /// Sessions now in the table as backup.
    sessions_backup,
    /// Claims now in the table.
    sessions_claim,
    /// Sessions now in the table that give way to new ones: half open, heard from one end only, over, claims.
    sessions_yielding,
    /// Sessions now waiting to be sent again to control.
    dirty,
    /// Session changes sent again after an overflow.
    resent,
    /// Frames now ready for use by this worker.
    frames_free,
    /// Frames now taken from a ring and not yet given to one (waiting for a batch or a neighbour).
    frames_hand,
    /// Frames now in fill, receive, transmit and completion rings this worker serves.
    frames_kernel,
    /// Keys of peers' tunnel packets taken into use.
    tunnel_keys,
    /// Epoch of the view this worker uses now.
    view_epoch,
    /// Turns of the loop.
    turns,
    /// Times the worker slept.
    sleeps,
    /// Time of the turns that found work, ns.
    busy_ns,
}

impl Counters {
    /// Counts one drop.
    pub fn dropped(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }

    /// Notes a peer's Hello and what it told.
    pub fn heard_from(&self, node: NodeId, told: Told, now_ms: u64) {
        let slot =
            self.heard.iter().find(|heard| matches!(heard.node.get(), n if n == 0 || n == u64::from(node.0)));
        if let Some(heard) = slot {
            heard.node.set(u64::from(node.0));
            heard.weight.set(u64::from(told.weight));
            heard.epoch.set(u64::from(told.epoch));
            heard.hears_me.set(u64::from(told.hears_me));
            heard.key.set(u64::from(told.key));
            heard.at_ms.set(now_ms);
        }
    }

    /// When `node` was last heard (ms of the process clock), and what it told.
    pub fn last_heard(&self, node: NodeId) -> Option<(u64, Told)> {
        let heard = self.heard.iter().find(|heard| heard.node.get() == u64::from(node.0))?;
        let told = Told {
            weight: heard.weight.get() as u8,
            hears_me: heard.hears_me.get() != 0,
            epoch: heard.epoch.get() as u32,
            key: heard.key.get() as u8,
        };
        Some((heard.at_ms.get(), told))
    }
}

/// What a Hello tells.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Told {
    /// The sender's Director weight.
    pub weight: u8,
    /// It hears this node.
    pub hears_me: bool,
    /// Epoch of its view.
    pub epoch: u32,
    /// Number of the key it was said under.
    pub key: u8,
}

/// Packets of one service.
#[derive(Debug, Default)]
pub struct ServiceCounters {
    /// Sent to it.
    pub to: Counter,
    /// Received from it.
    pub from: Counter,
}

/// The last Hello of one peer.
#[derive(Debug, Default)]
pub struct Heard {
    node: Counter,
    weight: Counter,
    hears_me: Counter,
    epoch: Counter,
    key: Counter,
    at_ms: Counter,
}
