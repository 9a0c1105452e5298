//! The twin of [`super::XskIo`] over plain memory: the whole worker, not a mock of it, runs in tests,
//! benches and the simulation.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{FrameCount, Io, Waker};
use crate::wire::flow_hash::FlowHasher;
use crate::wire::layout::Layout;

/// A packet in plain memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryFrame {
    /// The packet, Ethernet header first.
    pub bytes: Vec<u8>,
    /// What the XDP program would have written in front of it.
    pub metadata: [u8; Layout::SIZE],
}

/// What waits to be received and what was sent, shared between a worker and whoever plays the network.
#[derive(Debug, Clone, Default)]
pub struct Wire {
    state: Arc<Mutex<WireState>>,
}

#[derive(Debug, Default)]
struct WireState {
    arriving: VecDeque<MemoryFrame>,
    sent: VecDeque<(u8, Vec<u8>)>,
}

impl Wire {
    fn state(&self) -> MutexGuard<'_, WireState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a packet where the XDP program would have steered it; `false` if the program would not have.
    pub fn arrive(&self, port: u8, bytes: &[u8], hasher: &FlowHasher) -> bool {
        let Ok(layout) = Layout::parse(bytes, port, hasher) else { return false };
        self.arrive_with(bytes, &layout);
        true
    }

    /// Puts a packet with a layout found elsewhere (a tunnel packet).
    pub fn arrive_with(&self, bytes: &[u8], layout: &Layout) {
        let frame = MemoryFrame { bytes: bytes.to_vec(), metadata: layout.to_metadata() };
        self.state().arriving.push_back(frame);
    }

    /// The oldest packet sent and not yet taken: interface index and bytes.
    pub fn take_sent(&self) -> Option<(u8, Vec<u8>)> {
        self.state().sent.pop_front()
    }
}

/// One worker's rings in plain memory.
#[derive(Debug)]
pub struct MemoryIo {
    wire: Wire,
    ports: u8,
    free: u64,
}

impl MemoryIo {
    /// Rings of `ports` interfaces over `wire`, with `frames` frames.
    pub fn new(wire: Wire, ports: u8, frames: u64) -> Self {
        Self { wire, ports, free: frames }
    }

    /// Room in front of and behind a packet, as in a 2048-byte UMEM frame.
    const CAPACITY: usize = 2048 - 256;
}

impl Io for MemoryIo {
    type Frame = MemoryFrame;

    fn receive(&mut self, limit: usize, burst: &mut Vec<MemoryFrame>) {
        let mut state = self.wire.state();
        let count = limit.min(state.arriving.len()).min(self.free as usize);
        burst.extend(state.arriving.drain(..count));
        self.free -= count as u64;
    }

    fn bytes<'a>(&'a self, frame: &'a MemoryFrame) -> &'a [u8] {
        &frame.bytes
    }

    fn bytes_mut<'a>(&'a mut self, frame: &'a mut MemoryFrame) -> &'a mut [u8] {
        &mut frame.bytes
    }

    fn metadata(&self, frame: &MemoryFrame) -> [u8; Layout::SIZE] {
        frame.metadata
    }

    fn grow_front(&mut self, frame: &mut MemoryFrame, room: usize) -> bool {
        if frame.bytes.len() + room > Self::CAPACITY {
            return false;
        }
        frame.bytes.splice(..0, std::iter::repeat_n(0, room));
        true
    }

    fn shrink_front(&mut self, frame: &mut MemoryFrame, cut: usize) {
        frame.bytes.drain(..cut.min(frame.bytes.len()));
    }

    fn allocate(&mut self, length: usize) -> Option<MemoryFrame> {
        if self.free == 0 || length > Self::CAPACITY {
            return None;
        }
        self.free -= 1;
        Some(MemoryFrame { bytes: vec![0; length], metadata: [0; Layout::SIZE] })
    }

    fn can_send(&self, port: u8) -> bool {
        port < self.ports
    }

    fn send(&mut self, port: u8, frame: MemoryFrame) -> Result<(), MemoryFrame> {
        if port >= self.ports {
            return Err(frame);
        }
        self.wire.state().sent.push_back((port, frame.bytes));
        self.free += 1;
        Ok(())
    }

    fn recycle(&mut self, _frame: MemoryFrame) {
        self.free += 1;
    }

    fn flush(&mut self) -> bool {
        false
    }

    fn wait(&mut self, _waker: &Waker, _timeout_ms: u32) {}

    fn frames(&self) -> FrameCount {
        FrameCount { free: self.free, kernel: 0, hand: 0 }
    }
}
