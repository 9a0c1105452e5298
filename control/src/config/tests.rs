//! Precedence of the sources, and each rule with its sentence.

use std::collections::BTreeMap;

use super::*;

fn flags(pairs: &[(&str, &str)]) -> Flags {
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in pairs {
        values.entry((*name).into()).or_default().push((*value).into());
    }
    Flags { config: None, values }
}

const NEEDED: [(&str, &str); 7] = [
    ("node-id", "1"),
    ("cluster-id", "7"),
    ("keys", "/etc/samepath/keys"),
    ("data", "inside=eth1"),
    ("data", "outside=eth2"),
    ("cluster-link", "eth3"),
    ("cluster-address", "192.0.2.1"),
];

fn with(pairs: &[(&str, &str)]) -> Flags {
    let kept = NEEDED.iter().filter(|(name, _)| pairs.iter().all(|(given, _)| given != name));
    flags(&kept.chain(pairs).copied().collect::<Vec<_>>())
}

fn loaded(pairs: &[(&str, &str)]) -> Result<Config, String> {
    load(&with(pairs), &BTreeMap::new()).map_err(|error| error.0)
}

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn defaults_are_as_documented() {
    let config = loaded(&[]).unwrap();
    assert_eq!(config.workers, Workers::Auto);
    assert_eq!(config.control_port, 6082);
    assert_eq!(config.control_socket.to_str(), Some("/run/samepath/node-1.sock"));
    assert!(config.aggregation && !config.replace && !config.tcp_loose_window);
    assert!(config.tuning.need_wakeup && !config.tuning.fifo_spin && config.seccomp && config.landlock);
    assert_eq!((config.tuning.sched, config.tuning.rss), (Sched::Other, RssChoice::Symmetric));
    let timings = (config.peer_timeout_ms, config.hello_interval_ms, config.join_grace_ms);
    assert_eq!(timings, (800, 100, 3000));
    // Help names the defaults; it must not name others.
    for (name, value) in [
        ("control-port", config.control_port.to_string()),
        ("ring-size", config.ring_size.to_string()),
        ("sessions-max", config.sessions_max.to_string()),
        ("peer-timeout-ms", config.peer_timeout_ms.to_string()),
        ("tunnel-rekey", config.tunnel_rekey_s.to_string()),
        ("hello-interval-ms", config.hello_interval_ms.to_string()),
        ("join-grace-ms", config.join_grace_ms.to_string()),
        ("director-weight", config.director_weight.to_string()),
        ("batch", config.tuning.batch.to_string()),
        ("tx-batch", config.tuning.socket_options(config.ring_size).tx_batch.to_string()),
        ("busy-poll-usecs", config.tuning.busy_poll_usecs.to_string()),
        ("busy-poll-budget", config.tuning.busy_poll_budget.to_string()),
        ("idle", config.tuning.idle.name().to_owned()),
        ("xdp-mode", config.xdp_mode.name().to_owned()),
        ("log", config.log.clone()),
    ] {
        let option = options::all().find(|option| option.name == name).unwrap();
        assert!(option.help.contains(&format!("[default: {value}]")), "{name}: {}", option.help);
    }
}

#[test]
fn flags_beat_variables_beat_the_file_beats_defaults() {
    let file = file("director_weight = 2\nring_size = 512\nsessions_max = 1000\n");
    let env = variables(&[("SAMEPATH_DIRECTOR_WEIGHT", "3"), ("SAMEPATH_RING_SIZE", "1024")]);
    let mut flags = with(&[("director-weight", "4")]);
    flags.config = Some(file.path().into());
    let config = load(&flags, &env).unwrap();
    assert_eq!(config.director_weight, 4);
    assert_eq!(config.ring_size, 1024);
    assert_eq!(config.sessions_max, 1000);
    assert_eq!(config.control_port, 6082);
}

