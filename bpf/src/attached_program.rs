//! Which XDP program an interface runs now.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libbpf_rs::Program;
use libbpf_rs::query::{LinkInfoIter, LinkTypeInfo};

use crate::mode::AttachedMode;

/// An XDP program that is attached to an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttachedProgram {
    /// The kernel's number for it (`bpftool prog show id N`).
    pub id: u32,
    /// The program's name, at most 15 bytes; `None` when this process may not ask for it (CAP_SYS_ADMIN).
    pub name: Option<String>,
    /// How it is attached.
    pub mode: AttachedMode,
    /// The bpf_link that holds it; `None` when it was attached by netlink and stays until removed, or when the
    /// name is not known either.
    pub link: Option<u32>,
}

impl fmt::Display for AttachedProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} `{name}`", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

/// The XDP program attached to interface `ifindex` of the calling thread's network namespace, if any.
pub fn attached_program(ifindex: u32) -> io::Result<Option<AttachedProgram>> {
    // SAFETY: all zero bytes are a valid value of this C struct of integers.
    let mut found: libbpf_sys::bpf_xdp_query_opts = unsafe { std::mem::zeroed() };
    found.sz = size_of_val(&found) as _;
    // SAFETY: `found` outlives the call and says its own size.
    let failed = unsafe { libbpf_sys::bpf_xdp_query(signed(ifindex)?, 0, &mut found) };
    if failed < 0 {
        return Err(io::Error::from_raw_os_error(-failed));
    }
    let by_mode = [
        (found.drv_prog_id, AttachedMode::Native),
        (found.skb_prog_id, AttachedMode::Generic),
        (found.hw_prog_id, AttachedMode::Offloaded),
    ];
    let Some((id, mode)) = by_mode.into_iter().find(|(id, _)| *id != 0) else {
        return Ok(None);
    };
    let name = match Program::fd_from_id(id) {
        Ok(program) => Some(program_name(program.as_fd())?),
        // It went away since.
        Err(error) if error.kind() == libbpf_rs::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == libbpf_rs::ErrorKind::PermissionDenied => None,
        Err(error) => return Err(io::Error::other(error.to_string())),
    };
    Ok(Some(AttachedProgram { id, name, mode, link: link_of(ifindex, id) }))
}

/// Takes `program` off interface `ifindex`; fails if another one is there now, which only a process that may
/// ask for its name can tell, and with EBUSY if a bpf_link holds it.
pub(crate) fn detach_program(ifindex: u32, program: &AttachedProgram) -> io::Result<()> {
    let known = program.name.as_ref().map(|_| Program::fd_from_id(program.id));
    let known = known.transpose().map_err(|error| io::Error::other(error.to_string()))?;
    let options = libbpf_sys::bpf_xdp_attach_opts {
        sz: size_of::<libbpf_sys::bpf_xdp_attach_opts>() as _,
        old_prog_fd: known.as_ref().map_or(0, AsRawFd::as_raw_fd),
        ..Default::default()
    };
    // SAFETY: `options` and the descriptor in it outlive the call.
    let failed = unsafe { libbpf_sys::bpf_xdp_detach(signed(ifindex)?, program.mode.flags(), &options) };
    if failed < 0 { Err(io::Error::from_raw_os_error(-failed)) } else { Ok(()) }
}

fn signed(ifindex: u32) -> io::Result<i32> {
    i32::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))
}

fn link_of(ifindex: u32, program: u32) -> Option<u32> {
    LinkInfoIter::default()
        .find(|link| {
            link.prog_id == program && matches!(&link.info, LinkTypeInfo::Xdp(xdp) if xdp.ifindex == ifindex)
        })
        .map(|link| link.id)
}

fn program_name(program: BorrowedFd<'_>) -> io::Result<String> {
    // SAFETY: all zero bytes are a valid value of this C struct of integers; unlike `default()` this clears
    // its padding too, which older kernels insist on.
    let mut info: libbpf_sys::bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as u32;
    // SAFETY: `info` has `length` bytes, all zero, so the kernel finds no pointers in it to write through.
    let failed = unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &mut info, &mut length) };
    if failed < 0 {
        return Err(io::Error::from_raw_os_error(-failed));
    }
    let bytes: Vec<u8> = info.name.iter().map(|byte| *byte as u8).collect();
    Ok(CStr::from_bytes_until_nul(&bytes)
        .map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned()))
}
