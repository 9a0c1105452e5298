//! What was there before setup changed it, in a file: what undo needs.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Action;
use crate::host::Place;

/// Where it is unless `--state` says otherwise.
pub const STATE_FILE: &str = "/var/lib/samepath/setup.json";

/// Version of the file's layout.
const SCHEMA: u32 = 1;

/// One thing that was changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// The stage that did.
    pub stage: String,
    /// What it is.
    pub object: String,
    /// Makes it what it was.
    pub back: Vec<Action>,
}

/// All that was changed since the machine was started, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    schema: u32,
    /// The start of the machine it is about: afterwards nothing of it holds.
    boot: String,
    /// In the order of the changes.
    pub changed: Vec<Changed>,
    #[serde(skip)]
    path: PathBuf,
}

impl Record {
    /// Reads the file; one that is not there, or of an earlier start of the machine, holds nothing.
    pub fn read(place: &Place, path: &Path) -> io::Result<Self> {
        let boot = place.text("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let empty = Self { schema: SCHEMA, boot: boot.clone(), changed: Vec::new(), path: path.into() };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(empty),
            Err(error) => return Err(error),
        };
        let record: Self = serde_json::from_str(&text)?;
        if record.schema != SCHEMA {
            return Err(io::Error::other(format!("it has layout {} and not {SCHEMA}", record.schema)));
        }
        Ok(if record.boot == boot { Self { path: path.into(), ..record } } else { empty })
    }

    /// Notes what a change will need to be undone, before it is made. What is known already stays: it is what
    /// was there first.
    pub fn note(&mut self, stage: &str, object: &str, back: &[Action]) -> io::Result<()> {
        if self.changed.iter().any(|one| one.stage == stage && one.object == object) {
            return Ok(());
        }
        self.changed.push(Changed { stage: stage.into(), object: object.into(), back: back.into() });
        self.write()
    }

    /// Forgets what was put back.
    pub fn forget(&mut self, changed: &Changed) -> io::Result<()> {
        self.changed.retain(|one| one != changed);
        self.write()
    }

    /// Whole or not at all.
    fn write(&self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        let new = self.path.with_extension("new");
        let mut file = fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(new, &self.path)
    }
}
