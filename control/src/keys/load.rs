//! Reading a node's keys, with every check that can be made before a peer refuses them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rcgen::KeyPair;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use samepath_dataplane::flow::NodeId;

use super::issue::init_remedy;
use super::{CA_CERTIFICATE, CA_KEY, KeyError, SECRET, certificate_path, key_path, node_name};

/// What a node holds of its cluster's keys.
pub struct ClusterKeys {
    /// Certificates of the CAs whose signature counts, DER, not empty; the first one signs. More than one
    /// while nodes change from one CA to the next.
    pub cas: Vec<CertificateDer<'static>>,
    /// This node's certificate, DER.
    pub node_cert_der: CertificateDer<'static>,
    /// This node's private key, DER (PKCS #8).
    pub node_key_der: PrivateKeyDer<'static>,
    /// The secret all nodes share; see [`ClusterKeys::director_key`] and its neighbours.
    pub secret: [u8; 32],
}

impl std::fmt::Debug for ClusterKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterKeys").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl Clone for ClusterKeys {
    fn clone(&self) -> Self {
        Self {
            cas: self.cas.clone(),
            node_cert_der: self.node_cert_der.clone(),
            node_key_der: self.node_key_der.clone_key(),
            secret: self.secret,
        }
    }
}

impl ClusterKeys {
    /// Reads `dir` for `node` and checks that everything fits together: permissions, the certificate's
    /// number, its signature by the CA, its dates, its key.
    pub fn load(dir: &Path, node: NodeId) -> Result<Self, KeyError> {
        if !dir.is_dir() {
            return Err(KeyError::Missing { path: dir.into(), remedy: init_remedy(dir) });
        }
        let ca_file = dir.join(CA_CERTIFICATE);
        let certificate_file = certificate_path(dir, node);
        let key_file = key_path(dir, node);
        let secret_file = dir.join(SECRET);
        for private in [&dir.join(CA_KEY), &key_file, &secret_file] {
            refuse_open(private)?;
        }

        let ca_pem = read_text(&ca_file, &init_remedy(dir))?;
        let no_ca = |why| KeyError::Wrong { path: ca_file.clone(), why, remedy: init_remedy(dir) };
        let cas = certificates(&ca_pem).map_err(no_ca)?;
        let secret = secret(&read_text(&secret_file, &init_remedy(dir))?).ok_or_else(|| KeyError::Wrong {
            path: secret_file,
            why: "it is not 64 hexadecimal digits".into(),
            remedy: "copy it from another node of the cluster".into(),
        })?;

        let again = reissue_remedy(dir, node);
        let node_pem = read_text(&certificate_file, &issue_remedy(dir, node))?;
        let key_pem = read_text(&key_file, &issue_remedy(dir, node))?;
        let wrong =
            |path: &Path, why: String| KeyError::Wrong { path: path.into(), why, remedy: again.clone() };
        let node_cert_der = certificate(&node_pem)
            .ok_or_else(|| wrong(&certificate_file, "it holds no PEM certificate".into()))?;
        let pair = KeyPair::from_pem(&key_pem)
            .map_err(|error| wrong(&key_file, format!("it holds no private key ({error})")))?;
        check_name(&node_cert_der, node).map_err(|why| wrong(&certificate_file, why))?;
        check_signature(&cas, &node_cert_der).map_err(|why| wrong(&certificate_file, why))?;
        check_pair(&node_pem, &pair).map_err(|why| wrong(&key_file, why))?;
        let node_key_der = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
        Ok(Self { cas, node_cert_der, node_key_der, secret })
    }
}

/// A file's text; missing → the remedy.
pub(super) fn read_text(path: &Path, remedy: &str) -> Result<String, KeyError> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(KeyError::Missing { path: path.into(), remedy: remedy.into() })
        }
        Err(source) => Err(KeyError::Io { what: "read", path: path.into(), source }),
    }
}

/// Refuses a private file that group or others can touch; one that is not there is fine here.
pub(super) fn refuse_open(path: &Path) -> Result<(), KeyError> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::TooOpen { path: path.into(), mode });
    }
    Ok(())
}

/// Whether the certificate was made for this key.
pub(super) fn check_pair(certificate_pem: &str, key: &KeyPair) -> Result<(), String> {
    let der = certificate(certificate_pem).ok_or("it holds no PEM certificate")?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
    if parsed.public_key().raw != key.public_key_der() {
        return Err("certificate and private key do not belong together".into());
    }
    Ok(())
}

pub(super) fn certificate(pem: &str) -> Option<CertificateDer<'static>> {
    rustls_pemfile::certs(&mut pem.as_bytes()).next()?.ok()
}

/// All certificates of a PEM text; at least one.
pub(super) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = rustls_pemfile::certs(&mut pem.as_bytes()).collect();
    let found = found.map_err(|error| format!("one of its certificates is broken ({error})"))?;
    if found.is_empty() {
        return Err("it holds no PEM certificate".into());
    }
    Ok(found)
}

fn check_name(der: &CertificateDer<'_>, node: NodeId) -> Result<(), String> {
    let (_, parsed) = X509Certificate::from_der(der)
        .map_err(|error| format!("it is not an X.509 certificate ({error})"))?;
    let extension = parsed.subject_alternative_name().ok().flatten();
    let names: Vec<&str> = extension
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
        .collect();
    if names.contains(&node_name(node).as_str()) {
        return Ok(());
    }
    let got = if names.is_empty() { "no node".into() } else { names.join(", ") };
    Err(format!("it is the certificate of {got}, not of {}", node_name(node)))
}

/// Whether one of the CAs signed a node's certificate, and it is valid today.
pub(super) fn check_signature(
    cas: &[CertificateDer<'static>],
    node: &CertificateDer<'_>,
) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(ca.clone()).map_err(|error| format!("the CA's certificate is broken ({error})"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| format!("the CA's certificate cannot verify others ({error})"))?;
    verifier.verify_client_cert(node, &[], UnixTime::now()).map(|_| ()).map_err(|error| {
        use rustls::CertificateError as E;
        match error {
            rustls::Error::InvalidCertificate(E::UnknownIssuer | E::BadSignature) => {
                "it is not signed by this directory's ca.crt".into()
            }
            rustls::Error::InvalidCertificate(E::Expired | E::ExpiredContext { .. }) => {
                "it has expired".into()
            }
            rustls::Error::InvalidCertificate(E::NotValidYet | E::NotValidYetContext { .. }) => {
                "it is not valid yet (is this machine's clock right?)".into()
            }
            other => other.to_string(),
        }
    })
}

fn secret(text: &str) -> Option<[u8; 32]> {
    let digits = text.trim().as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(bytes)
}

fn issue_remedy(dir: &Path, node: NodeId) -> String {
    format!(
        "run `samepath keys issue {} --node {node}` where ca.key is, and copy node-{node}.crt and node-{node}.key here",
        dir.display()
    )
}

fn reissue_remedy(dir: &Path, node: NodeId) -> String {
    format!(
        "remove node-{node}.crt and node-{node}.key and run `samepath keys issue {} --node {node}` with this cluster's ca.key",
        dir.display()
    )
}
