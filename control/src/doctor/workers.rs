//! Cores of workers, and who else uses them.

use samepath_dataplane::tuning::Idle;

use super::machine::one_if;
use super::{Trouble, trouble};
use crate::config::Workers;
use crate::host::{Case, Core};

/// The workers' cores that are there.
fn cores(case: &Case) -> Vec<&Core> {
    case.worker_cores().into_iter().filter_map(|id| case.host.machine.core(id)).collect()
}

fn listed(ids: impl IntoIterator<Item = usize>) -> String {
    ids.into_iter().map(|id| id.to_string()).collect::<Vec<_>>().join(",")
}

/// Cores that run.
fn online(case: &Case) -> Vec<usize> {
    case.host.machine.cores.iter().filter(|core| core.online).map(|core| core.id).collect()
}

pub(super) fn absent(case: &Case) -> Vec<Trouble> {
    let Some(config) = &case.config else { return Vec::new() };
    let online = online(case);
    let absent: Vec<usize> = config.cores.iter().copied().filter(|core| !online.contains(core)).collect();
    let cause = format!(
        "--cores names {}, which is offline or not there: the node does not start",
        listed(absent.iter().copied())
    );
    let remedy = format!(
        "choose --cores from {}, or switch it on: echo 1 > /sys/devices/system/cpu/cpuN/online",
        listed(online.iter().copied())
    );
    one_if(!absent.is_empty() && !online.is_empty(), cause, remedy)
}

pub(super) fn share(case: &Case) -> Vec<Trouble> {
    let Some(config) = &case.config else { return Vec::new() };
    let Workers::Count(workers) = config.workers else { return Vec::new() };
    let cores = online(case).len();
    let cause =
        format!("--workers {workers} on {cores} cores: some workers share one and slow each other down");
    one_if(cores > 0 && workers > cores, cause, format!("--workers {cores}, or --workers auto"))
}

pub(super) fn siblings(case: &Case) -> Vec<Trouble> {
    shared_core(&cores(case)).into_iter().collect()
}

/// Workers on two threads of one core.
pub(crate) fn shared_core(cores: &[&Core]) -> Option<Trouble> {
    let (one, other) = cores.iter().find_map(|core| {
        let sibling =
            core.siblings.iter().find(|&&id| id != core.id && cores.iter().any(|other| other.id == id))?;
        Some((core.id, *sibling))
    })?;
    let cause =
        format!("workers run on {one} and {other}, which are two threads of one core: they share its caches");
    Some(trouble(cause, "--cores with one hardware thread of each core (lscpu -e shows them)"))
}

pub(super) fn far(case: &Case) -> Vec<Trouble> {
    let cores = cores(case);
    let far = case.ports().into_iter().find_map(|port| {
        let node = port.link.memory_node.filter(|&node| node >= 0)?;
        let core = cores.iter().find(|core| core.memory_node.is_some_and(|other| other != node))?;
        Some((port.link.name.clone(), node, core.id, core.memory_node.unwrap_or_default()))
    });
    let Some((name, node, core, other)) = far else { return Vec::new() };
    let near = case.host.machine.cores.iter().filter(|core| core.memory_node == Some(node));
    let cause = format!(
        "{name} is on memory node {node}, a worker on core {core} of node {other}: each packet crosses between them"
    );
    vec![trouble(cause, format!("--cores from {}", listed(near.map(|core| core.id))))]
}

pub(super) fn not_isolated(case: &Case) -> Vec<Trouble> {
    let spins = case.config.as_ref().is_some_and(|config| config.tuning.idle == Idle::Spin);
    let shared: Vec<usize> = cores(case).iter().filter(|core| !core.isolated).map(|core| core.id).collect();
    let list = listed(shared.iter().copied());
    let cause =
        format!("--idle spin uses cores {list} up, and they are not isolated: everything else there waits");
    let remedy = format!(
        "kernel parameter isolcpus={list} (in GRUB_CMDLINE_LINUX, then update-grub and reboot), or --idle adaptive"
    );
    one_if(spins && !shared.is_empty(), cause, remedy)
}

pub(super) fn governor(case: &Case) -> Vec<Trouble> {
    saving_governor(&cores(case)).into_iter().collect()
}

/// A clock that saves power on cores of workers.
pub(crate) fn saving_governor(cores: &[&Core]) -> Option<Trouble> {
    let saves = |governor: &str| governor != "performance";
    let slow: Vec<&&Core> = cores.iter().filter(|core| core.governor.as_deref().is_some_and(saves)).collect();
    let first = slow.first()?;
    let cause = format!(
        "cores {} of workers have the governor {}: their clock falls whenever packets pause",
        listed(slow.iter().map(|core| core.id)),
        first.governor.as_deref().unwrap_or_default()
    );
    Some(trouble(cause, "samepath setup apply governor   (or: cpupower frequency-set -g performance)"))
}

pub(super) fn irqbalance(case: &Case) -> Vec<Trouble> {
    let running = case.host.machine.irqbalance;
    let cause = format!(
        "irqbalance runs (process {}): it moves interrupts to workers' cores behind your back",
        running.unwrap_or_default()
    );
    one_if(
        running.is_some(),
        cause,
        "systemctl disable --now irqbalance   (or: IRQBALANCE_BANNED_CPULIST in /etc/default/irqbalance)",
    )
}

pub(super) fn interrupts(case: &Case) -> Vec<Trouble> {
    let workers = case.worker_cores();
    let free = online(case).iter().any(|core| !workers.contains(core));
    let ports = case.ports().into_iter().filter(|_| free);
    let disturbed = ports.filter_map(|port| {
        let irqs = port.link.irqs.iter().filter_map(|irq| Some((irq, case.host.machine.irqs.get(irq)?)));
        let mut on_workers = irqs.filter(|(_, irq)| irq.cores.iter().any(|core| workers.contains(core)));
        let (number, irq) = on_workers.next()?;
        let cause = format!(
            "interrupt {number} of {} ({}) may go to cores {}, where workers run, and other cores are free",
            port.link.name,
            irq.name,
            listed(irq.cores.iter().copied())
        );
        Some(trouble(cause, "samepath setup apply irq"))
    });
    disturbed.collect()
}
