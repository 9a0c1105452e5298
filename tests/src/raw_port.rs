//! Sending hand-made frames into a link, and seeing what comes out of one (AF_PACKET).

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recv, send, setsockopt,
    socket,
};
use nix::sys::time::TimeVal;

use crate::netns::Namespace;

/// One end of a link through which raw frames are sent and, if asked for, received.
#[derive(Debug)]
pub struct RawPort {
    socket: OwnedFd,
}

/// How long [`RawPort::receive`] waits.
const PATIENCE: TimeVal = TimeVal::new(5, 0);

impl RawPort {
    /// Opens `interface` of `namespace`.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        // No protocol: the socket sends and never receives.
        Self::with(namespace, interface, None)
    }

    /// As [`RawPort::open`]; what passes the interface either way from now on is received too.
    pub fn open_both_ways(namespace: &Namespace, interface: &str) -> Result<Self> {
        Self::with(namespace, interface, Some(SockProtocol::EthAll))
    }

    fn with(namespace: &Namespace, interface: &str, protocol: Option<SockProtocol>) -> Result<Self> {
        namespace.enter(|| {
            // Its link-layer address as getifaddrs gives it is just what bind wants.
            let link = getifaddrs()?
                .filter(|entry| entry.interface_name == interface)
                .filter_map(|entry| entry.address)
                .find(|address| address.family() == Some(AddressFamily::Packet))
                .with_context(|| format!("{} has no interface {interface}", namespace.name()))?;
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
            setsockopt(&socket, ReceiveTimeout, &PATIENCE)?;
            bind(socket.as_raw_fd(), &link)?;
            Ok(Self { socket })
        })
    }

    /// The next frame, Ethernet header included; an error if none comes in 5 s.
    pub fn receive(&self) -> Result<Vec<u8>> {
        let mut frame = vec![0; 65_536];
        let length = recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()).context("no frame came")?;
        frame.truncate(length);
        Ok(frame)
    }

    /// Sends one frame, Ethernet header included; waits while the interface's queue is full.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty())
            .with_context(|| format!("cannot send a frame of {} bytes", frame.len()))?;
        Ok(())
    }
}
