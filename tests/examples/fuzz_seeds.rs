//! Writes the seeds of every fuzz target into a folder: `fuzz_seeds FOLDER` makes `FOLDER/TARGET/seed-00`, …

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use samepath_tests::fuzz::{TARGETS, seeds};

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("fuzz_seeds FOLDER: where to")?);
    for (target, _) in TARGETS {
        let folder = folder.join(target);
        fs::create_dir_all(&folder)?;
        for (name, bytes) in seeds::of(target) {
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
