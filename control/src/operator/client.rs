//! The commands' end of the operator socket: ask, print, exit code.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::api::{Document, Reply, Request, SCHEMA, Sessions};
use super::{sessions, tables};
use crate::config::RUN_DIR;

/// The command did what it was asked to.
pub const FINE: u8 = 0;
/// It failed, or the daemon refused.
pub const FAILED: u8 = 1;
/// The command line cannot be understood.
pub const USAGE: u8 = 2;
/// No daemon answers.
pub const UNREACHABLE: u8 = 3;
/// `status`: the node runs but is not ready. `why`, `symmetry`: nodes did not answer, or do not agree. `sessions events`:
/// not all were told.
pub const DEGRADED: u8 = 5;

/// How long a daemon may take to answer. It answers within milliseconds; long lists come in pages.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon there, or it went away; a sentence.
    #[error("{0}")]
    Unreachable(String),
    /// Which daemon is meant is not clear; a sentence.
    #[error("{0}")]
    Ambiguous(String),
    /// The daemon refused; its sentence.
    #[error("{0}")]
    Refused(String),
    /// The answer could not be printed.
    #[error("cannot write the answer: {0}")]
    Output(io::Error),
}

impl ClientError {
    /// The exit code that goes with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::Unreachable(_) => UNREACHABLE,
            ClientError::Ambiguous(_) => USAGE,
            ClientError::Refused(_) | ClientError::Output(_) => FAILED,
        }
    }
}

/// Asks the daemon behind `socket` (default: the only one of this machine) and prints its answer to `out`.
///
/// Gives the exit code. A reader that stops reading (`| head`) is no error.
pub fn run(
    socket: Option<&Path>,
    request: &Request,
    json: bool,
    out: &mut impl Write,
) -> Result<u8, ClientError> {
    let mut connection = Connection::open(&self::socket(socket)?)?;
    connection.ask(request)?;
    let reply = connection.reply()?;
    let result = match reply {
        Reply::Error(refusal) => return Err(ClientError::Refused(refusal.error)),
        Reply::Sessions(page) if json => json_sessions(&mut connection, page, out),
        Reply::Sessions(page) => plain_sessions(&mut connection, page, out),
        reply => print(&reply, json, out),
    };
    match result {
        Err(ClientError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(FINE),
        other => other,
    }
}

/// The socket that was named, or the only one of this machine.
pub(crate) fn socket(named: Option<&Path>) -> Result<PathBuf, ClientError> {
    match named {
        Some(path) => Ok(path.into()),
        None => only_socket(Path::new(RUN_DIR)),
    }
}

/// Prints a reply as a person or a program reads it; gives the exit code.
pub(super) fn print(reply: &Reply, json: bool, out: &mut impl Write) -> Result<u8, ClientError> {
    match json {
        true => print_json(reply, out),
        false => tables::print(reply, out).map_err(ClientError::Output).map(|()| code(reply)),
    }
}

fn code(reply: &Reply) -> u8 {
    match reply {
        Reply::Status(status) if !status.ready => DEGRADED,
        Reply::Symmetry(symmetry) if !symmetry.silent.is_empty() => DEGRADED,
        Reply::Why(why) if !why.agreed || !why.silent.is_empty() => DEGRADED,
        _ => FINE,
    }
}

/// The only control socket in `dir`.
///
/// Errors: there is none, or several.
pub fn only_socket(dir: &Path) -> Result<PathBuf, ClientError> {
    let mut sockets: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sock"))
        .collect();
    sockets.sort();
    match sockets.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(ClientError::Unreachable(format!(
            "there is no control socket in {}: start the daemon with `samepath run`, or name its socket with --control-socket",
            dir.display()
        ))),
        several => Err(ClientError::Ambiguous(format!(
            "there are several control sockets: name one with --control-socket ({})",
            several.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Connection {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Connection {
    /// Connects to the socket at `path`.
    pub fn open(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)
            .and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(stream)
            })
            .map_err(|error| ClientError::Unreachable(unreachable(path, &error)))?;
        Ok(Self { path: path.into(), stream: BufReader::new(stream) })
    }

    /// Sends a request.
    pub fn ask(&mut self, request: &Request) -> Result<(), ClientError> {
        let mut line = serde_json::to_vec(request).map_err(|error| ClientError::Output(error.into()))?;
        line.push(b'\n');
        let sent = self.stream.get_mut().write_all(&line);
        sent.map_err(|error| ClientError::Unreachable(unreachable(&self.path, &error)))
    }

    /// Waits for the next reply or page.
    pub fn reply(&mut self) -> Result<Reply, ClientError> {
        let mut line = Vec::new();
        let path = self.path.display();
        let read = self
            .stream
            .read_until(b'\n', &mut line)
            .map_err(|error| ClientError::Unreachable(unreachable(&self.path, &error)))?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Err(ClientError::Unreachable(format!(
                "the daemon on {path} closed the connection before it had answered: see its log"
            )));
        }
        match serde_json::from_slice::<Document>(&line) {
            Ok(document) if document.schema == SCHEMA => Ok(document.reply),
            Ok(document) => Err(ClientError::Refused(format!(
                "the daemon on {path} speaks schema {} and this program schema {SCHEMA}: use the program of the daemon's version",
                document.schema
            ))),
            Err(error) => Err(ClientError::Refused(format!(
                "the answer of the daemon on {path} cannot be read ({error}): use the program of the daemon's version"
            ))),
        }
    }

    /// Waits for the page after `page`, if there is one.
    fn page_after(&mut self, page: &Sessions) -> Result<Option<Sessions>, ClientError> {
        if !page.more {
            return Ok(None);
        }
        match self.reply()? {
            Reply::Sessions(next) => Ok(Some(next)),
            Reply::Error(refusal) => Err(ClientError::Refused(refusal.error)),
            _ => Err(ClientError::Refused("the daemon broke the list of sessions off".into())),
        }
    }
}

fn unreachable(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => format!(
            "no daemon is reachable: there is no control socket {path}; start the daemon with `samepath run`, or correct --control-socket"
        ),
        ErrorKind::ConnectionRefused => {
            format!("no daemon is reachable: nobody listens on {path}; start it again with `samepath run`")
        }
        ErrorKind::PermissionDenied => format!(
            "the control socket {path} may not be used by this user: run the command as root or as a member of the socket's group"
        ),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("the daemon on {path} did not answer within {} s: see its log", PATIENCE.as_secs())
        }
        _ => format!("no daemon is reachable on {path} ({error}): start it with `samepath run`"),
    }
}

