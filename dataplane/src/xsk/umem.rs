//! The memory of the frames, in huge pages where they can be had.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::{FrameDesc, Umem};

use super::open::{BUSY_FOR, OpenError, SocketsPlan, cause};
use crate::tuning::HugePages;

/// Bytes of a huge page. Where the machine's default size is another one the kernel refuses lengths that
/// are not a multiple of it, and `auto` falls back.
pub(super) const HUGE_PAGE: u64 = 2 << 20;

/// The UMEM and all its frames.
pub(super) struct PacketMemory {
    pub umem: Umem,
    pub free: Vec<FrameDesc>,
    pub huge_pages: bool,
    pub warnings: Vec<String>,
}

/// Errors: sizes the kernel does not accept, or no memory.
pub(super) fn create_umem(plan: &SocketsPlan) -> Result<PacketMemory, OpenError> {
    let ordinary = |warnings| {
        let (umem, free) = create(plan, plan.frames, false)
            .map_err(|error| error.unwrap_or_memory(plan.frames, plan.frame_size))?;
        Ok(PacketMemory { umem, free, huge_pages: false, warnings })
    };
    if plan.huge_pages == HugePages::Off {
        return ordinary(Vec::new());
    }
    let frames = whole_huge_pages(plan.frames, plan.frame_size);
    let bytes = u64::from(frames) * u64::from(plan.frame_size);
    match create_in_pool(plan, frames, bytes) {
        Ok((umem, free)) => Ok(PacketMemory { umem, free, huge_pages: true, warnings: Vec::new() }),
        Err(Failure::Open(error)) => Err(error),
        Err(Failure::Memory(source)) if plan.huge_pages == HugePages::On => {
            Err(OpenError::HugePages { bytes, source })
        }
        Err(Failure::Memory(source)) => ordinary(vec![format!(
            "packet memory is in ordinary pages: {0} huge pages of 2 MiB cannot be had ({source}); run `sysctl -w vm.nr_hugepages={0}` before the start (more if others use some), or say --huge-pages off",
            bytes / HUGE_PAGE
        )]),
    }
}

/// As [`create`], in huge pages. The kernel frees those of a process that just ended by and by, so where the
/// pool is large enough they are waited for.
fn create_in_pool(plan: &SocketsPlan, frames: u32, bytes: u64) -> Result<(Umem, Vec<FrameDesc>), Failure> {
    let deadline = Instant::now() + BUSY_FOR;
    loop {
        match create(plan, frames, true) {
            Err(Failure::Memory(_)) if pool() >= bytes && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

/// Bytes of the pool of huge pages, used or free (proc_meminfo(5)).
fn pool() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let pages = text.lines().find_map(|line| line.strip_prefix("HugePages_Total:"));
    pages.and_then(|pages| pages.trim().parse::<u64>().ok()).unwrap_or(0) * HUGE_PAGE
}

/// `frames`, and as many more as fill the last huge page.
fn whole_huge_pages(frames: u32, frame_size: u32) -> u32 {
    let per_page = (HUGE_PAGE / u64::from(frame_size)) as u32;
    frames.div_ceil(per_page).saturating_mul(per_page)
}

enum Failure {
    Open(OpenError),
    Memory(std::io::Error),
}

impl Failure {
    fn unwrap_or_memory(self, frames: u32, frame_size: u32) -> OpenError {
        match self {
            Failure::Open(error) => error,
            Failure::Memory(source) => {
                OpenError::Memory { bytes: u64::from(frames) * u64::from(frame_size), source }
            }
        }
    }
}

fn create(plan: &SocketsPlan, frames: u32, huge_pages: bool) -> Result<(Umem, Vec<FrameDesc>), Failure> {
    let sizes = || Failure::Open(OpenError::Sizes { ring_size: plan.ring_size, frame_size: plan.frame_size });
    let queue = QueueSize::new(plan.ring_size).map_err(|_| sizes())?;
    let config = UmemConfig::builder()
        .frame_size(FrameSize::new(plan.frame_size).map_err(|_| sizes())?)
        .fill_queue_size(queue)
        .comp_queue_size(queue)
        .build()
        .map_err(|_| sizes())?;
    let frames = NonZeroU32::new(frames).ok_or_else(sizes)?;
    Umem::new(config, frames, huge_pages).map_err(|error| {
        Failure::Memory(cause(&error).unwrap_or_else(|| std::io::Error::other(error.to_string())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_fill_whole_huge_pages() {
        assert_eq!(whole_huge_pages(1, 2048), 1024);
        assert_eq!(whole_huge_pages(1024, 2048), 1024);
        assert_eq!(whole_huge_pages(1025, 4096), 1536);
    }
}
