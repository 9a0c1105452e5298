//! Where the end-to-end benches happen: a generator on one core, the device under test on the other, in
//! namespaces of their own. Drawn in `benches/README.md`.

mod interface;
mod machine;
mod thread;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use samepath_tests::link::{self, LinkCounters};
use samepath_tests::netns::Namespace;
use samepath_tests::{artifacts, interrupt, ledger, program};

use crate::generator::Way;

pub use interface::Interface;
pub use machine::{CoreTimes, Setting, core_times};
pub use thread::{Policy, Thread, kernel_threads, of_process};

/// What is measured where, for people.
pub const TOPOLOGY: &str = include_str!("topology.txt");

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

/// Where a node's frames enter the switch.
pub fn switch_port(number: u8) -> String {
    format!("sbclu{number}")
}

/// The switch between the nodes, in the generator's namespace.
const SWITCH: &str = "sbswitch";

/// The generator's (and switch's) end of the cluster link.
pub const CLUSTER_PORT: &str = "sbclu1";

/// The switch, seen from the device's bridge.
const UPLINK: &str = "sbup";

/// A port of the device's bridge that forwards nothing.
const DEAD_PORT: &str = "sbdead";

/// What packets leave the device by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Links {
    /// By devices that free every frame on the device's core, whoever sends it: an ifb, and as cluster link a
    /// bridge once it is cut ([`Rig::cut_cluster_link`]).
    Freed,
    /// The same, but the cluster link is a veth with native XDP, for what arrives there.
    Native,
    /// The same, and the other nodes have veths everywhere and a cluster link into which XDP can redirect.
    NativeEverywhere,
    /// By veths into which XDP can redirect. Their other ends are never polled once they are cut: the rings
    /// stay full, and the device's core frees every frame.
    Redirectable,
}

/// The other end of [`REDIRECTED`].
pub const HOLE: &str = "sbhole";

/// Link address of the next hop on every way out.
pub const NEXT_HOP_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// Nodes of a cluster, the device under test among them as number 1.
pub const NODES: u8 = 3;

/// A full packet plus tunnel over IPv4, and frames of 2 KiB still hold it.
const CLUSTER_MTU: u32 = 1600;

/// A node's address on the cluster link.
pub fn cluster_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, number)
}

fn cluster_mac(number: u8) -> [u8; 6] {
    [2, 0x0c, 0, 0, 0, number]
}

/// The namespaces, removed when dropped.
#[derive(Debug)]
pub struct Rig {
    prefix: String,
    runtime: PathBuf,
    logs: PathBuf,
    links: Links,
    /// Where packets are made.
    pub generator: Namespace,
    /// Where they are forwarded.
    pub device: Namespace,
}

