//! What an operator can set: one struct, filled from three sources.
//!
//! Flags win over `SAMEPATH_*` variables, those over the TOML file of `--config`, that over the defaults.
//! One list ([`options::OPTIONS`]) names every option once; the three spellings follow from it:
//! `--node-id 1` is `SAMEPATH_NODE_ID=1` is `node_id = 1` (dashes become underscores).
//! An option that may be repeated is replaced as a whole by the stronger source; its variable holds the
//! values separated by commas or blanks, its TOML key an array (or, for `A=B` values, a table).

use std::net::IpAddr;
use std::path::PathBuf;

use samepath_dataplane::cluster::director::DirectorHash;
use samepath_dataplane::detours::PrefixLengths;
use samepath_dataplane::floods::{Floods, Rate};
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::service::{ServiceDown, ServiceMode};
use samepath_dataplane::session::timeouts::Timeouts;
use samepath_dataplane::settings::{Backup, TcpPickup};

mod host;
mod mss;
pub mod options;
mod sources;
#[cfg(test)]
mod tests;
mod tuning;
mod validate;
pub mod values;

pub(crate) use host::isolated_cores;
pub use host::{narrow_link, tunnel_overhead, verify_host};
pub use mss::MssClamp;
pub use samepath_bpf::{OnCrash, XdpMode};
pub use sources::{Flags, load};
pub use tuning::{RssChoice, Sched, TuningOptions};

/// UDP port of the tunnel (Geneve, RFC 8926).
pub const TUNNEL_PORT: u16 = 6081;
/// Default UDP port of the control channel (QUIC), next to the tunnel's.
pub const CONTROL_PORT: u16 = 6082;
/// Where control sockets live unless `--control-socket` says otherwise.
pub const RUN_DIR: &str = "/run/samepath";

/// A data interface and the zone its traffic belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DataInterface {
    /// Name of the zone.
    pub zone: String,
    /// Name of the interface in the kernel.
    pub interface: String,
}

/// A service port: the node's end of a link to a proxy or an inspector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// Its name, which is also that of its zone.
    pub name: String,
    /// What the service does with packets.
    pub mode: ServiceMode,
    /// Name of the node's end in the kernel.
    pub interface: String,
    /// Address of the other end: its link address gets the packets of both IP versions.
    pub via: IpAddr,
}

/// A configured peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerAddress {
    /// Its number.
    pub node: NodeId,
    /// Its cluster address: tunnel and control channel end there.
    pub address: IpAddr,
    /// UDP port of its control channel; `None`: the same as this node's.
    pub port: Option<u16>,
}

/// Who tunnels packets of established flows to their Owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Forwarder {
    /// The XDP program, once a worker has told it of the flow.
    Xdp,
    /// The workers.
    #[default]
    Worker,
}

impl Forwarder {
    /// Its word on the command line and in `samepath status`.
    pub fn name(self) -> &'static str {
        match self {
            Forwarder::Xdp => "xdp",
            Forwarder::Worker => "worker",
        }
    }
}

/// How many workers run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workers {
    /// One per core of `--cores`, or as many as interfaces have queues and the machine has cores.
    Auto,
    /// Exactly this many.
    Count(usize),
}

/// Packets that stay with the kernel although they are not addressed to this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PassRule {
    /// IANA protocol number.
    pub proto: u8,
    /// Destination port, 0 = any.
    pub port: u16,
}

