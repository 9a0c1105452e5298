//! `samepath bench` as an operator uses it: without root, interfaces or a daemon.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::{Pid, geteuid};
use samepath_tests::bed::{USER, program_for_all};
use samepath_tests::program;
use serde_json::Value;

/// As little as can be measured.
const SMALL: [&str; 6] = ["--sessions", "64", "--repetitions", "3", "--seconds", "0.01"];

/// A build for tests is none to measure with: the command says so, and that is all that is wrong on a calm machine.
const DOUBTFUL: i32 = 5;

/// `samepath bench <arguments>` of a user without rights.
fn bench(arguments: &[&str]) -> Result<Output> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new(program_for_all(folder.path())?);
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SAMEPATH_")) {
        command.env_remove(name);
    }
    if geteuid().is_root() {
        command.uid(USER).gid(USER);
    }
    program::output(command.arg("bench").args(arguments))
}

fn document(arguments: &[&str]) -> Result<Value> {
    let output = bench(&[&SMALL, arguments, &["--json"]].concat())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!([0, DOUBTFUL].contains(&output.status.code().unwrap_or(-1)), "{}: {said}", output.status);
    let document: Value = serde_json::from_slice(&output.stdout).with_context(|| said.into_owned())?;
    let doubts = document["doubts"].as_array().context("no doubts")?.len();
    ensure!((doubts > 0) == (output.status.code() == Some(DOUBTFUL)), "{}: {document:#}", output.status);
    Ok(document)
}

/// Cores it may use.
fn cores() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect())
}

/// Median, lowest and highest, which must be positive and in this order.
fn spread(value: &Value) -> Result<[f64; 3]> {
    let of = |name| value[name].as_f64().with_context(|| format!("no {name} in {value}"));
    let all @ [median, lowest, highest] = [of("median")?, of("lowest")?, of("highest")?];
    ensure!(0.0 < lowest && lowest <= median && median <= highest && highest.is_finite(), "{value}");
    Ok(all)
}

#[test]
fn every_role_has_figures_that_fit_each_other() -> Result<()> {
    let document = document(&["--workers", "1"])?;
    ensure!(
        document["kind"] == "bench" && document["schema"] == 1 && document["sessions"] == 64,
        "{document:#}"
    );
    let mut named = Vec::new();
    for figure in document["figures"].as_array().context("no figures")? {
        let (mpps, ns) = (spread(&figure["mpps"])?, spread(&figure["ns_per_packet"])?);
        for (rate, time) in [(mpps[0], ns[0]), (mpps[1], ns[2]), (mpps[2], ns[1])] {
            ensure!((rate * time - 1000.0).abs() < 0.001, "{rate} Mpps are not {time} ns: {figure}");
        }
        // A machine that tells no clock rate has no cycles.
        if !figure["cycles_per_packet"].is_null() {
            let cycles = spread(&figure["cycles_per_packet"])?;
            ensure!((cycles[2] / cycles[1] - ns[2] / ns[1]).abs() < 0.001, "{figure}");
        }
        ensure!(figure["packets"].as_u64() >= Some(3 * 64) && figure["together"].is_null(), "{figure}");
        named.push(format!("{} {}", figure["role"], figure["family"]).replace('"', ""));
    }
    let roles = ["local", "ingress", "owner", "director", "first"];
    let expected: Vec<String> =
        ["ipv4", "ipv6"].iter().flat_map(|family| roles.map(|role| format!("{role} {family}"))).collect();
    ensure!(named == expected, "{named:?}");
    Ok(())
}

#[test]
fn several_workers_are_compared_with_one() -> Result<()> {
    let [first, second, ..] = cores()?[..] else {
        println!("one core: two workers have none of their own");
        return Ok(());
    };
    let cores = format!("{second},{first}");
    let document = document(&["--role", "first,owner", "--family", "ipv6", "--cores", &cores])?;
    let figures = document["figures"].as_array().context("no figures")?;
    ensure!(
        figures.len() == 2 && figures[0]["role"] == "first" && figures[1]["role"] == "owner",
        "{document:#}"
    );
    for figure in figures {
        ensure!(figure["family"] == "ipv6" && figure["together"]["workers"] == 2, "{figure}");
        let [all, one] = [spread(&figure["together"]["mpps"])?, spread(&figure["mpps"])?];
        let over = spread(&figure["together"]["over_one"])?;
        // Each is of the same three rounds.
        ensure!(over[1] >= all[1] / one[2] - 0.001 && over[2] <= all[2] / one[1] + 0.001, "{figure}");
    }
    Ok(())
}

#[test]
fn a_person_reads_a_table_and_what_it_is_not() -> Result<()> {
    let core = cores()?[0].to_string();
    let output = bench(&[&SMALL[..], &["--role", "local", "--family", "ipv4", "--core", &core]].concat())?;
    let (table, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("local")).collect();
    ensure!(
        rows.len() == 1
            && table.contains(&format!("one worker on core {core};"))
            && !table.contains("over one"),
        "{table}"
    );
    ensure!(table.contains("no NIC, no kernel, no rings") && table.contains("samepath top"), "{table}");
    ensure!(!cfg!(debug_assertions) || said.contains("warning: this program is a debug build"), "{said}");
    Ok(())
}

#[test]
fn bad_input_is_refused_with_the_rule_and_the_remedy() -> Result<()> {
    let core = cores()?[0].to_string();
    for (arguments, words) in [
        (&["--sessions", "0"][..], &["--sessions", "from 64 to 16777216"][..]),
        (&["--sessions", "many"], &["--sessions", "from 64 to 16777216"]),
        (&["--workers", "0"], &["--workers", "from 1 to 64"]),
        (&["--workers", "2", "--cores", &core], &["--workers 2", "a core of its own", "write at most 1"]),
        (&["--cores", "1023"], &["core 1023", &format!("choose from {core}")]),
        (&["--cores", "3-1"], &["--cores", "for example 2-3"]),
        (&["--role", "owner,boss"], &["'boss'", "--role", "local, ingress, owner, director, first"]),
        (&["--family", "ipx"], &["'ipx'", "--family", "ipv4, ipv6"]),
        (&["--repetitions", "0"], &["--repetitions", "1..=1000"]),
        (&["--seconds", "0"], &["--seconds", "from 0.01 to 60"]),
    ] {
        let output = bench(arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(2) && output.stdout.is_empty(),
            "{arguments:?}: {}: {said}",
            output.status
        );
        for word in words {
            ensure!(said.contains(word), "{arguments:?}: it does not say `{word}`: {said}");
        }
    }
    Ok(())
}
