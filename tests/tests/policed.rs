//! Policy on real traffic over the split path: what is allowed works, what is denied is silent, what is rejected is
//! refused at once; a reload reaches flows that live.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use samepath_tests::bed::plan::{self, Family};
use samepath_tests::bed::{Bed, Service, Shape};
use samepath_tests::scenario::kept::start_server;
use samepath_tests::scenario::strict;
use samepath_tests::{artifacts, program, wait};
use serde_json::Value;

/// Ports of the server: allowed (the answering server of `strict`, and the echo), rejected, and not named.
const ECHO: u16 = 7010;
const REJECTED: u16 = 7001;
const DENIED: u16 = 7002;

const PATIENCE: Duration = Duration::from_secs(15);
/// Longer than a refusal takes, shorter than the client's second SYN but one.
const SILENCE: Duration = Duration::from_secs(2);

/// Web, echo and ping may begin inside; one port is rejected.
const POLICY: &str = r#"
default = "deny"

[[rule]]
name = "refused"
protocol = ["tcp", "udp"]
destination_port = 7001
action = "reject"
log = true

[[rule]]
name = "asked"
from = "inside"
protocol = ["tcp", "udp"]
destination_port = 7000
action = "allow"

[[rule]]
name = "echo"
from = "inside"
protocol = "tcp"
destination_port = 7010
action = "allow"

[[rule]]
name = "ping"
from = "inside"
protocol = ["icmp", "icmpv6"]
icmp = "echo-request"
action = "allow"
"#;

struct Policed {
    bed: Bed,
    file: PathBuf,
}

fn policed(name: &str) -> Result<Policed> {
    let mut bed = Bed::new(name, Shape::default())?;
    let file = bed.runtime().join("policy.toml");
    fs::write(&file, POLICY)?;
    bed.start_nodes(&["--policy", &file.display().to_string()])?;
    Ok(Policed { bed, file })
}

fn connect(bed: &Bed, family: Family, port: u16) -> std::io::Result<TcpStream> {
    let to = SocketAddr::new(plan::server(family, 0), port);
    let connected = bed.client().enter(|| Ok(TcpStream::connect_timeout(&to, SILENCE)));
    connected.map_err(std::io::Error::other)?
}

/// The error with which a datagram to a port is answered.
fn datagram_refused(bed: &Bed, family: Family, port: u16) -> Result<Option<ErrorKind>> {
    let (from, to): (IpAddr, IpAddr) = (plan::client(family, 0), plan::server(family, 0));
    let socket = bed.client().enter(|| Ok(UdpSocket::bind((from, 0))?))?;
    socket.connect((to, port))?;
    socket.set_read_timeout(Some(SILENCE))?;
    socket.send(b"anybody?")?;
    match socket.recv(&mut [0; 16]) {
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Ok(Some(error.kind())),
    }
}

/// A counter of a rule, summed over the nodes.
fn counted(bed: &Bed, rule: &str, counter: &str) -> Result<u64> {
    let mut sum = 0;
    for number in bed.running() {
        let shown: Value = bed.cli(number)?.json(&["policy", "show"])?;
        let rules = shown["rules"].as_array().context("no rules are shown")?;
        let row = rules.iter().find(|row| row["name"] == rule).context("no such rule")?;
        sum += row[counter].as_u64().context("no such counter")?;
    }
    Ok(sum)
}

fn sum(bed: &Bed, of: impl Fn(&samepath_tests::cli::Stats) -> u64) -> Result<u64> {
    bed.running().into_iter().map(|number| Ok(of(&bed.stats(number)?))).sum()
}

#[test]
fn what_the_policy_allows_works_and_the_rest_is_denied_or_refused() -> Result<()> {
    let Policed { bed, .. } = policed("policy")?;
    let server = strict::serve(&bed)?;
    strict::exchange(&bed, &server, 60)?;
    // Without a backup anywhere, replies of UDP are found by Lookup.
    bed.cut_replication()?;
    strict::exchange(&bed, &server, 60)?;
    bed.mend_replication()?;
    drop(server);
    for family in Family::BOTH {
        let to = plan::server(family, 0).to_string();
        program::run(bed.client().command("ping").args(["-c", "3", "-i", "0.2", "-W", "5", &to]))?;
    }
    ensure!(counted(&bed, "asked", "flows")? >= 240, "flows of the rule `asked`");
    ensure!(counted(&bed, "ping", "flows")? == 2, "a ping is one flow");

    let asked = sum(&bed, |stats| stats.tunnel.query_tx)?;
    for family in Family::BOTH {
        let refused = connect(&bed, family, REJECTED).err().map(|error| error.kind());
        ensure!(refused == Some(ErrorKind::ConnectionRefused), "TCP over {family:?}: {refused:?}");
        let silent = connect(&bed, family, DENIED).err().map(|error| error.kind());
        ensure!(silent == Some(ErrorKind::TimedOut), "TCP over {family:?}: {silent:?}");
        let answered = datagram_refused(&bed, family, REJECTED)?;
        let expected = match family {
            Family::V4 => ErrorKind::HostUnreachable,
            Family::V6 => ErrorKind::PermissionDenied,
        };
        ensure!(answered == Some(expected), "UDP over {family:?}: {answered:?}");
        ensure!(datagram_refused(&bed, family, DENIED)?.is_none(), "a denied datagram is not answered");
    }
    let curl = program::output(bed.client().command("curl").args([
        "-s",
        "-m",
        "10",
        &format!("http://{}:{REJECTED}/", plan::server(Family::V4, 0)),
    ]))?;
    ensure!(curl.status.code() == Some(7), "curl says connection refused: {curl:?}");
    let crossed = sum(&bed, |stats| stats.tunnel.query_tx)? - asked;
    ensure!(crossed == 0, "{crossed} packets that may not begin a flow crossed the cluster link");
    for number in bed.running() {
        let left = bed.sessions(number)?;
        let denied = left.iter().find(|row| [REJECTED, DENIED].contains(&row.dport));
        ensure!(denied.is_none(), "node {number} knows {denied:?}");
    }
    ensure!(counted(&bed, "refused", "packets")? >= 5, "packets of the rule `refused`");
    ensure!(sum(&bed, |stats| stats.verdicts["reject"])? >= 5, "answers");
    ensure!(sum(&bed, |stats| stats.dropped_for("policy_denied"))? >= 4, "denied packets");
    bed.finish()
}

