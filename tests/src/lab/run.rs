//! One seed from beginning to end.

use super::world::World;

/// Nodes find each other and are ready within so long, ms.
const JOIN_MS: u64 = 1_000;

/// What a seed that kept all promises met.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Steps taken.
    pub steps: u64,
    /// Packets that hosts got.
    pub delivered: u64,
    /// Sessions taken over from dead Owners.
    pub takeovers: u64,
    /// Two Owners that met.
    pub conflicts: u64,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The step in which it was noticed.
    pub step: u64,
    /// Which promise, and how.
    pub what: String,
    /// What happened, if it was to be told.
    pub story: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, step, what, .. } = self;
        write!(f, "seed {seed}, step {step}: {what}\nreplay: make simulate SEED={seed}")
    }
}

/// Plays a seed; `told`: with the story of what happened.
pub fn run(seed: u64, told: bool) -> Result<Outcome, Failure> {
    let mut world = World::new(seed, told);
    match play(&mut world, seed) {
        Ok(()) => Ok(outcome(&world)),
        Err(what) => Err(Failure {
            seed,
            step: world.step,
            what,
            story: std::mem::take(&mut world.story).into_lines(),
        }),
    }
}

fn play(world: &mut World, seed: u64) -> Result<(), String> {
    let plan = format!("{:?}", world.plan);
    world.story.add(0, 0, || plan);
    // Most clusters stand before users come; in the others the first packets meet nodes that join.
    if !seed.is_multiple_of(8) {
        world.run_for(JOIN_MS, 50)?;
    }
    for _ in 0..world.plan.steps {
        world.stir();
        let ms = match world.random.within(0..100) {
            0..70 => world.random.within(0..2),
            70..95 => world.random.within(1..10),
            _ => world.random.within(20..100),
        };
        world.advance(ms)?;
    }
    world.come_to_rest(seed.is_multiple_of(16))
}

fn outcome(world: &World) -> Outcome {
    let mut outcome = Outcome { steps: world.step, ..Outcome::default() };
    outcome.delivered = world.flows.iter().flat_map(|flow| flow.heard).sum();
    for process in world.nodes.iter().filter_map(|node| node.process.as_ref()) {
        outcome.takeovers += process.counters.takeovers.get();
        outcome.conflicts += process.counters.conflicts_lost.get();
    }
    outcome
}
