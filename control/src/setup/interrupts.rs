//! Stages that are about when devices are served: interrupts, NAPI.

use super::{Action, Step};
use crate::config::Sched;
use crate::host::{Case, Link, Place};

/// Polls without packets before interrupts are switched on again, while the worker polls.
const DEFER_POLLS: u64 = 2;
/// Time without a poll after which the kernel polls by itself, ns: longer than a worker is ever away.
const FLUSH_NS: u64 = 200_000;

pub(super) fn irq(case: &Case, _: &Place) -> Vec<Step> {
    let mut steps: Vec<Step> = case.ports().iter().flat_map(|port| of_link(case, port.link)).collect();
    if let Some(pid) = case.host.machine.irqbalance.filter(|_| !steps.is_empty()) {
        steps.push(Step {
            object: "irqbalance".into(),
            found: format!("runs (process {pid})"),
            wanted: "stopped: it would move them again".into(),
            change: vec![Action::run("systemctl stop irqbalance")],
            back: vec![Action::run("systemctl start irqbalance")],
            blocked: None,
        });
    }
    steps
}

/// Interrupts of an interface: all on cores without workers; where there are none, each on one worker's.
fn of_link(case: &Case, link: &Link) -> Vec<Step> {
    let workers = case.worker_cores();
    let online = case.host.machine.cores.iter().filter(|core| core.online).map(|core| core.id);
    let free: Vec<usize> = online.filter(|core| !workers.contains(core)).collect();
    let cores = if free.is_empty() { &workers } else { &free };
    if cores.is_empty() {
        return Vec::new();
    }
    let there = link.irqs.iter().filter_map(|irq| Some((irq, case.host.machine.irqs.get(irq)?)));
    there
        .enumerate()
        .map(|(index, (number, irq))| {
            let object = format!("{} interrupt {number} ({})", link.name, irq.name);
            let now = listed(&irq.cores);
            let apart =
                !free.is_empty() && !irq.cores.is_empty() && irq.cores.iter().all(|core| free.contains(core));
            if apart {
                return Step::fine(object, now);
            }
            let wanted = cores[index % cores.len()].to_string();
            Step::file(object, format!("/proc/irq/{number}/smp_affinity_list"), &now, &wanted)
        })
        .collect()
}

fn listed(cores: &[usize]) -> String {
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

pub(super) fn napi(case: &Case, _: &Place) -> Vec<Step> {
    let Some(config) = &case.config else { return Vec::new() };
    let polls = config.tuning.busy_poll_usecs > 0;
    let shares = config.tuning.sched == Sched::Fifo;
    let ports = case.ports();
    let found = ports.iter().filter_map(|port| Some((port.link, port.link.napi?)));
    found
        .flat_map(|(link, napi)| {
            let file = |name: &str, now: u64, value: u64| {
                let path = format!("/sys/class/net/{}/{name}", link.name);
                Step::file(format!("{} {name}", link.name), path, &now.to_string(), &value.to_string())
            };
            let deferral = polls.then(|| {
                [
                    file("napi_defer_hard_irqs", napi.napi_defer_hard_irqs, DEFER_POLLS),
                    file("gro_flush_timeout", napi.gro_flush_timeout, FLUSH_NS),
                ]
            });
            let thread = napi.threaded.filter(|_| shares && !polls).map(|now| file("threaded", now, 1));
            deferral.into_iter().flatten().chain(thread).collect::<Vec<_>>()
        })
        .collect()
}
