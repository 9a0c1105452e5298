//! Conversations that last: many connections that say something now and then, as logins over ssh do, and UDP
//! flows that say something all the time. Whether one broke, and the longest silence, is what people notice when a
//! node dies.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Bytes of every message.
const MESSAGE: usize = 64;

/// Connections that are opened at the same time: fewer than a listener's backlog holds.
const OPENING: usize = 256;

/// How long opening a connection may take.
const OPEN: Duration = Duration::from_secs(10);

/// What to keep up.
#[derive(Clone, Debug)]
pub struct Conversations {
    /// Whom; conversation number i goes to the i-th, in turn.
    pub to: Vec<SocketAddr>,
    /// From where; conversation number i uses the i-th, in turn.
    pub from: Vec<IpAddr>,
    /// TCP connections.
    pub tcp: usize,
    /// Pause after each answer on a TCP connection.
    pub tcp_pause: Duration,
    /// More TCP connections, which say something seldom.
    pub quiet: usize,
    /// Pause after each answer on one of those.
    pub quiet_pause: Duration,
    /// Connections that cannot be opened are counted ([`Told::unopened`]) instead of an error.
    pub lenient: bool,
    /// UDP flows.
    pub udp: usize,
    /// Time between two datagrams of a UDP flow.
    pub udp_interval: Duration,
}

/// What happened since the last mark.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Told {
    /// TCP connections that were opened.
    pub tcp: usize,
    /// TCP connections that could not be opened.
    #[serde(default)]
    pub unopened: usize,
    /// Of those, the ones that are no more, by the error's words.
    pub broken: BTreeMap<String, usize>,
    /// TCP connections that have been waiting for an answer for longer than 15 s.
    pub stalled: usize,
    /// Conversations, not broken, that just now have been waiting for their next answer for more than half a second.
    pub silent: usize,
    /// Messages answered over TCP.
    pub tcp_answers: u64,
    /// Datagrams sent and answered.
    pub udp_sent: u64,
    /// Datagrams that came back, late ones too.
    pub udp_answers: u64,
    /// Of each TCP connection that is not quiet the longest time between two answers, less the pause, ms, sorted.
    pub tcp_silence_ms: Vec<f64>,
    /// Of each UDP flow the longest time between two datagrams that came back, ms, sorted.
    pub udp_silence_ms: Vec<f64>,
}

/// A connection that waits longer than this is as good as broken.
const STALLED: Duration = Duration::from_secs(15);

/// A conversation that waits longer than this is silent.
const SILENT: Duration = Duration::from_millis(500);

/// One conversation's book.
#[derive(Debug)]
struct Book {
    last: Instant,
    longest: Duration,
    answers: u64,
    sent: u64,
    error: Option<String>,
    opened: bool,
}

impl Book {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            longest: Duration::ZERO,
            answers: 0,
            sent: 0,
            error: None,
            opened: false,
        }
    }

    fn answered(&mut self) {
        self.opened = true;
        let now = Instant::now();
        self.longest = self.longest.max(now - self.last);
        self.last = now;
        self.answers += 1;
    }

    /// The longest silence, one that still lasts included.
    fn silence(&self, now: Instant) -> Duration {
        if self.error.is_some() { self.longest } else { self.longest.max(now - self.last) }
    }

    /// Whether it has been waiting for longer than `patience`, its usual `pause` not counted.
    fn waits(&self, now: Instant, patience: Duration, pause: Duration) -> bool {
        self.opened && self.error.is_none() && now - self.last > patience + pause
    }

    fn mark(&mut self) {
        self.longest = Duration::ZERO;
        self.answers = 0;
        self.sent = 0;
    }
}

type Books = Arc<[Mutex<Book>]>;

