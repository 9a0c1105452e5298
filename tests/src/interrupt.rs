//! Cleaning up when the process is told to stop (Ctrl-C, SIGTERM) or panics where panics abort.

use std::sync::{Once, OnceLock};
use std::{panic, process, thread};

use anyhow::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::ledger;

static LAST_LINE: OnceLock<&str> = OnceLock::new();

/// What a program stopped by a signal prints as its last line on standard output.
pub fn set_last_line(line: &'static str) {
    LAST_LINE.get_or_init(|| line);
}

/// From now on SIGINT, SIGTERM and SIGHUP undo every bed of this process before it ends with 128 + signal.
pub fn undo_beds_on_signals() -> Result<()> {
    static ONCE: Once = Once::new();
    if ONCE.is_completed() {
        return Ok(());
    }
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    ONCE.call_once(move || {
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                eprintln!("\nstopped by signal {signal}: removing the test bed");
                if let Err(error) = ledger::undo_all() {
                    eprintln!("{error:#}");
                }
                if let Some(line) = LAST_LINE.get() {
                    println!("{line}");
                }
                process::exit(128 + signal);
            }
        });
    });
    Ok(())
}

/// From now on a panic undoes every bed before it goes on. For programs built with `panic = "abort"`,
/// where no `Drop` runs; test harnesses unwind and must not use it.
pub fn undo_beds_on_panic() {
    let next = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        next(panic);
        if let Err(error) = ledger::undo_all() {
            eprintln!("{error:#}");
        }
    }));
}
