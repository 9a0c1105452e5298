//! A service's folder: its configuration files with an operator's paths put right, and keys made with openssl.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::site;
use crate::bed::Bed;
use crate::program;

/// Where the configuration files of docs/services/ have keys and state.
const FOLDERS: [&str; 2] = ["/etc/samepath/services", "/var/lib/samepath/services"];

/// The folder of one node's service.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it.
    pub fn make(bed: &Bed, number: u8) -> Result<Self> {
        let folder = bed.runtime().join(format!("service{number}"));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a configuration file of docs/services/ into it, its paths put right.
    pub fn configure(&self, name: &str, text: &str) -> Result<PathBuf> {
        let here = self.0.display().to_string();
        let text = FOLDERS.iter().fold(text.to_owned(), |text, folder| text.replace(folder, &here));
        let path = self.path(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// What runs as this user may write into it.
    pub fn give_to(&self, user: &str) -> Result<()> {
        give(&self.0, user)
    }
}

/// A file or folder belongs to a user from now on.
pub fn give(path: &Path, user: &str) -> Result<()> {
    let known = nix::unistd::User::from_name(user)?.with_context(|| format!("there is no user {user}"))?;
    chown(path, Some(known.uid.as_raw()), Some(known.gid.as_raw()))
        .with_context(|| format!("cannot give {} to {user}", path.display()))
}

/// Certificate and key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Certificate, PEM.
    pub certificate: PathBuf,
    /// Key, PEM, for root alone.
    pub key: PathBuf,
}

impl Pair {
    /// Certificate and key in one file, as some programs want them.
    pub fn joined(&self, to: &Path) -> Result<()> {
        let both = fs::read_to_string(&self.certificate)? + &fs::read_to_string(&self.key)?;
        Ok(fs::write(to, both)?)
    }
}

/// The CA that proxies sign with, which clients trust; made once for a bed.
pub fn proxies_ca(bed: &Bed) -> Result<Pair> {
    let more = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"];
    certificate(bed, "proxies", "/CN=samepath test proxies", &more)
}

/// The certificate of the server, which signs itself, for all its names; made once for a bed.
pub fn of_server(bed: &Bed) -> Result<Pair> {
    let names = ["-addext", "subjectAltName=DNS:*.server.example"];
    certificate(bed, "server", "/CN=server.example", &names)
}

/// Lines of an /etc/hosts with the server's names.
pub fn hosts() -> String {
    site::servers().map(|ends| format!("{} {}\n", ends.to, ends.server_name())).collect()
}

fn certificate(bed: &Bed, name: &str, subject: &str, more: &[&str]) -> Result<Pair> {
    let file = |end: &str| bed.runtime().join(format!("{name}.{end}"));
    let pair = Pair { certificate: file("crt"), key: file("key") };
    if pair.certificate.exists() {
        return Ok(pair);
    }
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    openssl.args(["-days", "30", "-subj", subject]).args(more);
    openssl.arg("-out").arg(&pair.certificate).arg("-keyout").arg(&pair.key);
    program::run(&mut openssl)?;
    fs::set_permissions(&pair.key, fs::Permissions::from_mode(0o600))?;
    Ok(pair)
}
