//! AF_XDP: one UMEM for all interfaces, one socket per (interface, queue), each served by one worker.
//!
//! ```text
//! frame: | user headroom 0 | XDP headroom 256 ........ [Layout 24] | packet ................ |
//!        ^ chunk start                                              ^ descriptor address
//! ```
//! In copy mode a received packet always starts at the same place of its chunk and descriptors
//! cannot be moved (xsk-rs keeps their address private), so a tunnel header is put in front by
//! moving the packet's bytes; see `docs/decisions/0001-tunnel-header.md`.

use std::ffi::CString;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use xsk_rs::config::{BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use super::frame_pool::{Depot, Stock};
use super::{FrameCount, Io, Waker};
use crate::wire::layout::Layout;

/// One interface to open.
#[derive(Clone, Debug)]
pub struct PortPlan {
    /// Index used in metadata and routes.
    pub port: u8,
    /// Kernel name.
    pub interface: String,
    /// Receive queues; queue q is served by worker q modulo workers.
    pub queues: u32,
}

/// What to open.
#[derive(Clone, Debug)]
pub struct SocketsPlan {
    /// Interfaces, data and cluster link alike.
    pub ports: Vec<PortPlan>,
    /// Workers that share them.
    pub workers: usize,
    /// Descriptors per ring, a power of two.
    pub ring_size: u32,
    /// Frames in the UMEM.
    pub frames: u32,
    /// Bytes per frame, 2048 or 4096.
    pub frame_size: u32,
    /// Insist on zero-copy (bind fails where the driver has none).
    pub zero_copy_only: bool,
    /// Insist on copy mode.
    pub copy_only: bool,
}

/// Why the rings could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Frame or ring sizes the kernel does not accept.
    #[error(
        "ring size {ring_size} or frame size {frame_size} is not a power of two in range: choose --ring-size 64..32768"
    )]
    Sizes {
        /// What was asked for.
        ring_size: u32,
        /// What was asked for.
        frame_size: u32,
    },
    /// The memory for frames cannot be had.
    #[error(
        "{bytes} bytes of packet memory cannot be allocated: {source}; lower --frames or raise the locked-memory limit (ulimit -l)"
    )]
    Memory {
        /// Bytes asked for.
        bytes: u64,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A queue cannot be bound.
    #[error("queue {queue} of {interface} cannot be opened for AF_XDP: {reason}")]
    Bind {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel said and what to do about it.
        reason: String,
    },
}

/// What the kernel counts for a socket (`XDP_STATISTICS`).
#[derive(Clone, Copy, Debug, Default)]
pub struct RingStatistics {
    /// Dropped for other reasons (frame too small, no memory).
    pub rx_dropped: u64,
    /// Dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Dropped because no free frame was in the fill ring.
    pub fill_ring_empty: u64,
    /// Descriptors refused on sending.
    pub tx_invalid: u64,
}

