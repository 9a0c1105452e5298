//! Which flow a fragment belongs to: the first fragment teaches (addresses, protocol, id) → ports, later
//! ones follow it. Bounded; the oldest train makes room for a new one.

use hashbrown::HashMap;

use crate::clock::NowMs;
use crate::flow::{Direction, FlowKey};
use crate::limits::{FRAGMENT_MS, FRAGMENT_TRAINS};
use crate::wire::packet::Packet;

type TrainKey = (FlowKey, Direction, u32);

/// Fragment trains this core knows.
#[derive(Debug)]
pub(super) struct Trains {
    flows: HashMap<TrainKey, Train, ahash::RandomState>,
    order: std::collections::VecDeque<TrainKey>,
}

#[derive(Debug, Clone, Copy)]
struct Train {
    key: FlowKey,
    direction: Direction,
    until: NowMs,
}

impl Default for Trains {
    fn default() -> Self {
        Self {
            flows: HashMap::with_capacity_and_hasher(FRAGMENT_TRAINS * 2, ahash::RandomState::new()),
            order: std::collections::VecDeque::with_capacity(FRAGMENT_TRAINS),
        }
    }
}

impl Trains {
    /// The flow of a fragment: learned from a first one, looked up for a later one.
    pub(super) fn follow(&mut self, packet: &Packet, now: NowMs) -> Option<(FlowKey, Direction)> {
        let fragment = packet.fragment?;
        let train = (packet.key, packet.direction, fragment.id);
        if fragment.first {
            let (key, direction) = packet.key_with_ports();
            self.learn(train, Train { key, direction, until: now.plus(FRAGMENT_MS) });
            return Some((key, direction));
        }
        let known = self.flows.get(&train)?;
        (known.until >= now).then_some((known.key, known.direction))
    }

    fn learn(&mut self, train: TrainKey, known: Train) {
        if self.flows.insert(train, known).is_some() {
            return;
        }
        if self.order.len() == FRAGMENT_TRAINS
            && let Some(oldest) = self.order.pop_front()
        {
            self.flows.remove(&oldest);
        }
        self.order.push_back(train);
    }
}
