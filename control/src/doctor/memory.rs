//! Memory and files.

use samepath_dataplane::tuning::HugePages;

use super::machine::one_if;
use super::{Trouble, trouble};
use crate::capabilities;
use crate::host::Case;

/// Bytes of a huge page.
const HUGE_PAGE: u64 = 2 << 20;

/// Descriptors beside sockets of queues and peers: log, bpf maps and links, timers, sockets of operators.
const OTHER_FILES: u64 = 128;

pub(super) fn locked(case: &Case) -> Vec<Trouble> {
    let process = &case.host.process;
    let (Some(needed), Some(limit)) = (case.packet_memory(), process.locked_memory) else {
        return Vec::new();
    };
    let free = process.status.as_deref().is_some_and(capabilities::locks_any_memory);
    let cause = format!(
        "{} may lock {} KiB of memory, packet memory needs {} KiB",
        process.name,
        limit / 1024,
        needed / 1024
    );
    one_if(
        !free && limit < needed,
        cause,
        "ulimit -l unlimited   (in a unit: LimitMEMLOCK=infinity; or give it CAP_IPC_LOCK)",
    )
}

pub(super) fn open_files(case: &Case) -> Vec<Trouble> {
    let (Some(config), Some(limit)) = (&case.config, case.host.process.open_files) else { return Vec::new() };
    let queues: u64 = case.ports().iter().map(|port| u64::from(port.link.rx_queues)).sum();
    let needed = 2 * queues + 4 * config.peers.len() as u64 + OTHER_FILES;
    let cause =
        format!("{} may have {limit} files open, this configuration needs {needed}", case.host.process.name);
    one_if(
        limit < needed,
        cause,
        format!("ulimit -n {0}   (in a unit: LimitNOFILE={0})", needed.next_power_of_two()),
    )
}

/// Huge pages that are lacking now: how many are needed and free.
fn lacking(case: &Case) -> Option<(u64, u64, u64)> {
    if case.node.as_ref().is_some_and(|node| node.status.huge_pages) {
        return None;
    }
    let needed = case.packet_memory()?.div_ceil(HUGE_PAGE);
    let pool = case.host.machine.huge.unwrap_or_default();
    (pool.free < needed).then_some((needed, pool.free, pool.total + needed - pool.free))
}

fn huge(case: &Case, asked: HugePages) -> Vec<Trouble> {
    let wanted = case.config.as_ref().is_some_and(|config| config.tuning.huge_pages == asked);
    let Some((needed, free, total)) = lacking(case).filter(|_| wanted) else { return Vec::new() };
    let cause = format!(
        "packet memory takes {needed} huge pages of 2 MiB and {free} are free{}",
        if asked == HugePages::On {
            ": with --huge-pages on the node does not start"
        } else {
            ": it uses ordinary pages"
        }
    );
    vec![trouble(cause, format!("sysctl -w vm.nr_hugepages={total}   (or: samepath setup apply hugepages)"))]
}

pub(super) fn huge_needed(case: &Case) -> Vec<Trouble> {
    huge(case, HugePages::On)
}

pub(super) fn huge_wanted(case: &Case) -> Vec<Trouble> {
    huge(case, HugePages::Auto)
}
