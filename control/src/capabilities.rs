//! What samepath may do without being root: the capabilities it needs, and which of them this process lacks.

/// A capability the daemon cannot do without: its name, its number (include/uapi/linux/capability.h), what for.
pub struct Needed {
    /// As capabilities(7) writes it.
    pub name: &'static str,
    number: u32,
    /// What fails without it.
    pub purpose: &'static str,
}

/// All of them. Locked memory is a limit as well (`ulimit -l`), so CAP_IPC_LOCK is not here; CAP_SYS_NICE
/// matters for `--sched fifo`, which says so itself.
pub const NEEDED: [Needed; 4] = [
    Needed { name: "CAP_NET_ADMIN", number: 12, purpose: "to attach the XDP program" },
    Needed { name: "CAP_NET_RAW", number: 13, purpose: "to open AF_XDP sockets" },
    Needed { name: "CAP_PERFMON", number: 38, purpose: "to load the XDP program" },
    Needed { name: "CAP_BPF", number: 39, purpose: "to load the XDP program" },
];

/// CAP_SYS_ADMIN, which stands for the last two.
const SYS_ADMIN: u32 = 21;

/// CAP_IPC_LOCK.
const IPC_LOCK: u32 = 14;

/// Refuses to go on without them; the sentence names those that are missing and the remedy.
pub fn require() -> anyhow::Result<()> {
    // A kernel that does not say will refuse by itself.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let Some(lacking) = lacking_in(&status).filter(|lacking| !lacking.is_empty()) else {
        return Ok(());
    };
    let list: Vec<String> =
        lacking.iter().map(|needed| format!("{} ({})", needed.name, needed.purpose)).collect();
    anyhow::bail!("this process lacks {}: {REMEDY}", list.join(", "))
}

/// What to do without them.
pub const REMEDY: &str = "run as root, by the systemd unit, or give what is missing to its user, for example with `setpriv --inh-caps=+net_admin,+net_raw,+bpf,+perfmon,+ipc_lock --ambient-caps=+net_admin,+net_raw,+bpf,+perfmon,+ipc_lock samepath run …`";

/// Those that the process of a /proc/PID/status lacks; `None`: it does not say.
pub fn lacking_in(status: &str) -> Option<Vec<&'static Needed>> {
    effective(status).map(lacking)
}

/// Whether that process may lock memory beyond its limit (CAP_IPC_LOCK).
pub fn locks_any_memory(status: &str) -> bool {
    effective(status).is_some_and(|effective| effective & (1 << IPC_LOCK) != 0)
}

/// The effective set in a /proc/PID/status (proc(5)).
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn lacking(effective: u64) -> Vec<&'static Needed> {
    let has = |number: u32| effective & (1 << number) != 0;
    NEEDED.iter().filter(|needed| !(has(needed.number) || needed.number >= 38 && has(SYS_ADMIN))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(effective: u64) -> Vec<&'static str> {
        lacking(effective).iter().map(|needed| needed.name).collect()
    }

    #[test]
    fn what_is_missing_is_named() {
        let status = "Name:\tsamepath\nCapPrm:\t0000000000000000\nCapEff:\t0000008000001000\n";
        assert_eq!(names(effective(status).unwrap()), ["CAP_NET_RAW", "CAP_PERFMON"]);
        assert_eq!(names(u64::MAX), [""; 0]);
        assert_eq!(
            names((1 << 12) | (1 << 13) | (1 << 21)),
            [""; 0],
            "CAP_SYS_ADMIN stands for BPF and PERFMON"
        );
        assert_eq!(effective("Name:\tx\n"), None);
    }
}
