//! Findings that no namespace can provoke: over a folder that looks like a host, and over what a node says.

use std::fs;
use std::path::Path;

use samepath_dataplane::tuning::Idle;
use samepath_dataplane::xsk::Rss;

use super::*;
use crate::config::{Config, DataInterface, RssChoice, Workers, options};
use crate::host::{Channels, Feature, Host, Link, Node, Place, Program, RxRing};
use crate::keys::Summary;
use crate::operator::api::{Interface, Member, Worker};

fn put(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// Two workers between eth0 and the cluster link eth2.
fn config() -> Config {
    let data = DataInterface { zone: "inside".into(), interface: "eth0".into() };
    Config {
        data: vec![data],
        cluster_link: "eth2".into(),
        cluster_address: "10.9.0.1".parse().unwrap(),
        keys: "/nonexistent".into(),
        workers: Workers::Count(2),
        cores: vec![0, 1],
        ..options::defaults()
    }
}

fn link(name: &str) -> Link {
    Link {
        name: name.into(),
        ifindex: 7,
        up: true,
        carrier: true,
        mtu: 1500,
        rx_queues: 2,
        addresses: vec!["10.9.0.1".parse().unwrap()],
        ..Link::default()
    }
}

fn case() -> Case {
    let links = [link("eth0"), Link { mtu: 1600, ..link("eth2") }];
    let links = links.map(|link| (link.name.clone(), link)).into();
    Case { host: Host { links, ..Host::default() }, config: Some(config()), ..Case::default() }
}

fn ids(case: &Case) -> Vec<&'static str> {
    examine(case).iter().map(|finding| finding.id).collect()
}

/// Findings that `change` brings about; each must say something and how to mend it.
fn provoked(change: impl FnOnce(&mut Case)) -> Vec<&'static str> {
    let before = ids(&case());
    let mut changed = case();
    change(&mut changed);
    for finding in examine(&changed) {
        assert!(finding.cause.len() > 20 && !finding.remedy.is_empty(), "{finding:?}");
    }
    ids(&changed).into_iter().filter(|id| !before.contains(id)).collect()
}

/// A host with four cores on two memory nodes, core 3 offline, all of it badly tuned.
const BAD: &[(&str, &str)] = &[
    ("proc/sys/kernel/osrelease", "5.10.0-30-amd64\n"),
    ("proc/sys/net/core/bpf_jit_enable", "0\n"),
    ("proc/900/comm", "irqbalance\n"),
    ("proc/interrupts", "   CPU0 CPU1\n 50:  1 2 PCI-MSI 50-edge eth0-TxRx-0\nNMI: 0 0\n"),
    ("proc/irq/50/smp_affinity_list", "0-2\n"),
    ("sys/fs/bpf/plain", ""),
    ("sys/devices/system/cpu/present", "0-3\n"),
    ("sys/devices/system/cpu/online", "0-2\n"),
    ("sys/devices/system/cpu/isolated", "\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
    ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0-1\n"),
    ("sys/devices/system/cpu/cpu0/node0/x", ""),
    ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "0-1\n"),
    ("sys/devices/system/cpu/cpu1/node0/x", ""),
    ("sys/class/net/eth0/device/numa_node", "1\n"),
    ("sys/class/net/eth0/device/msi_irqs/50", ""),
    ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "4\n"),
    ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "1\n"),
    ("proc/self/limits", "Max locked memory 65536 65536 bytes\nMax open files 64 64 files\n"),
    ("proc/self/status", "CapEff:\t0000000000000000\n"),
];

fn of_folder(root: &Path, change: impl FnOnce(&mut Config)) -> Case {
    let place = Place::at(root);
    let mut case = case();
    change(case.config.as_mut().unwrap());
    let mut links = std::mem::take(&mut case.host.links);
    case.host = Host::read(&place, case.config.as_ref(), None);
    links.values_mut().for_each(|link| link.add_sysfs(&place));
    case.host.links = links;
    case
}

