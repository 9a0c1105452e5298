//! Commands that pages tell a reader to type are ones the program takes.

use clap::Parser;
use samepath::args::Cli;

use super::page::Page;

/// What the shell would put in place of the variables of those examples.
const VARIABLES: [(&str, &str); 4] =
    [("$peers", "--peer 2=10.9.0.2"), ("$2", "run"), ("$n", "1"), ("$1", "1")];

/// Command lines of `samepath` in a page's shell examples, without what is before or behind them.
fn commands(page: &Page) -> Vec<String> {
    let blocks = page.text().split("```sh\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0));
    let lines =
        blocks.flat_map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>());
    lines.filter_map(|line| command(&line)).collect()
}

/// The part of a line from the word `samepath` to the end of the command.
fn command(line: &str) -> Option<String> {
    let line = line.split('#').next()?;
    let begins = line.starts_with("samepath ").then_some(0).or_else(|| Some(line.find(" samepath ")? + 1))?;
    let command = line[begins..].split([';', '&', '>', '|']).next()?;
    Some(VARIABLES.iter().fold(command.to_owned(), |line, (name, value)| line.replace(name, value)))
}

#[test]
fn every_command_of_the_readme_and_the_lab_is_one() {
    for (path, least) in [("README.md", 15), ("docs/lab.md", 8)] {
        let commands = commands(&Page::read(path));
        assert!(commands.len() >= least, "{path}: {commands:#?}");
        for command in commands {
            let parsed = Cli::try_parse_from(command.split_whitespace());
            assert!(parsed.is_ok(), "{path}: {command}: {}", parsed.unwrap_err());
        }
    }
}
