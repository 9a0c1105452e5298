//! The host a node runs on: `samepath doctor` names what was broken on purpose, `samepath setup` changes what it
//! says and puts it back. In a node's own namespace, with processes that really have fewer rights.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use samepath_tests::bed::{Bed, Shape};
use samepath_tests::{artifacts, program};
use serde_json::Value;

/// Mounts what `ip netns exec` hides: its /sys is new, so the BPF file system of the machine is not in it.
const WITH_BPFFS: &str = "mount -t bpf bpf /sys/fs/bpf; exec \"$@\"";

/// `samepath <arguments>` in node 1's namespace with its own /sys, by way of a shell script that ends in `"$@"`.
fn samepath(bed: &Bed, script: &str, arguments: &[String]) -> Result<Output> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", bed.node_namespace(1).name(), "sh", "-euc", script, "sh"]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SAMEPATH_")) {
        command.env_remove(name);
    }
    program::output(command.arg(artifacts::samepath()?).args(arguments))
}

/// Flags of node 1 with others in their place.
fn flags(bed: &Bed, verb: &[&str], others: &[&str]) -> Vec<String> {
    let flags = bed.flags(1, others).into_iter().map(|flag| flag.to_string_lossy().into_owned());
    verb.iter().map(|word| (*word).to_owned()).chain(flags).collect()
}

/// Cause and remedy of findings by their ids.
type Findings = BTreeMap<String, String>;

fn findings(output: &Output) -> Result<Findings> {
    let text = String::from_utf8_lossy(&output.stdout);
    let document: Value = serde_json::from_str(&text)
        .with_context(|| format!("{text:.300} {}", String::from_utf8_lossy(&output.stderr)))?;
    let list = document["findings"].as_array().context("no findings")?;
    let worst = list.first().map_or("hint", |finding| finding["severity"].as_str().unwrap_or_default());
    let code = match worst {
        "error" => 1,
        "warning" => 5,
        _ => 0,
    };
    ensure!(output.status.code() == Some(code), "{}, and the worst is {worst}", output.status);
    let mut found = Findings::new();
    for one in list {
        let lines: &mut String = found.entry(one["id"].as_str().unwrap_or_default().to_owned()).or_default();
        lines.push_str(&format!("{} | {}\n", one["cause"], one["remedy"]));
    }
    Ok(found)
}

fn examined(bed: &Bed, script: &str, others: &[&str]) -> Result<Findings> {
    findings(&samepath(bed, script, &flags(bed, &["doctor", "--json"], others))?)
}

/// Findings that were provoked, and found nowhere before.
struct Provoked {
    healthy: Findings,
    seen: Vec<String>,
}

impl Provoked {
    /// Each id must be among `now`, with these words in its cause or remedy, and must not be there without the
    /// provocation.
    fn expect(&mut self, now: &Findings, wanted: &[(&str, &str)]) -> Result<()> {
        for (id, words) in wanted {
            let line = now.get(*id).with_context(|| format!("no {id} in {now:#?}"))?;
            ensure!(line.contains(words), "{id} does not say `{words}`: {line}");
            ensure!(
                !self.healthy.contains_key(*id),
                "{id} is found without being provoked: {:?}",
                self.healthy
            );
            self.seen.push((*id).to_owned());
        }
        Ok(())
    }
}

/// A pair of veths in node 1's own namespace: `near` misconfigured in every way, `nowhere` down.
fn bad_pairs(bed: &Bed) -> Result<()> {
    bed.node_namespace(1).ip(
        "link add near numrxqueues 1 numtxqueues 2 type veth peer name far numrxqueues 2 numtxqueues 2\n\
         link add nowhere type veth peer name nobody\n\
         link set near up\n\
         link set far up\n\
         link set near mtu 9000\n",
    )?;
    let object = program::foreign_xdp(bed.runtime())?.display().to_string();
    bed.node_namespace(1).ip(&format!("link set dev near xdpgeneric object {object} section xdp"))?;
    let sysctl = [("ipv4/conf/near/rp_filter", "1"), ("ipv4/ip_forward", "1")];
    bed.node_namespace(1).sysctl(&sysctl)?;
    let tune = "ethtool -L far rx 2 tx 2; ethtool -K near gro on";
    program::run(bed.node_namespace(1).command("sh").args(["-euc", tune])).map(drop)
}

