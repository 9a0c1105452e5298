//! Options of an AF_XDP socket that xsk-rs does not know: set, read back, explained when refused.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use super::open::OpenError;
use crate::limits::BURST;

/// What is set on every socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketOptions {
    /// Bind with `XDP_USE_NEED_WAKEUP`: the driver says when it must be woken.
    pub need_wakeup: bool,
    /// Packets the kernel sends per wakeup in copy mode, 32 to the ring size.
    pub tx_batch: u32,
    /// How long the kernel polls the device for this socket, µs; 0 = not at all.
    pub busy_poll_usecs: u32,
    /// Packets per such poll.
    pub busy_poll_budget: u32,
}

impl SocketOptions {
    /// The default of `tx_batch`: with 256 a packet costs 178 ns to send in copy mode, with the kernel's
    /// own 32 it costs 207 ns.
    pub const TX_BATCH: u32 = 256;
    /// What the kernel sends per wakeup if nothing is said (`TX_BATCH_SIZE`, net/xdp/xsk.c), the least
    /// it accepts.
    pub const TX_BATCH_MIN: u32 = 32;

    /// Sets the options on a socket. A sentence comes back where the kernel does not know one of them.
    pub(super) fn set(&self, fd: RawFd, interface: &str, queue: u32) -> Result<Option<String>, OpenError> {
        let refused = |option, remedy| {
            move |source| OpenError::Option { option, interface: interface.into(), queue, source, remedy }
        };
        if self.busy_poll_usecs > 0 {
            let remedy = "run as root or with CAP_NET_ADMIN, or leave it out";
            for (name, option, value) in [
                ("--busy-poll-usecs", SO_PREFER_BUSY_POLL, 1),
                ("--busy-poll-usecs", SO_BUSY_POLL, self.busy_poll_usecs),
                ("--busy-poll-budget", SO_BUSY_POLL_BUDGET, self.busy_poll_budget),
            ] {
                set_option(fd, libc::SOL_SOCKET, option, value).map_err(refused(name, remedy))?;
            }
        }
        match set_option(fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, self.tx_batch) {
            Ok(()) => Ok(None),
            // Kernels before 6.18: a wakeup sends 32 packets and `flush` wakes more often.
            Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
                Ok((![Self::TX_BATCH, Self::TX_BATCH_MIN].contains(&self.tx_batch)).then(|| {
                    format!(
                        "--tx-batch {} has no effect: this kernel sends {} packets per wakeup; it can be set from Linux 6.18 on",
                        self.tx_batch,
                        Self::TX_BATCH_MIN
                    )
                }))
            }
            Err(error) => Err(refused("--tx-batch", "give a number from 32 to --ring-size")(error)),
        }
    }
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            need_wakeup: true,
            tx_batch: Self::TX_BATCH,
            busy_poll_usecs: 0,
            busy_poll_budget: BURST as u32,
        }
    }
}

/// `SO_BUSY_POLL`, `SO_INCOMING_NAPI_ID`, `SO_PREFER_BUSY_POLL`, `SO_BUSY_POLL_BUDGET` of
/// include/uapi/asm-generic/socket.h.
const SO_BUSY_POLL: libc::c_int = 46;
const SO_INCOMING_NAPI_ID: libc::c_int = 56;
const SO_PREFER_BUSY_POLL: libc::c_int = 69;
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;

const SOL_XDP: libc::c_int = 283;
/// `XDP_STATISTICS` of include/uapi/linux/if_xdp.h.
const XDP_STATISTICS: libc::c_int = 7;
/// `XDP_OPTIONS` of include/uapi/linux/if_xdp.h.
const XDP_OPTIONS: libc::c_int = 8;
/// `XDP_OPTIONS_ZEROCOPY` of include/uapi/linux/if_xdp.h.
const XDP_OPTIONS_ZEROCOPY: u32 = 1;
/// `XDP_MAX_TX_SKB_BUDGET` of include/uapi/linux/if_xdp.h (since 6.18): packets per wakeup in copy mode.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

pub(super) fn is_zero_copy(fd: RawFd) -> bool {
    option::<u32>(fd, SOL_XDP, XDP_OPTIONS).is_some_and(|options| options & XDP_OPTIONS_ZEROCOPY != 0)
}

/// The six numbers of `struct xdp_statistics`.
pub(super) fn statistics(fd: RawFd) -> [u64; 6] {
    option(fd, SOL_XDP, XDP_STATISTICS).unwrap_or_default()
}

pub(super) fn napi_id(fd: RawFd) -> u32 {
    option(fd, libc::SOL_SOCKET, SO_INCOMING_NAPI_ID).unwrap_or_default()
}

/// What a socket was told about busy polling, as far as the kernel gives it back (not the budget).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BusyPoll {
    /// Polling comes before interrupts (`SO_PREFER_BUSY_POLL`).
    pub preferred: bool,
    /// Microseconds per poll (`SO_BUSY_POLL`).
    pub usecs: u32,
}

/// What the kernel has of a socket; `None` if it is none of AF_XDP.
pub fn busy_poll(socket: impl AsFd) -> Option<BusyPoll> {
    let fd = socket.as_fd().as_raw_fd();
    option::<u32>(fd, SOL_XDP, XDP_OPTIONS)?;
    Some(BusyPoll {
        preferred: option::<u32>(fd, libc::SOL_SOCKET, SO_PREFER_BUSY_POLL)? != 0,
        usecs: option(fd, libc::SOL_SOCKET, SO_BUSY_POLL)?,
    })
}

/// Has the kernel run the receiving side once: a busy poll where that is on, else the wakeup a driver
/// asked for because it ran out of free frames. Does not wait.
pub(super) fn run_receive(fd: RawFd) {
    // SAFETY: no memory is given (length 0); a socket closed meanwhile makes the call fail, which means
    // the same as finding nothing.
    unsafe {
        libc::recvfrom(
            fd,
            std::ptr::null_mut(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
}

/// Has the kernel send what is in the transmit ring. In copy mode it sends within this call, so many packets at a
/// time; true if it says that there is more (or no room now).
pub(super) fn run_transmit(fd: RawFd) -> bool {
    // SAFETY: as in `run_receive`.
    let sent = unsafe { libc::sendto(fd, std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
    sent < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)
}

/// A plain number or array of numbers: any bytes are a value.
trait Plain: Default {}
impl Plain for u32 {}
impl Plain for [u64; 6] {}

/// `None` if the kernel does not know the option or fills it only in part.
fn option<T: Plain>(fd: RawFd, level: libc::c_int, name: libc::c_int) -> Option<T> {
    let mut value = T::default();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` and `length` live through the call, `length` is the size of `value`, and any bytes
    // are a `T`. If the descriptor has been closed or reused meanwhile the call fails or is refused by
    // the other kind of socket.
    let result = unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut length) };
    (result == 0 && length as usize == size_of::<T>()).then_some(value)
}

fn set_option(fd: RawFd, level: libc::c_int, name: libc::c_int, value: u32) -> io::Result<()> {
    // SAFETY: `value` lives through the call and its size is given.
    let result = unsafe {
        libc::setsockopt(fd, level, name, (&raw const value).cast(), size_of::<u32>() as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
