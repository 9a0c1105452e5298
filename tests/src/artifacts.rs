//! Where cargo puts what is built, and the daemon's binary.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use anyhow::{Context, Result, anyhow, bail};

use crate::program;

/// Folder of this build: `target/debug` or `target/release`.
fn profile() -> Result<PathBuf> {
    let exe = env::current_exe().context("own path is unknown")?;
    let folder = exe.parent().context("own path has no folder")?;
    let folder = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    Ok(folder.context("own path is too short")?.to_owned())
}

/// Cargo's target folder.
pub fn target() -> Result<PathBuf> {
    Ok(profile()?.parent().context("no target folder above the profile's")?.to_owned())
}

/// Top folder of the workspace.
pub fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// The daemon under test: `SAMEPATH_BIN`, otherwise what cargo builds in this build's profile (it is
/// brought up to date once per process).
pub fn samepath() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT
        .get_or_init(|| locate_samepath().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow!(error))
}

fn locate_samepath() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SAMEPATH_BIN") {
        let path = PathBuf::from(path);
        return fs::canonicalize(&path).with_context(|| format!("SAMEPATH_BIN={path:?} cannot be used"));
    }
    let profile = profile()?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // With one package, or without a test target, cargo would choose other features for shared crates than
    // for this test and build half of them again.
    cargo.args(["build", "--quiet", "--workspace", "--bin", "samepath", "--test", "bed"]);
    cargo.arg("--target-dir");
    cargo.arg(target()?).current_dir(workspace());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    program::run(&mut cargo).context("cannot build the daemon")?;
    sibling("samepath")
}

/// A binary of this build by name.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let path = profile()?.join(name);
    if !path.exists() {
        bail!("{} is not built: run `cargo build` in the same profile first", path.display());
    }
    Ok(path)
}