fn provoke_interfaces(bed: &Bed, provoked: &mut Provoked) -> Result<()> {
    bad_pairs(bed)?;
    let pair = ["--data", "inside=near", "--data", "outside=nowhere", "--xdp-mode", "best-effort"];
    let now = examined(bed, WITH_BPFFS, &pair)?;
    provoked.expect(
        &now,
        &[
            ("interface-down", "ip link set nowhere up"),
            ("vlan-stripped", "ethtool -K near rxvlan off"),
            ("veth-queues", "ethtool -L near rx 2"),
            ("veth-peer-deaf", "ethtool -K far gro on"),
            ("veth-peer-offloads", "ethtool -K far tx off"),
            ("mtu-too-large", "MTU 9000"),
            ("cluster-mtu-small", "ip link set cluster mtu 9090"),
            ("xdp-foreign", "`foreign`"),
            ("rp-filter-strict", "net.ipv4.conf.near.rp_filter=0"),
            ("data-route-absent", "near"),
            ("forwarding-unguarded", "sysctl -w net.ipv4.ip_forward=0"),
        ],
    )?;
    bed.node_namespace(1).ip("link set far down")?;
    bed.node_namespace(1).sysctl(&[("ipv4/ip_forward", "0")])?;
    let generic = ["--data", "inside=near", "--xdp-mode", "generic", "--idle", "spin", "--on-crash", "open"];
    provoked.expect(
        &examined(bed, WITH_BPFFS, &generic)?,
        &[
            ("carrier-absent", "ethtool near"),
            ("gro-generic", "ethtool -K near gro off"),
            ("core-not-isolated", "isolcpus"),
            ("forwarding-off", "net.ipv4.ip_forward=1"),
        ],
    )?;
    bed.node_namespace(1).ip("link del near\nlink del nowhere")
}