fn note<T>(books: &Books, index: usize, write: impl FnOnce(&mut Book) -> T) -> T {
    let mut book = books[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    write(&mut book)
}

/// Conversations under way. Dropping it ends them.
#[derive(Debug)]
pub struct Lasting {
    conversations: Conversations,
    tcp: Books,
    udp: Books,
    _tasks: JoinSet<()>,
}

impl Lasting {
    /// Opens everything; returns when every connection and every UDP flow has had its first answer. A connection
    /// that cannot be opened is an error; a first datagram is sent again until it is answered.
    pub async fn begin(conversations: Conversations) -> Result<Self> {
        let books = |count: usize| -> Books { (0..count).map(|_| Mutex::new(Book::new())).collect() };
        let (tcp, udp) = (books(conversations.tcp + conversations.quiet), books(conversations.udp));
        let mut opening = JoinSet::new();
        let gate = Arc::new(Semaphore::new(OPENING));
        for index in 0..tcp.len() {
            let (from, to) = ends(&conversations, index);
            let gate = gate.clone();
            opening.spawn(async move {
                let _turn = gate.acquire().await.map_err(Error::other)?;
                let opened = tokio::time::timeout(OPEN, open(from, to)).await.unwrap_or_else(late);
                let named = |error: Error| Error::new(error.kind(), format!("{from} to {to}: {error}"));
                Ok::<_, Error>((index, opened.map_err(named)))
            });
        }
        let mut tasks = JoinSet::new();
        while let Some(opened) = opening.join_next().await {
            let (index, opened) = opened??;
            match opened {
                Ok(stream) => {
                    drop(tasks.spawn(keep_tcp(stream, pause(&conversations, index), tcp.clone(), index)))
                }
                Err(_) if conversations.lenient => {}
                Err(error) => return Err(error),
            }
        }
        for index in 0..conversations.udp {
            let (from, to) = ends(&conversations, index);
            let socket = UdpSocket::bind((from, 0)).await?;
            socket.connect(to).await?;
            first_datagram(&socket).await?;
            note(&udp, index, Book::answered);
            tasks.spawn(keep_udp(socket, conversations.udp_interval, udp.clone(), index));
        }
        Ok(Self { conversations, tcp, udp, _tasks: tasks })
    }

    /// Silences and counts begin anew; what is broken stays broken.
    pub fn mark(&self) {
        for books in [&self.tcp, &self.udp] {
            (0..books.len()).for_each(|index| note(books, index, Book::mark));
        }
    }

    /// What happened since the last mark.
    pub fn tell(&self) -> Told {
        let now = Instant::now();
        let mut told = Told::default();
        for index in 0..self.tcp.len() {
            note(&self.tcp, index, |book| {
                if !book.opened {
                    told.unopened += 1;
                    return;
                }
                told.tcp += 1;
                told.tcp_answers += book.answers;
                if let Some(error) = &book.error {
                    *told.broken.entry(error.clone()).or_default() += 1;
                }
                let pause = pause(&self.conversations, index);
                told.stalled += usize::from(book.waits(now, STALLED, pause));
                told.silent += usize::from(book.waits(now, SILENT, pause));
                if index < self.conversations.tcp {
                    let silence = book.silence(now).saturating_sub(pause);
                    told.tcp_silence_ms.push(silence.as_secs_f64() * 1e3);
                }
            });
        }
        for index in 0..self.udp.len() {
            note(&self.udp, index, |book| {
                told.udp_sent += book.sent;
                told.udp_answers += book.answers;
                told.silent += usize::from(book.waits(now, SILENT, self.conversations.udp_interval));
                told.udp_silence_ms.push(book.silence(now).as_secs_f64() * 1e3);
            });
        }
        told.tcp_silence_ms.sort_by(f64::total_cmp);
        told.udp_silence_ms.sort_by(f64::total_cmp);
        told
    }
}

/// Walks through all pairs of addresses.
fn ends(conversations: &Conversations, index: usize) -> (IpAddr, SocketAddr) {
    let from = &conversations.from;
    let to = &conversations.to;
    (from[index % from.len()], to[(index / from.len()) % to.len()])
}

/// The first ones speak often, the rest seldom.
fn pause(conversations: &Conversations, index: usize) -> Duration {
    if index < conversations.tcp { conversations.tcp_pause } else { conversations.quiet_pause }
}

fn late<T>(_: tokio::time::error::Elapsed) -> Result<T> {
    Err(Error::from(ErrorKind::TimedOut))
}

async fn open(from: IpAddr, to: SocketAddr) -> Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(from, 0))?;
    let mut stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    exchange(&mut stream, 0).await?;
    Ok(stream)
}

async fn exchange(stream: &mut TcpStream, number: u64) -> Result<()> {
    let mut message = [0; MESSAGE];
    message[..8].copy_from_slice(&number.to_be_bytes());
    stream.write_all(&message).await?;
    let mut answer = [0; MESSAGE];
    stream.read_exact(&mut answer).await?;
    match answer == message {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::InvalidData, "the answer is of another message")),
    }
}

