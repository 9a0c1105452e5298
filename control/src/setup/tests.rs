//! Stages over a folder that looks like a host: what is set, what is put back, and that twice is as good as once.

use std::fs;
use std::path::Path;

use super::*;
use crate::config::{Config, DataInterface, Workers, options};
use crate::host::{Host, Link};
use samepath_dataplane::tuning::HugePages;

/// Four cores, two of them workers'; eth0 with two interrupts.
const HOST: &[(&str, &str)] = &[
    ("proc/interrupts", " 50: 1 PCI-MSI 0-edge eth0-0\n 51: 1 PCI-MSI 1-edge eth0-1\n"),
    ("proc/irq/50/smp_affinity_list", "0-3\n"),
    ("proc/irq/51/smp_affinity_list", "3\n"),
    ("sys/devices/system/cpu/present", "0-3\n"),
    ("sys/devices/system/cpu/online", "0-3\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil\n"),
    ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n"),
    ("sys/class/net/eth0/device/msi_irqs/50", ""),
    ("sys/class/net/eth0/device/msi_irqs/51", ""),
    ("sys/class/net/eth0/napi_defer_hard_irqs", "0\n"),
    ("sys/class/net/eth0/gro_flush_timeout", "0\n"),
    ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "4\n"),
    ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "4\n"),
];

fn config() -> Config {
    let data = DataInterface { zone: "inside".into(), interface: "eth0".into() };
    let mut config = options::defaults();
    config.data = vec![data];
    config.cluster_link = "eth2".into();
    config.workers = Workers::Count(2);
    config.cores = vec![0, 1];
    config.tuning.busy_poll_usecs = 50;
    // Packet memory is 4 MiB: not looked at here, but where it says so.
    config.tuning.huge_pages = HugePages::Off;
    config
}

fn case(root: &Path) -> Case {
    let place = Place::at(root);
    let mut eth0 = Link { name: "eth0".into(), rx_queues: 2, mtu: 1500, ..Link::default() };
    eth0.add_sysfs(&place);
    let config = config();
    let mut host = Host::read(&place, Some(&config), None);
    host.links = [("eth0".into(), eth0)].into();
    Case { host, config: Some(config), ..Case::default() }
}

fn host() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in HOST {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn order(root: &Path, verb: Verb) -> Order {
    Order { verb, stage: None, dry_run: false, json: false, state: root.join("state.json") }
}

fn carried_out(root: &Path, order: &Order) -> (u8, String) {
    let mut out = Vec::new();
    let code = run(order, &Place::at(root), &|| case(root), &mut out).unwrap();
    (code, String::from_utf8(out).unwrap())
}

/// Text of each file of [`HOST`] that a stage may change.
fn settings(root: &Path) -> Vec<String> {
    let read = |path: &&str| fs::read_to_string(root.join(path)).unwrap().trim().to_owned();
    HOST.iter().map(|(path, _)| path).filter(|path| !path.contains("msi_irqs")).map(read).collect()
}

#[test]
fn what_was_applied_is_undone() {
    let folder = host();
    let root = folder.path();
    let before = settings(root);
    let (code, text) = carried_out(root, &order(root, Verb::Check));
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("core 0: schedutil, wanted: performance"), "{text}");
    assert!(text.contains("eth0 interrupt 51 (eth0-1): as wanted (3)"), "{text}");
    assert_eq!(settings(root), before, "a check changes nothing");

    let (code, text) = carried_out(root, &order(root, Verb::Apply));
    assert_eq!(code, 0, "{text}");
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    assert_eq!(read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), "performance");
    assert_eq!(read("proc/irq/50/smp_affinity_list"), "2");
    assert_eq!(read("sys/class/net/eth0/napi_defer_hard_irqs"), "2");
    assert_eq!(read("sys/class/net/eth0/gro_flush_timeout"), "200000");
    let applied = settings(root);
    let (code, text) = carried_out(root, &order(root, Verb::Apply));
    assert!(code == 0 && !text.contains("now"), "{text}");
    assert_eq!((settings(root), carried_out(root, &order(root, Verb::Check)).0), (applied, 0));

    let (code, text) = carried_out(root, &order(root, Verb::Undo));
    assert!(code == 0 && text.contains("eth0 gro_flush_timeout"), "{text}");
    let mut expected = before;
    // The list is written out: 0-3 is 0,1,2,3.
    expected[1] = "0,1,2,3".into();
    assert_eq!(settings(root), expected);
    assert_eq!(carried_out(root, &order(root, Verb::Undo)), (0, "nothing to undo\n".into()));
}

#[test]
fn a_second_apply_remembers_what_was_there_first() {
    let folder = host();
    let root = folder.path();
    let governor = root.join("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    let only = |verb| Order { stage: Some("governor".into()), ..order(root, verb) };
    carried_out(root, &only(Verb::Apply));
    // Somebody else changes it, and it is applied again.
    fs::write(&governor, "powersave").unwrap();
    carried_out(root, &only(Verb::Apply));
    carried_out(root, &only(Verb::Undo));
    assert_eq!(fs::read_to_string(&governor).unwrap(), "schedutil");
    let irq = fs::read_to_string(root.join("proc/irq/50/smp_affinity_list")).unwrap();
    assert_eq!(irq.trim(), "0-3", "another stage was touched");
}

#[test]
fn a_dry_run_prints_commands_and_runs_none() {
    let folder = host();
    let root = folder.path();
    let before = settings(root);
    let (code, text) = carried_out(root, &Order { dry_run: true, ..order(root, Verb::Apply) });
    assert_eq!(code, 0);
    assert!(
        text.contains("echo performance > /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor\n"),
        "{text}"
    );
    assert_eq!(settings(root), before);
    assert!(!root.join("state.json").exists());
}

#[test]
fn a_kernel_that_gives_less_is_noticed() {
    let folder = host();
    let root = folder.path();
    let look = || {
        let mut case = case(root);
        case.config.as_mut().unwrap().tuning.huge_pages = HugePages::Auto;
        case
    };
    let only = Order { stage: Some("hugepages".into()), ..order(root, Verb::Apply) };
    let mut out = Vec::new();
    // The folder's free_hugepages does not follow nr_hugepages, as if memory were fragmented.
    let code = run(&only, &Place::at(root), &look, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(code == 1 && text.contains("FAILED: it was set and is now 10 pages of 2 MiB, 4 free"), "{text}");
}

#[test]
fn a_record_of_an_earlier_start_of_the_machine_is_not_undone() {
    let folder = host();
    let root = folder.path();
    let boot = root.join("proc/sys/kernel/random/boot_id");
    fs::create_dir_all(boot.parent().unwrap()).unwrap();
    fs::write(&boot, "one").unwrap();
    carried_out(root, &order(root, Verb::Apply));
    fs::write(&boot, "two").unwrap();
    assert_eq!(carried_out(root, &order(root, Verb::Undo)).1, "nothing to undo\n");
}

#[test]
fn a_key_that_repeats_is_as_long_as_the_one_there() {
    let printed = "RX flow hash indirection table for eth0 with 2 RX ring(s):\n    0:      0     1\n\
                   RSS hash key:\nab:cd:ef:01\nRSS hash function:\n    toeplitz: on\n";
    let link = Link { name: "eth0".into(), ..Link::default() };
    let step = queues::symmetric_key(&link, printed).unwrap();
    assert_eq!(step.change[0].to_string(), "ethtool -X eth0 hkey 6d:5a:6d:5a");
    assert_eq!(step.back[0].to_string(), "ethtool -X eth0 hkey ab:cd:ef:01");
}
