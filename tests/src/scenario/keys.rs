//! From one CA to the next while the cluster works, as docs/operations.md says.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::bed::Bed;
use crate::bed::plan::NODES;
use crate::{artifacts, program, wait};

/// How long nodes may take to talk under other keys: a redial waits a tenth of a second.
const TAKEN: Duration = Duration::from_secs(10);

/// New CA beside the old one, new certificates, old CA forgotten; the nodes read their keys after each step.
pub(super) fn replace_ca(bed: &mut Bed) -> Result<()> {
    let before = keys(bed, 1)?;
    let old = before["issuer"].clone();
    let epoch = bed.cli(1)?.ask::<Value>("status")?["epoch"].clone();
    samepath(bed, "rollover", &[])?;
    reload(bed, |keys| keys["cas"] == 2 && keys["issuer"] == old)?;
    for number in 1..=NODES {
        samepath(bed, "issue", &["--node", &number.to_string(), "--renew"])?;
    }
    reload(bed, |keys| keys["cas"] == 2 && keys["issuer"] != old)?;
    samepath(bed, "retire", &[])?;
    reload(bed, |keys| keys["cas"] == 1 && keys["issuer"] != old)?;
    let after = bed.cli(1)?.ask::<Value>("status")?["epoch"].clone();
    ensure!(after == epoch, "the view changed from epoch {epoch} to {after}");
    Ok(())
}

fn samepath(bed: &Bed, command: &str, arguments: &[&str]) -> Result<()> {
    let mut samepath = Command::new(artifacts::samepath()?);
    samepath.args(["keys", command]).arg(bed.keys()).args(arguments);
    program::run(&mut samepath)?;
    bed.give_to_nodes(bed.keys())
}

fn keys(bed: &Bed, number: u8) -> Result<Value> {
    Ok(bed.cli(number)?.ask::<Value>("status")?["keys"].clone())
}

/// SIGHUP to all nodes, one after the other; waits until each has the keys and talks to both peers under them.
fn reload(bed: &mut Bed, taken: impl Fn(&Value) -> bool) -> Result<()> {
    for number in 1..=NODES {
        bed.signal_node(number, Signal::SIGHUP)?;
        wait::until_true(&format!("node {number} talks under its new keys"), TAKEN, || {
            let status: Value = bed.cli(number)?.ask("status")?;
            ensure!(taken(&status["keys"]), "{}", status["keys"]);
            let warnings = status["warnings"].to_string();
            ensure!(!warnings.contains("keys") && !warnings.contains("certificate"), "{warnings}");
            let members: Value = bed.cli(number)?.ask("members")?;
            let connected = members["members"].as_array().into_iter().flatten();
            let connected = connected.filter(|member| member["connected"] == true).count();
            ensure!(connected == usize::from(NODES), "{members}");
            Ok(true)
        })?;
    }
    Ok(())
}
