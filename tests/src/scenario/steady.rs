//! Steady traffic over many flows while something happens to the nodes: long TCP connections that are never
//! silent, short ones that begin and end all the time, and one UDP flow that counts each datagram.

use std::io::{Error, ErrorKind, Read, Result as IoResult, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::bed::Bed;
use crate::bed::plan::{self, Family};
use crate::netns::Namespace;

/// Port of the echo server, TCP and UDP.
const PORT: u16 = 7007;

/// Long TCP connections.
const LONG: u8 = 12;

/// Threads that open short ones, and the pause of each between two: together at most 200 a second.
const SHORT: (u8, Duration) = (4, Duration::from_millis(20));

/// Pause of a long flow between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(10);

/// No answer for so long is a broken connection. TCP repeats after 0.2, 0.6, 1.4 … s.
const PATIENCE: Duration = Duration::from_secs(10);

/// No answer for so long is a lost datagram.
const DATAGRAM: Duration = Duration::from_secs(2);

/// What became of the traffic.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answers on long TCP connections.
    pub answers: u64,
    /// Short TCP connections that went well.
    pub short: u64,
    /// UDP datagrams that came back.
    pub datagrams: u64,
    /// UDP datagrams that did not.
    pub lost: u64,
    /// Longest wait for an answer of any kind.
    pub longest: Duration,
    /// What failed, a sentence each.
    pub failures: Vec<String>,
}

/// One TCP connection to an echo server, to be asked when a test wants to.
#[derive(Debug)]
pub struct Conversation {
    stream: TcpStream,
    asked: u64,
}

impl Conversation {
    /// Opens one; the echo server of [`Conversation::serve`] must run.
    pub fn open(bed: &Bed, family: Family, number: u8) -> Result<Self> {
        let stream = bed.client().enter(|| Ok(connect(family, number)?))?;
        Ok(Self { stream, asked: 0 })
    }

    /// Starts the echo server.
    pub fn serve(bed: &Bed, family: Family) -> Result<()> {
        serve(bed, family)
    }

    /// A question and its answer.
    pub fn ask(&mut self) -> Result<Duration> {
        self.asked += 1;
        Ok(exchange(&mut self.stream, self.asked)?)
    }
}

/// Traffic under way.
#[derive(Debug)]
pub struct Steady {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Steady {
    /// Begins; all long connections stand when this returns.
    pub fn begin(bed: &Bed, family: Family) -> Result<Self> {
        serve(bed, family)?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for number in 0..LONG {
            let stream = bed.client().enter(|| Ok(connect(family, number)?));
            let stream = stream.with_context(|| format!("long connection {number}"))?;
            let stop = stop.clone();
            threads.push(thread::spawn(move || long(stream, &stop)));
        }
        for number in 0..SHORT.0 {
            let (client, stop) = (bed.client().clone(), stop.clone());
            threads.push(thread::spawn(move || short(&client, family, number, &stop)));
        }
        let socket = bed.client().enter(|| {
            let socket = UdpSocket::bind((plan::client(family, 1), 0))?;
            socket.connect((plan::server(family, 2), PORT))?;
            socket.set_read_timeout(Some(DATAGRAM))?;
            Ok(socket)
        })?;
        threads.push(thread::spawn({
            let stop = stop.clone();
            move || datagrams(&socket, &stop)
        }));
        Ok(Self { stop, threads })
    }

    /// Ends it and says what became of it.
    pub fn end(self) -> Result<Tally> {
        self.stop.store(true, Relaxed);
        let mut total = Tally::default();
        for thread in self.threads {
            let part = thread.join().map_err(|_| anyhow!("a thread of the traffic panicked"))?;
            total.answers += part.answers;
            total.short += part.short;
            total.datagrams += part.datagrams;
            total.lost += part.lost;
            total.longest = total.longest.max(part.longest);
            total.failures.extend(part.failures);
        }
        Ok(total)
    }
}

impl Tally {
    /// Checks that there was traffic of every kind and that no connection broke.
    pub fn nothing_broke(&self) -> Result<()> {
        ensure!(self.failures.is_empty(), "connections broke: {self:#?}");
        ensure!(self.answers > 0 && self.short > 0 && self.datagrams > 0, "too little traffic: {self:?}");
        Ok(())
    }

