//! What an operator gets wrong: one clear sentence with the remedy, exit code 1 or 2, nothing left attached.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use samepath_tests::bed::plan::{self, CONTROL_PORT, Family};
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::{artifacts, program};

/// Exit codes (`samepath --help`): it failed, and it was called in a way that cannot work. Where the flags are
/// well formed but do not fit this machine, either is right.
const FAILED: &[i32] = &[1];
const USAGE: &[i32] = &[2];
const REFUSED: &[i32] = &[1, 2];

/// A node that is refused by its peers gives up after its join grace (3 s); on a busy machine later.
const GIVES_UP: Duration = Duration::from_secs(20);

/// `samepath run` on `node` with these flags must end by itself with `code`, its last line on standard error
/// must be one sentence with all of `words`, and nothing may stay attached.
fn is_refused(bed: &Bed, node: u8, flags: &[&str], codes: &[i32], words: &[&str]) -> Result<()> {
    let attached_before = bed.attached(node)?;
    let mut service = bed.spawn_samepath(node, flags)?;
    let status = service.wait(GIVES_UP).with_context(|| service.log_tail())?;
    let log = service.log_tail();
    let code = status.code().with_context(|| format!("{flags:?}: {status}"))?;
    ensure!(codes.contains(&code), "{flags:?}: {status}, not one of {codes:?}: {log}");
    says(&log, words).with_context(|| format!("{flags:?}"))?;
    let attached = bed.attached(node)?;
    ensure!(attached == attached_before, "{flags:?}: {attached:?} is attached");
    Ok(())
}

/// `samepath check` must refuse the same flags in the same way, starting nothing.
fn check_refuses(bed: &Bed, node: u8, flags: &[&str], codes: &[i32], words: &[&str]) -> Result<()> {
    let mut check = bed.node_namespace(node).command(artifacts::samepath()?);
    let output = program::output(check.arg("check").args(bed.flags(node, flags)))?;
    let log = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().context("check was killed")?;
    ensure!(codes.contains(&code), "check {flags:?}: {code}, not one of {codes:?}: {log}");
    says(&log, words)
}

fn says(log: &str, words: &[&str]) -> Result<()> {
    let complaints: Vec<&str> =
        log.lines().filter(|line| line.starts_with("samepath: ") || line.starts_with("error: ")).collect();
    ensure!(complaints.len() == 1, "{} sentences, not one: {log}", complaints.len());
    for word in words {
        ensure!(log.contains(word), "the sentence does not say `{word}`: {log}");
    }
    Ok(())
}

/// A program that passes everything, as somebody else might have attached.
fn attach_foreign_program(bed: &Bed, node: u8) -> Result<()> {
    let object = program::foreign_xdp(bed.runtime())?.display().to_string();
    bed.node_namespace(node).ip(&format!("link set dev inside xdpdrv object {object} section xdp"))
}

#[test]
fn flags_and_host_are_checked_before_anything_is_attached() -> Result<()> {
    let bed = Bed::new("misuse-flags", Shape::default())?;
    bed.make_keys()?;
    let nowhere = bed.runtime().join("nowhere").display().to_string();
    for (flags, codes, words) in [
        (&["--data", "inside=nosuch", "--data", "outside=outside"][..], REFUSED, &["nosuch"][..]),
        (&["--cluster-link", "nosuch"], REFUSED, &["nosuch"]),
        (&["--cluster-address", "10.9.0.77"], REFUSED, &["10.9.0.77", "ip address add"]),
        (&["--keys", &nowhere], REFUSED, &["nowhere", "samepath keys"]),
        (&["--node-id", "9"], REFUSED, &["node-9", "samepath keys issue"]),
        (&["--node-id", "0"], USAGE, &["--node-id"]),
        (&["--cluster-id", "99999999"], USAGE, &["--cluster-id"]),
        (&["--workers", "none"], USAGE, &["--workers"]),
        (&["--xdp-mode", "fast"], USAGE, &["--xdp-mode", "native"]),
        (&["--peer", "2=nonsense"], USAGE, &["--peer"]),
        (&["--peer", "1=10.9.0.2"], USAGE, &["--peer", "--node-id"]),
        (&["--timeout", "tcp_nonsense=5"], USAGE, &["--timeout"]),
        (&["--director-hash", "md5"], USAGE, &["--director-hash", "ip-pair"]),
        (&["--cores", "77"], REFUSED, &["77"]),
        (&["--no-such-flag", "1"], USAGE, &["--no-such-flag"]),
    ] {
        is_refused(&bed, 1, flags, codes, words)?;
        check_refuses(&bed, 1, flags, codes, words)?;
    }
    bed.remove()
}

