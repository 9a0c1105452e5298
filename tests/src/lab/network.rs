//! What lies between nodes and hosts: packets under way, and what happens to them there.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::plan::Plan;
use super::random::Random;

/// Where a packet will be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// At an interface of a node.
    Node {
        /// The node.
        node: u16,
        /// The interface.
        port: u8,
        /// The node that tunnelled it; 0 from a host.
        from: u16,
    },
    /// At the end of its way.
    Host,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct UnderWay {
    due: u64,
    order: u64,
    place: Place,
    bytes: Vec<u8>,
}

/// Which ways are cut, by node number: `[from][to]`.
pub type Cuts = [[bool; 8]; 8];

/// Packets under way.
#[derive(Debug, Default)]
pub struct Network {
    heap: BinaryHeap<Reverse<UnderWay>>,
    order: u64,
    /// Cut ways of the tunnel.
    pub tunnel_cut: Cuts,
    /// Cut ways of the control channel.
    pub control_cut: Cuts,
}

impl Network {
    /// Sends a packet to a place; `delay_ms` from now.
    pub fn send(&mut self, place: Place, bytes: Vec<u8>, due: u64) {
        self.order += 1;
        self.heap.push(Reverse(UnderWay { due, order: self.order, place, bytes }));
    }

    /// Carries a tunnel packet; says how many copies are under way.
    pub fn tunnel(
        &mut self,
        (from, to, port): (u16, u16, u8),
        bytes: Vec<u8>,
        now: u64,
        plan: &Plan,
        random: &mut Random,
    ) -> u32 {
        if self.tunnel_cut[usize::from(from)][usize::from(to)] || random.chance(plan.loss) {
            return 0;
        }
        let place = Place::Node { node: to, port, from };
        let copies = 1 + u32::from(random.chance(plan.duplication));
        for _ in 0..copies {
            let slow = if random.chance(plan.slow) { plan.delay_ms * 4 } else { plan.delay_ms };
            self.send(place.clone(), bytes.clone(), now + random.within(0..slow + 1));
        }
        copies
    }

    /// The next packet that has arrived by now.
    pub fn arrived(&mut self, now: u64) -> Option<(Place, Vec<u8>)> {
        if self.heap.peek()?.0.due > now {
            return None;
        }
        self.heap.pop().map(|Reverse(packet)| (packet.place, packet.bytes))
    }

    /// Something is cut.
    pub fn is_cut(&self) -> bool {
        self.tunnel_cut.iter().chain(&self.control_cut).flatten().any(|&cut| cut)
    }

    /// Everything is mended.
    pub fn heal(&mut self) {
        self.tunnel_cut = Cuts::default();
        self.control_cut = Cuts::default();
    }
}
