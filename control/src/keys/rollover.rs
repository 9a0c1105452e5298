//! `samepath keys rollover` and `retire`: from one CA to the next without a node that is not believed.
//!
//! 1. `rollover`: `ca.crt` holds both CAs, the new one signs. Every node gets this `ca.crt` and is told to reload.
//! 2. `issue --renew` for every node. Each gets its new files and is told to reload.
//! 3. `retire`: `ca.crt` holds the new CA alone. Every node gets it and is told to reload.

use std::fs;
use std::path::{Path, PathBuf};

use samepath_dataplane::flow::NodeId;

use super::issue::{PRIVATE, PUBLIC, init_remedy, new_ca, read_ca, replace};
use super::{CA_CERTIFICATE, CA_KEY, KeyError, certificate_path, load};

/// Makes a new CA beside those in `dir`: it signs from now on, the signatures of the others still count.
///
/// Errors: there is no CA yet; the directory cannot be written.
pub fn rollover(dir: &Path) -> Result<(), KeyError> {
    read_ca(dir)?;
    let before = load::read_text(&dir.join(CA_CERTIFICATE), &init_remedy(dir))?;
    let (certificate, key) = new_ca()?;
    replace(&dir.join(CA_KEY), PRIVATE, &key.serialize_pem())?;
    replace(&dir.join(CA_CERTIFICATE), PUBLIC, &format!("{}{before}", certificate.pem()))
}

/// Forgets all CAs in `dir` but the newest. Returns how many were forgotten.
///
/// Errors: a node's certificate in `dir` is not signed by the newest CA.
pub fn retire(dir: &Path) -> Result<usize, KeyError> {
    read_ca(dir)?;
    let path = dir.join(CA_CERTIFICATE);
    let text = load::read_text(&path, &init_remedy(dir))?;
    let cas = load::certificates(&text).map_err(|why| KeyError::Wrong {
        path: path.clone(),
        why,
        remedy: init_remedy(dir),
    })?;
    for (certificate, node) in issued(dir)? {
        let pem = load::read_text(&certificate, "run the command again")?;
        let signed = load::certificate(&pem)
            .ok_or("it holds no PEM certificate".into())
            .and_then(|der| load::check_signature(&cas[..1], &der));
        signed.map_err(|why| KeyError::Wrong {
            path: certificate,
            why,
            remedy: format!("run `samepath keys issue {} --node {node} --renew` first", dir.display()),
        })?;
    }
    let end = text.find(END).map_or(text.len(), |at| at + END.len());
    replace(&path, PUBLIC, &format!("{}\n", &text[..end]))?;
    Ok(cas.len() - 1)
}

/// Last line of a certificate in PEM (RFC 7468).
const END: &str = "-----END CERTIFICATE-----";

/// The nodes' certificates in a directory.
fn issued(dir: &Path) -> Result<Vec<(PathBuf, NodeId)>, KeyError> {
    let unreadable = |source| KeyError::Io { what: "read", path: dir.into(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("node-")?.strip_suffix(".crt"));
        if let Some(node) = number.and_then(|number| number.parse().ok()).map(NodeId) {
            found.push((certificate_path(dir, node), node));
        }
    }
    found.sort_unstable();
    Ok(found)
}
