//! Kernel, memory and interrupts.

use std::collections::BTreeMap;

use rustix::fs::statfs;

use super::{Core, Place, cores, list};

/// `BPF_FS_MAGIC` (linux/magic.h).
const BPFFS_MAGIC: i64 = 0xcafe_4a11;
/// 2-MiB pages.
pub const HUGE_POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// What an interface cannot say.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Version of the kernel, as it says it.
    pub kernel: Option<String>,
    /// `net.core.bpf_jit_enable`.
    pub bpf_jit: Option<u32>,
    /// A BPF file system is mounted at its place.
    pub bpffs: Option<bool>,
    /// Cores that are present.
    pub cores: Vec<Core>,
    /// Pages of 2 MiB.
    pub huge: Option<HugePool>,
    /// Interrupts by number.
    pub irqs: BTreeMap<u32, Irq>,
    /// A daemon that moves interrupts from core to core.
    pub irqbalance: Option<i32>,
    /// The clock follows others.
    pub clock_synchronised: Option<bool>,
}

/// Reserved 2-MiB pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HugePool {
    /// All of them.
    pub total: u64,
    /// Nobody's.
    pub free: u64,
}

/// An interrupt.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Irq {
    /// What the driver calls it.
    pub name: String,
    /// Cores it may go to.
    pub cores: Vec<usize>,
}

impl Machine {
    /// Reads them.
    pub fn read(place: &Place) -> Self {
        Self {
            kernel: place.text("/proc/sys/kernel/osrelease"),
            bpf_jit: place.value("/proc/sys/net/core/bpf_jit_enable"),
            bpffs: statfs(place.path("/sys/fs/bpf")).ok().map(|fs| fs.f_type == BPFFS_MAGIC),
            cores: cores(place),
            huge: HugePool::read(place),
            irqs: irqs(place),
            irqbalance: process_named(place, "irqbalance"),
            clock_synchronised: clock_synchronised(place),
        }
    }

    /// First two numbers of the kernel's version.
    pub fn kernel_version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.kernel.as_deref()?.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }

    /// A core by number.
    pub fn core(&self, id: usize) -> Option<&Core> {
        self.cores.iter().find(|core| core.id == id)
    }
}

impl HugePool {
    /// Reads it; `None`: the kernel has no such pages.
    pub fn read(place: &Place) -> Option<Self> {
        let number = |name| place.value(&format!("{HUGE_POOL}/{name}"));
        Some(Self { total: number("nr_hugepages")?, free: number("free_hugepages")? })
    }
}

/// Bytes of memory that programs can still have; `None`: the kernel does not say.
pub fn available_memory(place: &Place) -> Option<u64> {
    let text = place.text("/proc/meminfo")?;
    let kibibytes = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(kibibytes.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

fn irqs(place: &Place) -> BTreeMap<u32, Irq> {
    let text = place.text("/proc/interrupts").unwrap_or_default();
    let numbered = text.lines().filter_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let number: u32 = number.trim().parse().ok()?;
        let cores = place.text(&format!("/proc/irq/{number}/smp_affinity_list")).unwrap_or_default();
        let name = rest.split_whitespace().last().unwrap_or_default();
        Some((number, Irq { name: name.into(), cores: list(&cores) }))
    });
    numbered.collect()
}

fn process_named(place: &Place, name: &str) -> Option<i32> {
    let numbers = place.names("/proc").into_iter().filter_map(|entry| entry.parse::<i32>().ok());
    let mut running = numbers.filter(|pid| place.text(&format!("/proc/{pid}/comm")).as_deref() == Some(name));
    running.next()
}

/// systemd knows what the kernel's clock says, whoever steers it.
fn clock_synchronised(place: &Place) -> Option<bool> {
    match place.output("timedatectl", &["show", "-p", "NTPSynchronized", "--value"])?.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}
