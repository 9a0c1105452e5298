//! Every option once: name, value, help, and what it does to the [`Config`].

use std::path::PathBuf;

use samepath_dataplane::cluster::director::DirectorHash;
use samepath_dataplane::detours::PrefixLengths;
use samepath_dataplane::limits::ICMP_RATE;
use samepath_dataplane::service::ServiceDown;
use samepath_dataplane::settings::{Backup, TcpPickup};
use samepath_dataplane::tuning::{HugePages, Idle};

use super::values::{self, Rule};
use super::{Config, Forwarder, OnCrash, RssChoice, Sched, XdpMode};

/// How an option takes values.
pub enum Kind {
    /// One value.
    One(fn(&mut Config, &str) -> Result<(), Rule>),
    /// A switch: no value as a flag, `true` or `false` elsewhere.
    Switch(fn(&mut Config, bool)),
    /// Any number of values.
    Many {
        /// Forgets what a weaker source gave.
        clear: fn(&mut Config),
        /// Adds one value.
        add: fn(&mut Config, &str) -> Result<(), Rule>,
    },
}

/// One option.
pub struct Opt {
    /// The flag without its dashes.
    pub name: &'static str,
    /// What the value is called in help.
    pub value: &'static str,
    /// One line of help; defaults are named there.
    pub help: &'static str,
    /// The daemon does not start without it.
    pub required: bool,
    /// How it takes values.
    pub kind: Kind,
}

impl Opt {
    /// Its name in the TOML file.
    pub fn key(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("SAMEPATH_{}", self.key().to_ascii_uppercase())
    }
}

const fn one(
    name: &'static str,
    value: &'static str,
    help: &'static str,
    set: fn(&mut Config, &str) -> Result<(), Rule>,
) -> Opt {
    Opt { name, value, help, required: false, kind: Kind::One(set) }
}

const fn required(option: Opt) -> Opt {
    Opt { required: true, ..option }
}

const fn switch(name: &'static str, help: &'static str, set: fn(&mut Config, bool)) -> Opt {
    Opt { name, value: "", help, required: false, kind: Kind::Switch(set) }
}

const fn many(
    name: &'static str,
    value: &'static str,
    help: &'static str,
    clear: fn(&mut Config),
    add: fn(&mut Config, &str) -> Result<(), Rule>,
) -> Opt {
    Opt { name, value, help, required: false, kind: Kind::Many { clear, add } }
}

/// Assigns a parsed value to a field.
macro_rules! set {
    ($($field:ident).+ = $parse:expr) => {
        |config, text| {
            config.$($field).+ = ($parse)(text)?;
            Ok(())
        }
    };
}

const NODE: &[Opt] = &[
    required(one(
        "node-id",
        "N",
        "This node's number, 1 to 65535, its own in the cluster",
        set!(node = values::node),
    )),
    required(one(
        "cluster-id",
        "N",
        "The cluster's number, 1 to 16777215, the same on all nodes (Geneve VNI)",
        set!(cluster = |text| values::number(text, "a cluster id", 1..=0xff_ffff)),
    )),
    required(one(
        "keys",
        "DIR",
        "Directory of the cluster's keys (see `samepath keys`)",
        set!(keys = values::path),
    )),
];

const INTERFACES: &[Opt] = &[
    required(many(
        "data",
        "ZONE=IFACE",
        "Data interface and its zone; repeatable, also with the same zone",
        |config| config.data.clear(),
        |config, text| values::data(text).map(|data| config.data.push(data)),
    )),
    many(
        "service",
        "NAME=MODE:IFACE@IP",
        "Proxy or inspector behind IFACE: MODE is proxy or inspect, IP the other end's address; repeatable",
        |config| config.services.clear(),
        |config, text| {
            let service = values::service(text)?;
            let at = config.services.partition_point(|known| known.name <= service.name);
            config.services.insert(at, service);
            Ok(())
        },
    ),
    one(
        "service-down",
        "closed|open",
        "Drop (closed) or forward (open) flows while their service is down [default: closed]",
        set!(
            service_down =
                |text| values::word(text, &[("closed", ServiceDown::Closed), ("open", ServiceDown::Open)])
        ),
    ),
    required(one(
        "cluster-link",
        "IFACE",
        "Interface that peers are reached by",
        set!(cluster_link = values::interface),
    )),
    required(one(
        "cluster-address",
        "IP",
        "This node's address on the cluster link",
        set!(cluster_address = values::unicast),
    )),
    many(
        "peer",
        "ID=IP[:PORT]",
        "Another node of the cluster (IPv6 with port: ID=[IP]:PORT); repeatable",
        |config| config.peers.clear(),
        |config, text| values::peer(text).map(|peer| config.peers.push(peer)),
    ),
    one(
        "control-port",
        "PORT",
        "UDP port of the control channel (QUIC) [default: 6082]",
        set!(control_port = |text| values::number(text, "a UDP port", 1..=65_535)),
    ),
    one(
        "xdp-mode",
        "MODE",
        "best-effort, native-zerocopy, native or generic [default: best-effort]",
        set!(xdp_mode = |text| values::word(text, &XdpMode::ALL.map(|mode| (mode.name(), mode)))),
    ),
    switch("replace", "Take over interfaces that carry another XDP program", |config, on| {
        config.replace = on;
    }),
    one(
        "on-crash",
        "closed|open",
        "Drop (closed) or pass to the kernel (open) when the daemon is gone [default: closed]",
        set!(
            on_crash = |text| { values::word(text, &[("closed", OnCrash::Closed), ("open", OnCrash::Open)]) }
        ),
    ),
    many(
        "pass",
        "PROTO:PORT",
        "Leave packets of this protocol to this port to the kernel, PORT 0 = any; repeatable",
        |config| config.pass.clear(),
        |config, text| values::pass(text).map(|rule| config.pass.push(rule)),
    ),
];

