//! Sockets, counters and limits.

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use samepath_bpf::{Action, MAX_PEERS, OUTCOMES, OnCrash, PortRole, Steering, SteeringError, XdpMode};
use support::frame::*;
use support::kernel::{RawSocket, xdp_socket};
use support::{PORT_MAC, bench, eventually, in_namespace, index_of, load, port, veth};

fn count(steering: &Steering, name: &str) -> u64 {
    let counters = steering.counters().unwrap();
    counters.iter().find(|(outcome, _)| *outcome == name).unwrap().1
}

#[test]
fn registered_socket_gets_frames_until_it_is_closed() {
    in_namespace(|| {
        let mut steering = bench(PortRole::ClusterLink);
        let tunnelled = tunnel4(&frame4(&ipv4(6, &TCP)));
        let run = |steering: &Steering| {
            let run = steering.test_run(&tunnelled, 1).unwrap();
            (run.outcome, run.action)
        };
        let socket = xdp_socket();
        steering.register_socket(3, 0, socket.as_raw_fd()).unwrap();
        assert_eq!(run(&steering), ("steered_tunnel", Action::Redirect));
        steering.unregister_all_sockets().unwrap();
        assert_eq!(run(&steering), ("no_socket", Action::Drop));
        steering.register_socket(3, 1, socket.as_raw_fd()).unwrap();
        assert_eq!(run(&steering), ("no_socket", Action::Drop), "queue 1 is not queue 0");
        steering.register_socket(3, 0, socket.as_raw_fd()).unwrap();
        drop(socket);
        eventually("the map empties itself", || run(&steering) == ("no_socket", Action::Drop));
        steering.unregister_all_sockets().unwrap();

        let mut steering = bench(PortRole::Data);
        let socket = xdp_socket();
        steering.register_socket(3, 0, socket.as_raw_fd()).unwrap();
        let run = steering.test_run(&frame4(&ipv4(6, &TCP)), 1).unwrap();
        assert_eq!((run.outcome, run.action), ("steered", Action::Redirect));
        assert!(run.steered && run.metadata.is_some());
    });
}

#[test]
fn sockets_have_limits() {
    in_namespace(|| {
        let mut steering = load(OnCrash::Closed);
        let socket = xdp_socket();
        let mut say =
            |port, queue| steering.register_socket(port, queue, socket.as_raw_fd()).unwrap_err().to_string();
        assert!(say(3, 64).starts_with("queue 64 of port 3 is beyond the 64 queues"));
        assert!(say(16, 0).starts_with("queue 0 of port 16"));
        steering.register_socket(15, 63, socket.as_raw_fd()).unwrap();
        let error = steering.register_socket(3, 0, 0).unwrap_err();
        assert!(matches!(error, SteeringError::Map { map: "sockets", .. }), "{error}");
    });
}

#[test]
fn sets_have_limits() {
    in_namespace(|| {
        let mut steering = load(OnCrash::Closed);
        let many: Vec<IpAddr> = (0..=MAX_PEERS as u32).map(|n| Ipv4Addr::from_bits(n).into()).collect();
        let error = steering.set_peers(&many).unwrap_err().to_string();
        assert_eq!(error, "257 peers are more than the XDP program can know (256): configure fewer");
        steering.set_peers(&many[1..]).unwrap();
        steering.set_peers(&many[..MAX_PEERS]).unwrap();
        steering.set_own_addresses(&many).unwrap();
    });
}

#[test]
fn test_run_says_what_it_cannot_do() {
    in_namespace(|| {
        let steering = bench(PortRole::Data);
        let error = steering.test_run(&[0; 13], 1).unwrap_err().to_string();
        assert!(error.contains("13 bytes"), "{error}");
        let frame = frame4(&ipv4(6, &TCP));
        let error = steering.test_run(&frame, 4711).unwrap_err().to_string();
        assert!(error.contains("interface 4711"), "{error}");
    });
}

#[test]
fn every_frame_counts_once() {
    for mode in [XdpMode::Native, XdpMode::Generic] {
        in_namespace(|| count_frames(mode));
    }
}

fn count_frames(mode: XdpMode) {
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
    let left = veth("");
    let right = RawSocket::open(index_of("right"));
    let mut steering = load(OnCrash::Closed);
    steering.attach(port("left", left, PortRole::Data), mode, false).unwrap();
    let steered = frame4(&ipv4(6, &TCP));
    let mut other = steered.clone();
    other[5] ^= 0xff;
    let mut malformed = steered.clone();
    malformed[14] = 0x44;
    let arp = ethernet(&[&[8, 6][..], &[0; 46]].concat());
    for _ in 0..100 {
        for frame in [&steered, &other, &malformed, &arp] {
            right.send(frame);
        }
    }
    let sum = || steering.counters().unwrap().iter().map(|(_, count)| count).sum::<u64>();
    eventually("all frames are counted", || sum() == 400);
    for name in ["no_socket", "pass_other_host", "drop_malformed", "pass_not_ip"] {
        assert_eq!(count(&steering, name), 100, "{name} in {mode} mode");
    }
    let names: Vec<_> = steering.counters().unwrap().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, OUTCOMES);
}

#[test]
fn link_address_can_change() {
    in_namespace(|| {
        let mut steering = bench(PortRole::Data);
        let frame = frame4(&ipv4(6, &TCP));
        let mut changed = port("lo", 1, PortRole::Data);
        changed.mac[5] = 0x77;
        steering.set_port(&changed).unwrap();
        assert_eq!(steering.test_run(&frame, 1).unwrap().outcome, "pass_other_host");
        changed.mac = PORT_MAC;
        steering.set_port(&changed).unwrap();
        assert_eq!(steering.test_run(&frame, 1).unwrap().outcome, "no_socket");
    });
}
