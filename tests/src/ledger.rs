//! What a bed has made outside itself (namespaces, processes), written down so that it can be undone
//! by whoever is left: `Drop`, a signal, a panic, or the next bed after a `kill -9`.
//!
//! One file per bed, `/run/samepath-bed/<prefix>`: first the process that owns the bed, then one line
//! per thing. A process is named by pid *and* start time, so that no other process is ever killed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::{program, wait};

const FOLDER: &str = "/run/samepath-bed";

/// How long a process may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, PartialEq, Debug)]
enum Entry {
    Process { pid: i32, started: u64 },
    Namespace(String),
    Folder(String),
}

impl Entry {
    fn line(&self) -> String {
        match self {
            Entry::Process { pid, started } => format!("process {pid} {started}"),
            Entry::Namespace(name) => format!("namespace {name}"),
            Entry::Folder(path) => format!("folder {path}"),
        }
    }

    fn read(line: &str) -> Option<Entry> {
        let mut words = line.split_whitespace();
        match (words.next()?, words.next()?, words.next()) {
            ("process", pid, Some(started)) => {
                Some(Entry::Process { pid: pid.parse().ok()?, started: started.parse().ok()? })
            }
            ("namespace", name, None) => Some(Entry::Namespace(name.to_owned())),
            ("folder", path, None) => Some(Entry::Folder(path.to_owned())),
            _ => None,
        }
    }
}

type Ledgers = BTreeMap<String, Vec<Entry>>;

fn ledgers() -> MutexGuard<'static, Ledgers> {
    static LEDGERS: OnceLock<Mutex<Ledgers>> = OnceLock::new();
    LEDGERS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the ledger of a bed whose namespaces begin with `prefix`.
pub fn open(prefix: &str) -> Result<()> {
    fs::create_dir_all(FOLDER).with_context(|| format!("cannot make {FOLDER}"))?;
    let me = std::process::id() as i32;
    let owner = Entry::Process { pid: me, started: start_time(me).context("no start time")? };
    fs::write(file_of(prefix), owner.line() + "\n")?;
    ledgers().insert(prefix.to_owned(), Vec::new());
    Ok(())
}

/// Notes a namespace of the bed.
pub fn note_namespace(prefix: &str, name: &str) -> Result<()> {
    note(prefix, Entry::Namespace(name.to_owned()))
}

/// Notes a folder that goes with the bed; its path has no spaces.
pub fn note_folder(prefix: &str, path: &Path) -> Result<()> {
    note(prefix, Entry::Folder(path.display().to_string()))
}

/// Notes a process the bed started as the leader of its own process group.
pub fn note_process(prefix: &str, pid: u32) -> Result<()> {
    let pid = pid as i32;
    let started = start_time(pid).with_context(|| format!("process {pid} is gone already"))?;
    note(prefix, Entry::Process { pid, started })
}

fn note(prefix: &str, entry: Entry) -> Result<()> {
    let line = entry.line() + "\n";
    let mut ledgers = ledgers();
    let Some(entries) = ledgers.get_mut(prefix) else { bail!("bed {prefix} is closed") };
    entries.push(entry);
    fs::OpenOptions::new().append(true).open(file_of(prefix))?.write_all(line.as_bytes())?;
    Ok(())
}

/// Ends every process and deletes every namespace of one bed; the error lists what would not go.
pub fn undo(prefix: &str) -> Result<()> {
    match ledgers().remove(prefix) {
        Some(entries) => undo_entries(prefix, &entries),
        None => Ok(()),
    }
}

/// [`undo`] for every bed of this process.
pub fn undo_all() -> Result<()> {
    let all = std::mem::take(&mut *ledgers());
    for (prefix, entries) in all {
        undo_entries(&prefix, &entries)?;
    }
    Ok(())
}

/// Undoes beds whose process died without doing so.
pub fn sweep_stale() -> Result<()> {
    let Ok(folder) = fs::read_dir(FOLDER) else {
        return Ok(());
    };
    for file in folder.flatten() {
        let prefix = file.file_name().to_string_lossy().into_owned();
        let Ok(text) = fs::read_to_string(file.path()) else {
            continue;
        };
        let mut entries = text.lines().filter_map(Entry::read);
        match entries.next() {
            Some(Entry::Process { pid, started }) if start_time(pid) == Some(started) => {}
            _ => undo_entries(&prefix, &entries.collect::<Vec<_>>())?,
        }
    }
    Ok(())
}

fn undo_entries(prefix: &str, entries: &[Entry]) -> Result<()> {
    let mut left = Vec::new();
    let processes: Vec<(i32, u64)> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Process { pid, started } => Some((*pid, *started)),
            Entry::Namespace(_) | Entry::Folder(_) => None,
        })
        .collect();
    if let Err(error) = end_processes(&processes) {
        left.push(error.to_string());
    }
    for entry in entries {
        if let Err(error) = remove(entry) {
            left.push(error.to_string());
        }
    }
    fs::remove_file(file_of(prefix)).ok();
    if !left.is_empty() {
        bail!("bed {prefix} left behind: {}", left.join("; "));
    }
    Ok(())
}

fn remove(entry: &Entry) -> Result<()> {
    match entry {
        Entry::Namespace(name) if Path::new("/run/netns").join(name).exists() => {
            program::run(Command::new("ip").args(["netns", "delete", name]))?;
        }
        Entry::Folder(path) if Path::new(path).exists() => fs::remove_dir_all(path)?,
        Entry::Namespace(_) | Entry::Folder(_) | Entry::Process { .. } => {}
    }
    Ok(())
}

/// SIGTERM to the groups of those that still run, SIGKILL to those that ignore it.
fn end_processes(processes: &[(i32, u64)]) -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        for &(pid, _) in processes.iter().filter(|process| runs(process)) {
            killpg(Pid::from_raw(pid), signal).ok();
        }
        if wait::until_true("processes end", GRACE, || Ok(!processes.iter().any(runs))).is_ok() {
            return Ok(());
        }
    }
    let alive: Vec<_> = processes.iter().filter(|process| runs(process)).collect();
    bail!("processes that survive SIGKILL: {alive:?}")
}

fn runs(&(pid, started): &(i32, u64)) -> bool {
    start_time(pid) == Some(started)
}

fn file_of(prefix: &str) -> PathBuf {
    Path::new(FOLDER).join(prefix)
}

/// Start time of a running process in clock ticks (field 22 of proc_pid_stat(5)); `None` if there is
/// none or it is a zombie.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

/// Namespaces that exist now and begin with `prefix`.
pub fn namespaces(prefix: &str) -> Vec<String> {
    fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(prefix))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_the_file() {
        for entry in [Entry::Process { pid: 12, started: 99 }, Entry::Namespace(String::from("sp1-client"))] {
            assert_eq!(Entry::read(&entry.line()), Some(entry));
        }
        assert_eq!(Entry::read("process twelve 1"), None);
    }

    #[test]
    fn own_start_time_is_known_and_stable() {
        let me = std::process::id() as i32;
        assert!(start_time(me).is_some());
        assert_eq!(start_time(me), start_time(me));
    }
}