#[test]
fn a_badly_tuned_host_is_told_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), BAD);
    let case = of_folder(folder.path(), |config| config.tuning.idle = Idle::Spin);
    let findings = examine(&case);
    for (id, words) in [
        ("kernel-old", "5.10.0-30-amd64"),
        ("bpf-jit-off", "sysctl -w net.core.bpf_jit_enable=1"),
        ("bpffs-absent", "mount -t bpf"),
        ("irqbalance-runs", "process 900"),
        ("interrupts-on-workers", "eth0-TxRx-0"),
        ("governor-saves", "powersave"),
        ("workers-on-siblings", "0 and 1"),
        ("memory-far", "memory node 1"),
        ("core-not-isolated", "isolcpus=0,1"),
        ("huge-pages-few", "vm.nr_hugepages=23"),
        ("memlock-low", "may lock 64 KiB"),
        ("open-files-low", "64 files"),
        ("capability-missing", "CAP_BPF"),
    ] {
        let finding = findings.iter().find(|finding| finding.id == id);
        let finding = finding.unwrap_or_else(|| panic!("no {id} in {findings:?}"));
        let text = format!("{} | {}", finding.cause, finding.remedy);
        assert!(text.contains(words), "{id}: {text}");
    }
    let offline = of_folder(folder.path(), |config| config.cores = vec![0, 3]);
    assert!(ids(&offline).contains(&"core-absent"));
}

