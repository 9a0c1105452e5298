//! `samepath capture`: tshark reads the file; it has the frames that were on the links, each with its verdict; what does not
//! fit is counted.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use samepath_tests::bed::plan::{End, Family};
use samepath_tests::bed::{Bed, SETTLE_SOON, Service, Shape};
use samepath_tests::frame::Way;
use samepath_tests::raw_port::RawPort;
use samepath_tests::{program, scenario, wait};

const SOON: Duration = Duration::from_secs(20);

/// Ports above are denied.
const POLICY: &str = r#"
default = "deny"

[[rule]]
name = "lower-half"
from = "inside"
protocol = "udp"
destination_port = "20000-24999"
action = "allow"
"#;

const ALLOWED: u16 = 24_000;
const DENIED: u16 = 25_000;

/// A frame of the file as tshark reads it.
#[derive(Debug)]
struct Captured {
    interface: String,
    inbound: bool,
    queue: String,
    comment: String,
    length: String,
    port: String,
}

struct Capturing {
    service: Service,
    file: PathBuf,
}

impl Capturing {
    /// Starts to capture on node 1; returns when it looks on.
    fn start(bed: &Bed, name: &str, arguments: &[&str]) -> Result<Self> {
        let file = bed.logs().join(format!("{name}.pcapng"));
        let path = file.to_str().context("the folder has a strange name")?;
        let arguments = [&["capture", "--timeout", "60", "-w", path], arguments].concat();
        let service = bed.start_client(name, &arguments, "looking on node 1;")?;
        Ok(Self { service, file })
    }

    /// What it says in the end, and what tshark reads.
    fn finish(mut self) -> Result<(String, Vec<Captured>)> {
        let ended = self.service.wait(SOON)?;
        ensure!(ended.success(), "{ended}: {}", self.service.log_tail());
        let mut tshark = Command::new("tshark");
        tshark.arg("-r").arg(&self.file).args(["-T", "fields", "-E", "separator=|"]);
        for field in
            ["frame.interface_name", "frame.packet_flags_direction", "frame.interface_queue", "frame.comment"]
        {
            tshark.args(["-e", field]);
        }
        tshark.args(["-e", "frame.len", "-e", "udp.dstport"]);
        let text = program::run(&mut tshark)?;
        Ok((self.service.log_tail(), text.lines().map(read).collect::<Result<_>>()?))
    }
}

fn read(line: &str) -> Result<Captured> {
    let mut fields = line.split('|').map(str::to_owned);
    let mut next = || fields.next().with_context(|| format!("tshark wrote {line}"));
    let (interface, direction) = (next()?, next()?);
    let inbound = matches!(direction.as_str(), "1" | "0x00000001" | "0x1");
    Ok(Captured { interface, inbound, queue: next()?, comment: next()?, length: next()?, port: next()? })
}

fn frame(ends: (IpAddr, IpAddr), port: u16, payload: &[u8]) -> Result<Vec<u8>> {
    Way {
        from: End::RouterA(1),
        to: End::Inside(1),
        vlan: None,
        source: (ends.0, 20_001),
        destination: (ends.1, port),
    }
    .udp(payload)
}

#[test]
fn packets_are_in_the_file_with_their_verdicts_and_what_is_missed_is_counted() -> Result<()> {
    let mut bed = Bed::new("capture", Shape::default())?;
    scenario::keep_from_hosts(&bed)?;
    let policy = bed.runtime().join("policy.toml");
    std::fs::write(&policy, POLICY)?;
    let policy = policy.display().to_string();
    bed.start_nodes(&[&["--policy", &policy][..], &SETTLE_SOON].concat())?;
    bed.wait_settled()?;
    let inside = RawPort::open(bed.router_a(), "n1")?;
    // Node 1 asks nobody: every packet comes once.
    let ends = bed.director_on(1, Family::V4)?;

    let capturing = Capturing::start(&bed, "capture", &["-c", "3", "--proto", "udp", "--zone", "inside"])?;
    let wire = bed.capture("capture-wire", bed.router_b(), &["n1"])?;
    inside.send(&frame(ends, DENIED, b"denied")?)?;
    inside.send(&frame(ends, ALLOWED, b"first")?)?;
    wait::until_true("node 1 owns the flow", SOON, || Ok(bed.stats(1)?.sessions.owner == 1))?;
    inside.send(&frame(ends, ALLOWED, b"established")?)?;
    let (_, captured) = capturing.finish()?;
    check(&captured)?;
    // What left by the data interface is on the link, as long as the file says.
    let on_link: Vec<String> = wire
        .finish(&format!("udp.dstport == {ALLOWED}"))?
        .iter()
        .map(|frame| frame.bytes.len().to_string())
        .collect();
    let left: Vec<String> = captured
        .iter()
        .filter(|one| !one.inbound && one.interface == "outside")
        .map(|one| one.length.clone())
        .collect();
    ensure!(!left.is_empty() && on_link.ends_with(&left), "on the link {on_link:?}, in the file {left:?}");

    missed_is_counted(&bed, &inside, ends)?;
    bed.finish()
}

fn check(captured: &[Captured]) -> Result<()> {
    let denied = &captured[0];
    ensure!(
        denied.inbound && denied.interface == "inside" && denied.port == DENIED.to_string(),
        "{captured:#?}"
    );
    ensure!(
        denied.queue == "0" && denied.comment.starts_with("verdict: drop (policy_denied);"),
        "{denied:?}"
    );
    // It did not leave: the next frame is another packet's.
    let first = &captured[1];
    ensure!(first.inbound && first.port == ALLOWED.to_string(), "{captured:#?}");
    let established = &captured[captured.len() - 2..];
    let [came, left] = established else { unreachable!("two") };
    ensure!(came.inbound && came.interface == "inside", "{captured:#?}");
    ensure!(!left.inbound && left.interface == "outside", "{captured:#?}");
    ensure!(came.comment == left.comment && came.comment.starts_with("verdict: forward;"), "{captured:#?}");
    ensure!(came.comment.contains("own session"), "{captured:#?}");
    Ok(())
}

/// With one slot only a burst does not fit: packets in the file and packets missed are all there were.
fn missed_is_counted(bed: &Bed, inside: &RawPort, ends: (IpAddr, IpAddr)) -> Result<()> {
    const SENT: usize = 400;
    let capturing =
        Capturing::start(bed, "capture-slots", &["--slots", "1", "--dport", &ALLOWED.to_string()])?;
    let before = bed.stats(1)?.rx;
    let frame = frame(ends, ALLOWED, b"burst")?;
    for sent in 1..=SENT {
        inside.send(&frame)?;
        if sent % 64 == 0 {
            wait::until_true("the packets are taken", SOON, || bed.rings_are_empty(1))?;
        }
    }
    wait::until_true("all are taken", SOON, || Ok(bed.stats(1)?.rx >= before + SENT as u64))?;
    capturing.service.signal(Signal::SIGINT)?;
    let (log, captured) = capturing.finish()?;
    let number = |before: &str| -> Result<usize> {
        let rest = log.split(before).nth(1).with_context(|| format!("`{before}` is missing: {log}"))?;
        Ok(rest.split(' ').next().unwrap_or_default().parse()?)
    };
    let missed = number("node 1 missed ")?;
    let packets = captured.iter().filter(|one| one.inbound).count();
    ensure!(missed > 0 && packets > 0, "{packets} captured, {missed} missed");
    ensure!(packets + missed == SENT, "{packets} captured and {missed} missed of {SENT}");
    ensure!(log.contains(&format!("{packets} packets captured")), "{log}");
    Ok(())
}
