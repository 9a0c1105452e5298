//! The whole worker over memory ports: instructions (callgrind, exact) and CPU time per packet, by role,
//! IP version and number of sessions; what a second worker adds.
//!
//! ```text
//! burst                             everything; table, target/bench/burst.json
//! burst --check FILE                instructions only, compared with FILE; exit code 1 if one is 10 % worse
//! burst --looked                    what looking on costs (`samepath trace`, `capture`)
//! burst --run ROLE FAMILY N TURNS   N sessions, TURNS bursts (what callgrind watches)
//! ```

mod check;
mod count;
#[cfg(feature = "full")]
mod growth;
mod looked;
#[cfg(feature = "full")]
mod report;
#[cfg(feature = "full")]
mod time;

use std::process::ExitCode;

use samepath_dataplane::bench::{BURST, Case, Family, Role, Stage};

/// Sessions of a case whose instructions are counted: enough that every burst meets new ones.
const COUNTED_SESSIONS: u32 = 8192;

fn counted_cases() -> Vec<Case> {
    let cases = Family::ALL.into_iter().flat_map(|family| {
        Role::ALL.into_iter().map(move |role| Case { role, family, sessions: COUNTED_SESSIONS })
    });
    cases.collect()
}

/// Sets a case up and runs bursts through it.
fn run(case: Case, turns: u32) {
    let mut stage = Stage::set(case.role, case.family, case.sessions);
    assert!(turns as usize * BURST <= stage.len(), "every packet comes once");
    for _ in 0..turns {
        stage.arrive();
        stage.node.turn();
        stage.clear();
    }
}

fn parse_run(arguments: &[String]) -> Option<(Case, u32)> {
    let [role, family, sessions, turns] = arguments else { return None };
    let case =
        Case { role: Role::named(role)?, family: Family::named(family)?, sessions: sessions.parse().ok()? };
    Some((case, turns.parse().ok()?))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.split_first() {
        #[cfg(feature = "full")]
        None => report::everything(),
        Some((word, rest)) if word == "--check" && rest.len() == 1 => check::against(&rest[0]),
        Some((word, [])) if word == "--looked" => looked::run(),
        Some((word, rest)) if word == "--run" => match parse_run(rest) {
            Some((case, turns)) => {
                run(case, turns);
                ExitCode::SUCCESS
            }
            None => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: burst | burst --check FILE | burst --looked | burst --run ROLE FAMILY SESSIONS TURNS");
    ExitCode::from(2)
}
