//! Everything that can go wrong between us and the kernel, each with its remedy.

use std::io;
use std::path::PathBuf;

use crate::attached_program::AttachedProgram;

/// Why the program could not be loaded, attached, filled or read. One sentence each, for an operator.
#[derive(Debug, thiserror::Error)]
pub enum SteeringError {
    /// The kernel said EPERM or EACCES.
    #[error(
        "the kernel does not let this process {step} the XDP program: run as root, or with CAP_BPF, CAP_NET_ADMIN \
         and CAP_PERFMON, and allow locked memory (`ulimit -l unlimited`)"
    )]
    NotPermitted {
        /// `load` or `attach`.
        step: &'static str,
    },
    /// The kernel refused the program for another reason.
    #[error(
        "the kernel does not load the XDP program ({reason}): samepath needs Linux 6.1 or later \
         with BPF and its JIT"
    )]
    Load {
        /// What the kernel's verifier or libbpf said about it.
        reason: String,
    },
    /// Name and index do not belong to an interface here.
    #[error(
        "interface `{interface}` does not exist in this network namespace: `ip link` lists those that do"
    )]
    UnknownInterface {
        /// Its name.
        interface: String,
    },
    /// A port number or interface given twice, or a number out of range.
    #[error("interface `{interface}` cannot be port {index}: {rule}")]
    Port {
        /// The interface's name.
        interface: String,
        /// The number wanted.
        index: u8,
        /// Which rule it breaks.
        rule: &'static str,
    },
    /// A program of somebody else's is there, attached without a bpf_link.
    #[error(
        "interface `{interface}` already runs XDP program {program} ({} mode): remove it with `ip link set dev \
         {interface} xdp off` (`bpftool net` shows it) or take over with --replace", program.mode
    )]
    Foreign {
        /// The interface's name.
        interface: String,
        /// What is there.
        program: AttachedProgram,
    },
    /// A program of somebody else's is there, held by a bpf_link.
    #[error(
        "interface `{interface}` already runs XDP program {program} ({} mode), held by {} of another process, which \
         --replace cannot take over: stop that process or `bpftool link detach id {}",
        program.mode,
        program.link.map_or_else(|| "a bpf_link".into(), |id| format!("bpf_link {id}")),
        program.link.map_or_else(|| "ID` (`bpftool link` names it to root)".into(), |id| format!("{id}`"))
    )]
    ForeignLink {
        /// The interface's name.
        interface: String,
        /// What is there.
        program: AttachedProgram,
    },
    /// Another samepath process steers this interface.
    #[error("interface `{interface}` is already steered by another samepath process: stop that one first")]
    AnotherSamepath {
        /// The interface's name.
        interface: String,
    },
    /// EOPNOTSUPP.
    #[error(
        "interface `{interface}` does not support {mode} XDP as it is set up: use --xdp-mode generic, or switch off \
         what its driver objects to (large receive offload: `ethtool -K {interface} lro off`)"
    )]
    ModeUnsupported {
        /// The interface's name.
        interface: String,
        /// The mode wanted.
        mode: crate::AttachedMode,
    },
    /// ENOSPC: a veth's peer has more transmit queues than this end has receive queues.
    #[error(
        "interface `{interface}` has fewer receive queues than its veth peer has transmit queues, which native XDP \
         does not allow: make them equal (`ethtool -L`, or numrxqueues and numtxqueues at `ip link add`) or use \
         --xdp-mode generic"
    )]
    TooFewQueues {
        /// The interface's name.
        interface: String,
    },
    /// ERANGE: frames would not fit one page.
    #[error(
        "interface `{interface}` (or the other end of this veth) has an MTU too large for native XDP: lower it to \
         3400 or less (`ip link set dev {interface} mtu 1500`) or use --xdp-mode generic"
    )]
    MtuTooLarge {
        /// The interface's name.
        interface: String,
    },
    /// Any other refusal by the kernel or the driver.
    #[error(
        "the XDP program cannot be attached to interface `{interface}` in {mode} mode ({source}): `dmesg` may say \
         more; --xdp-mode generic works on every interface"
    )]
    Attach {
        /// The interface's name.
        interface: String,
        /// The mode wanted.
        mode: crate::AttachedMode,
        /// The system call's error.
        source: io::Error,
    },
    /// bpffs is not there and cannot be mounted, or does not take our pin.
    #[error(
        "--on-crash closed keeps the program in {path}, which fails ({source}): mount it with `mount -t bpf bpf \
         /sys/fs/bpf` or use --on-crash open", path = path.display()
    )]
    Bpffs {
        /// The path at fault.
        path: PathBuf,
        /// The system call's error.
        source: io::Error,
    },
    /// A bpffs mounted here would go away with the process.
    #[error(
        "--on-crash closed needs the machine's bpffs, which this mount namespace hides (`ip netns exec` does): enter \
         the network namespace with `nsenter --net=/run/netns/NAME` or use --on-crash open"
    )]
    PrivateMounts,
    /// More entries than a map holds.
    #[error("{wanted} {what} are more than the XDP program can know ({limit}): configure fewer")]
    TooMany {
        /// What is in the map.
        what: &'static str,
        /// How many were given.
        wanted: usize,
        /// How many fit.
        limit: usize,
    },
    /// A socket for a port or queue beyond the map.
    #[error(
        "queue {queue} of port {port} is beyond the {} queues samepath serves per interface: `ethtool -L` lowers their number",
        crate::MAX_QUEUES
    )]
    Queue {
        /// Port index.
        port: u8,
        /// Queue of the interface.
        queue: u32,
    },
    /// A map operation failed that should not.
    #[error(
        "the XDP program's map `{map}` cannot be accessed ({source}): this is a defect or a lack of memory"
    )]
    Map {
        /// The map's name.
        map: &'static str,
        /// What libbpf said.
        source: libbpf_rs::Error,
    },
    /// The memory shared with the program's map `forwards` is not to be had.
    #[error(
        "the XDP program's map `forwards` cannot be shared with the workers ({source}): --forwarder worker does without"
    )]
    Shared {
        /// The system call's error.
        source: io::Error,
    },
    /// The kernel did not run the program on a given frame.
    #[error(
        "the kernel does not test-run a frame of {length} bytes as received by interface \
         {ifindex} ({source}): it takes 14 to about 3500 bytes and an existing interface"
    )]
    TestRun {
        /// The frame's length.
        length: usize,
        /// The interface index given.
        ifindex: u32,
        /// The system call's error.
        source: libbpf_rs::Error,
    },
    /// Several outcome counters moved during a test run.
    #[error("frames arrived during the test run, so its outcome is not known: detach before testing")]
    TestRunDisturbed,
}

/// What an errno from attaching means.
pub(crate) fn attach_error(interface: &str, mode: crate::AttachedMode, source: io::Error) -> SteeringError {
    let interface = interface.to_owned();
    let native = mode == crate::AttachedMode::Native;
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => SteeringError::NotPermitted { step: "attach" },
        Some(libc::ENODEV) => SteeringError::UnknownInterface { interface },
        Some(libc::EOPNOTSUPP) => SteeringError::ModeUnsupported { interface, mode },
        Some(libc::ENOSPC) if native => SteeringError::TooFewQueues { interface },
        Some(libc::ERANGE) if native => SteeringError::MtuTooLarge { interface },
        _ => SteeringError::Attach { interface, mode, source },
    }
}