#[test]
fn a_well_tuned_host_is_told_nothing() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), BAD);
    fs::remove_file(folder.path().join("proc/900/comm")).unwrap();
    put(
        folder.path(),
        &[
            ("proc/sys/kernel/osrelease", "6.1.0-30-amd64\n"),
            ("proc/sys/net/core/bpf_jit_enable", "1\n"),
            ("proc/irq/50/smp_affinity_list", "2\n"),
            ("sys/devices/system/cpu/isolated", "0-1\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
            ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0\n"),
            ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1\n"),
            ("sys/class/net/eth0/device/numa_node", "0\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "20\n"),
            (
                "proc/self/limits",
                "Max locked memory unlimited unlimited bytes\nMax open files 1024 1024 files\n",
            ),
            ("proc/self/status", "CapEff:\t000001ffffffffff\n"),
        ],
    );
    let case = of_folder(folder.path(), |config| {
        config.tuning.idle = Idle::Spin;
        // A folder is no BPF file system.
        config.on_crash = crate::config::OnCrash::Open;
    });
    // Keys and routes are those of no host.
    assert_eq!(ids(&case), ["keys-unusable", "data-route-absent"]);
}

fn on(features: &[&str]) -> std::collections::BTreeMap<String, Feature> {
    features.iter().map(|name| ((*name).into(), Feature { on: true, fixed: false })).collect()
}

#[test]
fn cards_are_judged_by_what_ethtool_says() {
    let eth0 = |change: fn(&mut Link)| provoked(|case| change(case.host.links.get_mut("eth0").unwrap()));
    assert_eq!(eth0(|link| link.features = on(&["large-receive-offload"])), ["lro-on"]);
    assert_eq!(eth0(|link| link.features = on(&["rx-gro-hw"])), ["gro-hw-on"]);
    assert_eq!(eth0(|link| link.features = on(&["rx-vlan-offload"])), ["vlan-stripped"]);
    assert_eq!(eth0(|link| link.ring = Some(RxRing { size: 512, most: 4096 })), ["rx-ring-small"]);
    assert_eq!(eth0(|link| link.rx_queues = 65), ["queues-many"]);
    assert_eq!(
        eth0(|link| {
            link.rx_queues = 1;
            link.channels = Some(Channels { combined: 1, combined_most: 8, ..Channels::default() });
        }),
        ["queues-few"]
    );
    let named = |name: &str| Program { id: 3, name: Some(name.into()) };
    assert_eq!(
        provoked(|case| case.host.links.get_mut("eth0").unwrap().program = Some(named("samepath_steer"))),
        ["xdp-left-behind"]
    );
    let unconfigured = |case: &mut Case| {
        case.host.links.get_mut("eth0").unwrap().program = Some(named("samepath_steer"));
        case.config = None;
    };
    assert_eq!(provoked(unconfigured), ["xdp-left-behind"]);
    assert_eq!(eth0(|link| link.kind = "veth".into()), ["veth-peer-elsewhere"]);
    let fixed = Feature { on: true, fixed: true };
    assert_eq!(
        provoked(|case| {
            let features = [("large-receive-offload".into(), fixed)].into();
            case.host.links.get_mut("eth0").unwrap().features = features;
        }),
        [""; 0],
        "what cannot be changed is no finding"
    );
    assert_eq!(
        provoked(|case| {
            case.host.links.get_mut("eth0").unwrap().rss = Some(Rss::Asymmetric);
            case.config.as_mut().unwrap().tuning.rss = RssChoice::Keep;
        }),
        ["rss-asymmetric"]
    );
}

#[test]
fn a_node_is_judged_by_what_it_says() {
    let with_node = |change: fn(&mut Node)| {
        let mut node = Node::default();
        node.status.ready = true;
        change(&mut node);
        provoked(|case| case.node = Some(node))
    };
    assert_eq!(with_node(|_| {}), [""; 0]);
    assert_eq!(with_node(|node| node.status.ready = false), ["node-not-ready"]);
    assert_eq!(
        with_node(|node| node.status.warnings.push("interface eth0 is down: look".into())),
        ["node-warns"]
    );
    assert_eq!(with_node(|node| node.status.landlock = "absent".into()), ["landlock-absent"]);
    assert_eq!(with_node(|node| node.status.landlock = "ABI 2".into()), [""; 0]);
    assert_eq!(with_node(|node| node.stats.rings.rx_ring_full = 4), ["rings-overflow"]);
    assert_eq!(with_node(|node| node.stats.drops = [("table_full".into(), 9)].into()), ["drops-unexpected"]);
    assert_eq!(
        with_node(|node| node.stats.workers.push(Worker { demotions: 1, ..Worker::default() })),
        ["worker-demoted"]
    );
    assert_eq!(
        with_node(|node| node.members.members.push(Member {
            node: 2,
            address: "10.9.0.2".into(),
            ..Member::default()
        })),
        ["peer-away"]
    );
    let got = |mode: &str| Interface { name: "eth0".into(), xdp_mode: mode.into(), ..Interface::default() };
    let mut node = Node::default();
    node.status.ready = true;
    node.status.interfaces.push(got("native"));
    assert_eq!(
        provoked(|case| {
            case.host.links.get_mut("eth0").unwrap().driver = "ice".into();
            case.node = Some(node);
        }),
        ["copy-mode"]
    );
    assert_eq!(provoked(|case| case.mute = Some("nobody listens on /run/x.sock".into())), ["node-mute"]);
    assert_eq!(provoked(|case| case.host.machine.clock_synchronised = Some(false)), ["clock-unsynchronised"]);
}

#[test]
fn a_certificate_is_renewed_a_month_before_its_end() {
    let ends_s = 1_900_000_000;
    let summary = Summary { valid_until: "2030-03-17".into(), ends_s, ..Summary::default() };
    assert_eq!(config::ends(&summary, ends_s - 31 * 86_400), None);
    let sentence = config::ends(&summary, ends_s - 9 * 86_400).unwrap();
    assert!(sentence.contains("2030-03-17") && sentence.contains("in 9 days"), "{sentence}");
}

#[test]
fn whoever_gives_no_configuration_is_told_what_that_leaves_out() {
    let printed = |case: &Case| {
        let mut out = Vec::new();
        print(case, &examine(case), false, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert!(!printed(&case()).contains("were not looked at"));
    assert!(printed(&Case::default()).contains("were not looked at"));
}

#[test]
fn ids_are_unique_and_the_worst_comes_first() {
    let mut seen: Vec<&str> = CHECKS.iter().map(|check| check.id).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), CHECKS.len());
    let finding = |severity| Finding { id: "x", severity, cause: String::new(), remedy: String::new() };
    assert_eq!(exit_code(&[]), 0);
    assert_eq!(exit_code(&[finding(Severity::Hint)]), 0);
    assert_eq!(exit_code(&[finding(Severity::Hint), finding(Severity::Warning)]), 5);
    assert_eq!(exit_code(&[finding(Severity::Warning), finding(Severity::Error)]), 1);
}
