//! Scheduling policy of threads (sched(7)); neither rustix nor nix sets it.

use std::io;

/// Real-time priority of a worker with `--sched fifo`: the lowest there is, above every ordinary thread and
/// below everything an operator gives real-time priority himself.
pub const FIFO_PRIORITY: i32 = 1;

/// Real-time priority of the watchdog: above the workers it watches.
pub const WATCHDOG_PRIORITY: i32 = FIFO_PRIORITY + 1;

/// A scheduling policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// `SCHED_OTHER`: shares the core fairly.
    Other,
    /// `SCHED_FIFO` with this priority: runs until it sleeps or something of a higher priority runs.
    Fifo(i32),
}

/// The calling thread's number in the kernel.
pub fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Sets a thread's policy (0: the calling thread's). Threads it starts later begin with `Other`.
/// Errors: EPERM without CAP_SYS_NICE, or in a cgroup without real-time share; ESRCH: no such thread.
pub fn set_policy(thread: i32, policy: Policy) -> io::Result<()> {
    let (number, priority) = match policy {
        Policy::Other => (libc::SCHED_OTHER, 0),
        Policy::Fifo(priority) => (libc::SCHED_FIFO, priority),
    };
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: `parameters` lives through the call, which only reads it.
    let result = unsafe {
        libc::sched_setscheduler(thread, number | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A thread's policy as the kernel has it. Policies between the two count as `Other`.
pub fn policy(thread: i32) -> io::Result<Policy> {
    let mut parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the first call takes no memory; `parameters` lives through the second, which fills it.
    let (number, read) =
        unsafe { (libc::sched_getscheduler(thread), libc::sched_getparam(thread, &raw mut parameters)) };
    if number < 0 || read < 0 {
        return Err(io::Error::last_os_error());
    }
    match number & !libc::SCHED_RESET_ON_FORK {
        libc::SCHED_FIFO => Ok(Policy::Fifo(parameters.sched_priority)),
        _ => Ok(Policy::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_policy_is_read_back() {
        std::thread::spawn(|| {
            assert_eq!(policy(0).unwrap(), Policy::Other);
            match set_policy(thread_id(), Policy::Fifo(FIFO_PRIORITY)) {
                Ok(()) => assert_eq!(policy(thread_id()).unwrap(), Policy::Fifo(FIFO_PRIORITY)),
                // Not root: refused, and nothing changed.
                Err(_) => assert_eq!(policy(0).unwrap(), Policy::Other),
            }
            set_policy(0, Policy::Other).unwrap();
            assert_eq!(policy(0).unwrap(), Policy::Other);
        })
        .join()
        .unwrap();
    }
}
