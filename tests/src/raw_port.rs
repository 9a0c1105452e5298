//! Sending hand-made frames into a link (AF_PACKET).

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, bind, send, socket};

use crate::netns::Namespace;

/// One end of a link through which raw frames are sent.
#[derive(Debug)]
pub struct RawPort {
    socket: OwnedFd,
}

impl RawPort {
    /// Opens `interface` of `namespace`.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        namespace.enter(|| {
            // Its link-layer address as getifaddrs gives it is just what bind wants.
            let link = getifaddrs()?
                .filter(|entry| entry.interface_name == interface)
                .filter_map(|entry| entry.address)
                .find(|address| address.family() == Some(AddressFamily::Packet))
                .with_context(|| format!("{} has no interface {interface}", namespace.name()))?;
            // No protocol: the socket sends and never receives.
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            bind(socket.as_raw_fd(), &link)?;
            Ok(Self { socket })
        })
    }

    /// Sends one frame, Ethernet header included; waits while the interface's queue is full.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty())
            .with_context(|| format!("cannot send a frame of {} bytes", frame.len()))?;
        Ok(())
    }
}
