//! The web server behind a service, and clients that compare what they get with what it has.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::held::Held;
use super::site::{Ends, Site};
use crate::bed::{Bed, Service};
use crate::{program, wait};

/// Bytes of the file that [`fetch_same`] gets: several segments.
const BYTES: usize = 20_000;

/// Bytes of the file that [`hold`] gets, and of it in a second: it lasts longer than anything that is watched.
const SLOW: usize = 4_000_000;
const SLOW_RATE: &str = "20k";

/// More files, by name.
pub type Files = Vec<(&'static str, Vec<u8>)>;

/// Certificate and key of the server.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a> {
    /// Certificate, PEM.
    pub certificate: &'a Path,
    /// Key, PEM.
    pub key: &'a Path,
}

/// Starts nginx on all the server's addresses: port 80, and 443 with `tls`.
pub fn start(bed: &Bed, files: &Files, tls: Option<Tls>) -> Result<Service> {
    let folder = bed.runtime().join("origin");
    let root = folder.join("www");
    fs::create_dir_all(&root)?;
    fs::write(root.join("same.bin"), crate::web::patternless(BYTES))?;
    fs::write(root.join("slow.bin"), vec![0; SLOW])?;
    for (name, bytes) in files {
        fs::write(root.join(name), bytes)?;
    }
    let tls = tls.map_or(String::new(), |tls| {
        format!(
            "listen 443 ssl; listen [::]:443 ssl; ssl_certificate {}; ssl_certificate_key {};",
            tls.certificate.display(),
            tls.key.display()
        )
    });
    let slow = format!("location = /slow.bin {{ limit_rate {SLOW_RATE}; }}");
    bed.start_nginx("origin", &folder, &format!("{tls}\n{slow}"), "same.bin")
}

/// Gets a file over HTTP; it must be what the server has.
pub fn fetch_same(site: &Site, ends: Ends) -> Result<(), String> {
    same(site, "same.bin", &get(site, ends, "http", "same.bin", &[])?)
}

/// These bytes must be those of the server's file.
pub fn same(site: &Site, file: &str, got: &[u8]) -> Result<(), String> {
    let there = site.bed.runtime().join("origin/www").join(file);
    let there = fs::read(there).map_err(|error| error.to_string())?;
    if got == there { Ok(()) } else { Err(String::from("other bytes")) }
}

/// curl for a file, from an address of the client.
fn curl(site: &Site, ends: Ends, scheme: &str, file: &str) -> Command {
    let host = ends.server_name();
    let port = if scheme == "https" { 443 } else { 80 };
    let mut curl = site.bed.client().command("curl");
    curl.args(["-sS", "--interface", &ends.from.to_string()]);
    curl.args(["--resolve", &format!("{host}:{port}:{}", ends.to)]);
    curl.arg(format!("{scheme}://{host}/{file}"));
    curl
}

/// Begins to get a file that comes slowly over HTTPS, and waits for its first bytes.
pub fn hold(site: &Site, ends: Ends, turn: usize, more: &[&str]) -> Result<Held> {
    let file = site.bed.runtime().join(format!("slow{turn}.bin"));
    let mut curl = curl(site, ends, "https", "slow.bin");
    curl.arg("-N").args(more).arg("-o").arg(&file);
    let mut download = site.bed.start_service(&format!("slow{turn}"), &mut curl)?;
    wait::until_true("the file begins to come", site.patience, || {
        if download.ended()?.is_some() {
            bail!("curl ended: {}", download.log_tail());
        }
        Ok(fs::metadata(&file).is_ok_and(|file| file.len() > 0))
    })?;
    Ok(Held::Download(download))
}

/// Gets a file with curl, on a connection of its own.
pub fn get(site: &Site, ends: Ends, scheme: &str, file: &str, more: &[&str]) -> Result<Vec<u8>, String> {
    let mut curl = curl(site, ends, scheme, file);
    curl.args(["--max-time", &site.patience.as_secs().to_string()]).args(more);
    let output = program::output(&mut curl).map_err(|error| error.to_string())?;
    match output.status.code() {
        Some(0) => Ok(output.stdout),
        code => Err(words(code, &String::from_utf8_lossy(&output.stderr))),
    }
}

/// curl's exit codes (curl(1), EXIT CODES) as one says it.
pub fn words(code: Option<i32>, said: &str) -> String {
    match code {
        Some(7) => "no connection".into(),
        Some(22) => "refused with an HTTP error".into(),
        Some(28) => "time out".into(),
        Some(35) => "the TLS handshake breaks off".into(),
        Some(52) => "closed without an answer".into(),
        Some(56) => "reset".into(),
        Some(60) => "a certificate of nobody trusted".into(),
        code => format!("curl ended with {code:?}: {}", said.trim()),
    }
}