#[test]
fn a_stronger_source_replaces_a_list_as_a_whole() {
    let file = file("peer = [\"2=192.0.2.2\", \"3=192.0.2.3\"]\n[timeout]\nudp = 11\nicmp = 12\n");
    let path = file.path().to_str().unwrap();
    let env = variables(&[
        ("SAMEPATH_CONFIG", path),
        ("SAMEPATH_PEER", "4=192.0.2.4, 5=192.0.2.5"),
        ("SAMEPATH_CORES", ""),
    ]);
    let config = load(&with(&[("timeout", "udp=44")]), &env).unwrap();
    let nodes: Vec<u16> = config.peers.iter().map(|peer| peer.node.0).collect();
    assert_eq!(nodes, [4, 5]);
    assert_eq!(config.timeouts.udp, 44_000);
    assert_eq!(config.timeouts.icmp, Timeouts::default().icmp);
    assert!(config.cores.is_empty(), "an empty variable is as good as none");
}

#[test]
fn services_are_numbered_by_name_and_are_zones() {
    let file = file("[service]\nweb = \"proxy:svc0@10.66.0.2\"\nids = \"inspect:svc1@fd00:66::2\"\n");
    let mut flags = with(&[("service-down", "open")]);
    flags.config = Some(file.path().into());
    let config = load(&flags, &BTreeMap::new()).unwrap();
    let ids = ServicePort {
        name: "ids".into(),
        mode: ServiceMode::Inspect,
        interface: "svc1".into(),
        via: "fd00:66::2".parse().unwrap(),
    };
    assert_eq!((config.services.len(), &config.services[0]), (2, &ids));
    assert_eq!(config.service_names(), ["ids", "web"]);
    assert_eq!(config.zones(), ["ids", "inside", "outside", "web"]);
    assert_eq!(config.service_down, ServiceDown::Open);
}

#[test]
fn the_file_alone_is_enough() {
    let file = file(
        "node_id = 3\ncluster_id = 9\nkeys = \"/k\"\ncluster_link = \"eth3\"\n\
         cluster_address = \"fd00::3\"\nreplace = true\naggregation = \"off\"\nworkers = 2\n\
         cores = \"0,2-3\"\ndirector_hash = \"five-tuple\"\npass = [\"tcp:179\", \"ospf:0\"]\n\
         [data]\ninside = [\"eth1\", \"eth4\"]\noutside = \"eth2\"\n\
         [peer]\n1 = \"fd00::1\"\n2 = \"[fd00::2]:7000\"\n",
    );
    let flags = Flags { config: Some(file.path().into()), values: BTreeMap::new() };
    let config = load(&flags, &BTreeMap::new()).unwrap();
    assert_eq!(config.node, NodeId(3));
    let zones: Vec<_> =
        config.data.iter().map(|data| (data.zone.as_str(), data.interface.as_str())).collect();
    assert_eq!(zones, [("inside", "eth1"), ("inside", "eth4"), ("outside", "eth2")]);
    assert_eq!(config.cores, [0, 2, 3]);
    assert_eq!(config.workers, Workers::Count(2));
    assert!(config.replace && !config.aggregation);
    assert_eq!(config.director_hash, DirectorHash::FiveTuple);
    assert_eq!(config.pass, [PassRule { proto: 6, port: 179 }, PassRule { proto: 89, port: 0 }]);
    let endpoints: Vec<String> =
        config.peers.iter().map(|peer| config.control_endpoint(peer).to_string()).collect();
    assert_eq!(endpoints, ["[fd00::1]:6082", "[fd00::2]:7000"]);
}

#[test]
fn a_switch_can_be_taken_back() {
    let env = variables(&[("SAMEPATH_REPLACE", "true")]);
    assert!(load(&with(&[]), &env).unwrap().replace);
    assert!(!load(&with(&[("replace", "false")]), &env).unwrap().replace);
}

