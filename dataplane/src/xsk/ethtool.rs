//! The ethtool ioctl (`SIOCETHTOOL`, include/uapi/linux/sockios.h): one request about one interface.

use std::io;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketType, socket};

const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// A complete request of the ethtool ABI: begins with its command, and is as long as that command makes
/// the kernel read and write.
///
/// # Safety
/// Implementers promise just that, and that any bytes the kernel writes are a value.
pub(super) unsafe trait Request {
    /// Where it begins.
    fn start(&mut self) -> *mut libc::c_char;
}

/// Carries out a request in place. Errors: ENODEV no such interface, EOPNOTSUPP the driver cannot.
pub(super) fn ask(interface: &str, request: &mut impl Request) -> io::Result<()> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let mut name = [0 as libc::c_char; libc::IFNAMSIZ];
    let bytes = interface.as_bytes();
    if bytes.len() >= name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, &from) in name.iter_mut().zip(bytes) {
        *to = from as libc::c_char;
    }
    let mut ifreq =
        libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: request.start() } };
    // SAFETY: `ifreq` is complete and its data pointer refers to `request`, which is as long as its command
    // needs (see `Request`); both live through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut ifreq) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
