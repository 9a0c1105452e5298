//! Wakes a sleeping worker: an eventfd that is written only when the worker said it sleeps.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use rustix::event::{EventfdFlags, eventfd};

/// One worker's bell.
#[derive(Debug)]
pub struct Waker {
    event: OwnedFd,
    sleeping: AtomicBool,
}

impl Waker {
    /// A new bell. Errors: the process has no file descriptors left.
    pub fn new() -> std::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { event, sleeping: AtomicBool::new(false) })
    }

    /// Rings, if the worker sleeps. Call it after the work has been put in place.
    pub fn ring(&self) {
        if self.sleeping.swap(false, SeqCst) {
            // A full counter (EAGAIN) means that it rings already.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// The worker announces that it will sleep; it must look for work once more before it does.
    pub fn about_to_sleep(&self) {
        self.sleeping.store(true, SeqCst);
    }

    /// The worker is awake again.
    pub fn awake(&self) {
        self.sleeping.store(false, SeqCst);
        let mut count = [0u8; 8];
        // EAGAIN: nobody rang.
        let _ = rustix::io::read(&self.event, &mut count);
    }

    /// The descriptor to poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
