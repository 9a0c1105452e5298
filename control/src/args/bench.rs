//! The command line of `samepath bench`.

use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use samepath_dataplane::bench::{Family, Role};

use crate::bench::{Order, SESSIONS_LEAST, SESSIONS_MOST, WORKERS_MOST};
use crate::config::values;

/// What to measure, how long, and where.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// What the node is to the packets, separated by commas [default: all]
    #[arg(long, value_name = "ROLES", value_delimiter = ',', value_parser = roles())]
    role: Vec<Role>,
    /// IP version [default: both]
    #[arg(long, value_name = "FAMILY", value_delimiter = ',', value_parser = families())]
    family: Vec<Family>,
    /// Sessions of each worker, 64 to 16777216
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = sessions)]
    sessions: u32,
    /// Workers that are measured together, each on a core of its own [default: as many as there are cores, at most 64]
    #[arg(long, value_name = "N", value_parser = workers)]
    workers: Option<usize>,
    /// Their cores, like 0,2-3; the first one is measured alone [default: the first ones, one thread of each]
    #[arg(long, visible_alias = "core", value_name = "LIST", value_parser = cores)]
    cores: Option<Cores>,
    /// Measurements of each case, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    /// CPU time of each measurement inside the worker, 0.01 to 60; of first packets each comes once, so they may end earlier
    #[arg(long, value_name = "SECONDS", default_value = "0.1", value_parser = seconds)]
    seconds: Duration,
    /// One JSON document on stdout
    #[arg(long)]
    json: bool,
}

/// A list of cores, which clap takes for one value.
#[derive(Clone, Debug)]
struct Cores(Vec<usize>);

impl BenchArgs {
    /// What is ordered.
    pub fn order(&self) -> Order {
        Order {
            roles: self.role.clone(),
            families: self.family.clone(),
            sessions: self.sessions,
            workers: self.workers,
            cores: self.cores.as_ref().map(|cores| cores.0.clone()).unwrap_or_default(),
            repetitions: self.repetitions,
            time: self.seconds,
            json: self.json,
        }
    }
}

fn roles() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::name))
        .map(|name| Role::named(&name).expect("one of the names"))
}

fn families() -> impl TypedValueParser<Value = Family> {
    PossibleValuesParser::new(Family::ALL.map(Family::name))
        .map(|name| Family::named(&name).expect("one of the names"))
}

fn sessions(text: &str) -> Result<u32, String> {
    let range = SESSIONS_LEAST..=SESSIONS_MOST;
    values::number(text, "the number of sessions of a worker", range).map_err(|rule| rule.0)
}

fn workers(text: &str) -> Result<usize, String> {
    values::number(text, "the number of workers", 1..=WORKERS_MOST).map_err(|rule| rule.0)
}

fn cores(text: &str) -> Result<Cores, String> {
    values::cores(text).map(Cores).map_err(|rule| rule.0)
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=60.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a measurement is a number of seconds from 0.01 to 60; write one like 0.5".into()),
    }
}