/// No IPv6, no reverse path filter (asymmetry is the point), bridges without netfilter.
const QUIET: &[(&str, &str)] = &[
    ("bridge/bridge-nf-call-iptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
    ("bridge/bridge-nf-call-arptables", "0"),
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
];

impl Rig {
    /// Builds namespaces and links; nothing forwards yet. Needs root and two cores.
    pub fn new(bench: &str, links: Links) -> Result<Self> {
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
            links,
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
             link set {GENERATOR} up\nlink set {HOLE} up\n"
        ))?;
        self.build_cluster_link()?;
        let (next_hop, egress) = (mac_text(NEXT_HOP_MAC), self.egress());
        self.device.ip(&format!(
            "link add {EGRESS} txqueuelen 0 type ifb\n\
             link set {INGRESS} up\nlink set {REDIRECTED} up\nlink set {EGRESS} up\n\
             addr add 10.11.0.1/24 dev {INGRESS}\naddr add 10.12.0.1/24 dev {egress}\n\
             neigh add 10.12.0.2 lladdr {next_hop} dev {egress} nud permanent\n\
             route add 10.1.0.0/16 via 10.12.0.2 dev {egress}\n\
             route add 10.2.0.0/16 via 10.12.0.2 dev {egress}\n"
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
        hole.never_poll()?;
        hole.set_gro(true)
    }

    fn build_cluster_link(&self) -> Result<()> {
        let far = self.uplink();
        self.generator.ip(&format!(
            "link add {SWITCH} mtu {CLUSTER_MTU} type bridge mcast_snooping 0\nlink set {SWITCH} up\n\
             link add {CLUSTER_PORT} mtu {CLUSTER_MTU} type veth peer name {far} mtu {CLUSTER_MTU} netns {}\n\
             link set {CLUSTER_PORT} master {SWITCH} up\n",
            self.device.name()
        ))?;
        if self.links == Links::Freed {
            self.device.ip(&format!(
                "link add {DEAD_PORT} mtu {CLUSTER_MTU} type ifb\n\
                 link add {CLUSTER} mtu {CLUSTER_MTU} type bridge mcast_snooping 0\n\
                 link set {UPLINK} master {CLUSTER} up\nlink set {DEAD_PORT} master {CLUSTER}\n\
                 link set {UPLINK} type bridge_slave learning off\n"
            ))?;
        }
        let mut lines = format!(
            "link set {CLUSTER} address {} up\naddr add {}/24 dev {CLUSTER}\n",
            mac_text(cluster_mac(1)),
            cluster_address(1)
        );
        for number in 2..=NODES {
            let (address, mac) = (cluster_address(number), mac_text(cluster_mac(number)));
            lines += &format!("neigh add {address} lladdr {mac} dev {CLUSTER} nud permanent\n");
        }
        self.device.ip(&lines)?;
        Interface::new(&self.device, far).without_segmentation()?;
        let port = Interface::new(&self.generator, CLUSTER_PORT);
        port.without_segmentation()?;
        // XDP can redirect into a veth only while its other end has a receive ring.
        port.set_gro(self.links == Links::Redirectable)?;
        if self.links == Links::Native {
            take_beside_generator(&self.generator, CLUSTER_PORT)?;
        }
        self.join_cluster_link()
    }

    /// What the device sends on the cluster link reaches the other nodes.
    pub fn join_cluster_link(&self) -> Result<()> {
        match self.links {
            Links::Freed => self.lead_other_nodes_to(UPLINK),
            Links::Native | Links::NativeEverywhere => Ok(()),
            Links::Redirectable => Interface::new(&self.generator, CLUSTER_PORT).defer_interrupts(0),
        }
    }

    /// From now on frames that the device sends on the cluster link are freed on its own core instead of
    /// disturbing the generator's. What the other nodes send still arrives.
    pub fn cut_cluster_link(&self) -> Result<()> {
        match self.links {
            Links::Freed => self.lead_other_nodes_to(DEAD_PORT),
            Links::Native | Links::NativeEverywhere => Ok(()),
            Links::Redirectable => Interface::new(&self.generator, CLUSTER_PORT).never_poll(),
        }
    }

    fn lead_other_nodes_to(&self, port: &str) -> Result<()> {
        for number in 2..=NODES {
            let mac = mac_text(cluster_mac(number));
            let mut bridge = self.device.command("bridge");
            program::run(bridge.args(["fdb", "replace", &mac, "dev", port, "master", "static"]))?;
        }
        Ok(())
    }

    /// Makes one more namespace.
    pub fn add_namespace(&self, role: &str) -> Result<Namespace> {
        let namespace = Namespace::add(&self.prefix, role)?;
        namespace.sysctl(QUIET)?;
        Ok(namespace)
    }

    /// Makes the namespace of another node: a cluster link into the switch, `inside` towards the
    /// generator (whose end is `sbin<number>`), `outside` an ifb or, with [`Links::NativeEverywhere`], a veth.
    pub fn add_node(&self, number: u8) -> Result<Namespace> {
        let node = self.add_namespace(&format!("n{number}"))?;
        self.generator.ip(&format!(
            "link add sbclu{number} mtu {CLUSTER_MTU} type veth peer name cluster mtu {CLUSTER_MTU} netns {0}\n\
             link add sbin{number} type veth peer name inside netns {0}\n\
             link set sbclu{number} master {SWITCH} up\nlink set sbin{number} up\n",
            node.name()
        ))?;
        let everywhere = self.links == Links::NativeEverywhere;
        let outside = if everywhere {
            format!("link add outside type veth peer name {HOLE}{number} netns {}", self.generator.name())
        } else {
            "link add outside txqueuelen 0 type ifb".to_owned()
        };
        let mut lines = format!(
            "{outside}\n\
             link set cluster address {} up\nlink set inside up\nlink set outside up\n\
             addr add {}/24 dev cluster\naddr add 10.11.{number}.1/24 dev inside\n\
             addr add 10.12.0.1/24 dev outside\n\
             neigh add 10.12.0.2 lladdr {} dev outside nud permanent\n\
             route add 10.1.0.0/16 via 10.12.0.2 dev outside\n\
             route add 10.2.0.0/16 via 10.12.0.2 dev outside\n",
            mac_text(cluster_mac(number)),
            cluster_address(number),
            mac_text(NEXT_HOP_MAC)
        );
        for other in (1..=NODES).filter(|&other| other != number) {
            let (address, mac) = (cluster_address(other), mac_text(cluster_mac(other)));
            lines += &format!("neigh add {address} lladdr {mac} dev cluster nud permanent\n");
        }
        node.ip(&lines)?;
        if everywhere {
            self.generator.ip(&format!("link set {HOLE}{number} up\n"))?;
            Interface::new(&self.generator, &switch_port(number)).set_gro(true)?;
        }
        node.sysctl(&[("ipv4/ip_forward", "1")])?;
        for interface in ["cluster", "inside"] {
            Interface::new(&node, interface).without_segmentation()?;
        }
        if self.links == Links::Native {
            take_beside_generator(&node, "cluster")?;
        }
        Ok(node)
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

    /// What forwarded packets leave by.
    pub fn egress(&self) -> &'static str {
        match self.links {
            Links::Freed | Links::Native | Links::NativeEverywhere => EGRESS,
            Links::Redirectable => REDIRECTED,
        }
    }

    /// What the cluster link is connected to the switch by.
    fn uplink(&self) -> &'static str {
        match self.links {
            Links::Freed => UPLINK,
            Links::Native | Links::NativeEverywhere | Links::Redirectable => CLUSTER,
        }
    }

    /// Interfaces through which packets reach the device under test in a window.
    pub fn receivers(&self) -> &'static [&'static str] {
        match self.links {
            Links::Native | Links::NativeEverywhere => &[INGRESS, CLUSTER],
            Links::Freed | Links::Redirectable => &[INGRESS],
        }
    }

    /// The way into the device's ingress.
    pub fn into_ingress(&self) -> Result<Way> {
        Ok(Way { from: GENERATOR.into(), to: self.interface(INGRESS).mac()? })
    }

    /// The way into the device's cluster link.
    pub fn into_cluster_link(&self) -> Way {
        Way { from: CLUSTER_PORT.into(), to: cluster_mac(1) }
    }

    /// The way into another node's `inside`.
    pub fn into_node(&self, number: u8, node: &Namespace) -> Result<Way> {
        Ok(Way { from: format!("sbin{number}"), to: Interface::new(node, "inside").mac()? })
    }

    /// Counters of all the device's interfaces, read at one moment.
    pub fn counters(&self) -> Result<Counters> {
        let all = link::all_counters(&self.device)?;
        let of = |name: &str| {
            all.get(name).copied().with_context(|| format!("the device under test has lost {name}"))
        };
        Ok(Counters {
            ingress: of(INGRESS)?,
            uplink: of(self.uplink())?,
            egress: of(EGRESS)?,
            cluster: of(CLUSTER)?,
        })
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Err(error) = ledger::undo(&self.prefix) {
            eprintln!("{error:#}");
        }
    }
}