#[test]
fn a_port_that_is_taken_is_named() -> Result<()> {
    let bed = Bed::new("misuse-port", Shape::default())?;
    bed.make_keys()?;
    let taken = bed
        .node_namespace(1)
        .enter(|| Ok(UdpSocket::bind((plan::cluster_address(Family::V4, 1), CONTROL_PORT))?))?;
    is_refused(&bed, 1, &[], FAILED, &["6082"])?;
    drop(taken);
    bed.remove()
}

#[test]
fn a_foreign_program_is_named_left_alone_and_replaced_when_asked() -> Result<()> {
    let mut bed = Bed::new("misuse-foreign", Shape::default())?;
    bed.make_keys()?;
    attach_foreign_program(&bed, 1)?;
    ensure!(bed.attached(1)?.len() == 1, "the foreign program is not there");
    is_refused(&bed, 1, &[], FAILED, &["inside", "--replace"])?;
    // `--replace` is a switch.
    bed.start_node(1, &["--replace"])?;
    bed.finish_nodes()?;
    bed.remove()
}

#[test]
fn nodes_that_disagree_do_not_run_beside_each_other() -> Result<()> {
    let mut bed = Bed::new("misuse-peers", Shape::default())?;
    bed.start_node(1, &[])?;
    bed.start_node(3, &[])?;

    is_refused(&bed, 2, &["--director-hash", "five-tuple"], FAILED, &["--director-hash"])?;
    is_refused(&bed, 2, &["--cluster-id", "4"], FAILED, &["--cluster-id"])?;

    let stranger = bed.runtime().join("other-keys");
    other_keys(&stranger, 2)?;
    bed.give_to_nodes(&stranger)?;
    let stranger = stranger.display().to_string();
    is_refused(&bed, 2, &["--keys", &stranger], FAILED, &["samepath keys issue"])?;

    let twin = ["--node-id", "1", "--peer", "2=10.9.0.1", "--peer", "3=10.9.0.3"];
    is_refused(&bed, 2, &twin, FAILED, &["node"])?;

    // The good ones went on all the while.
    for node in [1, 3] {
        ensure!(bed.status(node)?["members"] == serde_json::json!([1, 3]), "node {node} changed");
    }
    bed.start_node(2, &[])?;
    bed.wait_members(3)?;
    bed.finish()
}

fn other_keys(folder: &Path, node: u8) -> Result<()> {
    let samepath = artifacts::samepath()?;
    program::run(Command::new(&samepath).args(["keys", "init"]).arg(folder))?;
    let mut issue = Command::new(&samepath);
    issue.args(["keys", "issue"]).arg(folder).args(["--node", &node.to_string()]);
    program::run(&mut issue).map(drop)
}

#[test]
fn a_second_daemon_on_the_same_interfaces_leaves_the_first_alone() -> Result<()> {
    let mut bed = Bed::new("misuse-twice", Shape::default())?;
    bed.start_node(1, &[])?;
    let other_socket = bed.runtime().join("second.sock").display().to_string();
    is_refused(&bed, 1, &[], FAILED, &["samepath"])?;
    let flags = ["--control-socket", &other_socket, "--control-port", "7082"];
    is_refused(&bed, 1, &flags, FAILED, &["inside"])?;
    ensure!(bed.status(1)?["ready"] == true, "the first daemon is not ready any more");
    bed.finish()
}

#[test]
fn a_killed_node_restarts_at_once_and_a_stopped_one_leaves_nothing() -> Result<()> {
    let mut bed = Bed::new("misuse-kill", Shape::default())?;
    for _ in 0..3 {
        bed.start_node(1, &[])?;
        bed.kill_node(1)?;
    }
    bed.start_node(1, &["--on-crash", "open"])?;
    bed.kill_node(1)?;
    bed.start_node(1, &[])?;
    bed.finish_nodes()?;
    bed.remove()
}
