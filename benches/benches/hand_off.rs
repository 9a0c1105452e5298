//! What it costs to give a packet to another core: a descriptor with what was parsed, through a
//! bounded queue of many producers, the bell rung after each.
//!
//! Two threads: CPU time of both together per packet, waiting (by yielding) excluded as far as the
//! kernel's clock can tell.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use crossbeam::queue::ArrayQueue;
use samepath_benches::{CpuTime, criterion, of_process};
use samepath_dataplane::limits::HANDOFF_RING;
use samepath_dataplane::worker::Work;
use samepath_dataplane::xsk::{Frame, Waker};

/// As many bytes as a worker really hands over.
type Parcel = [u8; size_of::<Work<Frame>>()];

const PARCEL: Parcel = [7; size_of::<Work<Frame>>()];

/// Packets per measured round of two threads.
const ROUND: usize = 32 * HANDOFF_RING;

/// A bounded queue under test: `true` / `Some` if it went through.
trait Queue: Sync {
    fn push(&self, parcel: Parcel) -> bool;
    fn pop(&self) -> Option<Parcel>;
}

impl Queue for ArrayQueue<Parcel> {
    fn push(&self, parcel: Parcel) -> bool {
        ArrayQueue::push(self, parcel).is_ok()
    }

    fn pop(&self) -> Option<Parcel> {
        ArrayQueue::pop(self)
    }
}

/// As `Handoff::give`: the receiver's bell is rung after every push.
struct Belled(ArrayQueue<Parcel>, Waker);

impl Queue for Belled {
    fn push(&self, parcel: Parcel) -> bool {
        let went = self.0.push(parcel).is_ok();
        self.1.ring();
        went
    }

    fn pop(&self) -> Option<Parcel> {
        self.0.pop()
    }
}

/// The simplest alternative.
struct Locked(Mutex<VecDeque<Parcel>>);

impl Queue for Locked {
    fn push(&self, parcel: Parcel) -> bool {
        let Ok(mut queue) = self.0.lock() else { return false };
        let room = queue.len() < HANDOFF_RING;
        if room {
            queue.push_back(parcel);
        }
        room
    }

    fn pop(&self) -> Option<Parcel> {
        self.0.lock().ok()?.pop_front()
    }
}

/// The other bounded queue of the same library.
struct Channel(crossbeam::channel::Sender<Parcel>, crossbeam::channel::Receiver<Parcel>);

impl Queue for Channel {
    fn push(&self, parcel: Parcel) -> bool {
        self.0.try_send(parcel).is_ok()
    }

    fn pop(&self) -> Option<Parcel> {
        self.1.try_recv().ok()
    }
}

fn belled() -> Belled {
    Belled(ArrayQueue::new(HANDOFF_RING), Waker::new().expect("an eventfd can be made"))
}

/// Pushes a burst of 64, pops it: what a packet costs without a second core.
fn one_thread(criterion: &mut Criterion<CpuTime>, name: &str, queue: &dyn Queue) {
    const BURST: u64 = 64;
    let mut group = criterion.benchmark_group("hand_off/one thread, bursts of 64");
    group.throughput(Throughput::Elements(BURST));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            for _ in 0..BURST {
                assert!(queue.push(black_box(PARCEL)), "the queue has room");
            }
            while let Some(parcel) = queue.pop() {
                black_box(parcel);
            }
        });
    });
    group.finish();
}

/// CPU time of `rounds` rounds of [`ROUND`] packets from this thread to another one.
fn carry(queue: &dyn Queue, rounds: u64) -> Duration {
    let packets = ROUND as u64 * rounds;
    let before = of_process();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut taken = 0;
            while taken < packets {
                match queue.pop() {
                    Some(parcel) => {
                        black_box(parcel);
                        taken += 1;
                    }
                    None => thread::yield_now(),
                }
            }
        });
        for _ in 0..packets {
            while !queue.push(black_box(PARCEL)) {
                thread::yield_now();
            }
        }
    });
    of_process().saturating_sub(before)
}

fn two_threads(criterion: &mut Criterion<CpuTime>, name: &str, queue: &dyn Queue) {
    let mut group = criterion.benchmark_group("hand_off/two threads, 131072 packets");
    group.sample_size(10).throughput(Throughput::Elements(ROUND as u64));
    group.bench_function(name, |bencher| bencher.iter_custom(|rounds| carry(queue, rounds)));
    group.finish();
}

/// Ringing a worker that is awake, and one that is about to sleep (with what it does to wake up).
fn bell(criterion: &mut Criterion<CpuTime>) {
    let bell = Waker::new().expect("an eventfd can be made");
    let mut group = criterion.benchmark_group("hand_off/bell");
    group.bench_function("receiver awake", |bencher| bencher.iter(|| black_box(&bell).ring()));
    group.bench_function("receiver asleep", |bencher| {
        bencher.iter(|| {
            bell.about_to_sleep();
            black_box(&bell).ring();
            bell.awake();
        });
    });
    group.finish();
}

fn main() {
    println!("a parcel has {} bytes", size_of::<Parcel>());
    let mut criterion = criterion();
    let (sender, receiver) = crossbeam::channel::bounded(HANDOFF_RING);
    let queues: [(&str, Arc<dyn Queue>); 4] = [
        ("ArrayQueue", Arc::new(ArrayQueue::new(HANDOFF_RING))),
        ("ArrayQueue and bell", Arc::new(belled())),
        ("crossbeam channel", Arc::new(Channel(sender, receiver))),
        ("Mutex of VecDeque", Arc::new(Locked(Mutex::new(VecDeque::with_capacity(HANDOFF_RING))))),
    ];
    for (name, queue) in &queues {
        one_thread(&mut criterion, name, queue.as_ref());
    }
    bell(&mut criterion);
    for (name, queue) in &queues {
        two_threads(&mut criterion, name, queue.as_ref());
    }
    criterion.final_summary();
}