const CORES: &[Opt] = &[
    one(
        "workers",
        "N|auto",
        "Worker threads; auto: one per queue, at most one per core [default: auto]",
        set!(workers = values::workers),
    ),
    one(
        "cores",
        "LIST",
        "Cores to pin workers to, like 0,2-3 [default: the first ones]",
        set!(cores = values::cores),
    ),
    one(
        "frames",
        "N",
        "Frames of packet memory, 4 KiB each [default: what the rings need]",
        set!(frames = values::frames),
    ),
    one(
        "ring-size",
        "N",
        "Entries per AF_XDP ring, a power of two from 64 to 32768 [default: 2048]",
        set!(ring_size = values::ring_size),
    ),
    one(
        "sessions-max",
        "N",
        "Sessions this node can hold, all roles and workers together [default: 1048576]",
        set!(sessions_max = |text| values::number(text, "a number of sessions", 64..=1 << 28)),
    ),
];

const TUNING: &[Opt] = &[
    one(
        "sched",
        "fifo|other",
        "Worker threads before everything else (real-time priority 1, watched) or among it [default: other]",
        set!(tuning.sched = |text| values::word(text, &Sched::NAMES)),
    ),
    one(
        "idle",
        "spin|adaptive|sleep",
        "What a worker without work does: look again, look again if that paid lately, sleep [default: adaptive]",
        set!(tuning.idle = |text| values::word(text, &Idle::NAMES)),
    ),
    switch(
        "fifo-spin",
        "Allow --sched fifo with --idle spin on cores that are not isolated",
        |config, on| {
            config.tuning.fifo_spin = on;
        },
    ),
    one(
        "batch",
        "N",
        "Packets taken from one ring per turn, 1 to 1024 and at most --ring-size [default: 64]",
        set!(tuning.batch = |text| values::number(text, "a batch", 1..=1024)),
    ),
    one(
        "tx-batch",
        "N",
        "Packets the kernel sends per wakeup in copy mode, 32 to --ring-size [default: 256]",
        set!(tuning.tx_batch = |text| values::number(text, "a transmit batch", 32..=32_768).map(Some)),
    ),
    one(
        "busy-poll-usecs",
        "US",
        "Have the kernel poll the device for this long when a ring is empty, 0 to 10000, 0 = off [default: 0]",
        set!(tuning.busy_poll_usecs = |text| values::number(text, "a time of busy polling", 0..=10_000)),
    ),
    one(
        "busy-poll-budget",
        "N",
        "Packets per busy poll, 1 to 1024 [default: 64]",
        set!(tuning.busy_poll_budget = |text| values::number(text, "a budget of busy polling", 1..=1024)),
    ),
    one(
        "need-wakeup",
        "on|off",
        "Let drivers say when they must be woken [default: on]",
        set!(tuning.need_wakeup = |text| values::word(text, &[("on", true), ("off", false)])),
    ),
    one(
        "huge-pages",
        "on|off|auto",
        "Packet memory in reserved huge pages: it must, it does not, it does if there are enough [default: auto]",
        set!(tuning.huge_pages = |text| values::word(text, &HugePages::NAMES)),
    ),
    one(
        "rss",
        "symmetric|keep",
        "Make data interfaces put both directions of a flow into one queue where they can [default: symmetric]",
        set!(tuning.rss = |text| values::word(text, &RssChoice::NAMES)),
    ),
];

