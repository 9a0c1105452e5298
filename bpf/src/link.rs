//! A bpf_link: it holds the program on an interface and lets go when its last holder does, be that a
//! process or a pin in bpffs.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A bpf_link of type XDP.
#[derive(Debug)]
pub(crate) struct XdpLink(OwnedFd);

impl XdpLink {
    /// Attaches `program` to interface `ifindex`; `flags` is one of `XDP_FLAGS_{DRV,SKB,HW}_MODE`.
    pub fn create(program: BorrowedFd<'_>, ifindex: u32, flags: u32) -> io::Result<Self> {
        let target = i32::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
        // SAFETY: all zero bytes are a valid value of this C struct of integers and nullable pointers.
        let mut options: libbpf_sys::bpf_link_create_opts = unsafe { std::mem::zeroed() };
        options.sz = size_of_val(&options) as _;
        options.flags = flags;
        // SAFETY: `options` outlives the call and says its own size; descriptors are only numbers here.
        let fd = unsafe {
            libbpf_sys::bpf_link_create(program.as_raw_fd(), target, libbpf_sys::BPF_XDP, &options)
        };
        Self::from_result(fd)
    }

    /// The XDP link pinned at `path`; an error of kind `InvalidData` when something else is pinned there.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = c_path(path)?;
        // SAFETY: `path` is a C string that outlives the call.
        let link = Self::from_result(unsafe { libbpf_sys::bpf_obj_get(path.as_ptr()) })?;
        match link.information() {
            Ok(found) if found.type_ == libbpf_sys::BPF_LINK_TYPE_XDP => Ok(link),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Makes the link outlive this process.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        let path = c_path(path)?;
        // SAFETY: `path` is a C string that outlives the call.
        check(unsafe { libbpf_sys::bpf_obj_pin(self.0.as_raw_fd(), path.as_ptr()) })
    }

    /// Puts `program` in the place of the present one; no frame passes between the two.
    pub fn replace_program(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: NULL stands for "no options".
        check(unsafe {
            libbpf_sys::bpf_link_update(self.0.as_raw_fd(), program.as_raw_fd(), std::ptr::null())
        })
    }

    /// The interface it is attached to; 0 when that interface is gone.
    pub fn ifindex(&self) -> io::Result<u32> {
        let information = self.information()?;
        // SAFETY: the kernel fills this member of the union for links of type XDP, and `open` and `create`
        // make no others; for any other all bytes are valid integers.
        Ok(unsafe { information.__bindgen_anon_1.xdp.ifindex })
    }

    /// Takes the program off the interface now, whoever else holds the link.
    pub fn detach(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open as long as `self` lives.
        check(unsafe { libbpf_sys::bpf_link_detach(self.0.as_raw_fd()) })
    }

    fn information(&self) -> io::Result<libbpf_sys::bpf_link_info> {
        // SAFETY: all zero bytes are a valid value of this C struct of integers and unions of integers.
        let mut information: libbpf_sys::bpf_link_info = unsafe { std::mem::zeroed() };
        let mut length = size_of_val(&information) as u32;
        // SAFETY: `information` has `length` bytes, all zero, so the kernel finds no pointers in it.
        check(unsafe {
            libbpf_sys::bpf_link_get_info_by_fd(self.0.as_raw_fd(), &mut information, &mut length)
        })?;
        Ok(information)
    }

    fn from_result(fd: i32) -> io::Result<Self> {
        check(fd)?;
        // SAFETY: the kernel just gave us this descriptor, so nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

/// libbpf answers with a negative errno.
fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
}

pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}
