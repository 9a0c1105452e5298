//! AF_XDP: one UMEM for all interfaces, one socket per (interface, queue), each served by one worker.
//!
//! ```text
//! frame: | user headroom 0 | XDP headroom 256 ........ [Layout 24] | packet ................ |
//!        ^ chunk start                                              ^ descriptor address
//! ```
//! In copy mode a received packet always starts at the same place of its chunk and descriptors
//! cannot be moved (xsk-rs keeps their address private), so a tunnel header is put in front by
//! moving the packet's bytes; see `docs/decisions/0001-tunnel-header.md`.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::event::{PollFd, PollFlags, poll};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue, Umem};

use super::frame_pool::{Depot, Stock};
use super::open::SocketsPlan;
use super::options::{SocketOptions, run_receive, run_transmit};
use super::{FrameCount, Io, Waker};
use crate::wire::layout::Layout;

/// The least that one call sends.
const TX_BATCH_MIN: usize = SocketOptions::TX_BATCH_MIN as usize;

#[derive(Debug)]
pub(super) struct Ring {
    port: u8,
    queue: u32,
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    waiting: Vec<FrameDesc>,
    in_receive: usize,
    /// Frames of the last burst.
    received: usize,
    in_transmit: usize,
    busy_polls: bool,
}

impl Ring {
    /// The socket, to be registered with the XDP program.
    pub(super) fn socket(&self) -> RawFd {
        self.rx.fd().as_raw_fd()
    }

    /// The ring of a socket that was just opened.
    pub(super) fn new(
        (port, queue): (u8, u32),
        (rx, tx): (RxQueue, TxQueue),
        (fill, completion): (FillQueue, CompQueue),
        ring_size: u32,
        busy_polls: bool,
    ) -> Self {
        let waiting = Vec::with_capacity(ring_size as usize);
        Self {
            port,
            queue,
            rx,
            tx,
            fill,
            completion,
            waiting,
            in_receive: 0,
            received: 0,
            in_transmit: 0,
            busy_polls,
        }
    }
}

/// A received, allocated or handed-over frame. Neither Copy nor Clone: sending or recycling consumes it.
#[derive(Debug)]
pub struct Frame(FrameDesc);

/// One worker's rings over AF_XDP.
#[derive(Debug)]
pub struct XskIo {
    umem: Umem,
    rings: Vec<Ring>,
    ring_of_port: Vec<Option<u8>>,
    stock: Stock<FrameDesc>,
    ring_size: usize,
    scratch: Vec<FrameDesc>,
}

impl XskIo {
    /// One worker's share of the rings and frames.
    pub(super) fn new(
        umem: Umem,
        rings: Vec<Ring>,
        free: Vec<FrameDesc>,
        depot: Depot<FrameDesc>,
        plan: &SocketsPlan,
        frames: usize,
    ) -> Self {
        let mut ring_of_port = vec![None; crate::limits::MAX_PORTS];
        for (index, ring) in rings.iter().enumerate() {
            ring_of_port[usize::from(ring.port)].get_or_insert(index as u8);
        }
        let ring_size = plan.ring_size as usize;
        let high_water = (frames / plan.workers).max(ring_size);
        Self {
            umem,
            rings,
            ring_of_port,
            stock: Stock::new(free, high_water, depot, frames),
            ring_size,
            scratch: vec![FrameDesc::default(); ring_size],
        }
    }

    /// Puts free frames into the fill rings, up to their size.
    pub(super) fn refill(&mut self) {
        let wanted = self.rings.iter().map(|ring| self.ring_size - ring.in_receive).sum();
        self.stock.level(wanted);
        for ring in &mut self.rings {
            let count = (self.ring_size - ring.in_receive).min(self.stock.len());
            let Some(frames) = self.stock.last(count).filter(|frames| !frames.is_empty()) else { continue };
            // SAFETY: these frames come from the free stock: nobody else holds their descriptors, and
            // `gave` below forgets them once the kernel has them.
            let produced = unsafe { ring.fill.produce(frames) };
            ring.in_receive += produced;
            self.stock.gave(produced);
        }
    }

