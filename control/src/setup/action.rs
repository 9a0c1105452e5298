//! What setup does to a host: runs a program, or writes a file of the kernel.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::host::Place;

/// One change; shown as the command of a shell that does the same.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The program and its arguments.
    Run(Vec<String>),
    /// A value into a file.
    Write {
        /// The file.
        path: String,
        /// The value.
        value: String,
    },
}

impl Action {
    /// A program with its arguments, separated by blanks.
    pub fn run(line: &str) -> Self {
        Self::Run(line.split_whitespace().map(Into::into).collect())
    }

    /// A value into a file.
    pub fn write(path: &str, value: &str) -> Self {
        Self::Write { path: path.into(), value: value.into() }
    }

    /// Does it. The error is a sentence.
    pub fn perform(&self, place: &Place) -> Result<(), String> {
        match self {
            Self::Write { path, value } => place
                .write(path, value)
                .map_err(|error| format!("`{self}` failed ({error}): {}", remedy(&error))),
            Self::Run(words) => self.start(place, words),
        }
    }

    fn start(&self, place: &Place, words: &[String]) -> Result<(), String> {
        let [program, arguments @ ..] = words else { return Ok(()) };
        let mut command = place
            .command(program)
            .ok_or_else(|| format!("`{self}` failed: the program {program} is not here; install it"))?;
        let output = command
            .args(arguments)
            .output()
            .map_err(|error| format!("`{self}` failed ({error}): {}", remedy(&error)))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().replace('\n', ", ");
        Err(format!("`{self}` failed ({said}): run as root; if the driver refuses, leave this stage out"))
    }
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => "run as root",
        _ => "the kernel or driver refuses it; leave this stage out",
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(words) => f.write_str(&words.join(" ")),
            Self::Write { path, value } => write!(f, "echo {value} > {path}"),
        }
    }
}
