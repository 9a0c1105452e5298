//! A real etcd on the bed's cluster switch.

use anyhow::Result;

use crate::bed::{Bed, Service};

/// Where it listens.
const ADDRESS: &str = "10.9.0.100";

/// Gives it its address, once for each bed.
pub fn prepare(bed: &Bed) -> Result<()> {
    bed.switch().ip(&format!("address add {ADDRESS}/24 dev br0"))
}

/// Starts it, with what it knew before if it ran in this bed.
pub fn start(bed: &Bed) -> Result<Service> {
    let url = format!("http://{ADDRESS}:2379");
    let mut command = bed.switch().command("etcd");
    command.arg("--data-dir").arg(bed.runtime().join("etcd"));
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
    bed.start_service("etcd", &mut command)
}

/// Value of `--membership`.
pub fn membership() -> String {
    format!("etcd://{ADDRESS}:2379")
}

/// Whether all running nodes say of their membership this word.
pub fn all_say(bed: &Bed, word: &str) -> Result<bool> {
    bed.running().into_iter().try_fold(true, |all, node| Ok(all && bed.members(node)?["membership"] == word))
}
