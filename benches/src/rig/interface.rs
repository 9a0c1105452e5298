//! Settings of one interface that `ip` does not know.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use samepath_tests::netns::Namespace;
use samepath_tests::{program, wait};

/// Looks at an empty ring before it waits for an interrupt.
const LOOKS_IN_VAIN: u64 = 10;

/// Longer than a bench.
const FOR_EVER_NS: u64 = 1_000_000_000_000;

/// One interface in a namespace.
#[derive(Clone, Debug)]
pub struct Interface {
    namespace: Namespace,
    name: String,
}

impl Interface {
    /// `name` in `namespace`.
    pub fn new(namespace: &Namespace, name: &str) -> Self {
        Self { namespace: namespace.clone(), name: name.to_owned() }
    }

    /// TSO and GSO off: with them a veth hands packets past the other end's NAPI.
    pub fn without_segmentation(&self) -> Result<()> {
        self.ethtool(&["tso", "off", "gso", "off"])
    }

    /// Generic receive offload on or off. On, it gives a veth a NAPI context without an XDP program.
    pub fn set_gro(&self, on: bool) -> Result<()> {
        self.ethtool(&["gro", if on { "on" } else { "off" }])
    }

    /// NAPI in a kernel thread of its own, which can be pinned and whose time can be read; or not.
    pub fn set_threaded(&self, on: bool) -> Result<()> {
        // A device that was just reconfigured refuses for a moment.
        wait::until_true("NAPI changes its kind of thread", Duration::from_secs(2), || {
            self.write("threaded", u64::from(on)).map(|()| true)
        })
    }

    /// The next packet does not wake NAPI at once but within `after_ns`: bursts instead of interrupts. 0: at
    /// once. After some looks in vain it waits for an interrupt again: a timer that never ends would take a
    /// sixth of the device's core for an interface where nothing arrives.
    pub fn defer_interrupts(&self, after_ns: u64) -> Result<()> {
        self.defer(after_ns, if after_ns == 0 { 0 } else { LOOKS_IN_VAIN })
    }

    /// Nobody ever looks for packets here.
    pub fn never_poll(&self) -> Result<()> {
        self.defer(FOR_EVER_NS, 2_000_000_000)
    }

    fn defer(&self, after_ns: u64, looks: u64) -> Result<()> {
        self.write("napi_defer_hard_irqs", looks)?;
        self.write("gro_flush_timeout", after_ns)
    }

    /// Its link address.
    pub fn mac(&self) -> Result<[u8; 6]> {
        let text = self.shell(&format!("cat /sys/class/net/{}/address", self.name))?;
        let mut mac = [0; 6];
        for (byte, word) in mac.iter_mut().zip(text.trim().split(':')) {
            *byte = u8::from_str_radix(word, 16).with_context(|| format!("link address {text:?}"))?;
        }
        Ok(mac)
    }

    /// Its number in the kernel.
    pub fn index(&self) -> Result<u32> {
        let text = self.shell(&format!("cat /sys/class/net/{}/ifindex", self.name))?;
        text.trim().parse().with_context(|| format!("ifindex {text:?}"))
    }

    fn ethtool(&self, features: &[&str]) -> Result<()> {
        program::run(self.namespace.command("ethtool").args(["-K", &self.name]).args(features)).map(drop)
    }

    fn write(&self, file: &str, value: u64) -> Result<()> {
        self.shell(&format!("echo {value} > /sys/class/net/{}/{file}", self.name)).map(drop)
    }

    /// Only `ip netns exec` mounts the namespace's own /sys.
    fn shell(&self, script: &str) -> Result<String> {
        let mut shell = Command::new("ip");
        program::run(shell.args(["netns", "exec", self.namespace.name(), "sh", "-c", script]))
    }
}
