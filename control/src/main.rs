//! The `samepath` program: reads the command line and hands over.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use samepath::args::{self, BenchArgs, Cli, ClientCommand, Command, KeysCommand, SetupCommand};
use samepath::bench::{self, BenchError};
use samepath::config::{self, Config, ConfigError, Flags};
use samepath::doctor;
use samepath::host::{Case, Place};
use samepath::keys::{self, KeyError};
use samepath::log::Log;
use samepath::operator::client::{self, FAILED, FINE, USAGE, complain};
use samepath::operator::{capture, drain, events, symmetry, top, trace};
use samepath::policy::PolicyFile;
use samepath::setup;
use samepath::sysdump;

fn main() -> ExitCode {
    let code = match Cli::of_process().command {
        Command::Run(flags) => run(&flags),
        Command::Check(flags) => check(&flags),
        Command::Doctor { json, flags } => examine(&flags, json),
        Command::Sysdump { file, flags } => dump(file.as_deref(), &flags),
        Command::Setup { command } => set_up(&command),
        Command::Bench(arguments) => measure(&arguments),
        Command::Keys { command } => make_keys(&command),
        Command::Completions { shell } => written(args::completions(shell, &mut io::stdout())),
        Command::Manpages { dir } => written(args::manpages(&dir)),
        Command::Client(command) => ask(&command),
    };
    code.into()
}

fn run(flags: &Flags) -> u8 {
    let (config, warnings) = match configured(flags) {
        Ok(configured) => configured,
        Err(error) => return refuse(&error),
    };
    let log = Log::start(&config.log);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    match samepath::daemon::run(config, log) {
        Ok(()) => FINE,
        Err(error) => {
            complain(&format_args!("{error:#}"));
            FAILED
        }
    }
}

fn check(flags: &Flags) -> u8 {
    match configured(flags) {
        Ok((config, warnings)) => {
            for warning in &warnings {
                complain(&format_args!("warning: {warning}"));
            }
            complain(&format_args!(
                "node {} of cluster {} can start with this configuration",
                config.node, config.cluster
            ));
            FINE
        }
        Err(error) => refuse(&error),
    }
}

fn examine(flags: &Flags, json: bool) -> u8 {
    let case = Case::read(&Place::here(), flags, &variables());
    let findings = doctor::examine(&case);
    let mut out = io::BufWriter::new(io::stdout().lock());
    match doctor::print(&case, &findings, json, &mut out).and_then(|()| out.flush()) {
        // A reader that stops reading (`| head`) is no error.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => written(Err(error)),
        _ => doctor::exit_code(&findings),
    }
}

fn dump(file: Option<&Path>, flags: &Flags) -> u8 {
    let place = Place::here();
    let case = Case::read(&place, flags, &variables());
    match sysdump::write(&case, &place, file) {
        Ok(dump) => {
            for missing in &dump.missing {
                complain(missing);
            }
            complain(&format_args!(
                "wrote {} with {} items; {} could not be read. It has addresses and routes, no keys: look before you send it",
                dump.file.display(),
                dump.items,
                dump.missing.len()
            ));
            FINE
        }
        Err(error) => {
            let name = file.map_or_else(|| ".".into(), |file| file.display().to_string());
            complain(&format_args!(
                "the archive {name} cannot be written ({error}): name a new file with --write, where there is room"
            ));
            FAILED
        }
    }
}

fn set_up(command: &SetupCommand) -> u8 {
    let (place, variables) = (Place::here(), variables());
    let look = || Case::read(&place, &command.arguments().flags, &variables);
    match setup::run(&command.order(), &place, &look, &mut io::stdout().lock()) {
        Ok(code) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => FINE,
        Err(error) => written(Err(error)),
    }
}

