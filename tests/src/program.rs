//! Running other programs (ip, nft, tshark, samepath) to their end.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `command` to its end with its output captured.
pub fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {:?}", command.get_program()))
}

/// Runs `command`; its standard output if it ended with 0, otherwise an error with its standard error.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` with `input` on its standard input, for programs that read a batch (`ip -batch -`, `nft -f -`).
pub fn feed(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}\n{input}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Compiles, in `folder`, an XDP program that passes everything, as somebody else might have attached; its section is `xdp`.
pub fn foreign_xdp(folder: &Path) -> Result<PathBuf> {
    let (source, object) = (folder.join("foreign.c"), folder.join("foreign.o"));
    fs::write(
        &source,
        "__attribute__((section(\"xdp\"), used)) int foreign(void *c) { return 2; }\n\
         __attribute__((section(\"license\"), used)) char permission[] = \"GPL\";\n",
    )?;
    let mut clang = Command::new("clang");
    run(clang.args(["-O2", "-g", "-target", "bpf", "-c"]).arg(&source).arg("-o").arg(&object))?;
    Ok(object)
}
