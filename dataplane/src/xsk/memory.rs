//! The twin of [`super::XskIo`] over plain memory: the whole worker, not a mock of it, runs in tests,
//! benches and the simulation. Frames have the UMEM's layout and are reused like its frames.
//!
//! ```text
//! frame: | XDP headroom 256 ........ [Layout 24] | packet ...................... 2048
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{FrameCount, Io, Waker};
use crate::limits::XDP_HEADROOM;
use crate::wire::flow_hash::FlowHasher;
use crate::wire::layout::Layout;

/// Bytes of a frame, as in a UMEM of 2048-byte frames.
const FRAME: usize = 2048;

/// Where a packet starts in its frame.
const START: usize = XDP_HEADROOM as usize;

/// A packet in plain memory.
#[derive(Debug)]
pub struct MemoryFrame {
    buffer: Box<[u8; FRAME]>,
    length: usize,
}

impl MemoryFrame {
    fn empty() -> Self {
        Self { buffer: Box::new([0; FRAME]), length: 0 }
    }

    fn fill(&mut self, bytes: &[u8], metadata: &[u8; Layout::SIZE]) {
        self.buffer[START - Layout::SIZE..START].copy_from_slice(metadata);
        self.buffer[START..START + bytes.len()].copy_from_slice(bytes);
        self.length = bytes.len();
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[START..START + self.length]
    }
}

/// What waits to be received and what was sent, shared between a worker and whoever plays the network.
#[derive(Debug, Clone, Default)]
pub struct Wire {
    state: Arc<Mutex<WireState>>,
}

#[derive(Debug, Default)]
struct WireState {
    arriving: Vec<MemoryFrame>,
    sent: Vec<(u8, MemoryFrame)>,
    /// Sent earlier, the oldest last.
    to_take: Vec<(u8, MemoryFrame)>,
    spare: Vec<MemoryFrame>,
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
    ///
    /// # Panics
    /// If the packet does not fit a frame (1792 bytes).
    pub fn arrive_with(&self, bytes: &[u8], layout: &Layout) {
        let mut state = self.state();
        let mut frame = state.spare.pop().unwrap_or_else(MemoryFrame::empty);
        frame.fill(bytes, &layout.to_metadata());
        state.arriving.push(frame);
    }

    /// Gives the oldest packet sent and not yet taken to `look`: interface index and bytes.
    pub fn take_sent_with<T>(&self, look: impl FnOnce(u8, &[u8]) -> T) -> Option<T> {
        let mut state = self.state();
        if state.to_take.is_empty() {
            let WireState { sent, to_take, .. } = &mut *state;
            to_take.extend(sent.drain(..).rev());
        }
        let (port, frame) = state.to_take.pop()?;
        let seen = look(port, frame.bytes());
        state.spare.push(frame);
        Some(seen)
    }

    /// The oldest packet sent and not yet taken: interface index and bytes.
    pub fn take_sent(&self) -> Option<(u8, Vec<u8>)> {
        self.take_sent_with(|port, bytes| (port, bytes.to_vec()))
    }
}

/// One worker's rings in plain memory.
#[derive(Debug)]
pub struct MemoryIo {
    wire: Wire,
    ports: u8,
    free: u64,
    waiting: Vec<(u8, MemoryFrame)>,
    stock: Vec<MemoryFrame>,
}

impl MemoryIo {
    /// Rings of `ports` interfaces over `wire`, with `frames` frames.
    pub fn new(wire: Wire, ports: u8, frames: u64) -> Self {
        Self { wire, ports, free: frames, waiting: Vec::new(), stock: Vec::new() }
    }

    /// Room for a packet.
    const CAPACITY: usize = FRAME - START;
}

impl Io for MemoryIo {
    type Frame = MemoryFrame;

    fn receive(&mut self, limit: usize, burst: &mut Vec<MemoryFrame>) {
        let mut state = self.wire.state();
        let count = limit.min(state.arriving.len()).min(self.free as usize);
        if count == state.arriving.len() {
            burst.append(&mut state.arriving);
        } else {
            burst.extend(state.arriving.drain(..count));
        }
        self.free -= count as u64;
    }

    fn queue_of(&self, _at: usize) -> Option<u16> {
        Some(0)
    }

    #[inline(always)]
    fn bytes<'a>(&'a self, frame: &'a MemoryFrame) -> &'a [u8] {
        frame.bytes()
    }

    #[inline(always)]
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut MemoryFrame) -> &'a mut [u8] {
        &mut frame.buffer[START..START + frame.length]
    }

    #[inline(always)]
    fn view<'a>(&'a self, frame: &'a MemoryFrame) -> (&'a [u8; Layout::SIZE], &'a [u8]) {
        let metadata = frame.buffer[START - Layout::SIZE..].first_chunk();
        (metadata.expect("a frame is longer than its headroom"), frame.bytes())
    }

    #[inline(always)]
    fn grow_front(&mut self, frame: &mut MemoryFrame, room: usize) -> bool {
        if frame.length + room > Self::CAPACITY {
            return false;
        }
        frame.buffer.copy_within(START..START + frame.length, START + room);
        frame.length += room;
        true
    }

    #[inline(always)]
    fn shrink_front(&mut self, frame: &mut MemoryFrame, cut: usize) {
        let cut = cut.min(frame.length);
        frame.buffer.copy_within(START + cut..START + frame.length, START);
        frame.length -= cut;
    }

    fn allocate(&mut self, length: usize) -> Option<MemoryFrame> {
        if self.free == 0 || length > Self::CAPACITY {
            return None;
        }
        self.free -= 1;
        let mut frame = self.stock.pop().unwrap_or_else(MemoryFrame::empty);
        frame.buffer[START..START + length].fill(0);
        frame.length = length;
        Some(frame)
    }

    #[inline(always)]
    fn can_send(&self, port: u8) -> bool {
        port < self.ports
    }

    #[inline(always)]
    fn send(&mut self, port: u8, frame: MemoryFrame) -> Result<(), MemoryFrame> {
        if port >= self.ports {
            return Err(frame);
        }
        self.waiting.push((port, frame));
        self.free += 1;
        Ok(())
    }

    fn recycle(&mut self, frame: MemoryFrame) {
        self.stock.push(frame);
        self.free += 1;
    }

    fn flush(&mut self) -> bool {
        if !self.waiting.is_empty() || !self.stock.is_empty() {
            let mut state = self.wire.state();
            state.sent.append(&mut self.waiting);
            state.spare.append(&mut self.stock);
        }
        false
    }

    fn wait(&mut self, _waker: &Waker, _timeout_ms: u32) {}

    fn frames(&self) -> FrameCount {
        FrameCount { free: self.free, kernel: 0, hand: 0 }
    }
}
