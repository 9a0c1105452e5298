//! Descriptors on their way between cores: bounded rings, no byte is copied because all workers share
//! one UMEM. See `docs/decisions/0002-hand-off.md`.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::Worker;
use crate::clock::NowMs;
use crate::limits::HANDOFF_RING;
use crate::xsk::{Io, Waker};

/// What one worker asks of another.
#[derive(Debug)]
pub enum Work<F> {
    /// Process a packet: you own its flow.
    Packet {
        /// The packet.
        frame: F,
        /// The queue it came by, while somebody looks on.
        queue: Option<u16>,
    },
    /// Process a fragment: you own the flow of its train, whose source and destination ports these are.
    Fragment {
        /// The fragment.
        frame: F,
        /// Source and destination port.
        ports: (u16, u16),
    },
    /// Send a finished frame out of a port I have no ring for.
    Send {
        /// The port.
        port: u8,
        /// The frame.
        frame: F,
    },
}

impl<F> Work<F> {
    /// The frame, when the ring was full.
    pub(crate) fn into_frame(self) -> F {
        match self {
            Work::Packet { frame, .. } | Work::Fragment { frame, .. } | Work::Send { frame, .. } => frame,
        }
    }
}

/// One worker's end of the hand-off rings.
#[derive(Debug)]
pub struct Handoff<F> {
    me: usize,
    rings: Vec<Arc<ArrayQueue<Work<F>>>>,
    wakers: Vec<Arc<Waker>>,
}

impl<F> Handoff<F> {
    /// The ends of all workers of a node; the wakers are shared with control.
    pub fn mesh(wakers: &[Arc<Waker>]) -> Vec<Self> {
        let rings: Vec<_> = wakers.iter().map(|_| Arc::new(ArrayQueue::new(HANDOFF_RING))).collect();
        (0..wakers.len()).map(|me| Self { me, rings: rings.clone(), wakers: wakers.to_vec() }).collect()
    }

    /// Workers of the node.
    pub fn workers(&self) -> usize {
        self.rings.len()
    }

    /// This worker's bell.
    pub fn my_waker(&self) -> Arc<Waker> {
        self.wakers[self.me].clone()
    }

    /// A view of the frames waiting in this worker's ring, for the frame account.
    pub fn waiting(&self) -> usize {
        self.rings[self.me].len()
    }

    /// True if nothing waits for this worker.
    pub fn is_empty(&self) -> bool {
        self.rings[self.me].is_empty()
    }

    /// Gives work to another worker; gives it back if that worker's ring is full.
    pub(crate) fn give(&self, core: usize, work: Work<F>) -> Result<(), Work<F>> {
        self.rings[core].push(work)?;
        self.wakers[core].ring();
        Ok(())
    }

    pub(crate) fn take(&self) -> Option<Work<F>> {
        self.rings[self.me].pop()
    }
}

impl<I: Io> Worker<I> {
    /// Takes what other cores handed over; returns how much. Packets between others are worked on as bursts.
    pub(super) fn take_handed_over(&mut self, now: NowMs) -> usize {
        let mut taken = 0;
        while taken < self.batch * 2 {
            let Some(work) = self.handoff.take() else { break };
            taken += 1;
            match work {
                Work::Packet { frame, queue } => {
                    self.burst.push(frame);
                    self.note_queue(queue);
                    continue;
                }
                Work::Fragment { frame, ports } => {
                    self.run_burst(true, now);
                    self.take_fragment(frame, ports, now);
                }
                Work::Send { port, frame } => self.send_here(port, frame),
            }
        }
        self.run_burst(true, now);
        self.counters.handoff_rx.add(taken as u64);
        taken
    }
}
