//! What a seed will do: which kinds of faults, how often, how bad. A seed has few kinds, so that each
//! is met alone as well as with others.

use super::random::Random;

/// One seed's mix.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Nodes, 2 to 5.
    pub nodes: u16,
    /// Flows.
    pub flows: usize,
    /// Steps with faults.
    pub steps: u64,
    /// Tunnel packets lost, per mille.
    pub loss: u64,
    /// Tunnel packets duplicated, per mille.
    pub duplication: u64,
    /// Longest ordinary delay of a tunnel packet, ms.
    pub delay_ms: u64,
    /// Tunnel packets that take up to four times as long, per mille.
    pub slow: u64,
    /// Turns control sleeps through, per mille.
    pub control_sleeps: u64,
    /// Times a worker's outbox is filled up while control sleeps, per 10,000 steps.
    pub floods: u64,
    /// Changes the replication log keeps.
    pub log: usize,
    /// Packets that take another path than their flow's, per mille.
    pub stray: u64,
    /// First packets that are sent at two nodes at once, from either end, per mille.
    pub twice: u64,
    /// Faults of each kind, per 10,000 steps: crash, restart soon, pause, cut of the tunnel, cut of the control
    /// channel, partition, weight, leave, replication and tunnel one way.
    pub faults: [u64; 8],
    /// Clocks run up to one per cent fast or slow.
    pub drift: bool,
}

impl Plan {
    /// Drawn from the seed's numbers.
    pub fn draw(random: &mut Random) -> Self {
        let mut faults = [0; 8];
        for _ in 0..random.within(0..4) {
            let kind = random.within(0..8) as usize;
            faults[kind] = random.pick(&[20, 60, 150]);
        }
        Self {
            nodes: random.within(2..6) as u16,
            flows: random.within(3..10) as usize,
            steps: random.within(200..500),
            loss: random.pick(&[0, 0, 10, 100]),
            duplication: random.pick(&[0, 0, 20, 200]),
            delay_ms: random.pick(&[0, 1, 3, 20]),
            slow: random.pick(&[0, 100]),
            control_sleeps: random.pick(&[0, 300, 900]),
            floods: random.pick(&[0, 0, 100]),
            log: random.pick(&[4096, 16]),
            stray: random.pick(&[0, 50, 500]),
            twice: random.pick(&[0, 300]),
            faults,
            drift: random.chance(500),
        }
    }

    /// The same cluster with a network that harms nothing.
    pub fn calm(&self) -> Self {
        Self {
            loss: 0,
            duplication: 0,
            delay_ms: 1,
            slow: 0,
            control_sleeps: 0,
            floods: 0,
            faults: [0; 8],
            ..self.clone()
        }
    }
}
