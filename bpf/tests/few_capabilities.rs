//! What a process with the capabilities of the systemd unit, and so without CAP_SYS_ADMIN, can find out and do
//! about programs that are there already. Alone in its file: libbpf remembers for the whole process what it found
//! the kernel able to do.

mod support;

use libbpf_rs::XdpFlags;
use samepath_bpf::{
    AttachedMode, AttachedProgram, OnCrash, PortRole, Steering, SteeringError, XdpMode, attached_program,
};
use support::kernel::{
    Victim, attach_foreign, be_victim, foreign_program, link_foreign, victims_role, with_capabilities,
};
use support::{in_namespace, index_of, load, port, veth};

/// CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK, CAP_SYS_NICE, CAP_PERFMON, CAP_BPF (linux/capability.h).
const OF_THE_UNIT: [u32; 6] = [12, 13, 14, 23, 38, 39];

/// A program with the unit's capabilities, attached in native mode.
fn attach(left: u32, on_crash: OnCrash, replace: bool) -> Result<Steering, SteeringError> {
    with_capabilities(&OF_THE_UNIT, || {
        let mut steering = load(on_crash);
        let port = port("left", left, PortRole::Data);
        steering.attach(port, XdpMode::Native, replace).map(|_| steering)
    })
}

fn refusal(left: u32, replace: bool) -> String {
    attach(left, OnCrash::Open, replace).err().unwrap().to_string()
}

/// What is attached, as one sees it who may do everything.
fn program(left: u32) -> AttachedProgram {
    attached_program(left).unwrap().unwrap()
}

#[test]
fn a_program_without_its_name_is_known_by_its_number() {
    in_namespace(|| {
        let left = veth("");
        attach_foreign(&foreign_program(), left, XdpFlags::DRV_MODE);
        let all = program(left);
        let seen = with_capabilities(&OF_THE_UNIT, || program(left));
        assert_eq!(seen, AttachedProgram { name: None, ..all });
    });
}

#[test]
fn a_foreign_program_is_left_alone_unless_replaced() {
    in_namespace(|| {
        let left = veth("");
        for flags in [XdpFlags::DRV_MODE, XdpFlags::SKB_MODE] {
            attach_foreign(&foreign_program(), left, flags);
            let found = program(left);
            let wanted = format!(
                "interface `left` already runs XDP program {} ({} mode): remove it with `ip link set dev left xdp \
                 off` (`bpftool net` shows it) or take over with --replace",
                found.id, found.mode
            );
            assert_eq!(refusal(left, false), wanted);
            assert_eq!(program(left), found);
            let steering = attach(left, OnCrash::Open, true).unwrap();
            assert_eq!(program(left).name.as_deref(), Some("samepath_steer"));
            drop(steering);
        }
    });
}

#[test]
fn a_foreign_link_cannot_be_replaced() {
    in_namespace(|| {
        let left = veth("");
        let _link = link_foreign(&foreign_program(), left);
        let found = program(left);
        let error = refusal(left, true);
        assert!(error.contains("held by a bpf_link of another process"), "{error}");
        assert_eq!(program(left), found);
    });
}

#[test]
fn what_a_dead_samepath_left_is_taken_over_without_a_gap() {
    if let Some(role) = victims_role() {
        return be_victim(attach(index_of("left"), role.parse().unwrap(), false).unwrap());
    }
    in_namespace(|| {
        let left = veth("");
        Victim::start("what_a_dead_samepath_left_is_taken_over_without_a_gap", "closed").kill();
        let before = program(left);
        let steering = attach(left, OnCrash::Closed, false).unwrap();
        let after = program(left);
        assert_ne!(after.id, before.id, "still the dead process's program");
        assert_eq!(
            (after.link, after.mode),
            (before.link, AttachedMode::Native),
            "another link, so there was a gap"
        );
        drop(steering);
        assert_eq!(attached_program(left).unwrap(), None);
    });
}

#[test]
fn a_dead_samepath_that_leaves_nothing_is_waited_for() {
    if let Some(role) = victims_role() {
        return be_victim(attach(index_of("left"), role.parse().unwrap(), false).unwrap());
    }
    in_namespace(|| {
        let left = veth("");
        for _ in 0..3 {
            Victim::start("a_dead_samepath_that_leaves_nothing_is_waited_for", "open").kill();
            drop(attach(left, OnCrash::Open, false).unwrap());
        }
    });
}
