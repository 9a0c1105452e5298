//! Documentation says what the code does: names, defaults, numbers and links are compared here.

#[path = "docs/bench.rs"]
mod bench;
#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/dissector.rs"]
mod dissector;
#[path = "docs/links.rs"]
mod links;
#[path = "docs/page.rs"]
mod page;
#[path = "docs/protocol.rs"]
mod protocol;

use std::collections::BTreeMap;

use clap::CommandFactory;
use samepath::args::Cli;
use samepath::config::options::{self, Kind, Opt};
use samepath::config::{self, Flags};
use samepath::doctor::CHECKS;
use samepath::metrics::names::{Kind as MetricKind, Label, METRICS, Metric};
use samepath::operator::api::{Replication, ServiceCount, Stats};
use samepath::operator::client;
use samepath::replicate::Discard;
use samepath::setup::STAGES;
use samepath_bpf::OUTCOMES;
use samepath_dataplane::counters::Counters;
use samepath_dataplane::session::timeouts::Timeouts;
use samepath_dataplane::verdict::{DropClass, DropReason};
use serde_json::Value;

use page::{Page, assert_same, column};

fn operations() -> Page {
    Page::read("docs/operations.md")
}

/// What the help says in brackets; switches are off, lists empty, idle times the kernel's.
fn default_of(option: &Opt) -> String {
    let named = option.help.rsplit_once("[default: ").and_then(|(_, rest)| rest.strip_suffix(']'));
    match (named, &option.kind) {
        _ if option.required => "required",
        (Some(default), _) => default,
        (None, Kind::Switch(_)) => "off",
        (None, _) if option.name == "timeout" => "the kernel's",
        (None, _) => "none",
    }
    .to_owned()
}

#[test]
fn every_option_with_its_default_key_and_variable() {
    let page: Vec<_> = operations().table("table:options").iter().map(|row| row[..4].to_vec()).collect();
    let code: Vec<_> = options::all()
        .map(|option| {
            let flag = format!("--{} {}", option.name, option.value);
            vec![flag.trim_end().to_owned(), default_of(option), option.key(), option.variable()]
        })
        .collect();
    assert_same("options (flag, default, key, variable)", &page, &code);
}

#[test]
fn every_option_of_tuning_is_explained() {
    let text = Page::read("docs/tuning.md").text().to_owned();
    let (_, tuning) = options::OPTIONS.iter().find(|(group, _)| group.starts_with("Tuning")).unwrap();
    for option in *tuning {
        assert!(text.contains(&format!("\n## `--{}`\n", option.name)), "no chapter on --{}", option.name);
    }
}

#[test]
fn every_idle_time_with_its_default() {
    let page: Vec<_> = operations().table("table:timeouts").iter().map(|row| row[..2].to_vec()).collect();
    let code: Vec<_> = Timeouts::NAMES
        .iter()
        .map(|known| vec![known.name.to_owned(), known.default_s.to_string()])
        .collect();
    assert_same("idle times (name, default)", &page, &code);
}

#[test]
fn every_drop_reason_with_its_class() {
    let page: Vec<_> = operations().table("table:drops").iter().map(|row| row[..2].to_vec()).collect();
    let code: Vec<_> = DropReason::ALL
        .iter()
        .map(|reason| {
            let class = match reason.class() {
                DropClass::Traffic => "traffic",
                DropClass::ShouldBeZero => "should be zero",
            };
            vec![reason.name().to_owned(), class.to_owned()]
        })
        .collect();
    assert_same("drop reasons (name, class)", &page, &code);
}

#[test]
fn every_xdp_outcome_with_its_action() {
    let page: Vec<_> = operations().table("table:outcomes").iter().map(|row| row[..2].to_vec()).collect();
    let action = |name: &str| match name.split_once('_').map_or(name, |(first, _)| first) {
        "steered" => "to a worker",
        "redirected" => "to its Owner",
        "pass" => "kernel",
        "drop" => "drop",
        _ => "--on-crash",
    };
    let code: Vec<_> = OUTCOMES.iter().map(|name| vec![name.to_string(), action(name).to_owned()]).collect();
    assert_same("XDP outcomes (name, action)", &page, &code);
}

#[test]
fn every_reason_of_the_control_port() {
    let code: Vec<String> = Discard::ALL.iter().map(|why| why.name().to_owned()).collect();
    assert_same("discards", &column(&operations().table("table:discards"), 0), &code);
}