/// Where what a generator sends enters the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entrance {
    /// By the ingress; what comes by the cluster link are other nodes' answers.
    Ingress,
    /// By the ingress, the cluster link, or both.
    Both,
}

/// Packet counters of the device under test.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    ingress: LinkCounters,
    uplink: LinkCounters,
    egress: LinkCounters,
    cluster: LinkCounters,
}

impl Counters {
    /// Packets taken from the rings of these interfaces.
    pub fn taken(&self, from: Entrance) -> u64 {
        self.of(from, |link| link.rx_packets)
    }

    /// Packets refused because a ring was full.
    pub fn refused(&self, from: Entrance) -> u64 {
        self.of(from, |link| link.rx_dropped)
    }

    fn of(&self, from: Entrance, count: impl Fn(&LinkCounters) -> u64) -> u64 {
        match from {
            Entrance::Ingress => count(&self.ingress),
            Entrance::Both => count(&self.ingress) + count(&self.uplink),
        }
    }

    /// Packets that left by the ifb (which counts them as dropped: it has nowhere to put them).
    pub fn left(&self) -> u64 {
        self.egress.rx_dropped
    }

    /// Packets that left by the cluster link, a bridge.
    pub fn tunnelled(&self) -> u64 {
        self.cluster.tx_packets
    }
}

/// What arrives at an interface is taken on the generator's core, whoever sent it. Without this the sender's core does it:
/// the device would pay for the switch and for what the other nodes' XDP programs and rings take.
pub fn take_beside_generator(namespace: &Namespace, name: &str) -> Result<()> {
    let interface = Interface::new(namespace, name);
    interface.set_gro(true)?;
    interface.set_threaded(true)?;
    // One of a rig before this one may be about to end.
    let pin = |thread: &Thread| {
        thread.pin(GENERATOR_CORE).or_else(|error| thread.has_ended().then_some(()).ok_or(error))
    };
    kernel_threads(&format!("napi/{name}-"))?.iter().try_for_each(pin)
}

/// A link address as `ip` writes it.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
