//! An opened socket as control sees it: where it belongs, and what the kernel says of it.

use std::os::fd::RawFd;

use super::options;

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
    /// Asks the kernel how `fd` was bound.
    pub(super) fn new(port: u8, queue: u32, fd: RawFd) -> Self {
        Self { port, queue, fd, zero_copy: options::is_zero_copy(fd) }
    }

    /// What the kernel counted for this socket; zeros once it is closed.
    pub fn statistics(&self) -> RingStatistics {
        let [rx_dropped, _, tx_invalid, rx_ring_full, fill_ring_empty, _] = options::statistics(self.fd);
        RingStatistics { rx_dropped, rx_ring_full, fill_ring_empty, tx_invalid }
    }

    /// True once a packet came by a NAPI instance that can be polled from here (`SO_INCOMING_NAPI_ID`).
    /// Where this stays false although packets arrive, busy polling does nothing.
    pub fn can_busy_poll(&self) -> bool {
        options::napi_id(self.fd) != 0
    }
}
