//! What it costs to put a tunnel header in front of a packet: by moving the packet inside its frame
//! (what `XskIo::grow_front` does), and, for comparison, where the room is already there.
//!
//! `warm`: one burst of 64 frames again and again. `spread`: 16,384 frames of 2 KiB, more than the
//! second-level cache holds.

use std::hint::black_box;

use criterion::measurement::Measurement;
use criterion::{BenchmarkGroup, Throughput};
use samepath_benches::criterion;

/// Bytes of a frame.
const FRAME: usize = 2048;

/// Bytes in front of a received packet (`XDP_PACKET_HEADROOM`).
const HEADROOM: usize = 256;

/// Bytes of the tunnel header over IPv4.
const HEADER: usize = 90;

/// Frames used one after the other, so that caches see what a worker's do.
struct Frames {
    memory: Vec<u8>,
    next: usize,
}

impl Frames {
    fn new(count: usize) -> Self {
        Self { memory: vec![0x5a; count * FRAME], next: 0 }
    }

    fn next(&mut self) -> &mut [u8] {
        let at = self.next;
        self.next = (at + FRAME) % self.memory.len();
        &mut self.memory[at..at + FRAME]
    }
}

/// What a worker has read before it tunnels a packet: its headers.
fn read_headers(frame: &[u8]) {
    black_box(frame[HEADROOM..HEADROOM + 54].iter().fold(0u8, |sum, byte| sum ^ byte));
}

/// The packet keeps its place; the header is written in front of it.
fn without_move(frame: &mut [u8], length: usize, header: &[u8; HEADER]) {
    read_headers(frame);
    frame[HEADROOM - HEADER..HEADROOM].copy_from_slice(header);
    black_box(&frame[HEADROOM..HEADROOM + length]);
}

/// The packet moves back, the header takes its place: descriptors cannot be moved.
fn with_move(frame: &mut [u8], length: usize, header: &[u8; HEADER]) {
    read_headers(frame);
    frame.copy_within(HEADROOM..HEADROOM + length, HEADROOM + HEADER);
    frame[HEADROOM..HEADROOM + HEADER].copy_from_slice(header);
    black_box(&frame[HEADROOM..HEADROOM + HEADER + length]);
}

fn measure<M: Measurement>(
    group: &mut BenchmarkGroup<'_, M>,
    name: &str,
    count: usize,
    length: usize,
    put: fn(&mut [u8], usize, &[u8; HEADER]),
) {
    let mut frames = Frames::new(count);
    let header = [0xa5; HEADER];
    group.throughput(Throughput::Bytes(length as u64));
    group.bench_function(format!("{name}/{length}"), |bencher| {
        bencher.iter(|| put(frames.next(), black_box(length), black_box(&header)));
    });
}

fn main() {
    let mut criterion = criterion();
    for (caches, count) in [("warm", 64), ("spread", 16_384)] {
        let mut group = criterion.benchmark_group(format!("tunnel_header/{caches}"));
        for length in [64, 512, 1500] {
            measure(&mut group, "room is there", count, length, without_move);
            measure(&mut group, "packet moves", count, length, with_move);
        }
        group.finish();
    }
    criterion.final_summary();
}
