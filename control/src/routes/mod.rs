//! A mirror of the kernel's routes, neighbours, addresses and links, by netlink, IPv4 and IPv6.
//!
//! Whoever sets routes in the kernel (ip, FRR, BIRD) thereby sets them for samepath. Followed are the
//! tables *main* (254) and *local* (255); policy rules (`ip rule`), routes for one type of service and
//! source-specific routes are not evaluated. See README.md for what happens when.

mod fib;
mod follower;
mod message;
mod mirror;
mod probes;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use samepath_dataplane::route::Routes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use follower::{Follower, Wishes};
use socket::Notifications;

/// Requests that may wait for the follower. A worker repeats its request as long as packets wait, so
/// one that finds no room is not missed.
const REQUESTS: usize = 1_024;

/// An interface samepath owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortLink {
    /// Index of the port (data interface or cluster link).
    pub port: u8,
    /// Its interface index in the kernel.
    pub ifindex: u32,
}

/// An interface of this network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkState {
    /// Interface index.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// Link address, zeros if it has none of six bytes.
    pub mac: [u8; 6],
    /// MTU, bytes.
    pub mtu: u32,
    /// Set up by the operator.
    pub up: bool,
    /// The other end is there.
    pub carrier: bool,
    /// Addresses with prefix lengths, link-local ones included, ascending.
    pub addresses: Vec<IpNet>,
}

/// One snapshot of the mirror.
#[derive(Clone, Debug)]
pub struct Mirrored {
    /// For the workers.
    pub routes: Arc<Routes>,
    /// Addresses the kernel takes packets for: those of all interfaces, broadcast addresses of IPv4
    /// subnets and anycast addresses (all host routes of table local), loopback excluded, ascending.
    pub own_addresses: Vec<IpAddr>,
    /// All interfaces, by index.
    pub links: Vec<LinkState>,
}

/// Why the mirror did not start.
#[derive(Debug, thiserror::Error)]
pub enum RoutesError {
    /// Two ports or two interfaces are the same.
    #[error("port {port} with interface index {ifindex} is given twice: name each interface once")]
    Duplicate {
        /// The port.
        port: u8,
        /// Its interface.
        ifindex: u32,
    },
    /// No netlink socket.
    #[error(
        "the kernel's routes cannot be followed: opening a netlink route socket failed ({0}); \
         run samepath as root or with CAP_NET_ADMIN, outside a sandbox that forbids AF_NETLINK"
    )]
    Socket(#[from] io::Error),
}

/// Handle of the mirror; dropping it ends the mirror.
#[derive(Debug)]
pub struct RouteMirror {
    published: watch::Receiver<Option<Mirrored>>,
    resolve: mpsc::Sender<(u32, IpAddr)>,
    keep: watch::Sender<Vec<(u32, IpAddr)>>,
    follower: JoinHandle<()>,
}

impl RouteMirror {
    /// Starts following the network namespace of the calling thread. Must be called inside a tokio
    /// current-thread runtime: sockets opened later belong to the namespace of the thread, too.
    pub fn start(ports: Vec<PortLink>) -> Result<RouteMirror, RoutesError> {
        let mut seen = (BTreeSet::new(), BTreeSet::new());
        for PortLink { port, ifindex } in &ports {
            if !seen.0.insert(*port) || !seen.1.insert(*ifindex) {
                return Err(RoutesError::Duplicate { port: *port, ifindex: *ifindex });
            }
        }
        let notifications = Notifications::open()?;
        let (publisher, published) = watch::channel(None);
        let (resolve, asked) = mpsc::channel(REQUESTS);
        let (keep, kept) = watch::channel(Vec::new());
        let wishes = Wishes { resolve: asked, keep: kept };
        let follower = Follower::new(ports, notifications, wishes, publisher);
        Ok(Self { published, resolve, keep, follower: tokio::spawn(follower.run()) })
    }

    /// Waits for the next snapshot; the first one is there when the kernel's tables have been listed.
    /// Snapshots that nobody waited for are skipped. Cancel safe. Never returns once the runtime is
    /// being shut down.
    pub async fn changed(&mut self) -> Mirrored {
        loop {
            if self.published.changed().await.is_err() {
                pending::<()>().await;
            }
            if let Some(mirrored) = self.published.borrow_and_update().as_ref() {
                return mirrored.clone();
            }
        }
    }

    /// The last snapshot, if there is one.
    pub fn latest(&self) -> Option<Mirrored> {
        self.published.borrow().clone()
    }

    /// Asks the kernel to resolve a neighbour on a port (a packet waits for it). Does not wait; the
    /// answer is a new snapshot. At most one request per address and 500 ms reaches the kernel.
    pub fn resolve(&self, ifindex: u32, address: IpAddr) {
        let _ = self.resolve.try_send((ifindex, address));
    }

    /// Keeps these neighbours resolved besides the gateways of all routes that leave by a port, which
    /// always are. An address behind a gateway stands for the gateway. Replaces the previous list.
    pub fn keep_resolved(&self, addresses: Vec<(u32, IpAddr)>) {
        self.keep.send_replace(addresses);
    }

    /// Link address of a neighbour on a port, if the kernel knows it.
    pub fn neighbour(&self, ifindex: u32, address: IpAddr) -> Option<[u8; 6]> {
        self.published.borrow().as_ref()?.routes.neighbour(ifindex, address)
    }

    /// Interface index and address of the neighbour that gets packets to `destination`, if they leave
    /// by a port; see [`Routes::next_hop`].
    pub fn route_to(&self, destination: IpAddr) -> Option<(u32, IpAddr)> {
        self.published.borrow().as_ref()?.routes.next_hop(destination, 0)
    }

    /// Source and destination link address of tunnel packets to `peer`; see
    /// [`Routes::tunnel_next_hop`].
    pub fn tunnel_next_hop(&self, cluster_port: u8, peer: IpAddr) -> Option<([u8; 6], [u8; 6])> {
        self.published.borrow().as_ref()?.routes.tunnel_next_hop(cluster_port, peer)
    }
}

impl Drop for RouteMirror {
    fn drop(&mut self) {
        self.follower.abort();
    }
}