    /// Interface index, queued and not completed frames of each ring, for [`super::probe`].
    pub(super) fn in_transmit(&self) -> impl Iterator<Item = (u8, usize)> + '_ {
        self.rings.iter().map(|ring| (ring.port, ring.waiting.len() + ring.in_transmit))
    }

    /// Queues a frame on the ring at `index`, whichever others its interface has.
    pub(super) fn send_on(&mut self, index: usize, frame: Frame) {
        self.rings[index].waiting.push(frame.0);
    }

    /// Takes a frame that is left over when frames are shared out.
    pub(super) fn stock_up(&mut self, frame: FrameDesc) {
        self.stock.put(frame);
    }

    fn transmit(&mut self) -> bool {
        let mut left = false;
        for ring in &mut self.rings {
            let mut produced = 0;
            if !ring.waiting.is_empty() {
                let room = self.ring_size - ring.in_transmit;
                let count = ring.waiting.len().min(room);
                // SAFETY: frames in `waiting` were consumed as tokens by `send`; they are removed below
                // once the kernel has them.
                produced = unsafe { ring.tx.produce(&ring.waiting[..count]) };
                ring.waiting.drain(..produced);
                ring.in_transmit += produced;
            }
            if ring.in_transmit > 0 {
                // Where one call sends less than was added, the ring would fill. Errors other than "again" show
                // as tx_invalid or as frames that stay in the ring and are kicked again at the next flush.
                while run_transmit(ring.socket()) && produced > TX_BATCH_MIN {
                    produced -= TX_BATCH_MIN;
                }
            }
            left |= !ring.waiting.is_empty() || ring.in_transmit > 0;
        }
        left
    }

    fn reap(&mut self) {
        for ring in &mut self.rings {
            if ring.in_transmit == 0 {
                continue;
            }
            // SAFETY: descriptors in `scratch` are overwritten by the ring; they are frames of this UMEM
            // that the kernel has given back.
            let count = unsafe { ring.completion.consume(&mut self.scratch) };
            ring.in_transmit -= count;
            self.scratch[..count].iter().for_each(|&frame| self.stock.put(frame));
        }
    }
}

impl Io for XskIo {
    type Frame = Frame;

    fn receive(&mut self, limit: usize, burst: &mut Vec<Frame>) {
        for ring in &mut self.rings {
            let limit = limit.min(self.scratch.len());
            // SAFETY: descriptors in `scratch` are overwritten with frames the kernel has given to us.
            let count = unsafe { ring.rx.consume(&mut self.scratch[..limit]) };
            ring.in_receive -= count;
            ring.received = count;
            if count == 0 && (ring.busy_polls || ring.fill.needs_wakeup()) {
                run_receive(ring.socket());
            }
            burst.extend(self.scratch[..count].iter().map(|&frame| Frame(frame)));
        }
    }

    fn queue_of(&self, at: usize) -> Option<u16> {
        let mut before = 0;
        let ring = self.rings.iter().find(|ring| {
            before += ring.received;
            at < before
        });
        ring.map(|ring| ring.queue as u16)
    }