    /// Checks as well that no datagram was lost and no SYN or SYN-ACK had to be repeated, which takes a second (RFC
    /// 6298 section 2.1).
    pub fn nothing_was_lost(&self) -> Result<()> {
        self.nothing_broke()?;
        ensure!(self.lost == 0, "{} datagrams were lost: {self:?}", self.lost);
        ensure!(
            self.longest < Duration::from_secs(1),
            "a connection was opened at the second attempt: {self:?}"
        );
        Ok(())
    }
}

/// An echo server on all the server's addresses. Its threads end with the process.
fn serve(bed: &Bed, family: Family) -> Result<()> {
    for index in 0..bed.shape().addresses {
        let address = SocketAddr::new(plan::server(family, index), PORT);
        let (listener, socket) =
            bed.server().enter(|| Ok((TcpListener::bind(address)?, UdpSocket::bind(address)?)))?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || echo(stream));
            }
        });
        thread::spawn(move || {
            let mut datagram = [0; 64];
            while let Ok((length, from)) = socket.recv_from(&mut datagram) {
                // A client that is gone needs no answer.
                let _ = socket.send_to(&datagram[..length], from);
            }
        });
    }
    Ok(())
}

fn echo(mut stream: TcpStream) -> IoResult<()> {
    let mut bytes = [0; 64];
    stream.set_nodelay(true)?;
    while stream.read_exact(&mut bytes).is_ok() {
        stream.write_all(&bytes)?;
    }
    Ok(())
}

fn connect(family: Family, number: u8) -> IoResult<TcpStream> {
    let to = SocketAddr::new(plan::server(family, number % 16 * 5 % 16), PORT);
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    let from: IpAddr = plan::client(family, number % 16);
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A question and its answer; gives the time it took.
fn exchange(stream: &mut TcpStream, number: u64) -> IoResult<Duration> {
    let asked = Instant::now();
    let mut question = [0; 64];
    question[..8].copy_from_slice(&number.to_be_bytes());
    stream.write_all(&question)?;
    let mut answer = [0; 64];
    stream.read_exact(&mut answer)?;
    match answer == question {
        true => Ok(asked.elapsed()),
        false => Err(Error::new(ErrorKind::InvalidData, "the answer has wrong bytes")),
    }
}

fn long(mut stream: TcpStream, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    while !stop.load(Relaxed) {
        match exchange(&mut stream, tally.answers) {
            Ok(time) => tally.longest = tally.longest.max(time),
            Err(error) => {
                tally.failures.push(format!("long connection after {} answers: {error}", tally.answers));
                return tally;
            }
        }
        tally.answers += 1;
        thread::sleep(PAUSE);
    }
    tally
}

fn short(client: &Namespace, family: Family, first: u8, stop: &AtomicBool) -> Tally {
    let inside = client.enter(|| {
        let mut tally = Tally::default();
        let mut number = first;
        while !stop.load(Relaxed) {
            number = number.wrapping_add(SHORT.0);
            let begun = Instant::now();
            match connect(family, number).and_then(|mut stream| exchange(&mut stream, u64::from(number))) {
                Ok(_) => tally.short += 1,
                Err(error) => tally.failures.push(format!("short connection {}: {error}", tally.short)),
            }
            tally.longest = tally.longest.max(begun.elapsed());
            thread::sleep(SHORT.1);
        }
        Ok(tally)
    });
    inside.unwrap_or_else(|error| Tally { failures: vec![format!("{error:#}")], ..Tally::default() })
}

fn datagrams(socket: &UdpSocket, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut number: u64 = 0;
    while !stop.load(Relaxed) {
        number += 1;
        let asked = Instant::now();
        let mut answer = [0; 64];
        let sent = socket.send(&number.to_be_bytes());
        match sent.and_then(|_| socket.recv(&mut answer)) {
            Ok(8) if answer[..8] == number.to_be_bytes() => tally.datagrams += 1,
            _ => tally.lost += 1,
        }
        tally.longest = tally.longest.max(asked.elapsed());
        thread::sleep(PAUSE);
    }
    tally
}
