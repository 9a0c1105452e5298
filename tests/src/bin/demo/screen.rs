//! What a person sees while the demo works: one line that changes on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

/// Without a terminal, progress is shown when nothing was for this long.
const PLAIN_INTERVAL: Duration = Duration::from_secs(2);

/// Standard output.
pub struct Screen {
    terminal: bool,
    colour: bool,
    last_line: Instant,
    line_open: bool,
}

impl Screen {
    /// Looks at what standard output is; `NO_COLOR` is honoured.
    pub fn new() -> Self {
        let terminal = stdout().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { terminal, colour, last_line: Instant::now(), line_open: false }
    }

    /// A line that stays.
    pub fn line(&mut self, text: &str) {
        self.close_line();
        println!("{text}");
    }

    /// A heading.
    pub fn heading(&mut self, text: &str) {
        let text = if self.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
        self.line(&format!("\n{text}"));
    }

    /// The mark in front of a finished step.
    pub fn mark(&self, ok: bool) -> &'static str {
        match (ok, self.colour) {
            (true, true) => "\x1b[32mok\x1b[0m  ",
            (true, false) => "ok  ",
            (false, true) => "\x1b[31mFAIL\x1b[0m",
            (false, false) => "FAIL",
        }
    }

    /// What is being done now.
    pub fn progress(&mut self, text: &str) {
        if self.terminal {
            print!("\r\x1b[2K  .. {text}");
            stdout().flush().ok();
            self.line_open = true;
        } else if self.last_line.elapsed() >= PLAIN_INTERVAL {
            println!("  .. {text}");
            self.last_line = Instant::now();
        }
    }

    fn close_line(&mut self) {
        if self.line_open {
            print!("\r\x1b[2K");
            self.line_open = false;
        }
        self.last_line = Instant::now();
    }
}