fn measure(arguments: &BenchArgs) -> u8 {
    match bench::run(&arguments.order(), &Place::here(), &mut io::stdout().lock()) {
        Ok(code) => code,
        Err(BenchError::Refused(refusal)) => {
            complain(&refusal);
            USAGE
        }
        Err(BenchError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => FINE,
        Err(BenchError::Output(error)) => written(Err(error)),
    }
}

/// The process's variables that configure.
fn variables() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            name.starts_with("SAMEPATH_").then(|| (name, value.to_string_lossy().into_owned()))
        })
        .collect()
}

/// The configuration, checked against its own rules and this machine, and what deserves a look.
fn configured(flags: &Flags) -> Result<(Config, Vec<String>), ConfigError> {
    let config = config::load(flags, &variables())?;
    let warnings = config::verify_host(&config)?;
    Ok((config, warnings))
}

fn refuse(error: &ConfigError) -> u8 {
    complain(error);
    USAGE
}

fn written(outcome: io::Result<()>) -> u8 {
    match outcome {
        Ok(()) => FINE,
        Err(error) => {
            complain(&format_args!(
                "it cannot be written ({error}): check that the place is there and has room"
            ));
            FAILED
        }
    }
}

fn make_keys(command: &KeysCommand) -> u8 {
    match made_keys(command) {
        Ok(sentence) => {
            complain(&sentence);
            FINE
        }
        Err(error) => {
            complain(&error);
            FAILED
        }
    }
}

/// Makes them, and says what comes next.
fn made_keys(command: &KeysCommand) -> Result<String, KeyError> {
    match command {
        KeysCommand::Init { dir } => keys::init(dir).map(|()| {
            format!(
                "made {0} with ca.crt, ca.key and cluster.secret; next: `samepath keys issue {0} --node N` for every node",
                dir.display()
            )
        }),
        KeysCommand::Issue { dir, node, renew } => keys::issue(dir, *node, *renew).map(|()| {
            format!(
                "made node-{node}.crt and node-{node}.key in {}; node {node} needs both, ca.crt and cluster.secret (not ca.key)",
                dir.display()
            )
        }),
        KeysCommand::Rollover { dir } => keys::rollover(dir).map(|()| {
            format!(
                "{0} has a new CA, which signs from now on; next: copy ca.crt to every node and send SIGHUP there, then `samepath keys issue {0} --node N --renew` for every node",
                dir.display()
            )
        }),
        KeysCommand::Retire { dir } => keys::retire(dir).map(|forgotten| {
            format!(
                "forgot {forgotten} older CA{}; next: copy ca.crt of {} to every node and send SIGHUP there",
                if forgotten == 1 { "" } else { "s" },
                dir.display()
            )
        }),
    }
}

fn check_policy(file: &Path, names: [Option<&[String]>; 2]) -> u8 {
    let [zones, services] =
        names.map(|names| names.map(|names| names.iter().map(String::as_str).collect::<Vec<&str>>()));
    match PolicyFile::read(file, zones.as_deref(), services.as_deref()) {
        Ok(policy) => {
            complain(&format_args!(
                "{} can be used: {} rules, default {}",
                file.display(),
                policy.rules.len(),
                policy.default.name()
            ));
            FINE
        }
        Err(error) => {
            complain(&error);
            USAGE
        }
    }
}

fn ask(command: &ClientCommand) -> u8 {
    if let Some((file, names)) = command.policy_to_check() {
        return check_policy(file, names);
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (socket, json) = (command.control_socket(), command.json());
    let outcome = if let Some(order) = command.drain() {
        drain::run(socket, order, json, &mut out)
    } else if let Some(order) = command.top() {
        top::run(socket, order, json, &mut out)
    } else if let Some(order) = command.trace() {
        trace::run(socket, &order, json, &mut out)
    } else if let Some(order) = command.events() {
        events::run(socket, &order, json, &mut out)
    } else if let Some(order) = command.picture() {
        symmetry::run(socket, &order, json, &mut out)
    } else if let Some(order) = command.capture() {
        capture::run(socket, &order)
    } else {
        client::run(socket, &command.request(), json, &mut out)
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            error.exit_code()
        }
    }
}