fn provoke_flags(bed: &Bed, provoked: &mut Provoked) -> Result<()> {
    let policy = bed.runtime().join("bad.toml").display().to_string();
    fs::write(&policy, "default = \"maybe\"\n")?;
    let wrong = [
        ["--data", "inside=nosuch"],
        ["--workers", "64"],
        ["--cores", "900-963"],
        ["--cluster-address", "10.9.0.77"],
        ["--peer", "2=192.0.2.1"],
        ["--policy", &policy],
        ["--huge-pages", "on"],
        ["--frames", "4194304"],
    ];
    provoked.expect(
        &examined(bed, WITH_BPFFS, wrong.as_flattened())?,
        &[
            ("interface-absent", "nosuch does not exist"),
            ("workers-share-core", "--workers 64"),
            ("core-absent", "900"),
            ("queues-few", "64 workers"),
            ("cluster-address-absent", "ip address add 10.9.0.77/24 dev cluster"),
            ("peer-route", "192.0.2.1"),
            ("policy-unusable", "samepath policy check"),
            ("huge-pages-missing", "vm.nr_hugepages="),
        ],
    )?;
    provoked.expect(
        &examined(bed, WITH_BPFFS, &["--node-id", "0"])?,
        &[("config-refused", "a node number is a whole number")],
    )?;
    let key = bed.keys().join("node-1.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
    provoked.expect(&examined(bed, WITH_BPFFS, &[])?, &[("keys-unusable", "chmod 600")])?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn provoke_network(bed: &Bed, provoked: &mut Provoked) -> Result<()> {
    let node = bed.node_namespace(1);
    node.nft(
        "table inet filter {\n chain input { type filter hook input priority 0; policy drop; iif lo accept; ct state established accept; }\n\
         chain forward { type filter hook forward priority 0; tcp dport 22 drop; }\n}\n",
    )?;
    // Followed by conntrack; and nobody has the second address.
    program::output(node.command("ping").args(["-c", "1", "-W", "1", "127.0.0.1"]))?;
    program::output(node.command("ping").args(["-c", "1", "-W", "0.1", "10.9.0.200"]))?;
    let taken = node.enter(|| Ok(std::net::UdpSocket::bind("0.0.0.0:6082")?))?;
    let now = examined(bed, WITH_BPFFS, &["--peer", "2=10.9.0.200"])?;
    provoked.expect(
        &now,
        &[
            ("port-blocked", "nft insert rule inet filter input iifname cluster udp dport 6082 accept"),
            ("filter-bypassed", "inet filter forward"),
            ("conntrack-busy", "connections"),
            ("neighbour-silent", "10.9.0.200 on cluster"),
            ("port-taken", "UDP port 6082"),
        ],
    )?;
    drop(taken);
    node.nft("insert rule inet filter input iifname cluster udp dport 6082 accept")?;
    let mended = examined(bed, WITH_BPFFS, &[])?;
    ensure!(!mended.contains_key("port-blocked") && !mended.contains_key("port-taken"), "{mended:#?}");
    node.nft("flush ruleset")
}

fn provoke_process(bed: &Bed, provoked: &mut Provoked) -> Result<()> {
    // No BPF file system, no nft, no rights, little memory, few files.
    let poor = "mount --bind /dev/null \"$(readlink -f \"$(command -v nft)\")\"\n\
        exec prlimit --memlock=65536 --nofile=64 setpriv --bounding-set=-net_raw,-bpf,-sys_admin,-ipc_lock \"$@\"";
    provoked.expect(
        &examined(bed, poor, &[])?,
        &[
            ("bpffs-absent", "mount -t bpf bpf /sys/fs/bpf"),
            ("program-missing", "apt-get install nftables"),
            ("memlock-low", "may lock 64 KiB"),
            ("open-files-low", "64 files"),
            (
                "capability-missing",
                "lacks CAP_NET_RAW (to open AF_XDP sockets), CAP_BPF (to load the XDP program)",
            ),
        ],
    )?;
    let nobody =
        format!("{} {WITH_BPFFS}", "set -- setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\";");
    let ordinary = examined(bed, &nobody, &[])?;
    let lacks = ordinary.get("capability-missing").with_context(|| format!("{ordinary:?}"))?;
    ensure!(lacks.contains("CAP_NET_ADMIN") && ordinary.contains_key("keys-unusable"), "{ordinary:#?}");
    Ok(())
}

#[test]
fn each_trap_is_named_with_its_remedy() -> Result<()> {
    let bed = Bed::new("doctor", Shape::default())?;
    bed.make_keys()?;
    let tags = "ethtool -K inside rxvlan off; ethtool -K outside rxvlan off";
    program::run(bed.node_namespace(1).command("sh").args(["-euc", tags]))?;
    let healthy = examined(&bed, WITH_BPFFS, &["--huge-pages", "off"])?;
    println!("a healthy namespace: {healthy:#?}");
    let mut provoked = Provoked { healthy, seen: Vec::new() };
    ensure!(provoked.healthy.contains_key("ca-key-on-node"), "{:?}", provoked.healthy);
    provoke_interfaces(&bed, &mut provoked)?;
    provoke_flags(&bed, &mut provoked)?;
    provoke_network(&bed, &mut provoked)?;
    provoke_process(&bed, &mut provoked)?;
    println!("{} findings provoked: {:?}", provoked.seen.len(), provoked.seen);
    let again = examined(&bed, WITH_BPFFS, &["--huge-pages", "off"])?;
    // Connections that were followed are forgotten later.
    let known = |id: &String| id == "conntrack-busy" || provoked.healthy.contains_key(id);
    ensure!(again.keys().all(known), "not mended: {again:#?}");
    bed.remove()
}

#[test]
fn a_running_node_is_looked_at_too() -> Result<()> {
    let mut bed = Bed::new("doctor-node", Shape::default())?;
    bed.start_node(1, &["--join-grace-ms", "0", "--xdp-mode", "generic"])?;
    // No flags: what is to run is what runs.
    let ask = |bed: &Bed| -> Result<Findings> {
        let socket = bed.socket(1).display().to_string();
        let words = ["doctor", "--json", "--control-socket", &socket];
        findings(&samepath(bed, WITH_BPFFS, &words.map(Into::into))?)
    };
    let mut provoked = Provoked {
        healthy: examined(&bed, WITH_BPFFS, &["--control-socket", "/nonexistent/x"])?,
        seen: Vec::new(),
    };
    // Whoever looks for another node sees its interfaces taken by a program that is nobody's.
    ensure!(provoked.healthy.remove("xdp-left-behind").is_some(), "{:?}", provoked.healthy);
    let now = ask(&bed)?;
    provoked.expect(
        &now,
        &[("xdp-generic", "inside runs in generic mode"), ("peer-away", "peer 3 (10.9.0.3)")],
    )?;
    ensure!(now.contains_key("ca-key-on-node"), "the node's own configuration was not found: {now:#?}");
    ensure!(!now.contains_key("port-taken") && !now.contains_key("config-refused"), "{now:#?}");
    let text = samepath(
        &bed,
        WITH_BPFFS,
        &["doctor".into(), "--control-socket".into(), bed.socket(1).display().to_string()],
    )?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    ensure!(text.contains("configuration: the running node") && text.contains("1 runs (process"), "{text}");

    bed.kill_node(1)?;
    let now = examined(&bed, WITH_BPFFS, &[])?;
    provoked.expect(&now, &[("xdp-left-behind", "samepath run"), ("node-mute", "nobody listens")])?;
    bed.remove()
}

/// What the stages change on `near`, as the kernel says it.
fn settings(bed: &Bed) -> Result<String> {
    let script = "ethtool -l near; ethtool -k near | grep -E 'rx-vlan-offload|generic-receive'; \
                  cd /sys/class/net/near; cat napi_defer_hard_irqs gro_flush_timeout threaded";
    let mut command = Command::new("ip");
    program::run(command.args(["netns", "exec", bed.node_namespace(1).name(), "sh", "-euc", script]))
}

#[test]
fn setup_changes_what_it_says_and_puts_it_back() -> Result<()> {
    let bed = Bed::new("setup", Shape::default())?;
    bed.make_keys()?;
    bed.node_namespace(1).ip(
        "link add near numrxqueues 2 numtxqueues 2 type veth peer name far numrxqueues 2 numtxqueues 2\nlink set near up\nlink set far up",
    )?;
    let start = "ethtool -L near rx 1; ethtool -L far tx 1";
    // One queue may be what the kernel began with.
    program::output(bed.node_namespace(1).command("sh").args(["-c", start]))?;
    let state = bed.runtime().join("setup.json").display().to_string();
    let near = ["--data", "inside=near", "--workers", "2", "--huge-pages", "off"];
    let setup = |verb: &str, more: &[&str]| -> Result<(i32, String)> {
        let words = [&["setup", verb, "--state", &state], more].concat();
        let polls = [&near[..], &["--busy-poll-usecs", "50"]].concat();
        let output = samepath(&bed, WITH_BPFFS, &flags(&bed, &words, &polls))?;
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.code().context("killed")?, text))
    };
    let before = settings(&bed)?;
    let (code, text) = setup("check", &[])?;
    ensure!(code == 5 && text.contains("near: 1 receive queues, wanted: 2"), "{code}: {text}");
    let (code, text) = setup("apply", &["--dry-run"])?;
    ensure!(code == 0 && text.contains("ethtool -L near rx 2\n"), "{code}: {text}");
    ensure!(settings(&bed)? == before, "a dry run changed something");

    let (code, text) = setup("apply", &[])?;
    ensure!(code == 0, "{code}: {text}");
    let after = settings(&bed)?;
    ensure!(after.contains("rx-vlan-offload: off") && after.ends_with("2\n200000\n0\n"), "{after}");
    ensure!(after.contains("RX:\t\t2\nTX:\t\t") && after != before, "{after}");
    let (code, text) = setup("check", &[])?;
    ensure!(code == 0 && !text.contains("wanted:"), "{code}: {text}");
    let (code, text) = setup("apply", &[])?;
    ensure!(code == 0 && !text.contains(" now "), "applied twice: {code}: {text}");

    let (code, text) = setup("undo", &["offloads"])?;
    ensure!(code == 0 && text.contains("near rx-vlan-offload"), "{code}: {text}");
    ensure!(settings(&bed)?.contains("rx-vlan-offload: on"), "{}", settings(&bed)?);
    let (code, text) = setup("undo", &[])?;
    ensure!(code == 0, "{code}: {text}");
    ensure!(settings(&bed)? == before, "before:\n{before}\nafter undo:\n{}", settings(&bed)?);

    // Without rights nothing is changed, and the sentence says what to do.
    let words = flags(
        &bed,
        &["setup", "apply", "napi", "--state", &state],
        &[&near[..], &["--busy-poll-usecs", "50"]].concat(),
    );
    let output = samepath(&bed, "exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"", &words)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() != Some(1) || !text.contains("run as root") {
        bail!("{}: {text} {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    bed.remove()
}
