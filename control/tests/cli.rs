//! The program as an operator meets it: exit codes and sentences.

use std::path::Path;
use std::process::{Command, Output};

/// A command that inherits no configuration.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SAMEPATH_") {
            command.env_remove(name);
        }
    }
    command
}

fn samepath(arguments: &[&str]) -> Output {
    command(env!("CARGO_BIN_EXE_samepath")).args(arguments).output().unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A valid command line but for `changed`: (option, value) pairs that replace or add.
fn check<'a>(changed: &[(&'a str, &'a str)]) -> Output {
    let needed = [
        ("--node-id", "1"),
        ("--cluster-id", "7"),
        ("--keys", "/nonexistent"),
        ("--data", "inside=nic-inside"),
        ("--cluster-link", "nic-cluster"),
        ("--cluster-address", "192.0.2.1"),
    ];
    let kept = needed.iter().filter(|(name, _)| changed.iter().all(|(given, _)| given != name));
    let mut arguments = vec!["check"];
    for (name, value) in kept.chain(changed) {
        arguments.extend([*name, *value]);
    }
    samepath(&arguments)
}

/// Runs `script` in a network namespace of its own; `$samepath` is the program.
fn in_namespace(script: &str, dir: &Path) -> Output {
    command("unshare")
        .args(["--net", "sh", "-euc", script])
        .env("samepath", env!("CARGO_BIN_EXE_samepath"))
        .env("dir", dir)
        .output()
        .unwrap()
}

