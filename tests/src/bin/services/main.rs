//! `make test-services`: real services over symmetric and asymmetric paths, without and with samepath, as a table on the
//! screen, in services.json and in docs/services.md.

mod page;
mod report;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use samepath_tests::interrupt;
use samepath_tests::served::{self, Column, Served, death, transactions};

use report::{Cell, Report};

/// Real services beside the nodes: what works over which paths.
#[derive(Parser)]
struct Args {
    /// Only this service; may be given several times.
    #[arg(long)]
    only: Vec<String>,
    /// Only these columns: symmetric, without, with.
    #[arg(long)]
    column: Vec<String>,
    /// Only the paths, or only the Owner's death.
    #[arg(long, value_enum)]
    part: Option<Part>,
    /// Transactions in each column.
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// Fill the tables of docs/services.md from services.json at the end.
    #[arg(long)]
    document: bool,
}

/// What is shown.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Transactions over symmetric and asymmetric paths.
    Paths,
    /// What long connections see when their Owner dies.
    Death,
}

impl Args {
    fn shows(&self, part: Part) -> bool {
        self.part.is_none_or(|only| only == part)
    }

    fn services(&self) -> Result<Vec<Box<dyn Served>>> {
        let mut all = served::all();
        if let Some(unknown) = self.only.iter().find(|name| !all.iter().any(|one| one.name() == *name)) {
            let known: Vec<_> = all.iter().map(|one| one.name()).collect();
            bail!("there is no service {unknown}: one of {}", known.join(", "));
        }
        all.retain(|one| self.only.is_empty() || self.only.iter().any(|name| name == one.name()));
        Ok(all)
    }

    fn columns(&self) -> Result<Vec<Column>> {
        let known = |name: &String| Column::ALL.into_iter().find(|column| column.name() == name);
        match self.column.iter().find(|name| known(name).is_none()) {
            Some(unknown) => bail!("there is no column {unknown}: symmetric, without, with"),
            None if self.column.is_empty() => Ok(Column::ALL.to_vec()),
            None => Ok(self.column.iter().filter_map(known).collect()),
        }
    }
}

fn main() -> ExitCode {
    interrupt::undo_beds_on_panic();
    match run(&Args::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failures) => {
            println!("services: {failures} cells are not as they must be");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The number of cells that went wrong.
fn run(args: &Args) -> Result<usize> {
    let mut report = Report::load()?;
    let mut failures = 0;
    if args.shows(Part::Paths) {
        failures += paths(args, &mut report)?;
        println!("\n{}", report.table());
    }
    if args.shows(Part::Death) {
        failures += deaths(args, &mut report)?;
        println!("\n{}", report.deaths_table());
    }
    if args.document {
        page::fill(&report)?;
    }
    Ok(failures)
}

fn paths(args: &Args, report: &mut Report) -> Result<usize> {
    let mut failures = 0;
    let columns = args.columns()?;
    for service in args.services()? {
        for &column in &columns {
            let begin = format!("{:<10} {:<10}", service.name(), column.name());
            match transactions::run(service.as_ref(), column, args.count) {
                Ok(outcome) => {
                    let cell = Cell::from(outcome);
                    println!("{begin} {cell}");
                    report.set(service.as_ref(), column, cell)?;
                }
                Err(error) => {
                    failures += 1;
                    println!("{begin} FAILED: {error:#}");
                }
            }
        }
    }
    Ok(failures)
}

fn deaths(args: &Args, report: &mut Report) -> Result<usize> {
    let mut failures = 0;
    for service in args.services()? {
        match death::run(service.as_ref()) {
            Ok(outcome) => {
                println!("{:<10} {outcome:?}", service.name());
                report.set_death(service.as_ref(), outcome)?;
            }
            Err(error) => {
                failures += 1;
                println!("{:<10} FAILED: {error:#}", service.name());
            }
        }
    }
    Ok(failures)
}
