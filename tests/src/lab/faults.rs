//! What goes wrong, and what the hosts do meanwhile.

use super::packets::Body;
use super::world::World;

/// Longest pause, as in the issue: a node sleeps ten seconds and wakes with its old view.
const PAUSE_MS: u64 = 10_000;

impl World {
    /// Hosts and faults of one step.
    pub fn stir(&mut self) {
        self.wake();
        for kind in 0..self.plan.faults.len() {
            if self.random.within(0..10_000) < self.plan.faults[kind] {
                self.fault(kind);
            }
        }
        if self.random.within(0..10_000) < self.plan.floods {
            self.flood();
        }
        self.talk();
    }

    /// Hosts say something new, or again what was not answered.
    pub fn talk(&mut self) {
        for flow in 0..self.flows.len() {
            if self.flows[flow].begun.is_none() && self.random.chance(60) {
                self.begin(flow);
            }
            self.repeat(flow);
            if self.random.chance(60) {
                let end = self.random.within(0..2) as usize;
                let body = self.flows[flow].say(end, self.now);
                self.send_some(flow, end, body);
            }
            if self.random.chance(2) {
                let end = self.random.within(0..2) as usize;
                let body = self.flows[flow].close(end, self.now);
                self.send_some(flow, end, body);
            }
        }
    }

    fn begin(&mut self, flow: usize) {
        let Some(body) = self.flows[flow].begin(self.now) else { return };
        self.send(flow, 0, body);
        // The same first packet by another way, or the other end's at the same moment.
        if self.random.chance(self.plan.twice) {
            let end = if body == Body::Udp { self.random.within(0..2) as usize } else { 0 };
            let node = self.random.within(1..u64::from(self.plan.nodes) + 1) as u16;
            self.send_by(node, flow, end, body);
        }
    }

    /// What was not acknowledged in time is sent again.
    pub fn repeat(&mut self, flow: usize) {
        for end in 0..2 {
            let body = self.flows[flow].again(end, self.now);
            self.send_some(flow, end, body);
        }
    }

    /// Sends what a conversation gave, if it gave anything.
    pub fn send_some(&mut self, flow: usize, end: usize, body: Option<Body>) {
        if let Some(body) = body {
            self.send(flow, end, body);
        }
    }

    /// Pauses, cuts and absences whose time is over end.
    pub fn wake(&mut self) {
        let (nodes, log, now) = (self.plan.nodes, self.plan.log, self.now);
        for node in &mut self.nodes {
            let id = node.id;
            if node.paused_until.take_if(|until| *until <= now).is_some() {
                self.story.add(self.step, now, || format!("n{id} wakes"));
            }
            if node.starts_at.take_if(|at| *at <= now).is_some() {
                node.start(nodes, log, now);
                self.story.add(self.step, now, || format!("n{id} starts"));
            }
        }
        if self.mends_at.take_if(|at| *at <= now).is_some() {
            self.network.heal();
            self.story.add(self.step, now, || "cuts are mended".into());
        }
    }

    fn fault(&mut self, kind: usize) {
        let id = self.random.within(1..u64::from(self.plan.nodes) + 1) as u16;
        match kind {
            0 => {
                let away = self.random.within(400..4_000);
                self.crash(id, away);
            }
            1 => {
                let away = self.random.within(1..200);
                self.crash(id, away);
            }
            2 => self.pause(id),
            3..=5 | 7 => self.cut(kind, id),
            _ => self.weigh(id),
        }
    }

    fn crash(&mut self, id: u16, away_ms: u64) {
        let starts_at = self.now + away_ms;
        let node = self.node_mut(id);
        if node.process.take().is_some() {
            node.starts_at = Some(starts_at);
            node.paused_until = None;
            self.story.add(self.step, self.now, || format!("n{id} crashes for {away_ms} ms"));
        }
    }

    fn pause(&mut self, id: u16) {
        let ms = if self.random.chance(200) { PAUSE_MS } else { self.random.within(50..1_500) };
        let until = self.now + ms;
        let node = self.node_mut(id);
        if node.is_awake() {
            node.paused_until = Some(until);
            self.story.add(self.step, self.now, || format!("n{id} sleeps for {ms} ms"));
        }
    }

    /// Tunnel, control channel or both between one node and some others, one way or both.
    fn cut(&mut self, kind: usize, id: u16) {
        let ms = self.random.within(20..2_000);
        let both_ways = kind == 5 || self.random.chance(500);
        let one = usize::from(id);
        for other in 1..=usize::from(self.plan.nodes) {
            if other == one || self.random.chance(400) {
                continue;
            }
            for (from, to) in [(one, other), (other, one)] {
                if from == one || both_ways {
                    self.network.tunnel_cut[from][to] |= kind != 4;
                    self.network.control_cut[from][to] |= kind != 3;
                }
            }
        }
        self.mends_at = Some(self.mends_at.unwrap_or(0).max(self.now + ms));
        let what = ["tunnel", "control", "both", "", "both"][kind - 3];
        self.story
            .add(self.step, self.now, || format!("n{id} is cut off ({what}, both ways {both_ways}) {ms} ms"));
    }

    fn weigh(&mut self, id: u16) {
        let weight = self.random.within(0..3) as u8;
        let drains = weight == 0 && self.random.chance(500);
        if let Some(process) = &mut self.node_mut(id).process {
            process.control.weight = weight;
            process.control.draining = drains;
            self.story.add(self.step, self.now, || format!("n{id} weighs {weight}, drains: {drains}"));
        }
    }

    fn flood(&mut self) {
        let id = self.random.within(1..u64::from(self.plan.nodes) + 1) as u16;
        let until = self.now + self.random.within(5..200);
        let node = self.node_mut(id);
        node.control_asleep_until = until;
        if let Some(process) = &node.process {
            process.flood_outbox();
            self.story.add(self.step, self.now, || format!("n{id}: the outbox is full"));
        }
    }
}
