//! Why two nodes do not talk: one sentence each, with the remedy, the same on both sides.

use std::net::{IpAddr, SocketAddr};

use error_number::{ACCESS_DENIED, CERTIFICATE_EXPIRED, CERTIFICATE_REQUIRED, DECRYPT_ERROR};
use error_number::{NO_APPLICATION_PROTOCOL, UNKNOWN_CA, UNSUPPORTED_CERTIFICATE};
use quinn::ConnectionError;

use samepath_dataplane::flow::NodeId;

use super::hello::Versions;
use super::message::Malformed;

/// Application code of a node that leaves the cluster.
pub const LEAVING: u32 = 1;
/// Application code of a connection that a newer one of the same peer replaces.
pub const SUPERSEDED: u32 = 2;
/// What a node says with it that has other keys now.
pub const OTHER_KEYS: &[u8] = b"this node has other keys now: dial again";
/// First of the application codes whose reason is a sentence for a person.
const REFUSED: u32 = 16;

/// A disagreement found by samepath itself.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the sentences say it")]
pub enum Refusal {
    #[error(
        "node {me} speaks version {} of the control channel, node {peer} version {}: upgrade the older one to a release that speaks one the other speaks too",
        versions.0, versions.1
    )]
    Protocol { me: NodeId, peer: NodeId, versions: (Versions, Versions) },
    #[error(
        "node {me} belongs to cluster {}, node {peer} to cluster {}: set the same --cluster-id on both, or take the peer out of --peer",
        clusters.0, clusters.1
    )]
    Cluster { me: NodeId, peer: NodeId, clusters: (u32, u32) },
    #[error("two nodes have the number {node}: give each node its own --node-id and the keys issued for it")]
    SameNode { node: NodeId },
    #[error(
        "a node runs as {hello} with the certificate of node {certificate}: start it with the keys issued for its --node-id"
    )]
    HelloNode { certificate: NodeId, hello: NodeId },
    #[error(
        "node {me} has director hash {}, node {peer} has {}: set the same --director-hash on all nodes and run the same release",
        hash_name(hashes.0), hash_name(hashes.1)
    )]
    DirectorHash { me: NodeId, peer: NodeId, hashes: ((u8, u8), (u8, u8)) },
    #[error(
        "node {me} and node {peer} have certificates of one CA but different cluster keys: give both --keys directories made from the same `samepath keys init`"
    )]
    Fingerprint { me: NodeId, peer: NodeId },
    #[error(
        "node {peer} is no peer of node {me}: add --peer {peer}=<its cluster address> there, or remove node {me} from its --peer list"
    )]
    UnknownNode { me: NodeId, peer: NodeId },
    #[error(
        "node {peer} connects to node {me} from {from}, but is configured there as --peer {peer}={configured}: correct the address"
    )]
    Address { me: NodeId, peer: NodeId, from: IpAddr, configured: IpAddr },
    #[error(
        "node {me} has --peer {peer}={address}, but the node there has the certificate of node {found}: correct --peer, or the keys on that node"
    )]
    WrongPeer { me: NodeId, peer: NodeId, address: SocketAddr, found: NodeId },
    #[error(
        "the certificate of the node at {address} names no node of a cluster: issue its keys with `samepath keys issue`"
    )]
    Nameless { address: SocketAddr },
    #[error(
        "node {peer} sends what node {me} cannot read ({cause}): run the same release of samepath on both"
    )]
    Malformed { me: NodeId, peer: NodeId, cause: Malformed },
    #[error("node {peer} did not say Hello to node {me} in time: see its log")]
    Silent { me: NodeId, peer: NodeId },
}

impl Refusal {
    /// The application code the connection is closed with.
    pub fn code(&self) -> u32 {
        REFUSED
            + match self {
                Self::Protocol { .. } => 0,
                Self::Cluster { .. } => 1,
                Self::SameNode { .. } => 2,
                Self::HelloNode { .. } => 3,
                Self::DirectorHash { .. } => 4,
                Self::Fingerprint { .. } => 5,
                Self::UnknownNode { .. } => 6,
                Self::Address { .. } => 7,
                Self::WrongPeer { .. } => 8,
                Self::Nameless { .. } => 9,
                Self::Malformed { .. } => 10,
                Self::Silent { .. } => 11,
            }
    }
}

fn hash_name((version, mode): (u8, u8)) -> String {
    match mode {
        1 => format!("ip-pair (version {version})"),
        2 => format!("five-tuple (version {version})"),
        _ => format!("number {mode} (version {version})"),
    }
}

/// Which side found fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// This node.
    Us,
    /// The peer.
    Them,
}

/// How a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The peer leaves the cluster.
    Leaving,
    /// Somebody has to look: the sentence.
    Refused(By, String),
    /// Worth another attempt.
    Lost,
}