fn print_json(reply: &Reply, out: &mut impl Write) -> Result<u8, ClientError> {
    let document = Document::from(reply.clone());
    write_json(&document, out).and_then(|()| writeln!(out)).map_err(ClientError::Output)?;
    Ok(code(reply))
}

fn write_json(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(out, value).map_err(io::Error::from)
}

/// One JSON document out of any number of pages, without keeping them.
fn json_sessions(
    connection: &mut Connection,
    mut page: Sessions,
    out: &mut impl Write,
) -> Result<u8, ClientError> {
    let output = ClientError::Output;
    write!(out, "{{\"schema\":{SCHEMA},\"kind\":\"sessions\",\"sessions\":[").map_err(output)?;
    let mut separator = "";
    loop {
        for row in &page.sessions {
            write!(out, "{separator}").and_then(|()| write_json(row, out)).map_err(output)?;
            separator = ",";
        }
        match connection.page_after(&page)? {
            Some(next) => page = next,
            None => break,
        }
    }
    writeln!(out, "]}}").map_err(output)?;
    Ok(FINE)
}

fn plain_sessions(
    connection: &mut Connection,
    mut page: Sessions,
    out: &mut impl Write,
) -> Result<u8, ClientError> {
    let mut shown = 0_usize;
    loop {
        for row in &page.sessions {
            writeln!(out, "{}", sessions::line(row)).map_err(ClientError::Output)?;
        }
        shown += page.sessions.len();
        match connection.page_after(&page)? {
            Some(next) => page = next,
            None => break,
        }
    }
    out.flush().map_err(ClientError::Output)?;
    complain(&format_args!("{shown} sessions shown"));
    Ok(FINE)
}

/// One line on stderr, where everything goes that is not data.
pub fn complain(sentence: &dyn Display) {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(io::stderr(), "samepath: {sentence}");
}
