//! The control port: one UDP socket for dialling and accepting, and the QUIC settings.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, Endpoint, EndpointConfig, IdleTimeout, Runtime, ServerConfig, TokioRuntime};
use quinn::{MtuDiscoveryConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;

use samepath_dataplane::flow::NodeId;

use super::arrivals::{Arrivals, Overruns};
use super::gate::{self, Gate, Judge};
use super::limits::{DATAGRAMS, INITIAL_RTT_MS, KEEP_ALIVE_MS, SOCKET_BUFFER, STREAM_WINDOW};
use super::seal::Counted;
use super::{NodeKeys, ReplicateConfig, StartError, tls};

/// The open port, and what dialling needs.
pub(super) struct Tls {
    pub(super) endpoint: Endpoint,
    pub(super) client: ClientConfig,
    /// What the kernel had no room for.
    pub(super) overruns: Overruns,
}

/// What dialling and accepting take from the node's keys.
pub(super) fn configs(
    node: NodeId,
    keys: &NodeKeys,
    idle_timeout_ms: u32,
    arrivals: &Arc<Arrivals>,
) -> Result<(ClientConfig, ServerConfig), StartError> {
    let (client, server) = tls::configs(node, keys)?;
    let transport = Arc::new(transport(idle_timeout_ms));
    let client = Counted::new(Arc::new(client), arrivals.clone());
    let mut client = ClientConfig::new(Arc::new(client));
    client.transport_config(transport.clone());
    let server = Counted::new(Arc::new(server), arrivals.clone());
    let mut server = ServerConfig::with_crypto(Arc::new(server));
    server.transport_config(transport);
    Ok((client, server))
}

/// Opens the control port.
pub(super) fn open(config: &ReplicateConfig, arrivals: &Arc<Arrivals>) -> Result<Tls, StartError> {
    let (client, server) = configs(config.node, &config.keys, config.idle_timeout_ms, arrivals)?;
    let socket = bind(config)?;
    // Of a socket whose number is not known nothing is told that only the kernel counts.
    let overruns = Overruns::of(rustix::fs::fstat(&socket).map_or(0, |stat| stat.st_ino));
    let names = rand::random();
    let peers = config.peers.iter().map(|(_, address)| address.ip().to_canonical()).collect();
    let judge = Judge::new(peers, names, arrivals.clone());
    let runtime = Arc::new(TokioRuntime);
    let endpoint = runtime.wrap_udp_socket(socket).and_then(|socket| {
        let gate = Arc::new(Gate::new(socket, judge));
        Endpoint::new_with_abstract_socket(quic(names), Some(server), gate, runtime)
    });
    let endpoint = endpoint.map_err(|cause| StartError::Bind { address: config.bind, cause })?;
    Ok(Tls { endpoint, client, overruns })
}

/// Connections get names that the gate in front of the port knows by the key `names`.
fn quic(names: u64) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config
        .supported_versions(vec![gate::VERSION])
        .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(names)));
    config
}

fn bind(config: &ReplicateConfig) -> Result<std::net::UdpSocket, StartError> {
    let address = config.bind;
    let socket = std::net::UdpSocket::bind(address).map_err(|cause| match cause.kind() {
        ErrorKind::AddrInUse => StartError::PortInUse { address },
        ErrorKind::AddrNotAvailable => StartError::NotOurs { address: address.ip() },
        _ => StartError::Bind { address, cause },
    })?;
    let sizes = socket2::SockRef::from(&socket);
    // The default buffers work too, with more retransmissions.
    let _ = sizes.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = sizes.set_send_buffer_size(SOCKET_BUFFER);
    Ok(socket)
}

fn transport(idle_timeout_ms: u32) -> TransportConfig {
    let keep_alive_ms = (u64::from(idle_timeout_ms) / 10).clamp(1, KEEP_ALIVE_MS);
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_timeout_ms))))
        .keep_alive_interval(Some(Duration::from_millis(keep_alive_ms)))
        .initial_rtt(Duration::from_millis(INITIAL_RTT_MS))
        .initial_mtu(1200)
        .mtu_discovery_config(Some(MtuDiscoveryConfig::default()))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(Some(DATAGRAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(STREAM_WINDOW.into());
    transport
}
