//! Several machines in one thread, from a seed: datagrams are lost and late, paths are cut one way or both, nodes
//! sleep, die and start again.

use std::collections::BTreeSet;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use samepath_dataplane::clock::NowMs;
use samepath_dataplane::counters::Told;
use samepath_dataplane::flow::NodeId;

use super::{Membership, MembershipConfig, Standing};

const STEP_MS: u64 = 5;
const TIMEOUT_MS: u64 = 800;
const HELLO_MS: u64 = 100;
/// Long enough for anything to settle.
const SETTLED_MS: u64 = 4_000;
const SEEDS: u64 = 12;

enum Mail {
    Hello(Told),
    Datagram(Vec<u8>),
}

struct Cluster {
    now: u64,
    rng: SmallRng,
    nodes: Vec<Option<Membership>>,
    mail: Vec<(u64, u16, u16, Mail)>,
    /// Ways on which the tunnel, or the control channel, carries nothing: (from, to).
    no_tunnel: BTreeSet<(u16, u16)>,
    no_control: BTreeSet<(u16, u16)>,
    asleep: BTreeSet<u16>,
    /// Datagrams lost, of a hundred.
    loss: u32,
    quorum: usize,
}

impl Cluster {
    fn new(count: u16, seed: u64) -> Self {
        Self::with_quorum(count, seed, 0)
    }

    fn with_quorum(count: u16, seed: u64, quorum: usize) -> Self {
        let mut cluster = Self {
            now: 10_000,
            rng: SmallRng::seed_from_u64(seed),
            nodes: (0..count).map(|_| None).collect(),
            mail: Vec::new(),
            no_tunnel: BTreeSet::new(),
            no_control: BTreeSet::new(),
            asleep: BTreeSet::new(),
            loss: 5,
            quorum,
        };
        for node in 1..=count {
            cluster.start(node);
        }
        cluster.pass(SETTLED_MS);
        cluster
    }

    fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.nodes.len() as u16
    }

    fn start(&mut self, node: u16) {
        let peers: Vec<NodeId> = self.numbers().filter(|&other| other != node).map(NodeId).collect();
        let mut machine = Membership::new(MembershipConfig {
            node: NodeId(node),
            peers: peers.clone(),
            started: self.now,
            timeout_ms: TIMEOUT_MS,
            hello_interval_ms: HELLO_MS,
            quorum: self.quorum,
            seed: self.rng.random(),
        });
        machine.set_weight(1);
        peers.iter().for_each(|&peer| machine.evidence_mut().connected(peer));
        self.nodes[usize::from(node) - 1] = Some(machine);
    }

    fn kill(&mut self, node: u16) {
        self.nodes[usize::from(node) - 1] = None;
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.step();
        }
    }

    fn step(&mut self) {
        self.now += STEP_MS;
        let now = NowMs(self.now);
        let due: Vec<_> = self.mail.extract_if(.., |mail| mail.0 <= self.now).collect();
        for (at, from, to, mail) in due {
            let asleep = self.asleep.contains(&to);
            let Some(machine) = &mut self.nodes[usize::from(to) - 1] else { continue };
            match mail {
                // Rings and sockets keep what comes while a node sleeps.
                mail if asleep => self.mail.push((at, from, to, mail)),
                Mail::Hello(told) => machine.handle_hello(NodeId(from), now, told),
                Mail::Datagram(bytes) => machine.handle_message(NodeId(from), &bytes, now),
            }
        }
        for node in self.numbers() {
            self.run(node);
        }
    }

    fn run(&mut self, node: u16) {
        let hello = self.now.is_multiple_of(HELLO_MS);
        let others: Vec<u16> = self.numbers().filter(|&other| other != node).collect();
        let Some(machine) =
            self.nodes[usize::from(node) - 1].as_mut().filter(|_| !self.asleep.contains(&node))
        else {
            return;
        };
        machine.handle_timeout(NowMs(self.now));
        let mut out: Vec<(u16, Mail)> = Vec::new();
        while let Some((to, bytes)) = machine.poll_message() {
            out.push((to.0, Mail::Datagram(bytes)));
        }
        if hello {
            let standing = machine.standing();
            let weight = standing
                .members
                .iter()
                .find(|member| member.node.0 == node)
                .map_or(0, |member| member.weight);
            let epoch = standing.epoch;
            out.extend(others.into_iter().map(|to| {
                let hears_me = standing.heard.contains(&NodeId(to));
                (to, Mail::Hello(Told { weight, hears_me, epoch, key: 1 }))
            }));
        }
        for (to, mail) in out {
            let cut = match mail {
                Mail::Hello(_) => &self.no_tunnel,
                Mail::Datagram(_) => &self.no_control,
            };
            let lost = self.rng.random_range(0..100) < self.loss;
            if !cut.contains(&(node, to)) && !lost {
                let at = self.now + self.rng.random_range(1..15);
                self.mail.push((at, node, to, mail));
            }
        }
    }

    fn standing(&self, node: u16) -> &Standing {
        self.nodes[usize::from(node) - 1].as_ref().expect("it runs").standing()
    }

    fn agreed(&self, node: u16) -> Vec<u16> {
        self.standing(node).agreed.iter().map(|node| node.0).collect()
    }

    fn weights(&self, node: u16) -> Vec<(u16, u8)> {
        self.standing(node).members.iter().map(|member| (member.node.0, member.weight)).collect()
    }

    /// All these nodes have this view, with one epoch.
    fn all_see(&self, nodes: &[u16], weights: &[(u16, u8)], why: &str) {
        for &node in nodes {
            assert_eq!(self.weights(node), weights, "{why}: node {node} at {}", self.now);
            assert_eq!(
                self.standing(node).epoch,
                self.standing(nodes[0]).epoch,
                "{why}: epoch of node {node}"
            );
        }
    }

    fn cut(&mut self, ways: &[(u16, u16)], tunnel: bool, control: bool) {
        for &way in ways {
            tunnel.then(|| self.no_tunnel.insert(way));
            control.then(|| self.no_control.insert(way));
        }
    }

    fn heal(&mut self) {
        self.no_tunnel.clear();
        self.no_control.clear();
    }
}

