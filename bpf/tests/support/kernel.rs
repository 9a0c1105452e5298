//! The kernel's side of the tests: raw sockets, foreign XDP programs, processes that die.

use std::ffi::CStr;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use libbpf_rs::{Xdp, XdpFlags};

/// Set in the processes [`Victim`] starts.
const ROLE: &str = "SAMEPATH_TEST_ROLE";

/// What a victim prints when it has done its part.
const READY: &str = "victim is ready";

/// Checks a system call's result that must not be negative and owns it as a descriptor.
fn descriptor(result: i32) -> OwnedFd {
    assert!(result >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the kernel just made it for us.
    unsafe { OwnedFd::from_raw_fd(result) }
}

/// A packet socket that sends to and receives from interface `ifindex`; waits at most 2 s.
pub struct RawSocket(OwnedFd);

impl RawSocket {
    /// Opens it in the calling thread's namespace.
    pub fn open(ifindex: u32) -> Self {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: plain system calls; `address` and `limit` outlive them and have the lengths given.
        unsafe {
            let socket = descriptor(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(protocol)));
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex = ifindex as i32;
            let length = size_of_val(&address) as u32;
            let bound = libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length);
            assert_eq!(bound, 0, "{}", io::Error::last_os_error());
            let limit = libc::timeval { tv_sec: 2, tv_usec: 0 };
            let set = libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const limit).cast(),
                size_of_val(&limit) as u32,
            );
            assert_eq!(set, 0);
            Self(socket)
        }
    }

    /// Sends one frame.
    pub fn send(&self, frame: &[u8]) {
        // SAFETY: `frame` has the length given.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }

    /// The next frame that arrives.
    pub fn receive(&self) -> Vec<u8> {
        let mut frame = vec![0; 2048];
        // SAFETY: `frame` has the length given.
        let length = unsafe { libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
        assert!(length >= 0, "nothing arrived: {}", io::Error::last_os_error());
        frame.truncate(length as usize);
        frame
    }
}

/// An AF_XDP socket that is bound to nothing.
pub fn xdp_socket() -> OwnedFd {
    // SAFETY: a plain system call.
    descriptor(unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW, 0) })
}

/// An XDP program called `somebody_else` that passes every frame.
pub fn foreign_program() -> OwnedFd {
    const NAME: &CStr = c"somebody_else";
    let mut set = libbpf_sys::bpf_insn { code: 0xb7, imm: 2, ..Default::default() };
    set.set_dst_reg(0);
    let exit = libbpf_sys::bpf_insn { code: 0x95, ..Default::default() };
    let program = [set, exit];
    // SAFETY: the strings and the two instructions outlive the call.
    descriptor(unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_XDP,
            NAME.as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr(),
            program.len() as _,
            std::ptr::null_mut(),
        )
    })
}

/// Attaches `program` as `ip link set dev … xdp` does.
pub fn attach_foreign(program: &OwnedFd, ifindex: u32, mode: XdpFlags) {
    Xdp::new(program.as_fd()).attach(ifindex as i32, mode).unwrap();
}

/// Attaches `program` by a bpf_link, which is what this returns.
pub fn link_foreign(program: &OwnedFd, ifindex: u32) -> OwnedFd {
    // SAFETY: NULL stands for "no options".
    descriptor(unsafe {
        libbpf_sys::bpf_link_create(
            program.as_raw_fd(),
            ifindex as i32,
            libbpf_sys::BPF_XDP,
            std::ptr::null(),
        )
    })
}

/// Another process of this test program, to be killed.
pub struct Victim(Child);

impl Victim {
    /// Starts this program again for its test `name` alone, in the calling thread's namespace, and
    /// waits until that has called [`be_victim`].
    pub fn start(name: &str, role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.map_while(Result::ok).any(|line| line.contains(READY));
        assert!(ready, "the victim died early");
        Self(child)
    }

    /// `kill -9`, and the kernel has cleaned up after it.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Already dead if `kill` was called.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The role this process was started with, if it is a victim.
pub fn victims_role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Waits for death, holding on to `held`.
pub fn be_victim<T>(held: T) {
    println!("{READY}");
    // Ends when the parent dies, too.
    let _ = io::stdin().read_line(&mut String::new());
    drop(held);
}

/// `_LINUX_CAPABILITY_VERSION_3` (linux/capability.h).
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Runs `body` on this thread with these capabilities alone in force, then with those from before.
pub fn with_capabilities<T>(wanted: &[u32], body: impl FnOnce() -> T) -> T {
    let header = [CAPABILITY_VERSION, 0];
    // Effective, permitted and inheritable, for the lower and the upper 32 capabilities.
    let mut all = [0u32; 6];
    // SAFETY: both arrays have the sizes capget(2) asks for and outlive the call.
    let failed = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), all.as_mut_ptr()) };
    assert_eq!(failed, 0, "{}", io::Error::last_os_error());
    let set = wanted.iter().fold(0u64, |set, number| set | 1 << number);
    set_capabilities([set as u32, all[1], all[2], (set >> 32) as u32, all[4], all[5]]);
    let value = body();
    set_capabilities(all);
    value
}

/// Those of the calling thread.
pub fn set_capabilities(sets: [u32; 6]) {
    let header = [CAPABILITY_VERSION, 0];
    // SAFETY: both arrays have the sizes capset(2) asks for and outlive the call.
    let failed = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    assert_eq!(failed, 0, "{}", io::Error::last_os_error());
}