/// What the end of a connection with the node at `address` means.
pub fn ending(error: &ConnectionError, address: SocketAddr) -> Ending {
    match error {
        ConnectionError::ApplicationClosed(close) => match close.error_code.into_inner() {
            code if code == u64::from(LEAVING) => Ending::Leaving,
            code if code >= u64::from(REFUSED) => Ending::Refused(By::Them, printable(&close.reason)),
            _ => Ending::Lost,
        },
        ConnectionError::TransportError(found) => alert(found.code.into(), By::Us, &found.reason, address),
        ConnectionError::ConnectionClosed(close) => {
            alert(close.error_code.into(), By::Them, &printable(&close.reason), address)
        }
        ConnectionError::VersionMismatch => Ending::Refused(
            By::Them,
            format!("the node at {address} speaks no QUIC version 1: run samepath there"),
        ),
        _ => Ending::Lost,
    }
}

/// TLS alerts (RFC 8446 section 6) and QUIC transport errors (RFC 9000 section 20.1) as sentences.
fn alert(code: u64, by: By, reason: &str, address: SocketAddr) -> Ending {
    let crypto = (0x100..0x200).contains(&code).then_some(code as u8);
    let sentence = match (crypto, by) {
        (Some(UNKNOWN_CA | DECRYPT_ERROR), By::Us) => format!(
            "the certificate of the node at {address} is not signed by this cluster's CA: issue its keys with `samepath keys issue` from the same key directory"
        ),
        (Some(UNKNOWN_CA | DECRYPT_ERROR), By::Them) => format!(
            "the node at {address} does not accept this node's certificate because another CA signed it: issue the keys of both with `samepath keys issue` from the same key directory"
        ),
        (Some(CERTIFICATE_EXPIRED), By::Us) => format!(
            "the certificate of the node at {address} has expired or is not yet valid: renew it with `samepath keys issue`, or set the clocks"
        ),
        (Some(CERTIFICATE_EXPIRED), By::Them) => format!(
            "the node at {address} finds this node's certificate expired or not yet valid: renew it with `samepath keys issue`, or set the clocks"
        ),
        (Some(CERTIFICATE_REQUIRED), By::Us) => format!(
            "the program at {address} connects without a certificate: only nodes of the cluster may use the control port"
        ),
        (Some(CERTIFICATE_REQUIRED), By::Them) => format!(
            "the node at {address} got no certificate from this node: make its keys with `samepath keys issue`"
        ),
        (Some(UNSUPPORTED_CERTIFICATE | ACCESS_DENIED), _) => format!(
            "the certificate of the node at {address}, or this node's, may not be used for both ends of a connection: issue it with `samepath keys issue`"
        ),
        (Some(NO_APPLICATION_PROTOCOL), _) => format!(
            "the node at {address} speaks another protocol on its control port: run the same release of samepath there"
        ),
        (Some(number), _) => {
            format!(
                "TLS with the node at {address} failed (alert {number}: {reason}): check --keys on both nodes"
            )
        }
        (None, By::Them) if code == error_number::CONNECTION_REFUSED => format!(
            "the node at {address} takes no connections from this node's address: add this node to its --peer list"
        ),
        // APPLICATION_ERROR (0xc) among them: how any close during a handshake is told, be it that the peer gave
        // the attempt up because it hears nothing. It is no refusal: whoever refuses says so after the handshake.
        _ => return Ending::Lost,
    };
    Ending::Refused(by, sentence)
}

/// Error numbers of the two RFCs.
mod error_number {
    pub const UNSUPPORTED_CERTIFICATE: u8 = 43;
    pub const CERTIFICATE_EXPIRED: u8 = 45;
    pub const UNKNOWN_CA: u8 = 48;
    pub const ACCESS_DENIED: u8 = 49;
    pub const DECRYPT_ERROR: u8 = 51;
    pub const CERTIFICATE_REQUIRED: u8 = 116;
    pub const NO_APPLICATION_PROTOCOL: u8 = 120;
    pub const CONNECTION_REFUSED: u64 = 0x2;
}

/// Text from the wire that may be shown on a terminal: no control characters, 400 at most.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: quinn::TransportErrorCode) -> Ending {
        let frame =
            quinn::ConnectionClose { error_code: code, frame_type: None, reason: bytes::Bytes::new() };
        ending(&ConnectionError::ConnectionClosed(frame), "10.9.0.2:6082".parse().unwrap())
    }

    #[test]
    fn a_peer_that_gives_an_attempt_up_does_not_refuse() {
        assert_eq!(closed(quinn::TransportErrorCode::APPLICATION_ERROR), Ending::Lost);
        assert!(matches!(
            closed(quinn::TransportErrorCode::CONNECTION_REFUSED),
            Ending::Refused(By::Them, _)
        ));
    }
}
