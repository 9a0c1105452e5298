//! The command line of `samepath setup`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use crate::config::Flags;
use crate::setup::{Order, STAGES, STATE_FILE, Verb};

/// What to do with the host.
#[derive(Subcommand, Debug)]
pub enum SetupCommand {
    /// Say what is there and what should be (exit code 0: all as wanted, 5: not)
    Check(SetupArgs),
    /// Make it so, and remember what was there
    Apply {
        /// Print the commands, run none
        #[arg(long)]
        dry_run: bool,
        /// To what.
        #[command(flatten)]
        arguments: SetupArgs,
    },
    /// Make everything what it was before apply
    Undo {
        /// Print the commands, run none
        #[arg(long)]
        dry_run: bool,
        /// To what.
        #[command(flatten)]
        arguments: SetupArgs,
    },
}

/// To what, and how it is told.
#[derive(Args, Debug)]
pub struct SetupArgs {
    /// Only this stage
    #[arg(value_parser = PossibleValuesParser::new(STAGES.iter().map(|stage| stage.name)))]
    stage: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Where what was there is written down
    #[arg(long, value_name = "FILE", default_value = STATE_FILE)]
    state: PathBuf,
    /// What is to run; without: the running node, else the only file in /etc/samepath
    #[command(flatten)]
    pub flags: Flags,
}

impl SetupCommand {
    /// To what.
    pub fn arguments(&self) -> &SetupArgs {
        match self {
            Self::Check(arguments) | Self::Apply { arguments, .. } | Self::Undo { arguments, .. } => {
                arguments
            }
        }
    }

    /// What is to be done.
    pub fn order(&self) -> Order {
        let (verb, dry_run) = match self {
            Self::Check(_) => (Verb::Check, false),
            Self::Apply { dry_run, .. } => (Verb::Apply, *dry_run),
            Self::Undo { dry_run, .. } => (Verb::Undo, *dry_run),
        };
        let SetupArgs { stage, json, state, .. } = self.arguments();
        Order { verb, stage: stage.clone(), dry_run, json: *json, state: state.clone() }
    }
}