#[derive(Debug)]
struct Ring {
    port: u8,
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    waiting: Vec<FrameDesc>,
    in_receive: usize,
    in_transmit: usize,
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

/// An opened socket, to be registered with the XDP program.
#[derive(Clone, Copy, Debug)]
pub struct Registration {
    /// Interface index of the plan.
    pub port: u8,
    /// Its queue.
    pub queue: u32,
    /// The socket.
    pub fd: RawFd,
    /// True if the kernel bound it without copying.
    pub zero_copy: bool,
}

impl Registration {
    /// What the kernel counted for this socket; zeros once it is closed.
    pub fn statistics(&self) -> RingStatistics {
        let mut counted = [0u64; 6];
        let mut length = size_of_val(&counted) as libc::socklen_t;
        // SAFETY: `counted` has the six u64 of `struct xdp_statistics` and lives through the call. If the
        // descriptor has been closed or reused meanwhile the call fails or is refused by the other kind
        // of socket, and nothing is written.
        let result = unsafe {
            libc::getsockopt(self.fd, SOL_XDP, XDP_STATISTICS, counted.as_mut_ptr().cast(), &raw mut length)
        };
        if result != 0 {
            return RingStatistics::default();
        }
        let [rx_dropped, _, tx_invalid, rx_ring_full, fill_ring_empty, _] = counted;
        RingStatistics { rx_dropped, rx_ring_full, fill_ring_empty, tx_invalid }
    }
}

/// All rings of a node, shared out to its workers.
#[derive(Debug)]
pub struct Opened {
    /// One per worker.
    pub workers: Vec<XskIo>,
    /// Every socket.
    pub registrations: Vec<Registration>,
    /// The common depot of free frames.
    pub depot: FrameDepot,
}

/// The depot of free AF_XDP frames.
pub type FrameDepot = Depot<FrameDesc>;

/// Opens every queue of every interface. Call it before the XDP program redirects to them.
pub fn open(plan: &SocketsPlan) -> Result<Opened, OpenError> {
    let (umem, mut free) = create_umem(plan)?;
    let config = socket_config(plan)?;
    let depot = Depot::new(free.len());
    let mut rings: Vec<Vec<Ring>> = (0..plan.workers).map(|_| Vec::new()).collect();
    let mut registrations = Vec::new();
    for port in &plan.ports {
        for queue in 0..port.queues {
            let ring = open_ring(&umem, config, port, queue, plan.ring_size)?;
            let fd = ring.rx.fd().as_raw_fd();
            registrations.push(Registration { port: port.port, queue, fd, zero_copy: is_zero_copy(fd) });
            rings[queue as usize % plan.workers].push(ring);
        }
    }
    let share = free.len() / plan.workers;
    let workers = rings
        .into_iter()
        .map(|rings| {
            let stock = free.split_off(free.len() - share.min(free.len()));
            XskIo::new(umem.clone(), rings, stock, depot.clone(), plan)
        })
        .collect::<Vec<_>>();
    let mut opened = Opened { workers, registrations, depot };
    // What integer division left over belongs to the first worker.
    for rest in free {
        opened.workers[0].stock.put(rest);
    }
    for worker in &mut opened.workers {
        worker.refill();
    }
    Ok(opened)
}

fn create_umem(plan: &SocketsPlan) -> Result<(Umem, Vec<FrameDesc>), OpenError> {
    let sizes = || OpenError::Sizes { ring_size: plan.ring_size, frame_size: plan.frame_size };
    let queue = QueueSize::new(plan.ring_size).map_err(|_| sizes())?;
    let config = UmemConfig::builder()
        .frame_size(FrameSize::new(plan.frame_size).map_err(|_| sizes())?)
        .fill_queue_size(queue)
        .comp_queue_size(queue)
        .build()
        .map_err(|_| sizes())?;
    let frames = NonZeroU32::new(plan.frames).ok_or_else(sizes)?;
    Umem::new(config, frames, false).map_err(|error| OpenError::Memory {
        bytes: u64::from(plan.frames) * u64::from(plan.frame_size),
        source: cause(&error).unwrap_or_else(|| std::io::Error::other(error.to_string())),
    })
}

fn socket_config(plan: &SocketsPlan) -> Result<SocketConfig, OpenError> {
    let queue = QueueSize::new(plan.ring_size)
        .map_err(|_| OpenError::Sizes { ring_size: plan.ring_size, frame_size: plan.frame_size })?;
    let mut flags = BindFlags::XDP_USE_NEED_WAKEUP;
    if plan.zero_copy_only {
        flags |= BindFlags::XDP_ZEROCOPY;
    }
    if plan.copy_only {
        flags |= BindFlags::XDP_COPY;
    }
    Ok(SocketConfig::builder()
        .rx_queue_size(queue)
        .tx_queue_size(queue)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(flags)
        .build())
}

/// How long a queue that a just ended process still holds is waited for.
const BUSY_FOR: Duration = Duration::from_secs(2);

fn open_ring(
    umem: &Umem,
    config: SocketConfig,
    port: &PortPlan,
    queue: u32,
    ring_size: u32,
) -> Result<Ring, OpenError> {
    let refuse = |reason: String| OpenError::Bind { interface: port.interface.clone(), queue, reason };
    let name =
        CString::new(port.interface.as_str()).map_err(|_| refuse("its name contains a zero byte".into()))?;
    let interface = Interface::new(name);
    let deadline = Instant::now() + BUSY_FOR;
    let (tx, rx, rings) = loop {
        // SAFETY: every (interface, queue) is opened once per UMEM (`open` walks each queue once), so no
        // two sockets share a fill or completion ring.
        match unsafe { Socket::new(config, umem, &interface, queue) } {
            Ok(opened) => break opened,
            Err(error) => {
                let os = cause(&error);
                let code = os.as_ref().and_then(std::io::Error::raw_os_error);
                if code == Some(libc::EBUSY) && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                }
                return Err(refuse(explain(code, &error.to_string())));
            }
        }
    };
    let (fill, completion) =
        rings.ok_or_else(|| refuse("its fill ring is already in use by this process".into()))?;
    raise_transmit_budget(rx.fd().as_raw_fd());
    Ok(Ring {
        port: port.port,
        rx,
        tx,
        fill,
        completion,
        waiting: Vec::with_capacity(ring_size as usize),
        in_receive: 0,
        in_transmit: 0,
    })
}

fn cause(error: &dyn std::error::Error) -> Option<std::io::Error> {
    let source = error.source()?.downcast_ref::<std::io::Error>()?;
    source.raw_os_error().map(std::io::Error::from_raw_os_error)
}

fn explain(code: Option<i32>, text: &str) -> String {
    match code {
        Some(libc::EBUSY) => "another process holds it: see `bpftool net` and stop that program".into(),
        Some(libc::EOPNOTSUPP) => {
            "the driver has no zero-copy here: use --xdp-mode native or best-effort".into()
        }
        Some(libc::EINVAL) => "the interface has no such queue: compare `ethtool -l`".into(),
        Some(libc::EPERM | libc::EACCES) => {
            "not permitted: run as root or with CAP_NET_RAW and CAP_NET_ADMIN".into()
        }
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            "not enough locked memory: raise `ulimit -l` or lower --frames".into()
        }
        Some(code) => std::io::Error::from_raw_os_error(code).to_string(),
        None => text.into(),
    }
}

