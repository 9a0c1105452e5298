//! The cluster's keys.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::plan::NODES;
use super::{Bed, rights};
use crate::{artifacts, program};

impl Bed {
    /// Makes the cluster's keys, once.
    pub fn make_keys(&self) -> Result<()> {
        if self.keys.exists() {
            return Ok(());
        }
        let samepath = artifacts::samepath()?;
        program::run(Command::new(&samepath).args(["keys", "init"]).arg(&self.keys))?;
        for number in 1..=NODES {
            let mut issue = Command::new(&samepath);
            issue.args(["keys", "issue"]).arg(&self.keys);
            program::run(issue.args(["--node", &number.to_string()]))?;
        }
        self.give_to_nodes(&self.keys)
    }

    /// Folder of the cluster's keys.
    pub fn keys(&self) -> &Path {
        &self.keys
    }

    /// Gives a file, or a folder and what is in it, to the user that nodes run as.
    pub fn give_to_nodes(&self, path: &Path) -> Result<()> {
        rights::give(path)
    }
}
