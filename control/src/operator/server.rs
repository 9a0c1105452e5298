//! The daemon's end of the operator socket.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::api::{Document, Reply, Request, Sessions};

/// Longest request line, bytes. The longest valid one is below 1 kB.
const REQUEST_BYTES: usize = 16 * 1024;

/// Rows per line of a long session list: bounds what is serialised at once.
const PAGE_ROWS: usize = 256;

/// Clients served at once; more wait in the socket's backlog.
const CLIENTS: usize = 16;

/// A client that neither asks nor reads for this long is let go.
const CLIENT_IDLE: Duration = Duration::from_secs(60);

/// A request on its way to the daemon's loop. An unanswered one (sender dropped) becomes an error reply.
#[derive(Debug)]
pub struct OperatorRequest {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Reply>,
}

/// Why the socket cannot be opened; each a sentence with its remedy.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A daemon answers there.
    #[error(
        "a daemon is already running on {}: stop it, or give this one another --node-id or --control-socket",
        path.display()
    )]
    AlreadyRunning {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has that name.
    #[error(
        "{} exists and is not a socket: remove it or give another --control-socket",
        path.display()
    )]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error(
        "cannot open the control socket {}: {source}; check the directory or give another --control-socket",
        path.display()
    )]
    Io {
        /// The socket.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
}

/// The bound socket, mode 0660. Its file goes when this is dropped.
#[derive(Debug)]
pub struct OperatorSocket {
    listener: UnixListener,
    file: SocketFile,
}

impl OperatorSocket {
    /// Binds `path` (its directory is made if missing); the leftover of a dead daemon is replaced.
    /// Must be called inside a tokio runtime with IO.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Io { path: path.into(), source };
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(failed)?;
        }
        remove_leftover(path)?;
        // Set before bind, so that there is no moment in which others could connect.
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o117));
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = bound.map_err(failed)?;
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        let file = SocketFile { path: path.into(), identity: (metadata.dev(), metadata.ino()) };
        Ok(Self { listener, file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Serves clients until it is dropped or the receiver of `requests` is; a bad request gets an
    /// error reply.
    pub async fn serve(self, requests: mpsc::Sender<OperatorRequest>) {
        let places = Arc::new(Semaphore::new(CLIENTS));
        let mut clients = JoinSet::new();
        while let Ok(place) = places.clone().acquire_owned().await {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = requests.closed() => return,
            };
            while clients.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) => {
                    let requests = requests.clone();
                    clients.spawn(async move {
                        if let Err(error) = converse(stream, requests).await {
                            tracing::debug!(%error, "operator connection ended");
                        }
                        drop(place);
                    });
                }
                // Out of descriptors: wait for one of the clients to end instead of spinning.
                Err(error) => {
                    tracing::warn!(%error, "operator socket cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Removes the file on drop, unless another daemon has put its own there meanwhile.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let present = fs::symlink_metadata(&self.path).map(|m| (m.dev(), m.ino()));
        if present.is_ok_and(|identity| identity == self.identity) {
            // Nothing can be done about a failure; the next start removes the leftover.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn remove_leftover(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Io { path: path.into(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path: path.into() });
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(SocketError::AlreadyRunning { path: path.into() }),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// One client: a request per line until it closes or stays silent.
async fn converse(stream: UnixStream, requests: mpsc::Sender<OperatorRequest>) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = REQUEST_BYTES as u64 + 1;
        let mut bounded = (&mut reader).take(limit);
        let read = timeout(CLIENT_IDLE, bounded.read_until(b'\n', &mut line)).await??;
        if read == 0 {
            return Ok(());
        }
        if line.len() > REQUEST_BYTES {
            let reply = Reply::error(format!("a request has at most {REQUEST_BYTES} bytes"));
            return send(&mut writer, reply).await;
        }
        let reply = match read_request(&line) {
            Err(refusal) => Reply::error(refusal),
            Ok(request) => {
                if request.changes_something() {
                    tracing::info!(?request, uid = peer.uid(), pid = peer.pid(), "operator");
                }
                ask(&requests, request).await
            }
        };
        send(&mut writer, reply).await?;
    }
}

/// A request line, or the sentence that refuses it.
pub fn read_request(line: &[u8]) -> Result<Request, String> {
    serde_json::from_slice(line).map_err(|error| format!("this is not a request: {error}"))
}

async fn ask(requests: &mpsc::Sender<OperatorRequest>, request: Request) -> Reply {
    let (reply, answer) = oneshot::channel();
    if requests.send(OperatorRequest { request, reply }).await.is_err() {
        return Reply::error("the daemon is stopping");
    }
    answer.await.unwrap_or_else(|_| Reply::error("the daemon gave no answer"))
}

/// Sends a reply, a long session list in pages.
async fn send(writer: &mut (impl AsyncWriteExt + Unpin), reply: Reply) -> io::Result<()> {
    let Reply::Sessions(Sessions { sessions, .. }) = reply else {
        return send_line(writer, reply).await;
    };
    let mut rows = sessions.into_iter();
    loop {
        let sessions = rows.by_ref().take(PAGE_ROWS).collect();
        let more = rows.len() > 0;
        send_line(writer, Reply::Sessions(Sessions { sessions, more })).await?;
        if !more {
            return Ok(());
        }
    }
}

async fn send_line(writer: &mut (impl AsyncWriteExt + Unpin), reply: Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Document::from(reply))?;
    line.push(b'\n');
    timeout(CLIENT_IDLE, writer.write_all(&line)).await?
}
