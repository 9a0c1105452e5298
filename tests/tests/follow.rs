//! A node by itself, aggregation off: its sessions are followed, its log is turned, and `top` says what a packet costs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use samepath_tests::bed::plan::{self, Family};
use samepath_tests::bed::{Bed, Service, Shape};
use samepath_tests::cli::Line;
use samepath_tests::{program, wait};
use serde_json::{Value, json};

/// How long something may take to become true.
const SOON: Duration = Duration::from_secs(20);

fn bed(name: &str) -> Result<Bed> {
    let mut bed = Bed::new(name, Shape::default())?;
    bed.start_node(1, &["--join-grace-ms", "0", "--aggregation", "off", "--timeout", "icmp=1"])?;
    bed.forward_via(1)?;
    bed.return_via(1)?;
    Ok(bed)
}

fn ping(bed: &Bed, count: &str) -> Result<()> {
    let mut ping = bed.client().command("ping");
    ping.args(["-c", count, "-i", "0.02", "-W", "2", "-I"]).arg(plan::client(Family::V4, 1).to_string());
    program::run(ping.arg(plan::server(Family::V4, 2).to_string())).map(drop)
}

/// Starts `samepath sessions events` on node 1; returns when it follows.
fn follow(bed: &Bed, name: &str, arguments: &[&str]) -> Result<Service> {
    let arguments = [&["sessions", "events"], arguments].concat();
    bed.start_client(name, &arguments, "following sessions of node 1;")
}

#[test]
fn sessions_are_followed_on_a_node_by_itself_from_their_beginning_to_their_end() -> Result<()> {
    let mut bed = bed("follow")?;
    let server = plan::server(Family::V4, 2).to_string();
    let asked = ["--proto", "icmp", "--dst", &server, "-n", "2", "--for", "60", "--json"];
    let mut followed = follow(&bed, "events-json", &asked)?;
    let mut others = follow(&bed, "events-none", &["--proto", "sctp", "--for", "60"])?;
    ping(&bed, "3")?;
    let ended = followed.wait(SOON)?;
    ensure!(ended.success(), "{ended}: {}", followed.log_tail());
    let lines: Vec<Value> =
        followed.output().lines().map(serde_json::from_str).collect::<Result<_, _>>().context("no JSON")?;
    let [new, destroy, end] = lines.as_slice() else { anyhow::bail!("{lines:?}") };
    ensure!((&new["event"], &new["session"]["role"]) == (&"new".into(), &"owner".into()), "{new}");
    ensure!(new["session"]["dst"] == server.as_str() && new["session"]["state"] == "ICMP", "{new}");
    ensure!(
        (&destroy["event"], &destroy["session"]["packets"]) == (&"destroy".into(), &6.into()),
        "{destroy}"
    );
    ensure!(end["told"] == 2 && end["lost"] == 0, "{end}");
    ensure!(others.ended()?.is_none() && others.output().is_empty(), "{}", others.output());

    let mut text = follow(&bed, "events-text", &["-n", "1", "--for", "60"])?;
    ping(&bed, "1")?;
    ensure!(text.wait(SOON)?.success(), "{}", text.log_tail());
    ensure!(text.output().contains("    [NEW] icmp     1 "), "{}", text.output());
    bed.finish_nodes()?;
    bed.remove()
}

#[test]
fn the_log_is_turned_and_top_says_what_a_packet_costs_while_the_node_runs() -> Result<()> {
    let mut bed = bed("log")?;
    let cli = bed.cli(1)?;
    ensure!(cli.run(&["log"])? == "log info\n", "{}", cli.run(&["log"])?);
    ensure!(cli.run(&["log", "error"])? == "log error (before: info)\n");
    let refused = cli.output(&["log", "info,samepath=loud"])?;
    ensure!(refused.contains("info,samepath=loud"), "{refused}");
    let asked = json!({"command": "log", "filter": "samepath=loud"});
    let refused = Line::open(&bed.socket(1))?.ask(&asked)?.to_string();
    ensure!(refused.contains("samepath=loud") && refused.contains("cannot be used"), "{refused}");
    let told = |wanted: &str| -> Result<bool> {
        Ok(std::fs::read_to_string(bed.logs().join("node1.log"))?.contains(wanted))
    };
    // What is INFO is not in the log now, and is again.
    cli.run(&["aggregation", "on"])?;
    ensure!(!told("Aggregation { on: true }")?, "INFO is logged with the filter error");
    cli.run(&["log", "info,samepath=debug"])?;
    cli.run(&["aggregation", "off"])?;
    wait::until_true("INFO is logged again", SOON, || told("Aggregation { on: false }"))?;

    let mut pings = bed.client().command("ping");
    pings.args(["-c", "200", "-i", "0.005", "-W", "2", "-I"]).arg(plan::client(Family::V4, 1).to_string());
    let mut pings = bed.start_service("pings", pings.arg(plan::server(Family::V4, 2).to_string()))?;
    let top: Value = cli.json(&["top", "--once", "--interval", "0.5"])?;
    let worker = &top["workers"][0];
    let cost = worker["ns_per_packet"].as_u64().with_context(|| format!("no packets: {worker}"))?;
    println!(
        "a ping's packet costs {cost} ns, {} cycles; busy {}%",
        worker["cycles_per_packet"], worker["busy_percent"]
    );
    ensure!((100..50_000_000).contains(&cost), "{worker}");
    ensure!(worker["busy_percent"].as_f64().is_some_and(|busy| busy > 0.0 && busy <= 100.0), "{worker}");
    pings.wait(SOON)?;
    bed.finish_nodes()?;
    bed.remove()
}
