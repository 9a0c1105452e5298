//! Attaching to and detaching from a real interface, and what stands in the way.

mod support;

use libbpf_rs::XdpFlags;
use samepath_bpf::{
    AttachedMode, OnCrash, PortConfig, PortRole, Steering, SteeringError, XdpMode, attached_program,
};
use support::kernel::{attach_foreign, foreign_program, link_foreign};
use support::{in_namespace, load, must_run, port, veth};

fn attach(
    steering: &mut Steering,
    ifindex: u32,
    mode: XdpMode,
    replace: bool,
) -> Result<AttachedMode, SteeringError> {
    steering.attach(port("left", ifindex, PortRole::Data), mode, replace)
}

/// Tries to attach, which must fail and leave the interface as it was; returns what was said.
fn refusal(ifindex: u32, mode: XdpMode, replace: bool) -> String {
    let before = attached_program(ifindex).unwrap();
    let mut steering = load(OnCrash::Open);
    let error = attach(&mut steering, ifindex, mode, replace).unwrap_err().to_string();
    assert_eq!(attached_program(ifindex).unwrap(), before);
    assert_eq!(steering.attached().count(), 0);
    error
}

#[test]
fn program_comes_and_goes_with_its_steering() {
    in_namespace(|| {
        let left = veth("");
        for (mode, wanted) in [
            (XdpMode::BestEffort, AttachedMode::Native),
            (XdpMode::Native, AttachedMode::Native),
            (XdpMode::NativeZerocopy, AttachedMode::Native),
            (XdpMode::Generic, AttachedMode::Generic),
        ] {
            let mut steering = load(OnCrash::Open);
            assert_eq!(attach(&mut steering, left, mode, false).unwrap(), wanted, "{mode}");
            assert!(steering.native_refused(3).is_none());
            let program = attached_program(left).unwrap().unwrap();
            assert_eq!((program.name.as_deref(), program.mode), (Some("samepath_steer"), wanted));
            assert!(program.link.is_some());
            let attached: Vec<_> = steering.attached().map(|(port, mode)| (port.index, mode)).collect();
            assert_eq!(attached, [(3, wanted)]);
            drop(steering);
            assert_eq!(attached_program(left).unwrap(), None);
        }
    });
}

#[test]
fn detached_steering_attaches_again() {
    in_namespace(|| {
        let left = veth("");
        let mut steering = load(OnCrash::Closed);
        for _ in 0..2 {
            attach(&mut steering, left, XdpMode::Native, false).unwrap();
            steering.detach().unwrap();
            assert_eq!(attached_program(left).unwrap(), None);
        }
    });
}

#[test]
fn interface_that_goes_away_is_no_obstacle_to_detaching() {
    in_namespace(|| {
        for on_crash in [OnCrash::Open, OnCrash::Closed] {
            let left = veth("");
            let mut steering = load(on_crash);
            attach(&mut steering, left, XdpMode::Native, false).unwrap();
            must_run("ip link del left");
            steering.detach().unwrap();
        }
    });
}

#[test]
fn several_interfaces_and_several_steerings() {
    in_namespace(|| {
        let left = veth("");
        let right = support::index_of("right");
        let mut one = load(OnCrash::Closed);
        attach(&mut one, left, XdpMode::Native, false).unwrap();
        let mut other = port("right", right, PortRole::ClusterLink);
        let error = one.attach(other.clone(), XdpMode::Native, false).unwrap_err();
        assert!(error.to_string().contains("this number or this interface is in use"), "{error}");
        other.index = 4;
        one.attach(other, XdpMode::Native, false).unwrap();
        assert_eq!(one.attached().count(), 2);
        // A second daemon in another namespace, with the same interface numbers.
        in_namespace(|| {
            let left = veth("");
            let mut two = load(OnCrash::Closed);
            attach(&mut two, left, XdpMode::Native, false).unwrap();
        });
        assert!(attached_program(left).unwrap().is_some());
        assert!(attached_program(right).unwrap().is_some());
    });
}