fn seeds(run: impl Fn(u64)) {
    (0..SEEDS).for_each(run);
}

const THREE: [(u16, u8); 3] = [(1, 1), (2, 1), (3, 1)];

#[test]
fn all_nodes_agree_on_members_and_epoch() {
    seeds(|seed| {
        let cluster = Cluster::new(3, seed);
        cluster.all_see(&[1, 2, 3], &THREE, &format!("seed {seed}"));
    });
}

#[test]
fn a_dead_node_leaves_every_view_in_time() {
    seeds(|seed| {
        let mut cluster = Cluster::new(5, seed);
        cluster.kill(4);
        cluster.pass(TIMEOUT_MS + 50);
        let left = [(1, 1), (2, 1), (3, 1), (5, 1)];
        for node in [1, 2, 3, 5] {
            assert_eq!(cluster.weights(node), left, "seed {seed}");
        }
        cluster.pass(SETTLED_MS);
        cluster.all_see(&[1, 2, 3, 5], &left, &format!("seed {seed}"));
    });
}

#[test]
fn a_cut_control_channel_changes_no_view() {
    seeds(|seed| {
        let mut cluster = Cluster::new(3, seed);
        let epoch = cluster.standing(1).epoch;
        cluster.cut(&[(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)], false, true);
        for _ in 0..200 {
            cluster.pass(50);
            cluster.all_see(&[1, 2, 3], &THREE, &format!("seed {seed}"));
        }
        assert_eq!(cluster.standing(1).epoch, epoch, "seed {seed}");
    });
}

#[test]
fn a_pair_that_does_not_hear_each_other_costs_one_of_them_its_place_and_all_agree_whose() {
    seeds(|seed| {
        for ways in [&[(1, 3)][..], &[(3, 1)], &[(1, 3), (3, 1)]] {
            let mut cluster = Cluster::new(3, seed);
            cluster.cut(ways, true, false);
            cluster.pass(SETTLED_MS);
            for node in [1, 2, 3] {
                let why = format!("seed {seed}, cut {ways:?}, node {node}");
                assert_eq!(cluster.agreed(node), [1, 2], "{why}");
                assert!(
                    cluster.weights(node).iter().all(|&(who, weight)| weight == u8::from(who != 3)),
                    "{why}"
                );
                assert_eq!(cluster.standing(node).epoch, cluster.standing(1).epoch, "{why}");
            }
            cluster.heal();
            cluster.pass(SETTLED_MS);
            cluster.all_see(&[1, 2, 3], &THREE, &format!("seed {seed}, healed {ways:?}"));
        }
    });
}

#[test]
fn a_pair_without_a_control_channel_hears_of_each_other_through_the_third() {
    seeds(|seed| {
        let mut cluster = Cluster::new(3, seed);
        cluster.cut(&[(1, 3), (3, 1)], true, true);
        cluster.pass(SETTLED_MS);
        for node in [1, 2, 3] {
            assert_eq!(cluster.agreed(node), [1, 2], "seed {seed}: node {node}");
        }
    });
}

#[test]
fn a_node_that_slept_accuses_nobody_and_is_taken_back() {
    seeds(|seed| {
        let mut cluster = Cluster::new(3, seed);
        cluster.asleep.insert(2);
        cluster.pass(10_000);
        let left = [(1, 1), (3, 1)];
        cluster.all_see(&[1, 3], &left, &format!("seed {seed}"));
        cluster.asleep.clear();
        for _ in 0..40 {
            cluster.step();
            // It may be apart, for it was not heard: the others say so.
            let heard = cluster.standing(2).heard.len();
            assert_eq!(heard, 2, "seed {seed}: it takes its own sleep for others' silence");
        }
        cluster.pass(SETTLED_MS);
        cluster.all_see(&[1, 2, 3], &THREE, &format!("seed {seed}"));
    });
}

