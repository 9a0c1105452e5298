//! Connections through a service that stay open, and what becomes of them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use super::site::{Ends, Site};
use crate::bed::Service;
use crate::wait;

/// How long what must end may take, and what must go on is watched.
const WATCHED: Duration = Duration::from_secs(20);

/// How long one answer may take before it is asked for again.
const ANSWER: Duration = Duration::from_millis(50);

/// A connection that stays open.
#[derive(Debug)]
pub enum Held {
    /// Silent: its client waits.
    Silent(TcpStream),
    /// Its client says a word to an echo and waits for it, over and over.
    Speaking(TcpStream),
    /// curl, which gets a file that comes slowly, and says nothing itself.
    Download(Service),
}

/// What became of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// A reset ended it, so long after the moment asked about.
    Reset(Duration),
    /// It goes on; its longest silence after that moment.
    GoesOn(Duration),
    /// Anything else, in words.
    Other(String),
}

impl Held {
    /// Connects to a port of the server, from the client's address.
    pub fn connect(site: &Site, ends: Ends, port: u16) -> Result<TcpStream> {
        let stream = site.bed.client().enter(|| {
            let to = SocketAddr::new(ends.to, port);
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&SocketAddr::new(ends.from, 0).into())?;
            socket.connect_timeout(&to.into(), site.patience)?;
            Ok(TcpStream::from(socket))
        })?;
        stream.set_read_timeout(Some(site.patience))?;
        Ok(stream)
    }

    /// A silent connection on which `says` was answered by something with `hears` in it.
    pub fn silent(mut stream: TcpStream, says: &str, hears: &str) -> Result<Self> {
        stream.write_all(says.as_bytes())?;
        let (mut heard, mut room) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&heard).contains(hears) {
            let count = stream.read(&mut room)?;
            ensure!(count > 0, "closed after {:?}", String::from_utf8_lossy(&heard));
            heard.extend_from_slice(&room[..count]);
        }
        Ok(Self::Silent(stream))
    }

    /// A connection to an echo, which has answered once.
    pub fn speaking(mut stream: TcpStream) -> Result<Self> {
        speak(&mut stream).context("the echo")?;
        stream.set_read_timeout(Some(ANSWER))?;
        Ok(Self::Speaking(stream))
    }

    /// Watches it until it ends; if `goes_on` one word that is answered after `from` is enough.
    pub fn watch(self, from: Instant, goes_on: bool) -> Fate {
        match self {
            Self::Silent(stream) => watch_silent(stream, from),
            Self::Speaking(stream) => watch_speaking(stream, from, goes_on),
            Self::Download(curl) => watch_download(curl, from),
        }
    }
}

fn speak(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut heard = [0; 5];
    stream.write_all(b"hello")?;
    stream.read_exact(&mut heard)
}

fn watch_silent(mut stream: TcpStream, from: Instant) -> Fate {
    if let Err(error) = stream.set_read_timeout(Some(WATCHED)) {
        return Fate::Other(error.to_string());
    }
    let mut room = [0; 65536];
    loop {
        match stream.read(&mut room) {
            Ok(0) => return Fate::Other("closed without a reset".into()),
            Ok(_) => {}
            Err(error) => return ended(&error, from),
        }
    }
}

/// A word that got no answer stays on its way: only the answer is waited for again.
fn watch_speaking(mut stream: TcpStream, from: Instant, goes_on: bool) -> Fate {
    let (mut last, mut longest) = (from, Duration::ZERO);
    let mut room = [0; 5];
    while from.elapsed() < WATCHED {
        if let Err(error) = stream.write_all(b"hello") {
            return ended(&error, from);
        }
        let answer = loop {
            match stream.read_exact(&mut room) {
                Err(error) if is_silence(&error) && from.elapsed() < WATCHED => {}
                other => break other,
            }
        };
        if let Err(error) = answer {
            return ended(&error, from);
        }
        longest = longest.max(last.elapsed());
        last = Instant::now();
        // Long enough for a death to be noticed, and its consequences.
        if goes_on && from.elapsed() > WATCHED / 5 {
            return Fate::GoesOn(longest);
        }
    }
    Fate::Other("no answer and no reset".into())
}

fn is_silence(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn watch_download(mut curl: Service, from: Instant) -> Fate {
    let ended = wait::until("the download ends", WATCHED, || curl.ended());
    let after = from.elapsed();
    match ended.map(|status| status.code()) {
        // curl(1), EXIT CODES: failure in receiving network data.
        Ok(Some(56)) if curl.log_tail().contains("reset") => Fate::Reset(after),
        Ok(code) => Fate::Other(format!("curl ended with {code:?}: {}", curl.log_tail())),
        Err(_) => Fate::Other("no reset".into()),
    }
}

fn ended(error: &std::io::Error, from: Instant) -> Fate {
    match error.kind() {
        ErrorKind::ConnectionReset => Fate::Reset(from.elapsed()),
        _ if is_silence(error) => Fate::Other("no reset".into()),
        _ => Fate::Other(error.to_string()),
    }
}
