//! The replication log: the changes peers may still need, encoded once, oldest first.
//!
//! Kept in chunks of one frame, so that a frame is one copy and forgetting is one step.

use std::collections::VecDeque;

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::wire::record::Record;

use super::limits::{FRAME_BYTES, FRAME_RECORDS, RECORD_MAX};

/// A bounded ring of encoded records with sequence numbers from 1.
#[derive(Debug)]
pub struct Log {
    chunks: VecDeque<Chunk>,
    next: u64,
    held: usize,
    capacity: usize,
    chunk_records: usize,
}

#[derive(Debug)]
struct Chunk {
    first: u64,
    base: NowMs,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// Where a record ends in its chunk, and when it came, in ms after the chunk's first.
#[derive(Clone, Copy, Debug)]
struct Entry {
    end: u32,
    at: u32,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
}

/// Records that lie behind one another in the log, already encoded.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Run<'a> {
    /// Sequence number of the first.
    pub first: u64,
    /// How many, at least 1 and at most [`FRAME_RECORDS`].
    pub count: u16,
    /// Their bytes.
    pub bytes: &'a [u8],
}

impl Log {
    /// An empty log that keeps at most `capacity` records (at least 1).
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            chunks: VecDeque::new(),
            next: 1,
            held: 0,
            capacity,
            // An overflow forgets a chunk: an eighth of a small log, not all of it.
            chunk_records: (capacity / 8).clamp(1, FRAME_RECORDS),
        }
    }

    /// Appends a record, with the sequence number [`Self::next`] named. A full log forgets its
    /// oldest chunk. True if a chunk was begun: time to [`Self::trim`].
    pub fn push(&mut self, record: &Record, now: NowMs) -> bool {
        if self.held == self.capacity {
            self.forget_oldest();
        }
        let room = self.chunks.back().is_some_and(|chunk| {
            chunk.entries.len() < self.chunk_records && chunk.bytes.len() + RECORD_MAX <= FRAME_BYTES
        });
        if !room {
            self.chunks.push_back(Chunk {
                first: self.next,
                base: now,
                bytes: Vec::new(),
                entries: Vec::new(),
            });
        }
        if let Some(chunk) = self.chunks.back_mut() {
            record.encode(&mut chunk.bytes);
            let at = now.since(chunk.base).min(u32::MAX.into()) as u32;
            chunk.entries.push(Entry { end: chunk.bytes.len() as u32, at });
        }
        self.held += 1;
        self.next += 1;
        !room
    }

    /// Sequence number of the oldest record held; of the next one if none is.
    pub fn first(&self) -> u64 {
        self.chunks.front().map_or(self.next, |chunk| chunk.first)
    }

    /// Sequence number the next record will get.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Records held.
    pub fn len(&self) -> usize {
        self.held
    }

    /// True if no record is held.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Records from `from` on and below `until`, at most one frame of them. `None` if there are none
    /// (or `from` is forgotten).
    pub fn run(&self, from: u64, until: u64) -> Option<Run<'_>> {
        let chunk = self.chunk_of(from)?;
        let skip = (from - chunk.first) as usize;
        let until = (until.min(chunk.end()).checked_sub(chunk.first)?) as usize;
        let last = chunk.entries[..until].get(skip..)?.last()?;
        let start = if skip == 0 { 0 } else { chunk.entries[skip - 1].end as usize };
        Some(Run { first: from, count: (until - skip) as u16, bytes: &chunk.bytes[start..last.end as usize] })
    }

    /// Age of a record in ms; 0 for one not yet written, that of the oldest for a forgotten one.
    pub fn age_ms(&self, sequence: u64, now: NowMs) -> u64 {
        let sequence = sequence.max(self.first());
        self.chunk_of(sequence).map_or(0, |chunk| {
            let entry = &chunk.entries[(sequence - chunk.first) as usize];
            now.since(chunk.base.plus(entry.at.into()))
        })
    }

    /// Forgets chunks nobody needs: all of whose records are below `below`.
    pub fn trim(&mut self, below: u64) {
        while self.chunks.front().is_some_and(|chunk| chunk.end() <= below) {
            self.forget_oldest();
        }
    }

    fn chunk_of(&self, sequence: u64) -> Option<&Chunk> {
        let index = self.chunks.partition_point(|chunk| chunk.end() <= sequence);
        self.chunks.get(index).filter(|chunk| chunk.first <= sequence)
    }

    fn forget_oldest(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.held -= chunk.entries.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicate::tests::record;

    fn filled(capacity: usize, records: u16) -> Log {
        let mut log = Log::new(capacity);
        for n in 0..records {
            log.push(&record(n, 1), NowMs(1000 + u64::from(n)));
        }
        log
    }

    fn read(run: &Run<'_>) -> Vec<u16> {
        let mut bytes = run.bytes;
        let numbers = (0..run.count).map(|_| Record::decode(&mut bytes).unwrap().key.lo_port);
        let numbers: Vec<u16> = numbers.collect();
        assert!(bytes.is_empty());
        numbers
    }

    #[test]
    fn every_start_and_end_reads_the_right_records() {
        let log = filled(64, 40);
        for from in 1..=40 {
            for until in from + 1..=41 {
                let mut at = from;
                let mut numbers = Vec::new();
                while let Some(run) = log.run(at, until) {
                    assert_eq!(run.first, at);
                    numbers.extend(read(&run));
                    at += u64::from(run.count);
                }
                let expected: Vec<u16> = (from as u16 - 1..until as u16 - 1).collect();
                assert_eq!(numbers, expected);
            }
        }
        assert_eq!(log.run(41, 99), None);
        assert_eq!(log.run(7, 7), None);
        assert_eq!(log.run(7, 3), None);
    }

    #[test]
    fn full_log_forgets_the_oldest() {
        let log = filled(16, 100);
        assert!(log.len() <= 16 && log.len() > 8, "holds {}", log.len());
        assert_eq!(log.next(), 101);
        assert_eq!(log.first(), 101 - log.len() as u64);
        assert_eq!(log.run(log.first() - 1, 101), None);
        assert_eq!(read(&log.run(log.first(), 101).unwrap())[0], log.first() as u16 - 1);
    }

    #[test]
    fn trim_keeps_what_is_not_acknowledged() {
        let mut log = filled(64, 40);
        log.trim(20);
        assert!(log.first() <= 20 && log.first() > 20 - 8);
        log.trim(41);
        assert!(log.is_empty());
        assert_eq!((log.first(), log.next()), (41, 41));
    }

    #[test]
    fn age_is_that_of_the_record() {
        let log = filled(64, 40);
        assert_eq!(log.age_ms(1, NowMs(1100)), 100);
        assert_eq!(log.age_ms(31, NowMs(1100)), 70);
        assert_eq!(log.age_ms(41, NowMs(1100)), 0);
        let log = filled(16, 100);
        assert_eq!(log.age_ms(1, NowMs(1200)), 201 - log.first());
    }

    #[test]
    fn a_run_fits_a_frame() {
        let log = filled(1 << 16, 5000);
        let run = log.run(1, log.next()).unwrap();
        assert!(run.bytes.len() <= FRAME_BYTES && usize::from(run.count) <= FRAME_RECORDS);
        assert!(run.count > 500, "frames are well filled: {}", run.count);
    }
}
