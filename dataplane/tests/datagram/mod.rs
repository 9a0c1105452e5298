//! Datagrams in fragments, and what a receiver makes of them.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::HashMap;
use std::net::IpAddr;

const MORE: u16 = 0x2000;

/// Numbers from a seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % limit as u64) as usize
    }

    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for at in (1..all.len()).rev() {
            all.swap(at, self.below(at + 1));
        }
    }
}

/// One UDP datagram.
#[derive(Clone, Debug)]
pub struct Datagram {
    pub from: (IpAddr, u16),
    pub to: (IpAddr, u16),
    pub id: u32,
    /// UDP header included.
    pub bytes: Vec<u8>,
}

impl Datagram {
    /// With `payload` bytes that say which one it is.
    pub fn new(from: (IpAddr, u16), to: (IpAddr, u16), id: u32, payload: usize) -> Self {
        let length = (8 + payload) as u16;
        let mut bytes = [from.1, to.1, length, 0].map(u16::to_be_bytes).concat();
        bytes.extend((0..payload).map(|at| (at * 31 + at / 251 + id as usize) as u8));
        Self { from, to, id, bytes }
    }

    /// Its fragments of at most `part` bytes, a multiple of 8, as frames.
    pub fn fragments(&self, part: usize) -> Vec<Vec<u8>> {
        let count = self.bytes.len().div_ceil(part);
        (0..count)
            .map(|at| {
                let data = &self.bytes[at * part..self.bytes.len().min((at + 1) * part)];
                self.fragment(at * part, data, at + 1 < count)
            })
            .collect()
    }

    /// Any fragment of it, right or wrong.
    pub fn fragment(&self, offset: usize, data: &[u8], more: bool) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        match (self.from.0, self.to.0) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let field = (offset / 8) as u16 | if more { MORE } else { 0 };
                let length = (20 + data.len()) as u16;
                frame.extend([8, 0]);
                frame.extend(
                    [0x4500, length, self.id as u16, field, 0x4011, 0].map(u16::to_be_bytes).concat(),
                );
                frame.extend([from.octets(), to.octets()].concat());
                let sum: u32 =
                    frame[14..].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
                let sum = (sum & 0xffff) + (sum >> 16);
                let sum = (sum & 0xffff) + (sum >> 16);
                frame[24..26].copy_from_slice(&(!sum as u16).to_be_bytes());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend((8 + data.len() as u16).to_be_bytes());
                frame.extend([44, 64]);
                frame.extend([from.octets(), to.octets()].concat());
                frame.extend([17, 0]);
                frame.extend((offset as u16 | u16::from(more)).to_be_bytes());
                frame.extend(self.id.to_be_bytes());
            }
            _ => unreachable!("one family"),
        }
        frame.extend(data);
        frame
    }
}

/// A packet as the receiver names it: source, destination, identification.
pub type Name = (IpAddr, IpAddr, u32);

/// Puts fragments together as strictly as RFC 5722 asks: two that overlap and are not copies spoil the packet.
#[derive(Default)]
pub struct Receiver {
    parts: HashMap<Name, Vec<(usize, Vec<u8>, bool)>>,
}

impl Receiver {
    pub fn take(&mut self, frame: &[u8]) {
        let (name, offset, more, data) = read(frame);
        let parts = self.parts.entry(name).or_default();
        let part = (offset, data.to_vec(), more);
        if !parts.contains(&part) {
            parts.push(part);
        }
    }

    /// The bytes of a packet, if all have come and none twice.
    pub fn whole(&self, name: &Name) -> Option<Vec<u8>> {
        let mut parts = self.parts.get(name)?.clone();
        parts.sort();
        let mut bytes = Vec::new();
        for (offset, data, _) in &parts {
            if *offset != bytes.len() {
                return None;
            }
            bytes.extend(data);
        }
        let ends = parts.iter().filter(|(_, _, more)| !more).count();
        (ends == 1 && !parts.last()?.2).then_some(bytes)
    }

    /// Fragments of a packet that came.
    pub fn count(&self, name: &Name) -> usize {
        self.parts.get(name).map_or(0, Vec::len)
    }
}

/// Name, offset, more, data.
pub fn read(frame: &[u8]) -> (Name, usize, bool, &[u8]) {
    let half = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    if half(12) == 0x0800 {
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
        let field = half(20);
        let name = (address(26), address(30), u32::from(half(18)));
        return (name, usize::from(field & 0x1fff) * 8, field & MORE != 0, &frame[34..]);
    }
    let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
    let field = half(56);
    let id = u32::from(half(58)) << 16 | u32::from(half(60));
    ((address(22), address(38), id), usize::from(field & !7), field & 1 != 0, &frame[62..])
}
