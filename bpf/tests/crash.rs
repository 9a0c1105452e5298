//! `--on-crash`: what a process that is killed leaves behind, and how the next one deals with it.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use samepath_bpf::{AttachedMode, OnCrash, PortRole, SteeringError, XdpMode, attached_program};
use support::frame::{TCP, ethernet, frame4, ipv4};
use support::kernel::{RawSocket, Victim, be_victim, victims_role};
use support::{eventually, in_namespace, index_of, load, must_run, port, run, veth};

/// Where the link on `ifindex` is pinned.
fn pin_of(ifindex: u32) -> PathBuf {
    let namespace = fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
    PathBuf::from(format!("/sys/fs/bpf/samepath/{namespace}-{ifindex}/link"))
}

/// In a victim: attaches to `left` as its role says and waits for death. True in a victim.
fn attached_as_victim() -> bool {
    let Some(role) = victims_role() else { return false };
    let mut steering = load(role.parse().unwrap());
    let left = port("left", index_of("left"), PortRole::Data);
    steering.attach(left, XdpMode::Native, false).unwrap();
    be_victim(steering);
    true
}

/// An interface whose samepath was killed under `--on-crash closed`.
fn leftover(test: &str) -> u32 {
    let left = veth("");
    Victim::start(test, "closed").kill();
    assert_eq!(attached_program(left).unwrap().unwrap().name.as_deref(), Some("samepath_steer"));
    assert!(pin_of(left).exists());
    left
}

#[test]
fn open_leaves_nothing() {
    if attached_as_victim() {
        return;
    }
    in_namespace(|| {
        let left = veth("");
        let victim = Victim::start("open_leaves_nothing", "open");
        assert!(attached_program(left).unwrap().is_some());
        assert!(!pin_of(left).exists());
        victim.kill();
        eventually("the program is gone", || attached_program(left).unwrap().is_none());
    });
}

#[test]
fn closed_leaves_a_program_that_drops() {
    if attached_as_victim() {
        return;
    }
    in_namespace(|| {
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        leftover("closed_leaves_a_program_that_drops");
        let left = RawSocket::open(index_of("left"));
        let right = RawSocket::open(index_of("right"));
        // The second frame is not IP and arrives; the first one would have arrived before it.
        let arp = ethernet(&[&[8, 6][..], &[0; 46]].concat());
        right.send(&frame4(&ipv4(6, &TCP)));
        right.send(&arp);
        assert_eq!(left.receive(), arp);
    });
}

#[test]
fn leftover_is_taken_over_without_a_gap() {
    if attached_as_victim() {
        return;
    }
    in_namespace(|| {
        let left = leftover("leftover_is_taken_over_without_a_gap");
        let before = attached_program(left).unwrap().unwrap();
        let mut steering = load(OnCrash::Closed);
        let config = port("left", left, PortRole::Data);
        let got = steering.attach(config, XdpMode::BestEffort, false).unwrap();
        assert_eq!(got, AttachedMode::Native);
        let after = attached_program(left).unwrap().unwrap();
        assert_ne!(after.id, before.id, "still the dead process's program");
        assert_eq!(after.link, before.link, "another link, so there was a gap");
        steering.detach().unwrap();
        assert_eq!(attached_program(left).unwrap(), None);
        assert!(!pin_of(left).parent().unwrap().exists());
    });
}

#[test]
fn leftover_is_taken_over_by_an_open_one() {
    if attached_as_victim() {
        return;
    }
    in_namespace(|| {
        let left = leftover("leftover_is_taken_over_by_an_open_one");
        let mut steering = load(OnCrash::Open);
        let config = port("left", left, PortRole::Data);
        steering.attach(config, XdpMode::Native, false).unwrap();
        assert!(!pin_of(left).parent().unwrap().exists());
        drop(steering);
        assert_eq!(attached_program(left).unwrap(), None);
    });
}

#[test]
fn leftover_of_another_mode_is_replaced() {
    if attached_as_victim() {
        return;
    }
    in_namespace(|| {
        let left = leftover("leftover_of_another_mode_is_replaced");
        let mut steering = load(OnCrash::Closed);
        let config = port("left", left, PortRole::Data);
        let got = steering.attach(config, XdpMode::Generic, false).unwrap();
        assert_eq!(got, AttachedMode::Generic);
        assert!(pin_of(left).exists());
    });
}

#[test]
fn leftover_of_a_deleted_interface_is_swept_away() {
    if attached_as_victim() {
        return;
    }
    in_namespace(|| {
        let old = leftover("leftover_of_a_deleted_interface_is_swept_away");
        must_run("ip link del left");
        let new = veth("");
        assert_ne!(new, old);
        let mut steering = load(OnCrash::Closed);
        steering.attach(port("left", new, PortRole::Data), XdpMode::Native, false).unwrap();
        assert!(!pin_of(old).exists());
        assert!(pin_of(new).exists());
    });
}

#[test]
fn living_process_is_not_robbed() {
    if attached_as_victim() {
        return;
    }
    in_namespace(|| {
        let left = veth("");
        let victim = Victim::start("living_process_is_not_robbed", "closed");
        let before = attached_program(left).unwrap().unwrap();
        for on_crash in [OnCrash::Closed, OnCrash::Open] {
            let mut steering = load(on_crash);
            let config = port("left", left, PortRole::Data);
            let error = steering.attach(config, XdpMode::Native, true).unwrap_err();
            assert!(matches!(error, SteeringError::AnotherSamepath { .. }), "{error}");
        }
        assert_eq!(attached_program(left).unwrap().unwrap(), before);
        assert!(pin_of(left).exists());
        victim.kill();
        let mut steering = load(OnCrash::Closed);
        steering.attach(port("left", left, PortRole::Data), XdpMode::Native, false).unwrap();
    });
}

/// The calling thread gets mounts of its own, without bpffs, as `ip netns exec` makes them.
fn hide_bpffs() {
    // SAFETY: plain system calls; the strings are C strings. Only this thread is moved.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
        let flags = libc::MS_REC | libc::MS_PRIVATE;
        let none = std::ptr::null();
        assert_eq!(libc::mount(none, c"/".as_ptr(), none, flags, none.cast()), 0);
    }
    while run("umount /sys/fs/bpf").status.success() {}
}

#[test]
fn closed_refuses_a_bpffs_that_would_die_with_it() {
    in_namespace(|| {
        let left = veth("");
        hide_bpffs();
        let config = port("left", left, PortRole::Data);
        let mut steering = load(OnCrash::Closed);
        let error = steering.attach(config.clone(), XdpMode::Native, false).unwrap_err();
        assert!(matches!(error, SteeringError::PrivateMounts), "{error}");
        assert!(error.to_string().contains("nsenter --net="), "{error}");
        assert_eq!(attached_program(left).unwrap(), None);
        load(OnCrash::Open).attach(config, XdpMode::Native, false).unwrap();
    });
}
