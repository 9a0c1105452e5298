//! `samepath-demo`: the main job on real packets, step by step, with the counters that prove it.

mod proof;
mod report;
mod scenes;
mod screen;

use std::process::ExitCode;

use samepath_tests::{artifacts, interrupt};

use report::Report;
use scenes::Demo;
use screen::Screen;

fn main() -> ExitCode {
    interrupt::undo_beds_on_panic();
    interrupt::set_last_line("demo: FAIL stopped by a signal");
    let mut report = Report::start(Screen::new());
    let outcome = Demo::set_up(&mut report).and_then(|mut demo| {
        demo.play(&mut report)?;
        demo.tear_down(&mut report)
    });
    let written = artifacts::target()
        .and_then(|target| report.finish(outcome.as_ref().err(), &target.join("demo.json")));
    if let Err(error) = written {
        eprintln!("{error:#}");
    }
    match outcome {
        Ok(()) => {
            println!("demo: PASS");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            println!("demo: FAIL {}", report.last_step());
            ExitCode::FAILURE
        }
    }
}