/// A connection to the echo server, over the split path.
struct Flow(TcpStream);

impl Flow {
    fn open(bed: &Bed) -> Result<Self> {
        let stream = connect(bed, Family::V4, ECHO)?;
        stream.set_read_timeout(Some(SILENCE))?;
        Ok(Self(stream))
    }

    /// True if what is said comes back.
    fn lives(&mut self) -> bool {
        let mut heard = [0; 5];
        self.0.write_all(b"hello").is_ok() && self.0.read_exact(&mut heard).is_ok() && heard == *b"hello"
    }
}

fn echo(bed: &Bed) -> Result<Service> {
    start_server(bed, "echo", ECHO, &[plan::server(Family::V4, 0)])
}

fn reload_all(bed: &Bed) -> Result<()> {
    bed.running().into_iter().try_for_each(|number| bed.cli(number)?.run(&["policy", "reload"]).map(drop))
}

/// Digests of the policy, as every node has them.
fn digests(bed: &Bed) -> Result<Vec<String>> {
    let of = |number| Ok(bed.status(number)?["policy"].as_str().unwrap_or_default().to_owned());
    bed.running().into_iter().map(of).collect()
}

#[test]
fn a_reload_reaches_a_flow_that_lives_and_a_broken_file_changes_nothing() -> Result<()> {
    let Policed { mut bed, file } = policed("policy-reload")?;
    let service = echo(&bed)?;
    let mut flow = Flow::open(&bed)?;
    ensure!(flow.lives(), "the flow is allowed");
    let first = digests(&bed)?;
    ensure!(first.iter().all(|one| *one == first[0] && one.len() == 16), "{first:?}");

    fs::write(&file, POLICY.replace("protocol = \"tcp\"", "protocol = \"tpc\""))?;
    let mut reload = bed.client().command(artifacts::samepath()?);
    let refused = program::output(reload.args(["policy", "reload", "--control-socket"]).arg(bed.socket(1)))?;
    let sentence = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    ensure!(
        sentence.contains("rule \"echo\": protocol") && sentence.contains("stays in force"),
        "{sentence}"
    );
    let warnings = bed.status(1)?["warnings"].to_string();
    ensure!(warnings.contains("the last policy was not taken"), "{warnings}");
    ensure!(digests(&bed)? == first && flow.lives(), "a broken file changed something");

    fs::write(&file, POLICY.replace("destination_port = 7010", "destination_port = [7010, 7011]"))?;
    bed.cli(1)?.run(&["policy", "reload"])?;
    wait::until_true("members show that node 1 has another policy", PATIENCE, || {
        let members = bed.members(2)?;
        let rows = members["members"].as_array().context("no members")?;
        Ok(rows[0]["policy"] != rows[1]["policy"] && rows[1]["policy"] == rows[2]["policy"])
    })?;
    reload_all(&bed)?;
    let second = digests(&bed)?;
    ensure!(second[0] != first[0] && second.iter().all(|one| *one == second[0]), "{second:?}");
    ensure!(flow.lives(), "the flow is still allowed");
    ensure!(counted(&bed, "echo", "flows")? == 1, "counters go on, and a flow that goes on is no new one");

    fs::write(&file, POLICY.replace("destination_port = 7010", "destination_port = 7011"))?;
    for number in bed.running() {
        bed.signal_node(number, Signal::SIGHUP)?;
    }
    wait::until_true("all nodes have read the policy", PATIENCE, || {
        Ok(digests(&bed)?.iter().all(|one| *one != second[0]))
    })?;
    ensure!(!flow.lives(), "the flow is denied now");
    ensure!(sum(&bed, |stats| stats.dropped_for("policy_ended"))? == 1, "its next packet ended it");
    for number in bed.running() {
        wait::until_true(&format!("node {number} has forgotten the flow"), PATIENCE, || {
            Ok(!bed.sessions(number)?.iter().any(|row| row.dport == ECHO))
        })?;
    }
    ensure!(connect(&bed, Family::V4, ECHO).is_err(), "nor does a new one begin");
    drop((flow, service));
    bed.finish()
}
