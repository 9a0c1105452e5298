//! Where the end-to-end benches happen: a generator on one core, the device under test on the other, in
//! namespaces of their own. Drawn in `benches/README.md`.

mod interface;
mod machine;
mod thread;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use samepath_tests::link::{self, LinkCounters};
use samepath_tests::netns::Namespace;
use samepath_tests::{artifacts, interrupt, ledger};

pub use interface::Interface;
pub use machine::{CoreTimes, Setting, core_times};
pub use thread::{Policy, Thread, kernel_threads, of_process};

/// Core of the generator, the sinks and the other nodes.
pub const GENERATOR_CORE: usize = 0;

/// Core of everything that belongs to the device under test.
pub const DEVICE_CORE: usize = 1;

/// The generator's end of the link into the device.
pub const GENERATOR: &str = "sbgen";

/// The device's end of it.
pub const INGRESS: &str = "sbin";

/// Where forwarded packets leave: an ifb, which frees every frame on the core that sent it. No sink competes.
pub const EGRESS: &str = "sbout";

/// Where XDP redirects to (an ifb cannot be redirected to): a veth whose other end is never polled, so that
/// its ring stays full and the device's core frees every frame.
pub const REDIRECTED: &str = "sbred";

/// The device's cluster link.
pub const CLUSTER: &str = "sbclu";

/// The switch's end of it.
pub const CLUSTER_PORT: &str = "sbclu1";

/// The other end of [`REDIRECTED`].
pub const HOLE: &str = "sbhole";

/// Link address of the next hop on every way out.
pub const NEXT_HOP_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// The namespaces, removed when dropped.
#[derive(Debug)]
pub struct Rig {
    prefix: String,
    runtime: PathBuf,
    logs: PathBuf,
    /// Where packets are made.
    pub generator: Namespace,
    /// Where they are forwarded.
    pub device: Namespace,
}

/// No duplicate address detection, no reverse path filter: addresses are static, asymmetry is the point.
const QUIET: &[(&str, &str)] = &[
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
];

impl Rig {
    /// Builds namespaces and links; nothing forwards yet. Needs root and two cores.
    pub fn new(bench: &str) -> Result<Self> {
        if std::thread::available_parallelism()?.get() < 2 {
            bail!("the end-to-end benches need two cores: one generates, one is under test");
        }
        interrupt::undo_beds_on_signals()?;
        interrupt::undo_beds_on_panic();
        ledger::sweep_stale()?;
        let prefix = format!("sb{}", std::process::id());
        let runtime = Path::new("/tmp").join(format!("samepath-bench-{prefix}"));
        let logs = artifacts::target()?.join("bench").join("logs").join(bench);
        ledger::open(&prefix)?;
        ledger::note_folder(&prefix, &runtime)?;
        for folder in [&runtime, &logs] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {folder:?}"))?;
        }
        let rig = Self {
            generator: Namespace::add(&prefix, "gen")?,
            device: Namespace::add(&prefix, "dut")?,
            prefix,
            runtime,
            logs,
        };
        rig.build()?;
        Ok(rig)
    }

    fn build(&self) -> Result<()> {
        for namespace in [&self.generator, &self.device] {
            namespace.sysctl(QUIET)?;
        }
        let device = self.device.name();
        self.generator.ip(&format!(
            "link add {GENERATOR} type veth peer name {INGRESS} netns {device}\n\
             link add {HOLE} type veth peer name {REDIRECTED} netns {device}\n\
             link add {CLUSTER_PORT} mtu 3000 type veth peer name {CLUSTER} mtu 3000 netns {device}\n\
             link set {GENERATOR} up\nlink set {HOLE} up\nlink set {CLUSTER_PORT} up\n"
        ))?;
        let next_hop = mac_text(NEXT_HOP_MAC);
        self.device.ip(&format!(
            "link add {EGRESS} txqueuelen 0 type ifb\n\
             link set {INGRESS} up\nlink set {REDIRECTED} up\nlink set {EGRESS} up\n\
             link set {CLUSTER} up\naddr add 10.9.0.1/24 dev {CLUSTER}\n\
             addr add 10.11.0.1/24 dev {INGRESS}\naddr add 10.12.0.1/24 dev {EGRESS}\n\
             neigh add 10.12.0.2 lladdr {next_hop} dev {EGRESS} nud permanent\n\
             route add 10.1.0.0/16 via 10.12.0.2 dev {EGRESS}\n\
             route add 10.2.0.0/16 via 10.12.0.2 dev {EGRESS}\n"
        ))?;
        self.device.sysctl(&[("ipv4/ip_forward", "1"), ("ipv4/conf/all/send_redirects", "0")])?;
        for (namespace, interface) in [
            (&self.generator, GENERATOR),
            (&self.generator, HOLE),
            (&self.device, INGRESS),
            (&self.device, REDIRECTED),
        ] {
            Interface::new(namespace, interface).without_segmentation()?;
        }
        // With GRO a veth has a receive ring; deferred for ever, nobody empties it.
        let hole = Interface::new(&self.generator, HOLE);
        hole.defer_interrupts(u64::pow(10, 12))?;
        hole.set_gro(true)
    }

    /// Prefix of the namespaces' names, and name of their ledger.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Folder for sockets, keys and scratch files; goes with the rig.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// Folder for logs, under target/.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// One of the device's interfaces.
    pub fn interface(&self, name: &str) -> Interface {
        Interface::new(&self.device, name)
    }

    /// Counters of all the device's interfaces, read at one moment.
    pub fn counters(&self) -> Result<Counters> {
        let all = link::all_counters(&self.device)?;
        let of = |name: &str| {
            all.get(name).copied().with_context(|| format!("the device under test has lost {name}"))
        };
        Ok(Counters { ingress: of(INGRESS)?, egress: of(EGRESS)? })
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Err(error) = ledger::undo(&self.prefix) {
            eprintln!("{error:#}");
        }
    }
}

/// Packet counters of the device under test.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    ingress: LinkCounters,
    egress: LinkCounters,
}

impl Counters {
    /// Packets taken from the ingress ring.
    pub fn taken(&self) -> u64 {
        self.ingress.rx_packets
    }

    /// Packets refused because the ingress ring was full.
    pub fn refused(&self) -> u64 {
        self.ingress.rx_dropped
    }

    /// Packets that left by the ifb (which counts them as dropped: it has nowhere to put them).
    pub fn left(&self) -> u64 {
        self.egress.rx_dropped
    }
}

/// A link address as `ip` writes it.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
