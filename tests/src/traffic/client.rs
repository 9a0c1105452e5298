//! Asks many times and counts.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::{REQUEST, Tally, answer_byte};

/// What to ask.
#[derive(Clone, Debug)]
pub struct Demand {
    /// Whom; exchange number i asks the i-th, in turn.
    pub to: Vec<SocketAddr>,
    /// From where; exchange number i uses the i-th, in turn. Must not be empty.
    pub from: Vec<IpAddr>,
    /// Exchanges in all.
    pub count: usize,
    /// Exchanges at a time.
    pub at_once: usize,
    /// Bytes of every answer.
    pub bytes: usize,
    /// Time an exchange may wait for the next bytes. No exchange is tried twice.
    pub patience: Duration,
    /// Exchanges begun per second, at most; as many as can be if there is no such number.
    pub per_second: Option<f64>,
}

/// One TCP connection per exchange: connect, ask, read the whole answer, both sides close.
pub fn tcp(demand: &Demand) -> Tally {
    tally(demand, tcp_exchange)
}

/// One UDP socket per exchange: a datagram there and the same one back.
pub fn udp(demand: &Demand) -> Tally {
    tally(demand, udp_exchange)
}

type Exchange = fn(&Demand, IpAddr, SocketAddr) -> Result<()>;

fn tally(demand: &Demand, exchange: Exchange) -> Tally {
    let started = Instant::now();
    let next = AtomicUsize::new(0);
    let mut total = Tally::default();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..demand.at_once.max(1))
            .map(|_| scope.spawn(|| take_turns(demand, started, &next, exchange)))
            .collect();
        for thread in threads {
            add(&mut total, thread.join().unwrap_or_default());
        }
    });
    // A thread that died lost its turns: what was not counted has failed.
    total.attempted = demand.count as u64;
    total.failed = total.attempted - total.ok;
    total.milliseconds = started.elapsed().as_millis() as u64;
    total
}

fn take_turns(demand: &Demand, started: Instant, next: &AtomicUsize, exchange: Exchange) -> Tally {
    let mut tally = Tally::default();
    loop {
        let turn = next.fetch_add(1, Relaxed);
        if turn >= demand.count {
            return tally;
        }
        let from = demand.from[turn % demand.from.len()];
        if let Some(rate) = demand.per_second {
            let due = Duration::from_secs_f64(turn as f64 / rate);
            thread::sleep(due.saturating_sub(started.elapsed()));
        }
        // Walks through all pairs of addresses, not only the diagonal.
        let to = demand.to[(turn / demand.from.len()) % demand.to.len()];
        match exchange(demand, from, to) {
            Ok(()) => tally.ok += 1,
            Err(error) => {
                tally.resets += u64::from(error.kind() == ErrorKind::ConnectionReset);
                *tally.errors.entry(format!("{from} to {to}: {error}")).or_default() += 1;
            }
        }
    }
}

fn add(total: &mut Tally, part: Tally) {
    total.ok += part.ok;
    total.resets += part.resets;
    for (error, count) in part.errors {
        *total.errors.entry(error).or_default() += count;
    }
}

fn tcp_exchange(demand: &Demand, from: IpAddr, to: SocketAddr) -> Result<()> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), demand.patience)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(demand.patience))?;
    let mut request = [0; REQUEST];
    request[..4].copy_from_slice(&(demand.bytes as u32).to_be_bytes());
    stream.write_all(&request)?;
    let mut answer = Vec::with_capacity(demand.bytes);
    stream.read_to_end(&mut answer)?;
    if answer.len() != demand.bytes {
        return Err(Error::new(ErrorKind::UnexpectedEof, "the answer is cut short"));
    }
    check(&answer)
}

fn udp_exchange(demand: &Demand, from: IpAddr, to: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(demand.patience))?;
    let request: Vec<u8> = (0..demand.bytes).map(answer_byte).collect();
    socket.send(&request)?;
    let mut answer = vec![0; demand.bytes + 1];
    let length = socket.recv(&mut answer)?;
    if length != demand.bytes {
        return Err(Error::new(ErrorKind::InvalidData, "the answer has another length"));
    }
    check(&answer[..length])
}

fn check(answer: &[u8]) -> Result<()> {
    match answer.iter().enumerate().all(|(index, &byte)| byte == answer_byte(index)) {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::InvalidData, "the answer has wrong bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::server;

    #[test]
    fn every_exchange_with_nobody_there_fails_and_with_a_server_none() {
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        let free = std::net::TcpListener::bind((here, 0)).unwrap().local_addr().unwrap();
        let demand = Demand {
            to: vec![free],
            from: vec![here],
            count: 20,
            at_once: 4,
            bytes: 1000,
            patience: Duration::from_secs(2),
            per_second: None,
        };
        let refused = tcp(&demand);
        assert_eq!((refused.attempted, refused.ok, refused.failed), (20, 0, 20), "{refused:?}");
        thread::spawn(move || server::serve(&[here], free.port()));
        crate::wait::until_true("the server answers", Duration::from_secs(5), || {
            Ok(tcp(&Demand { count: 1, ..demand.clone() }).ok == 1)
        })
        .unwrap();
        assert_eq!(tcp(&demand).ok, 20);
        assert_eq!(udp(&demand).ok, 20);
    }
}