const SOL_XDP: libc::c_int = 283;
/// `XDP_STATISTICS` of include/uapi/linux/if_xdp.h.
const XDP_STATISTICS: libc::c_int = 7;
/// `XDP_OPTIONS` of include/uapi/linux/if_xdp.h.
const XDP_OPTIONS: libc::c_int = 8;
/// `XDP_OPTIONS_ZEROCOPY` of include/uapi/linux/if_xdp.h.
const XDP_OPTIONS_ZEROCOPY: u32 = 1;
/// `XDP_MAX_TX_SKB_BUDGET` of include/uapi/linux/if_xdp.h (since 6.18): packets per wakeup in copy mode.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// Packets sent per wakeup in copy mode; the kernel's default is 32.
const TRANSMIT_BUDGET: u32 = 256;

fn is_zero_copy(fd: RawFd) -> bool {
    let mut options = 0u32;
    let mut length = size_of::<u32>() as libc::socklen_t;
    // SAFETY: `options` and `length` live through the call and `length` is the size of `options`;
    // `fd` is a socket this process just opened.
    let result =
        unsafe { libc::getsockopt(fd, SOL_XDP, XDP_OPTIONS, (&raw mut options).cast(), &raw mut length) };
    result == 0 && options & XDP_OPTIONS_ZEROCOPY != 0
}

/// Older kernels refuse the option; then a wakeup sends 32 packets and `flush` wakes more often.
fn raise_transmit_budget(fd: RawFd) {
    let budget = TRANSMIT_BUDGET;
    // SAFETY: `budget` lives through the call and its size is given.
    unsafe {
        libc::setsockopt(
            fd,
            SOL_XDP,
            XDP_MAX_TX_SKB_BUDGET,
            (&raw const budget).cast(),
            size_of::<u32>() as libc::socklen_t,
        );
    }
}

impl XskIo {
    fn new(
        umem: Umem,
        rings: Vec<Ring>,
        free: Vec<FrameDesc>,
        depot: Depot<FrameDesc>,
        plan: &SocketsPlan,
    ) -> Self {
        let mut ring_of_port = vec![None; crate::limits::MAX_PORTS];
        for (index, ring) in rings.iter().enumerate() {
            ring_of_port[usize::from(ring.port)].get_or_insert(index as u8);
        }
        let ring_size = plan.ring_size as usize;
        let high_water = (plan.frames as usize / plan.workers).max(ring_size);
        Self {
            umem,
            rings,
            ring_of_port,
            stock: Stock::new(free, high_water, depot, plan.frames as usize),
            ring_size,
            scratch: vec![FrameDesc::default(); ring_size],
        }
    }

    fn refill(&mut self) {
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

    fn transmit(&mut self) -> bool {
        let mut left = false;
        for ring in &mut self.rings {
            if !ring.waiting.is_empty() {
                let room = self.ring_size - ring.in_transmit;
                let count = ring.waiting.len().min(room);
                // SAFETY: frames in `waiting` were consumed as tokens by `send`; they are removed below
                // once the kernel has them.
                let produced = unsafe { ring.tx.produce(&ring.waiting[..count]) };
                ring.waiting.drain(..produced);
                ring.in_transmit += produced;
            }
            if ring.in_transmit > 0 {
                // Copy mode sends within this call; errors other than "again" show as tx_invalid or as
                // frames that stay in the ring and are kicked again at the next flush.
                let _ = ring.tx.wakeup();
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
            burst.extend(self.scratch[..count].iter().map(|&frame| Frame(frame)));
        }
    }

    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        // SAFETY: a `Frame` is a unique token of a frame of this UMEM that the kernel does not hold; all
        // workers of the process share the one UMEM.
        unsafe { self.umem.data(&frame.0) }.contents()
    }

    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        let length = frame.0.lengths().data();
        // SAFETY: as in `bytes`, and `&mut Frame` excludes every other reader. The slice is rebuilt
        // because `DataMut` would end its borrow with this function; memory and length are the same.
        unsafe {
            let mut data = self.umem.data_mut(&mut frame.0);
            std::slice::from_raw_parts_mut(data.contents_mut().as_mut_ptr(), length)
        }
    }

    fn metadata(&self, frame: &Frame) -> [u8; Layout::SIZE] {
        let packet = self.bytes(frame).as_ptr().expose_provenance();
        // SAFETY: a received packet starts at least XDP_PACKET_HEADROOM (256) bytes into its chunk, and
        // the kernel copies the metadata directly in front of it, so these bytes lie in the same chunk
        // of the mapping. The mapping was made by mmap outside of Rust's allocations.
        unsafe {
            std::ptr::with_exposed_provenance::<[u8; Layout::SIZE]>(packet - Layout::SIZE).read_unaligned()
        }
    }

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

    fn can_send(&self, port: u8) -> bool {
        self.ring_of_port.get(usize::from(port)).is_some_and(Option::is_some)
    }

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
