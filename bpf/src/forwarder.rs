//! Tunnelling inside XDP: by which interface, with which headers, and whether at all.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use libbpf_rs::{MapCore, MapFlags};

use crate::error::SteeringError;
use crate::forwards::Forwards;
use crate::layout::{FORWARD_HEADERS, MAX_PEERS, forward_peer_value};
use crate::steering::Steering;

/// `NETDEV_XDP_ACT_NDO_XMIT` (include/uapi/linux/netdev.h): the driver sends frames that XDP redirects to it.
const NDO_XMIT: u64 = 4;

/// What stands in front of every packet to one peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForwardPeer {
    /// Outer headers, 90 bytes over IPv4 or 110 over IPv6, in which the lengths, the IPv4 checksum, the UDP
    /// source port, zone, generation, stream, counter and tag are zeros.
    pub headers: Vec<u8>,
    /// Bytes of the largest frame that still fits the cluster link behind them.
    pub largest: u16,
    /// The half of the tags' keys that all flows to this peer have in common.
    pub key_half: u64,
}

impl Steering {
    /// The memory in which workers leave entries. It outlives the program if somebody holds on to it.
    pub fn forwards(&self) -> Arc<Forwards> {
        self.forwards.clone()
    }

    /// By which interface tunnelled packets leave.
    pub fn set_forward_link(&mut self, ifindex: u32) -> Result<(), SteeringError> {
        self.skeleton
            .maps
            .forward_link
            .update(&0u32.to_ne_bytes(), &ifindex.to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| SteeringError::Map { map: "forward_link", source })
    }

    /// From now on entries of `epoch`, and no others, are followed, with these headers in front of packets to
    /// the peers, in the order in which entries number them; `None` for one that cannot be reached.
    ///
    /// While the headers change nothing is followed.
    pub fn open_forwarder(&mut self, epoch: u32, peers: &[Option<ForwardPeer>]) -> Result<(), SteeringError> {
        self.close_forwarder();
        if peers.len() > MAX_PEERS {
            return Err(SteeringError::TooMany { what: "peers", wanted: peers.len(), limit: MAX_PEERS });
        }
        let unreachable = forward_peer_value(0, &[], 0, 0);
        for index in 0..peers.len().max(self.forward_peers) {
            let peer = peers.get(index).and_then(Option::as_ref);
            let fits =
                peer.filter(|peer| [FORWARD_HEADERS, FORWARD_HEADERS - 20].contains(&peer.headers.len()));
            let value = fits.map_or(unreachable, |peer| {
                forward_peer_value(epoch, &peer.headers, peer.largest, peer.key_half)
            });
            self.skeleton
                .maps
                .forward_peers
                .update(&(index as u32).to_ne_bytes(), &value, MapFlags::ANY)
                .map_err(|source| SteeringError::Map { map: "forward_peers", source })?;
        }
        self.forward_peers = peers.len();
        self.gate(epoch);
        Ok(())
    }

    /// From now on no entry is followed.
    pub fn close_forwarder(&mut self) {
        self.gate(0);
    }

    /// The first word of the map is the open epoch (`struct sp_forward_gate`).
    fn gate(&self, epoch: u32) {
        let (forwards, [a, b, c, d]) = (&self.forwards, epoch.to_ne_bytes());
        let words: &[AtomicU64] = (**forwards).as_ref();
        // What comes after it must not be seen before it.
        words[0].store(u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]), SeqCst);
    }
}

/// True if the driver of interface `ifindex` says that it sends what XDP redirects to it; `None` if the kernel
/// cannot say (before 6.3). A veth says so while its other end has an XDP program or GRO.
pub fn takes_redirected_frames(ifindex: u32) -> io::Result<Option<bool>> {
    let target = i32::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: all zero bytes are a valid value of this C struct of integers.
    let mut found: libbpf_sys::bpf_xdp_query_opts = unsafe { std::mem::zeroed() };
    found.sz = size_of_val(&found) as _;
    // SAFETY: `found` outlives the call and says its own size.
    let failed = unsafe { libbpf_sys::bpf_xdp_query(target, 0, &mut found) };
    if failed < 0 {
        return Err(io::Error::from_raw_os_error(-failed));
    }
    Ok((found.feature_flags != 0).then_some(found.feature_flags & NDO_XMIT != 0))
}