#[test]
fn port_numbers_and_names_are_checked() {
    in_namespace(|| {
        let left = veth("");
        let mut steering = load(OnCrash::Open);
        let mut say =
            |port: PortConfig| steering.attach(port, XdpMode::BestEffort, false).unwrap_err().to_string();
        let nowhere = "does not exist in this network namespace: `ip link` lists those that do";
        assert_eq!(say(port("eth9", 77, PortRole::Data)), format!("interface `eth9` {nowhere}"));
        assert_eq!(say(port("left", left + 1, PortRole::Data)), format!("interface `left` {nowhere}"));
        let sixteen = PortConfig { index: 16, ..port("left", left, PortRole::Data) };
        assert_eq!(say(sixteen), "interface `left` cannot be port 16: a node has at most 16 interfaces");
        attach(&mut steering, left, XdpMode::Native, false).unwrap();
        let again = attach(&mut steering, left, XdpMode::Native, false).unwrap_err().to_string();
        assert_eq!(again, "interface `left` cannot be port 3: the program is attached there already");
        assert_eq!(steering.attached().count(), 1);
    });
}

#[test]
fn veth_with_too_few_queues() {
    in_namespace(|| {
        must_run(
            "ip link add left numrxqueues 1 numtxqueues 1 type veth peer name right numrxqueues 1 numtxqueues 2",
        );
        let left = support::index_of("left");
        let error = refusal(left, XdpMode::Native, false);
        assert!(error.starts_with("interface `left` has fewer receive queues than its veth peer"), "{error}");
        let mut steering = load(OnCrash::Open);
        let got = attach(&mut steering, left, XdpMode::BestEffort, false).unwrap();
        assert_eq!(got, AttachedMode::Generic);
        assert!(matches!(steering.native_refused(3), Some(SteeringError::TooFewQueues { .. })));
    });
}

#[test]
fn mtu_too_large() {
    in_namespace(|| {
        let left = veth("");
        must_run("ip link set dev left mtu 9000");
        must_run("ip link set dev right mtu 9000");
        let error = refusal(left, XdpMode::Native, false);
        assert!(error.contains("`left`") && error.contains("mtu 1500"), "{error}");
        let mut steering = load(OnCrash::Open);
        let got = attach(&mut steering, left, XdpMode::BestEffort, false).unwrap();
        assert_eq!(got, AttachedMode::Generic);
    });
}

#[test]
fn driver_without_native_xdp() {
    in_namespace(|| {
        let mut steering = load(OnCrash::Open);
        let error = steering.attach(port("lo", 1, PortRole::Data), XdpMode::Native, false).unwrap_err();
        assert!(matches!(error, SteeringError::ModeUnsupported { .. }), "{error}");
        assert!(error.to_string().contains("--xdp-mode generic"), "{error}");
    });
}

#[test]
fn foreign_program_is_named_and_left_alone_unless_replaced() {
    in_namespace(|| {
        let left = veth("");
        let program = foreign_program();
        for flags in [XdpFlags::DRV_MODE, XdpFlags::SKB_MODE] {
            attach_foreign(&program, left, flags);
            let found = attached_program(left).unwrap().unwrap();
            assert_eq!((found.name.as_deref(), found.link), (Some("somebody_else"), None));
            for mode in XdpMode::ALL {
                let error = refusal(left, mode, false);
                let wanted = format!(
                    "interface `left` already runs XDP program {} `somebody_else` ({} mode): remove it with `ip link \
                     set dev left xdp off` (`bpftool net` shows it) or take over with --replace",
                    found.id, found.mode
                );
                assert_eq!(error, wanted);
            }
            let mut steering = load(OnCrash::Closed);
            attach(&mut steering, left, XdpMode::Native, true).unwrap();
            assert_eq!(attached_program(left).unwrap().unwrap().name.as_deref(), Some("samepath_steer"));
        }
    });
}

#[test]
fn foreign_link_cannot_be_replaced() {
    in_namespace(|| {
        let left = veth("");
        let link = link_foreign(&foreign_program(), left);
        let found = attached_program(left).unwrap().unwrap();
        let number = found.link.unwrap();
        for replace in [false, true] {
            let error = refusal(left, XdpMode::BestEffort, replace);
            assert!(error.contains(&format!("program {} `somebody_else`", found.id)), "{error}");
            assert!(error.contains(&format!("held by bpf_link {number} of another process")), "{error}");
        }
        must_run(&format!("bpftool link detach id {number}"));
        attach(&mut load(OnCrash::Open), left, XdpMode::BestEffort, false).unwrap();
        drop(link);
    });
}

#[test]
fn second_samepath_is_told_about_the_first() {
    in_namespace(|| {
        let left = veth("");
        for on_crash in [OnCrash::Open, OnCrash::Closed] {
            let mut first = load(on_crash);
            attach(&mut first, left, XdpMode::Native, false).unwrap();
            let error = refusal(left, XdpMode::Native, true);
            assert_eq!(
                error,
                "interface `left` is already steered by another samepath process: stop that one first"
            );
        }
    });
}
