//! The rings a worker receives from and sends to, and their twin of plain memory.
//! With `memory/` this room holds the only `unsafe` of the crate.
#![allow(unsafe_code)]

mod channels;
mod ethtool;
mod frame_pool;
mod memory;
mod open;
mod options;
mod probe;
mod registration;
mod rss;
mod schedule;
mod sockets;
mod umem;
mod waker;

pub use channels::receive_queues;
pub use frame_pool::Depot;
pub use memory::{MemoryFrame, MemoryIo, Wire};
pub use open::{FrameDepot, OpenError, Opened, PortPlan, SocketsPlan, open};
pub use options::{BusyPoll, SocketOptions, busy_poll};
pub use probe::{PROBE_FOR, probe};
pub use registration::{Registration, RingStatistics};
pub use rss::{Rss, RssSetting, restore_rss, rss, symmetric_rss};
pub use schedule::{FIFO_PRIORITY, Policy, WATCHDOG_PRIORITY, policy, set_policy, thread_id};
pub use sockets::{Frame, XskIo};
pub use waker::Waker;

use crate::wire::layout::Layout;

/// How many frames a worker can account for, by where they are. Summed over workers, the depot and
/// the hand-off rings this equals the number of frames in the UMEM, always (promise 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrameCount {
    /// Ready for use.
    pub free: u64,
    /// In fill, receive, transmit or completion rings.
    pub kernel: u64,
    /// Taken from a ring and on their way to one (waiting for a batch).
    pub hand: u64,
}

/// One worker's rings. Two implementations: [`XskIo`] over AF_XDP, [`MemoryIo`] over plain memory.
///
/// A frame is a token: whoever holds one must `send` or `recycle` it.
pub trait Io {
    /// A frame in hand.
    type Frame: Send + std::fmt::Debug;

    /// Takes up to `limit` received frames of every ring into `burst`.
    fn receive(&mut self, limit: usize, burst: &mut Vec<Self::Frame>);

    /// The queue by which the frame at this place of the last burst of [`Io::receive`] came; `None`: not known.
    fn queue_of(&self, at: usize) -> Option<u16>;

    /// The packet, Ethernet header first.
    fn bytes<'a>(&'a self, frame: &'a Self::Frame) -> &'a [u8];

    /// The packet, to be rewritten.
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Self::Frame) -> &'a mut [u8];

    /// What the XDP program found out about a received packet, and the packet.
    fn view<'a>(&'a self, frame: &'a Self::Frame) -> (&'a [u8; Layout::SIZE], &'a [u8]);

    /// Opens `room` bytes in front of the packet; false (and nothing changed) if the frame is too small.
    fn grow_front(&mut self, frame: &mut Self::Frame, room: usize) -> bool;

    /// Cuts `cut` bytes off the front of the packet.
    fn shrink_front(&mut self, frame: &mut Self::Frame, cut: usize);

    /// A free frame of `length` zero bytes, for a packet of the node's own making.
    fn allocate(&mut self, length: usize) -> Option<Self::Frame>;

    /// True if this worker has a ring that sends out of `port`.
    fn can_send(&self, port: u8) -> bool;

    /// Queues a frame for sending out of `port`; gives it back if the ring is full.
    fn send(&mut self, port: u8, frame: Self::Frame) -> Result<(), Self::Frame>;

    /// Gives a frame back for reuse.
    fn recycle(&mut self, frame: Self::Frame);

    /// Hands queued frames to the kernel (as many wakeups per ring as it takes), reaps completions, refills.
    /// Returns true if frames are still waiting for room.
    fn flush(&mut self) -> bool;

    /// Sleeps until a packet arrives, the waker is rung or `timeout_ms` is over.
    fn wait(&mut self, waker: &Waker, timeout_ms: u32);

    /// Where this worker's frames are now.
    fn frames(&self) -> FrameCount;
}
