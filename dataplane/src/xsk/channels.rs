//! How many receive queues an interface has (`ETHTOOL_GCHANNELS`, include/uapi/linux/ethtool.h).

use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketType, socket};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// Receive queues of `interface` in use now; 1 where the driver does not say. Errors: no such
/// interface, or no socket could be made.
pub fn receive_queues(interface: &str) -> std::io::Result<u32> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
    let mut name = [0 as libc::c_char; libc::IFNAMSIZ];
    let bytes = interface.as_bytes();
    if bytes.len() >= name.len() {
        return Err(std::io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, &from) in name.iter_mut().zip(bytes) {
        *to = from as libc::c_char;
    }
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut channels).cast() },
    };
    // SAFETY: `request` is a complete ifreq whose data pointer refers to `channels`, which has the layout
    // the command expects; both live through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result == 0 {
        return Ok((channels.rx + channels.combined).max(1));
    }
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => Ok(1),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn loopback_has_one_queue_and_nonsense_has_none() {
        assert_eq!(super::receive_queues("lo").unwrap(), 1);
        assert!(super::receive_queues("no-such-if").is_err());
    }
}
