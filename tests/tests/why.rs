//! `samepath why` says what happens. `SAMEPATH_WHY_FLOWS=10000` asks about as many flows.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use samepath_tests::bed::{Bed, SETTLE_SOON, Shape};
use samepath_tests::cli::Line;
use samepath_tests::scenario::{self, why};
use samepath_tests::wait;
use serde_json::{Value, json};

/// Flows that are asked about unless told otherwise.
const FLOWS: usize = 200;

#[test]
fn packets_go_where_why_says_and_a_node_that_does_not_answer_is_named() -> Result<()> {
    let mut bed = Bed::new("why", Shape::default())?;
    scenario::keep_from_hosts(&bed)?;
    let file = bed.runtime().join("policy.toml");
    std::fs::write(&file, why::POLICY)?;
    let file = file.display().to_string();
    let mut options = vec!["--policy", &file];
    // However many flows are asked about, none of them ends meanwhile.
    options.extend(["--timeout", "udp=3600", "--timeout", "udp_stream=3600"]);
    options.extend(["--timeout", "tcp_syn_sent=3600", "--timeout", "tcp_syn_recv=3600"]);
    options.extend(SETTLE_SOON);
    bed.start_nodes(&options)?;
    bed.wait_settled()?;
    let flows = std::env::var("SAMEPATH_WHY_FLOWS").map_or(Ok(FLOWS), |text| text.parse())?;
    why::random_flows(&bed, flows)?;
    eprintln!("{flows} flows went where `why` said");
    stopped_node_is_named(&mut bed)?;
    bed.finish()
}

fn stopped_node_is_named(bed: &mut Bed) -> Result<()> {
    let mut line = Line::open(&bed.socket(1))?;
    let request = json!({"command": "why", "flow": {
        "proto": 17, "src": "10.1.0.10", "sport": 9, "dst": "10.2.0.10", "dport": 24_000,
    }});
    bed.signal_node(3, Signal::SIGSTOP)?;
    let answer = line.ask(&request);
    bed.signal_node(3, Signal::SIGCONT)?;
    let answer = answer?;
    let silent = answer["silent"].as_array().context("nobody is said to be silent")?;
    ensure!(silent.len() == 1 && silent[0]["node"] == 3, "{silent:?}");
    ensure!(answer["nodes"].as_array().map(Vec::len) == Some(2), "{answer}");
    let rule: Option<&Value> = answer.pointer("/nodes/0/policy/rule");
    ensure!(rule == Some(&"lower-half".into()) && answer["flow"]["zone"] == "inside", "{answer}");
    bed.wait_members(3)?;
    wait::until_true("node 3 answers again", Duration::from_secs(20), || {
        Ok(line.ask(&request)?["silent"] == json!([]))
    })
}
