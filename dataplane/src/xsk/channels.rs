//! How many receive queues an interface has (`ETHTOOL_GCHANNELS`, include/uapi/linux/ethtool.h).

use super::ethtool::{self, Request};

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

// SAFETY: it is the whole `struct ethtool_channels`, and made of numbers only.
unsafe impl Request for Channels {
    fn start(&mut self) -> *mut libc::c_char {
        (&raw mut *self).cast()
    }
}

/// Receive queues of `interface` in use now; 1 where the driver does not say. Errors: no such
/// interface, or no socket could be made.
pub fn receive_queues(interface: &str) -> std::io::Result<u32> {
    let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
    match ethtool::ask(interface, &mut channels) {
        Ok(()) => Ok((channels.rx + channels.combined).max(1)),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(1),
        Err(error) => Err(error),
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
