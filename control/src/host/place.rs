//! Where a host is read from: this machine, or a folder that looks like one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

/// The folder that /sys, /proc and /etc are below. Programs run only for this machine.
#[derive(Clone, Debug)]
pub struct Place {
    root: PathBuf,
}

impl Place {
    /// This machine.
    pub fn here() -> Self {
        Self { root: "/".into() }
    }

    /// The folder `root`.
    pub fn at(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// Where an absolute path really is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's text without white space at its ends.
    pub fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    /// A file that is one number or word.
    pub fn value<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// Names in a folder, sorted; none if it is not there.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Last part of where a symbolic link leads.
    pub fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Writes a setting of the kernel.
    pub fn write(&self, path: &str, value: &str) -> io::Result<()> {
        fs::write(self.path(path), value)
    }

    /// Whether it is this machine.
    pub fn is_here(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Standard output of a program that ended well.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Option<String> {
        let output = self.command(program)?.args(arguments).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Standard output, as JSON.
    pub fn json(&self, program: &str, arguments: &[&str]) -> Option<serde_json::Value> {
        serde_json::from_str(&self.output(program, arguments)?).ok()
    }

    /// A program, to be started without input and in a language that can be read.
    pub fn command(&self, program: &str) -> Option<Command> {
        let mut command = Command::new(self.program(program)?);
        command.env("LC_ALL", "C").stdin(Stdio::null());
        Some(command)
    }

    /// Whether a program is here; on another place than this machine none is needed.
    pub fn has(&self, program: &str) -> bool {
        !self.is_here() || self.program(program).is_some()
    }

    /// An ordinary user's PATH lacks the folders of the administrator's programs.
    fn program(&self, name: &str) -> Option<PathBuf> {
        if !self.is_here() {
            return None;
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        folders.map(|folder| folder.join(name)).find(|file| file.is_file())
    }
}
