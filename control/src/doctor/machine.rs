//! Kernel, programs, rights.

use super::{Trouble, trouble};
use crate::capabilities;
use crate::config::OnCrash;
use crate::host::Case;

/// The oldest kernel samepath is made for (docs/operations.md).
const OLDEST_KERNEL: (u32, u32) = (6, 1);

pub(super) fn programs(case: &Case) -> Vec<Trouble> {
    let missing = case.host.missing_programs.iter();
    missing
        .map(|program| {
            let package = match *program {
                "ip" => "iproute2",
                "nft" => "nftables",
                other => other,
            };
            let cause = format!("the program {program} is not here: what it would tell was not looked at");
            trouble(cause, format!("apt-get install {package}"))
        })
        .collect()
}

pub(super) fn kernel(case: &Case) -> Vec<Trouble> {
    let machine = &case.host.machine;
    let old = machine.kernel_version().is_some_and(|version| version < OLDEST_KERNEL);
    let found = machine.kernel.as_deref().unwrap_or_default();
    let cause =
        format!("the kernel is {found}: samepath needs {}.{} or later", OLDEST_KERNEL.0, OLDEST_KERNEL.1);
    one_if(old, cause, "install a newer kernel (Debian 12: apt-get install linux-image-amd64) and reboot")
}

pub(super) fn jit(case: &Case) -> Vec<Trouble> {
    let off = case.host.machine.bpf_jit == Some(0);
    let cause =
        "net.core.bpf_jit_enable is 0: the XDP program is interpreted, several times slower per packet";
    one_if(off, cause, "sysctl -w net.core.bpf_jit_enable=1")
}

pub(super) fn bpffs(case: &Case) -> Vec<Trouble> {
    let needed = case.config.as_ref().is_none_or(|config| config.on_crash == OnCrash::Closed);
    let absent = case.host.machine.bpffs == Some(false) && needed;
    let cause = "no BPF file system is mounted on /sys/fs/bpf: --on-crash closed keeps the program there, and only root can mount it";
    one_if(absent, cause, "mount -t bpf bpf /sys/fs/bpf")
}

pub(super) fn clock(case: &Case) -> Vec<Trouble> {
    let off = case.host.machine.clock_synchronised == Some(false);
    let cause = "the clock follows no other clock: certificates are judged by their dates, and logs of nodes cannot be compared";
    one_if(off, cause, "apt-get install chrony   (or: timedatectl set-ntp true)")
}

pub(super) fn capabilities(case: &Case) -> Vec<Trouble> {
    let process = &case.host.process;
    let Some(lacking) = process.status.as_deref().and_then(capabilities::lacking_in) else {
        return Vec::new();
    };
    let lacking = lacking.iter().map(|needed| format!("{} ({})", needed.name, needed.purpose));
    let list = lacking.collect::<Vec<_>>().join(", ");
    let cause = format!("{} lacks {list}", process.name);
    one_if(!list.is_empty(), cause, capabilities::REMEDY)
}

/// One trouble, or none.
pub(super) fn one_if(wrong: bool, cause: impl Into<String>, remedy: impl Into<String>) -> Vec<Trouble> {
    if wrong { vec![trouble(cause, remedy)] } else { Vec::new() }
}
