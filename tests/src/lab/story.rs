//! What happened, as a message-sequence text: one line per event, time in front.

/// The lines so far; nothing is kept unless asked for.
#[derive(Debug, Default)]
pub struct Story {
    lines: Option<Vec<String>>,
}

impl Story {
    /// Keeps lines if `told`.
    pub fn new(told: bool) -> Self {
        Self { lines: told.then(Vec::new) }
    }

    /// Somebody will read it.
    pub fn is_told(&self) -> bool {
        self.lines.is_some()
    }

    /// Adds a line, made only if it is kept.
    pub fn add(&mut self, step: u64, now: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{step:>5} {:>9.3} s  {}", now as f64 / 1000.0, line()));
        }
    }

    /// All lines.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
