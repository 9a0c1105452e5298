//! The list of what is in an archive.

use std::fmt;
use std::path::PathBuf;

use super::{ITEM_MAX, program};
use crate::doctor;
use crate::host::{Case, Place};
use crate::operator::api::Request;
use crate::operator::client;
use crate::operator::filter::Filter;

/// One file of the archive.
pub struct Item {
    /// Its path there.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
}

/// Where an item comes from.
pub enum Source {
    /// The running node.
    Node(Request),
    /// A file, by absolute path.
    File(String),
    /// A program with arguments.
    Program(&'static str, Vec<String>),
    /// `samepath doctor`.
    Doctor,
    /// The flags and variables the node runs with, or would.
    Configuration,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(_) => f.write_str("the running node"),
            Self::File(path) => f.write_str(path),
            Self::Program(program, arguments) => write!(f, "`{program} {}`", arguments.join(" ")),
            Self::Doctor => f.write_str("`samepath doctor`"),
            Self::Configuration => f.write_str("flags, variables and file"),
        }
    }
}

/// Files every host has.
const FILES: &[&str] = &[
    "/etc/os-release",
    "/proc/cmdline",
    "/proc/cpuinfo",
    "/proc/interrupts",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/netstat",
    "/proc/net/snmp",
    "/proc/net/softnet_stat",
    "/proc/softirqs",
    "/proc/stat",
    "/proc/version",
    "/proc/vmstat",
];

/// Programs about the whole host.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("links", "ip", "-details -statistics link show"),
    ("addresses", "ip", "address show"),
    ("routes", "ip", "route show table all"),
    ("routes6", "ip", "-6 route show table all"),
    ("rules", "ip", "rule show"),
    ("neighbours", "ip", "neigh show"),
    ("udp-sockets", "ss", "-lunpm"),
    ("bpf-programs", "bpftool", "prog show"),
    ("bpf-attached", "bpftool", "net show"),
    ("bpf-maps", "bpftool", "map show"),
    (
        "sysctl",
        "sysctl",
        "--all --pattern ^(net\\.core|net\\.ipv[46]\\.(conf|ip_|route|neigh)|kernel\\.sched|vm\\.nr_huge)",
    ),
    ("dmesg", "dmesg", "--ctime"),
    ("journal", "journalctl", "--unit=samepath@* --lines=20000 --no-pager --output=short-iso-precise"),
    ("time", "timedatectl", "status"),
];

/// What `ethtool` says of each interface.
const ETHTOOL: &[(&str, &str)] = &[
    ("driver", "-i"),
    ("features", "-k"),
    ("channels", "-l"),
    ("rings", "-g"),
    ("coalescing", "-c"),
    ("rss", "-x"),
    ("statistics", "-S"),
];

/// Of the node's process.
const PROCESS: &[&str] = &["status", "limits", "stat", "sched", "smaps_rollup", "cgroup"];

/// Everything, in the order of the archive.
pub fn all(case: &Case) -> Vec<Item> {
    let item = |name: String, source| Item { name, source };
    let mut items = vec![
        item("configuration.txt".into(), Source::Configuration),
        item("doctor.txt".into(), Source::Doctor),
    ];
    items.extend(node().map(|(name, request)| item(format!("node/{name}.json"), Source::Node(request))));
    let pid = case.node.as_ref().map(|node| node.pid).filter(|&pid| pid != 0);
    items.extend(PROCESS.iter().filter_map(|name| {
        let path = format!("/proc/{}/{name}", pid?);
        Some(item(format!("process/{name}"), Source::File(path)))
    }));
    let name = |path: &str| format!("host{path}");
    items.extend(FILES.iter().map(|&path| item(name(path), Source::File(path.into()))));
    items.extend(PROGRAMS.iter().map(|&(name, program, arguments)| {
        let arguments = arguments.split(' ').map(String::from).collect();
        item(format!("host/{name}.txt"), Source::Program(program, arguments))
    }));
    for (_, interface) in case.interfaces() {
        items.extend(ETHTOOL.iter().map(|&(name, flag)| {
            let arguments = vec![flag.into(), interface.into()];
            item(format!("interface/{interface}/{name}.txt"), Source::Program("ethtool", arguments))
        }));
    }
    items.extend(policy(case).map(|path| item("policy.toml".into(), Source::File(path))));
    items
}

fn node() -> impl Iterator<Item = (&'static str, Request)> {
    [
        ("status", Request::Status),
        ("members", Request::Members),
        ("stats", Request::Stats),
        ("policy", Request::Policy),
        ("sessions-count", Request::SessionsCount { filter: Filter::default() }),
        ("symmetry", Request::Symmetry { limit: 100, here: false }),
    ]
    .into_iter()
}

fn policy(case: &Case) -> Option<String> {
    Some(case.config.as_ref()?.policy.as_ref()?.to_string_lossy().into_owned())
}

impl Item {
    /// Its bytes, a little more than [`ITEM_MAX`] at most.
    ///
    /// Errors: why there are none, in words.
    pub fn read(&self, case: &Case, place: &Place) -> Result<Vec<u8>, String> {
        match &self.source {
            Source::Node(request) => ask(case, request),
            Source::File(path) => std::fs::read(place.path(path)).map_err(|error| error.to_string()),
            Source::Program(name, arguments) => {
                let mut command = place.command(name).ok_or("it is not installed")?;
                program::output(command.args(arguments), ITEM_MAX).map_err(|error| error.to_string())
            }
            Source::Doctor => {
                let mut text = Vec::new();
                doctor::print(case, &doctor::examine(case), false, &mut text)
                    .map_err(|error| error.to_string())?;
                Ok(text)
            }
            Source::Configuration => Ok(configuration(case).into_bytes()),
        }
    }
}

fn ask(case: &Case, request: &Request) -> Result<Vec<u8>, String> {
    let socket: Option<PathBuf> = case.config.as_ref().map(|config| config.control_socket.clone());
    let mut text = Vec::new();
    client::run(socket.as_deref(), request, true, &mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// Every option with the value it has, and where the configuration came from. None of them is a secret: keys are files.
fn configuration(case: &Case) -> String {
    let mut text = format!("# from {}\n", case.source);
    if let Some(refused) = &case.refused {
        text.push_str(&format!("# it cannot be used: {refused}\n"));
    }
    let Some(node) = &case.node else { return text };
    for (name, values) in &node.flags.values {
        text.extend(values.iter().map(|value| format!("--{name} {value}\n")));
    }
    text.extend(node.variables.iter().map(|(name, value)| format!("{name}={value}\n")));
    if let Some(file) = &node.flags.config {
        let lines = std::fs::read_to_string(file).unwrap_or_else(|error| format!("# {error}\n"));
        text.push_str(&format!("# --config {}\n{lines}", file.display()));
    }
    text
}