/// Names of all numbers in a JSON document, like `tunnel.query_tx`; keys of maps by what they are.
fn names(value: &Value, path: &str, found: &mut Vec<String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(fields) => match path {
            "drops" | "tunnel.rejected" | "control.discarded" => found.push(below("REASON")),
            "services" => fields.values().for_each(|one| names(one, "services.NAME", found)),
            "xdp" => found.push(below("OUTCOME")),
            "replication" => fields.values().for_each(|peer| names(peer, "replication.PEER", found)),
            _ => fields.iter().for_each(|(key, field)| names(field, &below(key), found)),
        },
        Value::Array(items) => items.iter().for_each(|item| names(item, &format!("{path}[]"), found)),
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn every_counter_of_stats() {
    let mut stats = Stats::default();
    stats.add_worker(0, 0, &Counters::default());
    stats.services.insert("web".into(), ServiceCount::default());
    stats.replication.insert("2".into(), Replication::default());
    let mut code = Vec::new();
    names(&serde_json::to_value(&stats).unwrap(), "", &mut code);
    assert_same("counters", &column(&operations().table("table:counters"), 0), &code);
}

#[test]
fn every_metric_with_its_kind_label_and_number() {
    let page = Page::read("docs/metrics.md").table("table:metrics");
    let code: Vec<Vec<String>> = METRICS
        .iter()
        .map(|metric| {
            let (kind, total) =
                if metric.kind == MetricKind::Counter { ("counter", "_total") } else { ("gauge", "") };
            let label = match metric.label {
                Label::None => String::new(),
                Label::Fixed(key, value) => format!("{key}=\"{value}\""),
                Label::Key(key) => key.to_owned(),
            };
            vec![format!("{}{total}", metric.name), kind.into(), label, metric.path.into()]
        })
        .collect();
    assert_same("metrics (name, kind, label, number)", &page, &code);
}

/// The place of a number as [`names`] writes it.
fn place_of(metric: &Metric) -> String {
    let path = metric
        .path
        .replace("replication.*", "replication.PEER")
        .replace("services.*", "services.NAME")
        .replace(".[worker]", "[]");
    match path.as_str() {
        "drops" | "tunnel.rejected" | "control.discarded" => format!("{path}.REASON"),
        "xdp" => format!("{path}.OUTCOME"),
        _ => path,
    }
}

#[test]
fn every_counter_of_stats_is_a_metric() {
    let served: Vec<String> = METRICS.iter().map(place_of).collect();
    let counters = column(&operations().table("table:counters"), 0);
    // The worker's number is the label of all its metrics.
    let lacking: Vec<_> = counters
        .iter()
        .filter(|name| !name.starts_with("verdicts.") && *name != "workers[].worker")
        .filter(|name| !served.contains(name))
        .collect();
    assert!(lacking.is_empty(), "no metric shows {lacking:?}");
    assert!(served.iter().any(|place| place == "verdicts"));
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_there_are() {
    let known: Vec<String> = column(&Page::read("docs/metrics.md").table("table:metrics"), 0);
    for file in ["docs/prometheus/alerts.yml", "docs/grafana/samepath.json"] {
        let text = Page::read(file).text().to_owned();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let asked: Vec<_> = words.filter(|word| word.starts_with("samepath_")).collect();
        assert!(asked.len() > 5, "{file} asks for {asked:?}");
        for metric in asked {
            assert!(known.iter().any(|name| name == metric), "{file} asks for {metric}, which is not served");
        }
    }
}

#[test]
fn every_counter_of_a_worker_is_shown() {
    let rows = operations().table("table:counters");
    let mut page: Vec<String> = column(&rows, 1).into_iter().filter(|name| !name.is_empty()).collect();
    page.sort();
    page.dedup();
    let code: Vec<String> = Counters::NAMES.iter().map(|(name, _)| name.to_string()).collect();
    assert_same("workers' counters", &page, &code);
}

/// The worker's counter named in a row really is what that row shows.
#[test]
fn rows_name_the_counter_they_show() {
    for row in operations().table("table:counters").iter().filter(|row| !row[1].is_empty()) {
        let counters = Counters::default();
        let at = Counters::NAMES.iter().position(|(name, _)| *name == row[1]).expect("see the test above");
        set(&counters, at, 4711);
        let mut stats = Stats::default();
        stats.add_worker(0, 0, &counters);
        let shown = serde_json::to_value(&stats).unwrap();
        let pointer = format!("/{}", row[0].replace("[]", ".0").replace('.', "/"));
        assert_eq!(shown.pointer(&pointer), Some(&Value::from(4711)), "{} shows {}", row[0], row[1]);
    }
}

/// Sets the counter at a place of [`Counters::NAMES`].
fn set(counters: &Counters, at: usize, value: u64) {
    let fields = [
        &counters.rx,
        &counters.rx_bytes,
        &counters.tx,
        &counters.tx_bytes,
        &counters.forward,
        &counters.service,
        &counters.rejected,
        &counters.told_time_exceeded,
        &counters.told_unreachable,
        &counters.told_too_big,
        &counters.answers_suppressed,
        &counters.fragments_made,
        &counters.prompted,
        &counters.mss_clamped,
        &counters.hello_rx,
        &counters.hello_tx,
        &counters.fast_path,
        &counters.query_tx,
        &counters.query_rx,
        &counters.first_packet_tx,
        &counters.first_packet_rx,
        &counters.redirect_tx,
        &counters.redirect_rx,
        &counters.gather_tx,
        &counters.gather_rx,
        &counters.forwards_published,
        &counters.forwards_withdrawn,
        &counters.forwards_refused,
        &counters.handoff_tx,
        &counters.handoff_rx,
        &counters.held,
        &counters.fragments_waiting,
        &counters.claims_granted,
        &counters.sessions_created,
        &counters.sessions_expired,
        &counters.sessions_evicted,
        &counters.backups_evicted,
        &counters.claims_evicted,
        &counters.backups_refused,
        &counters.refreshed,
        &counters.sessions_crowded,
        &counters.sessions_unplaced,
        &counters.put_off,
        &counters.sessions_ended,
        &counters.logs_lost,
        &counters.takeovers,
        &counters.handed_over,
        &counters.handed_in,
        &counters.conflicts_lost,
        &counters.tcp_window_loose,
        &counters.sessions_owner,
        &counters.sessions_backup,
        &counters.sessions_claim,
        &counters.sessions_yielding,
        &counters.dirty,
        &counters.resent,
        &counters.frames_free,
        &counters.frames_hand,
        &counters.frames_kernel,
        &counters.tunnel_keys,
        &counters.view_epoch,
        &counters.turns,
        &counters.sleeps,
        &counters.busy_ns,
    ];
    assert_eq!(fields.len(), Counters::NAMES.len(), "a counter is new or gone");
    fields[at].set(value);
    assert_eq!(counters.values()[at], value, "counters are listed in the order they are declared in");
}

#[test]
fn every_command_and_every_filter() {
    let cli = Cli::command();
    let code: Vec<String> = cli.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    assert_same("commands", &column(&operations().table("table:commands"), 0), &code);
    let page = operations();
    let filters = page.text().split("\n\n").find(|text| text.starts_with("Filters of `sessions`")).unwrap();
    let page: Vec<String> =
        filters.split(['`', ' ', '\n']).filter(|word| word.starts_with("--")).map(Into::into).collect();
    let sessions = cli.find_subcommand("sessions").unwrap();
    let code: Vec<String> = sessions
        .get_arguments()
        .filter_map(|argument| argument.get_long())
        .filter(|name| !matches!(*name, "json" | "control-socket" | "help"))
        .map(|name| format!("--{name}"))
        .collect();
    assert_same("filters of sessions", &page, &code);
}

#[test]
fn every_finding_of_doctor() {
    let rows = Page::read("docs/doctor.md").table("table:findings");
    let page: Vec<_> = rows.iter().map(|row| row[..2].to_vec()).collect();
    let code: Vec<_> =
        CHECKS.iter().map(|check| vec![check.id.to_owned(), check.severity.name().to_owned()]).collect();
    assert_same("findings (name, severity)", &page, &code);
    let tests = Page::read("tests/tests/host.rs").text().to_owned();
    for row in rows.iter().filter(|row| row[4] == "host") {
        assert!(tests.contains(&format!("\"{}\"", row[0])), "{} is not provoked on a host", row[0]);
    }
}

#[test]
fn every_stage_of_setup() {
    let page = column(&Page::read("docs/setup.md").table("table:stages"), 0);
    assert_same("stages", &page, &STAGES.map(|stage| stage.name.to_owned()));
}

#[test]
fn every_exit_code() {
    let code = [client::FINE, client::FAILED, client::USAGE, client::UNREACHABLE, client::DEGRADED];
    assert_same(
        "exit codes",
        &column(&operations().table("table:exits"), 0),
        &code.map(|code| code.to_string()),
    );
}

#[test]
fn the_example_file_can_be_used() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), operations().block("example:toml")).unwrap();
    let flags = Flags { config: Some(file.path().into()), ..Flags::default() };
    let config = config::load(&flags, &BTreeMap::new()).unwrap();
    assert_eq!((config.data.len(), config.peers.len(), config.pass.len()), (2, 2, 1));
    assert_eq!(config.timeouts.get("tcp_established"), Some(7200));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}
