//! Opening: one UMEM for the process, one socket per (interface, queue), shared out to the workers.

use std::ffi::CString;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use xsk_rs::config::{BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{FrameDesc, Socket, Umem};

use super::frame_pool::Depot;
use super::sockets::{Ring, XskIo};

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
            let fd = ring.socket();
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
        opened.workers[0].stock_up(rest);
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
    Ok(Ring::new(port.port, (rx, tx), (fill, completion), ring_size))
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
