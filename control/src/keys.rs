//! The cluster's keys: a CA, one certificate per node, one secret all nodes share.
//!
//! | file | made by | needed on |
//! |---|---|---|
//! | `ca.crt` | `samepath keys init` | every node |
//! | `ca.key` | `samepath keys init` | only where certificates are issued |
//! | `cluster.secret` | `samepath keys init` | every node |
//! | `node-N.crt`, `node-N.key` | `samepath keys issue` | node N |

use std::path::{Path, PathBuf};

mod derive;
mod issue;
mod load;
mod rollover;
mod summary;
#[cfg(test)]
mod tests;

pub use derive::Fingerprint;
pub use issue::{init, issue};
pub use load::ClusterKeys;
pub use rollover::{retire, rollover};
pub use summary::Summary;

use samepath_dataplane::flow::NodeId;

/// The CA's certificate, PEM.
pub const CA_CERTIFICATE: &str = "ca.crt";
/// The CA's private key, PEM (PKCS #8).
pub const CA_KEY: &str = "ca.key";
/// The shared secret, 64 hexadecimal digits.
pub const SECRET: &str = "cluster.secret";

/// The name in a node's certificate (its only subject alternative name, also the TLS server name).
pub fn node_name(node: NodeId) -> String {
    format!("node-{node}.samepath")
}

/// Path of a node's certificate.
pub fn certificate_path(dir: &Path, node: NodeId) -> PathBuf {
    dir.join(format!("node-{node}.crt"))
}

/// Path of a node's private key.
pub fn key_path(dir: &Path, node: NodeId) -> PathBuf {
    dir.join(format!("node-{node}.key"))
}

/// What can be wrong with the keys; each sentence names the file and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// `keys init` or `keys issue` would overwrite something.
    #[error(
        "{} exists already and is not overwritten: {remedy}",
        path.display()
    )]
    Exists {
        /// The file.
        path: PathBuf,
        /// What to do instead.
        remedy: String,
    },
    /// A file is not there.
    #[error("{} is missing: {remedy}", path.display())]
    Missing {
        /// The file or directory.
        path: PathBuf,
        /// The command that makes it.
        remedy: String,
    },
    /// A private file that others may read.
    #[error(
        "{} has mode {mode:04o}, others than its owner can use it: run `chmod 600 {}` (and make new keys if someone may have read it)",
        path.display(), path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file that is not what its name says.
    #[error("{} is not usable: {why}; {remedy}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// What mends it.
        remedy: String,
    },
    /// The operating system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// read, write or create.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// The cryptographic library refused.
    #[error("cannot make {what}: {why}")]
    Crypto {
        /// What was to be made.
        what: &'static str,
        /// Its reason.
        why: String,
    },
}
