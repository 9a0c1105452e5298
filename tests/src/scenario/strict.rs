//! Many real connections over the split path while no backup can exist.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bed::plan::{self, Family, NODES};
use crate::bed::{Bed, Service};
use crate::traffic::Tally;
use crate::{artifacts, program, wait};

/// Port of the answering server.
const PORT: u16 = 7000;

/// Server addresses that are asked, per IP version; clients use all of theirs.
const SERVERS: u8 = 4;

/// The answering server, on several addresses of both IP versions. Ends when dropped.
#[derive(Debug)]
pub struct Answering {
    service: Service,
}

/// Starts the server.
pub fn serve(bed: &Bed) -> Result<Answering> {
    let mut command = bed.server().command(artifacts::sibling("samepath-traffic")?);
    command.args(["serve", "--port", &PORT.to_string()]);
    for family in Family::BOTH {
        for index in 0..SERVERS {
            command.args(["--address", &plan::server(family, index).to_string()]);
        }
    }
    let service = bed.start_service("answering-server", &mut command)?;
    wait::until_true("the server is ready", Duration::from_secs(10), || {
        Ok(service.output().contains("ready"))
    })?;
    Ok(Answering { service })
}

/// `count` TCP connections and `count` UDP exchanges, half of each over IPv4 and half over IPv6, over
/// address pairs whose Directors are all nodes. None may fail, none may meet a reset, nothing may be dropped
/// for want of state or by the window check.
pub fn exchange(bed: &Bed, server: &Answering, count: usize) -> Result<()> {
    let aborted_before = aborted(bed)?;
    // For whoever has to find out why an exchange failed: it stays in the log folder.
    let capture = bed.capture("exchanges", bed.client(), &["eth0"])?;
    for family in Family::BOTH {
        for what in ["tcp", "udp"] {
            let tally = ask(bed, what, family, count / 2)?;
            ensure!(
                (tally.ok, tally.failed, tally.resets) == ((count / 2) as u64, 0, 0),
                "{what} over {family:?}: {tally:?}; drops: {}",
                drops(bed)?
            );
        }
    }
    let aborted = aborted(bed)? - aborted_before;
    ensure!(aborted == 0, "{aborted} TCP connections ended otherwise than by both ends' FIN");
    let complaints = server.service.log_tail();
    ensure!(complaints.is_empty(), "the server met: {complaints}");
    capture.stop()?;
    for number in bed.running() {
        let stats = bed.stats(number)?;
        for reason in ["no_session", "tcp_window", "tcp_flags"] {
            let dropped = stats.dropped_for(reason);
            ensure!(dropped == 0, "node {number} dropped {dropped} packets for {reason}");
        }
    }
    Ok(())
}

fn ask(bed: &Bed, what: &str, family: Family, count: usize) -> Result<Tally> {
    let mut command = bed.client().command(artifacts::sibling("samepath-traffic")?);
    command.args([what, "--at-once", "16", "--patience", "15", "--count", &count.to_string()]);
    for index in 0..SERVERS {
        let to = SocketAddr::new(plan::server(family, index), PORT);
        command.args(["--to", &to.to_string()]);
    }
    for index in 0..bed.shape().addresses {
        command.args(["--from", &plan::client(family, index).to_string()]);
    }
    let said = program::run(&mut command)?;
    serde_json::from_str(&said).with_context(|| format!("samepath-traffic said {said}"))
}

/// TCP connections of client and server that could not be opened or were reset so far (`Tcp: AttemptFails`
/// and `EstabResets`, RFC 4022). Not counted: the reset with which a closed socket answers a late duplicate
/// (a tail loss probe of the last FIN, for example), which ends no connection.
fn aborted(bed: &Bed) -> Result<u64> {
    [bed.client(), bed.server()].into_iter().map(|host| host.enter(tcp_aborted)).sum()
}

fn tcp_aborted() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let names = lines.next().context("no Tcp names in /proc/net/snmp")?.split(' ');
    let values = lines.next().context("no Tcp values in /proc/net/snmp")?.split(' ');
    let counters: BTreeMap<&str, &str> = names.zip(values).collect();
    ["AttemptFails", "EstabResets"]
        .into_iter()
        .map(|name| Ok(counters.get(name).with_context(|| format!("no {name}"))?.parse::<u64>()?))
        .sum()
}

/// What every node dropped, for a failure's message.
fn drops(bed: &Bed) -> Result<String> {
    let mut all = String::new();
    for number in 1..=NODES {
        let mut drops = bed.stats(number)?.drops;
        drops.retain(|_, count| *count > 0);
        all += &format!("node {number} {drops:?} ");
    }
    Ok(all)
}
