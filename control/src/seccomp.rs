//! System calls of workers. What strangers send is parsed on their threads, so these may call next to nothing: a
//! worker that calls anything else has gone wrong, and the kernel ends the process (SIGSYS) before the call does
//! anything. Peers take its flows over, and who runs it as a service starts it again.

use std::collections::BTreeMap;

use anyhow::Context;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// What a worker calls once it works.
const ALLOWED: [i64; 26] = [
    // Rings: is there a packet, wake the kernel, what it had no room for; the bell.
    libc::SYS_ppoll,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_getsockopt,
    libc::SYS_read,
    // The bells of others; a line of the log.
    libc::SYS_write,
    libc::SYS_writev,
    // Where the kernel does not share its clock; pauses.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_sched_yield,
    // Locks of allocator and log.
    libc::SYS_futex,
    // Snapshots that are given back, tables of what an operator looks at.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_sched_getaffinity,
    libc::SYS_getrandom,
    // A signal that comes to this thread of all: what it interrupted, the end of its handler.
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    // The thread's end, also by a panic that aborts.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_getpid,
    libc::SYS_gettid,
];

/// What is refused (EPERM) and nothing worse: the allocator looks once whether memory is overcommitted, and a
/// panic for its own program and folder. Both do without.
const REFUSED: [i64; 3] = [libc::SYS_openat, libc::SYS_readlink, libc::SYS_getcwd];

/// The filters of a worker, ready for the kernel. Of two answers to a call it takes the stricter one.
#[derive(Clone, Debug)]
pub struct WorkerFilter {
    kills: BpfProgram,
    refuses: BpfProgram,
}

impl WorkerFilter {
    /// Makes them, and tries them on a thread that ends at once.
    pub fn prepare() -> anyhow::Result<Self> {
        let filter = Self::compile().context("the filter of workers' system calls is not valid")?;
        let tried = filter.clone();
        let tried = std::thread::spawn(move || tried.apply()).join();
        tried.unwrap_or_else(|_| Err(anyhow::anyhow!("the thread that tried it ended"))).context(
            "the kernel takes no filter of system calls: it needs CONFIG_SECCOMP_FILTER; or use --seccomp off",
        )?;
        Ok(filter)
    }

    /// From now on, and for good, the calling thread makes no other calls.
    pub fn apply(&self) -> anyhow::Result<()> {
        seccompiler::apply_filter(&self.refuses)?;
        // The last one: it does not allow another.
        Ok(seccompiler::apply_filter(&self.kills)?)
    }

    fn compile() -> Result<Self, BackendError> {
        let always = |call| (call, Vec::new());
        let mut allowed: BTreeMap<_, _> = ALLOWED.into_iter().chain(REFUSED).map(always).collect();
        // Memory that cannot be run as a program.
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            let never_run = argument(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?;
            allowed.insert(call, vec![never_run]);
        }
        // A panic's own SIGABRT.
        let to_itself = argument(0, SeccompCmpOp::Eq, std::process::id().into())?;
        allowed.insert(libc::SYS_tgkill, vec![to_itself]);
        let refused = REFUSED.map(always).into();
        Ok(Self {
            kills: program(allowed, SeccompAction::Allow, SeccompAction::KillProcess)?,
            refuses: program(refused, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)?,
        })
    }
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    these: SeccompAction,
    others: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, others, these, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// A call whose argument `index` is so.
fn argument(index: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(index, SeccompCmpArgLen::Dword, compare, value)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_allocates_speaks_and_panics_but_opens_nothing() {
        let filter = WorkerFilter::prepare().unwrap();
        let worker = std::thread::spawn(move || {
            filter.apply().unwrap();
            // More than an arena keeps, so that the allocator gives it back.
            drop((0..1000).map(|_| vec![1u8; 10_000]).collect::<Vec<_>>());
            eprintln!("a worker speaks");
            let opened = std::fs::File::open("/dev/null").map_err(|error| error.kind());
            assert_eq!(opened.err(), Some(std::io::ErrorKind::PermissionDenied));
            let trace = std::backtrace::Backtrace::force_capture().to_string();
            assert!(!trace.is_empty());
            panic!("as a worker may");
        });
        assert!(worker.join().is_err_and(|panic| panic.downcast_ref() == Some(&"as a worker may")));
    }
}
