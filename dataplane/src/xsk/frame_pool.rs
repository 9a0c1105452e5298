//! Free frames: a private stock per worker, and a depot through which stocks even out.
//!
//! A frame received by one worker may be sent, and so come free, at another. Without the depot the
//! one would run dry while the other hoards.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::limits::DEPOT_BATCH;

/// Free frames common to all workers of the process.
#[derive(Debug)]
pub struct Depot<D> {
    queue: Arc<ArrayQueue<D>>,
}

impl<D> Clone for Depot<D> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<D> Depot<D> {
    /// A depot with room for every frame there is.
    pub fn new(frames: usize) -> Self {
        Self { queue: Arc::new(ArrayQueue::new(frames.max(1))) }
    }

    /// Frames in the depot now.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// True if no frame is in the depot now.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// One worker's free frames.
#[derive(Debug)]
pub(super) struct Stock<D> {
    free: Vec<D>,
    high_water: usize,
    depot: Depot<D>,
}

impl<D> Stock<D> {
    /// A stock that gives what it has above `high_water` to the depot.
    pub(super) fn new(free: Vec<D>, high_water: usize, depot: Depot<D>, frames: usize) -> Self {
        let mut stock = Self { free, high_water, depot };
        stock.free.reserve(frames - stock.free.len().min(frames));
        stock
    }

    pub(super) fn len(&self) -> usize {
        self.free.len()
    }

    pub(super) fn put(&mut self, frame: D) {
        self.free.push(frame);
    }

    pub(super) fn take(&mut self) -> Option<D> {
        self.free.pop().or_else(|| self.depot.queue.pop())
    }

    /// The last `count` frames, if there are as many.
    pub(super) fn last(&self, count: usize) -> Option<&[D]> {
        self.free.len().checked_sub(count).map(|start| &self.free[start..])
    }

    /// Forgets the last `count` frames: somebody else has them now.
    pub(super) fn gave(&mut self, count: usize) {
        self.free.truncate(self.free.len() - count);
    }

    /// Evens out with the depot: gives what is too much, takes a batch if `wanted` exceeds the stock.
    pub(super) fn level(&mut self, wanted: usize) {
        while self.free.len() > self.high_water {
            let Some(frame) = self.free.pop() else { break };
            if let Err(frame) = self.depot.queue.push(frame) {
                self.free.push(frame);
                break;
            }
        }
        if self.free.len() < wanted {
            for _ in 0..DEPOT_BATCH.max(wanted - self.free.len()) {
                let Some(frame) = self.depot.queue.pop() else { break };
                self.free.push(frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_worker_hoards_another_can_use() {
        let depot = Depot::new(1000);
        let mut rich = Stock::new((0..1000).collect(), 100, depot.clone(), 1000);
        let mut poor = Stock::new(Vec::new(), 100, depot.clone(), 1000);
        rich.level(0);
        assert_eq!(rich.len(), 100);
        assert_eq!(depot.len(), 900);
        poor.level(64);
        assert!(poor.len() >= 64);
        assert_eq!(rich.len() + poor.len() + depot.len(), 1000);
    }
}
