//! The map `forwards` as memory: workers write entries with plain stores, the program reads them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;

use crate::error::SteeringError;
use crate::layout::FORWARD_SIZE;

/// Words of memory shared with the XDP program: elements of eight words, the first of which is the gate
/// (`struct sp_forward_gate`), the others entries (`struct sp_forward`).
#[derive(Debug)]
pub struct Forwards {
    words: NonNull<AtomicU64>,
    length: usize,
}

// SAFETY: the memory is shared with the kernel anyway and is reached only through atomics.
unsafe impl Send for Forwards {}
// SAFETY: as above.
unsafe impl Sync for Forwards {}

impl Forwards {
    /// Maps an array of `elements` that was made with BPF_F_MMAPABLE.
    pub(crate) fn map(map: BorrowedFd<'_>, elements: u32) -> Result<Self, SteeringError> {
        let bytes = elements as usize * FORWARD_SIZE;
        // SAFETY: the kernel chooses where the new mapping goes, so it replaces none.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        let words = NonNull::new(address.cast()).filter(|_| address != libc::MAP_FAILED);
        let words = words.ok_or_else(|| SteeringError::Shared { source: io::Error::last_os_error() })?;
        Ok(Self { words, length: bytes / size_of::<AtomicU64>() })
    }
}

impl AsRef<[AtomicU64]> for Forwards {
    fn as_ref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has this many words, page-aligned and zeroed by the kernel, until `self` is dropped;
        // who else writes there, the kernel included, does so by whole aligned words.
        unsafe { slice::from_raw_parts(self.words.as_ptr(), self.length) }
    }
}

impl Drop for Forwards {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody borrows from it any longer.
        unsafe { libc::munmap(self.words.as_ptr().cast(), self.length * size_of::<AtomicU64>()) };
    }
}