async fn keep_tcp(mut stream: TcpStream, pause: Duration, books: Books, index: usize) {
    note(&books, index, Book::answered);
    // Not all in the same moment.
    let share = (index as u32).wrapping_mul(2_654_435_761) >> 16;
    tokio::time::sleep(pause * share / 65_536).await;
    for number in 1.. {
        note(&books, index, |book| book.sent += 1);
        match exchange(&mut stream, number).await {
            Ok(()) => note(&books, index, Book::answered),
            Err(error) => return note(&books, index, |book| book.error = Some(error.to_string())),
        }
        tokio::time::sleep(pause).await;
    }
}

/// Sends until something comes back.
async fn first_datagram(socket: &UdpSocket) -> Result<()> {
    let end = Instant::now() + OPEN;
    let mut answer = [0; MESSAGE];
    loop {
        socket.send(&[0; MESSAGE]).await?;
        match tokio::time::timeout(Duration::from_millis(500), socket.recv(&mut answer)).await {
            Ok(answered) => return answered.map(drop),
            Err(late) if Instant::now() > end => return Err(Error::other(late)),
            Err(_) => {}
        }
    }
}

async fn keep_udp(socket: UdpSocket, interval: Duration, books: Books, index: usize) {
    let mut clock = tokio::time::interval(interval);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut answer = [0; MESSAGE];
    for number in 1u64.. {
        tokio::select! {
            _ = clock.tick() => {
                let mut message = [0; MESSAGE];
                message[..8].copy_from_slice(&number.to_be_bytes());
                // An error is an ICMP message of before; the silence will show what it meant.
                if socket.send(&message).await.is_ok() {
                    note(&books, index, |book| book.sent += 1);
                }
            }
            answered = socket.recv(&mut answer) => {
                if answered.is_ok() {
                    note(&books, index, Book::answered);
                }
            }
        }
    }
}

/// Sends back whatever comes, over TCP and UDP, on `port` of every address, until the process ends; `ready` is
/// called when all are open.
pub async fn echo(addresses: &[IpAddr], port: u16, ready: impl FnOnce()) -> Result<()> {
    let mut tasks = JoinSet::new();
    for &address in addresses {
        let listener = TcpListener::bind((address, port)).await?;
        let datagrams = UdpSocket::bind((address, port)).await?;
        tasks.spawn(accept(listener));
        tasks.spawn(send_back(datagrams));
    }
    ready();
    while tasks.join_next().await.is_some() {}
    Ok(())
}

async fn accept(listener: TcpListener) {
    let mut streams = JoinSet::new();
    loop {
        while streams.try_join_next().is_some() {}
        // Out of files for a moment: the next look may have one.
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        stream.set_nodelay(true).ok();
        streams.spawn(async move {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await.ok();
        });
    }
}

async fn send_back(socket: UdpSocket) {
    let mut datagram = [0; 2048];
    loop {
        if let Ok((length, from)) = socket.recv_from(&mut datagram).await {
            socket.send_to(&datagram[..length], from).await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(port: u16) -> Conversations {
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        Conversations {
            to: vec![SocketAddr::new(here, port)],
            from: vec![here],
            tcp: 5,
            tcp_pause: Duration::from_millis(5),
            quiet: 0,
            quiet_pause: Duration::ZERO,
            lenient: false,
            udp: 2,
            udp_interval: Duration::from_millis(5),
        }
    }

    #[tokio::test]
    async fn connections_whose_server_goes_are_told_as_broken_and_silences_as_long_as_they_were() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let server = tokio::spawn(async move {
            echo(&["127.0.0.1".parse().unwrap()], port, || ()).await.unwrap();
        });
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
        let lasting = Lasting::begin(demand(port)).await.unwrap();
        while lasting.tell().tcp_answers < 50 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let told = lasting.tell();
        assert_eq!((told.tcp, told.broken.len(), told.stalled), (5, 0, 0), "{told:?}");
        assert!(told.udp_answers > 0 && told.udp_silence_ms.len() == 2, "{told:?}");
        lasting.mark();
        assert!(lasting.tell().tcp_answers < told.tcp_answers);
        server.abort();
        let began = Instant::now();
        while lasting.tell().udp_silence_ms[0] < 200.0 || lasting.tell().broken.values().sum::<usize>() < 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", lasting.tell());
        }
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_or_counted() {
        assert!(Lasting::begin(demand(1)).await.is_err());
        let lenient = Conversations { quiet: 2, udp: 0, lenient: true, ..demand(1) };
        let told = Lasting::begin(lenient).await.unwrap().tell();
        assert_eq!((told.tcp, told.unopened, told.silent), (0, 7, 0), "{told:?}");
    }
}
