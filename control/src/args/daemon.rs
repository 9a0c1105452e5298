//! The flags of `run` and `check`: one per entry of [`options::OPTIONS`].

use clap::{Arg, ArgAction, ArgMatches, Command, Error};

use crate::config::Flags;
use crate::config::options::{self, Kind, Opt};

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(std::path::PathBuf))
            .help("TOML file; its keys are these flags with underscores [variable: SAMEPATH_CONFIG]")
            .help_heading("Node");
        let command = command.arg(config).after_help(
            "Every flag is also a variable (--node-id: SAMEPATH_NODE_ID) and a key of the TOML file (node_id). \
             Flags win over variables, variables over the file. Repeatable flags are replaced as a whole; \
             as a variable their values are separated by commas or blanks.",
        );
        options::OPTIONS.iter().fold(command, |command, (heading, group)| {
            command.args(group.iter().map(|option| flag(option).help_heading(*heading)))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(option: &'static Opt) -> Arg {
    let arg = Arg::new(option.name).long(option.name).help(option.help);
    match option.kind {
        // A value is possible so that a switch set elsewhere can be taken back.
        Kind::Switch(_) => arg
            .value_name("true|false")
            .action(ArgAction::Append)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_default_value(true),
        // One value is checked with all others, so that every source gets the same sentence.
        Kind::One(_) | Kind::Many { .. } => {
            arg.value_name(option.value).action(ArgAction::Append).allow_hyphen_values(true)
        }
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let values = options::all().filter_map(|option| {
            let values = matches.get_many::<String>(option.name)?.cloned().collect();
            Some((option.name.to_owned(), values))
        });
        Ok(Self { config: matches.get_one("config").cloned(), values: values.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