#[test]
fn an_unknown_key_names_file_key_and_the_closest_valid_key() {
    let file = file("node_id = 1\npeer_timout_ms = 500\n");
    let flags = Flags { config: Some(file.path().into()), values: BTreeMap::new() };
    let error = load(&flags, &BTreeMap::new()).unwrap_err().0;
    assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    assert!(error.contains("unknown key peer_timout_ms"), "{error}");
    assert!(error.ends_with("did you mean peer_timeout_ms?"), "{error}");
}

#[test]
fn a_flag_name_is_not_a_key() {
    let file = file("node-id = 1\n");
    let flags = Flags { config: Some(file.path().into()), values: BTreeMap::new() };
    let error = load(&flags, &BTreeMap::new()).unwrap_err().0;
    assert!(error.ends_with("did you mean node_id?"), "{error}");
}

#[test]
fn trouble_with_the_file_names_it() {
    for (text, sentence) in [
        ("node_id = 1\nkeys = [", "line 2 is not TOML"),
        ("node_id = [1, 2]", "key node_id: its value has the wrong type; write one text or number (N)"),
        ("data = [1.5]", "key data: its value has the wrong type; write an array of texts"),
        ("replace = \"perhaps\"", "replace = perhaps: this option is true or false"),
        ("node_id = 0", "node_id = 0: a node number is a whole number from 1 to 65535"),
    ] {
        let file = file(text);
        let flags = Flags { config: Some(file.path().into()), values: BTreeMap::new() };
        let error = load(&flags, &BTreeMap::new()).unwrap_err().0;
        assert!(error.contains(sentence), "{text}: {error}");
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }
    let flags = Flags { config: Some("/nonexistent.toml".into()), values: BTreeMap::new() };
    let error = load(&flags, &BTreeMap::new()).unwrap_err().0;
    assert!(error.starts_with("--config /nonexistent.toml cannot be read"), "{error}");
}

#[test]
fn a_variable_is_named_in_its_error_and_an_unknown_one_is_a_warning() {
    let env = variables(&[("SAMEPATH_RING_SIZE", "100")]);
    let error = load(&with(&[]), &env).unwrap_err().0;
    assert!(error.starts_with("SAMEPATH_RING_SIZE=100: a ring size is a power of two"), "{error}");
    let env = variables(&[("SAMEPATH_RINGSIZE", "128"), ("OTHER", "x")]);
    let config = load(&with(&[]), &env).unwrap();
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].ends_with("did you mean SAMEPATH_RING_SIZE?"));
}

#[test]
fn what_is_missing_is_listed() {
    let error = load(&flags(&[("node-id", "1")]), &BTreeMap::new()).unwrap_err().0;
    assert!(
        error.starts_with(
            "--cluster-id N, --keys DIR, --data ZONE=IFACE, --cluster-link IFACE, --cluster-address IP are missing"
        ),
        "{error}"
    );
}

