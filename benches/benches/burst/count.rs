//! Instructions per packet: callgrind watches the turns of two runs that differ only in how many there are.

use std::path::Path;
use std::process::Command;

use samepath_dataplane::bench::{BURST, Case};

/// Turns of the shorter and of the longer run: the first ones are left out, memory is touched in them.
const TURNS: [u32; 2] = [32, 96];

/// Instructions one packet costs between its receive descriptor and its send descriptor. An error says why
/// they cannot be counted.
pub(crate) fn per_packet(case: Case) -> Result<f64, String> {
    let [short, long] = TURNS.map(|turns| inside_turns(case, turns));
    let packets = f64::from(TURNS[1] - TURNS[0]) * BURST as f64;
    Ok((long? - short?) as f64 / packets)
}

fn inside_turns(case: Case, turns: u32) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program's path: {error}"))?;
    let folder = tempfile::tempdir().map_err(|error| format!("a folder for callgrind: {error}"))?;
    let out = folder.path().join("callgrind.out");
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*node*Node*turn*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(["--run", case.role.name(), case.family.name()])
        .args([case.sessions.to_string(), turns.to_string()]);
    let output = command.output().map_err(|error| format!("valgrind (Debian package valgrind): {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    total(&out).ok_or_else(|| format!("{}: callgrind gave no totals", case.name()))
}

fn total(out: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(out).ok()?;
    let line =
        text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")))?;
    line.trim().parse().ok()
}
