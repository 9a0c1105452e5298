//! The node that runs here, if one does: what it says of itself, and how it was started.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use clap::Parser;
use rustix::net::sockopt::socket_peercred;

use super::Place;
use crate::args::{Cli, Command};
use crate::config::Flags;
use crate::operator::api::{Members, Reply, Request, Stats, Status};
use crate::operator::client::{self, ClientError, Connection};

/// A running node.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its process.
    pub pid: i32,
    /// `samepath status`.
    pub status: Status,
    /// `samepath members`.
    pub members: Members,
    /// `samepath stats`.
    pub stats: Stats,
    /// The flags it was started with.
    pub flags: Flags,
    /// Its `SAMEPATH_*` variables, where they may be read.
    pub variables: BTreeMap<String, String>,
}

/// The node behind `socket`, or the only one of this machine.
///
/// Errors: none runs, or it does not answer.
pub fn running(place: &Place, socket: Option<&Path>) -> Result<Node, ClientError> {
    let path = client::socket(socket)?;
    let mut node = Node::default();
    for request in [Request::Status, Request::Members, Request::Stats] {
        let mut connection = Connection::open(&path)?;
        connection.ask(&request)?;
        match connection.reply()? {
            Reply::Status(status) => node.status = *status,
            Reply::Members(members) => node.members = members,
            Reply::Stats(stats) => node.stats = *stats,
            Reply::Error(refusal) => return Err(ClientError::Refused(refusal.error)),
            _ => {
                return Err(ClientError::Refused("the daemon gave another answer than was asked for".into()));
            }
        }
    }
    node.pid = process(&path).unwrap_or_default();
    (node.flags, node.variables) = started_with(place, node.pid).unwrap_or_default();
    Ok(node)
}

/// Processes of nodes on this machine, in whatever namespace.
pub fn daemons(place: &Place) -> Vec<i32> {
    let numbers = place.names("/proc").into_iter().filter_map(|entry| entry.parse::<i32>().ok());
    numbers
        .filter(|pid| {
            let words = place.text(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = words.split('\0');
            let named = words
                .next()
                .is_some_and(|program| Path::new(program).file_name() == Some("samepath".as_ref()));
            named && words.next() == Some("run")
        })
        .collect()
}

/// The process that listens.
fn process(socket: &Path) -> Option<i32> {
    let stream = UnixStream::connect(socket).ok()?;
    Some(socket_peercred(&stream).ok()?.pid.as_raw_nonzero().get())
}

fn started_with(place: &Place, pid: i32) -> Option<(Flags, BTreeMap<String, String>)> {
    let words = place.text(&format!("/proc/{pid}/cmdline"))?;
    let words = words.trim_end_matches('\0').split('\0');
    let Ok(Cli { command: Command::Run(mut flags) }) = Cli::try_parse_from(words) else { return None };
    if let Ok(folder) = std::fs::read_link(place.path(&format!("/proc/{pid}/cwd"))) {
        flags.below(&folder);
    }
    let environment = place.text(&format!("/proc/{pid}/environ")).unwrap_or_default();
    let variables = environment.split('\0').filter_map(|one| one.split_once('='));
    let ours = variables.filter(|(name, _)| name.starts_with("SAMEPATH_"));
    Some((flags, ours.map(|(name, value)| (name.into(), value.into())).collect()))
}

impl Flags {
    /// Paths that were given relative to `folder`.
    fn below(&mut self, folder: &Path) {
        self.config = self.config.take().map(|path| folder.join(path));
        for name in ["keys", "policy"] {
            for value in self.values.get_mut(name).into_iter().flatten() {
                *value = folder.join(PathBuf::from(&*value)).to_string_lossy().into_owned();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_a_samepath_that_runs() {
        let root = tempfile::tempdir().unwrap();
        let commands = [
            ("7", "/usr/bin/samepath\0run\0--config\0/etc/samepath/a.toml\0"),
            ("8", "samepath\0bench\0--json\0"),
            ("9", "grep\0run\0"),
            ("self", "samepath\0run\0"),
        ];
        for (entry, command) in commands {
            let folder = root.path().join("proc").join(entry);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("cmdline"), command).unwrap();
        }
        assert_eq!(daemons(&Place::at(root.path())), [7]);
    }
}