const FLOWS: &[Opt] = &[
    one(
        "aggregation",
        "on|off",
        "Bring flows to their Owner, or process each packet where it arrives [default: on]",
        set!(aggregation = |text| values::word(text, &[("on", true), ("off", false)])),
    ),
    one(
        "forwarder",
        "xdp|worker",
        "Who tunnels packets of established flows to their Owner [default: worker]",
        set!(
            forwarder =
                |text| { values::word(text, &[("xdp", Forwarder::Xdp), ("worker", Forwarder::Worker)]) }
        ),
    ),
    one(
        "director-hash",
        "ip-pair|five-tuple",
        "What chooses a flow's Director, the same on all nodes [default: ip-pair]",
        set!(
            director_hash = |text| {
                values::word(
                    text,
                    &[("ip-pair", DirectorHash::IpPair), ("five-tuple", DirectorHash::FiveTuple)],
                )
            }
        ),
    ),
    one(
        "director-weight",
        "N",
        "This node's share of Director duty, 1 to 16 [default: 1]",
        set!(director_weight = |text| values::number(text, "a Director weight", 1..=16)),
    ),
    one(
        "tcp-pickup",
        "strict|loose",
        "What a TCP packet without SYN may do when nobody knows its flow [default: strict]",
        set!(
            tcp_pickup =
                |text| { values::word(text, &[("strict", TcpPickup::Strict), ("loose", TcpPickup::Loose)]) }
        ),
    ),
    switch("tcp-loose-window", "Accept TCP segments outside the window", |config, on| {
        config.tcp_loose_window = on;
    }),
    many(
        "timeout",
        "NAME=SECONDS",
        "Idle time of a session state, named like nf_conntrack's sysctls; repeatable",
        |config| config.timeouts = Default::default(),
        |config, text| {
            let (name, seconds) = values::timeout(text)?;
            config.timeouts.set(&name, seconds).map_err(|error| Rule(error.to_string()))
        },
    ),
    one(
        "policy",
        "FILE",
        "Which flows may begin (docs/policy.md); without it all of them",
        set!(policy = |text| values::path(text).map(Some)),
    ),
    one(
        "mss-clamp",
        "auto|off|BYTES",
        "Largest TCP segments ends may agree on, 88 to 9160; auto: what the cluster link carries [default: auto]",
        set!(mss_clamp = values::mss_clamp),
    ),
];

const FLOODS: &[Opt] = &[
    one(
        "half-open-max",
        "PERCENT",
        "Share of the sessions that may be half open, one-sided or over, 1 to 100 [default: 25]",
        set!(floods.half_open_percent = |text| values::number(text, "a share", 1..=100)),
    ),
    one(
        "new-flow-rate-per-prefix",
        "RATE[:BURST]",
        "New flows per second from one source prefix; a BURST at once [default: off]",
        set!(floods.per_prefix = values::rate),
    ),
    one(
        "new-flow-prefix-v4",
        "BITS",
        "Length of such a prefix in IPv4, 0 to 32 [default: 24]",
        set!(floods.prefix_v4 = |text| values::number(text, "a prefix length", 0..=32)),
    ),
    one(
        "new-flow-prefix-v6",
        "BITS",
        "Length of such a prefix in IPv6, 0 to 128 [default: 48]",
        set!(floods.prefix_v6 = |text| values::number(text, "a prefix length", 0..=128)),
    ),
    one(
        "new-flow-rate",
        "RATE[:BURST]",
        "New flows per second from all sources; a BURST at once [default: off]",
        set!(floods.new_flows = values::rate),
    ),
    one(
        "icmp-rate",
        "RATE[:BURST]",
        "ICMP errors per second of this node's own; a BURST at once; or off [default: 1000:50]",
        set!(icmp_rate = values::rate),
    ),
];