/// Option, refused value, start of the sentence after `--option value: `.
const REFUSED: &[(&str, &str, &str)] = &[
    ("node-id", "0", "a node number is a whole number from 1 to 65535"),
    ("node-id", "65536", "a node number is a whole number"),
    ("node-id", "one", "a node number is a whole number"),
    ("cluster-id", "16777216", "a cluster id is a whole number from 1 to 16777215"),
    ("keys", "", "a path cannot be empty"),
    ("data", "eth1", "a data interface is written ZONE=IFACE"),
    ("data", "=eth1", "a zone's name has 1 to 32 letters"),
    ("data", "in side=eth1", "a zone's name has 1 to 32 letters"),
    ("data", "inside=", "an interface name has 1 to 15 characters"),
    ("data", "inside=interface-too-long", "an interface name has 1 to 15 characters"),
    ("service", "web=svc0@10.66.0.2", "a service is written NAME=MODE:IFACE@IP"),
    ("service", "web=bump:svc0@10.66.0.2", "a service is written NAME=MODE:IFACE@IP"),
    ("service", "web=proxy:svc0", "a service is written NAME=MODE:IFACE@IP"),
    ("service", "web=proxy:svc0@ten", "this is no IP address"),
    ("service", "w b=proxy:svc0@10.66.0.2", "a zone's name has 1 to 32 letters"),
    ("service", "web=proxy:a/b@10.66.0.2", "an interface name has 1 to 15 characters"),
    ("service-down", "shut", "only these words are known: closed, open"),
    ("cluster-link", "a/b", "an interface name has 1 to 15 characters"),
    ("cluster-address", "node1", "this is no IP address"),
    ("cluster-address", "0.0.0.0", "peers cannot be reached at"),
    ("cluster-address", "127.0.0.1", "peers cannot be reached at"),
    ("cluster-address", "ff02::1", "peers cannot be reached at"),
    ("cluster-address", "fe80::1", "IPv6 link-local"),
    ("peer", "192.0.2.2", "a peer is written ID=IP"),
    ("peer", "0=192.0.2.2", "a node number is"),
    ("peer", "2=", "after ID= comes an IP address"),
    ("peer", "2=192.0.2.2:0", "a peer's port is 1 to 65535"),
    ("peer", "2=192.0.2.2:70000", "after ID= comes an IP address"),
    ("control-port", "0", "a UDP port is a whole number from 1 to 65535"),
    ("xdp-mode", "fast", "only these words are known: best-effort, native-zerocopy, native, generic"),
    ("on-crash", "shut", "only these words are known: closed, open"),
    ("pass", "tcp", "a pass rule is written PROTO:PORT"),
    ("pass", "tpc:1", "a protocol is tcp, udp"),
    ("pass", "tcp:65536", "a port is a whole number from 0 to 65535"),
    ("pass", "esp:5", "esp has no ports; write esp:0"),
    ("workers", "0", "workers is auto or a number from 1 to 64"),
    ("workers", "all", "workers is auto or a number"),
    ("cores", "a", "cores are written as numbers and ranges"),
    ("cores", "3-1", "a range of cores goes up"),
    ("cores", "0-99999999999", "a range of cores goes up"),
    ("cores", "1,0-2", "core 1 is listed twice"),
    ("frames", "5", "a number of frames is a whole number from 256"),
    ("ring-size", "100", "a ring size is a power of two"),
    ("ring-size", "65536", "a ring size is a whole number from 64 to 32768"),
    ("sched", "rr", "only these words are known: fifo, other"),
    ("idle", "poll", "only these words are known: spin, adaptive, sleep"),
    ("batch", "0", "a batch is a whole number from 1 to 1024"),
    ("tx-batch", "16", "a transmit batch is a whole number from 32 to 32768"),
    ("busy-poll-usecs", "-1", "a time of busy polling is a whole number from 0 to 10000"),
    ("busy-poll-budget", "0", "a budget of busy polling is a whole number from 1 to 1024"),
    ("need-wakeup", "yes", "only these words are known: on, off"),
    ("huge-pages", "2M", "only these words are known: on, off, auto"),
    ("rss", "on", "only these words are known: symmetric, keep"),
    ("seccomp", "log", "only these words are known: on, off"),
    ("landlock", "strict", "only these words are known: on, off"),
    ("sessions-max", "-1", "a number of sessions is a whole number"),
    ("aggregation", "yes", "only these words are known: on, off"),
    ("forwarder", "kernel", "only these words are known: xdp, worker"),
    ("director-hash", "ip", "only these words are known: ip-pair, five-tuple"),
    ("director-weight", "17", "a Director weight is a whole number from 1 to 16"),
    ("tcp-pickup", "lose", "only these words are known: strict, loose"),
    ("timeout", "udp", "a timeout is written NAME=SECONDS"),
    ("timeout", "udp=0", "a timeout in seconds is a whole number from 1"),
    ("timeout", "upd=5", "timeout \"upd\" is unknown; valid names are"),
    ("policy", "", "a path cannot be empty"),
    ("half-open-max", "0", "a share is a whole number from 1 to 100"),
    ("new-flow-rate-per-prefix", "0", "a rate is written RATE[:BURST]"),
    ("new-flow-rate-per-prefix", "100:", "a rate is written RATE[:BURST]"),
    ("new-flow-prefix-v4", "33", "a prefix length is a whole number from 0 to 32"),
    ("new-flow-prefix-v6", "129", "a prefix length is a whole number from 0 to 128"),
    ("new-flow-rate", "5000000", "a rate is written RATE[:BURST]"),
    ("icmp-rate", "1000:", "a rate is written RATE[:BURST]"),
    ("symmetry-prefix-v4", "33", "a prefix length is a whole number from 0 to 32"),
    ("symmetry-prefix-v6", "129", "a prefix length is a whole number from 0 to 128"),
    ("mss-clamp", "87", "a segment size is auto, off or a whole number of bytes from 88 to 9160"),
    ("hello-interval-ms", "1", "a hello interval is a whole number from 10 to 10000"),
    ("tunnel-rekey", "9", "a tunnel rekey time in seconds is a whole number from 10 to 604800"),
    ("backup", "5", "when peers are told is immediate, established or an age from 1ms to 60s"),
    ("backup", "61s", "when peers are told is immediate, established or an age from 1ms to 60s"),
    ("former-directors-ms", "60001", "the time former Directors are asked is a whole number from 0 to 60000"),
    (
        "refresh-interval",
        "9",
        "a refresh interval in seconds is 0 (never) or a whole number from 10 to 86400",
    ),
    ("peer-timeout-ms", "10", "a peer timeout is a whole number from 50 to 60000"),
    ("membership", "etcd://10.0.0.1", "a membership is swim or etcd://HOST:PORT"),
    ("quorum", "65", "a quorum is a whole number from 0 to 64"),
    ("join-grace-ms", "9999999", "a join grace is a whole number from 0 to 600000"),
    ("metrics", "9684", "an address to listen on is written IP:PORT"),
    ("metrics", "127.0.0.1:0", "an address to listen on is written IP:PORT"),
    ("log", "loud", "the log level is off, error, warn"),
];

