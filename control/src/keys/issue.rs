//! `samepath keys init` and `issue`. Files are never overwritten unless told, and then as a
//! whole: whoever reads meanwhile sees the old or the new one.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use ring::rand::{SecureRandom, SystemRandom};

use samepath_dataplane::flow::NodeId;

use super::{CA_CERTIFICATE, CA_KEY, KeyError, SECRET, certificate_path, key_path, node_name};

/// How long certificates are valid. They identify machines inside one cluster and are revoked by
/// making a new CA; a shorter life would add an outage nobody planned.
const VALIDITY: Duration = Duration::from_secs(10 * 365 * 86_400 + 3 * 86_400);

/// Certificates are valid from this long before they were made, for nodes whose clock is behind.
const CLOCK_SKEW: Duration = Duration::from_secs(86_400);

pub(super) const PRIVATE: u32 = 0o600;
pub(super) const PUBLIC: u32 = 0o644;

/// Makes `dir` (0700 if new) with a CA and the shared secret.
///
/// Errors: a file of that name is there already; the directory cannot be written.
pub fn init(dir: &Path) -> Result<(), KeyError> {
    for name in [CA_CERTIFICATE, CA_KEY, SECRET] {
        refuse_existing(&dir.join(name), "give another directory, or move the old keys away")?;
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| KeyError::Io {
        what: "create",
        path: dir.into(),
        source,
    })?;

    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| no_random())?;
    let (certificate, key) = new_ca()?;
    write_new(&dir.join(CA_KEY), PRIVATE, &key.serialize_pem())?;
    write_new(&dir.join(SECRET), PRIVATE, &format!("{}\n", hex(&secret)))?;
    write_new(&dir.join(CA_CERTIFICATE), PUBLIC, &certificate.pem())
}

/// Makes the certificate and key of `node`, signed by the CA in `dir`; with `renew` in place of those there.
///
/// Errors: the CA is missing or broken; the node's files are there already.
pub fn issue(dir: &Path, node: NodeId, renew: bool) -> Result<(), KeyError> {
    let (certificate_file, key_file) = (certificate_path(dir, node), key_path(dir, node));
    if !renew {
        let remedy = format!("add --renew if node {node} shall get new ones");
        refuse_existing(&certificate_file, &remedy)?;
        refuse_existing(&key_file, &remedy)?;
    }

    let (ca, ca_key) = read_ca(dir)?;
    let key = KeyPair::generate().map_err(|error| crypto("the node's key", error))?;
    let name = node_name(node);
    let mut params = CertificateParams::new(vec![name.clone()])
        .map_err(|error| crypto("the node's certificate", error))?;
    params = validity(params);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate =
        params.signed_by(&key, &ca, &ca_key).map_err(|error| crypto("the node's certificate", error))?;

    replace(&key_file, PRIVATE, &key.serialize_pem())?;
    replace(&certificate_file, PUBLIC, &certificate.pem())
}

/// The CA as an issuer. The certificate is rebuilt from its parameters: only names and key
/// identifiers go into what it signs.
pub(super) fn read_ca(dir: &Path) -> Result<(rcgen::Certificate, KeyPair), KeyError> {
    let certificate_file = dir.join(CA_CERTIFICATE);
    let key_file = dir.join(CA_KEY);
    let certificate_pem = super::load::read_text(&certificate_file, &init_remedy(dir))?;
    super::load::refuse_open(&key_file)?;
    let key_pem = super::load::read_text(
        &key_file,
        &format!(
            "issue certificates on the machine where `samepath keys init` was run, or run `samepath keys init {}`",
            dir.display()
        ),
    )?;
    let wrong = |path: &Path, why: String| KeyError::Wrong {
        path: path.into(),
        why,
        remedy: "restore it from a backup, or make a new cluster with `samepath keys init DIR`".into(),
    };
    let key = KeyPair::from_pem(&key_pem).map_err(|error| wrong(&key_file, error.to_string()))?;
    super::load::check_pair(&certificate_pem, &key).map_err(|why| wrong(&certificate_file, why))?;
    let certificate = CertificateParams::from_ca_cert_pem(&certificate_pem)
        .and_then(|params| params.self_signed(&key))
        .map_err(|error| wrong(&certificate_file, error.to_string()))?;
    Ok((certificate, key))
}

/// What mends a directory without CA or secret.
pub(super) fn init_remedy(dir: &Path) -> String {
    format!(
        "run `samepath keys init {}` for a new cluster, or copy it from the cluster's other nodes",
        dir.display()
    )
}

/// A certificate that signs others, and its key.
pub(super) fn new_ca() -> Result<(rcgen::Certificate, KeyPair), KeyError> {
    let mut number = [0; 4];
    SystemRandom::new().fill(&mut number).map_err(|_| no_random())?;
    let key = KeyPair::generate().map_err(|error| crypto("the CA's key", error))?;
    let mut params = validity(CertificateParams::default());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("samepath cluster {}", hex(&number)));
    let certificate = params.self_signed(&key).map_err(|error| crypto("the CA's certificate", error))?;
    Ok((certificate, key))
}

fn validity(mut params: CertificateParams) -> CertificateParams {
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + VALIDITY).into();
    params
}

fn refuse_existing(path: &Path, remedy: &str) -> Result<(), KeyError> {
    if path.symlink_metadata().is_ok() {
        return Err(KeyError::Exists { path: path.into(), remedy: remedy.into() });
    }
    Ok(())
}

/// Writes a file that may be there already: it is the old one or the new one, never half of it.
pub(super) fn replace(path: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // What an earlier attempt left.
    let _ = fs::remove_file(&beside);
    write_new(&beside, mode, text)?;
    fs::rename(&beside, path).map_err(|source| KeyError::Io { what: "write", path: path.into(), source })
}

fn write_new(path: &PathBuf, mode: u32, text: &str) -> Result<(), KeyError> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .map_err(|source| KeyError::Io { what: "write", path: path.clone(), source })
}

fn no_random() -> KeyError {
    crypto("random numbers", "the kernel gave none")
}

fn crypto(what: &'static str, why: impl ToString) -> KeyError {
    KeyError::Crypto { what, why: why.to_string() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
