//! `samepath setup`: tunes the host in named stages, remembers what was there, and puts it back.
//!
//! A stage looks at a [`Case`] and gives [`Step`]s: what it found, what it wants, the commands that make it so and
//! those that undo them. [`run`] prints and carries them out; `record.rs` is the memory.

mod action;
mod interrupts;
mod machine;
mod print;
mod queues;
mod record;
mod run;
#[cfg(test)]
mod tests;

pub use action::Action;
pub use record::{Record, STATE_FILE};
pub use run::{Order, Verb, run};

use crate::host::{Case, Place};

/// A stage of setup.
pub struct Stage {
    /// Its name.
    pub name: &'static str,
    /// Why it is wanted.
    pub why: &'static str,
    look: fn(&Case, &Place) -> Vec<Step>,
}

/// All stages, in the order they are applied: packet memory depends on the number of queues.
pub const STAGES: [Stage; 7] = [
    Stage { name: "channels", why: "each worker receives from a queue of its own", look: queues::channels },
    Stage {
        name: "rss",
        why: "both directions of a flow arrive at the core that owns it",
        look: queues::rss,
    },
    Stage {
        name: "offloads",
        why: "XDP must see packets as they were sent: with their VLAN tags, not joined",
        look: queues::offloads,
    },
    Stage {
        name: "irq",
        why: "interrupts stay off workers' cores while others are free",
        look: interrupts::irq,
    },
    Stage {
        name: "napi",
        why: "a worker that polls the device, or shares its core with it, decides when it runs",
        look: interrupts::napi,
    },
    Stage {
        name: "governor",
        why: "the clock of workers' cores does not fall when packets pause",
        look: machine::governor,
    },
    Stage { name: "hugepages", why: "packet memory is found with fewer look-ups", look: machine::huge_pages },
];

/// One thing a stage looks at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// What it is about: an interface, an interrupt, a core.
    pub object: String,
    /// What is there.
    pub found: String,
    /// What should be.
    pub wanted: String,
    /// Makes it so; empty: it is so, or cannot be.
    pub change: Vec<Action>,
    /// Makes it what it was.
    pub back: Vec<Action>,
    /// Why it may not be changed now.
    pub blocked: Option<String>,
}

impl Step {
    /// One that needs nothing.
    fn fine(object: impl Into<String>, found: impl Into<String>) -> Self {
        let found = found.into();
        Self { object: object.into(), wanted: found.clone(), found, ..Self::default() }
    }

    /// One setting of the kernel: `value` instead of `now` in the file `path`.
    fn file(object: impl Into<String>, path: String, now: &str, value: &str) -> Self {
        if now == value {
            return Self::fine(object, now);
        }
        Self {
            object: object.into(),
            found: now.into(),
            wanted: value.into(),
            change: vec![Action::write(&path, value)],
            back: vec![Action::write(&path, now)],
            blocked: None,
        }
    }

    /// Something is to be changed.
    pub fn differs(&self) -> bool {
        !self.change.is_empty()
    }
}
