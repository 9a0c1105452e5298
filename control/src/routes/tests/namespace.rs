//! A network namespace of the test's own, and the `ip` command in it.

use std::fs::File;
use std::future::Future;
use std::os::fd::AsFd;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

/// Nothing a test waits for takes longer, even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Deleted, with all it contains, when dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one with a name nobody else has. Needs root.
    pub fn new(role: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sp-routes-{role}-{}-{count}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output().unwrap();
        assert!(made.status.success(), "ip netns add (root needed): {made:?}");
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `ip` here; it must succeed.
    pub fn ip(&self, arguments: &str) -> String {
        let output = self.try_ip(arguments);
        assert!(output.status.success(), "ip {arguments}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `ip` here.
    pub fn try_ip(&self, arguments: &str) -> Output {
        let words = arguments.split_whitespace();
        Command::new("ip").args(["-n", &self.name]).args(words).output().unwrap()
    }

    /// Runs `ip -json` here; it must succeed.
    pub fn ip_json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.ip(&format!("-json {arguments}"))).unwrap()
    }

    /// Runs many `ip` commands in one process; all must succeed.
    pub fn ip_batch(&self, commands: &str) {
        let mut child =
            Command::new("ip").args(["-n", &self.name, "-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, commands.as_bytes()).unwrap();
        drop(stdin);
        assert!(child.wait().unwrap().success());
    }

    /// Puts a virtual cable between an interface here and one there.
    pub fn cable(&self, here: &str, there: &Namespace, name_there: &str) {
        self.ip(&format!("link add {here} type veth peer name {name_there} netns {}", there.name));
        self.ip(&format!("link set {here} up"));
        there.ip(&format!("link set {name_there} up"));
    }

    /// Kernel index of an interface here.
    pub fn ifindex(&self, interface: &str) -> u32 {
        self.ip_json(&format!("link show {interface}"))[0]["ifindex"].as_u64().unwrap() as u32
    }

    /// Link address of an interface here.
    pub fn mac(&self, interface: &str) -> [u8; 6] {
        let link = self.ip_json(&format!("link show {interface}"));
        mac(link[0]["address"].as_str().unwrap())
    }

    /// Runs a future in a fresh thread that has entered this namespace, in a tokio runtime of its own.
    pub fn run<F: Future<Output = ()>>(&self, work: impl FnOnce() -> F + Send) {
        let path = format!("/run/netns/{}", self.name);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let namespace = File::open(&path).unwrap();
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), network).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(work());
            });
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// `02:00:00:00:00:01` as bytes.
pub fn mac(text: &str) -> [u8; 6] {
    let mut bytes = [0; 6];
    for (byte, part) in bytes.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(part, 16).unwrap();
    }
    bytes
}
