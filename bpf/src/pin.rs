//! Our place in bpffs, where a link outlives the process (`--on-crash closed`).
//!
//! One directory per network namespace and interface, `/sys/fs/bpf/samepath/NETNS-IFINDEX`. A living
//! process holds a lock on it, so a pin in an unlocked directory is what a dead one left behind.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::SteeringError;
use crate::link::{XdpLink, c_path};

const BPFFS: &str = "/sys/fs/bpf";
/// Where directories of interfaces are, and with them what a process that dies leaves pinned.
pub const PIN_FOLDER: &str = "/sys/fs/bpf/samepath";

/// `BPF_FS_MAGIC` (linux/magic.h).
const BPFFS_MAGIC: i64 = 0xcafe_4a11;

/// How long a predecessor may take to die: the kernel frees its UMEM before its descriptors.
pub(crate) const DEATH: Duration = Duration::from_secs(2);

/// How often a dying predecessor is looked at.
pub(crate) const DEATH_POLL: Duration = Duration::from_millis(20);

/// The locked directory of one interface.
#[derive(Debug)]
pub(crate) struct Pin {
    directory: PathBuf,
    lock: File,
}

impl Pin {
    /// Makes and locks the directory of interface `ifindex`; mounts bpffs if it is not there.
    pub fn claim(interface: &str, ifindex: u32) -> Result<Self, SteeringError> {
        ensure_bpffs()?;
        sweep();
        let directory = directory_of(ifindex)?;
        let failed = |source| SteeringError::Bpffs { path: directory.clone(), source };
        let deadline = Instant::now() + DEATH;
        loop {
            fs::create_dir_all(&directory).map_err(failed)?;
            match lock(&directory) {
                Ok(Some(lock)) => return Ok(Self { directory, lock }),
                // Its last owner removed it between our two calls.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
                Ok(None) if Instant::now() < deadline => thread::sleep(DEATH_POLL),
                Ok(None) => {
                    return Err(SteeringError::AnotherSamepath { interface: interface.to_owned() });
                }
            }
        }
    }

    /// Like [`Pin::claim`], but only if a directory is there already.
    pub fn claim_existing(interface: &str, ifindex: u32) -> Result<Option<Self>, SteeringError> {
        if !is_bpffs() || !directory_of(ifindex)?.exists() {
            return Ok(None);
        }
        Self::claim(interface, ifindex).map(Some)
    }

    /// The link a dead process left here, if it still holds on to interface `ifindex`.
    pub fn leftover(&self, ifindex: u32) -> Option<XdpLink> {
        let link = XdpLink::open(&self.link_path()).ok()?;
        (link.ifindex().ok()? == ifindex).then_some(link)
    }

    /// Pins `link` here.
    pub fn put(&self, link: &XdpLink) -> Result<(), SteeringError> {
        let path = self.link_path();
        link.pin(&path).map_err(|source| SteeringError::Bpffs { path, source })
    }

    /// Unpins what is pinned here; a link nobody else holds lets go of its interface.
    pub fn clear(&self) -> Result<(), SteeringError> {
        let path = self.link_path();
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(SteeringError::Bpffs { path, source })
            }
            _ => Ok(()),
        }
    }

    /// Unpins and gives the directory up.
    pub fn remove(self) -> Result<(), SteeringError> {
        self.clear()?;
        let Self { directory, lock } = self;
        let removed = fs::remove_dir(&directory);
        drop(lock);
        removed.map_err(|source| SteeringError::Bpffs { path: directory, source })
    }

    fn link_path(&self) -> PathBuf {
        self.directory.join("link")
    }
}

/// Interface numbers are unique only within a network namespace; its inode number tells those apart.
fn directory_of(ifindex: u32) -> Result<PathBuf, SteeringError> {
    let path = PathBuf::from("/proc/thread-self/ns/net");
    let namespace = fs::metadata(&path).map_err(|source| SteeringError::Bpffs { path, source })?.ino();
    Ok(Path::new(PIN_FOLDER).join(format!("{namespace}-{ifindex}")))
}

/// The locked directory, or `None` while another process holds it.
fn lock(directory: &Path) -> io::Result<Option<File>> {
    let file = File::open(directory)?;
    // SAFETY: the descriptor is open as long as `file` lives.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
    }
    // Locked, but perhaps a directory that was removed meanwhile.
    if fs::metadata(directory)?.ino() == file.metadata()?.ino() {
        Ok(Some(file))
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Removes what dead processes left for interfaces that are gone as well.
fn sweep() {
    let Ok(entries) = fs::read_dir(PIN_FOLDER) else {
        return;
    };
    for directory in entries.flatten().map(|entry| entry.path()) {
        let Ok(Some(lock)) = lock(&directory) else {
            continue;
        };
        let pin = Pin { directory, lock };
        let is_gone = match XdpLink::open(&pin.link_path()) {
            Ok(link) => link.ifindex().is_ok_and(|ifindex| ifindex == 0),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if is_gone {
            // Whoever comes next tries again; nothing depends on it.
            let _ = pin.remove();
        }
    }
}

fn is_bpffs() -> bool {
    let Ok(path) = c_path(Path::new(BPFFS)) else {
        return false;
    };
    // SAFETY: all zero bytes are a valid value of this C struct of integers.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is a C string and `found` a struct the call may fill; both outlive it.
    let failed = unsafe { libc::statfs(path.as_ptr(), &mut found) };
    failed == 0 && found.f_type == BPFFS_MAGIC
}

fn ensure_bpffs() -> Result<(), SteeringError> {
    if is_bpffs() {
        return Ok(());
    }
    if is_private_mount_namespace() {
        return Err(SteeringError::PrivateMounts);
    }
    // SAFETY: all pointers are C strings or NULL ("no options").
    let failed = unsafe {
        libc::mount(
            c"bpf".as_ptr(),
            c"/sys/fs/bpf".as_ptr(),
            c"bpf".as_ptr(),
            0,
            c"mode=0700".as_ptr().cast(),
        )
    };
    if failed == 0 {
        return Ok(());
    }
    Err(SteeringError::Bpffs { path: BPFFS.into(), source: io::Error::last_os_error() })
}

/// True if mounts made here go away with the last process of this mount namespace, and a pin with them.
/// Mount numbers are unique on the machine, so those of one namespace never appear in another.
fn is_private_mount_namespace() -> bool {
    let first_mount = |process: &str| {
        let mounts = fs::read_to_string(format!("/proc/{process}/mountinfo")).ok()?;
        mounts.split_whitespace().next().map(str::to_owned)
    };
    match (first_mount("thread-self"), first_mount("1")) {
        (Some(ours), Some(inits)) => ours != inits,
        _ => false,
    }
}
