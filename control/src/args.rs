//! The command line. Values are read where they are used ([`crate::config`], [`crate::operator`]); here
//! are names and help.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

mod bench;
mod client;
mod daemon;
mod setup;

pub use bench::BenchArgs;
pub use client::ClientCommand;
pub use setup::SetupCommand;

use crate::config::Flags;
use crate::config::values;
use samepath_dataplane::flow::NodeId;
use samepath_dataplane::verdict::DropReason;

/// samepath makes a group of firewall nodes behave like one when routing is asymmetric.
#[derive(Parser, Debug)]
#[command(name = "samepath", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the daemon
    Run(Flags),
    /// Check the configuration and this machine without starting anything (same flags as run)
    Check(Flags),
    /// Say in words what is wrong with this host, and the command that mends it (exit code 0 nothing,
    /// 5 warnings, 1 errors)
    Doctor {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
        /// What is to run; without: the running node, else the only file in /etc/samepath
        #[command(flatten)]
        flags: Flags,
    },
    /// Write one archive with what somebody elsewhere needs to see of this host and the node on it: configuration, what
    /// the node says, what doctor finds, the kernel's view, logs; no keys
    Sysdump {
        /// The archive, which must not be there yet [default: samepath-sysdump-node-N-TIME.tar.gz in this folder]
        #[arg(short = 'w', long = "write", value_name = "FILE")]
        file: Option<PathBuf>,
        /// What is to run; without: the running node, else the only file in /etc/samepath
        #[command(flatten)]
        flags: Flags,
    },
    /// Tune this host in stages, and undo it
    Setup {
        /// What to do.
        #[command(subcommand)]
        command: SetupCommand,
    },
    /// Measure what one core of this machine does with packets, and several together: this program's worker over memory,
    /// without root, interfaces or a daemon (exit code 0, or 5: something makes the figures doubtful)
    Bench(BenchArgs),
    /// Make the cluster's keys
    Keys {
        /// Which keys.
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Print the completions of a shell: `samepath completions bash > /etc/bash_completion.d/samepath`
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write a man page for each command into DIR
    #[command(hide = true)]
    Manpages {
        /// The directory, which must be there
        dir: PathBuf,
    },
    /// Ask a running daemon.
    #[command(flatten)]
    Client(ClientCommand),
}

/// Which keys to make.
#[derive(Subcommand, Debug)]
pub enum KeysCommand {
    /// Make DIR with a CA and the cluster's secret
    Init {
        /// The directory
        dir: PathBuf,
    },
    /// Make a node's certificate and key, signed by the CA in DIR
    Issue {
        /// The directory with the CA
        dir: PathBuf,
        /// The node's number
        #[arg(long, value_name = "N", value_parser = node)]
        node: NodeId,
        /// Replace the ones in DIR
        #[arg(long)]
        renew: bool,
    },
    /// Make a new CA in DIR; the signatures of the one before it still count
    Rollover {
        /// The directory with the CA
        dir: PathBuf,
    },
    /// Forget all CAs in DIR but the newest
    Retire {
        /// The directory with the CAs
        dir: PathBuf,
    },
}

fn node(text: &str) -> Result<NodeId, String> {
    values::node(text).map_err(|rule| rule.0)
}

impl Cli {
    /// The command line with all its help.
    pub fn complete() -> clap::Command {
        Self::command().mut_subcommand("stats", |stats| stats.after_long_help(reasons()))
    }

    /// The process's command line; prints help or a usage error and ends the process (0 or 2) where
    /// that is all there is to do.
    pub fn of_process() -> Self {
        let cli =
            Self::from_arg_matches(&Self::complete().get_matches()).unwrap_or_else(|error| error.exit());
        if let Command::Client(client) = &cli.command
            && let Some(sentence) = client.contradiction()
        {
            Self::complete().error(ErrorKind::ArgumentConflict, sentence).exit();
        }
        cli
    }
}

/// Writes the completions of a shell.
pub fn completions(shell: clap_complete::Shell, out: &mut impl Write) -> io::Result<()> {
    // What a pipe that was closed answers is the caller's: the generator itself would panic.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::complete(), "samepath", &mut script);
    out.write_all(&script)
}

/// Writes `samepath.1` and `samepath-COMMAND.1` of every command into `dir`.
pub fn manpages(dir: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::complete(), dir)
}

/// Every drop reason with its meaning, for `samepath stats --help`.
fn reasons() -> String {
    let mut text = String::from("Drop reasons:\n");
    for reason in DropReason::ALL {
        text.push_str(&format!("  {:<24} {}\n", reason.name(), reason.explanation()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn repeatable_flags_collect_and_switches_need_no_value() {
        let cli = Cli::try_parse_from([
            "samepath",
            "run",
            "--node-id",
            "1",
            "--peer",
            "2=192.0.2.2",
            "--peer",
            "3=192.0.2.3",
            "--replace",
        ])
        .unwrap();
        let Command::Run(flags) = cli.command else { panic!("run") };
        assert_eq!(flags.values["peer"], ["2=192.0.2.2", "3=192.0.2.3"]);
        assert_eq!(flags.values["replace"], ["true"]);
        assert_eq!(flags.values["node-id"], ["1"]);
        assert!(!flags.values.contains_key("tcp-loose-window"));
    }

    #[test]
    fn every_drop_reason_is_explained() {
        for reason in DropReason::ALL {
            assert!(reasons().contains(&format!("  {} ", reason.name())), "{}", reason.name());
        }
    }
}
