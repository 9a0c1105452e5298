//! Mutual TLS 1.3 from the cluster's CA, and which node a certificate belongs to.
//!
//! Both ends verify the chain during the handshake and the name (`node-N.samepath`) right after it,
//! in one place for both roles, so that a wrong name is explained to both sides in a sentence.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use samepath_dataplane::flow::NodeId;

use super::StartError;
use crate::keys::{ClusterKeys, node_name};

/// Application protocol (RFC 7301); another major version would be another name.
const ALPN: &[u8] = b"samepath/1";

/// A node's TLS material: what replication needs of [`ClusterKeys`].
pub struct NodeKeys {
    /// Certificates of the CAs whose signature counts.
    pub cas: Vec<CertificateDer<'static>>,
    /// This node's certificate: signed by the CA, named by [`node_name`], for client and server.
    pub node_cert_der: CertificateDer<'static>,
    /// Its private key.
    pub node_key_der: PrivateKeyDer<'static>,
}

impl From<&ClusterKeys> for NodeKeys {
    fn from(keys: &ClusterKeys) -> Self {
        Self {
            cas: keys.cas.clone(),
            node_cert_der: keys.node_cert_der.clone(),
            node_key_der: keys.node_key_der.clone_key(),
        }
    }
}

impl std::fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKeys(..)")
    }
}

/// The node a certificate belongs to: its one DNS name of the form `node-N.samepath`.
pub fn node_of(certificate: &[u8]) -> Option<NodeId> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut nodes = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => {
            let number = name.strip_prefix("node-")?.strip_suffix(".samepath")?.parse().ok()?;
            (number != 0 && *name == node_name(NodeId(number))).then_some(NodeId(number))
        }
        _ => None,
    });
    // Two names would let one key speak for two nodes.
    nodes.next().filter(|_| nodes.next().is_none())
}

/// The node at the other end of a connection whose handshake is complete.
pub fn peer_of(connection: &quinn::Connection) -> Option<NodeId> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast_ref::<Vec<CertificateDer<'static>>>()?;
    node_of(chain.first()?)
}

/// TLS for dialling and for accepting. Checks that the keys belong to `node`.
pub fn configs(node: NodeId, keys: &NodeKeys) -> Result<(QuicClientConfig, QuicServerConfig), StartError> {
    let unusable =
        |what: &'static str| move |cause: rustls::Error| StartError::Keys { what, cause: cause.to_string() };
    match node_of(&keys.node_cert_der) {
        Some(found) if found == node => {}
        found => return Err(StartError::OtherNode { node, found }),
    }
    let mut roots = RootCertStore::empty();
    for ca in &keys.cas {
        roots.add(ca.clone()).map_err(unusable("the CA certificate"))?;
    }
    let roots = Arc::new(roots);
    let chain = vec![keys.node_cert_der.clone()];
    let key = keys.node_key_der.clone_key();

    let provider = Arc::new(ring::default_provider());
    let versions = &[&rustls::version::TLS13];
    let verifier = ClusterVerifier { roots: roots.clone(), provider: provider.clone() };
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(unusable("TLS 1.3"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain.clone(), key.clone_key())
        .map_err(unusable("the node's certificate and key"))?;
    client.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would skip the certificate checks, its expiry included.
    client.resumption = Resumption::disabled();

    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|cause| StartError::Keys { what: "the CA certificate", cause: cause.to_string() })?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(unusable("TLS 1.3"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(unusable("the node's certificate and key"))?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;

    let no_suite = |cause: quinn::crypto::rustls::NoInitialCipherSuite| StartError::Keys {
        what: "TLS 1.3",
        cause: cause.to_string(),
    };
    Ok((client.try_into().map_err(no_suite)?, server.try_into().map_err(no_suite)?))
}

/// Verifies that the cluster's CA signed the other node's certificate; its name is checked by
/// [`peer_of`]'s callers.
#[derive(Debug)]
struct ClusterVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ClusterVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