#[test]
fn bad_values_are_usage_errors_with_one_sentence() {
    for (option, value, sentence) in [
        (
            "--node-id",
            "0",
            "--node-id 0: a node number is a whole number from 1 to 65535; write one of these",
        ),
        ("--peer", "1=192.0.2.9", "--peer 1=192.0.2.9 has this node's own number (--node-id 1)"),
        ("--sessions-max", "-5", "--sessions-max -5: a number of sessions is"),
        ("--timeout", "udp=never", "--timeout udp=never: a timeout in seconds is"),
        ("--config", "/nonexistent.toml", "--config /nonexistent.toml cannot be read"),
    ] {
        let output = check(&[(option, value)]);
        let text = complaint(&output);
        assert_eq!(output.status.code(), Some(2), "{option} {value}: {text}");
        assert!(text.starts_with(&format!("samepath: {sentence}")), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn run_refuses_what_check_refuses() {
    let arguments = ["run", "--node-id", "1", "--aggregation", "maybe"];
    let output = samepath(&arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(complaint(&output).starts_with("samepath: --aggregation maybe: only these words"));
    let output = samepath(&["run"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(complaint(&output).contains("--node-id N, --cluster-id N"), "{}", complaint(&output));
}

#[test]
fn unknown_flags_and_commands_are_usage_errors() {
    for arguments in [
        &["run", "--nodeid", "1"][..],
        &["fly"],
        &[],
        &["director", "10.0.0.1"],
        &["director", "10.0.0.1", "host"],
        &["aggregation", "maybe"],
        &["sessions", "--proto", "tpc"],
        &["sessions", "--state", "HALF_OPEN"],
        &["sessions", "--src", "10.0.0.0/40"],
        &["sessions", "--role", "boss"],
        &["keys", "issue", "/tmp", "--node", "0"],
    ] {
        let output = samepath(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", complaint(&output));
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn help_names_every_flag_and_the_meaning_of_reasons() {
    let help = String::from_utf8(samepath(&["run", "--help"]).stdout).unwrap();
    for (_, group) in samepath::config::options::OPTIONS {
        for option in *group {
            assert!(help.contains(&format!("--{}", option.name)), "{}", option.name);
        }
    }
    assert!(help.contains("--config"));
    let help = String::from_utf8(samepath(&["stats", "--help"]).stdout).unwrap();
    assert!(help.contains("no_session") && help.contains("Neither a session nor a claim"));
}

#[test]
fn an_interface_that_is_not_there_is_named_with_those_there_are() {
    let output = check(&[]);
    assert_eq!(output.status.code(), Some(2));
    let text = complaint(&output);
    assert!(text.contains("--data inside=nic-inside: there is no interface nic-inside here"), "{text}");
    assert!(text.contains("lo"), "{text}");
}

#[test]
fn variables_stand_for_flags() {
    let output = command(env!("CARGO_BIN_EXE_samepath"))
        .args(["check", "--node-id", "1"])
        .env("SAMEPATH_NODE_ID", "0")
        .env("SAMEPATH_CLUSTER_ID", "0")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    // Every source is read, the weakest first.
    assert!(complaint(&output).starts_with("samepath: SAMEPATH_NODE_ID=0: a node number"));
    let output = command(env!("CARGO_BIN_EXE_samepath"))
        .arg("status")
        .env("SAMEPATH_CONTROL_SOCKET", "/nonexistent/by-variable.sock")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(complaint(&output).contains("/nonexistent/by-variable.sock"));
}

#[test]
fn a_daemon_that_is_not_there_is_exit_code_3() {
    for command in ["status", "members", "sessions", "stats"] {
        let output = samepath(&[command, "--control-socket", "/nonexistent/node.sock"]);
        assert_eq!(output.status.code(), Some(3), "{command}");
        assert!(complaint(&output).contains("/nonexistent/node.sock"));
        assert!(complaint(&output).contains("samepath run"));
    }
}

#[test]
fn keys_are_made_once() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("keys");
    let dir = dir.to_str().unwrap();
    assert_eq!(samepath(&["keys", "init", dir]).status.code(), Some(0));
    assert_eq!(samepath(&["keys", "issue", dir, "--node", "3"]).status.code(), Some(0));
    for again in [&["keys", "init", dir][..], &["keys", "issue", dir, "--node", "3"]] {
        let output = samepath(again);
        assert_eq!(output.status.code(), Some(1));
        assert!(complaint(&output).contains("exists already and is not overwritten"));
    }
}

/// Interfaces, addresses and keys as a node has them, then `samepath check` with `$flags`.
const HOST: &str = "
    ip link add nic-inside type veth peer name far-inside
    ip link add nic-cluster mtu 1600 type veth peer name far-cluster
    for link in nic-inside far-inside nic-cluster far-cluster; do ip link set $link up; done
    ip address add 192.0.2.1/24 dev nic-cluster
    ip address add 198.51.100.1/24 dev nic-inside
    $samepath keys init $dir 2>/dev/null
    $samepath keys issue $dir --node 1 2>/dev/null
    check() {
        $samepath check --node-id 1 --cluster-id 7 --keys $dir --data inside=nic-inside \\
            --cluster-link nic-cluster --control-socket $dir/node.sock \"$@\"
    }
";

#[test]
fn check_accepts_a_sound_host() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("{HOST}\n check --cluster-address 192.0.2.1 --peer 2=192.0.2.2");
    let output = in_namespace(&script, dir.path());
    let text = complaint(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(text, "samepath: node 1 of cluster 7 can start with this configuration\n");
}

#[test]
fn check_finds_what_is_wrong_with_a_host() {
    for (script, code, sentence) in [
        (
            "check --cluster-address 198.51.100.1",
            2,
            "--cluster-address 198.51.100.1 is not on the cluster link nic-cluster (it is on nic-inside)",
        ),
        (
            "check --cluster-address 192.0.2.77",
            2,
            "(no interface has it): peers reach this node there; correct one of the two or run `ip address add 192.0.2.77/24 dev nic-cluster`",
        ),
        (
            "check --cluster-address 192.0.2.1 --cores 1000",
            2,
            "--cores: core 1000 is not usable by this process",
        ),
        (
            "chmod 644 $dir/cluster.secret; check --cluster-address 192.0.2.1",
            2,
            "cluster.secret has mode 0644",
        ),
        (
            "rm $dir/node-1.crt; check --cluster-address 192.0.2.1",
            2,
            "node-1.crt is missing: run `samepath keys issue",
        ),
        (
            "ip link set nic-inside down; check --cluster-address 192.0.2.1",
            0,
            "warning: interface nic-inside is down: run `ip link set nic-inside up`",
        ),
        (
            "ip link set nic-cluster mtu 1500; check --cluster-address 192.0.2.1",
            0,
            "run `ip link set nic-cluster mtu 1590`",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let output = in_namespace(&format!("{HOST}\n{script}"), dir.path());
        let text = complaint(&output);
        assert!(text.contains(sentence), "{script}: {text}");
        assert_eq!(output.status.code(), Some(code), "{script}: {text}");
    }
}

#[test]
fn a_policy_is_checked_without_a_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "default = \"deny\"\n[[rule]]\nname = \"a\"\naction = \"allow\"\nfrom = \"dmz\"\n")
        .unwrap();
    let good = samepath(&["policy", "check", path]);
    assert_eq!(good.status.code(), Some(0));
    assert_eq!(complaint(&good), format!("samepath: {path} can be used: 1 rules, default deny\n"));
    assert!(good.stdout.is_empty());
    let zones = samepath(&["policy", "check", path, "--zones", "inside,outside"]);
    assert_eq!(zones.status.code(), Some(2));
    let sentence =
        format!("samepath: {path} line 2: rule \"a\": from = \"dmz\": no data interface is in this zone");
    assert!(complaint(&zones).starts_with(&sentence), "{}", complaint(&zones));
    std::fs::write(&file, "default = \"deny\"\nrules = 1\n").unwrap();
    let bad = samepath(&["policy", "check", path]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(
        complaint(&bad).starts_with(&format!("samepath: {path} line 2: unknown field `rules`")),
        "{}",
        complaint(&bad)
    );
    let missing = samepath(&["policy", "check", "/nowhere"]);
    assert_eq!(missing.status.code(), Some(2));
}
