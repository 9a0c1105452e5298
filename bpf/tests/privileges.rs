//! What a process without privileges is told. Alone in its file: libbpf remembers for the whole process
//! what it found the kernel able to do.

mod support;

use samepath_bpf::{Steering, SteeringConfig, SteeringError};
use support::in_namespace;
use support::kernel::set_capabilities;

#[test]
fn unprivileged_process_is_told_what_it_lacks() {
    in_namespace(|| {
        set_capabilities([0; 6]);
        let error = Steering::load(&SteeringConfig::default()).err().unwrap();
        assert!(matches!(error, SteeringError::NotPermitted { .. }), "{error}");
        assert!(error.to_string().contains("run as root, or with CAP_BPF, CAP_NET_ADMIN"), "{error}");
    });
}