#[test]
fn an_overloaded_node_accuses_nobody() {
    seeds(|seed| {
        let mut cluster = Cluster::new(3, seed);
        for _ in 0..40 {
            cluster.asleep.insert(2);
            cluster.pass(400);
            cluster.asleep.clear();
            // It runs for a moment, before it has read what came.
            cluster.step();
            assert_eq!(cluster.standing(2).heard.len(), 2, "seed {seed}");
            cluster.step();
        }
    });
}

#[test]
fn each_side_of_a_partition_goes_on_and_a_minority_knows_it_is_one() {
    seeds(|seed| {
        let mut cluster = Cluster::with_quorum(3, seed, 2);
        assert!(cluster.standing(1).quorate);
        cluster.cut(&[(1, 2), (2, 1), (1, 3), (3, 1)], true, true);
        cluster.pass(SETTLED_MS);
        cluster.all_see(&[1], &[(1, 1)], &format!("seed {seed}"));
        cluster.all_see(&[2, 3], &[(2, 1), (3, 1)], &format!("seed {seed}"));
        assert!(!cluster.standing(1).quorate && cluster.standing(2).quorate && cluster.standing(3).quorate);
        cluster.heal();
        cluster.pass(SETTLED_MS);
        cluster.all_see(&[1, 2, 3], &THREE, &format!("seed {seed}"));
        assert!(cluster.standing(1).quorate);
    });
}

#[test]
fn a_node_that_starts_again_is_a_member_again_however_often() {
    seeds(|seed| {
        let mut cluster = Cluster::new(3, seed);
        for round in 0..6 {
            cluster.kill(3);
            cluster.pass(TIMEOUT_MS + 200);
            cluster.start(3);
            cluster.pass(1_500);
            cluster.all_see(&[1, 2, 3], &THREE, &format!("seed {seed}, round {round}"));
        }
    });
}

#[test]
fn a_node_that_comes_and_goes_is_kept_out_by_all() {
    seeds(|seed| {
        let mut cluster = Cluster::new(3, seed);
        let ways = [(3, 1), (3, 2)];
        for _ in 0..8 {
            cluster.cut(&ways, true, false);
            cluster.pass(1_200);
            cluster.heal();
            cluster.pass(600);
        }
        assert_eq!(cluster.agreed(1), [1, 2], "seed {seed}");
        assert_eq!(cluster.agreed(2), [1, 2], "seed {seed}");
        cluster.pass(12_000);
        cluster.all_see(&[1, 2, 3], &THREE, &format!("seed {seed}: steady again"));
    });
}

#[test]
fn a_datagram_in_anothers_name_is_refused() {
    let mut cluster = Cluster::new(3, 1);
    let now = NowMs(cluster.now);
    let speaks = |cluster: &mut Cluster| {
        let machine = cluster.nodes[2].as_mut().unwrap();
        machine.set_weight(2);
        machine.touch();
        machine.handle_timeout(now);
        std::iter::from_fn(|| machine.poll_message())
            .filter(|(to, _)| to.0 == 1)
            .map(|(_, bytes)| bytes)
            .collect()
    };
    let datagrams: Vec<Vec<u8>> = speaks(&mut cluster);
    assert!(!datagrams.is_empty());
    let receiver = cluster.nodes[0].as_mut().unwrap();
    for datagram in &datagrams {
        receiver.handle_message(NodeId(2), datagram, now);
    }
    assert_eq!(receiver.refused(), datagrams.len() as u64);
    receiver.handle_message(NodeId(3), &[], now);
    receiver.handle_message(NodeId(3), &[9, 9], now);
    assert_eq!(receiver.refused(), datagrams.len() as u64, "another release's are not refused");
}

#[test]
fn a_node_that_starts_displaces_no_member_whatever_is_heard_first() {
    seeds(|seed| {
        let mut cluster = Cluster::new(3, seed);
        cluster.kill(1);
        cluster.pass(SETTLED_MS);
        cluster.loss = 30;
        cluster.start(1);
        let mut serves = false;
        for _ in 0..SETTLED_MS / STEP_MS {
            serves |= cluster.agreed(1) == [1, 2, 3];
            let machine = cluster.nodes[0].as_mut().expect("it was started");
            machine.set_weight(u8::from(serves));
            cluster.step();
            for node in [2, 3] {
                let agreed = cluster.agreed(node);
                assert!(
                    agreed.contains(&node),
                    "seed {seed}: node {node} sees {agreed:?} at {}",
                    cluster.now
                );
            }
        }
        cluster.loss = 5;
        cluster.pass(SETTLED_MS);
        cluster.all_see(&[1, 2, 3], &THREE, &format!("seed {seed}"));
    });
}
