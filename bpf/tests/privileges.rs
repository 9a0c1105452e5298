//! What a process without privileges is told. Alone in its file: libbpf remembers for the whole process
//! what it found the kernel able to do.

mod support;

use samepath_bpf::{Steering, SteeringConfig, SteeringError};
use support::in_namespace;

/// `_LINUX_CAPABILITY_VERSION_3` (linux/capability.h).
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Takes every capability from the calling thread.
fn drop_privileges() {
    let header = [CAPABILITY_VERSION, 0];
    let none = [0u32; 6];
    // SAFETY: both arrays have the sizes capset(2) asks for and outlive the call.
    let failed = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    assert_eq!(failed, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn unprivileged_process_is_told_what_it_lacks() {
    in_namespace(|| {
        drop_privileges();
        let error = Steering::load(&SteeringConfig::default()).err().unwrap();
        assert!(matches!(error, SteeringError::NotPermitted { .. }), "{error}");
        assert!(error.to_string().contains("run as root, or with CAP_BPF, CAP_NET_ADMIN"), "{error}");
    });
}
