//! Opening: one UMEM for the process, one socket per (interface, queue), shared out to the workers.

use std::ffi::CString;
use std::time::{Duration, Instant};

use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::{FrameDesc, Socket, Umem};

use super::frame_pool::Depot;
use super::options::SocketOptions;
use super::registration::Registration;
use super::sockets::{Ring, XskIo};
use super::umem::{PacketMemory, create_umem};
use crate::tuning::HugePages;

/// One interface to open.
#[derive(Clone, Debug)]
pub struct PortPlan {
    /// Index used in metadata and routes.
    pub port: u8,
    /// Kernel name.
    pub interface: String,
    /// Receive queues; queue q is served by worker q modulo workers.
    pub queues: u32,
    /// Insist on copy mode.
    pub copy_only: bool,
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
    /// Where the memory of the frames comes from.
    pub huge_pages: HugePages,
    /// What is set on every socket.
    pub options: SocketOptions,
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
    /// The memory for frames cannot be had in huge pages.
    #[error(
        "--huge-pages on: {bytes} bytes of packet memory cannot be had in huge pages ({source}): {0} pages of 2 MiB must be free; run `sysctl -w vm.nr_hugepages={0}` (more if others use some), or use --huge-pages auto",
        bytes / super::umem::HUGE_PAGE
    )]
    HugePages {
        /// Bytes asked for.
        bytes: u64,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// An option of a socket was refused.
    #[error("{option} cannot be set on queue {queue} of {interface}: {source}; {remedy}")]
    Option {
        /// The flag.
        option: &'static str,
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// The kernel's answer.
        source: std::io::Error,
        /// What to do about it.
        remedy: &'static str,
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

/// All rings of a node, shared out to its workers.
#[derive(Debug)]
pub struct Opened {
    /// One per worker.
    pub workers: Vec<XskIo>,
    /// Every socket.
    pub registrations: Vec<Registration>,
    /// The common depot of free frames.
    pub depot: FrameDepot,
    /// Frames in the UMEM; more than were planned where huge pages are to be filled.
    pub frames: u32,
    /// The frames lie in huge pages.
    pub huge_pages: bool,
    /// What was planned and could not be had, as sentences.
    pub warnings: Vec<String>,
}

/// The depot of free AF_XDP frames.
pub type FrameDepot = Depot<FrameDesc>;

/// Opens every queue of every interface. Call it before the XDP program redirects to them.
pub fn open(plan: &SocketsPlan) -> Result<Opened, OpenError> {
    let PacketMemory { umem, mut free, huge_pages, mut warnings } = create_umem(plan)?;
    let frames = free.len();
    let depot = Depot::new(frames);
    let mut rings: Vec<Vec<Ring>> = (0..plan.workers).map(|_| Vec::new()).collect();
    let mut registrations = Vec::new();
    for port in &plan.ports {
        let config = socket_config(plan, port)?;
        for queue in 0..port.queues {
            let ring = open_ring(&umem, config, port, queue, plan)?;
            let missing = plan.options.set(ring.socket(), &port.interface, queue)?;
            warnings.extend(missing.filter(|sentence| !warnings.contains(sentence)));
            registrations.push(Registration::new(port.port, queue, ring.socket()));
            rings[queue as usize % plan.workers].push(ring);
        }
    }
    let share = frames / plan.workers;
    let workers = rings
        .into_iter()
        .map(|rings| {
            let stock = free.split_off(free.len() - share.min(free.len()));
            XskIo::new(umem.clone(), rings, stock, depot.clone(), plan, frames)
        })
        .collect::<Vec<_>>();
    let frames = frames as u32;
    let mut opened = Opened { workers, registrations, depot, frames, huge_pages, warnings };
    // What integer division left over belongs to the first worker.
    for rest in free {
        opened.workers[0].stock_up(rest);
    }
    for worker in &mut opened.workers {
        worker.refill();
    }
    Ok(opened)
}

fn bind_flags(plan: &SocketsPlan, port: &PortPlan) -> BindFlags {
    let mut flags = BindFlags::empty();
    if plan.options.need_wakeup {
        flags |= BindFlags::XDP_USE_NEED_WAKEUP;
    }
    if port.copy_only {
        flags |= BindFlags::XDP_COPY;
    } else if plan.zero_copy_only {
        flags |= BindFlags::XDP_ZEROCOPY;
    }
    flags
}

fn socket_config(plan: &SocketsPlan, port: &PortPlan) -> Result<SocketConfig, OpenError> {
    let queue = QueueSize::new(plan.ring_size)
        .map_err(|_| OpenError::Sizes { ring_size: plan.ring_size, frame_size: plan.frame_size })?;
    Ok(SocketConfig::builder()
        .rx_queue_size(queue)
        .tx_queue_size(queue)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(bind_flags(plan, port))
        .build())
}

/// How long a queue or huge page that a just ended process still holds is waited for.
pub(super) const BUSY_FOR: Duration = Duration::from_secs(2);

fn open_ring(
    umem: &Umem,
    config: SocketConfig,
    port: &PortPlan,
    queue: u32,
    plan: &SocketsPlan,
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
    let busy_polls = plan.options.busy_poll_usecs > 0;
    Ok(Ring::new((port.port, queue), (rx, tx), (fill, completion), plan.ring_size, busy_polls))
}

pub(super) fn cause(error: &dyn std::error::Error) -> Option<std::io::Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_flags_say_what_was_planned() {
        let port = |copy_only| PortPlan { port: 0, interface: "eth0".into(), queues: 1, copy_only };
        let flags = |zero_copy_only, need_wakeup, copy_only| {
            let options = SocketOptions { need_wakeup, ..SocketOptions::default() };
            let plan = SocketsPlan {
                ports: Vec::new(),
                workers: 1,
                ring_size: 64,
                frames: 256,
                frame_size: 2048,
                zero_copy_only,
                huge_pages: HugePages::Off,
                options,
            };
            bind_flags(&plan, &port(copy_only)).bits()
        };
        let (wakeup, zero_copy) = (BindFlags::XDP_USE_NEED_WAKEUP, BindFlags::XDP_ZEROCOPY);
        assert_eq!(flags(false, true, false), wakeup.bits());
        assert_eq!(flags(false, false, false), 0);
        assert_eq!(flags(true, true, false), (wakeup | zero_copy).bits());
        assert_eq!(flags(true, false, true), BindFlags::XDP_COPY.bits());
    }
}
