//! Stages that are about the machine: huge pages, governor.

use samepath_dataplane::tuning::HugePages;

use super::{Action, Step};
use crate::host::{Case, Place};

const HUGE_PAGE: u64 = 2 << 20;
const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

pub(super) fn huge_pages(case: &Case, _: &Place) -> Vec<Step> {
    let off = case.config.as_ref().is_none_or(|config| config.tuning.huge_pages == HugePages::Off);
    let (Some(bytes), Some(pool), false) = (case.packet_memory(), case.host.machine.huge, off) else {
        return Vec::new();
    };
    let needed = bytes.div_ceil(HUGE_PAGE);
    let found = format!("{} pages of 2 MiB, {} free", pool.total, pool.free);
    let used_by_node = case.node.as_ref().is_some_and(|node| node.status.huge_pages);
    if pool.free >= needed || used_by_node {
        return vec![Step::fine("vm.nr_hugepages", found)];
    }
    let total = pool.total + needed - pool.free;
    vec![Step {
        object: "vm.nr_hugepages".into(),
        found,
        wanted: format!("{needed} free"),
        change: vec![Action::write(POOL, &total.to_string())],
        back: vec![Action::write(POOL, &pool.total.to_string())],
        blocked: None,
    }]
}

pub(super) fn governor(case: &Case, _: &Place) -> Vec<Step> {
    let cores = case.worker_cores().into_iter().filter_map(|id| case.host.machine.core(id));
    cores
        .filter_map(|core| {
            let now = core.governor.as_deref()?;
            let path = format!("/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor", core.id);
            Some(Step::file(format!("core {}", core.id), path, now, "performance"))
        })
        .collect()
}
