//! What the tests share: a network namespace of their own, shell commands, hand-made frames.
#![allow(dead_code)] // each test file uses its own part

pub mod frame;
pub mod kernel;

use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use samepath_bpf::{OnCrash, PortConfig, PortRole, Steering, SteeringConfig};

/// Link address of the port under test.
pub const PORT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Seed of the flow hash in all tests.
pub const SEED: u64 = 0x0123_4567_89ab_cdef;

/// Runs `body` in a new network namespace without a name; it is gone when `body` returns or panics.
pub fn in_namespace<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            // SAFETY: moves only this thread, which ends with `body`.
            let failed = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(failed, 0, "these tests need root: {}", std::io::Error::last_os_error());
            body()
        });
        match inside.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Runs a command in the calling thread's namespace; its words are split at blanks.
pub fn run(command: &str) -> Output {
    let mut words = command.split_whitespace();
    Command::new(words.next().unwrap()).args(words).output().unwrap()
}

/// Like [`run`], and it must succeed; returns its standard output.
pub fn must_run(command: &str) -> String {
    let output = run(command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{command}`: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// The number of an interface in the calling thread's namespace.
pub fn index_of(name: &str) -> u32 {
    let line = must_run(&format!("ip -o link show dev {name}"));
    line.split(':').next().unwrap().parse().unwrap()
}

/// A veth pair `left`, `right`, both up, `left` with [`PORT_MAC`]; the number of `left`.
pub fn veth(options: &str) -> u32 {
    must_run(&format!("ip link add left {options} type veth peer name right"));
    must_run("ip link set dev left address 02:00:00:00:00:01 up");
    must_run("ip link set dev right address 02:00:00:00:00:02 up");
    index_of("left")
}

/// Port 3, as everything here configures it.
pub fn port(ifname: &str, ifindex: u32, role: PortRole) -> PortConfig {
    PortConfig { index: 3, ifname: ifname.into(), ifindex, mac: PORT_MAC, role }
}

/// A program loaded with [`SEED`].
pub fn load(on_crash: OnCrash) -> Steering {
    Steering::load(&SteeringConfig { seed: SEED, on_crash, ..Default::default() }).unwrap()
}

/// A program that takes the loopback (interface 1) for port 3, owns 192.0.2.1 and 2001:db8::1, and
/// has the peers 192.0.2.2 and 2001:db8::2.
pub fn bench(role: PortRole) -> Steering {
    let mut steering = load(OnCrash::Closed);
    steering.set_port(&port("lo", 1, role)).unwrap();
    let own = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    steering.set_own_addresses(&own).unwrap();
    let peers = ["192.0.2.2".parse().unwrap(), "2001:db8::2".parse().unwrap()];
    steering.set_peers(&peers).unwrap();
    steering
}

/// Looks until `found` says yes; panics with `what` after five seconds.
pub fn eventually(what: &str, mut found: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !found() {
        assert!(Instant::now() < deadline, "not within five seconds: {what}");
        thread::yield_now();
    }
}