#[test]
fn every_bad_value_gets_its_sentence() {
    for (name, value, sentence) in REFUSED {
        let error = loaded(&[(name, value)]).unwrap_err();
        let start = format!("--{name} {value}: {sentence}");
        assert!(error.starts_with(&start), "wanted {start:?}, got {error:?}");
        assert!(error.contains(';'), "no remedy in {error:?}");
    }
    for option in options::all().filter(|option| !matches!(option.kind, options::Kind::Switch(_))) {
        let tried = REFUSED.iter().any(|(name, ..)| *name == option.name);
        assert!(tried || option.name == "control-socket", "no bad value for --{}", option.name);
    }
}

#[test]
fn rules_between_values_get_their_sentences() {
    let long = format!("/run/{}.sock", "x".repeat(110));
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("data", "a=eth1"), ("data", "b=eth1")], "--data names interface eth1 twice (zones a and b)"),
        (
            &[("service", "inside=proxy:svc0@10.66.0.2")],
            "--service inside=svc0: inside is already the name of a zone",
        ),
        (
            &[("service", "web=proxy:eth2@10.66.0.2")],
            "--service web=eth2: interface eth2 is already a data interface",
        ),
        (
            &[("service", "web=proxy:svc0@10.66.0.2"), ("service", "ids=inspect:svc0@10.66.0.3")],
            "--service web=svc0: interface svc0 is already a data interface, the cluster link or another",
        ),
        (&[("cluster-link", "eth1")], "--cluster-link eth1 is also a data interface"),
        (&[("peer", "1=192.0.2.2")], "--peer 1=192.0.2.2 has this node's own number"),
        (
            &[("peer", "2=192.0.2.2"), ("peer", "2=192.0.2.3")],
            "--peer 2=192.0.2.3 gives node 2 a second time",
        ),
        (&[("peer", "2=192.0.2.1")], "--peer 2=192.0.2.1 has the address of node 1"),
        (&[("peer", "2=fd00::2")], "--peer 2=fd00::2 and --cluster-address 192.0.2.1 are not of one"),
        (&[("peer", "2=192.0.2.2:6081")], "--peer 2=192.0.2.2:6081 is the tunnel's port"),
        (&[("control-port", "6081")], "--control-port 6081 is the tunnel's port"),
        (&[("workers", "2"), ("cores", "0")], "--workers 2 needs 2 cores and --cores lists 1"),
        (&[("workers", "2"), ("frames", "256")], "--frames 256 is too few for 3 interfaces"),
        (&[("batch", "128"), ("ring-size", "64")], "--batch 128 is more than a ring holds (--ring-size 64)"),
        (&[("tx-batch", "512"), ("ring-size", "256")], "--tx-batch 512 is more than a ring holds"),
        (&[("peer-timeout-ms", "200")], "--peer-timeout-ms 200 is less than three times"),
        (&[("quorum", "5")], "--quorum 5 is more than the cluster has nodes"),
        (&[("control-socket", &long)], "--control-socket /run/xxx"),
        (&[("node-id", "1"), ("node-id", "2")], "--node-id 1 2: this option has one value"),
    ];
    for (pairs, sentence) in cases {
        let error = loaded(pairs).unwrap_err();
        assert!(error.starts_with(sentence), "wanted {sentence:?}, got {error:?}");
    }
    let names: Vec<String> = (0..16).map(|n| format!("z=if{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| ("data", name.as_str())).collect();
    assert!(loaded(&many).unwrap_err().contains("at most 16 interfaces with its cluster link"));
    assert!(loaded(&many[..15]).is_ok());
}

#[test]
fn tuning_is_read_from_every_source_and_fits_the_rings() {
    let file = file("sched = \"fifo\"\nbatch = 32\nfifo_spin = true\nhuge_pages = \"off\"\nrss = \"keep\"\n");
    let env = variables(&[("SAMEPATH_IDLE", "sleep"), ("SAMEPATH_BUSY_POLL_USECS", "50")]);
    let mut flags = with(&[("tx-batch", "64"), ("need-wakeup", "off"), ("busy-poll-budget", "16")]);
    flags.config = Some(file.path().into());
    let tuning = load(&flags, &env).unwrap().tuning;
    let expected = TuningOptions {
        sched: Sched::Fifo,
        idle: samepath_dataplane::tuning::Idle::Sleep,
        fifo_spin: true,
        batch: 32,
        tx_batch: Some(64),
        busy_poll_usecs: 50,
        busy_poll_budget: 16,
        need_wakeup: false,
        huge_pages: samepath_dataplane::tuning::HugePages::Off,
        rss: RssChoice::Keep,
    };
    assert_eq!(tuning, expected);
    assert_eq!(tuning.socket_options(2048).tx_batch, 64);
    // What was not asked for shrinks with the rings.
    assert_eq!(loaded(&[("ring-size", "128")]).unwrap().tuning.socket_options(128).tx_batch, 128);
}

#[test]
fn peers_are_written_in_every_usual_form() {
    for (text, endpoint) in [
        ("2=192.0.2.2", "192.0.2.2:6082"),
        ("2=192.0.2.2:7000", "192.0.2.2:7000"),
        ("2=fd00::2", "[fd00::2]:6082"),
        ("2=[fd00::2]", "[fd00::2]:6082"),
        ("2=[fd00::2]:7000", "[fd00::2]:7000"),
    ] {
        let own = if text.contains("fd00") { "fd00::1" } else { "192.0.2.1" };
        let config = loaded(&[("peer", text), ("cluster-address", own)]).unwrap();
        assert_eq!(config.control_endpoint(&config.peers[0]).to_string(), endpoint);
    }
}