/// Everything `samepath run` can be told. Made by [`load`], which validates it.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's number.
    pub node: NodeId,
    /// Cluster id, 1..=16777215 (the Geneve VNI).
    pub cluster: u32,
    /// Data interfaces in the order given.
    pub data: Vec<DataInterface>,
    /// Services by name: the first one has number 1.
    pub services: Vec<ServicePort>,
    /// What becomes of flows while their service is down.
    pub service_down: ServiceDown,
    /// The interface peers are reached by.
    pub cluster_link: String,
    /// This node's address on the cluster link.
    pub cluster_address: IpAddr,
    /// All other nodes of the cluster.
    pub peers: Vec<PeerAddress>,
    /// Directory of the cluster's keys.
    pub keys: PathBuf,
    /// How many workers run.
    pub workers: Workers,
    /// Cores workers are pinned to, in worker order; empty: the first ones.
    pub cores: Vec<usize>,
    /// How sockets are bound.
    pub xdp_mode: XdpMode,
    /// Take over interfaces that carry another XDP program.
    pub replace: bool,
    /// What happens to packets when the daemon is gone.
    pub on_crash: OnCrash,
    /// Bring flows to their Owner.
    pub aggregation: bool,
    /// Who tunnels packets of established flows to their Owner.
    pub forwarder: Forwarder,
    /// Which parts of a flow choose its Director.
    pub director_hash: DirectorHash,
    /// This node's share of Director duty, 1..=16.
    pub director_weight: u8,
    /// What a TCP packet without SYN may do when nobody knows its flow.
    pub tcp_pickup: TcpPickup,
    /// Accept TCP segments outside the window.
    pub tcp_loose_window: bool,
    /// Idle times of sessions.
    pub timeouts: Timeouts,
    /// The policy file; none: every flow is allowed.
    pub policy: Option<PathBuf>,
    /// Sessions this node can hold in all.
    pub sessions_max: usize,
    /// Packets left to the kernel.
    pub pass: Vec<PassRule>,
    /// UDP port of the control channel.
    pub control_port: u16,
    /// Frames of the UMEM; `None`: as many as the rings need.
    pub frames: Option<u32>,
    /// Entries per AF_XDP ring, a power of two.
    pub ring_size: u32,
    /// How workers use cores, rings and memory.
    pub tuning: TuningOptions,
    /// How many new flows there may be.
    pub floods: Floods,
    /// ICMP errors this node may send of its own accord; `None`: none.
    pub icmp_rate: Option<Rate>,
    /// By what packets that make a detour are told apart.
    pub detours: PrefixLengths,
    /// What is done about segments that the cluster link does not carry.
    pub mss_clamp: MssClamp,
    /// A peer not heard for this long leaves the view, ms.
    pub peer_timeout_ms: u64,
    /// When peers are told of a new session.
    pub backup: Backup,
    /// How long after Director duty has moved former Directors are asked, ms.
    pub former_directors_ms: u64,
    /// Within how long peers are told again of every session that lasts, s; 0: never.
    pub refresh_s: u64,
    /// Endpoints of the etcd that members are written down in, `HOST:PORT`; none with `--membership swim`.
    pub etcd: Vec<String>,
    /// Members without which no new flow is begun.
    pub quorum: usize,
    /// How often peers are told that this node lives, ms.
    pub hello_interval_ms: u64,
    /// How long peers use a key for the tunnel, s.
    pub tunnel_rekey_s: u64,
    /// How long a starting node waits for its peers' sessions before it serves without them, ms.
    pub join_grace_ms: u64,
    /// The operator socket.
    pub control_socket: PathBuf,
    /// Where Prometheus metrics are served; none: nowhere.
    pub metrics: Option<std::net::SocketAddr>,
    /// Worker threads make only the system calls they need.
    pub seccomp: bool,
    /// The daemon may use only the files it needs.
    pub landlock: bool,
    /// Log level or `tracing` filter.
    pub log: String,
    /// What deserves an operator's look but does not stop the daemon.
    pub warnings: Vec<String>,
}

impl Config {
    /// Names of the zones, in order of their numbers from 1 on: those of data interfaces, and the services.
    pub fn zones(&self) -> Vec<String> {
        let data = self.data.iter().map(|data| &data.zone);
        let mut zones: Vec<String> = data.chain(self.services.iter().map(|one| &one.name)).cloned().collect();
        zones.sort_unstable();
        zones.dedup();
        zones
    }

    /// Names of the services, in order of their numbers from 1 on.
    pub fn service_names(&self) -> Vec<String> {
        self.services.iter().map(|service| service.name.clone()).collect()
    }

    /// Interfaces samepath serves: data interfaces, services, the cluster link.
    pub fn ports(&self) -> usize {
        self.data.len() + self.services.len() + 1
    }

    /// Where a peer's control channel listens.
    pub fn control_endpoint(&self, peer: &PeerAddress) -> std::net::SocketAddr {
        (peer.address, peer.port.unwrap_or(self.control_port)).into()
    }
}

/// Why a configuration cannot be used: one sentence with the input, the rule and the remedy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);
