//! `samepath sysdump`: what somebody who cannot log in needs to see of a node and its host, in one archive.
//!
//! It is a list of items; each is read by itself within bounds, and what cannot be read is said in `index.txt`. Keys and
//! the cluster's secret are not among them.

mod items;
mod program;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::host::{Case, Place};

/// The most of one item, bytes; the rest is left out and `index.txt` says so.
const ITEM_MAX: usize = 8 * 1024 * 1024;

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dump {
    /// The archive.
    pub file: PathBuf,
    /// Items in it.
    pub items: usize,
    /// Items that could not be read, with why.
    pub missing: Vec<String>,
}

/// Writes all that can be read of the host and the node on it into `file`, by default a new one in the working folder.
///
/// Errors: the archive cannot be written, or is there already.
pub fn write(case: &Case, place: &Place, file: Option<&Path>) -> io::Result<Dump> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let name = format!("samepath-sysdump-{}-{since_1970}", who(case, place));
    let file = file.map_or_else(|| PathBuf::from(format!("{name}.tar.gz")), Path::to_owned);
    let mut archive = Archive { out: builder(&file)?, folder: name, time: since_1970 };
    let (mut index, mut dump) = (String::new(), Dump { file, items: 0, missing: Vec::new() });
    for item in items::all(case) {
        let line = match item.read(case, place) {
            Ok(bytes) => {
                let kept = &bytes[..bytes.len().min(ITEM_MAX)];
                archive.add(&item.name, kept)?;
                dump.items += 1;
                let cut = if kept.len() < bytes.len() { ", the rest is left out" } else { "" };
                format!("{}: {} bytes of {}{cut}", item.name, kept.len(), item.source)
            }
            Err(why) => {
                let line = format!("{}: missing, {}: {why}", item.name, item.source);
                dump.missing.push(line.clone());
                line
            }
        };
        index.push_str(&line);
        index.push('\n');
    }
    archive.add("index.txt", index.as_bytes())?;
    archive.out.into_inner()?.finish()?.flush()?;
    Ok(dump)
}

/// `node-1`, or the host's name where no node runs.
fn who(case: &Case, place: &Place) -> String {
    let host = || place.text("/proc/sys/kernel/hostname").unwrap_or_else(|| "host".into());
    case.node.as_ref().map_or_else(host, |node| format!("node-{}", node.status.node))
}

/// What it shows is for few eyes: nobody else may read it.
fn builder(file: &Path) -> io::Result<tar::Builder<GzEncoder<File>>> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    Ok(tar::Builder::new(GzEncoder::new(file, Compression::default())))
}

struct Archive {
    out: tar::Builder<GzEncoder<File>>,
    /// All items are below it.
    folder: String,
    /// Seconds since 1970.
    time: u64,
}

impl Archive {
    fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        self.out.append_data(&mut header, format!("{}/{name}", self.folder), bytes)
    }
}