const OPERATION: &[Opt] = &[
    one(
        "symmetry-prefix-v4",
        "BITS",
        "Length of the IPv4 prefixes that `samepath symmetry` tells apart, 0 to 32 [default: 24]",
        set!(detours.v4 = |text| values::number(text, "a prefix length", 0..=32)),
    ),
    one(
        "symmetry-prefix-v6",
        "BITS",
        "Length of the IPv6 prefixes that `samepath symmetry` tells apart, 0 to 128 [default: 48]",
        set!(detours.v6 = |text| values::number(text, "a prefix length", 0..=128)),
    ),
    one(
        "hello-interval-ms",
        "MS",
        "How often peers are told that this node lives, 10 to 10000 [default: 100]",
        set!(hello_interval_ms = |text| values::number(text, "a hello interval", 10..=10_000)),
    ),
    one(
        "peer-timeout-ms",
        "MS",
        "A peer not heard for this long leaves the view, 50 to 60000 [default: 800]",
        set!(peer_timeout_ms = |text| values::number(text, "a peer timeout", 50..=60_000)),
    ),
    one(
        "backup",
        "immediate|established|DURATION",
        "When peers are told of a new session: at once, when both ends have spoken, or at an age [default: immediate]",
        set!(backup = values::backup),
    ),
    one(
        "former-directors-ms",
        "MS",
        "How long after Director duty has moved former Directors are asked too, 0 to 60000 [default: 10000]",
        set!(
            former_directors_ms =
                |text| values::number(text, "the time former Directors are asked", 0..=60_000)
        ),
    ),
    one(
        "refresh-interval",
        "SECONDS",
        "Within how long peers are told again of every session that lasts; 0 never, or 10 to 86400 [default: 600]",
        set!(refresh_s = values::refresh),
    ),
    one(
        "tunnel-rekey",
        "SECONDS",
        "How long peers use a key for the tunnel before they get another, 10 to 604800 [default: 3600]",
        set!(tunnel_rekey_s = |text| values::number(text, "a tunnel rekey time in seconds", 10..=604_800)),
    ),
    one(
        "membership",
        "swim|etcd://HOST:PORT[,HOST:PORT…]",
        "Who spreads what nodes know of each other: they themselves, or an etcd as well [default: swim]",
        set!(etcd = values::membership),
    ),
    one(
        "quorum",
        "N",
        "Members, this node included, without which no new flow is begun, 0 to 64 [default: 0]",
        set!(quorum = |text| values::number(text, "a quorum", 0..=64)),
    ),
    one(
        "join-grace-ms",
        "MS",
        "How long a starting node waits for its peers' sessions, 0 to 600000 [default: 3000]",
        set!(join_grace_ms = |text| values::number(text, "a join grace", 0..=600_000)),
    ),
    one(
        "control-socket",
        "PATH",
        "Socket for the other commands [default: /run/samepath/node-N.sock]",
        set!(control_socket = values::path),
    ),
    one(
        "metrics",
        "IP:PORT|off",
        "Where Prometheus metrics are served over HTTP [default: off]",
        set!(metrics = values::listen),
    ),
    one(
        "seccomp",
        "on|off",
        "Let worker threads make only the system calls they need; any other ends the daemon [default: on]",
        set!(seccomp = |text| values::word(text, &[("on", true), ("off", false)])),
    ),
    one(
        "landlock",
        "on|off",
        "Let the daemon use only the files it needs, as far as the kernel can see to it [default: on]",
        set!(landlock = |text| values::word(text, &[("on", true), ("off", false)])),
    ),
    one(
        "log",
        "LEVEL",
        "off, error, warn, info, debug, trace or a tracing filter [default: info]",
        set!(log = values::log),
    ),
];

/// Every option, grouped as help shows them.
pub const OPTIONS: &[(&str, &[Opt])] = &[
    ("Node", NODE),
    ("Interfaces and peers", INTERFACES),
    ("Cores and memory", CORES),
    ("Tuning (docs/tuning.md)", TUNING),
    ("Flows", FLOWS),
    ("Floods (docs/tuning.md)", FLOODS),
    ("Operation", OPERATION),
];

/// Every option in one row.
pub fn all() -> impl Iterator<Item = &'static Opt> {
    OPTIONS.iter().flat_map(|(_, group)| group.iter())
}

/// A configuration in which nothing was set: the defaults, and blanks where there is none.
pub fn defaults() -> Config {
    Config {
        node: Default::default(),
        cluster: 0,
        data: Vec::new(),
        services: Vec::new(),
        service_down: ServiceDown::Closed,
        cluster_link: String::new(),
        cluster_address: std::net::Ipv4Addr::UNSPECIFIED.into(),
        peers: Vec::new(),
        keys: PathBuf::new(),
        workers: super::Workers::Auto,
        cores: Vec::new(),
        xdp_mode: XdpMode::BestEffort,
        replace: false,
        on_crash: OnCrash::Closed,
        aggregation: true,
        forwarder: Forwarder::Worker,
        director_hash: DirectorHash::IpPair,
        director_weight: 1,
        tcp_pickup: TcpPickup::Strict,
        tcp_loose_window: false,
        timeouts: Default::default(),
        policy: None,
        sessions_max: 1 << 20,
        pass: Vec::new(),
        control_port: super::CONTROL_PORT,
        frames: None,
        ring_size: 2048,
        tuning: Default::default(),
        floods: Default::default(),
        icmp_rate: Some(ICMP_RATE),
        detours: PrefixLengths::default(),
        mss_clamp: super::MssClamp::Auto,
        peer_timeout_ms: 800,
        backup: Backup::Immediate,
        former_directors_ms: 10_000,
        refresh_s: 600,
        etcd: Vec::new(),
        quorum: 0,
        hello_interval_ms: 100,
        tunnel_rekey_s: 3600,
        join_grace_ms: 3000,
        control_socket: PathBuf::new(),
        metrics: None,
        seccomp: true,
        landlock: true,
        log: "info".into(),
        warnings: Vec::new(),
    }
}