    #[inline(always)]
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        // SAFETY: a `Frame` is a unique token of a frame of this UMEM that the kernel does not hold; all
        // workers of the process share the one UMEM.
        unsafe { self.umem.data(&frame.0) }.contents()
    }

    #[inline(always)]
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        let length = frame.0.lengths().data();
        // SAFETY: as in `bytes`, and `&mut Frame` excludes every other reader. The slice is rebuilt
        // because `DataMut` would end its borrow with this function; memory and length are the same.
        unsafe {
            let mut data = self.umem.data_mut(&mut frame.0);
            std::slice::from_raw_parts_mut(data.contents_mut().as_mut_ptr(), length)
        }
    }

    #[inline(always)]
    fn view<'a>(&'a self, frame: &'a Frame) -> (&'a [u8; Layout::SIZE], &'a [u8]) {
        let bytes = self.bytes(frame);
        let metadata = bytes.as_ptr().expose_provenance() - Layout::SIZE;
        // SAFETY: a received packet starts at least XDP_PACKET_HEADROOM (256) bytes into its chunk, and
        // the kernel copies the metadata directly in front of it, so these bytes lie in the same chunk
        // of the mapping, which the token keeps from everybody else as it does the packet. The mapping
        // was made by mmap outside of Rust's allocations; bytes need no alignment.
        let metadata = unsafe { &*std::ptr::with_exposed_provenance::<[u8; Layout::SIZE]>(metadata) };
        (metadata, bytes)
    }

    #[inline(always)]
    fn grow_front(&mut self, frame: &mut Frame, room: usize) -> bool {
        // SAFETY: as in `bytes_mut`.
        let mut data = unsafe { self.umem.data_mut(&mut frame.0) };
        let length = data.contents().len();
        let mut cursor = data.cursor();
        if cursor.buf_len() < length + room {
            return false;
        }
        cursor.set_pos(length + room);
        data.contents_mut().copy_within(..length, room);
        true
    }

    #[inline(always)]
    fn shrink_front(&mut self, frame: &mut Frame, cut: usize) {
        // SAFETY: as in `bytes_mut`.
        let mut data = unsafe { self.umem.data_mut(&mut frame.0) };
        let length = data.contents().len();
        let cut = cut.min(length);
        data.contents_mut().copy_within(cut.., 0);
        data.cursor().set_pos(length - cut);
    }

    fn allocate(&mut self, length: usize) -> Option<Frame> {
        let mut frame = Frame(self.stock.take()?);
        // SAFETY: as in `bytes_mut`; the frame was free.
        let mut data = unsafe { self.umem.data_mut(&mut frame.0) };
        let mut cursor = data.cursor();
        if cursor.buf_len() < length {
            self.stock.put(frame.0);
            return None;
        }
        cursor.set_pos(length);
        data.contents_mut().fill(0);
        Some(frame)
    }

    #[inline(always)]
    fn can_send(&self, port: u8) -> bool {
        self.ring_of_port.get(usize::from(port)).is_some_and(Option::is_some)
    }

    #[inline(always)]
    fn send(&mut self, port: u8, frame: Frame) -> Result<(), Frame> {
        let ring = self.ring_of_port.get(usize::from(port)).copied().flatten();
        let Some(ring) = ring.and_then(|ring| self.rings.get_mut(usize::from(ring))) else {
            return Err(frame);
        };
        if ring.waiting.len() >= self.ring_size {
            return Err(frame);
        }
        ring.waiting.push(frame.0);
        Ok(())
    }

    fn recycle(&mut self, frame: Frame) {
        self.stock.put(frame.0);
    }

    fn flush(&mut self) -> bool {
        let left = self.transmit();
        self.reap();
        self.refill();
        left
    }

    fn wait(&mut self, waker: &Waker, timeout_ms: u32) {
        let fds: Vec<RawFd> = self.rings.iter().map(|ring| ring.rx.fd().as_raw_fd()).collect();
        let mut polled: Vec<PollFd<'_>> = fds
            .iter()
            // SAFETY: the descriptors belong to sockets in `self.rings`, which outlive this call.
            .map(|&fd| PollFd::from_borrowed_fd(unsafe { BorrowedFd::borrow_raw(fd) }, PollFlags::IN))
            .collect();
        polled.push(PollFd::from_borrowed_fd(waker.fd(), PollFlags::IN));
        let timeout = rustix::event::Timespec {
            tv_sec: i64::from(timeout_ms / 1000),
            tv_nsec: i64::from(timeout_ms % 1000) * 1_000_000,
        };
        // EINTR and time-out mean the same to the caller: look for work.
        let _ = poll(&mut polled, Some(&timeout));
    }

    fn frames(&self) -> FrameCount {
        let kernel: usize = self.rings.iter().map(|ring| ring.in_receive + ring.in_transmit).sum();
        let hand: usize = self.rings.iter().map(|ring| ring.waiting.len()).sum();
        FrameCount { free: self.stock.len() as u64, kernel: kernel as u64, hand: hand as u64 }
    }
}
